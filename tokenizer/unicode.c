/* Normal form C by utf8proc's tables. utf8proc_map is not used: it orders marks by insertion, in the square of their number. */
#include "tokenizer/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "support/utf8.h"

bool tk_is_space(uint32_t code) {
    return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
           code == 0x3000;
}

/* Symbols that Unicode counts among the letters all the same (Other_Alphabetic): letters in circles and squares. */
static bool is_enclosed_letter(uint32_t code) {
    return (code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F149) || (code >= 0x1F150 && code <= 0x1F169) ||
           (code >= 0x1F170 && code <= 0x1F189);
}

bool tk_is_word(uint32_t code) {
    const uint32_t kinds = 1u << UTF8PROC_CATEGORY_LU | 1u << UTF8PROC_CATEGORY_LL | 1u << UTF8PROC_CATEGORY_LT |
                           1u << UTF8PROC_CATEGORY_LM | 1u << UTF8PROC_CATEGORY_LO | 1u << UTF8PROC_CATEGORY_MN |
                           1u << UTF8PROC_CATEGORY_MC | 1u << UTF8PROC_CATEGORY_ME | 1u << UTF8PROC_CATEGORY_ND |
                           1u << UTF8PROC_CATEGORY_NL | 1u << UTF8PROC_CATEGORY_PC;
    return kinds >> utf8proc_category((utf8proc_int32_t)code) & 1 || code == 0x200C || code == 0x200D || is_enclosed_letter(code);
}

/* ---- normal form C */

typedef struct Codes {
    utf8proc_int32_t *items; /* malloced */
    size_t count, capacity;
} Codes;

static void reserve(Codes *codes, size_t need) {
    if (need <= codes->capacity) return;
    codes->capacity = need < 2 * codes->capacity ? 2 * codes->capacity : need;
    codes->items = realloc(codes->items, codes->capacity * sizeof *codes->items);
    if (!codes->items) {
        fputs("mossc: out of memory\n", stderr);
        exit(1);
    }
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

static void decompose(const char *text, size_t size, Codes *codes) {
    codes->count = 0;
    for (size_t at = 0; at < size;) {
        SuUtf8 c = su_utf8_at(text + at, size - at);
        int boundary = 0;
        reserve(codes, codes->count + 32); /* the longest decomposition there is has 4 codes (18 in compatibility forms) */
        utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c.code, codes->items + codes->count, 32,
                                                     UTF8PROC_STABLE | UTF8PROC_COMPOSE, &boundary);
        if (n < 0 || n > 32) {
            codes->items[codes->count] = (utf8proc_int32_t)c.code; /* unassigned: stands for itself */
            n = 1;
        }
        codes->count += (size_t)n;
        at += c.size;
    }
}

static void normalize(const char *text, size_t size, Codes *codes, Codes *scratch, SuText *out) {
    decompose(text, size, codes);
    order(codes, scratch);
    utf8proc_ssize_t n = utf8proc_normalize_utf32(codes->items, (utf8proc_ssize_t)codes->count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        utf8proc_uint8_t bytes[4];
        su_text_append(out, (const char *)bytes, (size_t)utf8proc_encode_char(codes->items[i], bytes));
    }
}

/* Text below U+0300 is in normal form; its UTF-8 has no byte from 0xCC on. An ASCII character never joins with what stands before
 * it, so that a piece from one ASCII character to the next is normalised on its own. */
void tk_nfc(const char *text, size_t size, SuText *out) {
    Codes codes = {0}, scratch = {0};
    size_t done = 0; /* what is before is in `out` */
    for (size_t at = 0; at < size;) {
        if ((unsigned char)text[at] < 0xCC) {
            at++;
            continue;
        }
        size_t begin = at, end = at;
        while (begin > done && (unsigned char)text[begin] >= 0x80) begin--;
        while (end < size && (unsigned char)text[end] >= 0x80) end++;
        su_text_append(out, text + done, begin - done);
        normalize(text + begin, end - begin, &codes, &scratch, out);
        done = at = end;
    }
    su_text_append(out, text + done, size - done);
    free(codes.items);
    free(scratch.items);
}
