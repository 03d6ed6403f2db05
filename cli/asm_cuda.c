/* mossc asm --target cuda:sm_XX: CUDA C, or what NVRTC makes of it. */
#include "cli/asm_cuda.h"

#include <stdio.h>

#include "codegen/cuda/nvrtc.h"

const char *const cli_cuda_forms[] = {"cuda", "ptx", "cubin", NULL};

static bool compile(const CgCudaTarget *target, SuText *text, CgNvrtcForm form, SuDiags *diags) {
    CgNvrtc *nvrtc = cg_nvrtc_open(diags);
    if (nvrtc == NULL) { return false; }
    SuText code = {0};
    bool ok = cg_nvrtc_compile(nvrtc, target, text->text, form, &code, NULL, diags);
    if (ok) { fwrite(code.text, 1, form == CG_NVRTC_PTX ? code.size - 1 : code.size, stdout); } /* PTX ends in a NUL */
    su_text_free(&code);
    cg_nvrtc_close(nvrtc);
    return ok;
}

bool cli_print_cuda(CliBuild *build, const CliBuildOptions *options, const char *target_name, int form) {
    CgCudaTarget target;
    if (!cg_cuda_target_by_name(target_name, &target, &build->diags)) { return false; }
    if (!cli_build_spec(build, options) || !cli_build_graph(build) || !cli_build_program(build, options)) { return false; }
    SuText text = {0};
    cg_cuda_print(&target, build->program, &build->arena, &text);
    bool ok = true;
    if (form == CLI_FORM_CUDA) {
        fwrite(text.text, 1, text.size, stdout);
    } else {
        ok = compile(&target, &text, form == CLI_FORM_PTX ? CG_NVRTC_PTX : CG_NVRTC_CUBIN, &build->diags);
    }
    su_text_free(&text);
    return ok;
}
