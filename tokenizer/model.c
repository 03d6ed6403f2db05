/* What follows from a tokenizer's tables, whichever file they come from. */
#include "tokenizer/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/utf8.h"

/* ---- bytes and characters of ByteLevel */

/* GPT-2's map: bytes that print stand for themselves, the others take the characters from U+0100 on, in order. */
void tk_model_map_bytes(TkBpe *bpe) {
    memset(bpe->byte_of_char, -1, sizeof bpe->byte_of_char);
    uint16_t next = 0x100;
    for (int byte = 0; byte < 256; byte++) {
        bool prints = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        bpe->char_of_byte[byte] = prints ? (uint16_t)byte : next++;
        bpe->byte_of_char[bpe->char_of_byte[byte]] = (int16_t)byte;
    }
}

/* What encoding looks up most: single characters and the bytes of byte_fallback. */
void tk_model_index_characters(TkBpe *bpe) {
    for (uint32_t code = 0; code < TK_LOW_CODES; code++) {
        char text[4];
        bpe->low_ids[code] = tk_vocab_find(&bpe->vocab, text, su_utf8_encode(code, text));
    }
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        int size = snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
        bpe->fallback_ids[byte] = tk_vocab_find(&bpe->vocab, text, (size_t)size);
    }
}

/* ---- what ids say */

/* The bytes behind a text of ByteLevel's characters; as it is, if it holds any other. */
static TkText byte_level_output(TkBpe *bpe, TkText token) {
    char *bytes = su_alloc(&bpe->arena, token.size);
    size_t count = 0;
    for (size_t at = 0; at < token.size;) {
        SuUtf8 c = su_utf8_at(token.text + at, token.size - at);
        if (c.code >= TK_LOW_CODES || bpe->byte_of_char[c.code] < 0) return token;
        bytes[count++] = (char)bpe->byte_of_char[c.code];
        at += c.size;
    }
    return (TkText){.text = bytes, .size = count};
}

/* <0x41> is the byte 0x41. */
static TkText byte_fallback_output(TkBpe *bpe, TkText token) {
    if (token.size != 6 || memcmp(token.text, "<0x", 3) != 0 || token.text[5] != '>') return token;
    char digits[3] = {token.text[3], token.text[4], '\0'}, *end;
    if (strspn(digits, "0123456789abcdefABCDEF") != 2) return token;
    char *byte = su_alloc(&bpe->arena, 1);
    *byte = (char)strtol(digits, &end, 16);
    return (TkText){.text = byte, .size = 1};
}

void tk_model_make_outputs(TkBpe *bpe) {
    bpe->outputs = bpe->added.texts;
    for (size_t id = 0; id < bpe->vocab.n_ids; id++) {
        TkText token = bpe->vocab.texts[id];
        if (!token.text || bpe->outputs[id].text) continue;
        bpe->outputs[id] = bpe->decode_byte_level      ? byte_level_output(bpe, token)
                           : bpe->decode_byte_fallback ? byte_fallback_output(bpe, token)
                                                       : token;
    }
}

int32_t tk_model_find(const TkBpe *bpe, const char *text) {
    int32_t id = tk_vocab_find(&bpe->added, text, strlen(text));
    return id >= 0 ? id : tk_vocab_find(&bpe->vocab, text, strlen(text));
}

bool tk_model_is_gap(const TkBpe *bpe, int32_t id) { return id < 0 || (size_t)id >= bpe->added.n_ids || !bpe->outputs[id].text; }

void tk_model_free(TkBpe *bpe) {
    for (int i = 0; i < bpe->n_stages; i++) tk_pattern_free(bpe->stages[i].pattern);
    su_map_close(&bpe->map);
    su_arena_free(&bpe->arena);
}
