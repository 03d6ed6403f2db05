/* PG_LINEAR: a linear layer with what the passes put around it. A tile is a group of panels (of one expert) and, in PG_BLOCK, 8 rows.
 *
 *   PG_ROW    prologue (norm, rounding) once a worker; then per tile: for each expert of the tile (one, or all of a sum): sums, epilogue
 *   PG_BLOCK  per tile: sums of block_panels × block_rows at a time over the tile's eight rows, epilogue
 */
#include "codegen/llvm/kernels.h"
#include "codegen/llvm/linear.h"
#include "codegen/llvm/tiles.h"
#include "support/diag.h"

enum {
    CHUNK_BYTES = 1 << 20 /* of x that stays in a core's cache while panel groups pass by */
};

CgLinearShape cg_linear_shape(const CgSchedule *schedule, const PgKernel *k) {
    CgLinearShape s = {
        .panels = (unsigned)schedule->panels, .rows = (unsigned)schedule->rows, .span = (unsigned)schedule->span, .parts = 1};
    uint64_t panels = pg_panels(k->O), together = (uint64_t)s.panels * s.span;
    if (k->mode == PG_BLOCK) s.parts = PG_ROW_BLOCK / s.rows * (unsigned)schedule->blocks;
    s.groups = (panels + together - 1) / together * s.span;
    return s;
}

/* What stays the same for all tiles of a call. */
typedef struct Linear {
    CgEmit *e;
    const PgKernel *k;
    CgLinearShape shape;
    CgValue x; /* its first plane: panels, or rounded rows */
    CgValue x_ld; /* i64: rows, or positions, that stand side by side there */
    CgValue x_plane; /* bytes to the next plane of x (position, in PG_ROW), or NULL: the same x for all */
    CgValue gathered; /* scratch: x of the rows of eight chosen positions, side by side; or NULL */
    CgValue sums, sums2, total;
    CgLinearRoom room; /* PG_BLOCK, or weights that are widened: what the sums of a tile are made in */
    CgValue arranged; /* PG_BLOCK with rounded inputs: for weights that are arranged, or NULL */
} Linear;

/* Rows of x: the plane they are of, how many stand side by side there, and the first of them. */
typedef struct Rows {
    CgValue plane, ld, first;
} Rows;

/* Tiles that a worker claims at once. */
static uint32_t claim_of(const PgKernel *k, const CgLinearShape *s, uint64_t claim) {
    uint64_t work = s->panels * (uint64_t)k->K, few;
    if (k->mode == PG_ROW)
        few = claim / (s->panels * ir_panel_bytes(k->dtype, k->K));
    else
        few = claim / (work * s->parts * s->rows);
    return few < 1 ? 1 : few > 16 ? 16 : (uint32_t)few;
}

/* Planes of x that a call of PG_ROW reads. */
static uint64_t x_planes(const PgKernel *k) {
    switch (k->x_layout) {
    case PG_ROWS: return 1;
    case PG_PLANES: return (uint64_t)k->E;
    case PG_POSITIONS: return (uint64_t)k->k;
    }
    return 1;
}

static CgValue plane_of(const Linear *m, CgValue index) {
    return m->x_plane == NULL ? m->x : cg_at(m->e, m->x, cg_imul(m->e, index, m->x_plane));
}

static CgValue panel_step(const Linear *m) { return cg_imul_n(m->e, m->x_ld, 64); }

/* x is now one row in each of `planes`, `bytes` apart. */
static void set_planes(Linear *m, CgValue x, uint64_t planes, uint64_t bytes) {
    m->x = x;
    m->x_ld = cg_i64(m->e, 1);
    m->x_plane = planes == 1 ? NULL : cg_i64(m->e, bytes);
}

/* What a prologue writes to scratch is there still when the worker claims more tiles of the phase. */
static CgIf unless_prepared(CgEmit *e) {
    return cg_if(e, cg_icmp(e, LLVMIntEQ, cg_arg_u32(e, offsetof(RtArgs, prepared)), cg_i64(e, 0)));
}

/* PG_ROW: the normed x goes to scratch, [plane][K/16][16]. */
static void norm_prologue(Linear *m) {
    CgEmit *e = m->e;
    uint64_t planes = x_planes(m->k), bytes = pg_panels(m->k->K) * 64;
    CgValue out = cg_scratch(e, planes * bytes), w = cg_operand(e, PG_LINEAR_NORM_W);
    CgValue b = m->k->norm == PG_LAYER ? cg_operand(e, PG_LINEAR_NORM_B) : NULL;
    CgIf first = unless_prepared(e);
    CgLoop plane = cg_for_n(e, planes);
    cg_norm_row(e, plane_of(m, plane.index), panel_step(m), w, b, cg_at(e, out, cg_imul_n(e, plane.index, bytes)), cg_i64(e, 64),
                m->k->K);
    cg_end_for(e, &plane);
    cg_end_if(e, &first);
    set_planes(m, out, planes, bytes);
}

/* PG_ROW: x goes to scratch as rounded rows, a plane each. */
static void round_prologue(Linear *m) {
    CgEmit *e = m->e;
    uint64_t planes = x_planes(m->k), bytes = pg_rounded_bytes(m->k->K);
    CgValue out = cg_scratch(e, planes * bytes);
    CgIf first = unless_prepared(e);
    CgLoop plane = cg_for_n(e, planes);
    CgValue to = cg_at(e, out, cg_imul_n(e, plane.index, bytes));
    CgRounded row = cg_rounded_at(e, to, cg_i64(e, 1), cg_i64(e, 0), m->k->K);
    cg_round_row(e, plane_of(m, plane.index), panel_step(m), m->k->K, &row);
    cg_end_for(e, &plane);
    cg_end_if(e, &first);
    set_planes(m, out, planes, bytes);
}

static Linear begin(CgEmit *e) {
    const PgKernel *k = e->kernel;
    Linear m = {.e = e, .k = k, .shape = cg_linear_shape(&e->schedule, k)};
    uint64_t sums = m.shape.panels * m.shape.rows * m.shape.parts;
    bool rounded = pg_reads_rounded(k); /* x is what PG_ROUND has made */
    e->groups = (uint32_t)m.shape.groups;
    e->claim = claim_of(k, &m.shape, (uint64_t)e->schedule.claim);
    m.x = cg_operand(e, PG_LINEAR_X);
    m.x_ld = cg_stride(e, k->x_layout);
    if (k->x_layout == PG_PLANES)
        m.x_plane = rounded ? cg_imul_n(e, m.x_ld, pg_rounded_row_bytes(k)) : cg_plane_bytes(e, k->K);
    else if (k->x_layout == PG_POSITIONS && k->mode == PG_ROW)
        m.x_plane = cg_i64(e, 64);
    if (k->norm != PG_NO_NORM) {
        if (k->mode == PG_BLOCK) SU_BUG("a linear layer of row blocks takes no norm");
        norm_prologue(&m);
    }
    if (k->rounds && k->mode == PG_ROW) round_prologue(&m);
    if (k->mode == PG_BLOCK && k->select == PG_CHOSEN && k->x_layout == PG_ROWS)
        m.gathered = cg_scratch(e, PG_ROW_BLOCK * (rounded ? pg_rounded_row_bytes(k) : pg_panels(k->K) * 64));
    m.sums = cg_var_array(e, e->vec, sums);
    m.sums2 = pg_does(k, PG_STEP_DUAL) ? cg_var_array(e, e->vec, sums) : NULL;
    if (!rounded && (k->mode == PG_BLOCK || cg_widens(k))) m.room.open = cg_var_array(e, e->vec, sums);
    if (cg_widens(k)) m.room.wide = cg_scratch(e, cg_linear_wide_bytes(&m.shape));
    uint64_t arranged = k->bf16_x ? cg_linear_bf16_arranged_bytes(e, &m.shape) : cg_linear_arranged_bytes(e, &m.shape);
    if (arranged > 0) m.arranged = cg_scratch(e, arranged);
    m.total = pg_sum(k) != PG_NO_SUM ? cg_var_array(e, e->vec, m.shape.panels) : NULL;
    return m;
}

/* Panels of the group that this tile owns. With a span, groups side by side are woven: of span · panels panels group j has j,
 * j + span … A last group that is not full begins early: then the panels before are its neighbour's. */
static void place_group(const Linear *m, CgValue group, CgLinearTile *t) {
    CgEmit *e = m->e;
    uint64_t panels = pg_panels(m->k->O), span = m->shape.span, together = m->shape.panels * span;
    CgValue nth = cg_urem_n(e, group, span), begin_at = cg_imul_n(e, cg_udiv_n(e, group, span), together);
    CgValue start = panels % together == 0 ? begin_at : cg_umin(e, begin_at, cg_i64(e, panels - together));
    t->panel0 = cg_iadd(e, start, nth);
    t->span = m->shape.span;
    t->first = cg_i64(e, 0);
    t->end = cg_i64(e, m->shape.panels);
    if (panels % together == 0) return;
    CgValue foreign = cg_isub(e, begin_at, start), others = cg_isub(e, cg_umax(e, foreign, nth), nth);
    t->first = cg_udiv_n(e, cg_iadd_n(e, others, span - 1), span);
}

/* With n matrices side by side: so many streams of weights in place of one that changes from panel to panel. */
static void rounded_row_sums_of(const Linear *m, unsigned n, const CgValue w[], const Rows *x, const CgValue sums[]) {
    CgRounded row = cg_rounded_at(m->e, x->plane, x->ld, x->first, m->k->K);
    cg_linear_rounded_row(m->e, &m->shape, n, w, &row, sums);
}

static void rounded_sums_of(const Linear *m, CgValue w, const Rows *x, CgValue parts, CgValue sums) {
    CgRounded rows = cg_rounded_at(m->e, x->plane, x->ld, x->first, m->k->K);
    cg_linear_rounded_parts(m->e, &m->shape, w, &rows, parts, m->arranged, sums);
}

static void sums_of(const Linear *m, CgValue w, const Rows *x, CgValue parts, CgValue sums) {
    CgValue first = cg_at(m->e, x->plane, cg_imul_n(m->e, x->first, 64)), step = cg_imul_n(m->e, x->ld, 64);
    if (m->k->rounds && parts == NULL)
        rounded_row_sums_of(m, 1, &w, x, &sums);
    else if (m->k->rounds)
        rounded_sums_of(m, w, x, parts, sums);
    else if (m->k->bf16_x)
        cg_linear_bf16_parts(m->e, &m->shape, w, first, step, parts, m->arranged, sums);
    else if (parts == NULL && m->room.open == NULL)
        cg_linear_sums(m->e, &m->shape, w, first, step, sums);
    else
        cg_linear_sums_of_parts(m->e, &m->shape, w, first, step, parts == NULL ? cg_i64(m->e, 1) : parts, &m->room, sums);
}

/* Sums of the tile with the weights of `expert` (i64), for rows of x: one, or `parts` (i64) times shape.rows. */
static void multiply(const Linear *m, CgLinearTile *t, CgValue expert, const Rows *x, CgValue parts) {
    CgEmit *e = m->e;
    uint64_t panels = pg_panels(m->k->O), bytes = ir_panel_bytes(m->k->dtype, m->k->K);
    CgValue offset = cg_imul_n(e, t->panel0, bytes);
    if (m->k->select != PG_SINGLE) offset = cg_iadd(e, offset, cg_imul_n(e, expert, panels * bytes));
    t->sums = m->sums;
    t->sums2 = m->sums2;
    bool dual = pg_does(m->k, PG_STEP_DUAL);
    CgValue w[2] = {cg_at(e, cg_operand(e, PG_LINEAR_W), offset), dual ? cg_at(e, cg_operand(e, PG_LINEAR_W2), offset) : NULL};
    if (dual && m->k->rounds && parts == NULL && e->target->dot_dual) {
        rounded_row_sums_of(m, 2, w, x, (CgValue[]){m->sums, m->sums2});
    } else {
        sums_of(m, w[0], x, parts, m->sums);
        if (dual) sums_of(m, w[1], x, parts, m->sums2);
    }
    if (pg_does(m->k, PG_STEP_BIAS)) {
        CgValue plane = m->k->select == PG_SINGLE ? cg_i64(e, 0) : cg_imul_n(e, expert, panels * 64);
        t->bias = cg_at(e, cg_operand(e, PG_LINEAR_BIAS), plane);
        t->bias2 = dual ? cg_at(e, cg_operand(e, PG_LINEAR_BIAS2), plane) : NULL;
    }
}

static CgValue route(const Linear *m, CgValue slot) {
    return cg_wide(m->e, cg_load_i32(m->e, cg_at(m->e, cg_operand(m->e, PG_LINEAR_EXPERTS), cg_imul_n(m->e, slot, 4))));
}

/* ---------------------------------------------------------------------------------------------- one row */

/* Multiplies with expert (or slot, or plane) j of the row and finishes or adds. */
static void row_part(const Linear *m, CgLinearTile *t, CgValue j) {
    CgEmit *e = m->e;
    const PgKernel *k = m->k;
    bool routed = k->select == PG_CHOSEN || (k->select == PG_ALL && pg_sum(k) == PG_WEIGHTED_SUM);
    CgValue expert = routed ? route(m, j) : j;
    CgValue plane = k->x_layout == PG_PLANES && pg_sum(k) == PG_WEIGHTED_SUM ? route(m, j) : j;
    multiply(m, t, expert, &(Rows){plane_of(m, plane), m->x_ld, cg_i64(e, 0)}, NULL);
    if (pg_sum(k) == PG_WEIGHTED_SUM)
        t->combine_weight = cg_load_f32(e, cg_at(e, cg_operand(e, PG_LINEAR_COMBINE_W), cg_imul_n(e, j, 4)));
    cg_linear_finish(e, &m->shape, t);
}

static void row_tile(const Linear *m, CgValue tile) {
    CgEmit *e = m->e;
    const PgKernel *k = m->k;
    CgLinearTile t = {.row0 = cg_i64(e, 0), .y = pg_does(k, PG_STEP_LOGITS) ? NULL : cg_operand(e, PG_LINEAR_Y)};
    CgValue j = cg_udiv_n(e, tile, m->shape.groups);
    place_group(m, cg_urem_n(e, tile, m->shape.groups), &t);
    if (pg_sum(k) == PG_NO_SUM) {
        if (k->y_layout == PG_PLANES)
            t.y = cg_at(e, t.y, cg_imul(e, j, cg_plane_bytes(e, k->O)));
        else if (k->y_layout == PG_POSITIONS)
            t.row0 = j;
        else
            j = cg_i64(e, 0);
        row_part(m, &t, j);
        return;
    }
    t.total = m->total;
    for (unsigned p = 0; p < m->shape.panels; p++) /* -0 + y is y: a plain sum starts with its first term */
        cg_store_vec(e, cg_at_n(e, t.total, p * 64), pg_sum(k) == PG_WEIGHTED_SUM ? cg_zero(e) : cg_vec(e, -0.0f));
    CgLoop parts = cg_for_n(e, (uint64_t)(pg_sum(k) == PG_WEIGHTED_SUM ? k->k : k->E));
    row_part(m, &t, parts.index);
    cg_end_for(e, &parts);
    cg_linear_finish_total(e, &t);
}

/* ---------------------------------------------------------------------------------------------- blocks of rows */

/* Blocks of eight rows (output rows, positions) in the step: the count of this phase. */
static CgValue block_count(const Linear *m) {
    CgEmit *e = m->e;
    if (m->k->y_layout == PG_POSITIONS) {
        CgValue positions = cg_imul_n(e, cg_rows(e), (uint64_t)m->k->k);
        CgValue full = cg_udiv_n(e, cg_iadd_n(e, positions, 7), 8);
        return cg_iadd_n(e, cg_iadd(e, full, cg_umin(e, positions, cg_i64(e, (uint64_t)m->k->E))), UINT64_MAX);
    }
    CgValue rows = pg_does(m->k, PG_STEP_LOGITS) ? cg_arg_u32(e, offsetof(RtArgs, n_out_rows)) : cg_rows(e);
    return cg_udiv_n(e, cg_iadd_n(e, rows, 7), 8);
}

static void gather_floats(const Linear *m, const CgValue *rows) {
    CgEmit *e = m->e;
    CgLoop panel = cg_for_n(e, pg_panels(m->k->K));
    CgValue from = cg_at(e, m->x, cg_imul(e, panel.index, panel_step(m)));
    CgValue to = cg_at(e, m->gathered, cg_imul_n(e, panel.index, PG_ROW_BLOCK * 64));
    for (unsigned i = 0; i < PG_ROW_BLOCK; i++)
        cg_store_vec(e, cg_at_n(e, to, i * 64), cg_load_vec(e, cg_at(e, from, cg_imul_n(e, rows[i], 64))));
    cg_end_for(e, &panel);
}

static void gather_rounded(const Linear *m, const CgValue *rows) {
    CgEmit *e = m->e;
    for (unsigned i = 0; i < PG_ROW_BLOCK; i++) {
        CgRounded from = cg_rounded_at(e, m->x, m->x_ld, rows[i], m->k->K);
        CgRounded to = cg_rounded_at(e, m->gathered, cg_i64(e, PG_ROW_BLOCK), cg_i64(e, i), m->k->K);
        cg_copy_rounded(e, &from, &to, m->k->K);
    }
}

static void gather_bf16(const Linear *m, const CgValue *rows) {
    CgEmit *e = m->e;
    for (unsigned i = 0; i < PG_ROW_BLOCK; i++)
        cg_copy_bf16(e, cg_bf16_row(e, m->x, rows[i]), cg_imul_n(e, m->x_ld, CG_BF16_GROUP),
                     cg_bf16_row(e, m->gathered, cg_i64(e, i)), cg_i64(e, PG_ROW_BLOCK * CG_BF16_GROUP), m->k->K);
}

/* Copies the rows of eight positions side by side into scratch: the microkernel then finds them at a constant stride. */
static void gather_rows(const Linear *m, CgValue row_of, CgValue position0) {
    CgEmit *e = m->e;
    CgValue rows[PG_ROW_BLOCK];
    for (unsigned i = 0; i < PG_ROW_BLOCK; i++)
        rows[i] = cg_wide(e, cg_load_i32(e, cg_at(e, row_of, cg_imul_n(e, cg_iadd_n(e, position0, i), 4))));
    if (m->k->rounds)
        gather_rounded(m, rows);
    else if (m->k->bf16_x)
        gather_bf16(m, rows);
    else
        gather_floats(m, rows);
}

/* `blocks` (i64) row blocks from row0 of y on. */
static void block_rows(const Linear *m, CgLinearTile *t, CgValue expert, const Rows *x, CgValue row0, CgValue blocks) {
    CgEmit *e = m->e;
    uint64_t bytes = m->shape.panels * m->shape.rows * 64;
    CgValue parts = cg_imul_n(e, blocks, PG_ROW_BLOCK / m->shape.rows);
    multiply(m, t, expert, x, parts);
    CgLoop part = cg_for(e, cg_i64(e, 0), parts, 1);
    CgValue sums = cg_imul_n(e, part.index, bytes);
    t->row0 = cg_iadd(e, row0, cg_imul_n(e, part.index, m->shape.rows));
    t->sums = cg_at(e, m->sums, sums);
    t->sums2 = pg_does(m->k, PG_STEP_DUAL) ? cg_at(e, m->sums2, sums) : NULL;
    cg_linear_finish(e, &m->shape, t);
    cg_end_for(e, &part);
}

/* The order of tiles in PG_BLOCK: chunks of row blocks whose x fits into a core's cache; in a chunk plane by plane, group by group;
 * there some row blocks a tile, so that the weights of a group are read once a chunk. */
typedef struct Order {
    CgValue blocks; /* i64: row blocks of the step */
    CgValue tiles; /* i64: runs of row blocks that are a tile; surplus tiles of the phase return */
    CgValue chunk; /* i64: of them in a chunk: as many as the cache takes, or a little less, so that chunks are equal */
    uint64_t size; /* row blocks of a tile */
} Order;

static CgValue divided_up(CgEmit *e, CgValue n, CgValue by) { return cg_udiv(e, cg_iadd(e, cg_iadd_n(e, n, UINT64_MAX), by), by); }

static Order order_of(const Linear *m) {
    CgEmit *e = m->e;
    Order o = {.blocks = block_count(m), .size = m->shape.parts * m->shape.rows / PG_ROW_BLOCK};
    uint64_t most = CHUNK_BYTES / (o.size * PG_ROW_BLOCK * 4 * (uint64_t)m->k->K);
    o.tiles = divided_up(e, o.blocks, cg_i64(e, o.size));
    CgValue chunks = divided_up(e, o.tiles, cg_i64(e, most < 2 ? 2 : most));
    o.chunk = divided_up(e, o.tiles, cg_umax(e, chunks, cg_i64(e, 1)));
    return o;
}

/* Which plane and group a tile is of, and its first row block. */
static void place_tile(const Linear *m, const Order *o, CgValue tile, CgValue *out_plane, CgValue *out_group, CgValue *out_block) {
    CgEmit *e = m->e;
    uint64_t planes = m->k->y_layout == PG_PLANES ? (uint64_t)m->k->E : 1;
    CgValue of_chunk = cg_imul_n(e, o->chunk, planes * m->shape.groups);
    CgValue first = cg_imul(e, cg_udiv(e, tile, of_chunk), o->chunk), rest = cg_urem(e, tile, of_chunk);
    CgValue here = cg_umin(e, cg_isub(e, o->tiles, first), o->chunk), outer = cg_udiv(e, rest, here);
    *out_block = cg_imul_n(e, cg_iadd(e, first, cg_urem(e, rest, here)), o->size);
    *out_plane = cg_udiv_n(e, outer, m->shape.groups);
    *out_group = cg_urem_n(e, outer, m->shape.groups);
}

/* A tile of positions: of one expert, whose rows may lie anywhere. */
static void position_tile(const Linear *m, CgLinearTile *t, CgValue row0, CgValue block) {
    CgEmit *e = m->e;
    CgValue table = cg_operand(e, PG_LINEAR_GROUPS), one = cg_i64(e, 1);
    CgValue used = cg_load_i32(e, cg_at_n(e, cg_group_start(e, table), (uint64_t)m->k->E * 4));
    CgIf here = cg_if(e, cg_icmp(e, LLVMIntULT, row0, cg_wide(e, used)));
    CgValue expert = cg_wide(e, cg_load_i32(e, cg_at(e, cg_group_expert_of(e, table), cg_imul_n(e, block, 4))));
    if (m->gathered != NULL) {
        gather_rows(m, cg_group_row_of(e, table), row0);
        block_rows(m, t, expert, &(Rows){m->gathered, cg_i64(e, PG_ROW_BLOCK), cg_i64(e, 0)}, row0, one);
    } else {
        block_rows(m, t, expert, &(Rows){m->x, m->x_ld, row0}, row0, one);
    }
    cg_end_if(e, &here);
}

static void block_tile(const Linear *m, const Order *o, CgValue tile) {
    CgEmit *e = m->e;
    const PgKernel *k = m->k;
    CgLinearTile t = {.y = pg_does(k, PG_STEP_LOGITS) ? NULL : cg_operand(e, PG_LINEAR_Y)};
    CgValue plane, group, block;
    place_tile(m, o, tile, &plane, &group, &block);
    CgValue row0 = cg_imul_n(e, block, PG_ROW_BLOCK);
    place_group(m, group, &t);
    if (k->select == PG_CHOSEN) {
        position_tile(m, &t, row0, block);
        return;
    }
    if (k->y_layout == PG_PLANES) t.y = cg_at(e, t.y, cg_imul(e, plane, cg_plane_bytes(e, k->O)));
    CgValue x = k->x_layout == PG_PLANES ? plane_of(m, plane) : m->x;
    CgValue blocks = cg_umin(e, cg_isub(e, o->blocks, block), cg_i64(e, o->size));
    block_rows(m, &t, plane, &(Rows){x, m->x_ld, row0}, row0, blocks);
}

/* Tiles are counted as if each took one row block: those past the last are surplus. */
static void block_tiles(const Linear *m) {
    CgEmit *e = m->e;
    uint64_t planes = m->k->y_layout == PG_PLANES ? (uint64_t)m->k->E : 1;
    Order o = order_of(m);
    if (e->schedule.tiles) cg_tiles_begin(e);
    CgLoop tiles = cg_for(e, e->tile0, cg_umin(e, e->tile1, cg_imul_n(e, o.tiles, planes * m->shape.groups)), 1);
    block_tile(m, &o, tiles.index);
    cg_end_for(e, &tiles);
    if (e->schedule.tiles) cg_tiles_end(e);
}

void cg_emit_linear(CgEmit *e) {
    Linear m = begin(e);
    if (e->kernel->mode == PG_BLOCK) {
        if (pg_sum(e->kernel) != PG_NO_SUM) SU_BUG("a linear layer of row blocks sums no experts: PG_COMBINE does");
        block_tiles(&m);
        return;
    }
    CgLoop tiles = cg_for_tiles(e);
    row_tile(&m, tiles.index);
    cg_end_for(e, &tiles);
}
