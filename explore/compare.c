#include "explore/compare.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "driver/build.h"
#include "measure/explain.h"
#include "measure/steps.h"

static ExSides *find_line(ExComparedStep *step, const char *name, SuArena *arena) {
    for (size_t i = 0; i < step->n_lines; i++)
        if (strcmp(step->lines[i].name, name) == 0) return &step->lines[i];
    step->lines = su_grow(arena, step->lines, &step->capacity, step->n_lines + 1, sizeof *step->lines);
    step->lines[step->n_lines] = (ExSides){.name = su_strdup(arena, name)};
    return &step->lines[step->n_lines++];
}

static void add_line(ExSides *to, int side, const MsLine *line) {
    to->phases[side] += line->times;
    pg_cost_add(&to->cost[side], &line->cost);
    to->seconds[side] += line->modelled;
}

static void add_step(ExComparedStep *step, int side, const DrBuild *build, PgMode mode, const MsTimeModel *model, SuArena *arena) {
    MsExplained x = ms_explain_step(&build->spec, build->program, mode, step->work, arena);
    ms_explain_model(&x, model);
    for (size_t p = 0; p < x.n_parts; p++) {
        const MsPart *part = &x.parts[p];
        for (size_t i = 0; i < part->n_lines; i++) {
            const char *name = part->blocks ? su_printf(arena, "%s %s", part->sum.name, part->lines[i].name) : part->lines[i].name;
            add_line(find_line(step, name, arena), side, &part->lines[i]);
        }
    }
    step->total.name = x.total.name;
    add_line(&step->total, side, &x.total);
}

static bool add_point(ExStudy *study, const MsTimeModel *model, uint64_t index, int side, SuArena *arena, ExComparison *out,
                      SuDiags *diags) {
    DrBuild build = {.has_spec = true};
    DrBuildOptions options = {.spec = study->base.source->path};
    bool ok =
        ex_study_spec(study, index, &build.spec, &build.diags) && dr_build_graph(&build) && dr_build_program(&build, &options);
    if (ok) {
        add_step(&out->token, side, &build, out->token.work.rows == 1 ? PG_ROW : PG_BLOCK, model, arena);
        add_step(&out->prompt, side, &build, out->prompt.work.rows == 1 ? PG_ROW : PG_BLOCK, model, arena);
    } else {
        const char *why = build.diags.count ? build.diags.items[0].message : "out of memory";
        for (size_t i = 0; i < build.diags.count; i++)
            if (build.diags.items[i].severity == SU_ERROR) why = build.diags.items[i].message;
        su_error(diags, (SuSpan){0}, NULL, "point %" PRIu64 ": %s", index, why);
    }
    dr_build_free(&build);
    return ok;
}

static double difference(const ExSides *line) { return fabs(line->seconds[1] - line->seconds[0]); }

static int by_difference(const void *a, const void *b) {
    const ExSides *x = a, *y = b;
    if (difference(x) != difference(y)) return difference(x) > difference(y) ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void sort_step(ExComparedStep *step) {
    if (step->n_lines > 1) qsort(step->lines, step->n_lines, sizeof *step->lines, by_difference);
}

static bool compare_unguarded(ExStudy *study, size_t device, const uint64_t points[2], SuArena *arena, ExComparison *out,
                              SuDiags *diags) {
    const MsTimeModel *model = &study->devices[device].model;
    const ExWorkload *w = &study->space.workload;
    *out = (ExComparison){.token.work = ex_decode_work(w),
                          .prompt.work = ms_prompt_work(w->prefill, w->batch, study->devices[device].max_rows, 0)};
    for (int side = 0; side < 2; side++)
        if (!add_point(study, model, points[side], side, arena, out, diags)) return false;
    sort_step(&out->token);
    sort_step(&out->prompt);
    return true;
}

bool ex_compare(ExStudy *study, size_t device, const uint64_t points[2], SuArena *arena, ExComparison *out, SuDiags *diags) {
    su_arena_settle(arena);
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "comparing points")) return false;
    bool ok = compare_unguarded(study, device, points, arena, out, diags);
    su_guard_end(&guard);
    return ok;
}
