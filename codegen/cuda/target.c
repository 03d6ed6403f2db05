/* Names of CUDA targets. */
#include "codegen/cuda/cuda.h"

#include <stdio.h>
#include <string.h>

enum { OLDEST = 75, THREADS = 256 };

/* Multiprocessors of the device that one thinks of by the number (where it is another one, tiles are merely dealt out less well), and
 * the KiB of shared memory that a block can have. */
static const struct {
    CgTargetName named;
    CgCudaArchitecture architecture;
    int multiprocessors;
    uint32_t shared_kib;
} known[] = {{{"cuda:sm_75", "Turing: T4, RTX 20"}, {75, 0}, 40, 64},
             {{"cuda:sm_80", "Ampere: A100, A30"}, {80, 0}, 108, 163},
             {{"cuda:sm_86", "Ampere: A10, A40, RTX 30"}, {86, 0}, 84, 99},
             {{"cuda:sm_87", "Ampere: Jetson Orin"}, {87, 0}, 16, 163},
             {{"cuda:sm_89", "Ada: L4, L40, RTX 40"}, {89, 0}, 142, 99},
             {{"cuda:sm_90", "Hopper: H100, H200, GH200"}, {90, 0}, 132, 227},
             {{"cuda:sm_90a", "Hopper, prompts by wgmma (not yet run on hardware)"}, {90, 'a'}, 132, 227},
             {{"cuda:sm_100", "Blackwell: B200, GB200"}, {100, 0}, 148, 227},
             {{"cuda:sm_103", "Blackwell: B300, GB300"}, {103, 0}, 148, 227},
             {{"cuda:sm_110", "Blackwell: Jetson Thor"}, {110, 0}, 20, 227},
             {{"cuda:sm_120", "Blackwell: RTX 50, RTX PRO"}, {120, 0}, 170, 99},
             {{"cuda:sm_121", "Blackwell: GB10, DGX Spark"}, {121, 0}, 48, 99}};

enum { N_KNOWN = sizeof known / sizeof known[0], TENSOR_CORES = 80 };

/* What tensor cores multiply, and of it what a float of any size is rounded to. */
const PgFew cg_cuda_few = {
    .rows = CG_CUDA_FEW_ROWS,
    .chunk = CG_CUDA_CHUNK,
    .rounding = true,
#define IR_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most) [IR_##NAME] = (mma) == IR_MMA_16,
    .tiles =
        {
#include "ir/dtype.def"
        },
#define IR_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most)                                         \
    [IR_##NAME] = (mma) == IR_MMA_16 && (most) == 0,
    .any_x =
        {
#include "ir/dtype.def"
        },
};

bool cg_cuda_is_target(const char *name) { return strncmp(name, "cuda", 4) == 0; }

CgTargetName cg_cuda_target_name(int index) { return index < N_KNOWN ? known[index].named : (CgTargetName){0}; }

static CgCudaTarget target_of(CgCudaArchitecture architecture, int multiprocessors, uint32_t shared) {
    CgCudaTarget target = {.architecture = architecture,
                           .threads = THREADS,
                           .multiprocessors = multiprocessors,
                           .shared = shared,
                           .tensor_cores = architecture.number >= TENSOR_CORES,
                           .warpgroups = architecture.number == 90 && architecture.suffix == 'a'};
    char suffix[2] = {architecture.suffix, '\0'};
    snprintf(target.name, sizeof target.name, "cuda:sm_%d%s", architecture.number, suffix);
    return target;
}

CgCudaTarget cg_cuda_target_of(int architecture, int multiprocessors, uint32_t shared) {
    return target_of((CgCudaArchitecture){.number = architecture}, multiprocessors, shared);
}

CgCudaTarget cg_cuda_portable_target(const CgCudaTarget *target) {
    CgCudaTarget portable = cg_cuda_target_of(target->architecture.number, target->multiprocessors, target->shared);
    portable.scan_chunk = target->scan_chunk;
    portable.fast = target->fast;
    return portable;
}

bool cg_cuda_target_by_name(const char *name, CgCudaTarget *out_target, SuDiags *diags) {
    int architecture = 0, used = 0;
    for (size_t i = 0; i < N_KNOWN; i++) {
        if (strcmp(name, known[i].named.name) != 0) continue;
        *out_target = target_of(known[i].architecture, known[i].multiprocessors, known[i].shared_kib * 1024);
        return true;
    }
    bool read = sscanf(name, "cuda:sm_%d%n", &architecture, &used) == 1 && name[used] == '\0';
    if (read && architecture < OLDEST)
        return su_error(diags, (SuSpan){0}, NULL, "target '%s': GPUs before sm_%d are not supported", name, OLDEST);
    return su_error(diags, (SuSpan){0}, "known: cuda:sm_75, 80, 86, 87, 89, 90, 90a, 100, 103, 110, 120, 121",
                    "unknown target '%s'", name);
}
