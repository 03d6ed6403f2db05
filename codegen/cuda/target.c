/* Names of CUDA targets. */
#include "codegen/cuda/cuda.h"

#include <stdio.h>
#include <string.h>

enum { OLDEST = 75, THREADS = 256 };

/* Multiprocessors of the device that one thinks of by the number; where it is another one, tiles are merely dealt out less well. */
static const struct {
    int architecture, multiprocessors;
} known[] = {{75, 40},   {80, 108},  {86, 84},  {87, 16},   {89, 142}, {90, 132},
             {100, 148}, {103, 148}, {110, 20}, {120, 170}, {121, 48}};

enum { N_KNOWN = sizeof known / sizeof known[0] };

bool cg_cuda_is_target(const char *name) { return strncmp(name, "cuda", 4) == 0; }

bool cg_cuda_target_by_name(const char *name, CgCudaTarget *out_target, SuDiags *diags) {
    int architecture = 0, used = 0;
    bool read = sscanf(name, "cuda:sm_%d%n", &architecture, &used) == 1 && name[used] == '\0';
    for (size_t i = 0; read && i < N_KNOWN; i++) {
        if (known[i].architecture != architecture) { continue; }
        *out_target = (CgCudaTarget){.architecture = architecture, .threads = THREADS, .multiprocessors = known[i].multiprocessors};
        snprintf(out_target->name, sizeof out_target->name, "%s", name);
        return true;
    }
    if (read && architecture < OLDEST) {
        return su_error(diags, (SuSpan){0}, NULL, "target '%s': GPUs before sm_%d are not supported", name, OLDEST);
    }
    return su_error(diags, (SuSpan){0}, "known: cuda:sm_75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121", "unknown target '%s'",
                    name);
}
