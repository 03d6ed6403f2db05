/* mossc asm --target cuda:sm_XX: CUDA C, or what NVRTC makes of it. */
#include "cli/inspect/asm_cuda.h"

#include <stdio.h>

#include "codegen/cuda/compile.h"

const char *const cli_cuda_forms[] = {"cuda", "ptx", "cubin", NULL};

static void print_text(CliBuild *build) {
    SuText text = {0};
    cg_cuda_print(&build->gpu, build->program, &build->arena, &text);
    fwrite(text.text, 1, text.size, stdout);
    su_text_free(&text);
}

static bool print_code(CliBuild *build, CgCudaWanted wanted) {
    CgCudaOptions options = {.wanted = wanted};
    CgCudaCode code;
    if (!cg_cuda_compile(&build->gpu, build->program, &options, &code, &build->diags)) return false;
    fwrite(code.image, 1, code.form == CG_NVRTC_PTX ? code.size - 1 : code.size, stdout); /* PTX ends in a NUL */
    cg_cuda_code_free(&code);
    return true;
}

bool cli_print_cuda(CliBuild *build, const CliBuildOptions *options, const char *target_name, int form) {
    if (!cg_cuda_target_by_name(target_name, &build->gpu, &build->diags)) return false;
    if (!cli_build_spec(build, options) || !cli_build_graph(build) || !cli_build_program(build, options)) return false;
    if (form != CLI_FORM_CUDA) return print_code(build, form == CLI_FORM_PTX ? CG_CUDA_PTX : CG_CUDA_CUBIN);
    print_text(build);
    return true;
}
