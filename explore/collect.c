#include "explore/collect.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "explore/lock.h"
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
    int lock; /* of the study; -1: not taken */
    ExScratch *scratch;
    char *line; /* that is being taken; cJSON's */
    SuArena arena;
    Line *lines;
    size_t n, capacity;
    SuDiags *diags;
} Collection;

/* Whether the line is of this spec; a line that failed may have no hash. The space has the index. */
static bool check_hash(Collection *c, uint64_t index, const cJSON *line, SuSpan span) {
    const cJSON *hash = cJSON_GetObjectItemCaseSensitive(line, "spec_hash");
    ExPriced priced;
    SuDigest digest;
    char hex[SU_HEX];
    if (!hash && cJSON_HasObjectItem(line, "error")) return true;
    if (!cJSON_IsString(hash)) return su_error(c->diags, span, NULL, "a line without 'spec_hash'");
    bool known = ex_price(&c->study->space, c->scratch, index, &priced);
    if (known) memcpy(digest.bytes, priced.hash, sizeof digest.bytes);
    if (known && strcmp(hash->valuestring, su_digest_hex(&digest, hex)) == 0) return true;
    return su_error(c->diags, span, NULL, "the line is of another space: this one's point %.0f has %s%s", (double)index,
                    known ? "spec_hash " : "no spec", known ? hex : "");
}

/* For ex_lines_read; context is the collection. */
static bool take_line(void *context, const cJSON *line, SuSpan span) {
    Collection *c = context;
    uint64_t index;
    if (!ex_line_index(line, span, &index, c->diags)) return false;
    if (index >= c->study->space.n_indices) return ex_no_such_point(&c->study->space, index, span, c->diags);
    if (!check_hash(c, index, line, span)) return false;
    c->line = cJSON_PrintUnformatted(line);
    if (!c->line) return su_out_of_memory(c->diags, "for a measurement");
    c->lines = su_grow(&c->arena, c->lines, &c->capacity, c->n + 1, sizeof *c->lines);
    c->lines[c->n] =
        (Line){.index = index, .order = c->n, .failed = cJSON_HasObjectItem(line, "error"), .text = su_strdup(&c->arena, c->line)};
    c->n++;
    cJSON_free(c->line);
    c->line = NULL;
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
    c->lock = ex_lock_study(c->study->directory, NULL, c->diags);
    bool ok = c->lock >= 0 && ex_measured_read(c->study->directory, take_line, c, NULL, c->diags);
    for (size_t i = 0; i < n_files && ok; i++) ok = ex_lines_read(files[i], take_line, c, NULL, c->diags);
    return ok && write_lines(c, out_measured, out_failed);
}

static void end_collection(Collection *c) {
    cJSON_free(c->line);
    ex_scratch_free(c->scratch);
    if (c->lock >= 0) close(c->lock);
    su_arena_free(&c->arena);
}

bool ex_collect(ExStudy *study, const char *const *files, size_t n_files, size_t *out_measured, size_t *out_failed,
                SuDiags *diags) {
    Collection c = {.study = study, .lock = -1, .arena = SU_ARENA_FREE, .diags = diags};
    ExCoster *coster = ex_study_coster(study, diags); /* it outlives the guard, as the scratch does */
    c.scratch = coster ? ex_scratch_create(coster) : NULL;
    SuGuard guard;
    volatile bool ok = false;
    if (c.scratch && !SU_CAUGHT(&guard, diags, "collecting measurements")) {
        ok = collect_unguarded(&c, files, n_files, out_measured, out_failed);
        su_guard_end(&guard);
    }
    end_collection(&c);
    ex_coster_free(coster);
    return ok;
}
