/* Names of CUDA targets. */
#include "codegen/cuda/cuda.h"

#include <stdio.h>
#include <string.h>

enum { OLDEST = 75, THREADS = 256 };

/* Multiprocessors of the device that one thinks of by the number (where it is another one, tiles are merely dealt out less well), and
 * the KiB of shared memory that a block can have. */
static const struct {
    CgTargetName named;
    int architecture, multiprocessors;
    uint32_t shared_kib;
} known[] = {
    {{"cuda:sm_75", "Turing: T4, RTX 20"}, 75, 40, 64},          {{"cuda:sm_80", "Ampere: A100, A30"}, 80, 108, 163},
    {{"cuda:sm_86", "Ampere: A10, A40, RTX 30"}, 86, 84, 99},    {{"cuda:sm_87", "Ampere: Jetson Orin"}, 87, 16, 163},
    {{"cuda:sm_89", "Ada: L4, L40, RTX 40"}, 89, 142, 99},       {{"cuda:sm_90", "Hopper: H100, H200, GH200"}, 90, 132, 227},
    {{"cuda:sm_100", "Blackwell: B200, GB200"}, 100, 148, 227},  {{"cuda:sm_103", "Blackwell: B300, GB300"}, 103, 148, 227},
    {{"cuda:sm_110", "Blackwell: Jetson Thor"}, 110, 20, 227},   {{"cuda:sm_120", "Blackwell: RTX 50, RTX PRO"}, 120, 170, 99},
    {{"cuda:sm_121", "Blackwell: GB10, DGX Spark"}, 121, 48, 99}};

enum { N_KNOWN = sizeof known / sizeof known[0], TENSOR_CORES = 80 };

bool cg_cuda_is_target(const char *name) { return strncmp(name, "cuda", 4) == 0; }

CgTargetName cg_cuda_target_name(int index) { return index < N_KNOWN ? known[index].named : (CgTargetName){0}; }

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
        if (known[i].architecture != architecture) continue;
        *out_target = cg_cuda_target_of(architecture, known[i].multiprocessors, known[i].shared_kib * 1024);
        return true;
    }
    if (read && architecture < OLDEST)
        return su_error(diags, (SuSpan){0}, NULL, "target '%s': GPUs before sm_%d are not supported", name, OLDEST);
    return su_error(diags, (SuSpan){0}, "known: cuda:sm_75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121", "unknown target '%s'",
                    name);
}
