#include "codegen/cuda/limits.h"

#include "codegen/cuda/library.h"
#include "codegen/cuda/nvrtc.h"

CG_CUDA_TEXT(limits)
CG_CUDA_TEXT(limits_mma)

/* Chains hide the latency of each other: about 4 cycles of a multiply-add, 20 of an exp, 35 of a product, with two warps or more
 * for each quarter of a multiprocessor. Steps make the loop's own instructions 2 % or less. */
enum { CHAINS = 8, STEPS = 16, WARP = 32 };
static const double MMA_FLOPS = 2 * 16 * 8 * 16; /* of a warp's product */

CgCudaLimit cg_cuda_limit(const CgCudaTarget *target, CgCudaLimitKind kind) {
    const double operations = CHAINS * STEPS;
    switch (kind) {
    case CG_CUDA_LIMIT_MMA:
        return (CgCudaLimit){.entry = target->tensor_cores ? "mma_limit" : NULL, .work = operations * MMA_FLOPS / WARP};
    case CG_CUDA_LIMIT_FMA: return (CgCudaLimit){.entry = "fma_limit", .work = 2 * operations};
    case CG_CUDA_LIMIT_EXP: return (CgCudaLimit){.entry = "exp_limit", .work = operations};
    case CG_CUDA_LIMIT_KINDS: break;
    }
    return (CgCudaLimit){0};
}

void cg_cuda_print_limits(const CgCudaTarget *target, SuText *out) {
    su_text_add(out, "enum { THREADS = %d, CHAINS = %d, STEPS = %d };\n", target->threads, CHAINS, STEPS);
    su_text_add(out, "%s%s", cg_cuda_text_limits, target->tensor_cores ? cg_cuda_text_limits_mma : "");
}

bool cg_cuda_compile_limits(const CgCudaTarget *target, SuText *out_image, SuDiags *diags) {
    CgNvrtc *nvrtc = cg_nvrtc_open(diags);
    if (nvrtc == NULL) return false;
    CgCudaTarget known = cg_cuda_portable_target(target); /* the newest number that NVRTC knows may have no such suffix */
    known.architecture.number = cg_nvrtc_newest(nvrtc, target->architecture.number);
    SuText text = {0};
    cg_cuda_print_limits(&known, &text);
    bool same = known.architecture.number == target->architecture.number;
    bool ok = cg_nvrtc_compile(nvrtc, &known, text.text, same ? CG_NVRTC_CUBIN : CG_NVRTC_PTX, out_image, NULL, diags);
    su_text_free(&text);
    cg_nvrtc_close(nvrtc);
    return ok;
}
