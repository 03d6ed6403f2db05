/* What tokens say, by the steps of a decoder. */
#include <stdlib.h>
#include <string.h>

#include "support/utf8.h"
#include "tokenizer/bytes.h"
#include "tokenizer/step.h"

/* ---- steps; each returns false to leave the text as it is, else has appended the new one */

/* The bytes behind a text of ByteLevel's characters; as it is, if it holds any other. */
static bool to_bytes(TkText token, SuText *out) {
    for (size_t at = 0; at < token.size;) {
        SuUtf8 c = su_utf8_at(token.text + at, token.size - at);
        int byte = tk_byte_of_char(c.code);
        if (byte < 0) return false;
        char plain = (char)byte;
        su_text_append(out, &plain, 1);
        at += c.size;
    }
    return true;
}

/* <0x41> is the byte 0x41. */
static bool fall_back(TkText token, SuText *out) {
    if (token.size != 6 || memcmp(token.text, "<0x", 3) != 0 || token.text[5] != '>') return false;
    char digits[3] = {token.text[3], token.text[4], '\0'}, *end;
    if (strspn(digits, "0123456789abcdefABCDEF") != 2) return false;
    char byte = (char)strtol(digits, &end, 16);
    su_text_append(out, &byte, 1);
    return true;
}

static bool begins_with(TkText text, TkText sign) {
    return sign.size && text.size >= sign.size && memcmp(text.text, sign.text, sign.size) == 0;
}

static bool ends_with(TkText text, TkText sign) {
    return sign.size && text.size >= sign.size && memcmp(text.text + text.size - sign.size, sign.text, sign.size) == 0;
}

static bool trim(const TkStep *step, TkText text, SuText *out) {
    for (uint32_t i = 0; i < step->start && begins_with(text, step->text); i++) {
        text.text += step->text.size;
        text.size -= step->text.size;
    }
    for (uint32_t i = 0; i < step->stop && ends_with(text, step->text); i++) text.size -= step->text.size;
    su_text_append(out, text.text, text.size);
    return true;
}

static bool blanks(const TkStep *step, bool first, TkText text, SuText *out) {
    bool none = first && step->scheme != TK_NEVER;
    while (text.size) {
        bool sign = begins_with(text, step->text);
        size_t size = sign ? step->text.size : su_utf8_at(text.text, text.size).size;
        if (!sign) su_text_append(out, text.text, size);
        if (sign && !none) su_text_append(out, " ", 1);
        text.text += size;
        text.size -= size;
    }
    return true;
}

/* *out_new: the text is what was appended. false after an error. */
static bool take_step(const TkStep *step, TkWork *work, bool first, TkText text, SuText *out, bool *out_new) {
    *out_new = true;
    switch (step->kind) {
    case TK_STEP_REPLACE: return tk_replace(step->pattern, work->matcher, step->content, text.text, text.size, out, work->diags);
    case TK_STEP_BYTES: *out_new = to_bytes(text, out); return true;
    case TK_STEP_FALLBACK: *out_new = fall_back(text, out); return true;
    case TK_STEP_TRIM: *out_new = !step->whole && trim(step, text, out); return true;
    case TK_STEP_BLANKS: *out_new = blanks(step, first, text, out); return true;
    case TK_STEP_FORM:
    case TK_STEP_PREPEND:
    case TK_STEP_STRIP:
    case TK_STEP_SPLIT:
    case TK_STEP_BYTE_LEVEL:
    case TK_STEP_METASPACE:
    case TK_STEP_KINDS: break;
    }
    SU_BUG("step %d of a decoder", (int)step->kind);
}

/* Behind a byte nothing more can be said of a token by its text. */
static bool is_byte(const TkStep *step, bool changed) {
    return changed && (step->kind == TK_STEP_FALLBACK || step->kind == TK_STEP_BYTES);
}

bool tk_decode(const TkSteps *steps, TkWork *work, bool first, TkText *text) {
    int turn = 0;
    for (int i = 0; i < steps->count; i++) {
        SuText *out = &work->room[turn];
        bool changed;
        out->size = 0;
        su_text_append(out, "", 0);
        if (!take_step(&steps->items[i], work, first, *text, out, &changed)) return false;
        if (!changed) continue;
        *text = (TkText){.text = out->text, .size = out->size};
        turn = 1 - turn;
        if (is_byte(&steps->items[i], changed)) break;
    }
    return true;
}
