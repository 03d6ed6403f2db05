/* libFuzzer target: a tokenizer.json of any bytes is read or refused without a fault; one that is read takes any text, and ids of
 * its own, without a fault. An input is the file up to its first NUL, and behind it a text. */
#include <stdlib.h>
#include <string.h>

#include "support/utf8.h"
#include "tokenizer/bpe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { VOCAB = 100000 };

/* Whatever the ids say, a stream of it is whole characters. */
static void check_stream(const RtTokenizer *t, const RtTokens *tokens, bool whole) {
    SuText text = {0};
    RtTextStream stream = {.tokenizer = t, .whole = whole};
    for (size_t i = 0; i < tokens->count; i++) {
        rt_text_stream_add(&stream, tokens->ids[i], &text);
        for (size_t at = 0; at < text.size;) {
            SuUtf8 c = su_utf8_at(text.text + at, text.size - at);
            if (!c.whole) abort();
            at += c.size;
        }
        text.size = 0;
    }
    rt_text_stream_end(&stream, &text);
    su_text_free(&text);
}

static void encode(const RtTokenizer *t, const char *text, size_t size) {
    SuDiags diags = {0};
    RtTokens tokens = {0};
    if (rt_tokenizer_encode(t, text, size, &tokens, &diags)) {
        for (size_t i = 0; i < tokens.count; i++)
            if (tokens.ids[i] < 0 || tokens.ids[i] >= rt_tokenizer_limit(t) || rt_tokenizer_is_gap(t, tokens.ids[i])) abort();
        check_stream(t, &tokens, true);
    } else if (!diags.errors) {
        abort(); /* every refusal has a reason */
    }
    rt_tokens_free(&tokens);
    su_diags_free(&diags);
}

/* Ids as a sampler picks them, bytes of the input standing for them. */
static void decode(const RtTokenizer *t, const uint8_t *bytes, size_t size) {
    RtTokens tokens = {0};
    for (size_t i = 0; i < size; i++) rt_tokens_add(&tokens, bytes[i]);
    check_stream(t, &tokens, false);
    rt_tokens_free(&tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char fixed[] = " the  cat's <s>\n\n e\u0301\u00E9 \u4E2D 123 A.b!";
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t file = nul ? (size_t)(nul - data) : size, behind = nul ? size - file - 1 : 0;
    TkBpeOptions options = {.vocab_size = VOCAB, .bos = -1, .eos = -1};
    SuDiags diags = {0};
    RtTokenizer *t = tk_bpe_parse(size ? (const char *)data : "", file, "input", &options, &diags);
    if (t) {
        encode(t, fixed, sizeof fixed - 1);
        encode(t, nul ? (const char *)nul + 1 : "", behind);
        decode(t, data, size < 64 ? size : 64);
        rt_tokenizer_free(t);
    } else if (!diags.errors) {
        abort();
    }
    su_diags_free(&diags);
    return 0;
}
