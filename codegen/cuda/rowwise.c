/* PG_EMBED, PG_NORM, PG_COMBINE: a tile is eight rows (output rows, positions), or the one row with all it has. */
#include "codegen/cuda/kernels.h"
#include "support/diag.h"

#include <stdio.h>

static int tile_rows(const PgKernel *k) { return k->mode == PG_ROW ? 1 : PG_ROW_BLOCK; }

/* for each element of the tile's rows: panel, lane and row; `limit` rows exist. */
static void open_elements(CgCuda *c, const char *limit) {
    int rows = tile_rows(c->kernel);
    cg_cu(c,
          "for (u32 i = threadIdx.x; i < PANELS * %d; i += THREADS) {\n"
          "const u32 lane = i %% 16;\n"
          "const u64 row = tile * %d + i / 16 %% %d, panel = i / %d;\n",
          16 * rows, rows, rows, 16 * rows);
    if (c->kernel->mode == PG_BLOCK) cg_cu(c, "if (row >= %s) continue;\n", limit);
}

/* Pointers to what print_stored writes. */
static void print_results(CgCuda *c, int y) {
    if (c->kernel->norm_behind || c->y_words != CG_WORDS_ALONE) cg_cu(c, "float *y = floats(step, phase, %d);\n", y);
    if (c->kernel->norm_behind) cg_cuda_norm_behind(c);
    cg_cuda_words(c);
}

/* v goes to y[at], and what a norm behind it takes. */
static void print_stored(CgCuda *c) {
    if (!c->kernel->norm_behind) {
        cg_cuda_put(c, "", "ld", "at", "row", "panel * 16 + lane", "v");
        return;
    }
    cg_cu(c, "y[at] = v;\nput_squares<16>(squares, ld, panel, row, v * v);\nv *= norm_w[panel * 16 + lane];\n");
    cg_cuda_put_to(c, "scaled", "", "ld", "at", "row", "panel * 16 + lane", "v");
}

void cg_cuda_embed(CgCuda *c) {
    const PgKernel *k = c->kernel;
    char scale[48];
    cg_cu(c, "enum { D = %lld, PANELS = %llu };\n", (long long)k->O, (unsigned long long)pg_panels(k->O));
    cg_cuda_strides(c);
    cg_cu(c, "const u8 *table = operand(step, phase, %d); /* [V/16][D][16], as the head reads it */\n", PG_EMBED_W);
    print_results(c, PG_EMBED_Y);
    cg_cuda_tiles(c, 1);
    open_elements(c, "step->rows");
    cg_cu(c,
          "const u32 token = %s, d = panel * 16 + lane;\n"
          "float v = d < D ? %s::weight(table + token / 16 * %lluull, D, d, token %% 16) : 0;\n"
          "const u64 at = (panel * ld + row) * 16 + lane;\n",
          k->mode == PG_ROW ? "held()->token < 0 ? step->tokens[0] : held()->token" : "step->tokens[row]", cg_cuda_type(k->dtype),
          (unsigned long long)ir_panel_bytes(k->dtype, k->O));
    if (k->scaled) cg_cu(c, "v = %s * v;\n", cg_cuda_float(k->scale, scale));
    print_stored(c);
    cg_cu(c, "}\n");
    cg_cuda_end_tiles(c);
}

/* The row `from` of x, normed as a whole, to the row `row` of y. */
static void print_row(CgCuda *c) {
    const PgKernel *k = c->kernel;
    const char *stride = cg_cuda_stride(k->x_layout);
    bool layer = k->norm == PG_LAYER;
    char eps[48];
    cg_cu(c,
          "const Spread spread = warp_spread(x + plane, %s, from, O, %s, %s);\n"
          "for (u32 i = threadIdx.x %% 32; i < PADDED / 4; i += 32) {\n"
          "const u32 q = i %% 4;\n"
          "const u64 panel = i / 4, at = (panel * %s + row) * 16 + 4 * q;\n"
          "float4 v = *quad(x + plane + (panel * %s + from) * 16 + 4 * q);\n"
          "v = mul4(mul4(add4(v, splat4(-spread.mean)), splat4(spread.scale)), quad(w)[i]);\n"
          "v = first4(%s, O > 4 * i ? O - 4 * i : 0);\n",
          stride, layer ? "true" : "false", cg_cuda_float(k->eps, eps), stride, stride, layer ? "add4(v, quad(b)[i])" : "v");
    cg_cuda_put_quad(c, "plane", stride, "at", "row", "panel", "v");
    cg_cu(c, "}\n");
}

/* Each run of it by itself; weights of runs begin at a panel of their own. Lanes past O become zero with the last run. */
static void print_runs(CgCuda *c) {
    const PgKernel *k = c->kernel;
    const char *stride = cg_cuda_stride(k->x_layout);
    char eps[48];
    cg_cu(c,
          "enum { RUN = %lld, RUN_PADDED = %llu };\n"
          "for (u32 first = 0; first < O; first += RUN) {\n"
          "const Spread spread = run_spread(x + plane, %s, from, first, RUN, %s);\n"
          "for (u32 i = threadIdx.x %% 32; i < RUN; i += 32) {\n"
          "const float v = x[plane + element(%s, from, first + i)] * spread.scale * w[%si];\n"
          "const u32 at = first + i;\n",
          (long long)(k->O / k->runs), (unsigned long long)pg_panels(k->O / k->runs) * PG_LANES, stride, cg_cuda_float(k->eps, eps),
          stride, k->one_run_w ? "" : "first / RUN * RUN_PADDED + ");
    char element[64];
    snprintf(element, sizeof element, "element(%s, row, at)", stride);
    cg_cuda_put(c, "plane", stride, element, "row", "at", "v");
    cg_cu(c, "}\n}\n");
    if (k->O % PG_LANES == 0 || c->y_words == CG_WORDS_ALONE) return; /* of words nobody reads those past O */
    cg_cu(c, "if (O + threadIdx.x %% 32 < PADDED) y[plane + element(%s, row, O + threadIdx.x %% 32)] = 0;\n", stride);
}

/* A warp takes a row. */
void cg_cuda_norm(CgCuda *c) {
    const PgKernel *k = c->kernel;
    bool positions = k->x_layout == PG_POSITIONS, layer = k->norm == PG_LAYER;
    long long rows = k->mode == PG_ROW && positions ? (long long)k->k : tile_rows(k);
    cg_cu(c, "enum { O = %lld, PADDED = %llu, ROWS = %lld, PLANES = %lld };\n", (long long)k->O,
          (unsigned long long)pg_panels(k->O) * 16, rows, k->x_layout == PG_PLANES ? (long long)k->E : 1LL);
    cg_cuda_strides(c);
    cg_cu(c, "const float *x = floats(step, phase, %d), *w = floats(step, phase, %d);\n", PG_NORM_X, PG_NORM_W);
    if (layer) cg_cu(c, "const float *b = floats(step, phase, %d);\n", PG_NORM_B);
    cg_cu(c, "float *y = floats(step, phase, %d);\n", PG_NORM_Y);
    cg_cuda_words(c);
    cg_cuda_tiles(c, 1);
    cg_cu(c, "for (u32 r = threadIdx.x / 32; r < ROWS * PLANES; r += WARPS) {\n"
             "const u64 row = tile * ROWS + r %% ROWS;\n");
    if (k->gather_out_rows) {
        cg_cu(c, "if (row >= step->n_out_rows) continue;\nconst u64 from = step->out_rows[row];\n");
    } else {
        if (!positions) cg_cu(c, "if (row >= step->rows) continue;\n");
        cg_cu(c, "const u64 from = row;\n");
    }
    cg_cu(c, "const u64 plane = r / ROWS * (PADDED * ld);\n");
    if (k->runs > 1)
        print_runs(c);
    else
        print_row(c);
    cg_cu(c, "}\n");
    cg_cuda_end_tiles(c);
}

/* What term j adds. */
static void print_term(CgCuda *c) {
    const PgKernel *k = c->kernel;
    bool weighted = pg_sum(k) == PG_WEIGHTED_SUM;
    if (k->x_layout == PG_POSITIONS) {
        cg_cu(c, "const float term = x[(panel * ldp + %s) * 16 + lane];\n",
              k->mode == PG_ROW ? "j" : "groups.pos_of[row * TERMS + j]");
    } else {
        cg_cu(c, "const float term = x[((%s * PANELS + panel) * ld + row) * 16 + lane];\n",
              weighted ? "(u64)expert_indices[row * TERMS + j]" : "(u64)j");
    }
    cg_cu(c, weighted ? "v = fmaf(combine_weights[row * TERMS + j], term, v);\n" : "v += term;\n");
}

/* A step behind the sum. */
static void print_step(CgCuda *c, const PgEpilogueStep *step) {
    char scale[48];
    switch ((PgStepKind)step->kind) {
    case PG_STEP_ADDEND: cg_cu(c, "v += addend[at];\n"); return;
    case PG_STEP_RESIDUAL: cg_cu(c, "v += residual[at];\n"); return;
    case PG_STEP_OUT_SCALE:
    case PG_STEP_SCALE: cg_cu(c, "v *= %s;\n", cg_cuda_float(step->scale, scale)); return;
    case PG_NO_STEP:
    case PG_STEP_BIAS:
    case PG_STEP_CONV:
    case PG_STEP_CONV_BIAS:
    case PG_STEP_ACT:
    case PG_STEP_BIAS2:
    case PG_STEP_DUAL:
    case PG_STEP_WEIGHTED_SUM:
    case PG_STEP_PLANE_SUM:
    case PG_STEP_LOGITS: break;
    }
    SU_BUG("step %u stands behind no sum of PG_COMBINE", step->kind);
}

void cg_cuda_combine(CgCuda *c) {
    const PgKernel *k = c->kernel;
    const PgEpilogueStep *behind = pg_epilogue_behind_sum(&k->epilogue), *step;
    bool weighted = pg_sum(k) == PG_WEIGHTED_SUM;
    cg_cu(c, "enum { PANELS = %llu, TERMS = %lld };\n", (unsigned long long)pg_panels(k->O), (long long)(weighted ? k->k : k->E));
    cg_cuda_strides(c);
    cg_cu(c, "const float *x = floats(step, phase, %d);\n", PG_COMBINE_X);
    if (weighted && k->x_layout != PG_POSITIONS)
        cg_cu(c, "const i32 *expert_indices = ints(step, phase, %d);\n", PG_COMBINE_EXPERTS);
    if (weighted) cg_cu(c, "const float *combine_weights = floats(step, phase, %d);\n", PG_COMBINE_COMBINE_W);
    if (k->x_layout == PG_POSITIONS && k->mode == PG_BLOCK) cg_cuda_groups(c, PG_COMBINE_GROUPS);
    for (step = behind; step->kind != PG_NO_STEP; step++)
        if (pg_step((PgStepKind)step->kind)->combine != PG_NO_SLOT)
            cg_cu(c, "const float *%s = floats(step, phase, %d);\n", pg_step((PgStepKind)step->kind)->word,
                  pg_step((PgStepKind)step->kind)->combine);
    print_results(c, PG_COMBINE_Y);
    cg_cuda_tiles(c, 1);
    open_elements(c, "step->rows");
    cg_cu(c, "const u64 at = (panel * ld + row) * 16 + lane;\nfloat v = 0;\nfor (u32 j = 0; j < TERMS; j++) {\n");
    print_term(c);
    cg_cu(c, "}\n");
    for (step = behind; step->kind != PG_NO_STEP; step++) print_step(c, step);
    print_stored(c);
    cg_cu(c, "}\n");
    cg_cuda_end_tiles(c);
}
