#include "explore/cost.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "explore/quality.h"
#include "explore/table.h"
#include "explore/unit.h"
#include "measure/steps.h"
#include "support/digest.h"

/* What the compiler refuses at its latest, and what a sum of parts cannot tell: such points are built whole. */
static const double MOST_ELEMENTS = 281474976710656.0, MOST_STATE_BYTES = 281474976710656.0; /* 2^48 */

enum { MOST_TABLE = 1 << 30 }; /* bytes of blocks that are kept */

struct ExCoster {
    SuArena arena;
    const ExSpace *space;
    const FeBase *base;
    const ExDevice *devices;
    size_t n_devices;
    ExLayout *layout;
    ExSteps steps;
    ExTable *units;    /* Shared, by what reaches them */
    const ExQuality *quality; /* or NULL */
    ExTable *messages; /* of points that were refused: texts */
};

/* A unit's number; a choice of each axis; type and value of each derive. */
enum { MOST_KEY = 4 + 2 * EX_MAX_AXES + 12 * EX_MAX_RULES };

struct ExScratch {
    ExCoster *coster;
    SuDiags diags;    /* of what broke */
    SuArena *shared;  /* of the table: what this thread adds to it */
    SuArena *texts;
    char key[MOST_KEY];
    size_t key_size;
    uint16_t sequence[EX_MAX_STACK]; /* units of the point's blocks */
    size_t n_blocks;
    const ExUnit *units[EX_MAX_UNITS]; /* of the point; opaque: unused */
    const ExFrame *frame;
    SuArena whole;     /* of a point that was built whole */
    ExParts parts;
};

/* ---------------------------------------------------------------------------------------------- the steps of the workload */

static int64_t token_position(const ExWorkload *w) { return w->prefill + w->decode / 2; }

PgWork ex_decode_work(const ExWorkload *w) { return ms_decode_work(w->batch, token_position(w)); }

static void add_step(SuArena *arena, ExSteps *steps, size_t *capacity, PgWork work, const ExDevice *device) {
    steps->steps = su_grow(arena, steps->steps, capacity, steps->n_steps + 1, sizeof(ExStep));
    steps->steps[steps->n_steps++] = (ExStep){work.rows == 1 ? PG_ROW : PG_BLOCK, work, device->model.threads};
}

static void add_steps(SuArena *arena, ExSteps *steps, size_t *capacity, const ExWorkload *w, const ExDevice *device) {
    for (int64_t done = 0; done < w->prefill;) {
        PgWork work = ms_prompt_work(w->prefill, w->batch, device->max_rows, done);
        add_step(arena, steps, capacity, work, device);
        done += work.rows / w->batch;
    }
    add_step(arena, steps, capacity, ex_decode_work(w), device);
}

static void make_steps(ExCoster *c) {
    size_t capacity = 0;
    const ExWorkload *w = &c->space->workload;
    PgWork token = ms_decode_work(1, token_position(w));
    c->steps.steps = su_grow(&c->arena, NULL, &capacity, 1, sizeof(ExStep));
    c->steps.steps[c->steps.n_steps++] = (ExStep){PG_ROW, token, 1};
    for (size_t d = 0; d < c->n_devices; d++) {
        size_t like = 0;
        while (like < d && (c->devices[like].max_rows != c->devices[d].max_rows ||
                            c->devices[like].model.threads != c->devices[d].model.threads))
            like++;
        c->steps.first[d] = like < d ? c->steps.first[like] : c->steps.n_steps;
        if (like == d) add_steps(&c->arena, &c->steps, &capacity, w, &c->devices[d]);
        c->steps.end[d] = like < d ? c->steps.end[like] : c->steps.n_steps;
    }
}

/* ---------------------------------------------------------------------------------------------- life */

static ExCoster *create_unguarded(const ExSpace *space, const FeBase *base, const ExDevice *devices, size_t n_devices) {
    ExCoster *c = su_calloc(1, sizeof *c);
    if (!c) su_no_memory(sizeof *c);
    *c = (ExCoster){.space = space, .base = base, .devices = devices, .n_devices = n_devices};
    c->layout = ex_layout(space, base, &c->arena);
    make_steps(c);
    c->units = ex_table_create(MOST_TABLE);
    c->messages = ex_table_create(MOST_TABLE);
    return c;
}

ExCoster *ex_coster_create(const ExSpace *space, const FeBase *base, const ExDevice *devices, size_t n_devices, SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "preparing costs")) return NULL;
    ExCoster *c = create_unguarded(space, base, devices, n_devices);
    su_guard_end(&guard);
    return c;
}

void ex_coster_free(ExCoster *c) {
    if (!c) return;
    ex_table_free(c->units);
    ex_table_free(c->messages);
    su_arena_free(&c->arena);
    su_free(c);
}

ExScratch *ex_scratch_create(ExCoster *coster) {
    ExScratch *s = su_malloc_with(NULL, 0, sizeof *s);
    if (!s) return NULL;
    *s = (ExScratch){.coster = coster, .whole = SU_ARENA_FREE};
    s->shared = ex_table_arena(coster->units);
    s->texts = ex_table_arena(coster->messages);
    if (s->shared && s->texts) return s;
    ex_scratch_free(s);
    return NULL;
}

void ex_scratch_free(ExScratch *s) {
    if (!s) return;
    su_arena_free(&s->whole);
    su_diags_free(&s->diags);
    su_free(s);
}

const SuDiags *ex_scratch_diags(const ExScratch *s) { return &s->diags; }

void ex_coster_judge(ExCoster *c, const ExQuality *quality) { c->quality = quality; }

/* ---------------------------------------------------------------------------------------------- sums */

/* Blocks of a point in order, whether they are shared or built for it alone. */
static const ExUnit *block_at(const ExScratch *s, size_t i) { return s->frame ? s->units[s->sequence[i]] : &s->parts.blocks[i]; }
static const ExFrame *frame_of(const ExScratch *s) { return s->frame ? s->frame : &s->parts.frame; }

static void add_totals(const ExScratch *s, ExCost *out, double *out_packed) {
    const ExFrame *frame = frame_of(s);
    DrCost total = {0};
    double active = 0, packed = frame->before.packed_bytes;
    dr_add_cost(&total, &frame->before.cost);
    for (uint32_t i = 0; i < frame->before.n_phases[0]; i++) active += frame->before.weight_bytes[i];
    for (size_t b = 0; b < s->n_blocks; b++) {
        const ExUnit *unit = block_at(s, b);
        dr_add_cost(&total, &unit->cost);
        for (uint32_t i = 0; i < unit->n_phases[0]; i++) active += unit->weight_bytes[i];
        packed += unit->packed_bytes;
    }
    for (uint32_t i = 0; i < frame->after.n_phases[0]; i++) active += frame->after.weight_bytes[i];
    out->shared[EX_METRIC_PARAMETERS] = total.parameters;
    out->shared[EX_METRIC_ACTIVE_PARAMETERS] = total.active;
    out->shared[EX_METRIC_WEIGHT_BYTES] = total.weight_bytes;
    out->shared[EX_METRIC_ACTIVE_WEIGHT_BYTES] = active;
    out->shared[EX_METRIC_STATE_BYTES] = total.state_bytes;
    out->shared[EX_METRIC_FLOPS] = total.flops;
    *out_packed = packed;
}

/* Bytes a row of the tables of rope of all blocks, each once. */
static double rope_bytes(const ExScratch *s) {
    const PgRope *seen[EX_MAX_UNITS];
    size_t n = 0;
    double bytes = 0;
    for (size_t b = 0; b < s->n_blocks; b++) {
        const ExUnit *unit = block_at(s, b);
        for (uint32_t r = 0; r < unit->n_ropes; r++) {
            size_t i = 0;
            while (i < n && !pg_same_angles(seen[i], &unit->ropes[r])) i++;
            if (i < n || n == EX_MAX_UNITS) continue;
            seen[n++] = &unit->ropes[r];
            bytes += (double)pg_rope_bytes(&unit->ropes[r]);
        }
    }
    return bytes;
}

/* Over all devices, whose steps may have different rows. */
static double peak_bytes(const ExScratch *s, double packed, double state) {
    const ExSteps *steps = &s->coster->steps;
    double most = 0, ropes = rope_bytes(s);
    for (uint32_t i = 0; i < steps->n_steps; i++) {
        const ExStep *step = &steps->steps[i];
        double live = frame_of(s)->before.live[i];
        for (size_t b = 0; b < s->n_blocks; b++) live = fmax(live, block_at(s, b)->live[i]);
        live += ropes * (step->mode == PG_ROW ? 1 : (double)pg_ld((uint64_t)step->work.rows));
        most = fmax(most, live);
    }
    return packed + (double)s->coster->space->workload.batch * state + most;
}

/* What the phases of a step keep and go through, added up in order (ms_step_rates). */
typedef struct Walk {
    double kept, all;
} Walk;

static void walk_unit(const ExUnit *unit, uint32_t step, Walk *walk) {
    for (uint32_t i = 0; i < unit->n_phases[step]; i++) {
        walk->kept += (double)unit->phases[step][i].kept_bytes;
        walk->all += (double)unit->phases[step][i].all_bytes;
    }
}

static MsStepRates rates_of_step(const ExScratch *s, const MsTimeModel *model, uint32_t step) {
    const ExFrame *frame = frame_of(s);
    Walk walk = {0};
    walk_unit(&frame->before, step, &walk);
    for (size_t b = 0; b < s->n_blocks; b++) walk_unit(block_at(s, b), step, &walk);
    walk_unit(&frame->after, step, &walk);
    return ms_step_rates(model, walk.kept, walk.all);
}

static void add_seconds(const MsTimeModel *model, const MsStepRates *rates, const ExUnit *unit, uint32_t step, double *seconds) {
    for (uint32_t i = 0; i < unit->n_phases[step]; i++) *seconds += ms_phase_seconds(model, rates, &unit->phases[step][i]);
}

static double step_seconds(const ExScratch *s, const MsTimeModel *model, uint32_t step) {
    const ExFrame *frame = frame_of(s);
    MsStepRates rates = rates_of_step(s, model, step);
    double seconds = 0;
    add_seconds(model, &rates, &frame->before, step, &seconds);
    for (size_t b = 0; b < s->n_blocks; b++) add_seconds(model, &rates, block_at(s, b), step, &seconds);
    add_seconds(model, &rates, &frame->after, step, &seconds);
    return seconds;
}

/* Nanoseconds of milliseconds: more would say nothing, and takes long to print. */
static double six_decimals(double value) { return nearbyint(value * 1e6) / 1e6; }

static void add_times(const ExScratch *s, ExCost *out) {
    const ExCoster *c = s->coster;
    const ExWorkload *w = &c->space->workload;
    for (size_t d = 0; d < c->n_devices; d++) {
        double prefill = 0, decode = step_seconds(s, &c->devices[d].model, c->steps.end[d] - 1);
        for (uint32_t i = c->steps.first[d]; i + 1 < c->steps.end[d]; i++) prefill += step_seconds(s, &c->devices[d].model, i);
        double *metrics = out->on_device[d];
        metrics[EX_METRIC_PREFILL_MS] = six_decimals(1e3 * prefill);
        metrics[EX_METRIC_DECODE_MS] = six_decimals(1e3 * decode);
        metrics[EX_METRIC_DECODE_TOK_S] = six_decimals((double)w->batch / decode);
        metrics[EX_METRIC_PREFILL_TOK_S] = prefill > 0 ? six_decimals((double)(w->batch * w->prefill) / prefill) : NAN;
    }
}

static void add_kinds(const MsTimeModel *model, const MsStepRates *rates, const ExUnit *unit, uint32_t step, ExKindWork *out) {
    for (uint32_t i = 0; i < unit->n_phases[step]; i++) {
        const MsPhaseWork *phase = &unit->phases[step][i];
        ExKindWork *kind = &out[phase->class.kind];
        kind->phases++;
        kind->flops += (double)phase->flops;
        kind->exps += (double)phase->exps;
        kind->memory_bytes += (double)phase->every_bytes + (double)phase->chosen_bytes;
        kind->activation_bytes += (double)phase->activation_bytes;
        kind->seconds += ms_phase_seconds(model, rates, phase);
    }
}

void ex_cost_by_kind(const ExScratch *s, size_t device, bool prompts, ExKindWork out[PG_KIND_COUNT]) {
    const ExSteps *steps = &s->coster->steps;
    const MsTimeModel *model = &s->coster->devices[device].model;
    uint32_t last = steps->end[device] - 1, first = prompts ? steps->first[device] : last;
    for (int kind = 0; kind < PG_KIND_COUNT; kind++) out[kind] = (ExKindWork){0};
    for (uint32_t step = first; step < (prompts ? last : last + 1); step++) {
        MsStepRates rates = rates_of_step(s, model, step);
        add_kinds(model, &rates, &frame_of(s)->before, step, out);
        for (size_t b = 0; b < s->n_blocks; b++) add_kinds(model, &rates, block_at(s, b), step, out);
        add_kinds(model, &rates, &frame_of(s)->after, step, out);
    }
}

static void sum(const ExScratch *s, ExCost *out) {
    double packed;
    for (int m = 0; m < EX_METRIC_COUNT; m++) out->shared[m] = NAN;
    for (size_t d = 0; d < s->coster->n_devices; d++) memcpy(out->on_device[d], out->shared, sizeof out->shared);
    add_totals(s, out, &packed);
    out->shared[EX_METRIC_PEAK_BYTES] = peak_bytes(s, packed, out->shared[EX_METRIC_STATE_BYTES]);
    add_times(s, out);
}

static void hash_unguarded(const ExScratch *s, uint8_t out[EX_HASH]) {
    const ExFrame *frame = frame_of(s);
    SuDigestStream *stream = su_digest_start();
    su_digest_add(stream, frame->before.canonical, frame->before.canonical_size);
    for (size_t b = 0; b < s->n_blocks; b++) su_digest_add(stream, block_at(s, b)->canonical, block_at(s, b)->canonical_size);
    su_digest_add(stream, frame->after.canonical, frame->after.canonical_size);
    SuDigest digest = su_digest_now(stream);
    memcpy(out, digest.bytes, EX_HASH);
    su_digest_end(stream);
}

bool ex_hash(ExScratch *s, uint8_t out[EX_HASH]) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, &s->diags, "hashing a point")) return false;
    hash_unguarded(s, out);
    su_guard_end(&guard);
    return true;
}

bool ex_price(const ExSpace *space, ExScratch *scratch, uint64_t index, ExPriced *out) {
    ExValue values[EX_MAX_AXES], derived[EX_MAX_RULES];
    const char *why;
    const ExExpr *where;
    if (index >= space->n_indices) return false;
    ex_choices(space, index, out->choices);
    return ex_point(space, out->choices, values, derived, &why, &where) == EX_POINT &&
           ex_cost(scratch, out->choices, derived, &out->cost, &why) == EX_COSTED && ex_hash(scratch, out->hash);
}

/* ---------------------------------------------------------------------------------------------- building */

/* Why a build failed, as one of the coster's texts; the first error counts. */
static ExVerdict refused(ExScratch *s, DrBuild *build, const char **out_message) {
    if (build->diags.failure.code != SU_NO_FAILURE) {
        su_error(&s->diags, (SuSpan){0}, NULL, "%s", build->diags.failure.text);
        return EX_BROKEN;
    }
    const char *message = "refused without a message";
    for (size_t i = 0; i < build->diags.count; i++) {
        if (build->diags.items[i].severity != SU_ERROR) continue;
        message = build->diags.items[i].message;
        break;
    }
    *out_message = ex_table_text(s->coster->messages, message, s->texts);
    return EX_REFUSED;
}

typedef struct Point {
    const uint32_t *choices;
    const ExValue *derived;
} Point;

/* How a point's spec is built. */
typedef struct Way {
    bool once;     /* every group once */
    bool with_off; /* ex_edits */
} Way;

/* Builds the point's spec and takes it apart into `arena`. */
static ExVerdict build_parts(ExScratch *s, const Point *point, Way way, SuArena *arena, ExParts *out, const char **out_message) {
    ExCoster *c = s->coster;
    SuArena edits_arena = {0};
    size_t n;
    const FeEdit *edits = ex_edits(c->space, point->choices, point->derived, way.with_off, &edits_arena, &n);
    if (way.once) {
        FeEdit *all = SU_NEW_ARRAY(&edits_arena, FeEdit, n + c->layout->n_once);
        for (size_t i = 0; i < n; i++) all[i] = edits[i];
        for (size_t i = 0; i < c->layout->n_once; i++) all[n++] = c->layout->once[i];
        edits = all;
    }
    DrBuild build = {.has_spec = true};
    DrBuildOptions options = {.spec = c->base->source->path};
    bool ok = fe_spec_edited(c->base, edits, n, &build.spec, &build.diags) && dr_build_graph(&build) &&
              dr_build_program(&build, &options) && ex_take_parts(&build, &c->steps, arena, out);
    ExVerdict verdict = ok ? EX_COSTED : refused(s, &build, out_message);
    dr_build_free(&build);
    su_arena_free(&edits_arena);
    return verdict;
}

/* The workload must fit the positions. */
static ExVerdict check_positions(const ExScratch *s, bool bounded, const char **out_message) {
    const ExWorkload *w = &s->coster->space->workload;
    if (!bounded || w->prefill + w->decode <= frame_of(s)->position_bound) return EX_COSTED;
    char text[128];
    snprintf(text, sizeof text, "the workload has %" PRId64 " tokens: more than max_positions", w->prefill + w->decode);
    *out_message = ex_table_text(s->coster->messages, text, s->texts);
    return EX_REFUSED;
}

static ExVerdict build_whole(ExScratch *s, const Point *point, bool with_off, const char **out_message) {
    su_arena_free(&s->whole);
    s->whole = (SuArena)SU_ARENA_FREE;
    return build_parts(s, point, (Way){.with_off = with_off}, &s->whole, &s->parts, out_message);
}

static ExVerdict cost_whole(ExScratch *s, const Point *point, ExCost *out, const char **out_message) {
    s->frame = NULL;
    ExVerdict verdict = build_whole(s, point, true, out_message);
    const char *without;
    if (verdict == EX_REFUSED && ex_has_off(s->coster->space, point->choices)) verdict = build_whole(s, point, false, &without);
    if (verdict != EX_COSTED) return verdict;
    s->n_blocks = (size_t)s->parts.n_blocks;
    bool bounded = false;
    for (int64_t i = 0; i < s->parts.n_blocks; i++) bounded |= s->parts.bounded[i];
    verdict = check_positions(s, bounded, out_message);
    if (verdict == EX_COSTED) sum(s, out);
    return verdict;
}

/* ---------------------------------------------------------------------------------------------- sharing */

/* A unit in the table: a block, or what stands outside. */
typedef struct Shared {
    ExUnit unit;
    ExFrame frame;
    bool bounded;
    int64_t max_rows;
} Shared;

enum { OUTSIDE_BLOCKS = EX_MAX_UNITS, WITHOUT_OFF = 1 << 16 };

static void add_to_key(ExScratch *s, const void *bytes, size_t size) {
    memcpy(s->key + s->key_size, bytes, size);
    s->key_size += size;
}

/* The choices and values that reach a unit, as bytes; `which` sets units apart, and those of points without their axes that are off. */
static void make_key(ExScratch *s, uint32_t which, bool with_off, const ExReach *reach, const Point *point) {
    s->key_size = 0;
    which |= with_off ? 0 : WITHOUT_OFF;
    add_to_key(s, &which, sizeof which);
    for (uint64_t left = reach->axes; left; left &= left - 1) {
        uint16_t choice = (uint16_t)point->choices[__builtin_ctzll(left)];
        add_to_key(s, &choice, sizeof choice);
    }
    for (uint64_t left = reach->derives; left; left &= left - 1) {
        const ExValue *value = &point->derived[__builtin_ctzll(left)];
        uint32_t type = (uint32_t)value->type;
        add_to_key(s, &type, sizeof type);
        if (value->type == EX_WORD)
            add_to_key(s, &value->word, sizeof value->word);
        else
            add_to_key(s, &value->number, sizeof value->number);
    }
}

static const ExReach *reach_of(const ExLayout *layout, uint32_t which) {
    return which == OUTSIDE_BLOCKS ? &layout->outside : &layout->units[which];
}

static const Shared *find(ExScratch *s, uint32_t which, bool with_off, const Point *point) {
    make_key(s, which, with_off, reach_of(s->coster->layout, which), point);
    return ex_table_find(s->coster->units, s->key, s->key_size);
}

/* Of those that are built at the same time by two threads the first stays. */
static void keep(ExScratch *s, uint32_t which, bool with_off, const Point *point, const Shared *shared) {
    make_key(s, which, with_off, reach_of(s->coster->layout, which), point);
    char *key = su_strndup(s->shared, s->key, s->key_size);
    if (!ex_table_put(s->coster->units, key, s->key_size, shared)) su_no_memory(s->key_size);
}

/* Builds the point with every group once and keeps all of its units. */
static ExVerdict fill(ExScratch *s, const Point *point, bool with_off, const char **out_message) {
    uint32_t n = s->coster->layout->n_units;
    ExParts parts;
    ExVerdict verdict = build_parts(s, point, (Way){.once = true, .with_off = with_off}, s->shared, &parts, out_message);
    if (verdict != EX_COSTED) return verdict;
    Shared *shared = SU_NEW_ARRAY(s->shared, Shared, n + 1);
    for (uint32_t u = 0; u < n; u++) {
        shared[u] = (Shared){.unit = parts.blocks[u], .bounded = parts.bounded[u], .max_rows = parts.max_rows};
        keep(s, u, with_off, point, &shared[u]);
    }
    shared[n] = (Shared){.frame = parts.frame, .max_rows = parts.max_rows};
    keep(s, OUTSIDE_BLOCKS, with_off, point, &shared[n]);
    return EX_COSTED;
}

/* What is known of a point as a whole once its units were looked up. */
typedef struct Found {
    bool bounded;
    int64_t max_rows;
} Found;

/* Looks all units of the point up. false: some are missing. */
static bool look_up(ExScratch *s, const Point *point, bool with_off, Found *out) {
    const Shared *outside = find(s, OUTSIDE_BLOCKS, with_off, point);
    if (!outside) return false;
    *out = (Found){.max_rows = outside->max_rows};
    for (uint32_t u = 0; u < s->coster->layout->n_units; u++) {
        const Shared *unit = find(s, u, with_off, point);
        if (!unit) return false;
        s->units[u] = &unit->unit;
        out->bounded |= unit->bounded;
        if (unit->max_rows < out->max_rows) out->max_rows = unit->max_rows;
    }
    s->frame = &outside->frame;
    return true;
}

/* Looks the point up in one of its ways; builds what is missing. EX_REFUSED: neither can be built. */
static ExVerdict look_up_or_build(ExScratch *s, const Point *point, Found *out, const char **out_message) {
    bool off = ex_has_off(s->coster->space, point->choices);
    if (look_up(s, point, true, out) || (off && look_up(s, point, false, out))) return EX_COSTED;
    if (ex_table_full(s->coster->units)) return EX_REFUSED;
    ExVerdict verdict = fill(s, point, true, out_message);
    if (verdict == EX_COSTED) return look_up(s, point, true, out) ? EX_COSTED : EX_REFUSED;
    if (verdict == EX_REFUSED && off) verdict = fill(s, point, false, out_message);
    return verdict != EX_COSTED || look_up(s, point, false, out) ? verdict : EX_REFUSED;
}

static ExVerdict cost_shared(ExScratch *s, const Point *point, ExCost *out, const char **out_message) {
    const ExLayout *layout = s->coster->layout;
    Found found;
    s->n_blocks = layout->opaque ? 0 : ex_expand(layout, s->coster->space, point->choices, point->derived, s->sequence);
    if (s->n_blocks == 0) return cost_whole(s, point, out, out_message);
    ExVerdict verdict = look_up_or_build(s, point, &found, out_message);
    if (verdict == EX_BROKEN) return verdict;
    if (verdict == EX_REFUSED) return cost_whole(s, point, out, out_message); /* with the message of the whole spec */
    if (found.max_rows < PG_MAX_ROWS) return cost_whole(s, point, out, out_message);
    verdict = check_positions(s, found.bounded, out_message);
    if (verdict != EX_COSTED) return verdict;
    sum(s, out);
    if (out->shared[EX_METRIC_PARAMETERS] > MOST_ELEMENTS || out->shared[EX_METRIC_STATE_BYTES] > MOST_STATE_BYTES)
        return cost_whole(s, point, out, out_message);
    return EX_COSTED;
}

/* ---------------------------------------------------------------------------------------------- entry point */

ExVerdict ex_cost(ExScratch *s, const uint32_t *choices, const ExValue *derived, ExCost *out, const char **out_message) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, &s->diags, "costing a point")) return EX_BROKEN;
    ExVerdict verdict = cost_shared(s, &(Point){choices, derived}, out, out_message);
    if (verdict == EX_COSTED && s->coster->quality) {
        uint8_t hash[EX_HASH];
        hash_unguarded(s, hash);
        out->shared[EX_METRIC_QUALITY] = ex_quality_of(s->coster->quality, hash);
    }
    su_guard_end(&guard);
    return verdict;
}
