/* Normal form C of a text, by pieces. */
#include "tokenizer/unicode.h"

/* Text below U+0300 is in normal form; its UTF-8 has no byte from 0xCC on. An ASCII character never joins with what stands before
 * it, so that a piece from one ASCII character to the next is normalised on its own. */
void tk_normal_form(const TkUnicode *unicode, const char *text, size_t size, SuText *out) {
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
        unicode->normalize(unicode, text + begin, end - begin, out);
        done = at = end;
    }
    su_text_append(out, text + done, size - done);
}
