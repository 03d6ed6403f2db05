/* Phases in groups: blocks that run the same kernels are one part, phases of the same kernel in them one line. */
#include <math.h>
#include <string.h>

#include "measure/explain.h"
#include "codegen/target.h"

/* ---------------------------------------------------------------------------------------------- grouping */

/* A phase's name without its block: "in_proj" of "blocks.3.in_proj". */
static const char *short_name(const PgPhase *phase) {
    if (phase->block < 0) return phase->name;
    const char *dot = strchr(phase->name, '.'), *second = dot ? strchr(dot + 1, '.') : NULL;
    return second ? second + 1 : phase->name;
}

static bool alike(const PgPhase *a, const PgPhase *b) {
    return a->kernel == b->kernel && strcmp(short_name(a), short_name(b)) == 0;
}

/* The end of the phases from `first` on that belong to the same block; a phase of no block stands alone. */
static uint32_t end_of_block(const PgStep *step, uint32_t first) {
    uint32_t end = first + 1;
    if (step->phases[first].block < 0) return end;
    while (end < step->n_phases && step->phases[end].block == step->phases[first].block) end++;
    return end;
}

/* What is special about a phase's block; nothing about a phase of no block. */
static void tell_block(const MsExplained *x, const PgPhase *phase, SuText *out) {
    if (phase->block >= 0) fe_describe_block(&x->spec->blocks[phase->block], out);
}

static bool told_alike(const MsExplained *x, const MsPart *part, const PgPhase *phase) {
    SuText text = {0};
    tell_block(x, phase, &text);
    bool same = strcmp(part->about, text.size ? text.text : "") == 0;
    su_text_free(&text);
    return same;
}

/* The part of blocks like the one of the phases first … end - 1; NULL if there is none yet. */
static MsPart *find_part(MsExplained *x, const PgStep *step, uint32_t first, uint32_t end) {
    for (size_t p = 0; p < x->n_parts; p++) {
        MsPart *part = &x->parts[p];
        bool same = part->end - part->first == end - first && (part->blocks > 0) == (step->phases[first].block >= 0);
        for (uint32_t i = 0; same && i < end - first; i++) same = alike(&step->phases[part->first + i], &step->phases[first + i]);
        if (same && told_alike(x, part, &step->phases[first])) return part;
    }
    return NULL;
}

static MsPart *new_part(MsExplained *x, const PgStep *step, uint32_t first, uint32_t end, SuArena *arena) {
    x->parts = su_grow(arena, x->parts, &x->parts_capacity, x->n_parts + 1, sizeof *x->parts);
    MsPart *part = &x->parts[x->n_parts++];
    *part = (MsPart){.first = first, .end = end, .sum = {.name = step->phases[first].name}};
    SuText text = {0};
    tell_block(x, &step->phases[first], &text);
    part->about = su_strdup(arena, text.size ? text.text : "");
    su_text_free(&text);
    if (step->phases[first].block >= 0) part->sum.name = fe_block_word(&x->spec->blocks[step->phases[first].block]);
    return part;
}

static void note_spec_line(MsPart *part, uint32_t line, SuArena *arena) {
    for (size_t i = 0; i < part->n_spec_lines; i++)
        if (part->spec_lines[i] == line) return;
    part->spec_lines =
        su_grow(arena, part->spec_lines, &part->spec_lines_capacity, part->n_spec_lines + 1, sizeof *part->spec_lines);
    part->spec_lines[part->n_spec_lines++] = line;
}

static MsLine *find_line(const MsPart *part, const PgPhase *phase) {
    for (size_t i = 0; i < part->n_lines; i++) {
        MsLine *line = &part->lines[i];
        if (line->kernel_index == phase->kernel && strcmp(line->name, short_name(phase)) == 0) return line;
    }
    return NULL;
}

static MsLine *new_line(const MsExplained *x, MsPart *part, const PgPhase *phase, SuArena *arena) {
    char kernel[160];
    cg_kernel_name(&x->program->kernels[phase->kernel], phase->kernel, kernel, sizeof kernel);
    part->lines = su_grow(arena, part->lines, &part->lines_capacity, part->n_lines + 1, sizeof *part->lines);
    part->lines[part->n_lines] =
        (MsLine){.name = short_name(phase), .kernel = su_strdup(arena, kernel), .kernel_index = phase->kernel};
    return &part->lines[part->n_lines++];
}

static void add_cost(MsLine *line, const PgCost *cost) {
    line->times++;
    pg_cost_add(&line->cost, cost);
}

MsExplained ms_explain_step(const FeSpec *spec, const PgProgram *program, int list, PgWork work, SuArena *arena) {
    MsExplained x = {.spec = spec, .program = program, .list = list, .work = work, .total = {.name = "the step"}};
    const PgStep *step = &program->steps[list];
    for (uint32_t first = 0, end; first < step->n_phases; first = end) {
        end = end_of_block(step, first);
        MsPart *part = find_part(&x, step, first, end);
        if (!part) part = new_part(&x, step, first, end, arena);
        part->blocks += step->phases[first].block >= 0;
        note_spec_line(part, step->phases[first].line, arena);
        for (uint32_t i = first; i < end; i++) {
            MsLine *line = find_line(part, &step->phases[i]);
            PgCost cost = pg_phase_cost(program, &step->phases[i], &work);
            if (!line) line = new_line(&x, part, &step->phases[i], arena);
            add_cost(line, &cost);
            line->phase = i;
            line->stages += i == 0 || step->phases[i - 1].stage != step->phases[i].stage;
            add_cost(&part->sum, &cost);
            add_cost(&x.total, &cost);
        }
    }
    return x;
}

/* ---------------------------------------------------------------------------------------------- times and limits */

static const double SMALL_SECONDS = 10e-6; /* a phase this short, far from its limit, is too small to be worth its claims */

/* Activations come from caches, but hardly faster than the rest when a step is all in caches, and are little when it is not. */
static double reading_seconds(const MsLine *line, const MsLimits *limits) {
    return (line->cost.weight_bytes + line->cost.state_bytes + line->cost.activation_bytes) / (1e9 * limits->read_gb_s);
}

/* exp and multiply-adds use the same units of the processor: their times add up. */
static double arithmetic_seconds(const MsLine *line, const MsLimits *limits) {
    return line->cost.exps / (1e9 * limits->exp_g_s) + line->cost.flops / (1e9 * limits->panel_gflop_s);
}

static void judge(MsLine *line, const MsLimits *limits) {
    double reading = reading_seconds(line, limits), arithmetic = arithmetic_seconds(line, limits);
    double seconds = line->working + line->waiting;
    line->bound = fmax(reading, arithmetic);
    line->bottleneck = reading >= arithmetic ? MS_BY_READING : MS_BY_ARITHMETIC;
    if (line->waiting > seconds / 2) line->bottleneck = MS_BY_WAITING;
    if (line->bound < seconds / 2 && seconds < SMALL_SECONDS * (double)line->times) line->bottleneck = MS_BY_SIZE;
}

static void add_line(MsLine *to, const MsLine *line) {
    to->working += line->working;
    to->waiting += line->waiting;
    to->bound += line->bound;
}

static void add_times(MsExplained *x, const MossPhaseTime *times, double scale) {
    const PgStep *step = &x->program->steps[x->list];
    for (uint32_t first = 0, end; first < step->n_phases; first = end) {
        end = end_of_block(step, first);
        MsPart *part = find_part(x, step, first, end);
        for (uint32_t i = first; i < end; i++) {
            MsLine *line = find_line(part, &step->phases[i]);
            for (int worker = 0; worker < x->threads; worker++) {
                const MossPhaseTime *time = &times[(size_t)worker * step->n_phases + i];
                line->working += scale * time->working;
                line->waiting += scale * time->waiting;
            }
        }
    }
}

void ms_explain_times(MsExplained *x, const MossPhaseTime *times, int threads, double steps) {
    x->measured = true;
    x->threads = threads;
    add_times(x, times, 1 / (steps * threads));
    for (size_t p = 0; p < x->n_parts; p++) {
        MsPart *part = &x->parts[p];
        for (size_t i = 0; i < part->n_lines; i++) {
            judge(&part->lines[i], &x->limits);
            add_line(&part->sum, &part->lines[i]);
        }
        add_line(&x->total, &part->sum);
    }
}

/* ---------------------------------------------------------------------------------------------- a model's times */

static MsPhaseWork work_of(const MsExplained *x, uint32_t i) {
    const PgPhase *phase = &x->program->steps[x->list].phases[i];
    PgCost cost = pg_phase_cost(x->program, phase, &x->work);
    return ms_phase_work(phase, &x->program->kernels[phase->kernel], &cost, &x->work, pg_mode_of(x->list), i ? phase - 1 : NULL,
                         x->model->threads);
}

void ms_explain_model(MsExplained *x, const MsTimeModel *model) {
    const PgStep *step = &x->program->steps[x->list];
    double kept = 0, all = 0;
    x->model = model;
    for (uint32_t i = 0; i < step->n_phases; i++) {
        MsPhaseWork work = work_of(x, i);
        kept += (double)work.kept_bytes;
        all += (double)work.all_bytes;
    }
    MsStepRates rates = ms_step_rates(model, kept, all);
    for (uint32_t first = 0, end; first < step->n_phases; first = end) {
        end = end_of_block(step, first);
        MsPart *part = find_part(x, step, first, end);
        for (uint32_t i = first; i < end; i++) {
            MsPhaseWork work = work_of(x, i);
            double seconds = ms_phase_seconds(model, &rates, &work);
            find_line(part, &step->phases[i])->modelled += seconds;
            part->sum.modelled += seconds;
            x->total.modelled += seconds;
        }
    }
}

/* ---------------------------------------------------------------------------------------------- words */

static const char *what_is_read(const MsExplained *x, const MsLine *line) {
    const PgCost *cost = &line->cost;
    if (cost->activation_bytes > fmax(cost->weight_bytes, cost->state_bytes)) return "moving activations";
    if (cost->weight_bytes >= cost->state_bytes) return "reading weights";
    return x->program->kernels[line->kernel_index].kind == PG_ATTEND ? "reading keys and values" : "moving states";
}

static const char *what_is_computed(const MsExplained *x, const MsLine *line) {
    double exps = line->cost.exps / x->limits.exp_g_s, flops = line->cost.flops / x->limits.panel_gflop_s;
    return exps < flops / 2 ? "multiply-adds" : exps > 2 * flops ? "exp" : "exp and multiply-adds";
}

void ms_explain_words(const MsExplained *x, const MsLine *line, SuText *out) {
    double seconds = line->working + line->waiting, waiting = 100 * line->waiting / seconds;
    switch (line->bottleneck) {
    case MS_BY_READING: su_text_add(out, "%s", what_is_read(x, line)); break;
    case MS_BY_ARITHMETIC: su_text_add(out, "%s", what_is_computed(x, line)); break;
    case MS_BY_WAITING: su_text_add(out, "workers waiting for each other, %.0f %%", waiting); return;
    case MS_BY_SIZE: /* below 10 µs, and printed so */
        su_text_add(out, "too small: %.1f µs each", floor(1e7 * seconds / (double)line->times) / 10);
        break;
    }
    if (waiting > 20) su_text_add(out, "; waiting, %.0f %%", waiting);
}
