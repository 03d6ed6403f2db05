/* PG_LINEAR in tiles of rows (product.cuh): a block multiplies some panels with up to 128 rows that go through shared memory with their
 * weights (CG_MANY), or with up to 64 rows while weights come straight from memory, once (CG_FEW with tensor cores).
 *
 * The sums of a tile go to shared memory in the layout's own order, [panel][row][16]; all threads then take quads of them through
 * the epilogue of linear.c, so that what follows a linear layer stands in the text once. */
#include "codegen/cuda/tiles.h"

enum {
    SLOTS = CG_TILE_SLOTS,
    CHUNK = CG_CUDA_CHUNK,
    ROUNDED_BYTES = IR_GROUP + 2 * sizeof(float), /* of a rounded row in a chunk */
    TYPICAL_ROWS = 4096 /* of a large step: what tiles are dealt out for */
};

typedef CgTiles Tiles;

static bool by_tensor_cores(const CgLinear *m) {
    return m->c->target->tensor_cores && (ir_dtype(m->k->dtype)->mma == IR_MMA_16 || m->k->rounds);
}

bool cg_linear_in_tiles(const CgLinear *m) { return m->c->form == CG_MANY || (m->c->form == CG_FEW && by_tensor_cores(m)); }

/* ---------------------------------------------------------------------------------------------- shapes */

int cg_tiles_fitting_rows(const CgTiles *t, int most, int least, int typical) {
    const PgKernel *k = t->k;
    uint64_t planes = k->y_layout == PG_PLANES ? (uint64_t)k->E : k->select == PG_CHOSEN ? (uint64_t)k->k : 1;
    int rows = most;
    while (rows > least) {
        bool enough = t->groups * planes * (uint64_t)(typical / rows) >= (uint64_t)t->c->target->multiprocessors;
        if (enough && (k->select != PG_CHOSEN || typical * k->k / k->E >= 2 * rows)) break;
        rows /= 2;
    }
    return rows;
}

/* Rounded rows are at most 64: the scales of their sums take registers beside them. */
static int rows_of_tile(const Tiles *t) {
    bool fits = CG_CUDA_HELD + SLOTS * 128 * 64 <= t->c->target->shared; /* the sums of 128 rows: not on sm_75 */
    return cg_tiles_fitting_rows(t, t->k->rounds || !fits ? 64 : 128, 32, TYPICAL_ROWS);
}

static uint64_t stage_bytes(const Tiles *t) {
    uint64_t slot = ir_panel_bytes(t->k->dtype, CHUNK);
    bool high_words = t->c->x_words && t->c->target->fast;
    return SLOTS * slot + (uint64_t)t->rows * (t->k->rounds ? ROUNDED_BYTES : CHUNK * (high_words ? 2 : sizeof(float)));
}

static void shape_many(Tiles *t) {
    t->slots_of_tile = SLOTS;
    t->groups = (t->slots + SLOTS - 1) / SLOTS;
    t->rows = rows_of_tile(t);
    t->stages = !t->tensor ? 2 /* float products take longer than their inputs */ : t->c->x_words && t->c->target->fast ? 4 : 3;
}

/* Blocks share the k of a tile where there are few tiles: with two phases in a stage half of the multiprocessors are enough for each. */
static void share_tiles(Tiles *t) {
    enum { MOST_PARTS = 8 };
    uint64_t multiprocessors = (uint64_t)t->c->target->multiprocessors, chunks = (uint64_t)(t->k->K + CHUNK - 1) / CHUNK;
    if (t->c->whole_k || t->k->select != PG_SINGLE || t->k->y_layout == PG_PLANES || t->k->rounds ||
        3 * t->groups >= multiprocessors)
        return;
    while (t->parts < MOST_PARTS && 2 * t->groups * (uint64_t)t->parts <= multiprocessors &&
           chunks >= 2 * (uint64_t)(t->parts * t->split))
        t->parts *= 2;
}

/* Warps share the k of a pair of slots until there are tiles for all multiprocessors. */
static void shape_few(Tiles *t) {
    int warps = t->c->target->threads / 32;
    t->rows = CG_CUDA_FEW_ROWS;
    t->split = 1;
    while (t->split < warps) {
        uint64_t side = 2 * (uint64_t)(warps / t->split), tiles = (t->slots + side - 1) / side;
        bool work_enough = t->k->K >= 2 * t->split * CHUNK;
        if (tiles >= (uint64_t)t->c->target->multiprocessors || !work_enough) break;
        t->split *= 2;
    }
    t->slots_of_tile = 2 * (uint64_t)(warps / t->split);
    t->groups = (t->slots + t->slots_of_tile - 1) / t->slots_of_tile;
    if (t->k->first_O > 0) { /* no tile has slots of both */
        uint64_t first = pg_panels(t->k->first_O);
        t->first_groups = (first + t->slots_of_tile - 1) / t->slots_of_tile;
        t->groups = t->first_groups + (t->slots - first + t->slots_of_tile - 1) / t->slots_of_tile;
    }
    share_tiles(t);
}

static Tiles tiles_of(const CgLinear *m) {
    Tiles t = {.m = m, .c = m->c, .k = m->k, .tensor = by_tensor_cores(m), .parts = 1, .type = cg_cuda_type(m->k->dtype)};
    t.slots = pg_panels(m->k->O) * (pg_does(m->k, PG_STEP_DUAL) ? 2 : 1);
    if (m->c->form == CG_MANY)
        shape_many(&t);
    else
        shape_few(&t);
    return t;
}

/* ---------------------------------------------------------------------------------------------- where a tile lies */

void cg_tiles_expert(const CgTiles *t) {
    if (t->k->select != PG_SINGLE) cg_cu(t->c, "const u64 expert = place.expert;\n");
    if (t->k->y_layout == PG_PLANES) cg_cu(t->c, "const u64 plane = place.expert;\n");
}

void cg_tiles_place(const CgTiles *t) {
    CgCuda *c = t->c;
    const PgKernel *k = t->k;
    if (k->select == PG_CHOSEN) {
        cg_cu(c,
              "place = place_of_run(tile, groups.start, %lld, ROWS, GROUPS);\n"
              "if (place.count == 0) continue; /* surplus */\n",
              (long long)k->E);
    } else {
        cg_cu(c, "place = place_of_rows(tile%s, count_of(step, phase) * 8, ROWS, GROUPS);\n", t->parts > 1 ? " / PARTS" : "");
    }
    cg_tiles_expert(t);
    cg_linear_x_plane(t->m);
}

/* Of two matrices side by side: which one is the tile's, its first panel there, and how many there are. */
static void print_side(const Tiles *t) {
    cg_cu(t->c, "const bool second = place.group >= FIRST_GROUPS;\n"
                "const u32 own_panel = (place.group - (second ? FIRST_GROUPS : 0)) * SIDE;\n"
                "const u32 own_panels = second ? PANELS - FIRST_PANELS : FIRST_PANELS;\n");
}

/* The weights of the tile. */
void cg_tiles_slots(const CgTiles *t) {
    const PgKernel *k = t->k;
    const char *expert = k->select == PG_SINGLE ? "" : " + expert * EXPERT_BYTES";
    if (t->first_groups > 0) {
        print_side(t);
        cg_cu(t->c, "const u8 *own = second ? w2 : w;\nconst Slots slots = {own, own, own_panel, own_panels, false};\n");
        return;
    }
    cg_cu(t->c, "const Slots slots = {w%s, %s%s, place.group * SIDE, PANELS, %s};\n", expert, pg_does(k, PG_STEP_DUAL) ? "w2" : "w",
          expert, pg_does(k, PG_STEP_DUAL) ? "true" : "false");
}

/* x: the rows of the tile. */
void cg_tiles_rows(const CgTiles *t) {
    const PgKernel *k = t->k;
    bool gathered = k->select == PG_CHOSEN && k->x_layout == PG_ROWS;
    cg_cu(t->c, "const %s rows = {%s, %s, %s, place.row, place.count%s};\n", k->rounds ? "RoundedRows" : "Rows",
          k->x_layout == PG_PLANES ? "x_plane" : "x", cg_cuda_stride(k->x_layout), gathered ? "groups.row_of" : "nullptr",
          k->rounds ? ", groups_of(K)" : "");
}

static void print_sums(const Tiles *t) {
    CgCuda *c = t->c;
    const char *fast = cg_cuda_truth(c->target->fast), *x = !c->x_words ? "FLOATS" : c->target->fast ? "HIGH_WORDS" : "WORDS";
    if (t->k->rounds && t->split > 0)
        cg_cu(c, "sum_few_rounded<%s>(slots, rows, K, SPLIT);\n", t->type);
    else if (t->k->rounds)
        cg_cu(c, "sum_rounded_tile<%s, ROWS, %s<%s, ROWS>, %d>(slots, rows, K);\n", t->type, t->tensor ? "IntegerTile" : "DotTile",
              t->type, t->stages);
    else if (t->split > 0)
        cg_cu(c, "sum_few<%s, %s, %s, %s>(slots, rows, K, SPLIT, %s);\n", t->type, fast,
              cg_cuda_truth(ir_groups(ir_dtype(t->k->dtype), (uint64_t)t->k->K) % 2 == 1), x,
              t->parts > 1 ? "Share{tile % PARTS, PARTS}" : "Share{0, 1}");
    else if (t->tensor)
        cg_cu(c, "sum_tile<%s, ROWS, TensorTile<%s, ROWS, %s, %s>, %d, %s>(slots, rows, K);\n", t->type, t->type, fast, x,
              t->stages, x);
    else
        cg_cu(c, "sum_tile<%s, ROWS, FloatTile<%s, ROWS>, %d, FLOATS>(slots, rows, K);\n", t->type, t->type, t->stages);
}

/* ---------------------------------------------------------------------------------------------- the epilogue */

static void print_quad(const Tiles *t, const char *sum, const char *slot) {
    if (t->split > 1 && t->parts == 1)
        cg_cu(t->c, "float4 %s = sum_of_parts(sums, place.count, %s, SPLIT, in_slot);\n", sum, slot);
    else
        cg_cu(t->c, "float4 %s = sums[%s * %s * 4 + in_slot];\n", sum, slot, t->split > 0 ? "place.count" : "ROWS");
}

static const char *rows_of_sums(const Tiles *t) {
    return t->split > 0 ? "place.count" : "ROWS"; /* a constant where it can be: it divides */
}

void cg_tiles_quad_place(const CgTiles *t) {
    const char *rows = rows_of_sums(t);
    cg_cu(t->c,
          "const u32 q = i %% 4, r = i / 4 %% %s, side = i / 4 / %s, in_slot = swizzled(r, q);\n"
          "const u64 panel = %s + side, row = place.row + r;\n"
          "if (%s) break;\n",
          rows, rows, t->first_groups > 0 ? "(second ? FIRST_PANELS : 0) + own_panel" : "place.group * SIDE",
          t->first_groups > 0 ? "own_panel + side >= own_panels" : "panel >= PANELS");
    if (t->split == 0) cg_cu(t->c, "if (r >= place.count) continue;\n");
    if (t->split > 0 && pg_does(t->k, PG_STEP_CONV)) cg_cu(t->c, "if (row >= step->rows) continue; /* of no segment */\n");
}

/* Whether the sums are to be multiplied by a norm's factor of the row. */
static bool takes_factor(const Tiles *t) { return t->k->norm != PG_NO_NORM; }

static void print_factor(const Tiles *t, const char *row) {
    char eps[48];
    bool gathered = t->k->select == PG_CHOSEN && t->k->x_layout == PG_ROWS;
    cg_cu(t->c, "const float4 factor = splat4(norm_factor(squares_of_rows, %s%s%s, K, %s));\n", gathered ? "groups.row_of[" : "",
          row, gathered ? "]" : "", cg_cuda_float(t->k->eps, eps));
}

void cg_tiles_quad(const CgTiles *t) {
    bool dual = pg_does(t->k, PG_STEP_DUAL);
    print_quad(t, "sum", dual ? "2 * side" : "side");
    if (dual) print_quad(t, "sum2", "(2 * side + 1)");
    if (takes_factor(t)) {
        print_factor(t, "row");
        cg_cu(t->c, "sum = mul4(sum, factor);\n%s", dual ? "sum2 = mul4(sum2, factor);\n" : "");
    }
    cg_linear_value(t->m);
    cg_linear_store(t->m);
}

static void print_value_of(const Tiles *t) {
    cg_cu(t->c, "const auto value_of = [&](u32 side, u32 r, u32 q) {\nconst u32 in_slot = swizzled(r, q);\n");
    print_quad(t, "sum", "side");
    if (takes_factor(t)) {
        print_factor(t, "(place.row + r)");
        cg_cu(t->c, "sum = mul4(sum, factor);\n");
    }
    if (pg_does(t->k, PG_STEP_BIAS)) cg_cu(t->c, "sum = add4(sum, quad(bias + (place.group * SIDE + side) * 16)[q]);\n");
    cg_cu(t->c, "return sum;\n};\n");
}

/* Of segments with several rows the last values of each become its history, when no row needs the old one. */
static void print_histories(const Tiles *t) {
    long long past = (long long)t->k->taps - 1;
    cg_cu(t->c,
          "if (%sstep->n_segments != step->rows) {\n"
          "__syncthreads();\n"
          "for (u32 i = threadIdx.x; i < SIDE * %s * 4; i += THREADS) {\n",
          t->first_groups > 0 ? "!second && " : "", rows_of_sums(t));
    cg_tiles_quad_place(t);
    cg_cu(t->c,
          "const Segment *segment = segment_of(step, row);\n"
          "if (segment->count == 1 || row + 1 != segment->first_row + segment->count) continue;\n"
          "float4 *old = quad(state_floats(segment, phase, %d) + panel * %lld) + q;\n"
          "for (u32 t = 0; t < %lld; t++) {\n"
          "const i32 nth = (i32)(segment->count + t) - %lld; /* of the segment's rows */\n"
          "old[4 * t] = nth < 0 ? old[4 * (nth + %lld)] : value_of(side, segment->first_row + nth - place.row, q);\n"
          "}\n"
          "}\n"
          "}\n",
          PG_LINEAR_HISTORY, past * 16, past, past, past);
}

void cg_tiles_epilogue(const CgTiles *t) {
    bool past = pg_does(t->k, PG_STEP_CONV) && t->k->taps > 1;
    if (t->first_groups > 0) print_side(t);
    if (past) print_value_of(t);
    cg_cu(t->c, "for (u32 i = threadIdx.x; i < SIDE * %s * 4; i += THREADS) {\n", rows_of_sums(t));
    cg_tiles_quad_place(t);
    cg_tiles_quad(t);
    cg_cu(t->c, "}\n");
    if (past) print_histories(t);
}

void cg_tiles_constants(const CgTiles *t) {
    uint64_t side = t->slots_of_tile / (pg_does(t->k, PG_STEP_DUAL) ? 2 : 1);
    cg_cu(t->c, "enum { K = %lld, PANELS = %llu, GROUPS = %llu, SIDE = %llu, ROWS = %d", (long long)t->k->K,
          (unsigned long long)pg_panels(t->k->O), (unsigned long long)t->groups, (unsigned long long)side, t->rows);
    if (t->k->select != PG_SINGLE)
        cg_cu(t->c, ", EXPERT_BYTES = %llu", (unsigned long long)(pg_panels(t->k->O) * ir_panel_bytes(t->k->dtype, t->k->K)));
    if (t->split > 0) cg_cu(t->c, ", SPLIT = %d", t->split);
    if (t->parts > 1) cg_cu(t->c, ", PARTS = %d", t->parts);
    if (t->first_groups > 0)
        cg_cu(t->c, ", FIRST_GROUPS = %llu, FIRST_PANELS = %llu", (unsigned long long)t->first_groups,
              (unsigned long long)pg_panels(t->k->first_O));
    cg_cu(t->c, " };\n");
}

/* Of what leads to the sums only `place` lives on, the epilogue finds its pointers again: two blocks a multiprocessor leave registers for
 * little else than the sums. */
void cg_linear_tiles(const CgLinear *m) {
    CgCuda *c = m->c;
    if (cg_linear_by_warpgroups(m)) {
        cg_linear_warpgroups(m);
        return;
    }
    Tiles t = tiles_of(m);
    uint64_t sums = t.split > 0 ? cg_cuda_few_bytes(c->target) : SLOTS * (uint64_t)t.rows * 64,
             stages = (uint64_t)t.stages * stage_bytes(&t);
    /* chosen experts take a few registers more than that leaves, and so do FAST, and two matrices with rounded rows */
    bool more = m->k->select == PG_CHOSEN || c->target->fast || (m->k->rounds && pg_does(m->k, PG_STEP_DUAL));
    c->two_blocks = t.split == 0 && t.tensor && !more;
    cg_tiles_constants(&t);
    cg_cuda_shared(c, "float4", "sums", stages > sums ? stages : sums);
    if (takes_factor(&t)) cg_cuda_shared(c, "float", "squares_of_rows", (uint64_t)c->target->threads * sizeof(float));
    cg_cuda_count_tiles(c, (uint64_t)t.rows / PG_ROW_BLOCK, t.groups * (uint64_t)t.parts,
                        m->k->select == PG_CHOSEN ? (uint64_t)m->k->E * t.groups : 0);
    if (takes_factor(&t))
        cg_cu(c, "if (first < tiles) gather_squares(squares_of_rows, floats(step, phase, %d), step->ld, K / 16, step->rows);\n",
              PG_LINEAR_SQUARES);
    cg_cuda_tile_loop(c);
    cg_cu(c, "Place place;\n{\n");
    cg_cuda_strides(c);
    cg_linear_sources(m);
    cg_tiles_place(&t);
    cg_tiles_slots(&t);
    cg_tiles_rows(&t);
    print_sums(&t);
    cg_cu(c, "}\n");
    if (c->two_blocks && m->k->select == PG_ALL)
        cg_cu(c, "u32 again = tile;\n"
                 "FIND_ANEW(again); /* kept, the place would take registers that the sums need */\n"
                 "place = place_of_rows(again, count_of(step, phase) * 8, ROWS, GROUPS);\n");
    if (t.parts > 1)
        cg_cu(c,
              "if (!share_few(sums, step->scratch, phase->tile0 + tile / PARTS * PARTS, Share{tile %% PARTS, PARTS}, place.count, "
              "SPLIT)) continue;\n");
    cg_cuda_strides(c);
    cg_tiles_expert(&t);
    if (takes_factor(&t) && m->k->select == PG_CHOSEN) cg_cuda_groups(c, PG_LINEAR_GROUPS);
    cg_linear_epilogue_pointers(m);
    cg_tiles_epilogue(&t);
    cg_cuda_end_tiles(c);
}

void cg_linear_tiles_ahead(const CgLinear *m) {
    CgCuda *c = m->c;
    Tiles t = tiles_of(m);
    cg_tiles_constants(&t);
    cg_cuda_count_tiles(c, (uint64_t)t.rows / PG_ROW_BLOCK, t.groups * (uint64_t)t.parts, 0);
    cg_cu(c,
          "if (first >= tiles) return tiles;\n"
          "const Place place = place_of_rows(first%s, count_of(step, phase) * 8, ROWS, GROUPS);\n",
          t.parts > 1 ? " / PARTS" : "");
    if (m->k->select != PG_SINGLE) cg_cu(c, "const u64 expert = place.expert;\n");
    cg_tiles_slots(&t);
    if (m->k->rounds)
        cg_cu(c, "announce_few_groups<%s>(slots, K, SPLIT);\nreturn tiles;\n", t.type);
    else
        cg_cu(c, "announce_few<%s>(slots, K, SPLIT, %s);\nreturn tiles;\n", t.type,
              t.parts > 1 ? "Share{first % PARTS, PARTS}" : "Share{0, 1}");
}

uint32_t cg_linear_shared_tiles(const CgCudaTarget *target, const PgKernel *kernel) {
    CgCuda c = {.target = target, .kernel = kernel, .form = CG_FEW};
    CgLinear m = {.c = &c, .k = kernel};
    if (kernel->kind != PG_LINEAR || kernel->mode != PG_BLOCK || !cg_linear_in_tiles(&m)) return 0;
    Tiles t = tiles_of(&m);
    return t.parts > 1 ? (uint32_t)(t.groups * (uint64_t)t.parts) : 0;
}
