#include "codegen/cuda/library.h"

#include "codegen/cuda/emit.h"
#include "codegen/cuda/vmath.h"

#define CG_CUDA_LIBRARY(name, condition) CG_CUDA_TEXT(name)
#include "codegen/cuda/library.def"

void cg_cuda_print_library(const CgCudaTarget *target, SuText *out) {
    su_text_add(out, "enum { THREADS = %d, WARPS = THREADS / 32, HELD_BYTES = %d };\n", target->threads, CG_CUDA_HELD);
    su_text_add(out,
                "enum { PICK_BYTES = %d, MOST_SLICES = %d, MOST_KEPT = %d, PICK_SIZE = %zu, CONTROL_SIZE = %zu };\n"
                "enum { CHUNK = %d, FEW_ROWS = %d, FEW_BYTES = %u, SHARED_TILES = %d, WARPGROUP_THREADS = %d };\n\n",
                CG_CUDA_PICK_BYTES, CG_CUDA_MOST_SLICES, CG_CUDA_MOST_KEPT, sizeof(RtCudaPick), sizeof(RtCudaControl),
                CG_CUDA_CHUNK, CG_CUDA_FEW_ROWS, cg_cuda_few_bytes(target), CG_CUDA_SHARED_TILES, CG_CUDA_WARPGROUP_THREADS);
    cg_cuda_print_vmath(out);
#define CG_CUDA_LIBRARY(name, condition)                                                                                           \
    if (condition) su_text_add(out, "%s\n", cg_cuda_text_##name);
#include "codegen/cuda/library.def"
}
