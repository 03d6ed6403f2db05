/* From a tokenizer.json to a TkBpe: the sections in turn, then what follows from all of them. */
#include "tokenizer/model.h"

#include <stdlib.h>
#include <string.h>

#include "support/utf8.h"
#include "tokenizer/read.h"

/* ---- bytes and characters of ByteLevel */

/* GPT-2's map: bytes that print stand for themselves, the others take the characters from U+0100 on, in order. */
static void map_bytes(TkBpe *bpe) {
    memset(bpe->byte_of_char, -1, sizeof bpe->byte_of_char);
    uint16_t next = 0x100;
    for (int byte = 0; byte < 256; byte++) {
        bool prints = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        bpe->char_of_byte[byte] = prints ? (uint16_t)byte : next++;
        bpe->byte_of_char[bpe->char_of_byte[byte]] = (int16_t)byte;
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

static void make_outputs(TkBpe *bpe) {
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

/* ---- the file */

enum { F_VERSION, F_TRUNCATION, F_PADDING, F_ADDED, F_NORMALIZER, F_PRE, F_POST, F_DECODER, F_MODEL, F_COUNT };

/* truncation and padding: null only, since text is never cut or filled up here. */
static const TkField root_fields[F_COUNT] = {[F_VERSION] = {"version", TK_STRING},
                                             [F_TRUNCATION] = {"truncation", TK_NULL},
                                             [F_PADDING] = {"padding", TK_NULL},
                                             [F_ADDED] = {"added_tokens", TK_NULL | TK_LIST},
                                             [F_NORMALIZER] = {"normalizer", TK_NULL | TK_MAP},
                                             [F_PRE] = {"pre_tokenizer", TK_NULL | TK_MAP},
                                             [F_POST] = {"post_processor", TK_NULL | TK_MAP},
                                             [F_DECODER] = {"decoder", TK_NULL | TK_MAP},
                                             [F_MODEL] = {"model", TK_MAP | TK_REQUIRED}};

static bool read_sections(TkReader *r, TkBpe *bpe, const cJSON *root) {
    const cJSON *found[F_COUNT];
    if (!tk_fields(r, "", root, root_fields, F_COUNT, found)) return false;
    if (found[F_VERSION] && strcmp(found[F_VERSION]->valuestring, "1.0") != 0) {
        return tk_fail(r, "version", "%s is not understood; known: 1.0", tk_shown(r, found[F_VERSION]->valuestring));
    }
    return tk_read_model(r, bpe, found[F_MODEL]) && tk_read_normalizer(r, bpe, found[F_NORMALIZER]) &&
           tk_read_added_tokens(r, bpe, found[F_ADDED]) && tk_read_pre_tokenizer(r, bpe, found[F_PRE]) &&
           tk_read_post_processor(r, found[F_POST]) && tk_read_decoder(r, bpe, found[F_DECODER]);
}

bool tk_model_read(TkBpe *bpe, const char *text, size_t size, const char *path, SuDiags *diags) {
    TkReader r = {.span = su_file_span(diags, path), .diags = diags};
    map_bytes(bpe);
    cJSON *root = tk_json_parse(&r, text, size);
    bool ok = root && read_sections(&r, bpe, root);
    if (ok) make_outputs(bpe);
    cJSON_Delete(root);
    su_arena_free(&r.arena);
    return ok;
}

void tk_model_free(TkBpe *bpe) {
    for (int i = 0; i < bpe->n_stages; i++) tk_pattern_free(bpe->stages[i].pattern);
    su_arena_free(&bpe->arena);
}
