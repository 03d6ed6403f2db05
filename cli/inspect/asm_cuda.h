/* The part of `mossc asm` for CUDA targets. */
#ifndef MOSSC_CLI_ASM_CUDA_H
#define MOSSC_CLI_ASM_CUDA_H

#include "cli/pipeline.h"

/* What --emit takes, as indices of cli_cuda_forms. */
enum { CLI_FORM_CUDA, CLI_FORM_PTX, CLI_FORM_CUBIN };
extern const char *const cli_cuda_forms[];

/* Prints the program of a spec for a target "cuda:sm_XX" to standard output. */
bool cli_print_cuda(CliBuild *build, const CliBuildOptions *options, const char *target_name, int form);

#endif
