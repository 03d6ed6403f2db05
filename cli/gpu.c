#include "cli/gpu.h"

#include <stdlib.h>
#include <string.h>

#include "codegen/cuda/compile.h"
#include "runtime/cuda/moss_cuda.h"

/* "cuda" or "cuda:N"; -1: the CPU; -2: neither. */
static int ordinal_of(const char *device) {
    if (!device || strcmp(device, "cpu") == 0) return -1;
    if (strcmp(device, "cuda") == 0) return 0;
    if (strncmp(device, "cuda:", 5) != 0) return -2;
    char *end;
    long n = strtol(device + 5, &end, 10);
    return end != device + 5 && *end == '\0' && n >= 0 && n < 1024 ? (int)n : -2;
}

bool cli_build_device(CliBuild *build, const CliBuildOptions *options) {
    int ordinal = ordinal_of(options->device);
    if (ordinal == -2) {
        return su_error(&build->diags, (SuSpan){0}, "it is cpu, cuda, or cuda:N with the GPU's number from 0",
                        "unknown device '%s'", options->device);
    }
    if (ordinal < 0) {
        return !options->fast ||
               su_error(&build->diags, (SuSpan){0}, NULL, "--fast is for --device cuda: a CPU always gives the same bits");
    }
    if (options->isa || options->debugger) {
        return su_error(&build->diags, (SuSpan){0}, NULL, "%s is for CPUs: it does not go with --device %s",
                        options->isa ? "--isa" : "--debug-info", options->device);
    }
    if (build->device) return true;
    if (!cli_moss_ok(&build->diags, moss_cuda_open(ordinal, &build->device))) return false;
    const MossCudaFacts *facts = moss_cuda_facts(build->device);
    build->gpu = cg_cuda_target_of(facts->architecture, facts->multiprocessors, facts->shared);
    build->gpu.fast = options->fast;
    return true;
}

bool cli_build_gpu_code(CliBuild *build, CgCache *cache) {
    CgCudaOptions wanted = {.wanted = CG_CUDA_RUNS, .cache = cache};
    CgCudaCode code = {0};
    bool ok = cg_cuda_compile(&build->gpu, build->program, &wanted, &code, &build->diags);
    if (ok && build->device) ok = cli_moss_ok(&build->diags, moss_cuda_code(build->device, build->program, code.image, code.size));
    build->kernels_found = code.found ? build->program->n_kernels : 0;
    cg_cuda_code_free(&code);
    return ok;
}
