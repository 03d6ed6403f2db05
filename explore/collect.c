#include "explore/collect.h"

#include <stdlib.h>
#include <string.h>

#include "explore/measured.h"
#include "support/digest.h"
#include "support/file.h"

typedef struct Line {
    uint64_t index;
    size_t order; /* of reading */
    bool failed;
    const char *text;
} Line;

typedef struct Collection {
    ExStudy *study;
    ExScratch *scratch;
    SuArena arena;
    Line *lines;
    size_t n, capacity;
    SuDiags *diags;
} Collection;

/* Whether the line is of this spec; a line that failed may have no hash. */
static bool check_hash(Collection *c, uint64_t index, const cJSON *line, SuSpan span) {
    const cJSON *hash = cJSON_GetObjectItemCaseSensitive(line, "spec_hash");
    const ExSpace *space = &c->study->space;
    uint32_t choices[EX_MAX_AXES];
    ExValue values[EX_MAX_AXES], derived[EX_MAX_RULES];
    const char *why;
    const ExExpr *where;
    ExCost cost;
    SuDigest digest;
    char hex[SU_HEX];
    if (!hash && cJSON_HasObjectItem(line, "error")) return true;
    if (!cJSON_IsString(hash)) return su_error(c->diags, span, NULL, "a line without 'spec_hash'");
    if (index >= space->n_indices) return ex_no_such_point(space, index, c->diags);
    ex_choices(space, index, choices);
    bool known = ex_point(space, choices, values, derived, &why, &where) == EX_POINT &&
                 ex_cost(c->scratch, choices, derived, &cost, &why) == EX_COSTED && ex_hash(c->scratch, digest.bytes);
    if (known && strcmp(hash->valuestring, su_digest_hex(&digest, hex)) == 0) return true;
    return su_error(c->diags, span, NULL, "the line is of another space: this one's point %.0f has %s%s", (double)index,
                    known ? "spec_hash " : "no spec", known ? hex : "");
}

/* For ex_lines_read; context is the collection. */
static bool take_line(void *context, const cJSON *line, SuSpan span) {
    Collection *c = context;
    const cJSON *index = cJSON_GetObjectItemCaseSensitive(line, "index");
    if (!cJSON_IsNumber(index) || index->valuedouble < 0) return su_error(c->diags, span, NULL, "a line without 'index'");
    if (!check_hash(c, (uint64_t)index->valuedouble, line, span)) return false;
    char *text = cJSON_PrintUnformatted(line);
    if (!text) return su_out_of_memory(c->diags, "for a measurement");
    c->lines = su_grow(&c->arena, c->lines, &c->capacity, c->n + 1, sizeof *c->lines);
    c->lines[c->n] = (Line){.index = (uint64_t)index->valuedouble,
                            .order = c->n,
                            .failed = cJSON_HasObjectItem(line, "error"),
                            .text = su_strdup(&c->arena, text)};
    c->n++;
    cJSON_free(text);
    return true;
}

/* By point; of one point those that were measured first. */
static int by_worth(const void *a, const void *b) {
    const Line *x = a, *y = b;
    if (x->index != y->index) return x->index < y->index ? -1 : 1;
    if (x->failed != y->failed) return x->failed ? 1 : -1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static bool write_lines(Collection *c, size_t *out_measured, size_t *out_failed) {
    SuText text = {0};
    if (c->n > 1) qsort(c->lines, c->n, sizeof *c->lines, by_worth);
    *out_measured = *out_failed = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (i > 0 && c->lines[i].index == c->lines[i - 1].index) continue;
        su_text_add(&text, "%s\n", c->lines[i].text);
        *(c->lines[i].failed ? out_failed : out_measured) += 1;
    }
    bool ok = su_out_write(su_printf(&c->arena, "%s/measurements.jsonl", c->study->directory), text.text ? text.text : "",
                           text.size, c->diags);
    su_text_free(&text);
    return ok;
}

static bool collect_unguarded(Collection *c, const char *const *files, size_t n_files, size_t *out_measured, size_t *out_failed) {
    ExCoster *coster = ex_study_coster(c->study, c->diags);
    c->scratch = coster ? ex_scratch_create(coster) : NULL;
    bool ok = c->scratch && ex_measured_read(c->study->directory, take_line, c, NULL, c->diags);
    for (size_t i = 0; i < n_files && ok; i++) ok = ex_lines_read(files[i], take_line, c, NULL, c->diags);
    ok = ok && write_lines(c, out_measured, out_failed);
    ex_scratch_free(c->scratch);
    ex_coster_free(coster);
    return ok;
}

bool ex_collect(ExStudy *study, const char *const *files, size_t n_files, size_t *out_measured, size_t *out_failed,
                SuDiags *diags) {
    Collection c = {.study = study, .arena = SU_ARENA_FREE, .diags = diags};
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "collecting measurements")) return false;
    bool ok = collect_unguarded(&c, files, n_files, out_measured, out_failed);
    su_guard_end(&guard);
    su_arena_free(&c.arena);
    return ok;
}
