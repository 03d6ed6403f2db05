/* Diagnostics: collecting, and printing the way a good C compiler does. */
#include "support/diag.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "support/str.h"
#include "support/utf8.h"

enum {
    WINDOW = 160, /* characters of a source line that are shown */
    MARGIN = 40   /* of those, at least this many before the caret when the line is cut */
};

static const struct {
    const char *id;
    SuSeverity severity;
} codes[] = {
#define SU_CODE(name, id, severity, what) [SU_CODE_##name] = {id, SU_##severity},
#include "support/diag.def"
};

const char *su_code_id(SuCode code) { return codes[code].id; }

SuSeverity su_code_severity(SuCode code) { return codes[code].severity; }

static void add(SuDiags *diags, SuCode code, SuSpan span, const char *hint, const char *format, va_list args) {
    size_t *count = codes[code].severity == SU_ERROR ? &diags->errors : &diags->warnings;
    if ((*count)++ >= SU_MAX_ERRORS) return;
    diags->items = su_grow(&diags->arena, diags->items, &diags->capacity, diags->count + 1, sizeof(SuDiag));
    diags->items[diags->count++] = (SuDiag){
        .code = code,
        .severity = codes[code].severity,
        .span = span,
        .message = su_vprintf(&diags->arena, format, args),
        .hint = hint ? su_strdup(&diags->arena, hint) : NULL,
    };
}

bool su_report(SuDiags *diags, SuCode code, SuSpan span, const char *hint, const char *format, ...) {
    va_list args;
    va_start(args, format);
    add(diags, code, span, hint, format, args);
    va_end(args);
    return false;
}

bool su_error(SuDiags *diags, SuSpan span, const char *hint, const char *format, ...) {
    va_list args;
    va_start(args, format);
    add(diags, SU_CODE_failed, span, hint, format, args);
    va_end(args);
    return false;
}

void su_warning(SuDiags *diags, SuSpan span, const char *hint, const char *format, ...) {
    va_list args;
    va_start(args, format);
    add(diags, SU_CODE_warned, span, hint, format, args);
    va_end(args);
}

void su_note(SuDiags *diags, SuSpan span, const char *hint, const char *format, ...) {
    va_list args;
    va_start(args, format);
    add(diags, SU_CODE_noted, span, hint, format, args);
    va_end(args);
}

void su_diags_sort(SuDiags *diags, size_t first) {
    for (size_t i = first + 1; i < diags->count; i++) {
        SuDiag diag = diags->items[i];
        size_t at = i;
        for (; at > first; at--) {
            const SuSpan *before = &diags->items[at - 1].span;
            bool later = before->source == diag.span.source &&
                         (before->line > diag.span.line || (before->line == diag.span.line && before->column > diag.span.column));
            if (!later) break;
            diags->items[at] = diags->items[at - 1];
        }
        diags->items[at] = diag;
    }
}

SuSpan su_file_span(SuDiags *diags, const char *path) {
    SuSource *source = SU_NEW(&diags->arena, SuSource);
    source->path = su_strdup(&diags->arena, path);
    return (SuSpan){.source = source};
}

/* Length of the line break at text[at] (LF, CR, CRLF, NEL, LS, PS: what YAML 1.1 counts as one), or 0. */
static size_t break_size(const char *text, size_t at, size_t end) {
    if (text[at] == '\n') return 1;
    if (text[at] == '\r') return at + 1 < end && text[at + 1] == '\n' ? 2 : 1;
    if (end - at >= 2 && !memcmp(text + at, "\xC2\x85", 2)) return 2;
    if (end - at >= 3 && (!memcmp(text + at, "\xE2\x80\xA8", 3) || !memcmp(text + at, "\xE2\x80\xA9", 3))) return 3;
    return 0;
}

/* First and last+1 byte of line `line` (1-based); false when the source has no such line. */
static bool find_line(const SuSource *source, uint32_t line, size_t *out_start, size_t *out_end) {
    size_t at = source->size >= 3 && !memcmp(source->text, "\xEF\xBB\xBF", 3) ? 3 : 0; /* a byte order mark has no column */
    for (uint32_t current = 1; current < line; current++) {
        size_t skip = 0;
        while (at < source->size && !(skip = break_size(source->text, at, source->size))) at++;
        if (!skip) return false;
        at += skip;
    }
    size_t end = at;
    while (end < source->size && !break_size(source->text, end, source->size)) end++;
    *out_start = at;
    *out_end = end;
    return true;
}

/* Bytes of the character at the front of text; 1 for what is not UTF-8. */
static size_t char_size(const char *text, size_t size) {
    SuUtf8 c = su_utf8_at(text, size);
    return c.whole ? c.size : 1;
}

/* The character at the front of text as it may go to a terminal: control characters and stray bytes become '?'. */
static void print_char(const char *text, size_t size, FILE *out) {
    SuUtf8 c = su_utf8_at(text, size);
    if (!c.whole || (c.code < 0x20 && c.code != '\t') || (c.code >= 0x7F && c.code < 0xA0))
        fputc('?', out);
    else
        fwrite(text, 1, c.size, out);
}

/* The source line and a caret line below it. Tabs are copied into the caret line so that both lines stay aligned. */
static void print_line(const SuSpan *span, FILE *out) {
    const char *text = span->source->text;
    size_t at, end;
    if (!text || !span->line || !find_line(span->source, span->line, &at, &end)) return;
    uint32_t column = 1;
    uint32_t first = span->column > WINDOW - MARGIN ? span->column - MARGIN : 1;
    SuText caret = {0};
    fputs("    ", out);
    fputs(first > 1 ? "..." : "", out);
    su_text_append(&caret, "       ", first > 1 ? 7 : 4);
    for (; at < end && column < first + WINDOW; column++) {
        if (column >= first) {
            print_char(text + at, end - at, out);
            if (column < span->column) su_text_append(&caret, text[at] == '\t' ? "\t" : " ", 1);
        }
        at += char_size(text + at, end - at);
    }
    fputs(at < end ? "...\n" : "\n", out);
    if (span->column) {
        uint32_t room = column > span->column ? column - span->column : 1;
        uint32_t length = span->length > room ? room : span->length;
        su_text_append(&caret, "^", 1);
        for (uint32_t i = 1; i < length; i++) su_text_append(&caret, "~", 1);
        fprintf(out, "%s\n", caret.text);
    }
    su_text_free(&caret);
}

static void print_text(const char *text, FILE *out) {
    size_t end = strlen(text);
    for (size_t at = 0; at < end; at += char_size(text + at, end - at))
        if (text[at] == '\n')
            fputs("\n    ", out);
        else
            print_char(text + at, end - at, out);
}

static void print_one(const SuDiag *diag, FILE *out) {
    static const char *const words[] = {[SU_ERROR] = "error", [SU_WARNING] = "warning", [SU_NOTE] = "note"};
    const SuSpan *span = &diag->span;
    if (span->source) {
        print_text(span->source->path ? span->source->path : "-", out);
        if (span->line) fprintf(out, ":%" PRIu32 ":%" PRIu32, span->line, span->column);
    } else {
        fputs("mossc", out);
    }
    fprintf(out, ": %s: ", words[diag->severity]);
    print_text(diag->message, out);
    fputc('\n', out);
    if (span->source) print_line(span, out);
    if (diag->hint) {
        fputs("    note: ", out);
        print_text(diag->hint, out);
        fputc('\n', out);
    }
}

void su_diags_print(const SuDiags *diags, FILE *out) {
    for (size_t i = 0; i < diags->count; i++) print_one(&diags->items[i], out);
    if (diags->errors > SU_MAX_ERRORS) {
        size_t more = diags->errors - SU_MAX_ERRORS;
        fprintf(out, "mossc: error: %zu more error%s not shown\n", more, more == 1 ? "" : "s");
    }
    if (diags->failure.code != SU_NO_FAILURE) {
        fputs(diags->failure.code == SU_OUR_BUG ? "mossc: " : "mossc: error: ", out);
        print_text(diags->failure.text, out);
        fputc('\n', out);
    }
    if (diags->failure.code == SU_OUR_BUG) fputs("This is a bug in mossc, not in your input; please report it.\n", out);
}

void su_diags_keep(SuDiags *diags) {
    const SuSource *last = NULL, *copy = NULL;
    for (size_t i = 0; i < diags->count; i++) {
        const SuSource *source = diags->items[i].span.source;
        if (!source) continue;
        if (source != last) {
            SuSource *kept = SU_NEW(&diags->arena, SuSource);
            *kept = (SuSource){su_strdup(&diags->arena, source->path), NULL, source->size};
            if (source->text) kept->text = su_strndup(&diags->arena, source->text, source->size);
            copy = kept;
            last = source;
        }
        diags->items[i].span.source = copy;
    }
}

void su_diags_free(SuDiags *diags) {
    su_arena_free(&diags->arena);
    *diags = (SuDiags){0};
}
