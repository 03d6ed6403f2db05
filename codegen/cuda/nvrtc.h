/* NVRTC, NVIDIA's compiler as a library: CUDA C to PTX or to machine code. It is opened when it is needed, wherever it comes from
 * (the CUDA toolkit, PyPI's nvidia-cuda-nvrtc, a distribution); it needs neither a GPU nor a driver. Where it is missing all else
 * of mossc works. */
#ifndef MOSSC_CODEGEN_CUDA_NVRTC_H
#define MOSSC_CODEGEN_CUDA_NVRTC_H

#include "codegen/cuda/cuda.h"
#include "support/digest.h"

typedef struct CgNvrtc CgNvrtc;

/* Looks for the library at MOSSC_NVRTC (a file), then under the names that it has in toolkits 11 to 13. NULL after an error that
 * says what was looked for and where to get it. */
CgNvrtc *cg_nvrtc_open(SuDiags *diags);
/* The same without a message, for whoever can do without. */
CgNvrtc *cg_nvrtc_try(void);
void cg_nvrtc_close(CgNvrtc *nvrtc);
void cg_nvrtc_version(const CgNvrtc *nvrtc, int *out_major, int *out_minor);
/* Tells this very library from others: by version and build. */
SuDigest cg_nvrtc_identity(const CgNvrtc *nvrtc);
/* The newest architecture, at most `architecture`, that it compiles for; 0: it knows later ones only. */
int cg_nvrtc_newest(const CgNvrtc *nvrtc, int architecture);

typedef enum CgNvrtcForm { CG_NVRTC_PTX, CG_NVRTC_CUBIN } CgNvrtcForm;

/* What the code depends on besides the text, the architecture and the form. */
#define CG_NVRTC_OPTIONS "--std=c++17"

/* Compiles what cg_cuda_print printed. out_log (may be NULL) gets the assembler's lines: registers, shared memory and spills of each
 * entry. A text that is refused is an error with NVRTC's message and the line of the spec that the place comes from. */
bool cg_nvrtc_compile(const CgNvrtc *nvrtc, const CgCudaTarget *target, const char *text, CgNvrtcForm form, SuText *out_code,
                      SuText *out_log, SuDiags *diags);

#endif
