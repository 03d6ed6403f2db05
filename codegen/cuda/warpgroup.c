/* PG_LINEAR by warpgroups (warpgroup.cuh): two launches, the first of which makes words of x in the scratch memory. The sums of a tile go
 * through the epilogue of all tiles (gemm.c). */
#include "codegen/cuda/tiles.h"

enum {
    WORDS_K = 64,
    ROW_BYTES = 128, /* of a row in a piece: warpgroup.cuh */
    ATOM_BYTES = 8 * ROW_BYTES,
    BARRIERS_BYTES = 2 * 8, /* of a stage */
    WORD_ROWS = 64, /* of a tile of the first launch: THREADS / 4 */
    MOST_ROWS = 256,
    LEAST_ROWS = 64,
    LEAST_STAGES = 3,
    MOST_STAGES = 6,
    QUADS_AT_ONCE = 4, /* of the sums, that a thread takes through the epilogue */
    TYPICAL_ROWS = 8192 /* of a large step: CG_CUDA_MAX_ROWS */
};

/* ---------------------------------------------------------------------------------------------- shapes */

static uint64_t chunks_of(const PgKernel *k) { return ((uint64_t)k->K + WORDS_K - 1) / WORDS_K; }
static int words_of(const CgTiles *t) { return t->c->target->fast ? 1 : 2; }
static uint64_t sums_bytes(const CgTiles *t) { return CG_TILE_SLOTS * (uint64_t)t->rows * 64; }

/* Sums and the ring lie side by side: a tile's first pieces come while the sums of the one before are read. 0: not even one fits. */
static int stages_of(const CgTiles *t) {
    uint64_t taken = CG_CUDA_HELD + sums_bytes(t) + ATOM_BYTES, stage = (uint64_t)t->rows * ROW_BYTES + BARRIERS_BYTES;
    uint64_t fitting = t->c->target->shared > taken ? (t->c->target->shared - taken) / stage : 0;
    return fitting < MOST_STAGES ? (int)fitting : MOST_STAGES;
}

static CgTiles tiles_of(const CgLinear *m) {
    CgTiles t = {.m = m,
                 .c = m->c,
                 .k = m->k,
                 .tensor = true,
                 .parts = 1,
                 .type = cg_cuda_type(m->k->dtype),
                 .slots_of_tile = CG_TILE_SLOTS};
    t.slots = pg_panels(m->k->O) * (pg_does(m->k, PG_STEP_DUAL) ? 2 : 1);
    t.groups = (t.slots + CG_TILE_SLOTS - 1) / CG_TILE_SLOTS;
    t.rows = cg_tiles_fitting_rows(&t, MOST_ROWS, LEAST_ROWS, TYPICAL_ROWS);
    while (t.rows > LEAST_ROWS && stages_of(&t) < LEAST_STAGES) t.rows /= 2;
    t.stages = stages_of(&t);
    return t;
}

bool cg_linear_by_warpgroups(const CgLinear *m) {
    const PgKernel *k = m->k;
    return m->c->target->warpgroups && m->c->form == CG_MANY && ir_dtype(k->dtype)->mma == IR_MMA_16 && !k->rounds &&
           k->K >= WORDS_K && tiles_of(m).stages >= LEAST_STAGES;
}

/* ---------------------------------------------------------------------------------------------- words of x */

/* Rows of words: of positions, where experts are chosen. */
static const char *word_rows(const PgKernel *k) { return k->select == PG_CHOSEN ? "ldp" : "ld"; }

/* `words` of the place. */
static void print_words(const CgTiles *t) {
    cg_cu(t->c,
          "const u64 word_plane = %s * PIECE_UNITS;\n"
          "uint4 *const words = (uint4 *)step->scratch%s + place.row * PIECE_UNITS;\n",
          word_rows(t->k), t->k->x_layout == PG_PLANES ? " + plane * (CHUNKS * WORDS) * word_plane" : "");
}

static void take_scratch(const CgTiles *t) {
    const PgKernel *k = t->k;
    uint64_t row = chunks_of(k) * (uint64_t)words_of(t) * ROW_BYTES * (k->x_layout == PG_PLANES ? (uint64_t)k->E : 1);
    t->c->scratch_per_row = row * (k->select == PG_CHOSEN ? (uint64_t)k->k : 1);
    if (k->select == PG_CHOSEN) t->c->scratch_fixed = row * pg_position_pad(k->E, k->k);
}

/* The first launch: a tile is 64 rows and 64 k. */
static void print_words_part(const CgTiles *t) {
    CgCuda *c = t->c;
    const PgKernel *k = t->k;
    uint64_t chunks = chunks_of(k);
    cg_cu(c, "enum { K = %lld, ROWS = %d, CHUNKS = %llu, GROUPS = CHUNKS, WORDS = %d };\n", (long long)k->K, WORD_ROWS,
          (unsigned long long)chunks, words_of(t));
    cg_cuda_count_tiles(c, WORD_ROWS / PG_ROW_BLOCK, chunks, k->select == PG_CHOSEN ? (uint64_t)k->E * chunks : 0);
    cg_cuda_strides(c);
    cg_linear_sources(t->m);
    cg_cu(c, "for (u32 tile = first; tile < tiles; tile += gridDim.x) {\nPlace place;\n");
    cg_tiles_place(t);
    if (k->y_layout == PG_PLANES && k->x_layout != PG_PLANES) cg_cu(c, "if (plane > 0) break; /* all planes read one x */\n");
    cg_tiles_rows(t);
    print_words(t);
    cg_cu(c, "write_words<%s, %s>(words + place.group * WORDS * word_plane, word_plane, rows, K, place.group * WORDS_K);\n",
          t->type, cg_cuda_truth(c->target->fast));
    cg_cuda_end_tiles(c);
    take_scratch(t);
}

/* ---------------------------------------------------------------------------------------------- products */

static void open_tiles(const CgTiles *t) {
    cg_cu(t->c, "for (u32 tile = first; tile < tiles; tile += gridDim.x) {\nPlace place;\n");
    cg_tiles_place(t);
}

static void print_fetching(const CgTiles *t) {
    cg_cu(t->c, "if (threadIdx.x == MULTIPLIERS) {\n");
    open_tiles(t);
    print_words(t);
    cg_cu(t->c, "fetch_pieces(ring, words, word_plane, place.count, CHUNKS * WORDS);\n}\n}\n");
}

/* What is added to the sums comes from memory, QUADS quads at once: few other warps work while one waits. */
static void print_epilogue(const CgTiles *t) {
    CgCuda *c = t->c;
    const bool addend = pg_does(t->k, PG_STEP_ADDEND), residual = pg_does(t->k, PG_STEP_RESIDUAL);
    static const char turns[] = "#pragma unroll\nfor (u32 turn = 0; turn < QUADS; turn++) {\n"
                                "const u32 i = begin + turn * FINISHERS;\nif (i >= SIDE * ROWS * 4) break;\n";
    CgLinear own = *t->m;
    CgTiles ahead = *t;
    own.ahead = true;
    ahead.m = &own;
    cg_cu(c, "for (u32 begin = threadIdx.x - FIRST_FINISHER; begin < SIDE * ROWS * 4; begin += QUADS * FINISHERS) {\n");
    if (addend) cg_cu(c, "float4 addends[QUADS];\n");
    if (residual) cg_cu(c, "float4 residuals[QUADS];\n");
    if (addend || residual) {
        cg_cu(c, "%s", turns);
        cg_tiles_quad_place(t);
        cg_cu(c, "const u64 at = (panel * %s + row) * 16 + 4 * q;\n", cg_cuda_stride(t->k->y_layout));
        if (addend) cg_cu(c, "addends[turn] = *quad(addend + at);\n");
        if (residual) cg_cu(c, "residuals[turn] = *quad(residual + at);\n");
        cg_cu(c, "}\n");
    }
    cg_cu(c, "%s", turns);
    cg_tiles_quad_place(t);
    if (addend) cg_cu(c, "const float4 addend_ahead = addends[turn];\n");
    if (residual) cg_cu(c, "const float4 residual_ahead = residuals[turn];\n");
    cg_tiles_quad(&ahead);
    cg_cu(c, "}\n}\n");
}

static void print_finishing(const CgTiles *t) {
    cg_cu(t->c, "if (threadIdx.x >= FIRST_FINISHER) {\n");
    open_tiles(t);
    cg_linear_epilogue_pointers(t->m);
    cg_cu(t->c, "BARRIER_OF(SUMS_ARE_READ, SHARERS);\nBARRIER_OF(SUMS_ARE_THERE, SHARERS);\n");
    print_epilogue(t);
    cg_cu(t->c, "}\n}\n");
}

static void print_products_part(const CgTiles *t) {
    CgCuda *c = t->c;
    const PgKernel *k = t->k;
    c->warpgroups = true;
    cg_tiles_constants(t);
    cg_cu(c, "enum { WORDS = %d, CHUNKS = %llu, STAGES = %d, QUADS = %d };\ntypedef WarpgroupTile<%s, K, ROWS, %s, STAGES> Tile;\n",
          words_of(t), (unsigned long long)chunks_of(k), t->stages, QUADS_AT_ONCE, t->type, cg_cuda_truth(c->target->fast));
    cg_cuda_shared(c, "float4", "sums", sums_bytes(t));
    cg_cuda_shared(c, "u8", "pieces", ATOM_BYTES + (uint64_t)t->stages * ((uint64_t)t->rows * ROW_BYTES + BARRIERS_BYTES));
    cg_cuda_count_tiles(c, (uint64_t)t->rows / PG_ROW_BLOCK, t->groups, k->select == PG_CHOSEN ? (uint64_t)k->E * t->groups : 0);
    cg_cuda_strides(c);
    cg_linear_sources(t->m);
    cg_cu(c, "Tile::Pieces ring;\nring.begin(pieces);\n"
             "if (threadIdx.x >= MULTIPLIERS) {\nFEWER_REGISTERS(FINISHING_REGISTERS);\n");
    print_fetching(t);
    print_finishing(t);
    cg_cu(c, "return tiles;\n}\nMORE_REGISTERS(MULTIPLYING_REGISTERS);\n");
    open_tiles(t);
    cg_tiles_slots(t);
    cg_cu(c, "Tile product;\nproduct.multiply(ring, slots);\nBARRIER_OF(SUMS_ARE_READ, SHARERS);\n"
             "product.put(sums);\nBARRIER_OF(SUMS_ARE_THERE, SHARERS);\n");
    cg_cuda_end_tiles(c);
}

void cg_linear_warpgroups(const CgLinear *m) {
    CgTiles t = tiles_of(m);
    m->c->parts = 2;
    if (m->c->part == 0)
        print_words_part(&t);
    else
        print_products_part(&t);
}
