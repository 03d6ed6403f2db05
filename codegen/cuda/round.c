/* PG_ROUND: a thread takes a group of 32 inputs of a row. A block of eight rows is so many tiles that none takes longer than that. */
#include "codegen/cuda/kernels.h"

void cg_cuda_round(CgCuda *c) {
    const PgKernel *k = c->kernel;
    unsigned long long planes = k->x_layout == PG_PLANES ? (unsigned long long)k->E : 1, groups = pg_round_groups(k->K);
    unsigned long long all = PG_ROW_BLOCK * groups * planes,
                       parts = (all + (unsigned)c->target->threads - 1) / (unsigned)c->target->threads;
    const char *stride = cg_cuda_stride(k->x_layout);
    cg_cu(c, "enum { K = %lld, GROUPS = %llu, PLANES = %llu, PARTS = %llu };\n", (long long)k->K, groups, planes, parts);
    cg_cuda_strides(c);
    cg_cu(c, "const float *x = floats(step, phase, %d);\nu8 *y = operand(step, phase, %d);\n", PG_ROUND_X, PG_ROUND_Y);
    cg_cuda_count_tiles(c, 1, parts, 0);
    cg_cu(c, "for (u32 tile = first; tile < tiles; tile += gridDim.x) {\n"
             "const u32 i = tile %% PARTS * THREADS + threadIdx.x, plane = i / 8 / GROUPS;\n"
             "const u64 row = tile / PARTS * 8 + i %% 8;\n");
    /* positions of surplus tiles exist too, and nobody reads them */
    cg_cu(c, "if (plane < PLANES%s) ",
          k->x_layout == PG_POSITIONS ? ""
          : k->gather_out_rows        ? " && row < step->n_out_rows"
                                      : " && row < step->rows");
    cg_cu(c, "round_group(y + plane * (%llu * %s), x + plane * (%llu * %s), %s, row, i / 8 %% GROUPS, K);\n",
          (unsigned long long)pg_rounded_bytes(k->K), stride, (unsigned long long)pg_panels(k->K) * PG_LANES, stride, stride);
    cg_cuda_end_tiles(c);
}
