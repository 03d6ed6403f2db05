/* The rules that hold for every program. RULES lists them; a rule relies on those before it, so the first that is broken ends the
 * check, and each reports the first place that breaks it. */
#include "ir/program_verify.h"
#include "support/table.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "ir/phase_cost.h"
#include "ir/program_operands.h"
#include "support/size.h"

enum { ALIGN = 64, PANEL_ALIGN = 4096, MOST_BITS = 48 };

typedef struct Verify {
    const PgProgram *program;
    SuDiags *diags;
} Verify;

static const char *const LISTS[] = {[PG_ROW] = "row", [PG_BLOCK] = "block", [PG_FEW] = "few"};
SU_TABLE_FULL(LISTS, PG_LISTS);

__attribute__((format(printf, 2, 3))) static bool bad(const Verify *v, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char text[400];
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return su_error(v->diags, (SuSpan){0}, NULL, "program %s: %s", v->program->name != NULL ? v->program->name : "?", text);
}

static bool size_is_sound(uint64_t bytes) { return bytes >> MOST_BITS == 0; }
static bool dim_is_sound(int64_t n) { return n >= 0 && n <= INT32_MAX; }

/* ---------------------------------------------------------------------------------------------- tables */

static bool check_program(const Verify *v) {
    const PgProgram *p = v->program;
    if (p->name == NULL) return bad(v, "it has no name");
    if (p->vocab_size < 1 || p->vocab_size > INT32_MAX || p->d_model < 1 || p->d_model > INT32_MAX)
        return bad(v, "vocabulary of %" PRId64 " and width of %" PRId64 " must be between 1 and 2^31 - 1", p->vocab_size,
                   p->d_model);
    if (p->out_stride != su_round_up((uint64_t)p->vocab_size, PG_LANES))
        return bad(v, "rows of logits are %" PRIu64 " floats apart, expected the vocabulary rounded up to 16", p->out_stride);
    if (p->max_rows < 1 || p->max_rows > INT32_MAX)
        return bad(v, "a step takes %" PRId64 " rows, expected at least 1", p->max_rows);
    if (p->max_positions < 0) return bad(v, "max_positions is %" PRId64, p->max_positions);
    if ((p->n_tensors > 0 && p->tensors == NULL) || (p->n_weights > 0 && p->weights == NULL) ||
        (p->n_states > 0 && p->states == NULL) || (p->n_ropes > 0 && p->ropes == NULL))
        return bad(v, "a table is missing");
    if (!size_is_sound(p->weight_bytes) || !size_is_sound(p->state_bytes))
        return bad(v, "weights of %" PRIu64 " bytes and a state of %" PRIu64 ", expected less than 2^48", p->weight_bytes,
                   p->state_bytes);
    return true;
}

/* 0: not a shape. */
static uint64_t elements_of(const PgTensor *t) {
    uint64_t n = 1;
    if (t->rank < 1 || t->rank > 4) return 0;
    for (int i = 0; i < t->rank; i++)
        if (t->shape[i] < 1 || !su_mul(n, (uint64_t)t->shape[i], &n)) return 0;
    return size_is_sound(n) ? n : 0;
}

static bool check_tensors(const Verify *v) {
    for (uint32_t i = 0; i < v->program->n_tensors; i++) {
        const PgTensor *t = &v->program->tensors[i];
        if (t->name == NULL) return bad(v, "tensor %u has no name", i);
        if (elements_of(t) == 0) return bad(v, "tensor %s has no shape of 1 to 4 dimensions of at least 1", t->name);
    }
    return true;
}

/* Planes within runs take the whole of their tensor, once. */
static bool runs_are_sound(const PgWeight *w) {
    if (w->run == 0) return pg_weight_row(w, 0, (uint64_t)w->O - 1) < (uint64_t)pg_weight_rows(w);
    return w->run > 0 && dim_is_sound(w->run) && w->O % w->run == 0 && w->first == 0 && w->rows == 0 && w->times <= 1;
}

static bool weight_shape_is_sound(const PgWeight *w) {
    return w->planes >= 1 && dim_is_sound(w->planes) && w->O >= 1 && dim_is_sound(w->O) && w->K >= 1 && dim_is_sound(w->K) &&
           (w->pack != PG_VECTOR || w->K == 1) && dim_is_sound(w->first) && dim_is_sound(w->rows) && dim_is_sound(w->times) &&
           runs_are_sound(w);
}

/* Everything may lie as floats; panels also in their tensor's dtype. Blocks make panels of their own dtype only, of whole rows. */
static bool dtype_is_sound(const PgProgram *p, const PgWeight *w) {
    const PgTensor *t = &p->tensors[w->tensor];
    if (ir_is_blocks((IrDtype)t->dtype) &&
        (w->pack != PG_PANELS || w->negexp || w->K != t->shape[t->rank - 1] || w->dtype != t->dtype))
        return false;
    if (w->dtype == IR_F32) return true;
    return w->pack == PG_PANELS && w->dtype < IR_STORED_DTYPES && w->dtype == t->dtype;
}

static bool check_weight(const Verify *v, uint32_t i, uint64_t end) {
    const PgProgram *p = v->program;
    const PgWeight *w = &p->weights[i];
    if (w->tensor >= p->n_tensors) return bad(v, "weight %u is of tensor %u, expected one of %u", i, w->tensor, p->n_tensors);
    const char *name = p->tensors[w->tensor].name;
    if (w->pack > PG_CHANNELS || w->negexp > 1) return bad(v, "weight %u (%s) is packed in an unknown way", i, name);
    if (!dtype_is_sound(p, w)) return bad(v, "weight %u (%s) has dtype %u, which its pack does not take", i, name, w->dtype);
    uint64_t elements;
    if (!weight_shape_is_sound(w) || !su_mul((uint64_t)w->planes * (uint64_t)pg_weight_rows(w), (uint64_t)w->K, &elements) ||
        elements != elements_of(&p->tensors[w->tensor]))
        return bad(v, "weight %u (%s) has another number of elements than its tensor", i, name);
    if (w->bytes != pg_weight_bytes(w))
        return bad(v, "weight %u (%s) has %" PRIu64 " bytes, expected %" PRIu64, i, name, w->bytes, pg_weight_bytes(w));
    bool behind = i > 0 && p->weights[i - 1].pack == PG_PANELS && w->offset == end; /* of linear layers in one phase */
    uint64_t align = w->pack == PG_PANELS && !behind ? PANEL_ALIGN : ALIGN;
    if (w->offset % align != 0) return bad(v, "weight %u (%s) is not at a multiple of %" PRIu64, i, name, align);
    if (w->offset < end) return bad(v, "weight %u (%s) overlaps the one before it", i, name);
    if (w->offset > p->weight_bytes || w->bytes > p->weight_bytes - w->offset)
        return bad(v, "weight %u (%s) ends beyond the %" PRIu64 " bytes of all weights", i, name, p->weight_bytes);
    return true;
}

static bool check_weights(const Verify *v) {
    uint64_t end = 0;
    for (uint32_t i = 0; i < v->program->n_weights; i++) {
        if (!check_weight(v, i, end)) return false;
        end = v->program->weights[i].offset + v->program->weights[i].bytes;
    }
    if (v->program->active_weight_bytes > v->program->weight_bytes) return bad(v, "a token reads more weights than there are");
    return true;
}

static bool check_states(const Verify *v) {
    const PgProgram *p = v->program;
    uint64_t end = 0;
    for (uint32_t i = 0; i < p->n_states; i++) {
        const PgState *s = &p->states[i];
        if (s->name == NULL) return bad(v, "state %u has no name", i);
        if (s->offset % ALIGN != 0 || s->offset < end)
            return bad(v, "state %s overlaps the one before it or is not at a multiple of 64", s->name);
        if (s->offset > p->state_bytes || s->bytes > p->state_bytes - s->offset)
            return bad(v, "state %s ends beyond the %" PRIu64 " bytes of a state", s->name, p->state_bytes);
        end = s->offset + s->bytes;
    }
    return true;
}

static bool check_ropes(const Verify *v) {
    for (uint32_t i = 0; i < v->program->n_ropes; i++) {
        const PgRope *r = &v->program->ropes[i];
        if (r->dim < 2 || r->dim % 2 != 0 || !dim_is_sound(r->dim) || !isfinite(r->theta) || r->theta <= 0)
            return bad(v, "rope %u has dimension %" PRId64 " and theta %g, expected an even one and a positive number", i, r->dim,
                       r->theta);
        bool ramp = r->low > 0 && r->high > r->low && isfinite(r->high) && r->original > 0;
        if (!isfinite(r->factor) || r->factor <= 0 || (r->high != 0 && !ramp))
            return bad(v, "rope %u has factor %g, low %g, high %g and original %" PRId64 ", which scale nothing", i, r->factor,
                       r->low, r->high, r->original);
    }
    return true;
}

/* ---------------------------------------------------------------------------------------------- kernels */

static bool words_are_known(const PgKernel *k) {
    return (unsigned)k->kind < PG_KIND_COUNT && (unsigned)k->mode < PG_MODES && (unsigned)k->x_layout <= PG_POSITIONS &&
           (unsigned)k->y_layout <= PG_POSITIONS && (unsigned)k->z_layout <= PG_POSITIONS &&
           (unsigned)k->dbc_layout <= PG_POSITIONS && (unsigned)k->select <= PG_CHOSEN && (unsigned)k->norm <= PG_LAYER &&
           (unsigned)k->act < PG_ACTIVATIONS && (unsigned)k->scan <= PG_SCAN_PARAMS && (unsigned)k->ew <= PG_EW_MUL_PARAM;
}

static bool sizes_are_sound(const PgKernel *k) {
    const int64_t sizes[] = {k->K,           k->O,
                             k->E,           k->k,
                             k->taps,        k->N,
                             k->R,           k->delta_start,
                             k->b_start,     k->c_start,
                             k->delta_width, k->b_width,
                             k->c_width,     k->heads,
                             k->kv_heads,    k->window,
                             k->cap,         k->rope_dim,
                             k->rope_table,  k->start,
                             k->groups,      k->expert_groups,
                             k->run};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (!dim_is_sound(sizes[i])) return false;
    bool groups = k->expert_groups == 0 ? k->top_groups == 0
                                        : k->top_groups > 0 && k->top_groups < k->expert_groups && k->E % k->expert_groups == 0 &&
                                              k->k <= k->E / k->expert_groups * k->top_groups;
    return k->k <= k->E && groups && (k->O > 0 || k->kind == PG_GROUP);
}

static bool check_epilogue(const Verify *v, uint32_t i) {
    const PgKernel *k = &v->program->kernels[i];
    const PgEpilogueStep *steps = k->epilogue.steps;
    uint32_t before = PG_NO_STEP;
    int n = 0;
    for (; steps[n].kind != PG_NO_STEP; n++) { /* they rise: there is an end */
        if (steps[n].kind >= PG_STEP_KINDS) return bad(v, "kernel %u has an unknown step %u", i, steps[n].kind);
        const PgStepInfo *info = pg_step((PgStepKind)steps[n].kind);
        if (steps[n].kind <= before) return bad(v, "steps of kernel %u do not rise: %s", i, info->word);
        if ((steps[n].kind == PG_STEP_ACT) != (steps[n].act != PG_NO_ACT) || steps[n].act >= PG_ACTIVATIONS)
            return bad(v, "step %s of kernel %u has activation %u", info->word, i, steps[n].act);
        bool scales = steps[n].kind == PG_STEP_SCALE || steps[n].kind == PG_STEP_OUT_SCALE;
        if (!isfinite(steps[n].scale) || (!scales && steps[n].scale != 0))
            return bad(v, "step %s of kernel %u has scale %g", info->word, i, steps[n].scale);
        before = steps[n].kind;
    }
    if (n > 0 && k->kind != PG_LINEAR && k->kind != PG_COMBINE)
        return bad(v, "kernel %u has an epilogue, but is neither a linear layer nor a sum", i);
    if (pg_does(k, PG_STEP_WEIGHTED_SUM) && pg_does(k, PG_STEP_PLANE_SUM)) return bad(v, "kernel %u has two sums over experts", i);
    if (k->kind == PG_COMBINE && (n == 0 || !pg_step_sums(steps) || pg_does(k, PG_STEP_LOGITS)))
        return bad(v, "kernel %u sums experts: its epilogue must begin with a sum and end with its y", i);
    if (k->kind == PG_LINEAR && k->mode == PG_BLOCK && pg_sum(k) != PG_NO_SUM)
        return bad(v, "kernel %u of row blocks sums over experts", i);
    return true;
}

static bool check_kernels(const Verify *v) {
    for (uint32_t i = 0; i < v->program->n_kernels && v->program->kernels != NULL; i++) {
        const PgKernel *k = &v->program->kernels[i];
        if (!words_are_known(k)) return bad(v, "kernel %u has an unknown kind, mode, layout or word", i);
        if (!sizes_are_sound(k)) return bad(v, "kernel %u has a size out of range", i);
        if (k->rope && k->rope_table >= v->program->n_ropes)
            return bad(v, "kernel %u reads rope %" PRId64 ", expected one of %u", i, k->rope_table, v->program->n_ropes);
        if (!isfinite(k->scale) || (k->kind == PG_ATTEND && k->scale <= 0)) return bad(v, "kernel %u has scale %g", i, k->scale);
        if (k->norm_behind && (k->mode != PG_BLOCK || (k->kind != PG_EMBED && k->kind != PG_LINEAR && k->kind != PG_COMBINE)))
            return bad(v, "kernel %u prepares a norm, but makes no rows of the residual stream", i);
        if (k->first_O != 0 && (k->kind != PG_LINEAR || k->mode != PG_BLOCK || k->select != PG_SINGLE || pg_does(k, PG_STEP_DUAL) ||
                                !pg_does(k, PG_STEP_CONV) || k->first_O < 0 || k->first_O >= k->O || k->first_O % PG_LANES != 0))
            return bad(v, "kernel %u has two matrices side by side, of which the first convolves nothing", i);
        if (k->kind == PG_LINEAR && k->mode == PG_BLOCK && k->norm != PG_NO_NORM && (k->norm != PG_RMS || k->norm_behind))
            return bad(v, "kernel %u of row blocks norms its input", i);
        if (k->rounds && (k->kind != PG_LINEAR || !ir_is_blocks(k->dtype)))
            return bad(v, "kernel %u rounds its input, but is no linear layer of q8 or q4", i);
        if (k->bf16_x && k->kind != PG_ROUND && (k->kind != PG_LINEAR || k->mode != PG_BLOCK || k->dtype != IR_BF16))
            return bad(v, "kernel %u takes its input as bf16, but is no linear layer of bf16 and row blocks", i);
        if (k->kind == PG_ROUND && (k->mode != PG_BLOCK || k->x_layout != k->y_layout))
            return bad(v, "kernel %u rounds rows: expected row blocks, and one layout", i);
        if (!check_epilogue(v, i)) return false;
    }
    return true;
}

/* ---------------------------------------------------------------------------------------------- phases, one by one */

/* Calls `check` for every phase of all lists until one is bad. */
static bool each_phase(const Verify *v, bool (*check)(const Verify *, int, uint32_t)) {
    for (int list = 0; list < PG_LISTS; list++)
        for (uint32_t i = 0; i < v->program->steps[list].n_phases; i++)
            if (!check(v, list, i)) return false;
    return true;
}

static const PgPhase *phase_at(const Verify *v, int list, uint32_t i) { return &v->program->steps[list].phases[i]; }
/* NULL where a program brings no kernels (an artefact's). */
static const PgKernel *kernel_of(const Verify *v, const PgPhase *phase) {
    return v->program->kernels != NULL ? &v->program->kernels[phase->kernel] : NULL;
}

__attribute__((format(printf, 4, 5))) static bool bad_phase(const Verify *v, int list, const PgPhase *phase, const char *format,
                                                            ...) {
    va_list args;
    va_start(args, format);
    char text[300];
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return bad(v, "phase %s (%s, stage %u): %s", phase->name, LISTS[list], phase->stage, text);
}

/* What kernels of PG_FEW alone do. */
static bool is_of_few_rows(const PgKernel *k) {
    bool linear = k->kind == PG_LINEAR && (pg_does(k, PG_STEP_CONV) || k->norm != PG_NO_NORM || k->first_O > 0);
    return k->mode == PG_BLOCK && (linear || k->norm_behind);
}

static bool check_phase(const Verify *v, int list, uint32_t i) {
    const PgPhase *p = phase_at(v, list, i);
    if (p->name == NULL) return bad(v, "phase %u (%s) has no name", i, LISTS[list]);
    if (p->kernel >= v->program->n_kernels)
        return bad_phase(v, list, p, "it runs kernel %u, expected one of %u", p->kernel, v->program->n_kernels);
    uint32_t before = i > 0 ? p[-1].stage : 0;
    if (p->stage < before || p->stage > before + (i > 0))
        return bad_phase(v, list, p, "stages must rise one by one from 0, got %u after %u", p->stage, before);
    if (p->count > PG_PER_POSITION_BLOCK || p->fixed < 1) return bad_phase(v, list, p, "its tile count is invalid");
    if (p->count == PG_PER_POSITION_BLOCK && (p->k < 1 || p->k > p->E))
        return bad_phase(v, list, p, "it counts blocks of %u of %u experts", p->k, p->E);
    const PgKernel *k = kernel_of(v, p);
    if (k != NULL && k->mode != pg_mode_of(list)) return bad_phase(v, list, p, "its kernel is of the other mode");
    if (k != NULL && list == PG_BLOCK && is_of_few_rows(k))
        return bad_phase(v, list, p, "it joins what only few rows join: its tiles need not have all rows of a segment");
    return true;
}

static bool check_steps(const Verify *v) {
    for (int list = 0; list < PG_LISTS; list++) {
        const PgStep *s = &v->program->steps[list];
        if (list == PG_FEW && s->n_phases == 0) continue; /* not asked for */
        if (s->n_phases == 0 || s->phases == NULL) return bad(v, "mode %s has no phases", LISTS[list]);
        if (s->n_stages != s->phases[s->n_phases - 1].stage + 1)
            return bad(v, "mode %s has %u stages, expected those of its phases", LISTS[list], s->n_stages);
        if (s->arena_per_row % ALIGN != 0 || s->arena_fixed % ALIGN != 0 || !size_is_sound(s->arena_per_row) ||
            !size_is_sound(s->arena_fixed) || (list == PG_ROW && s->arena_per_row != 0))
            return bad(v, "the arena of mode %s has a size that no plan gives", LISTS[list]);
    }
    return each_phase(v, check_phase);
}

typedef struct Tiles {
    PgCount count;
    int64_t fixed;
} Tiles;

static Tiles tiles_of_rows(const PgKernel *k) {
    if (k->mode == PG_ROW) return (Tiles){PG_ONCE, 1};
    return (Tiles){k->y_layout == PG_POSITIONS ? PG_PER_POSITION_BLOCK : PG_PER_ROW_BLOCK, 1};
}

static Tiles tiles_of_linear(const PgKernel *k) {
    Tiles t = tiles_of_rows(k);
    if (pg_does(k, PG_STEP_LOGITS)) t.count = PG_PER_OUT_ROW_BLOCK;
    if (k->y_layout == PG_PLANES) t.fixed = k->E;
    if (k->y_layout == PG_POSITIONS && k->mode == PG_ROW) t.fixed = k->k;
    return t;
}

static Tiles tiles_of(const PgKernel *k) {
    switch (k->kind) {
    case PG_LINEAR: return tiles_of_linear(k);
    case PG_ROUTE:
    case PG_KV_STORE: return (Tiles){PG_PER_ROW, 1};
    case PG_ATTEND: return (Tiles){PG_PER_ROW, k->kv_heads};
    case PG_GROUP: return (Tiles){PG_ONCE, 1};
    case PG_TURN: return (Tiles){k->mode == PG_ROW ? PG_ONCE : PG_PER_SEGMENT, k->heads};
    case PG_CONV:
    case PG_SCAN:
    case PG_HEADS:
    case PG_TRAPEZOID:
    case PG_CONV_EACH:
    case PG_DELAY:
    case PG_ANGLE:
    case PG_RECUR: return (Tiles){k->mode == PG_ROW ? PG_ONCE : PG_PER_SEGMENT, (int64_t)pg_panels(k->O)};
    case PG_ROUND:
    case PG_NORM: return k->gather_out_rows ? (Tiles){PG_PER_OUT_ROW_BLOCK, 1} : tiles_of_rows(k);
    case PG_EMBED:
    case PG_COMBINE:
    case PG_ELEMENTWISE:
    case PG_SLICE:
    case PG_REPEAT:
    case PG_SOFTMAX:
    case PG_SELECT:
    case PG_GATES:
    case PG_MIX:
    case PG_OUTER:
    case PG_INJECT:
    case PG_CONTRACT:
    case PG_INJECT_SUM:
    case PG_ROTATE:
    case PG_KIND_COUNT: return tiles_of_rows(k);
    }
    return tiles_of_rows(k);
}

static bool check_tiles_of(const Verify *v, int list, uint32_t i) {
    const PgPhase *p = phase_at(v, list, i);
    const PgKernel *k = kernel_of(v, p);
    Tiles t = tiles_of(k);
    if (p->count != (uint32_t)t.count || (int64_t)p->fixed != t.fixed)
        return bad_phase(v, list, p, "it has %u tiles per count %u, expected %" PRId64 " per count %u", p->fixed, p->count, t.fixed,
                         (unsigned)t.count);
    if (t.count == PG_PER_POSITION_BLOCK && ((int64_t)p->E != k->E || (int64_t)p->k != k->k))
        return bad_phase(v, list, p, "it counts blocks of %u of %u experts, its kernel %" PRId64 " of %" PRId64, p->k, p->E, k->k,
                         k->E);
    return true;
}

static bool check_tiles(const Verify *v) { return v->program->kernels == NULL || each_phase(v, check_tiles_of); }

/* ---------------------------------------------------------------------------------------------- operands */

/* Bytes [start, end) in a step of that LD. */
typedef struct Range {
    uint64_t start, end;
} Range;

static Range range_at(const PgRef *ref, uint64_t per_row, uint64_t fixed, uint64_t ld) {
    uint64_t start = ref->per_row * ld + ref->fixed;
    return (Range){start, start + per_row * ld + fixed};
}

/* The smallest and the largest LD of a list: what holds at both holds between, as all is linear in LD. */
static void bounds_of(const Verify *v, int list, uint64_t out[2]) {
    out[0] = list == PG_ROW ? 1 : pg_ld(1);
    out[1] = list == PG_ROW ? 1 : pg_ld((uint64_t)v->program->max_rows);
}

/* The residual stream is written before each block and after the last, or is not told of at all. */
static bool check_hidden(const Verify *v, int list) {
    uint32_t n = 0, largest = 0;
    for (uint32_t i = 0; i < v->program->steps[list].n_phases; i++) {
        const PgPhase *p = phase_at(v, list, i);
        if (p->hidden == 0) continue;
        if (p->hidden_slot >= PG_MAX_OPERANDS || p->operands[p->hidden_slot].space != PG_ARENA)
            return bad_phase(v, list, p, "the residual stream that it writes is no operand in the arena");
        if (kernel_of(v, p) != NULL && kernel_of(v, p)->O != v->program->d_model)
            return bad_phase(v, list, p, "the residual stream that it writes is %" PRId64 " wide, expected %" PRId64,
                             kernel_of(v, p)->O, v->program->d_model);
        for (uint32_t j = 0; j < i; j++)
            if (phase_at(v, list, j)->hidden == p->hidden)
                return bad_phase(v, list, p, "phase %s writes the same residual stream", phase_at(v, list, j)->name);
        n++;
        if (p->hidden > largest) largest = p->hidden;
    }
    if (n != largest) return bad(v, "mode %s writes %u of %u residual streams", LISTS[list], n, largest);
    return true;
}

static bool check_residuals(const Verify *v) {
    for (int list = 0; list < PG_LISTS; list++)
        if ((list != PG_FEW || v->program->steps[list].n_phases > 0) && !check_hidden(v, list)) return false;
    return true;
}

static bool check_ref(const Verify *v, int list, const PgPhase *p, int slot) {
    const PgRef *ref = &p->operands[slot];
    const PgStep *step = &v->program->steps[list];
    if (ref->space > PG_STATE) return bad_phase(v, list, p, "operand %d is in an unknown space", slot);
    if (ref->space == PG_NOWHERE)
        return ref->per_row == 0 && ref->fixed == 0 ? true : bad_phase(v, list, p, "operand %d is absent, but has an offset", slot);
    if (ref->per_row % ALIGN != 0 || ref->fixed % ALIGN != 0 || (ref->per_row != 0 && (ref->space != PG_ARENA || list == PG_ROW)))
        return bad_phase(v, list, p, "operand %d is not at a multiple of 64, or grows with rows outside the arena of a block",
                         slot);
    uint64_t ends[] = {
        [PG_NOWHERE] = 0, [PG_ARENA] = 0, [PG_WEIGHTS] = v->program->weight_bytes, [PG_STATE] = v->program->state_bytes};
    if (ref->space == PG_ARENA ? ref->per_row > step->arena_per_row || !size_is_sound(ref->fixed) || ref->fixed > step->arena_fixed
                               : ref->fixed >= ends[ref->space])
        return bad_phase(v, list, p, "operand %d begins beyond its space", slot);
    return true;
}

static bool fits_arena(const Verify *v, int list, const PgRef *ref, const PgOperand *o) {
    uint64_t lds[2];
    bounds_of(v, list, lds);
    const PgStep *step = &v->program->steps[list];
    if (!size_is_sound(o->per_row) || !size_is_sound(o->fixed)) return false;
    for (int i = 0; i < 2; i++)
        if (range_at(ref, o->per_row, o->fixed, lds[i]).end > step->arena_per_row * lds[i] + step->arena_fixed) return false;
    return true;
}

static bool fits_weight(const PgProgram *p, const PgWeight *w, const PgOperand *o, const PgKernel *k) {
    if (w == NULL || w->planes != o->planes || w->K != o->K) return false;
    if (w->O != o->O && (k->kind != PG_LINEAR || pg_operand_weights(p, w, o->O) == 0)) return false;
    if (o->form == PG_FORM_PANELS) return w->pack == PG_PANELS && w->dtype == (uint32_t)k->dtype;
    if (o->form == PG_FORM_MIXED) return w->pack == PG_VECTOR || w->pack == PG_CHANNELS;
    return w->pack == (o->form == PG_FORM_VECTOR ? PG_VECTOR : PG_CHANNELS);
}

/* It is one state, or of a linear's several histories that lie one behind the other. */
static bool fits_state(const Verify *v, const PgRef *ref, const PgOperand *o, const PgKernel *k) {
    const PgState *states = v->program->states;
    uint32_t i = 0, n = v->program->n_states;
    while (i < n && states[i].offset != ref->fixed) i++;
    if (i == n) return false;
    uint64_t end = states[i].offset + states[i].bytes;
    while (k->kind == PG_LINEAR && ++i < n && states[i].offset == end && end - ref->fixed < o->fixed) end += states[i].bytes;
    return o->fixed <= end - ref->fixed;
}

static PgSpace space_of(PgForm form) {
    switch (form) {
    case PG_FORM_VALUE:
    case PG_FORM_ROUNDED:
    case PG_FORM_INDICES:
    case PG_FORM_GROUPS: return PG_ARENA;
    case PG_FORM_PANELS:
    case PG_FORM_VECTOR:
    case PG_FORM_CHANNELS:
    case PG_FORM_MIXED: return PG_WEIGHTS;
    case PG_FORM_STATE: return PG_STATE;
    }
    return PG_NOWHERE;
}

/* An operand that is there, against its form. */
static bool check_form(const Verify *v, int list, const PgPhase *p, const PgOperand *o) {
    const PgRef *ref = &p->operands[o->slot];
    if (ref->space != (uint64_t)space_of(o->form)) return bad_phase(v, list, p, "operand %s is in the wrong space", o->name);
    switch (space_of(o->form)) {
    case PG_ARENA: return fits_arena(v, list, ref, o) ? true : bad_phase(v, list, p, "operand %s ends beyond the arena", o->name);
    case PG_WEIGHTS:
        return fits_weight(v->program, pg_operand_weight(v->program, ref), o, kernel_of(v, p))
                   ? true
                   : bad_phase(v, list, p, "operand %s is not a weight of the shape, pack and dtype that the kernel reads",
                               o->name);
    case PG_STATE:
        return fits_state(v, ref, o, kernel_of(v, p))
                   ? true
                   : bad_phase(v, list, p, "operand %s is not a state of the size that the kernel keeps", o->name);
    case PG_NOWHERE: break;
    }
    return true;
}

static bool check_operands_of(const Verify *v, int list, uint32_t i) {
    const PgPhase *p = phase_at(v, list, i);
    for (int slot = 0; slot < PG_MAX_OPERANDS; slot++)
        if (!check_ref(v, list, p, slot)) return false;
    if (kernel_of(v, p) == NULL) return true;
    PgOperand rows[PG_OPERAND_ROWS];
    bool known[PG_MAX_OPERANDS] = {false};
    int n = pg_operands(kernel_of(v, p), rows);
    for (int r = 0; r < n; r++) {
        bool there = p->operands[rows[r].slot].space != PG_NOWHERE;
        if (rows[r].need == PG_MUST && !there) return bad_phase(v, list, p, "operand %s is missing", rows[r].name);
        if (rows[r].need == PG_MUST_NOT || !there) continue;
        known[rows[r].slot] = true;
        if (!check_form(v, list, p, &rows[r])) return false;
    }
    for (int slot = 0; slot < PG_MAX_OPERANDS; slot++)
        if (p->operands[slot].space != PG_NOWHERE && !known[slot])
            return bad_phase(v, list, p, "operand %d does not belong to its kernel", slot);
    return true;
}

static bool check_operands(const Verify *v) { return each_phase(v, check_operands_of); }

/* ---------------------------------------------------------------------------------------------- phases beside each other */

/* What a phase touches of arena and state. */
typedef struct Touched {
    PgOperand operand;
    const PgRef *ref;
} Touched;

static int touched_by(const Verify *v, const PgPhase *p, Touched out[PG_OPERAND_ROWS]) {
    PgOperand rows[PG_OPERAND_ROWS];
    int n = pg_operands(kernel_of(v, p), rows), count = 0;
    for (int r = 0; r < n; r++) {
        const PgRef *ref = &p->operands[rows[r].slot];
        if (rows[r].need != PG_MUST_NOT && (ref->space == PG_ARENA || ref->space == PG_STATE))
            out[count++] = (Touched){rows[r], ref};
    }
    return count;
}

static bool is_apart(const Range *a, const Range *b) { return a->end <= b->start; }

/* Whether two touch the same bytes in a step of some size: apart means apart in the same order at both bounds. */
static bool overlap(const Verify *v, int list, const Touched *a, const Touched *b) {
    if (a->ref->space != b->ref->space) return false;
    uint64_t lds[2];
    bounds_of(v, list, lds);
    bool a_first = true, b_first = true;
    for (int i = 0; i < 2; i++) {
        Range x = range_at(a->ref, a->operand.per_row, a->operand.fixed, lds[i]);
        Range y = range_at(b->ref, b->operand.per_row, b->operand.fixed, lds[i]);
        a_first &= is_apart(&x, &y);
        b_first &= is_apart(&y, &x);
    }
    return !a_first && !b_first;
}

static bool check_pair(const Verify *v, int list, const PgPhase *p, const PgPhase *q) {
    Touched a[PG_OPERAND_ROWS], b[PG_OPERAND_ROWS];
    int n = touched_by(v, p, a), m = touched_by(v, q, b);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < m; j++)
            if ((a[i].operand.access != PG_READ || b[j].operand.access != PG_READ) && overlap(v, list, &a[i], &b[j]))
                return bad_phase(v, list, p, "its %s and %s of phase %s of the same stage overlap", a[i].operand.name,
                                 b[j].operand.name, q->name);
    return true;
}

static bool check_conflicts_of(const Verify *v, int list, uint32_t i) {
    const PgPhase *p = phase_at(v, list, i);
    const PgStep *step = &v->program->steps[list];
    for (uint32_t j = i + 1; j < step->n_phases && step->phases[j].stage == p->stage; j++)
        if (!check_pair(v, list, p, &step->phases[j])) return false;
    return true;
}

static bool check_conflicts(const Verify *v) { return v->program->kernels == NULL || each_phase(v, check_conflicts_of); }

static bool same_ref(const PgRef *a, const PgRef *b) {
    return a->space == b->space && a->per_row == b->per_row && a->fixed == b->fixed;
}

/* Rope tables stand there before the first stage. */
static bool is_rope_table(const Verify *v, int list, const PgRef *ref) {
    for (uint32_t i = 0; i < v->program->n_ropes; i++)
        if (same_ref(&v->program->ropes[i].table[list], ref)) return true;
    return false;
}

/* Whether what is read is what was written, or the first part of it; for one row or few also another part, of linear layers in one phase. */
static bool is_part(int list, const Touched *read, const Touched *write) {
    uint64_t skipped = list == PG_ROW   ? read->ref->fixed - write->ref->fixed
                       : list == PG_FEW ? read->ref->per_row - write->ref->per_row
                                        : 0;
    bool begins = same_ref(read->ref, write->ref) || (list == PG_ROW && read->ref->fixed > write->ref->fixed) ||
                  (list == PG_FEW && read->ref->fixed == write->ref->fixed && read->ref->per_row > write->ref->per_row);
    return begins && read->operand.per_row + skipped <= write->operand.per_row && read->operand.fixed <= write->operand.fixed;
}

/* The last write of an earlier stage into what phase i reads must be all of it. */
static bool check_source(const Verify *v, int list, uint32_t i, const Touched *read) {
    const PgStep *step = &v->program->steps[list];
    const PgPhase *p = &step->phases[i];
    for (uint32_t j = i; j-- > 0;) {
        if (step->phases[j].stage == p->stage) continue;
        Touched writes[PG_OPERAND_ROWS];
        int n = touched_by(v, &step->phases[j], writes);
        for (int w = 0; w < n; w++) {
            const Touched *write = &writes[w];
            if (write->operand.access == PG_READ || !overlap(v, list, read, write)) continue;
            if (is_part(list, read, write) && read->operand.form == write->operand.form) return true;
            return bad_phase(v, list, p, "it reads %s where phase %s wrote something else", read->operand.name,
                             step->phases[j].name);
        }
    }
    return is_rope_table(v, list, read->ref) ? true
                                             : bad_phase(v, list, p, "it reads %s before any phase wrote it", read->operand.name);
}

static bool check_sources_of(const Verify *v, int list, uint32_t i) {
    Touched touched[PG_OPERAND_ROWS];
    int n = touched_by(v, phase_at(v, list, i), touched);
    for (int t = 0; t < n; t++)
        if (touched[t].ref->space == PG_ARENA && touched[t].operand.access != PG_WRITE && !check_source(v, list, i, &touched[t]))
            return false;
    return true;
}

static bool check_sources(const Verify *v) { return v->program->kernels == NULL || each_phase(v, check_sources_of); }

/* ---------------------------------------------------------------------------------------------- all of them */

static bool (*const RULES[])(const Verify *) = {
    check_program, check_tensors, check_weights,  check_states,    check_ropes,     check_kernels,
    check_steps,   check_tiles,   check_operands, check_residuals, check_conflicts, check_sources,
};

bool pg_verify(const PgProgram *program, SuDiags *diags) {
    Verify v = {program, diags};
    for (size_t i = 0; i < sizeof RULES / sizeof *RULES; i++)
        if (!RULES[i](&v)) return false;
    return true;
}
