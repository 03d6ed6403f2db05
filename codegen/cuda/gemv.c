/* PG_LINEAR of one row (row.cuh): what is read is weights, once, so all is about having many loads on their way. x lies in
 * shared memory for the whole phase, through its norm, which every block makes for itself; the first weights are asked for before.
 *
 * A sum over experts of linear layers alone is one long product: its terms' x are scaled by their combine weights. */
#include "codegen/cuda/linear.h"

#include <string.h>

enum {
    X_BYTES = 44 * 1024 /* of shared memory at most, for x */,
    BLOCKS = 2 /* of row_step on a multiprocessor */,
    LEAST_STEPS = 4,
    BATCH = 8,
    LINE_STEP = 8,
    GROUP_STEP = 8 /* groups of blocks that a warp takes at once */
};

typedef struct Row {
    const CgLinear *m;
    CgCuda *c;
    const PgKernel *k;
    int split, side; /* warps of a panel, panels of a tile */
    uint64_t panels, groups; /* of the linear layer; tiles that have all of them */
    int64_t terms; /* of a sum */
    int64_t rows; /* of x in shared memory */
    uint64_t padded; /* inputs of one, with the zeros behind them */
} Row;

/* ---------------------------------------------------------------------------------------------- shapes */

static bool is_sum(const PgKernel *k) { return pg_sum(k) != PG_NO_SUM; }
/* Terms with the same matrix are one term with the sum of their x, unless each is rounded by itself. */
static int64_t terms_of(const PgKernel *k) {
    bool one = !is_sum(k) || (k->select == PG_SINGLE && !k->rounds);
    return one ? 1 : pg_sum(k) == PG_WEIGHTED_SUM ? k->k : k->E;
}
static int64_t x_rows(const PgKernel *k) {
    if (is_sum(k)) return terms_of(k);
    return k->x_layout == PG_ROWS ? 1 : k->x_layout == PG_POSITIONS ? k->k : k->E;
}

/* Warps share a panel until every block of the launch has a tile. Of blocks a step is a batch already. */
static int split_of(const Row *r) {
    int warps = r->c->target->threads / 32, split = 1;
    uint64_t wanted = (uint64_t)warps * (uint64_t)r->c->target->multiprocessors * BLOCKS;
    for (; split < warps && r->panels * (uint64_t)split < wanted; split *= 2) {
        bool enough =
            ir_is_blocks(r->k->dtype) ? r->k->K > split * GROUP_STEP * IR_GROUP : r->k->K >= 2 * split * LINE_STEP * LEAST_STEPS;
        if (!enough) break;
    }
    return split;
}

/* As RowTile::PADDED of row.cuh, GroupRow::PADDED of rounded.cuh. */
static uint64_t padded_of(const Row *r) {
    const IrDtypeInfo *dtype = ir_dtype(r->k->dtype);
    if (ir_is_blocks(r->k->dtype)) {
        uint64_t of_step = GROUP_STEP * IR_GROUP * (uint64_t)r->split;
        return ((uint64_t)r->k->K + of_step - 1) / of_step * of_step;
    }
    uint64_t of_line = dtype->group, lines = ir_groups(dtype, (uint64_t)r->k->K);
    uint64_t step = LINE_STEP * (uint64_t)r->split, steps = (lines + step - 1) / step;
    uint64_t batches = (steps * (pg_does(r->k, PG_STEP_DUAL) ? 2 : 1) + BATCH - 1) / BATCH, loads = (steps + batches - 1) / batches;
    return loads * batches * step * of_line;
}

static Row row_of(const CgLinear *m) {
    Row r = {.m = m, .c = m->c, .k = m->k, .panels = pg_panels(m->k->O), .terms = terms_of(m->k), .rows = x_rows(m->k)};
    r.split = split_of(&r);
    r.side = m->c->target->threads / 32 / r.split;
    r.groups = (r.panels + (uint64_t)r.side - 1) / (uint64_t)r.side;
    r.padded = padded_of(&r);
    return r;
}

/* Of shared memory; rounded rows are bytes and two floats a group, made from one row in float. */
static uint64_t x_bytes(const Row *r) {
    uint64_t rows = (uint64_t)r->rows, floats = sizeof(float) * r->padded;
    return r->k->rounds ? rows * (r->padded / 4 * 5) + floats : rows * floats;
}

bool cg_linear_of_row(const CgLinear *m) {
    const PgKernel *k = m->k;
    bool linear = !is_sum(k) || pg_step_sums(k->epilogue.steps); /* nothing happens to a term */
    bool norm_of_rows = k->norm == PG_NO_NORM || (k->x_layout == PG_ROWS && !(is_sum(k) && k->select == PG_SINGLE));
    Row r = row_of(m);
    return k->mode == PG_ROW && linear && norm_of_rows && x_bytes(&r) <= X_BYTES;
}

/* ---------------------------------------------------------------------------------------------- text */

static void print_constants(const Row *r) {
    cg_cu(r->c, "enum { K = %lld, PANELS = %llu, GROUPS = %llu, SIDE = %d, SPLIT = %d };\n", (long long)r->k->K,
          (unsigned long long)r->panels, (unsigned long long)r->groups, r->side, r->split);
    bool blocks = ir_is_blocks(r->k->dtype);
    cg_cu(r->c, "typedef %s<%s, K, SPLIT, %d, %lld%s> Tile;\n", blocks ? "GroupRow" : "RowTile", cg_cuda_type(r->k->dtype),
          pg_does(r->k, PG_STEP_DUAL) ? 2 : 1, (long long)r->terms,
          !blocks        ? ""
          : r->k->rounds ? ", true"
                         : ", false");
}

/* Which expert's weights term `term` of a tile has, and which row of xs (without a sum). */
static const char *expert_of(const Row *r) {
    const PgKernel *k = r->k;
    const char *const index = is_sum(k) ? "term" : "(tile / GROUPS)";
    if (k->select == PG_SINGLE) return "";
    if (k->select == PG_ALL && pg_sum(k) != PG_WEIGHTED_SUM) return index;
    return is_sum(k) ? "expert_indices[term]" : "expert_indices[tile / GROUPS]";
}

/* A function of the text: the panel of this warp. */
static void print_panel(const Row *r) {
    const char *expert = expert_of(r);
    cg_cu(r->c,
          "const auto panel_of = [&](u32 tile, u32 term, u32 matrix) { /* past the last panel: that one again */\n"
          "const u32 panel = tile %% GROUPS * SIDE + threadIdx.x / 32 / SPLIT;\n"
          "return panel_at<%s>(%s, %s%s%s(panel < PANELS ? panel : PANELS - 1), K);\n"
          "};\n",
          cg_cuda_type(r->k->dtype), pg_does(r->k, PG_STEP_DUAL) ? "matrix == 1 ? w2 : w" : "w", expert[0] != '\0' ? "(u64)" : "",
          expert, expert[0] != '\0' ? " * PANELS + " : "");
}

static const char *scale_of_term(const PgKernel *k) { return pg_sum(k) == PG_WEIGHTED_SUM ? "combine_weights[j]" : "1"; }

/* Row j in float becomes bytes and scales. */
static void print_round_row(const Row *r) {
    cg_cu(r->c, "round_row(xs%s, floats_of_row, Tile::PADDED, %s);\n", r->rows > 1 ? " + j * Tile::OF_TERM" : "",
          scale_of_term(r->k));
}

/* Row j of x, times its combine weight, to its place in xs; or onto what is there. */
static void print_stage_row(const Row *r, const char *x) {
    CgCuda *c = r->c;
    const PgKernel *k = r->k;
    bool own_rows = r->rows > 1 && !k->rounds, more = terms_of(k) == 1 && is_sum(k) && !k->rounds, staged = strcmp(x, "xs") == 0;
    cg_cu(c, "stage_row(%s%s, %s", k->rounds ? "floats_of_row" : "xs", own_rows ? " + j * Tile::PADDED" : "", x);
    if (k->x_layout == PG_PLANES)
        cg_cu(c, " + %s * %llu", pg_sum(k) == PG_WEIGHTED_SUM ? "expert_indices[j]" : "j",
              (unsigned long long)pg_panels(k->K) * 16);
    cg_cu(c, ", %s, %s, K, Tile::PADDED, %s, %s);\n", staged ? "1" : cg_cuda_stride(k->x_layout),
          k->x_layout == PG_POSITIONS ? "j" : "0", k->rounds ? "1" : scale_of_term(k), more ? "j > 0" : "false");
    if (k->rounds) print_round_row(r);
}

/* The only row of x, through the norm; terms of a sum are made from it, the first one last. */
static void print_stage_normed(const Row *r) {
    CgCuda *c = r->c;
    const PgKernel *k = r->k;
    char eps[48];
    const char *xs = k->rounds ? "floats_of_row" : "xs";
    cg_cu(c,
          "stage_row(%s, x, ld, 0, K, Tile::PADDED, 1, false);\n"
          "norm_row(%s, K, %s, %s, norm_w, %s, norm_parts);\n",
          xs, xs, k->norm == PG_LAYER ? "true" : "false", cg_cuda_float(k->eps, eps), k->norm == PG_LAYER ? "norm_b" : "nullptr");
    if (!is_sum(k)) {
        if (k->rounds) print_round_row(r);
        return;
    }
    cg_cu(c, "for (u32 j = %lld; j-- > 0;) {\n", (long long)r->rows);
    if (k->rounds)
        print_round_row(r);
    else
        print_stage_row(r, "xs");
    cg_cu(c, "}\n");
}

/* x goes to xs. */
static void print_stage(const Row *r) {
    const PgKernel *k = r->k;
    int64_t count = !is_sum(k) ? r->rows : pg_sum(k) == PG_WEIGHTED_SUM ? k->k : k->E;
    cg_cu(r->c, "__syncthreads(); /* shared memory is free */\n");
    if (k->norm != PG_NO_NORM) {
        print_stage_normed(r);
        return;
    }
    bool loop = count > 1 || pg_sum(k) == PG_WEIGHTED_SUM || k->x_layout != PG_ROWS;
    if (loop) cg_cu(r->c, "for (u32 j = 0; j < %lld; j++) {\n", (long long)count);
    print_stage_row(r, "x");
    if (loop) cg_cu(r->c, "}\n");
}

static void print_sums(const Row *r) {
    CgCuda *c = r->c;
    int matrices = pg_does(r->k, PG_STEP_DUAL) ? 2 : 1;
    cg_cu(c, "Tile::Sum acc[%d] = {};\n", matrices);
    cg_cu(c, "product.sum(acc, panel_of, xs%s, tile, tile + gridDim.x, tiles);\n",
          is_sum(r->k) || r->rows == 1 ? ""
          : ir_is_blocks(r->k->dtype)  ? " + tile / GROUPS * Tile::OF_TERM"
                                       : " + tile / GROUPS * Tile::PADDED");
    for (int i = 0; i < matrices; i++) {
        cg_cu(c, "const float4 warp_sum%d = sum_row(acc + %d);\n", i, i);
        cg_cu(c, "if (lane < 4) parts[%sthreadIdx.x / 32 * 4 + lane] = warp_sum%d;\n", i == 0 ? "" : "WARPS * 4 + ", i);
    }
    cg_cu(c, "__syncthreads();\n");
}

static void print_join(const Row *r, const char *name, const char *offset) {
    cg_cu(r->c, "float4 %s = parts[%sside * SPLIT * 4 + q];\n", name, offset);
    if (r->split > 1)
        cg_cu(r->c, "for (u32 s = 1; s < SPLIT; s++) %s = add4(%s, parts[%s(side * SPLIT + s) * 4 + q]);\n", name, name, offset);
}

static void print_epilogue(const Row *r) {
    CgCuda *c = r->c;
    const PgKernel *k = r->k;
    cg_cu(c, "const u32 side = threadIdx.x / 4, q = threadIdx.x %% 4;\n"
             "const u64 panel = tile %% GROUPS * SIDE + side;\n"
             "if (side < SIDE && panel < PANELS) {\n");
    print_join(r, "sum", "");
    if (pg_does(k, PG_STEP_DUAL)) print_join(r, "sum2", "WARPS * 4 + ");
    if (pg_does(k, PG_STEP_BIAS) && k->select != PG_SINGLE) cg_cu(c, "const u64 expert = %s;\n", expert_of(r));
    cg_linear_value(r->m);
    cg_cu(c, "const u64 row = %s;\n", !is_sum(k) && k->y_layout == PG_POSITIONS ? "tile / GROUPS" : "0");
    if (k->y_layout == PG_PLANES) cg_cu(c, "const u64 plane = tile / GROUPS;\n");
    cg_linear_store(r->m);
    cg_cu(c, "}\n");
}

void cg_linear_row(const CgLinear *m) {
    CgCuda *c = m->c;
    Row r = row_of(m);
    uint64_t warps = (uint64_t)c->target->threads / 32;
    print_constants(&r);
    if (m->k->rounds) {
        cg_cuda_shared(c, "float", "xs", x_bytes(&r) - r.padded * sizeof(float));
        cg_cuda_shared(c, "float", "floats_of_row", r.padded * sizeof(float));
    } else {
        cg_cuda_shared(c, "float", "xs", x_bytes(&r));
    }
    cg_cuda_shared(c, "float4", "parts", warps * 4 * 16 * (pg_does(m->k, PG_STEP_DUAL) ? 2 : 1));
    if (m->k->norm != PG_NO_NORM) cg_cuda_shared(c, "float", "norm_parts", warps * sizeof(float));
    cg_cu(c, "const u32 lane = threadIdx.x %% 32;\n");
    print_panel(&r);
    cg_cuda_count_tiles(c, 1, r.groups, 0);
    bool notes = cg_linear_notes_best(m);
    if (notes)
        cg_cu(c, "u64 best = 0;\n"
                 "if (first >= tiles) {\nnote_best(step->scratch, best);\nreturn tiles;\n}\n");
    else
        cg_cu(c, "if (first >= tiles) return tiles;\n");
    cg_cu(c, "Tile product;\n"
             "product.begin(panel_of, first);\n");
    print_stage(&r);
    cg_cuda_tile_loop(c);
    print_sums(&r);
    print_epilogue(&r);
    if (notes) cg_cu(c, "}\nnote_best(step->scratch, best);\n{\n");
    cg_cuda_end_tiles(c);
}

void cg_linear_row_ahead(const CgLinear *m) {
    Row r = row_of(m);
    print_constants(&r);
    print_panel(&r);
    cg_cuda_count_tiles(m->c, 1, r.groups, 0);
    cg_cu(m->c, "Tile product;\n"
                "if (first < tiles) product.announce(panel_of, first);\n"
                "return tiles;\n");
}
