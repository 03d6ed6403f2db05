/* UTF-8, strictly: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
#ifndef MOSSC_SUPPORT_UTF8_H
#define MOSSC_SUPPORT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What stands at the front of some bytes: a whole character, or the longest piece of one (at least a byte), which is what one
 * U+FFFD stands for (Unicode 3.9, substitution of maximal subparts). */
typedef struct SuUtf8 {
    uint32_t code; /* of a whole character */
    uint8_t size;  /* 1 to 4 */
    bool whole;
    bool open; /* not whole, but bytes to come may complete it */
} SuUtf8;

/* size ≥ 1 */
static inline SuUtf8 su_utf8_at(const char *text, size_t size) {
    const unsigned char *t = (const unsigned char *)text;
    if (t[0] < 0x80) return (SuUtf8){.code = t[0], .size = 1, .whole = true};
    size_t n = t[0] < 0xC2 ? 1 : t[0] < 0xE0 ? 2 : t[0] < 0xF0 ? 3 : t[0] < 0xF5 ? 4 : 1;
    if (n == 1) return (SuUtf8){.size = 1};
    unsigned char low = t[0] == 0xE0 ? 0xA0 : t[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char high = t[0] == 0xED ? 0x9F : t[0] == 0xF4 ? 0x8F : 0xBF;
    uint32_t code = t[0] & (0x7Fu >> n);
    size_t i = 1;
    for (; i < n && i < size && t[i] >= low && t[i] <= high; i++) {
        code = code << 6 | (t[i] & 0x3Fu);
        low = 0x80;
        high = 0xBF;
    }
    return (SuUtf8){.code = code, .size = (uint8_t)i, .whole = i == n, .open = i < n && i == size};
}

/* Writes a character (at most U+10FFFF) as 1 to 4 bytes; returns how many. */
static inline size_t su_utf8_encode(uint32_t code, char out[4]) {
    static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = size; i-- > 1; code >>= 6) out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)(lead[size] | code);
    return size;
}

#define SU_UTF8_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

#endif
