/* mossc explain DIR --point A --point B: two points of a study side by side, and why one is faster. */
#include "cli/inspect/compare.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "cli/explore/explore.h"
#include "cli/format.h"
#include "cli/show.h"
#include "explore/compare.h"
#include "explore/csv.h"

typedef struct Pair {
    ExStudy study;
    size_t device;
    uint64_t points[2];
    ExComparison compared;
    SuDiags diags;
} Pair;

static const MsTimeModel *model_of(const Pair *pair) { return &pair->study.devices[pair->device].model; }
static const char *fidelity_of(const Pair *pair) { return model_of(pair)->calibrated ? "calibrated" : "modelled"; }

static bool find_device(Pair *pair, const char *name) {
    SuText names = {0};
    if (!name) return true;
    for (size_t d = 0; d < pair->study.n_devices; d++) {
        pair->device = d;
        if (strcmp(pair->study.devices[d].name, name) == 0) break;
        su_text_add(&names, "%s%s", d ? ", " : "", pair->study.devices[d].name);
    }
    bool found = strcmp(pair->study.devices[pair->device].name, name) == 0;
    if (!found) su_error(&pair->diags, (SuSpan){0}, NULL, "the study has no device '%s': it has %s", name, names.text);
    su_text_free(&names);
    return found;
}

/* ---------------------------------------------------------------------------------------------- why */

/* What a step's time is made of. */
typedef enum Cause { BY_WEIGHTS, BY_STATES, BY_ACTIVATIONS, BY_FLOPS, BY_EXPS, BY_PHASES, N_CAUSES } Cause;

static double amount_of(const ExSides *total, int side, Cause cause) {
    switch (cause) {
    case BY_WEIGHTS: return total->cost[side].weight_bytes;
    case BY_STATES: return total->cost[side].state_bytes;
    case BY_ACTIVATIONS: return total->cost[side].activation_bytes;
    case BY_FLOPS: return total->cost[side].flops;
    case BY_EXPS: return total->cost[side].exps;
    case BY_PHASES: return (double)total->phases[side];
    case N_CAUSES: break;
    }
    return 0;
}

/* Seconds that one of it takes. */
static double price_of(const MsTimeModel *model, Cause cause) {
    switch (cause) {
    case BY_WEIGHTS:
    case BY_STATES: return 1e-9 / model->read_gb_s;
    case BY_ACTIVATIONS: return 1e-9 / model->cache_gb_s;
    case BY_FLOPS: return 1e-9 / model->panel_gflop_s;
    case BY_EXPS: return 1e-9 / model->exp_g_s;
    case BY_PHASES: return 1e-6 * (model->phase_us + model->stage_us);
    case N_CAUSES: break;
    }
    return 0;
}

/* What differs by the most time, in the direction of the whole difference if anything does. */
static Cause cause_of(const Pair *pair, const ExSides *total) {
    double whole = total->seconds[1] - total->seconds[0], most = -INFINITY;
    Cause best = BY_WEIGHTS;
    for (Cause cause = 0; cause < N_CAUSES; cause++) {
        double seconds = price_of(model_of(pair), cause) * (amount_of(total, 1, cause) - amount_of(total, 0, cause));
        double toward = whole < 0 ? -seconds : seconds;
        if (toward <= most) continue;
        most = toward;
        best = cause;
    }
    return best;
}

static const char *amount_text(Cause cause, double amount, char out[CLI_NUMBER]) {
    return cause <= BY_ACTIVATIONS ? cli_bytes(amount, out) : cli_count(amount, out);
}

/* "point 5 takes 0.58 ms less than point 91 (1.58 against 2.17), weights read: 108 MiB against 143 MiB; most of it in mlp up, -0.31 ms" */
static void why(const Pair *pair, const ExComparedStep *step, SuText *out) {
    static const char *const words[] = {
        [BY_WEIGHTS] = "weights read", [BY_STATES] = "states moved", [BY_ACTIVATIONS] = "activations moved",
        [BY_FLOPS] = "FLOPs",          [BY_EXPS] = "exps",           [BY_PHASES] = "phases"};
    const ExSides *total = &step->total, *line = &step->lines[0];
    double whole = 1e3 * (total->seconds[1] - total->seconds[0]);
    char a[CLI_NUMBER], b[CLI_NUMBER];
    if (whole == 0) {
        su_text_add(out, "both take %.4g ms", 1e3 * total->seconds[0]);
        return;
    }
    Cause cause = cause_of(pair, total);
    su_text_add(out, "point %" PRIu64 " takes %.4g ms %s than point %" PRIu64 " (%.4g ms against %.4g ms); %s: %s against %s",
                pair->points[1], fabs(whole), whole < 0 ? "less" : "more", pair->points[0], 1e3 * total->seconds[1],
                1e3 * total->seconds[0], words[cause], amount_text(cause, amount_of(total, 1, cause), b),
                amount_text(cause, amount_of(total, 0, cause), a));
    su_text_add(out, "; the largest difference: %s, %+.4g ms", line->name, 1e3 * (line->seconds[1] - line->seconds[0]));
}

/* ---------------------------------------------------------------------------------------------- for people */

enum { NAME = 30, MOST_LINES = 24 };

static double bytes_of(const PgCost *cost) { return cost->weight_bytes + cost->state_bytes + cost->activation_bytes; }

static const char *some(double value, const char *(*format)(double, char *), char out[CLI_NUMBER]) {
    return value > 0 ? format(value, out) : "-";
}

static void print_line(const ExSides *line) {
    char text[4][CLI_NUMBER];
    printf("  %-*.*s %8s %8s  %9s %9s  %9.4f %9.4f %+9.4f\n", NAME, NAME, line->name, some(line->cost[0].flops, cli_count, text[0]),
           some(line->cost[1].flops, cli_count, text[1]), some(bytes_of(&line->cost[0]), cli_bytes, text[2]),
           some(bytes_of(&line->cost[1]), cli_bytes, text[3]), 1e3 * line->seconds[0], 1e3 * line->seconds[1],
           1e3 * (line->seconds[1] - line->seconds[0]));
}

static void print_step(const Pair *pair, const ExComparedStep *step, const char *title) {
    SuText words = {0};
    ExSides rest = {.name = "the other phases"};
    printf("%s\n\n  %-*s %8s %8s  %9s %9s  %9s %9s %9s\n", title, NAME, "phase", "FLOPs A", "B", "bytes A", "B", "ms A", "B",
           "B - A");
    for (size_t i = 0; i < step->n_lines; i++) {
        if (i < MOST_LINES) print_line(&step->lines[i]);
        for (int side = 0; side < 2 && i >= MOST_LINES; side++) {
            rest.cost[side].flops += step->lines[i].cost[side].flops;
            rest.cost[side].activation_bytes += bytes_of(&step->lines[i].cost[side]);
            rest.seconds[side] += step->lines[i].seconds[side];
        }
    }
    if (step->n_lines > MOST_LINES) print_line(&rest);
    print_line(&step->total);
    why(pair, step, &words);
    printf("\n  %c%s.\n\n", words.text[0] == 'p' ? 'P' : 'B', words.text + 1);
    su_text_free(&words);
}

/* "depth 8, d 512, …": axes where the points differ are marked. */
static void print_point(const Pair *pair, int side) {
    const ExSpace *space = &pair->study.space;
    uint32_t choices[2][EX_MAX_AXES];
    for (int i = 0; i < 2; i++) ex_choices(space, pair->points[i], choices[i]);
    printf("%c = point %" PRIu64 ":", "AB"[side], pair->points[side]);
    for (size_t a = 0; a < space->n_axes; a++) {
        SuText text = {0};
        ex_node_text(space->axes[a].nodes[choices[side][a]], &text);
        printf("%s %s %s%s", a ? "," : "", space->axes[a].name, text.text ? text.text : "",
               choices[0][a] != choices[1][a] ? "*" : "");
        su_text_free(&text);
    }
    putchar('\n');
}

static void print_pair(const Pair *pair) {
    char title[96];
    for (int side = 0; side < 2; side++) print_point(pair, side);
    printf("On %s, %s, %" PRId64 " thread%s; * where they differ.\n\n", pair->study.devices[pair->device].name, fidelity_of(pair),
           model_of(pair)->threads, model_of(pair)->threads > 1 ? "s" : "");
    const PgWork *token = &pair->compared.token.work, *prompt = &pair->compared.prompt.work;
    if (token->rows == 1)
        snprintf(title, sizeof title, "One token at position %" PRId64, token->position);
    else
        snprintf(title, sizeof title, "A token of each of %" PRId64 " sequences at position %" PRId64, token->rows,
                 token->position);
    print_step(pair, &pair->compared.token, title);
    snprintf(title, sizeof title, "%s of %" PRId64 " tokens", prompt->n_out_rows ? "A prompt" : "The first step of the prompt,",
             prompt->rows);
    print_step(pair, &pair->compared.prompt, title);
}

/* ---------------------------------------------------------------------------------------------- for programs */

static cJSON *side_json(const ExSides *line, int side) {
    cJSON *item = cJSON_CreateObject();
    cJSON_AddNumberToObject(item, "phases", (double)line->phases[side]);
    cJSON_AddNumberToObject(item, "flops", line->cost[side].flops);
    cJSON_AddNumberToObject(item, "exps", line->cost[side].exps);
    cJSON_AddNumberToObject(item, "weight_bytes", line->cost[side].weight_bytes);
    cJSON_AddNumberToObject(item, "state_bytes", line->cost[side].state_bytes);
    cJSON_AddNumberToObject(item, "activation_bytes", line->cost[side].activation_bytes);
    cJSON_AddNumberToObject(item, "modelled_seconds", line->seconds[side]);
    return item;
}

static cJSON *line_json(const ExSides *line) {
    cJSON *item = cJSON_CreateObject();
    cJSON_AddStringToObject(item, "name", line->name);
    cJSON_AddItemToObject(item, "a", side_json(line, 0));
    cJSON_AddItemToObject(item, "b", side_json(line, 1));
    cJSON_AddNumberToObject(item, "difference_seconds", line->seconds[1] - line->seconds[0]);
    return item;
}

static void add_step(const Pair *pair, const ExComparedStep *step, const char *key, cJSON *root) {
    SuText words = {0};
    cJSON *item = cJSON_AddObjectToObject(root, key);
    cJSON_AddNumberToObject(item, "rows", (double)step->work.rows);
    cJSON_AddNumberToObject(item, "position", (double)step->work.position);
    cJSON *lines = cJSON_AddArrayToObject(item, "phases");
    for (size_t i = 0; i < step->n_lines; i++) cJSON_AddItemToArray(lines, line_json(&step->lines[i]));
    cJSON_AddItemToObject(item, "total", line_json(&step->total));
    why(pair, step, &words);
    cJSON_AddStringToObject(item, "why", words.text);
    su_text_free(&words);
}

static void print_json(const Pair *pair) {
    cJSON *root = cJSON_CreateObject(), *points = cJSON_AddArrayToObject(root, "points");
    for (int side = 0; side < 2; side++) cJSON_AddItemToArray(points, cJSON_CreateNumber((double)pair->points[side]));
    cJSON_AddStringToObject(root, "device", pair->study.devices[pair->device].name);
    cJSON_AddStringToObject(root, "fidelity", fidelity_of(pair));
    cJSON_AddNumberToObject(root, "threads", (double)model_of(pair)->threads);
    add_step(pair, &pair->compared.token, "token", root);
    add_step(pair, &pair->compared.prompt, "prompt", root);
    cli_json_print(root);
}

int cli_compare(const char *directory, const uint64_t points[2], const char *device, bool json) {
    Pair pair = {.points = {points[0], points[1]}};
    SuArena arena = {0};
    bool ok = ex_study_open(directory, &pair.study, &pair.diags) && find_device(&pair, device) &&
              ex_compare(&pair.study, pair.device, pair.points, &arena, &pair.compared, &pair.diags);
    if (ok) (json ? print_json : print_pair)(&pair);
    int status = cli_finish(&pair.diags, ok); /* messages may point into the study */
    ex_study_close(&pair.study);
    su_arena_free(&arena);
    return status;
}
