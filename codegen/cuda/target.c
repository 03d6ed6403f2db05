/* Names of CUDA targets. */
#include "codegen/cuda/cuda.h"

#include <stdio.h>
#include <string.h>

enum { OLDEST = 75, THREADS = 256 };

/* Multiprocessors of the device that one thinks of by the number (where it is another one, tiles are merely dealt out less well), and
 * the KiB of shared memory that a block can have. */
static const struct {
    int architecture, multiprocessors;
    uint32_t shared_kib;
} known[] = {{75, 40, 64},    {80, 108, 163},  {86, 84, 99},   {87, 16, 163},  {89, 142, 99}, {90, 132, 227},
             {100, 148, 227}, {103, 148, 227}, {110, 20, 227}, {120, 170, 99}, {121, 48, 99}};

enum { N_KNOWN = sizeof known / sizeof known[0], TENSOR_CORES = 80 };

bool cg_cuda_is_target(const char *name) { return strncmp(name, "cuda", 4) == 0; }

CgCudaTarget cg_cuda_target_of(int architecture, int multiprocessors, uint32_t shared) {
    CgCudaTarget target = {.architecture = architecture,
                           .threads = THREADS,
                           .multiprocessors = multiprocessors,
                           .shared = shared,
                           .tensor_cores = architecture >= TENSOR_CORES};
    snprintf(target.name, sizeof target.name, "cuda:sm_%d", architecture);
    return target;
}

bool cg_cuda_target_by_name(const char *name, CgCudaTarget *out_target, SuDiags *diags) {
    int architecture = 0, used = 0;
    bool read = sscanf(name, "cuda:sm_%d%n", &architecture, &used) == 1 && name[used] == '\0';
    for (size_t i = 0; read && i < N_KNOWN; i++) {
        if (known[i].architecture != architecture) { continue; }
        *out_target = cg_cuda_target_of(architecture, known[i].multiprocessors, known[i].shared_kib * 1024);
        return true;
    }
    if (read && architecture < OLDEST) {
        return su_error(diags, (SuSpan){0}, NULL, "target '%s': GPUs before sm_%d are not supported", name, OLDEST);
    }
    return su_error(diags, (SuSpan){0}, "known: cuda:sm_75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121", "unknown target '%s'",
                    name);
}
