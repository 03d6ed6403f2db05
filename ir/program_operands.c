#include "ir/program_operands.h"

#define MOST ((uint64_t)1 << 56)

static uint64_t times(uint64_t a, uint64_t b) { return a != 0 && b > MOST / a ? MOST : a * b; }
static uint64_t count(int64_t n) { return n > 0 ? (uint64_t)n : 0; }

/* Rows of so many bytes. Positions have padding between experts in PG_BLOCK. */
static void size_rows(PgOperand *o, const PgKernel *k, PgForm form, PgLayout layout, uint64_t row) {
    o->form = form;
    o->layout = layout;
    switch (layout) {
    case PG_ROWS: o->per_row = row; return;
    case PG_PLANES: o->per_row = times(row, count(k->E)); return;
    case PG_POSITIONS:
        o->per_row = times(row, count(k->k));
        o->fixed = k->mode == PG_BLOCK ? times(row, pg_position_pad(k->E, k->k)) : 0;
        return;
    }
}

static void size_value(PgOperand *o, const PgKernel *k, PgLayout layout, int64_t width, int64_t N) {
    size_rows(o, k, PG_FORM_VALUE, layout, times(times(pg_panels(width), PG_LANES * sizeof(float)), count(N)));
}

static void size_groups(PgOperand *o, const PgKernel *k) {
    uint64_t pad = pg_position_pad(k->E, k->k);
    o->form = PG_FORM_GROUPS;
    o->per_row = times(3 * sizeof(int32_t), count(k->k));
    o->fixed = times(sizeof(int32_t), count(k->E) + 1 + pad / 8 + pad);
}

static void size_weight(PgOperand *o, PgForm form, int64_t planes, int64_t O, int64_t K) {
    o->form = form;
    o->planes = planes;
    o->O = O;
    o->K = K;
}

static void size_state(PgOperand *o, int64_t channels, int64_t elements) {
    o->form = PG_FORM_STATE;
    o->fixed = times(times(pg_panels(channels), PG_LANES * sizeof(float)), count(elements));
}

int pg_operands(const PgKernel *k, PgOperand out[PG_OPERAND_ROWS]) {
    int n = 0;
#define VALUE(layout, width, N) size_value(o, k, (layout), (width), (N))
#define ROUNDED(layout) size_rows(o, k, PG_FORM_ROUNDED, (layout), pg_rounded_row_bytes(k))
#define INDICES (o->form = PG_FORM_INDICES, o->per_row = times(sizeof(int32_t), count(k->k)))
#define GROUPS size_groups(o, k)
#define PER_ROW(bytes) (o->form = PG_FORM_VALUE, o->per_row = count(bytes))
#define PANELS(planes, O, K) size_weight(o, PG_FORM_PANELS, (planes), (O), (K))
#define VECTOR(planes, O) size_weight(o, PG_FORM_VECTOR, (planes), (O), 1)
#define CHANNELS(planes, O, N) size_weight(o, PG_FORM_CHANNELS, (planes), (O), (N))
#define MIXED(planes, O, N) size_weight(o, PG_FORM_MIXED, (planes), (O), (N))
#define STATE(channels, elements) size_state(o, (channels), (elements))
#define PG_OPERAND(kind_, slot_, name_, access_, need_, form_)                                                                     \
    if (k->kind == (kind_) && n < PG_OPERAND_ROWS) {                                                                               \
        PgOperand *o = &out[n++];                                                                                                  \
        *o = (PgOperand){.name = name_, .slot = slot_, .access = access_, .need = need_};                                          \
        form_;                                                                                                                     \
    }
#include "ir/operands.def"
    return n;
}
