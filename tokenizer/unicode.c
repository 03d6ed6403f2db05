/* Words and normal forms by utf8proc's tables. utf8proc_map is not used: it orders marks by insertion, in the square of their number. */
#include "tokenizer/unicode.h"

#include <string.h>

#include <utf8proc.h>

#include "support/alloc.h"
#include "support/utf8.h"

/* Symbols that Unicode counts among the letters all the same (Other_Alphabetic): letters in circles and squares. */
static bool is_enclosed_letter(uint32_t code) {
    return (code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F149) || (code >= 0x1F150 && code <= 0x1F169) ||
           (code >= 0x1F170 && code <= 0x1F189);
}

static bool is_word(const TkUnicode *unicode, uint32_t code) {
    (void)unicode;
    const uint32_t kinds = 1u << UTF8PROC_CATEGORY_LU | 1u << UTF8PROC_CATEGORY_LL | 1u << UTF8PROC_CATEGORY_LT |
                           1u << UTF8PROC_CATEGORY_LM | 1u << UTF8PROC_CATEGORY_LO | 1u << UTF8PROC_CATEGORY_MN |
                           1u << UTF8PROC_CATEGORY_MC | 1u << UTF8PROC_CATEGORY_ME | 1u << UTF8PROC_CATEGORY_ND |
                           1u << UTF8PROC_CATEGORY_NL | 1u << UTF8PROC_CATEGORY_PC;
    return kinds >> utf8proc_category((utf8proc_int32_t)code) & 1 || code == 0x200C || code == 0x200D || is_enclosed_letter(code);
}

/* ---- normal forms */

typedef struct Codes {
    utf8proc_int32_t *items; /* malloced */
    size_t count, capacity;
} Codes;

static void reserve(Codes *codes, size_t need) {
    if (need <= codes->capacity) return;
    codes->capacity = need < 2 * codes->capacity ? 2 * codes->capacity : need;
    utf8proc_int32_t *grown = su_realloc(codes->items, codes->capacity * sizeof *grown);
    if (!grown) su_no_memory(codes->capacity * sizeof *grown);
    codes->items = grown;
}

static int class_of(utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; }

/* Orders a run of marks by their class, equal ones as they stood: by counting, with `scratch` as long as the run. */
static void order_marks(utf8proc_int32_t *marks, size_t count, utf8proc_int32_t *scratch) {
    size_t starts[257] = {0};
    for (size_t i = 0; i < count; i++) starts[class_of(marks[i]) + 1]++;
    for (int c = 0; c < 256; c++) starts[c + 1] += starts[c];
    for (size_t i = 0; i < count; i++) scratch[starts[class_of(marks[i])]++] = marks[i];
    memcpy(marks, scratch, count * sizeof *marks);
}

static void order(Codes *codes, Codes *scratch) {
    for (size_t at = 0, end; at < codes->count; at = end) {
        end = at + 1;
        if (class_of(codes->items[at]) == 0) continue;
        while (end < codes->count && class_of(codes->items[end]) != 0) end++;
        if (end - at == 1) continue;
        reserve(scratch, end - at);
        order_marks(codes->items + at, end - at, scratch->items);
    }
}

static utf8proc_option_t options_of(TkForm form) {
    int compatible = tk_form_is_compatible(form) ? UTF8PROC_COMPAT : 0;
    return (utf8proc_option_t)(UTF8PROC_STABLE | (tk_form_composes(form) ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) | compatible);
}

static void decompose(TkForm form, const char *text, size_t size, Codes *codes) {
    codes->count = 0;
    for (size_t at = 0; at < size;) {
        SuUtf8 c = su_utf8_at(text + at, size - at);
        int boundary = 0;
        reserve(codes, codes->count + 32); /* the longest decomposition there is has 4 codes (18 in compatibility forms) */
        utf8proc_ssize_t n =
            utf8proc_decompose_char((utf8proc_int32_t)c.code, codes->items + codes->count, 32, options_of(form), &boundary);
        if (n < 0 || n > 32) {
            codes->items[codes->count] = (utf8proc_int32_t)c.code; /* unassigned: stands for itself */
            n = 1;
        }
        codes->count += (size_t)n;
        at += c.size;
    }
}

enum { NO_TAIL = 0x11A7 }; /* before the first tail of a Hangul syllable: a letter that joins with nothing */

/* Joins codes[0..count), if the form does, and appends what they become. */
static void compose(TkForm form, utf8proc_int32_t *codes, size_t count, SuText *out) {
    utf8proc_ssize_t n = (utf8proc_ssize_t)count;
    if (tk_form_composes(form)) n = utf8proc_normalize_utf32(codes, n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        utf8proc_uint8_t bytes[4];
        su_text_append(out, (const char *)bytes, (size_t)utf8proc_encode_char(codes[i], bytes));
    }
}

/* utf8proc takes NO_TAIL for a tail and lets it disappear in the syllable before it: that is why what it begins is joined apart. */
static void normalize(const TkUnicode *unicode, TkForm form, const char *text, size_t size, SuText *out) {
    Codes codes = {0}, scratch = {0};
    (void)unicode;
    decompose(form, text, size, &codes);
    order(&codes, &scratch);
    for (size_t at = 0, end; at < codes.count; at = end) {
        end = at + 1;
        while (end < codes.count && codes.items[end] != NO_TAIL) end++;
        compose(form, codes.items + at, end - at, out);
    }
    su_free(codes.items);
    su_free(scratch.items);
}

const TkUnicode tk_utf8proc = {.is_word = is_word, .normalize = normalize};
