/* PG_LINEAR: y = epilogue(W · norm(x)). Operands and the epilogue of all its forms, and the plain form: a warp takes one panel of 16
 * outputs with one row (PG_ROW) or eight rows, positions or output rows (PG_BLOCK) of x, which lie in shared memory as [k][rows];
 * `split` warps share the k of a panel where there are few panels. One row mostly goes through gemv.c, many rows go through gemm.c; the
 * plain form is for few rows in float, and for one row whose x does not fit shared memory or whose terms have an epilogue each.
 *
 * After the sums across lanes a lane holds four outputs, of row lane / 4 in PG_BLOCK: the layout's own order, so a warp stores 512
 * bytes in a row. In PG_ROW the first four lanes hold all. */
#include "codegen/cuda/kernels.h"
#include "codegen/cuda/linear.h"

/* ---------------------------------------------------------------------------------------------- operands */

bool cg_linear_reads_rounded(const PgKernel *k) { return k->rounds && k->mode == PG_BLOCK; }

void cg_linear_x_plane(const CgLinear *m) {
    const PgKernel *k = m->k;
    if (k->x_layout != PG_PLANES) return;
    if (cg_linear_reads_rounded(k))
        cg_cu(m->c, "const u8 *x_plane = x + plane * (%llu * ld);\n", (unsigned long long)pg_rounded_bytes(k->K));
    else
        cg_cu(m->c, "const float *x_plane = x + plane * (%llu * ld);\n", (unsigned long long)pg_panels(k->K) * 16);
}

static bool has_w2(const PgKernel *k) { return pg_does(k, PG_STEP_DUAL) || k->first_O > 0; }

void cg_linear_sources(const CgLinear *m) {
    CgCuda *c = m->c;
    const PgKernel *k = m->k;
    cg_cu(c,
          cg_linear_reads_rounded(k) ? "const u8 *x = operand(step, phase, %d);\n" : "const float *x = floats(step, phase, %d);\n",
          PG_LINEAR_X);
    cg_cu(c, "const u8 *w = operand(step, phase, %d);\n", PG_LINEAR_W);
    if (has_w2(k)) cg_cu(c, "const u8 *w2 = operand(step, phase, %d);\n", PG_LINEAR_W2);
    if (k->norm != PG_NO_NORM && k->mode == PG_ROW) cg_cu(c, "const float *norm_w = floats(step, phase, %d);\n", PG_LINEAR_NORM_W);
    if (k->norm == PG_LAYER) cg_cu(c, "const float *norm_b = floats(step, phase, %d);\n", PG_LINEAR_NORM_B);
    if (k->mode == PG_ROW && (k->select == PG_CHOSEN || pg_sum(k) == PG_WEIGHTED_SUM))
        cg_cu(c, "const i32 *expert_indices = ints(step, phase, %d);\n", PG_LINEAR_EXPERTS);
    if (pg_sum(k) == PG_WEIGHTED_SUM) cg_cu(c, "const float *combine_weights = floats(step, phase, %d);\n", PG_LINEAR_COMBINE_W);
    if (k->mode == PG_BLOCK && k->select == PG_CHOSEN) cg_cuda_groups(c, PG_LINEAR_GROUPS);
}

void cg_linear_epilogue_pointers(const CgLinear *m) {
    CgCuda *c = m->c;
    const PgKernel *k = m->k;
    for (const PgEpilogueStep *step = k->epilogue.steps; step->kind != PG_NO_STEP; step++) {
        switch ((PgStepKind)step->kind) {
        case PG_STEP_BIAS: cg_cu(c, "const float *bias = floats(step, phase, %d);\n", PG_LINEAR_BIAS); break;
        case PG_STEP_BIAS2: cg_cu(c, "const float *bias2 = floats(step, phase, %d);\n", PG_LINEAR_BIAS2); break;
        case PG_STEP_ADDEND: cg_cu(c, "const float *addend = floats(step, phase, %d);\n", PG_LINEAR_ADDEND); break;
        case PG_STEP_RESIDUAL: cg_cu(c, "const float *residual = floats(step, phase, %d);\n", PG_LINEAR_RESIDUAL); break;
        case PG_STEP_CONV:
            cg_cu(c, "const float *conv_w = floats(step, phase, %d);\n", PG_LINEAR_CONV_W);
            if (k->taps > 1 && k->mode == PG_ROW) cg_cu(c, "float *history = floats(step, phase, %d);\n", PG_LINEAR_HISTORY);
            break;
        case PG_STEP_CONV_BIAS: cg_cu(c, "const float *conv_b = floats(step, phase, %d);\n", PG_LINEAR_CONV_B); break;
        case PG_STEP_DUAL: /* cg_linear_sources has their pointers */
        case PG_STEP_WEIGHTED_SUM:
        case PG_STEP_ACT: /* and these need none */
        case PG_STEP_PLANE_SUM:
        case PG_STEP_OUT_SCALE:
        case PG_STEP_SCALE:
        case PG_STEP_LOGITS:
        case PG_NO_STEP: break;
        }
    }
    if (pg_does(k, PG_STEP_LOGITS)) return;
    if (k->norm_behind) cg_cuda_norm_behind(c);
    if (k->norm_behind || c->y_words != CG_WORDS_ALONE) cg_cu(c, "float *y = floats(step, phase, %d);\n", PG_LINEAR_Y);
    cg_cuda_words(c);
}

/* ---------------------------------------------------------------------------------------------- epilogue */

/* The `past` values before the row, the oldest first; the history moves on by one. */
static void print_past_of_row(CgCuda *c, long long past) {
    cg_cu(c,
          "float4 *old = quad(history + panel * %lld) + q;\n"
          "for (u32 t = 0; t < %lld; t++) {\n"
          "mixed = fma4(taps[4 * t], old[4 * t], mixed);\n"
          "if (t > 0) old[4 * (t - 1)] = old[4 * t];\n"
          "}\n"
          "old[%lld] = v;\n",
          past * 16, past, (past - 1) * 4);
}

/* PG_FEW: of a segment's rows those before are in the tile, or in the history, of which `value_of` (tiles.h) knows the former. Histories
 * of segments that have more than this row move on when all rows are done. */
static void print_past_of_rows(CgCuda *c, long long past) {
    cg_cu(c,
          "{\n"
          "const Segment *segment = segment_of(step, row);\n"
          "const u32 nth = row - segment->first_row;\n"
          "const bool alone = segment->count == 1;\n"
          "float4 *old = quad(state_floats(segment, phase, %d) + panel * %lld) + q;\n"
          "#pragma unroll\n"
          "for (u32 t = 0; t < %lld; t++) {\n"
          "const float4 before = nth + t < %lld ? old[4 * (nth + t)] : value_of(side, r + t - %lld, q);\n"
          "mixed = fma4(taps[4 * t], before, mixed);\n"
          "if (alone && t > 0) old[4 * (t - 1)] = before;\n"
          "}\n"
          "if (alone) old[%lld] = v;\n"
          "}\n",
          PG_LINEAR_HISTORY, past * 16, past, past, past, (past - 1) * 4);
}

static void print_conv(const CgLinear *m) {
    CgCuda *c = m->c;
    long long past = (long long)m->k->taps - 1;
    cg_cu(c,
          "const float4 *taps = quad(conv_w + panel * %lld) + q;\n"
          "float4 mixed = splat4(0);\n",
          (past + 1) * 16);
    if (past > 0 && m->k->mode == PG_ROW) print_past_of_row(c, past);
    if (past > 0 && m->k->mode == PG_BLOCK) print_past_of_rows(c, past);
    cg_cu(c, "v = fma4(taps[%lld], v, mixed);\n", past * 4);
}

static void print_step(const CgLinear *m, const PgEpilogueStep *step) {
    CgCuda *c = m->c;
    const char *of_expert = m->k->select == PG_SINGLE ? "panel" : "(expert * PANELS + panel)";
    char number[48];
    switch ((PgStepKind)step->kind) {
    case PG_STEP_BIAS: cg_cu(c, "v = add4(v, quad(bias + %s * 16)[q]);\n", of_expert); return;
    case PG_STEP_CONV: print_conv(m); return;
    case PG_STEP_CONV_BIAS: cg_cu(c, "v = add4(v, quad(conv_b + panel * 16)[q]);\n"); return;
    case PG_STEP_ACT: cg_cu(c, "v = EACH4(%s, v);\n", cg_cuda_act((PgActivation)step->act)); return;
    case PG_STEP_BIAS2: cg_cu(c, "sum2 = add4(sum2, quad(bias2 + %s * 16)[q]);\n", of_expert); return;
    case PG_STEP_DUAL: cg_cu(c, "v = mul4(v, sum2);\n"); return;
    case PG_STEP_ADDEND: cg_cu(c, "v = add4(v, %s);\n", m->ahead ? "addend_ahead" : "*quad(addend + at)"); return;
    case PG_STEP_RESIDUAL: cg_cu(c, "v = add4(v, %s);\n", m->ahead ? "residual_ahead" : "*quad(residual + at)"); return;
    case PG_STEP_OUT_SCALE:
    case PG_STEP_SCALE: cg_cu(c, "v = mul4(v, splat4(%s));\n", cg_cuda_float(step->scale, number)); return;
    case PG_STEP_LOGITS:
        cg_cu(c, "if (row < step->n_out_rows) *quad(step->logits + row * step->out_stride + panel * 16 + 4 * q) = v;\n");
        if (cg_linear_notes_best(m)) cg_cu(c, "best = better_logits(best, v, panel * 16 + 4 * q);\n");
        return;
    case PG_STEP_WEIGHTED_SUM: /* the caller's: it has all terms */
    case PG_STEP_PLANE_SUM:
    case PG_NO_STEP: return;
    }
}

bool cg_linear_notes_best(const CgLinear *m) { return pg_does(m->k, PG_STEP_LOGITS) && cg_linear_of_row(m); }

void cg_linear_value(const CgLinear *m) {
    cg_cu(m->c, "float4 v = sum;\n");
    const PgEpilogueStep *end = pg_epilogue_behind_sum(&m->k->epilogue);
    if (m->k->first_O > 0) cg_cu(m->c, "if (!second) {\n");
    for (const PgEpilogueStep *step = m->k->epilogue.steps; step < end; step++) print_step(m, step);
    if (m->k->first_O > 0) cg_cu(m->c, "}\n");
}

/* Whether anything is read or written where y lies. */
static bool needs_place(const PgKernel *k, const PgEpilogueStep *step) {
    if (!pg_does(k, PG_STEP_LOGITS)) return true;
    while (step->kind != PG_NO_STEP && pg_step((PgStepKind)step->kind)->moved == 0) step++;
    return step->kind != PG_NO_STEP;
}

void cg_linear_store(const CgLinear *m) {
    CgCuda *c = m->c;
    const PgKernel *k = m->k;
    const PgEpilogueStep *step = pg_epilogue_behind_sum(&k->epilogue);
    if (needs_place(k, step)) cg_cu(c, "const u64 at = (panel * %s + row) * 16 + 4 * q;\n", cg_cuda_stride(k->y_layout));
    for (; step->kind != PG_NO_STEP; step++) print_step(m, step);
    if (pg_does(k, PG_STEP_LOGITS)) return;
    if (k->norm_behind) {
        cg_cu(c, "*quad(y + at) = v;\nput_squares<4>(squares, ld, panel, row, sum4(mul4(v, v)));\n"
                 "v = mul4(v, quad(norm_w + panel * 16)[q]);\n");
        cg_cuda_put_quad_to(c, "scaled", "", "ld", "at", "row", "panel", "v");
        return;
    }
    cg_cuda_put_quad(c, k->y_layout == PG_PLANES ? "plane * (PANELS * ld * 16)" : "", cg_cuda_stride(k->y_layout), "at", "row",
                     "panel", "v");
}

/* Which lanes hold a result. */
static const char *holders(const CgLinear *m) {
    if (m->k->mode == PG_BLOCK) return m->product.split > 1 ? "panel < PANELS && part == 0" : "panel < PANELS";
    return m->product.split > 1 ? "panel < PANELS && part == 0 && lane < 4" : "panel < PANELS && lane < 4";
}

/* ---------------------------------------------------------------------------------------------- one row */

/* Expert and row of x of term j, and the plane of x where there are several. */
static void print_term(const CgLinear *m) {
    CgCuda *c = m->c;
    const PgKernel *k = m->k;
    bool routed = k->select == PG_CHOSEN || (k->select == PG_ALL && pg_sum(k) == PG_WEIGHTED_SUM);
    if (k->select != PG_SINGLE) cg_cu(c, "const u64 expert = %s;\n", routed ? "expert_indices[j]" : "j");
    if (k->x_layout == PG_PLANES) {
        cg_cu(c, "const float *x_plane = x + %s * (u64)%llu;\n", pg_sum(k) == PG_WEIGHTED_SUM ? "expert_indices[j]" : "j",
              (unsigned long long)pg_panels(k->K) * 16);
    }
}

static void print_row_tile(const CgLinear *m) {
    CgCuda *c = m->c;
    const PgKernel *k = m->k;
    const char *x_row = k->x_layout == PG_POSITIONS ? "j" : "0";
    cg_cu(c, "const u64 panel = tile %% GROUPS * SIDE + threadIdx.x / 32 / SPLIT;\n");
    if (pg_sum(k) != PG_NO_SUM) {
        cg_cu(c, "float4 total = splat4(0);\nfor (u32 j = 0; j < %lld; j++) {\n",
              (long long)(pg_sum(k) == PG_WEIGHTED_SUM ? k->k : k->E));
    } else if (k->y_layout != PG_ROWS) {
        cg_cu(c, "const u32 j = tile / GROUPS;\n");
    }
    print_term(m);
    cg_product_sums(&m->product, m->hoisted ? NULL : k->x_layout == PG_PLANES ? "x_plane" : "x", x_row);
    cg_cu(c, "if (%s) {\n", holders(m));
    cg_linear_value(m);
    if (pg_sum(k) != PG_NO_SUM) {
        cg_cu(c, "total = %s;\n}\n}\nif (%s) {\nfloat4 v = total;\n",
              pg_sum(k) == PG_WEIGHTED_SUM ? "fma4(combine_weights[j], v, total)" : "add4(v, total)", holders(m));
    }
    cg_cu(c, "const u64 row = %s;\n", pg_sum(k) == PG_NO_SUM && k->y_layout == PG_POSITIONS ? "j" : "0");
    if (k->y_layout == PG_PLANES) cg_cu(c, "const u64 plane = j;\n");
    cg_linear_store(m);
    cg_cu(c, "}\n");
}

/* ---------------------------------------------------------------------------------------------- blocks of rows. Neighbouring tiles
 * share their weights. */

static void print_block_tile(const CgLinear *m) {
    CgCuda *c = m->c;
    const PgKernel *k = m->k;
    bool gathered = k->select == PG_CHOSEN && k->x_layout == PG_ROWS;
    cg_cu(c, "const u32 blocks = tiles / (phase->fixed * GROUPS), row0 = tile %% blocks * 8;\n"
             "const u64 panel = tile / blocks %% GROUPS * SIDE + threadIdx.x / 32 / SPLIT;\n");
    if (k->y_layout == PG_PLANES) cg_cu(c, "const u64 plane = tile / blocks / GROUPS;\n");
    if (k->select == PG_CHOSEN) {
        cg_cu(c,
              "if (row0 >= groups.start[%lld]) continue; /* surplus */\n"
              "const u64 expert = groups.expert_of[row0 / 8];\n",
              (long long)k->E);
    } else if (k->select == PG_ALL) {
        cg_cu(c, "const u64 expert = plane;\n");
    }
    cg_linear_x_plane(m);
    cg_product_sums(&m->product, k->x_layout == PG_PLANES ? "x_plane" : "x", gathered ? "groups.row_of[row0 + r]" : "row0 + r");
    cg_cu(c, "if (%s) {\n", holders(m));
    cg_linear_value(m);
    cg_cu(c, "const u64 row = row0 + lane / 4;\n");
    cg_linear_store(m);
    cg_cu(c, "}\n");
}

/* One row, or eight at a time in float. */
static void print_plain(CgLinear *m) {
    CgCuda *c = m->c;
    const PgKernel *k = m->k;
    if (k->mode == PG_BLOCK && (k->norm != PG_NO_NORM || k->norm_behind || pg_does(k, PG_STEP_CONV)))
        SU_BUG("eight rows at a time for what takes all rows of a step");
    m->product = cg_product(c, k->O, k->K, cg_cuda_stride(k->x_layout));
    m->product.expert = k->select != PG_SINGLE;
    m->product.dual = pg_does(k, PG_STEP_DUAL);
    m->hoisted = k->mode == PG_ROW && k->x_layout == PG_ROWS && m->product.chunk >= (uint64_t)k->K;
    cg_product_begin(&m->product);
    if (m->hoisted) cg_product_hoist(&m->product, "x");
    cg_cuda_tiles(c, m->product.groups);
    if (k->mode == PG_ROW)
        print_row_tile(m);
    else
        print_block_tile(m);
    cg_cuda_end_tiles(c);
}

void cg_cuda_linear(CgCuda *c) {
    CgLinear m = {.c = c, .k = c->kernel};
    if (cg_linear_in_tiles(&m)) {
        cg_linear_tiles(&m);
        return;
    }
    cg_cuda_strides(c);
    cg_linear_sources(&m);
    cg_linear_epilogue_pointers(&m);
    if (cg_linear_of_row(&m))
        cg_linear_row(&m);
    else
        print_plain(&m);
}

bool cg_cuda_linear_ahead(CgCuda *c) {
    const PgKernel *k = c->kernel;
    CgLinear m = {.c = c, .k = k};
    if (k->kind != PG_LINEAR || k->select == PG_CHOSEN || pg_sum(k) == PG_WEIGHTED_SUM) return false;
    bool of_row = cg_linear_of_row(&m);
    if (!of_row && !(c->form == CG_FEW && cg_linear_in_tiles(&m))) return false;
    cg_cu(c, "const u8 *w = operand(step, phase, %d);\n", PG_LINEAR_W);
    if (has_w2(k)) cg_cu(c, "const u8 *w2 = operand(step, phase, %d);\n", PG_LINEAR_W2);
    if (of_row)
        cg_linear_row_ahead(&m);
    else
        cg_linear_tiles_ahead(&m);
    return true;
}
