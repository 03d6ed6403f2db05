/* mossc/mossc.h: messages. */
#include <string.h>

#include "driver/api.h"
#include "support/alloc.h"
#include "support/str.h"
#include "support/table.h"

const char *mossc_version(void) { return MOSSC_VERSION; }

MosscDiags *mossc_diags_create(void) { return su_calloc(1, sizeof(MosscDiags)); }

void mossc_diags_clear(MosscDiags *diags) { su_diags_free(&diags->found); }

void mossc_diags_free(MosscDiags *diags) {
    if (!diags) return;
    su_diags_free(&diags->found);
    su_free(diags);
}

size_t mossc_diags_count(const MosscDiags *diags) { return diags->found.count; }

MosscDiag mossc_diags_at(const MosscDiags *diags, size_t i) {
    static const MosscSeverity severities[] = {[SU_ERROR] = MOSSC_ERROR, [SU_WARNING] = MOSSC_WARNING, [SU_NOTE] = MOSSC_NOTE};
    SU_TABLE_FULL(severities, SU_NOTE + 1);
    const SuDiag *d = &diags->found.items[i];
    const char *path = d->span.source ? d->span.source->path : NULL;
    return (MosscDiag){.severity = severities[d->severity],
                       .code = su_code_id(d->code),
                       .path = path ? path : "",
                       .line = d->span.line,
                       .column = d->span.column,
                       .length = d->span.length,
                       .message = d->message,
                       .hint = d->hint ? d->hint : ""};
}

/* A copy that needs nothing of where it comes from. */
static void copy_diag(SuDiags *to, const SuDiag *from) {
    SuSpan span = from->span;
    if (span.source) span.source = su_file_span(to, span.source->path ? span.source->path : "").source;
    su_report(to, from->code, span, from->hint, "%s", from->message);
}

/* "model.yaml:3:5: message (hint)", a line each. */
static void add_line(SuText *text, const SuDiag *d) {
    const char *path = d->span.source ? d->span.source->path : NULL;
    su_text_add(text, "%s%s", text->size ? "\n" : "", path ? path : "");
    if (path && d->span.line) su_text_add(text, ":%u:%u", d->span.line, d->span.column);
    su_text_add(text, "%s%s", path ? ": " : "", d->message);
    if (d->hint) su_text_add(text, " (%s)", d->hint);
}

static MossError error_of(const SuDiags *diags, MossCode code) {
    SuText text = {0};
    MossError error = {.code = code};
    for (size_t i = 0; i < diags->count; i++)
        if (diags->items[i].severity == SU_ERROR) add_line(&text, &diags->items[i]);
    if (text.size >= sizeof error.text) memcpy(text.text + sizeof error.text - 4, "...", 4);
    if (text.size) snprintf(error.text, sizeof error.text, "%s", text.text);
    su_text_free(&text);
    return error;
}

static MossError result_of(DrBuild *build, bool ok, MossCode code, MosscDiags *diags) {
    if (build->code != MOSS_OK) code = build->code;
    MossError error = ok ? (MossError){.code = MOSS_OK} : error_of(&build->diags, code);
    if (!ok && build->diags.failure.code != SU_NO_FAILURE) error = rt_failure(&build->diags.failure);
    for (size_t i = 0; diags && i < build->diags.count; i++) copy_diag(&diags->found, &build->diags.items[i]);
    su_diags_free(&build->diags);
    build->code = MOSS_OK;
    return error;
}

MossError api_result(DrBuild *build, bool ok, MossCode code, MosscDiags *diags) {
    SuGuard guard;
    if (diags) su_arena_settle(&diags->found.arena);
    if (SU_CAUGHT(&guard, NULL, "putting errors into words")) return rt_failure(&guard.failure);
    MossError error = result_of(build, ok, code, diags);
    su_guard_end(&guard);
    return error;
}
