/* Errors as values, from messages or from diagnostics. */
#include <stdarg.h>
#include <string.h>

#include "runtime/model.h"
#include "support/str.h"

static MossError from_text(MossCode code, const char *text, size_t size) {
    MossError error = {.code = code};
    if (size >= MOSS_ERROR_TEXT) { /* cut at a line end, or anywhere if the first line alone is too long */
        const char *end = memrchr(text, '\n', MOSS_ERROR_TEXT - 5);
        size = end ? (size_t)(end - text) : MOSS_ERROR_TEXT - 5;
        memcpy(error.text, text, size);
        memcpy(error.text + size, end ? "\n..." : "...", end ? 5 : 4);
    } else {
        memcpy(error.text, text, size);
    }
    return error;
}

MossError rt_error(MossCode code, const char *format, ...) {
    MossError error = {.code = code};
    va_list args;
    va_start(args, format);
    vsnprintf(error.text, sizeof error.text, format, args);
    va_end(args);
    return error;
}

MossError rt_failure(const SuFailure *failure) {
    return rt_error(failure->code == SU_OUT_OF_MEMORY ? MOSS_NO_MEMORY : MOSS_BUG, "%s", failure->text);
}

MossError rt_error_from(MossCode code, const SuDiags *diags) {
    if (diags->failure.code != SU_NO_FAILURE) return rt_failure(&diags->failure);
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "putting an error into words")) return rt_failure(&guard.failure);
    SuText text = {0};
    for (size_t i = 0; i < diags->count; i++) {
        const SuDiag *d = &diags->items[i];
        if (d->severity != SU_ERROR) continue;
        const char *path = d->span.source ? d->span.source->path : NULL;
        su_text_add(&text, "%s%s%s%s%s%s%s", text.size ? "\n" : "", path ? path : "", path ? ": " : "", d->message,
                    d->hint ? " (" : "", d->hint ? d->hint : "", d->hint ? ")" : "");
    }
    if (diags->errors > SU_MAX_ERRORS) su_text_add(&text, "\n%zu more errors", diags->errors - SU_MAX_ERRORS);
    MossError error = from_text(code, text.text ? text.text : "", text.size);
    su_text_free(&text);
    su_guard_end(&guard);
    return error;
}
