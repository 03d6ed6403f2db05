/* What all programs of a target share: the .cuh files of library.def, and sizes that they and the host agree on. */
#ifndef MOSSC_CODEGEN_CUDA_LIBRARY_H
#define MOSSC_CODEGEN_CUDA_LIBRARY_H

#include "codegen/cuda/cuda.h"

enum {
    CG_CUDA_PICK_BYTES = 4096, /* of shared memory: what picking takes */
    CG_CUDA_MOST_SLICES = 1024, /* of pick.cuh, whose Kept lies in the scratch memory; or, for several sequences, a List each */
    CG_CUDA_MOST_KEPT = 512,
    CG_CUDA_SHARED_TILES = 1024 /* of a stage: few.cuh */
};

/* Declares and defines `cg_cuda_text_NAME`: NAME.cuh as it lies in the source. */
#define CG_CUDA_TEXT(name)                                                                                                         \
    __asm__(".section .rodata\n"                                                                                                   \
            "cg_cuda_text_" #name ": .incbin \"" CG_CUDA_SOURCE "/" #name ".cuh\"\n"                                               \
            ".byte 0\n"                                                                                                            \
            ".previous\n");                                                                                                        \
    extern const char cg_cuda_text_##name[] __attribute__((visibility("hidden")));

#endif
