/* A phase's x is made of words if the linear layer multiplies it by tensor cores, four k at a time, and if one phase has made all of it, by
 * a kernel that can write words. What holds for one phase of a kernel must hold for all of them. */
#include "codegen/cuda/words.h"

#include "ir/program_operands.h"

/* Bytes of the arena in a step of that LD; what holds for the smallest and the largest LD holds between. */
typedef struct Range {
    uint64_t start, end;
} Range;
enum {
    LDS = 2,
    OF_WORDS = 4 /* k whose words lie together */,
    PANEL = PG_LANES * sizeof(float) /* bytes of a row */,
    ALL_PANELS = 1 << 24
};

/* An operand of a phase that lies in the arena. */
typedef struct Value {
    const PgRef *ref;
    PgOperand operand;
    Range at[LDS];
} Value;

typedef struct Plan {
    const CgCudaTarget *target;
    const PgProgram *program;
    const PgStep *step;
    CgWordPlan words;
    uint64_t lds[LDS];
    uint32_t *maker; /* [n_phases] of x, where it may be words; else n_phases */
    uint64_t *part; /* [n_phases]: the panel of what the maker writes that x begins with */
    bool *floats; /* [n_phases]: somebody reads as floats what the phase writes as Y */
    bool *capable; /* [n_kernels]: it can write words */
    uint32_t *last; /* [n_phases]: the last phase that reads the words */
} Plan;

static const PgKernel *kernel_of(const Plan *p, uint32_t phase) { return &p->program->kernels[p->step->phases[phase].kernel]; }

/* The operands in the arena of a phase, those that it writes or those that it reads. */
static int values_of(const Plan *p, uint32_t phase, bool written, Value out[PG_OPERAND_ROWS]) {
    PgOperand all[PG_OPERAND_ROWS];
    int n = pg_operands(kernel_of(p, phase), all), found = 0;
    for (int i = 0; i < n; i++) {
        const PgRef *ref = &p->step->phases[phase].operands[all[i].slot];
        bool of_kind = written ? all[i].access != PG_READ : all[i].access != PG_WRITE;
        if (all[i].need == PG_MUST_NOT || ref->space != PG_ARENA || !of_kind) continue;
        Value *v = &out[found++];
        *v = (Value){.ref = ref, .operand = all[i]};
        for (int l = 0; l < LDS; l++) {
            uint64_t start = ref->per_row * p->lds[l] + ref->fixed;
            v->at[l] = (Range){start, start + all[i].per_row * p->lds[l] + all[i].fixed};
        }
    }
    return found;
}

static bool overlap(const Value *a, const Value *b) {
    for (int l = 0; l < LDS; l++)
        if (a->at[l].start < b->at[l].end && b->at[l].start < a->at[l].end) return true;
    return false;
}

static bool covers(const Value *a, const Value *b) {
    for (int l = 0; l < LDS; l++)
        if (a->at[l].start > b->at[l].start || a->at[l].end < b->at[l].end) return false;
    return true;
}

static bool same(const Value *a, const Value *b) { return a->operand.layout == b->operand.layout && covers(a, b) && covers(b, a); }

/* Whether b is all of a, or panels of its rows, from *first on. */
static bool is_part(const Value *a, const Value *b, uint64_t *first) {
    *first = 0;
    if (same(a, b)) return true;
    bool rows = a->operand.layout == PG_ROWS && b->operand.layout == PG_ROWS;
    if (!rows || !covers(a, b) || a->ref->fixed != b->ref->fixed || b->ref->per_row < a->ref->per_row) return false;
    uint64_t before = b->ref->per_row - a->ref->per_row;
    *first = before / PANEL;
    return before % PANEL == 0;
}

/* Whether x, the part of y from panel `first` on, can be words: those of 32 k lie together, and of fast targets in one panel's place. */
static bool may_be_part(const Plan *p, const PgKernel *maker, const Value *y, const Value *x, uint64_t *first) {
    if (!is_part(y, x, first) || (maker->kind != PG_LINEAR && !same(y, x))) return false;
    return !p->target->fast || *first % 2 == 0;
}

static bool multiplies_words(const Plan *p, const PgKernel *k) {
    return k->kind == PG_LINEAR && k->mode == PG_BLOCK && p->target->tensor_cores && !p->target->warpgroups && !k->rounds &&
           ir_dtype(k->dtype)->mma == IR_MMA_16 && k->K % OF_WORDS == 0;
}

/* The slot of what a kernel can write as words; PG_NO_SLOT: it cannot. */
static int slot_of_words(const PgKernel *k) {
    /* and one */
    static const int slots[PG_KIND_COUNT] = {
        [PG_NORM] = PG_NORM_Y + 1,     [PG_LINEAR] = PG_LINEAR_Y + 1,   [PG_CONV] = PG_CONV_Y + 1,
        [PG_SCAN] = PG_SCAN_Y + 1,     [PG_HEADS] = PG_HEADS_Y + 1,     [PG_TRAPEZOID] = PG_TRAPEZOID_Y + 1,
        [PG_ATTEND] = PG_ATTEND_Y + 1, [PG_COMBINE] = PG_COMBINE_Y + 1, [PG_ELEMENTWISE] = PG_OP_Y + 1};
    bool logits = k->kind == PG_LINEAR && pg_does(k, PG_STEP_LOGITS), states = k->kind == PG_ELEMENTWISE && k->N > 1;
    if (k->norm_behind) return pg_norm_slots(k->kind).scaled;
    return k->mode == PG_BLOCK && !logits && !states ? slots[k->kind] - 1 : PG_NO_SLOT;
}

/* Y of a phase whose kernel can write words. */
static bool written_value(const Plan *p, uint32_t phase, Value *out) {
    Value all[PG_OPERAND_ROWS];
    int n = values_of(p, phase, true, all), slot = slot_of_words(kernel_of(p, phase));
    for (int i = 0; i < n; i++) {
        if (all[i].operand.slot != slot) continue;
        *out = all[i];
        return true;
    }
    return false;
}

/* Notes who made what a phase reads: going back, until all of it is found. */
static void trace(Plan *p, uint32_t phase, const Value *read, bool may_be_words) {
    bool first = true;
    for (uint32_t i = phase; i-- > 0;) {
        Value made[PG_OPERAND_ROWS], y;
        int n = values_of(p, i, true, made);
        bool all = false, some = false;
        for (int m = 0; m < n; m++) {
            some = some || overlap(&made[m], read);
            all = all || covers(&made[m], read);
        }
        if (!some) continue;
        uint64_t part;
        bool as_words = may_be_words && first && all && written_value(p, i, &y) && may_be_part(p, kernel_of(p, i), &y, read, &part);
        if (as_words) {
            p->maker[phase] = i;
            p->part[phase] = part;
        } else if (written_value(p, i, &y) && overlap(&y, read)) {
            p->floats[i] = true;
        }
        if (all) return;
        first = false;
    }
}

static void trace_phase(Plan *p, uint32_t phase) {
    const PgKernel *k = kernel_of(p, phase);
    Value read[PG_OPERAND_ROWS];
    int n = values_of(p, phase, false, read);
    p->maker[phase] = p->step->n_phases;
    for (int i = 0; i < n; i++) trace(p, phase, &read[i], multiplies_words(p, k) && read[i].operand.slot == PG_LINEAR_X);
}

/* Words are not written over what is still read as something else: x and y of one phase lie apart. */
static bool lies_apart(const Plan *p, uint32_t phase) {
    Value read[PG_OPERAND_ROWS], y;
    int n = values_of(p, phase, false, read);
    if (!written_value(p, phase, &y)) return false;
    for (int i = 0; i < n; i++)
        if (overlap(&read[i], &y)) return false;
    return true;
}

/* What could be. */
static void begin(Plan *p) {
    for (uint32_t i = 0; i < p->program->n_kernels; i++) {
        p->words.read[i] = multiplies_words(p, &p->program->kernels[i]);
        p->capable[i] = slot_of_words(&p->program->kernels[i]) != PG_NO_SLOT;
        p->words.types[i] = IR_F32; /* none yet */
    }
    for (uint32_t i = 0; i < p->step->n_phases; i++) {
        uint32_t kernel = p->step->phases[i].kernel;
        trace_phase(p, i);
        p->capable[kernel] = p->capable[kernel] && lies_apart(p, i);
    }
}

/* A kernel reads words if all its phases can, from kernels that can write them for that type of weights. */
static void choose_readers(Plan *p) {
    uint32_t n = p->step->n_phases;
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t reader = p->step->phases[i].kernel;
            if (!p->words.read[reader]) continue;
            uint32_t maker = p->maker[i] < n ? p->step->phases[p->maker[i]].kernel : 0;
            IrDtype *type = &p->words.types[maker];
            bool fits =
                p->maker[i] < n && p->capable[maker] && (*type == IR_F32 || *type == (IrDtype)p->program->kernels[reader].dtype);
            if (fits) {
                *type = (IrDtype)p->program->kernels[reader].dtype;
            } else {
                p->words.read[reader] = false;
                changed = true;
            }
        }
        /* whoever reads floats after all */
        for (uint32_t i = 0; i < n; i++) {
            if (p->maker[i] == n || p->words.read[p->step->phases[i].kernel]) continue;
            p->floats[p->maker[i]] = true;
            p->maker[i] = n;
        }
    }
}

/* Whether what the phase writes as words is what it tells of the residual stream. */
static bool is_hidden(const Plan *p, uint32_t i) {
    const PgPhase *phase = &p->step->phases[i];
    return phase->hidden != 0 && (int)phase->hidden_slot == slot_of_words(kernel_of(p, i));
}

/* Of a result that several layers share, words are of as many panels as are read so of any phase of the kernel. */
static void choose_panels(Plan *p) {
    for (uint32_t i = 0; i < p->program->n_kernels; i++) p->words.panels[i] = 0;
    for (uint32_t i = 0; i < p->step->n_phases; i++) {
        if (p->maker[i] == p->step->n_phases) continue;
        uint64_t *panels = &p->words.panels[p->step->phases[p->maker[i]].kernel];
        uint64_t read = kernel_of(p, i)->x_layout == PG_ROWS ? pg_panels(kernel_of(p, i)->K) : ALL_PANELS;
        if (p->part[i] + read > *panels) *panels = p->part[i] + read;
    }
    for (uint32_t i = 0; i < p->step->n_phases; i++) {
        uint64_t *panels = &p->words.panels[p->step->phases[i].kernel];
        Value y;
        if (written_value(p, i, &y) && (y.operand.layout != PG_ROWS || *panels * PANEL >= y.operand.per_row)) *panels = 0;
    }
}

static uint64_t words_bytes(const Plan *p, uint32_t phase, const Value *y) {
    uint64_t panels = p->words.panels[p->step->phases[phase].kernel];
    return panels > 0 ? panels * PG_LANES * sizeof(float) : y->operand.per_row;
}

/* Where somebody else reads the value, in any phase of the kernel, the words lie beside it. */
static void choose_writers(Plan *p) {
    const PgStep *step = p->step;
    for (uint32_t i = 0; i < p->program->n_kernels; i++) p->words.written[i] = CG_NO_WORDS;
    for (uint32_t i = 0; i < step->n_phases; i++)
        if (p->maker[i] < step->n_phases) p->words.written[step->phases[p->maker[i]].kernel] = CG_WORDS_ALONE;
    choose_panels(p);
    for (uint32_t i = 0; i < step->n_phases; i++) {
        uint32_t kernel = step->phases[i].kernel;
        uint8_t *written = &p->words.written[kernel];
        if (*written != CG_NO_WORDS && (p->floats[i] || is_hidden(p, i) || p->words.panels[kernel] > 0)) *written = CG_WORDS_TOO;
    }
}

/* Kernels whose words would lie beside what is not rows write none; their readers round. */
static bool drop_uneven(Plan *p) {
    bool dropped = false;
    for (uint32_t i = 0; i < p->step->n_phases; i++) {
        uint32_t kernel = p->step->phases[i].kernel;
        Value y;
        if (p->words.written[kernel] != CG_WORDS_TOO || !p->capable[kernel]) continue;
        if (written_value(p, i, &y) && y.operand.fixed == 0) continue;
        p->capable[kernel] = false;
        dropped = true;
    }
    return dropped;
}

/* Whether phase a is over when phase b begins: those of a stage run at the same time. */
static bool ended_before(const PgStep *step, uint32_t a, uint32_t b) { return step->phases[a].stage < step->phases[b].stage; }

/* Where the words lie that the phase reads. */
static PgRef place_of_part(const Plan *p, uint32_t phase) {
    PgRef place = p->words.places[p->maker[phase]];
    place.per_row += p->part[phase] * (p->target->fast ? PANEL / 2 : PANEL);
    return place;
}

/* Where words lie. Beside: first come, first served, among those that live at the same time. */
static void place(Plan *p) {
    const PgStep *step = p->step;
    for (uint32_t i = 0; i < step->n_phases; i++) p->last[i] = i; /* words that nobody reads live in their stage */
    for (uint32_t i = 0; i < step->n_phases; i++)
        if (p->maker[i] < step->n_phases) p->last[p->maker[i]] = i;
    for (uint32_t i = 0; i < step->n_phases; i++) {
        Value y;
        if (p->words.written[step->phases[i].kernel] == CG_NO_WORDS || !written_value(p, i, &y)) continue;
        PgRef *at = &p->words.places[i];
        *at = *y.ref;
        if (p->words.written[step->phases[i].kernel] == CG_WORDS_ALONE) continue;
        uint64_t start = 0;
        for (uint32_t j = 0; j < i; j++) { /* behind all that live */
            const PgRef *other = &p->words.places[j];
            Value theirs;
            if (p->words.written[step->phases[j].kernel] != CG_WORDS_TOO || ended_before(step, p->last[j], i) ||
                !written_value(p, j, &theirs))
                continue;
            uint64_t end = other->per_row - step->arena_per_row + words_bytes(p, j, &theirs);
            if (end > start) start = end;
        }
        *at = (PgRef){.space = PG_ARENA, .per_row = step->arena_per_row + start, .fixed = step->arena_fixed};
        uint64_t end = start + words_bytes(p, i, &y);
        if (end > p->words.arena_per_row) p->words.arena_per_row = end;
    }
    for (uint32_t i = 0; i < step->n_phases; i++)
        if (p->maker[i] < step->n_phases) p->words.x[i] = place_of_part(p, i);
}

CgWordPlan cg_words_plan(const CgCudaTarget *target, const PgProgram *program, const PgStep *list, int64_t most_rows,
                         SuArena *arena) {
    Plan p = {.target = target, .program = program, .step = list};
    uint32_t n = p.step->n_phases;
    SuArena scratch = {0};
    p.words.read = SU_NEW_ARRAY(arena, bool, program->n_kernels);
    p.words.written = SU_NEW_ARRAY(arena, uint8_t, program->n_kernels);
    p.words.types = SU_NEW_ARRAY(arena, IrDtype, program->n_kernels);
    p.words.panels = SU_NEW_ARRAY(arena, uint64_t, program->n_kernels);
    p.words.places = SU_NEW_ARRAY(arena, PgRef, n);
    p.words.x = SU_NEW_ARRAY(arena, PgRef, n);
    p.capable = SU_NEW_ARRAY(&scratch, bool, program->n_kernels);
    p.floats = SU_NEW_ARRAY(&scratch, bool, n);
    p.maker = SU_NEW_ARRAY(&scratch, uint32_t, n);
    p.part = SU_NEW_ARRAY(&scratch, uint64_t, n);
    p.last = SU_NEW_ARRAY(&scratch, uint32_t, n);
    p.lds[0] = pg_ld(1);
    p.lds[1] = pg_ld((uint64_t)most_rows);
    begin(&p);
    do {
        choose_readers(&p);
        choose_writers(&p);
    } while (drop_uneven(&p));
    place(&p);
    su_arena_free(&scratch);
    return p.words;
}
