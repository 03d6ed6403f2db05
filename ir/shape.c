/* Shape rules: the types of an operation's results from those of its operands, one rule a row of ops.def. The letters are
 * those of ops.def. A rule fills out[] and returns NULL, or says what does not fit. */
#include <string.h>

#include "ir/internal.h"
#include "support/size.h"

typedef struct Rule {
    const IrType *in[IR_MAX_OPERANDS]; /* NULL: absent */
    int n;
    const IrAttr *attrs;
    IrType *out;
} Rule;

/* ---------------------------------------------------------------------------------------------- words of the rules */

#define NEED(condition, why)                                                                                                       \
    do {                                                                                                                           \
        if (!(condition)) return why;                                                                                              \
    } while (0)

/* f32 with the rows in front and `rank` dimensions. */
static bool rows(const IrType *t, int rank) { return t->dtype == IR_F32 && t->rank == rank && t->dim[0] == IR_R; }
/* [R,…] or [R,P,…]: `rank` or one more. */
static bool rows_or_planes(const IrType *t, int rank) { return rows(t, rank) || rows(t, rank + 1); }
/* A constant: no rows, any float. */
static bool constant(const IrType *t, int rank) { return t->dtype != IR_I32 && t->rank == rank && t->dim[0] != IR_R; }
static bool indices(const IrType *t) { return t->dtype == IR_I32 && t->rank == 2 && t->dim[0] == IR_R; }
static bool row_numbers(const IrType *t) { return t->dtype == IR_I32 && t->rank == 1 && t->dim[0] == IR_R; }
static int64_t last(const IrType *t) { return t->dim[t->rank - 1]; }

/* The letters of dimensions: row, expert, slot (k), channel, input, state (n), tap, position; ? any. */
static IrDim dim_of(char letter) {
    static const char letters[IR_DIM_COUNT + 1] = "?rekcintp";
    return (IrDim)(strchr(letters, letter) - letters);
}

static void set_roles(IrType *type, const char *letters) {
    for (int i = 0; i < type->rank && i < IR_MAX_RANK; i++) type->role[i] = (uint8_t)dim_of(letters[i]);
}

/* f32 with a row dimension, and others behind it: f32_of("rec", E, O, 0). */
static IrType f32_of(const char *letters, int64_t a, int64_t b, int64_t c) {
    IrType type = {.dtype = IR_F32, .rank = (int)strlen(letters), .dim = {IR_R, a, b, c}};
    set_roles(&type, letters);
    return type;
}

/* The same with planes of the kind that x has. */
static IrType f32_like(const IrType *x, const char *letters, int64_t a, int64_t b, int64_t c) {
    IrType type = {.dtype = IR_F32, .rank = (int)strlen(letters), .dim = {IR_R, a, b, c}};
    set_roles(&type, letters);
    type.role[1] = x->role[1];
    return type;
}

/* Are a's dimensions from i on equal to those of b from j on? */
static bool same_tail(const IrType *a, int i, const IrType *b, int j) {
    if (a->rank - i != b->rank - j) return false;
    return memcmp(a->dim + i, b->dim + j, (size_t)(a->rank - i) * sizeof *a->dim) == 0;
}

/* ---------------------------------------------------------------------------------------------- rows in, rows out */

static const char *shape_embed(Rule *r) {
    NEED(row_numbers(r->in[0]), "tokens must be i32[rows]");
    NEED(constant(r->in[1], 2), "the table must be [V,D]");
    r->out[0] = f32_of("rc", last(r->in[1]), 0, 0);
    return NULL;
}

static const char *shape_rms_norm(Rule *r) {
    NEED(rows_or_planes(r->in[0], 2), "x must be f32[rows,K] or f32[rows,P,K]");
    int64_t K = last(r->in[0]), runs = r->attrs[IR_RMS_NORM_runs].i;
    NEED(runs >= 1 && runs <= K && K % runs == 0, "runs must be at least 1 and divide K");
    NEED(constant(r->in[1], 1) && (last(r->in[1]) == K || last(r->in[1]) == K / runs),
         "the weight must be [K] or [K/runs], K as in x");
    r->out[0] = *r->in[0];
    return NULL;
}

static const char *shape_layer_norm(Rule *r) {
    NEED(rows(r->in[0], 2), "x must be f32[rows,K]");
    for (int i = 1; i <= 2; i++)
        NEED(constant(r->in[i], 1) && last(r->in[i]) == last(r->in[0]), "weight and bias must be [K], K as in x");
    r->out[0] = *r->in[0];
    return NULL;
}

/* The flag of the three linear operations, in the same place of each. */
_Static_assert((int)IR_LINEAR_rounds == (int)IR_LINEAR_ALL_rounds && (int)IR_LINEAR_rounds == (int)IR_LINEAR_ROUTED_rounds,
               "linear operations have the same attributes");

static const char *check_rounds(const Rule *r) {
    int64_t rounds = r->attrs[IR_LINEAR_rounds].i;
    NEED(rounds == 0 || rounds == 1, "rounds must be 0 or 1");
    NEED(rounds == 0 || ir_is_blocks(r->in[1]->dtype), "rounds must be 0 where the weight is neither q8 nor q4");
    return NULL;
}

static const char *shape_linear(Rule *r) {
    NEED(rows_or_planes(r->in[0], 2), "x must be f32[rows,K] or f32[rows,P,K]");
    NEED(constant(r->in[1], 2) && last(r->in[1]) == last(r->in[0]), "the weight must be [O,K], K as in x");
    r->out[0] = *r->in[0];
    r->out[0].dim[r->in[0]->rank - 1] = r->in[1]->dim[0];
    return check_rounds(r);
}

static const char *shape_linear_all(Rule *r) {
    const IrType *x = r->in[0], *w = r->in[1];
    NEED(rows_or_planes(x, 2), "x must be f32[rows,K] or f32[rows,E,K]");
    NEED(constant(w, 3) && last(w) == last(x), "the weight must be [E,O,K], K as in x");
    NEED(x->rank == 2 || x->dim[1] == w->dim[0], "x has another number of experts than the weight");
    r->out[0] = f32_of("rec", w->dim[0], w->dim[1], 0);
    return check_rounds(r);
}

static const char *shape_linear_routed(Rule *r) {
    const IrType *x = r->in[0], *w = r->in[1], *i = r->in[2];
    NEED(rows_or_planes(x, 2), "x must be f32[rows,K] or f32[rows,k,K]");
    NEED(constant(w, 3) && last(w) == last(x), "the weight must be [E,O,K], K as in x");
    NEED(indices(i) && last(i) <= w->dim[0], "the expert indices must be i32[rows,k] with k <= E");
    NEED(x->rank == 2 || x->dim[1] == last(i), "x has another number of positions than the expert indices");
    r->out[0] = f32_of("rkc", last(i), w->dim[1], 0);
    return check_rounds(r);
}

static const char *shape_slice(Rule *r) {
    const IrType *x = r->in[0];
    int64_t start = r->attrs[IR_SLICE_start].i, count = r->attrs[IR_SLICE_count].i;
    NEED(rows_or_planes(x, 2), "x must be f32[rows,K] or f32[rows,P,K]");
    NEED(start >= 0 && count >= 1 && count <= last(x) && start <= last(x) - count, "the slice reaches past x");
    r->out[0] = *x;
    r->out[0].dim[x->rank - 1] = count;
    return NULL;
}

static const char *shape_split(Rule *r) {
    const IrType *x = r->in[0];
    int64_t start = r->attrs[IR_SPLIT_start].i, count = r->attrs[IR_SPLIT_count].i, planes = r->attrs[IR_SPLIT_planes].i;
    NEED(rows(x, 2), "x must be f32[rows,K]");
    NEED(start >= 0 && start < last(x) && count >= 1 && planes >= 1 && planes <= (last(x) - start) / count,
         "the planes reach past x");
    r->out[0] = f32_of("rec", planes, count, 0);
    return NULL;
}

static const char *shape_transpose(Rule *r) {
    const IrType *w = r->in[0];
    NEED(constant(w, 3) && w->dim[0] <= INT32_MAX / w->dim[2], "w must be a weight [H,P,J]");
    const int64_t whole = w->dim[0] * w->dim[2];
    r->out[0] = w->dim[1] == 1 ? (IrType){.dtype = w->dtype, .rank = 1, .dim = {whole}}
                               : (IrType){.dtype = w->dtype, .rank = 2, .dim = {w->dim[1], whole}};
    set_roles(r->out, w->dim[1] == 1 ? "c" : "ec");
    return NULL;
}

static const char *shape_repeat(Rule *r) {
    const IrType *x = r->in[0];
    int64_t times = r->attrs[IR_REPEAT_times].i, run = r->attrs[IR_REPEAT_run].i;
    NEED(rows_or_planes(x, 2), "x must be f32[rows,H] or f32[rows,P,H]");
    NEED(times >= 1 && times <= INT32_MAX && last(x) <= INT32_MAX / times, "times must be at least 1");
    NEED(run >= 1 && last(x) % run == 0, "run must divide H");
    r->out[0] = *x;
    r->out[0].dim[x->rank - 1] = last(x) * times;
    return NULL;
}

static const char *shape_take(Rule *r) {
    const IrType *w = r->in[0];
    int64_t dim = r->attrs[IR_TAKE_dim].i, start = r->attrs[IR_TAKE_start].i, count = r->attrs[IR_TAKE_count].i;
    NEED(constant(w, w->rank) && dim >= 0 && dim < w->rank, "w must be a weight that has the dimension");
    NEED(start >= 0 && count >= 1 && count <= w->dim[dim] && start <= w->dim[dim] - count, "the part reaches past w");
    r->out[0] = *w;
    r->out[0].dim[dim] = count;
    return NULL;
}

/* ---------------------------------------------------------------------------------------------- elementwise */

static const char *shape_add_bias(Rule *r) {
    const IrType *x = r->in[0], *b = r->in[1];
    NEED(rows_or_planes(x, 2), "x must be f32[rows,O] or f32[rows,P,O]");
    bool shared = constant(b, 1) && last(b) == last(x), own = constant(b, 2) && x->rank == 3 && same_tail(b, 0, x, 1);
    NEED(shared || own, "the bias must be [O], or [E,O] for x[rows,E,O]");
    r->out[0] = *x;
    return NULL;
}

static const char *shape_add_bias_routed(Rule *r) {
    const IrType *x = r->in[0], *b = r->in[1], *i = r->in[2];
    NEED(rows(x, 3), "x must be f32[rows,k,O]");
    NEED(constant(b, 2) && last(b) == last(x), "the bias must be [E,O], O as in x");
    NEED(indices(i) && last(i) == x->dim[1] && last(i) <= b->dim[0], "the expert indices must be i32[rows,k], k as in x and <= E");
    r->out[0] = *x;
    return NULL;
}

static const char *shape_mul_param(Rule *r) {
    const IrType *x = r->in[0], *d = r->in[1];
    NEED(rows_or_planes(x, 2), "x must be f32[rows,I] or f32[rows,E,I]");
    if (constant(d, 1)) {
        NEED(last(x) % last(d) == 0, "the parameter must be [J], J a divisor of I in x[rows,I]");
        r->out[0] = *x;
        return NULL;
    }
    NEED(constant(d, 2) && last(x) % last(d) == 0, "the parameter must be [J] or [E,J], J a divisor of I in x");
    NEED(x->rank == 2 || x->dim[1] == d->dim[0], "x has another number of experts than the parameter");
    r->out[0] = f32_of("rec", d->dim[0], last(x), 0);
    return NULL;
}

static const char *shape_mul_param_routed(Rule *r) {
    const IrType *x = r->in[0], *d = r->in[1], *i = r->in[2];
    NEED(rows_or_planes(x, 2), "x must be f32[rows,I] or f32[rows,k,I]");
    NEED(constant(d, 2) && last(x) % last(d) == 0, "the parameter must be [E,J], J a divisor of I in x");
    NEED(indices(i) && last(i) <= d->dim[0], "the expert indices must be i32[rows,k] with k <= E");
    NEED(x->rank == 2 || x->dim[1] == last(i), "x has another number of positions than the expert indices");
    r->out[0] = f32_of("rkc", last(i), last(x), 0);
    return NULL;
}

static const char *same_shape(Rule *r) {
    NEED(r->in[0]->dtype == IR_F32 && r->in[0]->dim[0] == IR_R, "x must be f32 with rows");
    r->out[0] = *r->in[0];
    return NULL;
}

#define IR_ACTIVATION(name, NAME, flops, exps, exact)                                                                              \
    static const char *shape_##name(Rule *r) { return same_shape(r); }
#include "ir/activation.def"
static const char *shape_scale(Rule *r) { return same_shape(r); }
static const char *shape_clamp(Rule *r) {
    NEED(r->attrs[IR_CLAMP_low].f < r->attrs[IR_CLAMP_high].f, "low must be below high");
    return same_shape(r);
}

static const char *repeating_shape(Rule *r) {
    const IrType *x = r->in[0], *y = r->in[1];
    NEED(x->dtype == IR_F32 && x->dim[0] == IR_R && y->dtype == IR_F32 && y->dim[0] == IR_R, "both must be f32 with rows");
    bool repeats = (x->rank + 1 == y->rank && same_tail(x, 1, y, 2)) || (y->rank + 1 == x->rank && same_tail(y, 1, x, 2));
    bool one = rows(x, 2) && rows(y, 2) && last(y) == 1;
    NEED(ir_type_equal(x, y) || repeats || one,
         "the shapes must be equal, or [rows,I] and [rows,P,I], or those with N, or [rows,I] and [rows,1]");
    r->out[0] = x->rank >= y->rank ? *x : *y;
    return NULL;
}

#define IR_BINARY(name, NAME, flops, value)                                                                                        \
    static const char *shape_##name(Rule *r) { return repeating_shape(r); }
#include "ir/binary.def"

/* ---------------------------------------------------------------------------------------------- routing */

static const char *shape_softmax(Rule *r) {
    NEED(rows(r->in[0], 2), "the scores must be f32[rows,E]");
    r->out[0] = *r->in[0];
    return NULL;
}

static const char *shape_select(Rule *r) {
    const IrType *x = r->in[0], *bias = r->in[1];
    NEED(rows(x, 2), "the scores must be f32[rows,E]");
    NEED(bias == NULL || (constant(bias, 1) && last(bias) == last(x)), "the bias must be [E], E as in the scores");
    int64_t k = r->attrs[IR_SELECT_k].i, groups = r->attrs[IR_SELECT_groups].i, top = r->attrs[IR_SELECT_top].i;
    NEED(k >= 1 && k <= last(x), "k must be between 1 and E");
    NEED(groups >= 1 && last(x) % groups == 0, "groups must divide E");
    NEED(top >= 1 && top <= groups, "top must be between 1 and groups");
    NEED(k <= last(x) / groups * top, "k must be at most the number of experts in the top groups");
    r->out[0] = (IrType){.dtype = IR_I32, .rank = 2, .dim = {IR_R, k}};
    set_roles(r->out, "rk");
    return NULL;
}

static const char *shape_gates(Rule *r) {
    NEED(rows(r->in[0], 2), "the scores must be f32[rows,E]");
    NEED(indices(r->in[1]) && last(r->in[1]) <= last(r->in[0]), "the expert indices must be i32[rows,k] with k <= E");
    NEED(r->attrs[IR_GATES_normalize].i == 0 || r->attrs[IR_GATES_normalize].i == 1, "normalize must be 0 or 1");
    r->out[0] = f32_of("rk", last(r->in[1]), 0, 0);
    return NULL;
}

static bool combine_weights_of(const IrType *g, const IrType *i) { return rows(g, 2) && last(g) == last(i); }

static const char *shape_expert_sum(Rule *r) {
    const IrType *y = r->in[0], *i = r->in[1];
    NEED(rows(y, 3), "y must be f32[rows,E,O]");
    NEED(indices(i) && last(i) <= y->dim[1], "the expert indices must be i32[rows,k] with k <= E");
    NEED(combine_weights_of(r->in[2], i), "the combine weights must be f32[rows,k], k as in the expert indices");
    r->out[0] = f32_of("rc", last(y), 0, 0);
    return NULL;
}

static const char *shape_expert_sum_routed(Rule *r) {
    NEED(rows(r->in[0], 3), "y must be f32[rows,k,O]");
    NEED(rows(r->in[1], 2) && last(r->in[1]) == r->in[0]->dim[1], "the combine weights must be f32[rows,k], k as in y");
    r->out[0] = f32_of("rc", last(r->in[0]), 0, 0);
    return NULL;
}

static const char *shape_plane_sum(Rule *r) {
    NEED(rows(r->in[0], 3), "y must be f32[rows,P,O]");
    r->out[0] = f32_of("rc", last(r->in[0]), 0, 0);
    return NULL;
}

static const char *shape_mix(Rule *r) {
    const IrType *p = r->in[0], *i = r->in[1];
    NEED(p->rank >= 2 && constant(p, p->rank), "the parameter must be [E,...]");
    NEED(indices(i) && last(i) <= p->dim[0], "the expert indices must be i32[rows,k] with k <= E");
    NEED(combine_weights_of(r->in[2], i), "the combine weights must be f32[rows,k], k as in the expert indices");
    r->out[0] = *p;
    r->out[0].dtype = IR_F32;
    r->out[0].dim[0] = IR_R;
    set_roles(r->out, "rc??");
    return NULL;
}

/* ---------------------------------------------------------------------------------------------- the state-space block */

static const char *shape_conv(Rule *r) {
    const IrType *x = r->in[0], *w = r->in[1], *history = r->in[2];
    NEED(rows(x, 2), "x must be f32[rows,I]");
    NEED((constant(w, 2) && w->dim[0] == last(x)) || (rows(w, 3) && w->dim[1] == last(x)),
         "the weight must be [I,W], or mixed f32[rows,I,W]");
    r->out[0] = *x;
    if (history == NULL) {
        NEED(last(w) == 1, "more than one tap needs a history");
        return NULL;
    }
    NEED(history->dtype == IR_F32 && constant(history, 2) && history->dim[0] == last(x) && last(history) == last(w) - 1,
         "the history must be f32[I,W-1]");
    r->out[1] = *history;
    set_roles(r->out + 1, "ct");
    return NULL;
}

/* The history of each expert, C and W as in x and w. */
static bool histories(const IrType *t, const IrType *x, const IrType *w) {
    return t->dtype == IR_F32 && constant(t, 3) && t->dim[1] == last(x) && last(t) == last(w) - 1;
}

static const char *shape_conv_each(Rule *r) {
    const IrType *x = r->in[0], *w = r->in[1], *history = r->in[2], *i = r->in[3];
    NEED(rows(x, 3) && constant(w, 2) && w->dim[0] == last(x), "x must be f32[rows,E,C] and the weight [C,W]");
    r->out[0] = *x;
    if (history == NULL) {
        NEED(last(w) == 1 && i == NULL, "more than one tap needs a history");
        return NULL;
    }
    NEED(histories(history, x, w) && history->dim[0] == x->dim[1], "the history must be f32[E,C,W-1]");
    NEED(i == NULL || (indices(i) && last(i) <= x->dim[1]), "the expert indices must be i32[rows,k] with k <= E of x");
    r->out[1] = *history;
    set_roles(r->out + 1, "ect");
    return NULL;
}

static const char *shape_conv_each_routed(Rule *r) {
    const IrType *x = r->in[0], *w = r->in[1], *history = r->in[2], *i = r->in[3];
    NEED(rows(x, 3) && constant(w, 2) && w->dim[0] == last(x), "x must be f32[rows,k,C] and the weight [C,W]");
    NEED(histories(history, x, w), "the history must be f32[E,C,W-1]");
    NEED(indices(i) && last(i) == x->dim[1] && last(i) <= history->dim[0], "the expert indices must be i32[rows,k], k as in x");
    r->out[0] = *x;
    r->out[1] = *history;
    set_roles(r->out + 1, "ect");
    return NULL;
}

static const char *shape_outer(Rule *r) {
    const IrType *d = r->in[0], *A = r->in[1];
    NEED(rows_or_planes(d, 2), "d must be f32[rows,I] or f32[rows,P,I]");
    NEED(constant(A, 2) || constant(A, 3) || rows(A, 3), "A must be [I,N], [E,I,N] or mixed f32[rows,I,N]");
    NEED(A->dim[A->rank - 2] == last(d), "A has another number of channels than d");
    bool own = A->rank == 3 && A->dim[0] != IR_R;
    NEED(!own || d->rank == 2 || d->dim[1] == A->dim[0], "d has another number of experts than A");
    if (own)
        r->out[0] = f32_of("recn", A->dim[0], last(d), last(A));
    else
        r->out[0] = d->rank == 3 ? f32_like(d, "r?cn", d->dim[1], last(d), last(A)) : f32_of("rcn", last(d), last(A), 0);
    return NULL;
}

static const char *shape_outer_routed(Rule *r) {
    const IrType *d = r->in[0], *A = r->in[1], *i = r->in[2];
    NEED(rows_or_planes(d, 2), "d must be f32[rows,I] or f32[rows,k,I]");
    NEED(constant(A, 3) && A->dim[1] == last(d), "A must be [E,I,N], I as in d");
    NEED(indices(i) && last(i) <= A->dim[0], "the expert indices must be i32[rows,k] with k <= E");
    NEED(d->rank == 2 || d->dim[1] == last(i), "d has another number of positions than the expert indices");
    r->out[0] = f32_of("rkcn", last(i), last(d), last(A));
    return NULL;
}

static const char *shape_inject(Rule *r) {
    const IrType *v = r->in[0], *B = r->in[1];
    NEED(rows_or_planes(v, 2) && rows_or_planes(B, 2), "v must be f32[rows,I] or f32[rows,P,I], B f32[rows,N] or f32[rows,P,N]");
    NEED(v->rank == 2 || B->rank == 2 || v->dim[1] == B->dim[1], "v and B have different numbers of planes");
    int64_t groups = r->attrs[IR_INJECT_groups].i;
    NEED(groups >= 1 && last(v) % groups == 0 && last(B) % groups == 0, "groups must divide the channels of v and the width of B");
    const IrType *planes = v->rank == 3 ? v : B;
    int64_t N = last(B) / groups;
    r->out[0] = planes->rank == 3 ? f32_like(planes, "r?cn", planes->dim[1], last(v), N) : f32_of("rcn", last(v), N, 0);
    return NULL;
}

static const char *shape_inject_sum(Rule *r) {
    const IrType *v = r->in[0], *B = r->in[1], *addend = r->in[2];
    int64_t groups = r->attrs[IR_INJECT_SUM_groups].i;
    NEED(rows_or_planes(v, 2) && rows_or_planes(B, 2) && v->rank == B->rank && (v->rank == 2 || v->dim[1] == B->dim[1]),
         "v and B must be f32[rows,I] and f32[rows,G*N], or both with P");
    NEED(groups >= 1 && last(v) % groups == 0 && last(B) % groups == 0, "groups must divide the channels of v and the width of B");
    r->out[0] = f32_of("rcn", last(v), last(B) / groups, 0);
    NEED(addend == NULL || ir_type_equal(addend, &r->out[0]), "the addend must be f32[rows,I,N]");
    return NULL;
}

/* a without its N: [R,I], or [R,P,I] with that many planes. */
static bool decays(const IrType *t, const IrType *state, int64_t planes) {
    int64_t channels = state->dim[state->rank - 2];
    if (rows(t, 2)) return last(t) == channels;
    return rows(t, 3) && t->role[2] != IR_DIM_STATE && t->dim[1] == planes && last(t) == channels;
}

/* a or b: [R,I,N], or [R,P,I,N] with that many planes. */
static bool moves(const IrType *t, const IrType *state, int64_t planes) {
    if (rows(t, 3)) return same_tail(t, 1, state, state->rank - 2);
    return rows(t, 4) && t->dim[1] == planes && same_tail(t, 2, state, state->rank - 2);
}

static const char *shape_recur(Rule *r) {
    const IrType *state = r->in[2], *i = r->in[3];
    NEED(state->dtype == IR_F32 && (constant(state, 2) || constant(state, 3)), "the state must be f32[I,N] or f32[E,I,N]");
    int64_t experts = state->rank == 3 ? state->dim[0] : 0;
    NEED((moves(r->in[0], state, experts) || decays(r->in[0], state, experts)) && moves(r->in[1], state, experts),
         "a and b must be f32[rows,(E),I,N] like the state, a perhaps without N");
    NEED(i == NULL || (indices(i) && last(i) <= experts), "the expert indices must be i32[rows,k] with k <= E of the state");
    r->out[0] = *state;
    r->out[0].rank++;
    r->out[0].dim[0] = IR_R;
    memcpy(r->out[0].dim + 1, state->dim, (size_t)state->rank * sizeof *state->dim);
    set_roles(r->out, state->rank == 3 ? "recn" : "rcn");
    r->out[1] = *state;
    set_roles(r->out + 1, state->rank == 3 ? "ecn" : "cn");
    return NULL;
}

static const char *shape_recur_routed(Rule *r) {
    const IrType *state = r->in[2], *i = r->in[3];
    NEED(state->dtype == IR_F32 && constant(state, 3), "the state must be f32[E,I,N]");
    NEED(indices(i) && last(i) <= state->dim[0], "the expert indices must be i32[rows,k] with k <= E of the state");
    NEED((moves(r->in[0], state, last(i)) || decays(r->in[0], state, last(i))) && moves(r->in[1], state, last(i)),
         "a and b must be f32[rows,(k),I,N] like the state, a perhaps without N");
    r->out[0] = f32_of("rkcn", last(i), state->dim[1], state->dim[2]);
    r->out[1] = *state;
    set_roles(r->out + 1, "ecn");
    return NULL;
}

static const char *shape_contract(Rule *r) {
    const IrType *s = r->in[0], *C = r->in[1];
    NEED(rows_or_planes(s, 3), "s must be f32[rows,I,N] or f32[rows,P,I,N]");
    int64_t groups = r->attrs[IR_CONTRACT_groups].i, width;
    NEED(groups >= 1 && s->dim[s->rank - 2] % groups == 0, "groups must divide the channels of s");
    NEED(!__builtin_mul_overflow(groups, last(s), &width) && rows_or_planes(C, 2) && last(C) == width,
         "C must be f32[rows,G*N] or f32[rows,P,G*N], N as in s");
    NEED(C->rank == 2 || s->rank == 3 || s->dim[1] == C->dim[1], "C has another number of planes than s");
    r->out[0] = *s;
    r->out[0].rank--;
    if (C->rank == 3) r->out[0] = f32_like(C, "r?c", C->dim[1], s->dim[s->rank - 2], 0);
    return NULL;
}

static const char *shape_delay(Rule *r) {
    const IrType *x = r->in[0], *s = r->in[1];
    NEED(rows_or_planes(x, 2), "x must be f32[rows,I] or f32[rows,P,I]");
    NEED(s->dtype == IR_F32 && constant(s, s->rank) && same_tail(x, 1, s, 0), "the state must be f32[I] or f32[P,I], as x");
    r->out[0] = *x;
    r->out[1] = *s;
    set_roles(r->out + 1, s->rank == 2 ? "ec" : "c");
    return NULL;
}

static const char *shape_angle(Rule *r) {
    const IrType *w = r->in[0], *d = r->in[1], *s = r->in[2];
    NEED(rows(w, 2) && rows(d, 2), "w must be f32[rows,S], d f32[rows,H]");
    NEED(s->dtype == IR_F32 && constant(s, 1) && last(d) <= INT32_MAX / last(w) && last(s) == last(w) * last(d),
         "the state must be f32[H*S]");
    r->out[0] = f32_of("rc", last(s), 0, 0);
    r->out[1] = *s;
    set_roles(r->out + 1, "c");
    return NULL;
}

static const char *shape_rotate(Rule *r) {
    const IrType *x = r->in[0], *c = r->in[1], *s = r->in[2];
    int64_t heads = r->attrs[IR_ROTATE_heads].i;
    NEED(rows_or_planes(x, 2) && rows(c, 2) && ir_type_equal(c, s), "x must be f32[rows,(P),H*N], the angles' f32[rows,H*S]");
    NEED(heads >= 1 && last(x) % heads == 0 && last(c) % heads == 0, "heads must divide the widths of x and of the angles'");
    NEED(last(x) / heads % 2 == 0 && 2 * (last(c) / heads) <= last(x) / heads, "N must be even and at least 2*S");
    r->out[0] = *x;
    return NULL;
}

/* ---------------------------------------------------------------------------------------------- attention */

/* Is `x` a * b, neither of which need be sensible? */
static bool is_product(int64_t x, int64_t a, int64_t b) {
    uint64_t product;
    return a > 0 && b > 0 && su_mul((uint64_t)a, (uint64_t)b, &product) && product == (uint64_t)x;
}

static const char *shape_rope(Rule *r) {
    int64_t head_dim = r->attrs[IR_ROPE_head_dim].i, dim = r->attrs[IR_ROPE_dim].i;
    NEED(rows(r->in[0], 2) && is_product(last(r->in[0]), r->attrs[IR_ROPE_heads].i, head_dim),
         "x must be f32[rows,heads*head_dim]");
    NEED(row_numbers(r->in[1]), "positions must be i32[rows]");
    NEED(dim >= 2 && dim <= head_dim && dim % 2 == 0, "dim must be even and at most head_dim");
    NEED(r->attrs[IR_ROPE_theta].f > 0, "theta must be positive");
    NEED(r->attrs[IR_ROPE_interleaved].i == 0 || r->attrs[IR_ROPE_interleaved].i == 1, "interleaved must be 0 or 1");
    double low = r->attrs[IR_ROPE_low].f, high = r->attrs[IR_ROPE_high].f;
    NEED(r->attrs[IR_ROPE_factor].f > 0, "factor must be positive");
    NEED(high == 0 || (low > 0 && high > low && r->attrs[IR_ROPE_original].i > 0),
         "high must be 0, or above low, and low and original positive");
    r->out[0] = *r->in[0];
    return NULL;
}

static const char *shape_attend(Rule *r) {
    int64_t heads = r->attrs[IR_ATTEND_heads].i, kv_heads = r->attrs[IR_ATTEND_kv_heads].i;
    int64_t head_dim = r->attrs[IR_ATTEND_head_dim].i, window = r->attrs[IR_ATTEND_window].i;
    NEED(kv_heads > 0 && heads % kv_heads == 0, "kv_heads must divide heads");
    NEED(r->attrs[IR_ATTEND_scale].f > 0, "scale must be positive");
    NEED(rows(r->in[0], 2) && is_product(last(r->in[0]), heads, head_dim), "q must be f32[rows,heads*head_dim]");
    for (int i = 1; i <= 2; i++)
        NEED(rows(r->in[i], 2) && is_product(last(r->in[i]), kv_heads, head_dim), "k and v must be f32[rows,kv_heads*head_dim]");
    NEED(row_numbers(r->in[3]), "positions must be i32[rows]");
    for (int i = 4; i <= 5; i++) {
        const IrType *cache = r->in[i];
        NEED(cache->dtype == IR_F32 && constant(cache, 2) && last(cache) == last(r->in[1]),
             "the caches must be f32[cap,kv_heads*head_dim]");
    }
    NEED(window == 0 || window == r->in[4]->dim[0], "the caches must hold the window");
    NEED(r->in[4]->dim[0] == r->in[5]->dim[0], "the caches must be of one size");
    r->out[0] = *r->in[0];
    r->out[1] = *r->in[4];
    r->out[2] = *r->in[5];
    set_roles(r->out + 1, "pc");
    set_roles(r->out + 2, "pc");
    return NULL;
}

/* ---------------------------------------------------------------------------------------------- all of them */

static const char *(*const rules[IR_OP_COUNT])(Rule *) = {
#define IR_OP(name, operands, results, attributes, traits) [IR_OP_##name] = shape_##name,
#include "ir/ops.def"
#undef IR_OP
};

/* Element counts stay far below overflow: the language allows 2^48 elements. */
static bool sane(const IrType *type) {
    uint64_t n = 1;
    for (int i = 0; i < type->rank; i++)
        if (type->dim[i] != IR_R && (type->dim[i] <= 0 || !su_mul(n, (uint64_t)type->dim[i], &n))) return false;
    return n <= (uint64_t)1 << 48;
}

bool ir_infer(const IrGraph *g, IrOp op, const IrValueId *operands, int n, const IrAttr *attrs, IrType *out_types,
              const char **out_why) {
    static const IrAttr none[IR_MAX_ATTRS];
    const IrOpInfo *info = ir_op_info(op);
    Rule rule = {.n = n, .attrs = attrs != NULL ? attrs : none, .out = out_types};
    *out_why = n < info->min_operands ? "operands are missing" : n > info->max_operands ? "there are too many operands" : NULL;
    for (int i = 0; i < n && *out_why == NULL; i++)
        if (operands[i] < 0 || (size_t)operands[i] >= g->n_values)
            *out_why = "an operand is absent";
        else
            rule.in[i] = &g->values[operands[i]].type;
    if (*out_why == NULL) *out_why = rules[op](&rule);
    for (int i = 0; i < ir_result_count(info, n) && *out_why == NULL; i++)
        if (!sane(&out_types[i])) *out_why = "a result has more than 2^48 elements";
    return *out_why == NULL;
}

/* ---------------------------------------------------------------------------------------------- roles of weights and states */

/* The forms that an operand may have, by its rank; those of mixed weights begin with the rows. */
static const struct {
    IrOp op;
    int operand;
    const char *forms[3];
} takes[] = {
    {IR_OP_embed, 1, {"ci"}},
    {IR_OP_rms_norm, 1, {"c"}},
    {IR_OP_layer_norm, 1, {"c"}},
    {IR_OP_layer_norm, 2, {"c"}},
    {IR_OP_linear, 1, {"ci"}},
    {IR_OP_linear_all, 1, {"eci"}},
    {IR_OP_linear_routed, 1, {"eci"}},
    {IR_OP_add_bias, 1, {"c", "ec"}},
    {IR_OP_add_bias_routed, 1, {"ec"}},
    {IR_OP_mul_param, 1, {"c", "ec"}},
    {IR_OP_mul_param_routed, 1, {"ec"}},
    {IR_OP_select, 1, {"c"}},
    {IR_OP_mix, 0, {"ec", "ec?"}},
    {IR_OP_conv, 1, {"ct", "rct"}},
    {IR_OP_conv, 2, {"ct"}},
    {IR_OP_conv_each, 1, {"ct"}},
    {IR_OP_conv_each, 2, {"ect"}},
    {IR_OP_conv_each_routed, 1, {"ct"}},
    {IR_OP_conv_each_routed, 2, {"ect"}},
    {IR_OP_outer, 1, {"cn", "ecn", "rcn"}},
    {IR_OP_outer_routed, 1, {"ecn"}},
    {IR_OP_recur, 2, {"cn", "ecn"}},
    {IR_OP_recur_routed, 2, {"ecn"}},
    {IR_OP_delay, 1, {"c", "ec"}},
    {IR_OP_angle, 2, {"c"}},
    {IR_OP_attend, 4, {"pc"}},
    {IR_OP_attend, 5, {"pc"}},
};

static const char *form_of(IrOp op, int operand, const IrType *type) {
    for (size_t i = 0; i < sizeof takes / sizeof *takes; i++)
        for (int f = 0; takes[i].op == op && takes[i].operand == operand && f < 3 && takes[i].forms[f] != NULL; f++)
            if ((int)strlen(takes[i].forms[f]) == type->rank && (takes[i].forms[f][0] == 'r') == (type->dim[0] == IR_R))
                return takes[i].forms[f];
    return NULL;
}

void ir_operand_roles(const IrGraph *g, const IrNode *node, int operand, IrType *out) {
    const char *form = form_of(node->op, operand, &g->values[node->operands[operand]].type);
    if (form != NULL) set_roles(out, form);
}

static void fill_roles(IrType *type, const uint8_t *roles) {
    for (int i = 0; i < type->rank && i < IR_MAX_RANK; i++)
        if (type->role[i] == IR_DIM_UNKNOWN) type->role[i] = roles[i];
}

/* What only a mixed weight's reader knows, its weight has too. */
static void fill_mixed(IrGraph *g, IrValueId value, const uint8_t *roles) {
    if (g->values[value].kind != IR_RESULT || g->nodes[g->values[value].node].op != IR_OP_mix) return;
    IrType *weight = &g->values[g->nodes[g->values[value].node].operands[0]].type;
    if (weight->rank == 3 && weight->role[2] == IR_DIM_UNKNOWN) weight->role[2] = roles[2];
}

void ir_settle_roles(IrGraph *g, const IrNode *node) {
    for (int i = 0; i < node->n_operands; i++) {
        IrType *type = &g->values[node->operands[i]].type, wanted = *type;
        ir_operand_roles(g, node, i, &wanted);
        fill_roles(type, wanted.role);
        if (type->rank == 3) fill_mixed(g, node->operands[i], wanted.role);
    }
    IrType results[IR_MAX_RESULTS];
    const char *why;
    if (!ir_infer(g, node->op, node->operands, node->n_operands, node->attrs, results, &why)) return; /* for ir_verify to say */
    for (int i = 0; i < IR_MAX_RESULTS; i++)
        if (node->results[i] != IR_NONE && results[i].rank == g->values[node->results[i]].type.rank)
            fill_roles(&g->values[node->results[i]].type, results[i].role);
}
