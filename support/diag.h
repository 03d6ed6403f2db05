/* Diagnostics: what the user gave and what is wrong with it, as values.
 *
 * A function that can fail on user data returns false (or NULL) after adding to a SuDiags; callers pass it on upwards and
 * only cli/ prints. Out of memory and mistakes of ours (SU_BUG) end the guard around the work and stand in `failure` (alloc.h). */
#ifndef MOSSC_SUPPORT_DIAG_H
#define MOSSC_SUPPORT_DIAG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "support/alloc.h"
#include "support/arena.h"

/* A text that spans point into. Owned by whoever read it; must outlive the diagnostics. */
typedef struct SuSource {
    const char *path; /* as the user wrote it */
    const char *text; /* may be NULL: then no line is shown */
    size_t size;
} SuSource;

/* A place in a source. line and column are 1-based and count characters, not bytes; line 0 means "the file as a whole". */
typedef struct SuSpan {
    const SuSource *source; /* NULL: no place at all */
    uint32_t line, column, length;
} SuSpan;

typedef enum SuSeverity { SU_ERROR, SU_WARNING, SU_NOTE } SuSeverity;

/* What a diagnostic is about (diag.def). */
typedef enum SuCode {
#define SU_CODE(name, id, severity, what) SU_CODE_##name,
#include "support/diag.def"
} SuCode;

/* "unknown-key": how programs are shown a code. */
const char *su_code_id(SuCode code);
SuSeverity su_code_severity(SuCode code);

typedef struct SuDiag {
    SuCode code;
    SuSeverity severity;
    SuSpan span;
    const char *message; /* no trailing newline; begins lower case */
    const char *hint;    /* what to do, or NULL; printed as a note below the caret */
} SuDiag;

enum { SU_MAX_ERRORS = 20 };

/* Sink. After SU_MAX_ERRORS errors further ones are counted, not kept. */
typedef struct SuDiags {
    SuArena arena; /* owns messages */
    SuDiag *items;
    size_t count, capacity;
    size_t errors, warnings;
    SuFailure failure; /* what ended a guard; counted in errors, and printed last */
} SuDiags; /* `SuDiags d = {0};` is a valid empty sink */

/* Adds a diagnostic of the code's severity. hint may be NULL. Always returns false, so that `return su_report(...)` reads well. */
bool su_report(SuDiags *diags, SuCode code, SuSpan span, const char *hint, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* The same for what has no code of its own. */
bool su_error(SuDiags *diags, SuSpan span, const char *hint, const char *format, ...) __attribute__((format(printf, 4, 5)));
void su_warning(SuDiags *diags, SuSpan span, const char *hint, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Something worth knowing that is neither wrong nor doubtful. */
void su_note(SuDiags *diags, SuSpan span, const char *hint, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Puts those from `first` on in the order of their places, for people who read from the top of a file down; those of different sources
 * stay in the order in which they were reported. */
void su_diags_sort(SuDiags *diags, size_t first);
/* A span for messages about a file as a whole (weights, tokens…): the source is allocated in the sink's arena. */
SuSpan su_file_span(SuDiags *diags, const char *path);
/* Prints all: `path:line:column: error: message`, the source line, a caret, the hint. */
void su_diags_print(const SuDiags *diags, FILE *out);
/* Copies the sources that messages point into, so that they may be freed before the messages are printed. */
void su_diags_keep(SuDiags *diags);
void su_diags_free(SuDiags *diags);

#endif
