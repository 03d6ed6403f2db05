/* The steps of a normalizer; normal forms by pieces. */
#include <string.h>

#include "support/utf8.h"
#include "tokenizer/step.h"

void tk_work_free(TkWork *work) {
    su_text_free(&work->room[0]);
    su_text_free(&work->room[1]);
}

/* Text below U+0300 is in normal form C; its UTF-8 has no byte from 0xCC on. The other forms change characters from U+00A0 on. An
 * ASCII character never joins with what stands before it, so that a piece from one ASCII character to the next is normalised on its own. */
void tk_normal_form(const TkUnicode *unicode, TkForm form, const char *text, size_t size, SuText *out) {
    const unsigned char changed = form == TK_NFC ? 0xCC : 0x80;
    size_t done = 0; /* what is before is in `out` */
    for (size_t at = 0; at < size;) {
        if ((unsigned char)text[at] < changed) {
            at++;
            continue;
        }
        size_t begin = at, end = at;
        while (begin > done && (unsigned char)text[begin] >= 0x80) begin--;
        while (end < size && (unsigned char)text[end] >= 0x80) end++;
        su_text_append(out, text + done, begin - done);
        unicode->normalize(unicode, form, text + begin, end - begin, out);
        done = at = end;
    }
    su_text_append(out, text + done, size - done);
}

/* ---- steps */

static TkText stripped(const TkStep *step, TkText text) {
    while (step->left && text.size) {
        SuUtf8 c = su_utf8_at(text.text, text.size);
        if (!tk_is_space(c.code)) break;
        text.text += c.size;
        text.size -= c.size;
    }
    while (step->right && text.size) {
        size_t at = text.size - 1;
        while (at > 0 && ((unsigned char)text.text[at] & 0xC0) == 0x80) at--;
        if (!tk_is_space(su_utf8_at(text.text + at, text.size - at).code)) break;
        text.size = at;
    }
    return text;
}

/* Appends the result to `out`. */
static bool take_step(const TkStep *step, TkWork *work, TkText text, SuText *out) {
    switch (step->kind) {
    case TK_STEP_FORM: tk_normal_form(work->unicode, step->form, text.text, text.size, out); return true;
    case TK_STEP_PREPEND:
        if (text.size) su_text_append(out, step->text.text, step->text.size);
        su_text_append(out, text.text, text.size);
        return true;
    case TK_STEP_REPLACE: return tk_replace(step->pattern, work->matcher, step->content, text.text, text.size, out, work->diags);
    case TK_STEP_STRIP:
    case TK_STEP_SPLIT:
    case TK_STEP_BYTE_LEVEL:
    case TK_STEP_METASPACE:
    case TK_STEP_BYTES:
    case TK_STEP_FALLBACK:
    case TK_STEP_TRIM:
    case TK_STEP_BLANKS:
    case TK_STEP_KINDS: break;
    }
    SU_BUG("step %d of a normalizer", (int)step->kind);
}

bool tk_normalize(const TkSteps *steps, TkWork *work, TkText *text) {
    int turn = 0;
    for (int i = 0; i < steps->count; i++) {
        const TkStep *step = &steps->items[i];
        if (step->kind == TK_STEP_STRIP) {
            *text = stripped(step, *text);
            continue;
        }
        SuText *out = &work->room[turn];
        out->size = 0;
        su_text_append(out, "", 0);
        if (!take_step(step, work, *text, out)) return false;
        *text = (TkText){.text = out->text, .size = out->size};
        turn = 1 - turn;
    }
    return true;
}
