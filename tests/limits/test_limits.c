/* The edge of each limit of what is read: so much is taken, and one more is refused by name. Built with MOSSC_SMALL_LIMITS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "frontend/load.h"
#include "frontend/lower.h"
#include "runtime/safetensors.h"
#include "schedule/schedule.h"
#include "tokenizer/bpe.h"
#include "tokenizer/model.h"

_Static_assert(FE_MAX_BLOCKS < 100 && TK_MAX_VALUES < 10000 && RT_MAX_VALUES < 1000 && PG_MAX_ROWS < 100, "limits are near");

static void repeat(SuText *text, const char *piece, int count) {
    for (int i = 0; i < count; i++) su_text_append(text, piece, strlen(piece));
}

/* Whether something was taken; if not, its one error must say `words`. Frees diags. */
static void expect(bool taken, bool wanted, SuDiags *diags, const char *words) {
    if (taken != wanted) fail_msg("%s: %s", words, taken ? "one too many was taken" : diags->items[0].message);
    if (!taken && !strstr(diags->items[0].message, words)) fail_msg("instead of '%s': %s", words, diags->items[0].message);
    su_diags_free(diags);
}

/* ---- specs */

#define HEAD "mossc: 1\nname: t\nvocab_size: 256\nd_model: 64\n"

/* Reads HEAD and `text` (freed) as a spec. */
static void expect_spec(SuText *text, bool wanted, const char *words) {
    FeSpec spec;
    SuDiags diags = {0};
    bool taken = fe_spec_parse("t.yaml", text->text, text->size, NULL, 0, &spec, &diags);
    expect(taken, wanted, &diags, words);
    fe_spec_free(&spec);
    su_text_free(text);
}

static void blocks(void **state) {
    (void)state;
    for (int more = 0; more < 2; more++) {
        SuText text = {0};
        su_text_add(&text, HEAD "stack:\n");
        repeat(&text, "  - ssm\n", FE_MAX_BLOCKS + more);
        expect_spec(&text, !more, "the stack has more than 8 blocks");
    }
}

static void repeated_blocks(void **state) {
    (void)state;
    for (int more = 0; more < 2; more++) {
        SuText text = {0};
        su_text_add(&text, HEAD "stack: [{repeat: %d, blocks: [ssm]}]\n", FE_MAX_BLOCKS + more);
        expect_spec(&text, !more, "the stack has more than 8 blocks");
    }
}

static void defines(void **state) {
    (void)state;
    for (int more = 0; more < 2; more++) {
        SuText text = {0};
        su_text_add(&text, HEAD "define:\n");
        for (int i = 0; i < FE_MAX_DEFINES + more; i++) su_text_add(&text, "  d%d: {ssm: {}}\n", i);
        su_text_add(&text, "stack: [ssm]\n");
        expect_spec(&text, !more, "more than 3 named blocks");
    }
}

static void bytes(void **state) {
    (void)state;
    for (int more = 0; more < 2; more++) {
        SuText text = {0};
        su_text_add(&text, HEAD "stack: [ssm]\n#");
        repeat(&text, "x", FE_MAX_INPUT + more - (int)text.size);
        expect_spec(&text, !more, "spec exceeds the limit of 4096 bytes");
    }
}

/* Counted are the document, its six keys, the values of HEAD, the two lists, the block, and what is in x-list. */
static void values(void **state) {
    (void)state;
    for (int more = 0; more < 2; more++) {
        SuText text = {0};
        su_text_add(&text, HEAD "stack: [ssm]\nx-list: [1");
        repeat(&text, ",1", FE_MAX_NODES - 14 - 1 + more);
        su_text_add(&text, "]\n");
        expect_spec(&text, !more, "more than 128 values in one file");
    }
}

static void levels(void **state) {
    (void)state;
    for (int more = 0; more < 2; more++) {
        SuText text = {0};
        su_text_add(&text, HEAD "x-deep: ");
        repeat(&text, "[", FE_MAX_DEPTH - 1 + more);
        repeat(&text, "]", FE_MAX_DEPTH - 1 + more);
        su_text_add(&text, "\nstack: [ssm]\n");
        expect_spec(&text, !more, "nested deeper than 8 levels");
    }
}

static void anchors(void **state) {
    (void)state;
    for (int more = 0; more < 2; more++) {
        SuText text = {0};
        su_text_add(&text, HEAD);
        for (int i = 0; i < FE_MAX_ANCHORS + more; i++) su_text_add(&text, "x-%d: &a%d 1\n", i, i);
        su_text_add(&text, "stack: [ssm]\n");
        expect_spec(&text, !more, "more than 4 anchors");
    }
}

static void alias_nesting(void **state) {
    (void)state;
    for (int more = 0; more < 2; more++) {
        SuText text = {0};
        su_text_add(&text, HEAD "x-0: &a0 1\n");
        for (int i = 1; i <= FE_MAX_ALIAS_NESTING; i++) su_text_add(&text, "x-%d: &a%d [*a%d]\n", i, i, i - 1);
        if (more) su_text_add(&text, "x-last: [*a%d]\n", FE_MAX_ALIAS_NESTING);
        su_text_add(&text, "stack: [ssm]\n");
        expect_spec(&text, !more, "aliases are nested deeper than 3 levels");
    }
}

/* ---- tokenizers */

#define TOKENIZER(added, vocab)                                                                                                    \
    "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [" added                                    \
    "], \"normalizer\": null, \"pre_tokenizer\": null, \"post_processor\": null, \"decoder\": {\"type\": \"Fuse\"}, "              \
    "\"model\": {\"type\": \"BPE\", \"vocab\": {" vocab "}, \"merges\": []}}"

static RtTokenizer *read_tokenizer(const SuText *text, SuDiags *diags) {
    TkBpeOptions options = {.vocab_size = 1 << 20, .bos = -1, .eos = -1};
    return tk_bpe_parse(text->text, text->size, "t.json", &options, diags);
}

/* Reads `text` (freed) as a tokenizer.json. */
static void expect_tokenizer(SuText *text, bool wanted, const char *words) {
    SuDiags diags = {0};
    RtTokenizer *t = read_tokenizer(text, &diags);
    expect(t != NULL, wanted, &diags, words);
    rt_tokenizer_free(t);
    su_text_free(text);
}

static void tokenizer_bytes(void **state) {
    (void)state;
    for (int more = 0; more < 2; more++) {
        SuText text = {0};
        su_text_add(&text, TOKENIZER("", "\"a\": 0"));
        repeat(&text, " ", TK_MAX_FILE + more - (int)text.size);
        expect_tokenizer(&text, !more, "file exceeds the limit of 8192 bytes");
    }
}

/* The whole is one value, its commas and opening brackets one each. */
static void tokenizer_values(void **state) {
    (void)state;
    for (int more = 0; more < 2; more++) {
        SuText text = {0};
        su_text_add(&text, "[1");
        repeat(&text, ",1", TK_MAX_VALUES - 2 + more);
        su_text_add(&text, "]");
        expect_tokenizer(&text, false, more ? "file exceeds the limit of 1024 values" : "the file: expected a map");
    }
}

static void tokenizer_ids(void **state) {
    (void)state;
    for (int more = 0; more < 2; more++) {
        SuText text = {0};
        su_text_add(&text, TOKENIZER("", "\"a\": %d"), TK_MAX_ID + more);
        expect_tokenizer(&text, !more, "expected an id, a whole number up to 1023");
    }
}

static void added_tokens(void **state) {
    (void)state;
    for (int more = 0; more < 2; more++) {
        SuText text = {0};
        su_text_add(&text,
                    TOKENIZER("{\"id\": 1, \"content\": \"%0*d\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                              "\"normalized\": false, \"special\": true}",
                              "\"a\": 0"),
                    TK_MAX_ADDED + more, 7);
        expect_tokenizer(&text, !more, "expected a text of 1 to 32 bytes");
    }
}

static void texts(void **state) {
    (void)state;
    SuText file = {0}, text = {0};
    SuDiags diags = {0};
    su_text_add(&file, TOKENIZER("", "\"a\": 0"));
    RtTokenizer *t = read_tokenizer(&file, &diags);
    assert_non_null(t);
    repeat(&text, "a", TK_MAX_TEXT + 1);
    for (size_t more = 0; more < 2; more++) {
        RtTokens ids = {0};
        bool taken = rt_tokenizer_encode(t, text.text, TK_MAX_TEXT + more, &ids, &diags);
        assert_int_equal(ids.count, more ? 0 : TK_MAX_TEXT);
        expect(taken, !more, &diags, "text exceeds the limit of 4096 bytes");
        rt_tokens_free(&ids);
    }
    rt_tokenizer_free(t);
    su_text_free(&text);
    su_text_free(&file);
}

/* ---- checkpoints */

/* Reads `header` (freed) as that of a file without data. */
static void expect_header(SuText *header, bool wanted, const char *words) {
    SuText file = {0};
    SuDiags diags = {0};
    RtSafetensors out;
    uint64_t size = header->size;
    su_text_append(&file, (const char *)&size, sizeof size);
    su_text_append(&file, header->text, header->size);
    bool taken = rt_safetensors_parse((const uint8_t *)file.text, file.size, "w", &out, &diags);
    if (taken) rt_safetensors_close(&out);
    expect(taken, wanted, &diags, words);
    su_text_free(&file);
    su_text_free(header);
}

static void header_bytes(void **state) {
    (void)state;
    for (int more = 0; more < 2; more++) {
        SuText header = {0};
        su_text_add(&header, "{}");
        repeat(&header, " ", RT_MAX_HEADER + more - 2);
        expect_header(&header, !more, "header of 2049 bytes exceeds the limit of 2048 bytes");
    }
}

/* The whole, its two maps, and each pair of __metadata__ but the first. */
static void header_values(void **state) {
    (void)state;
    for (int more = 0; more < 2; more++) {
        SuText header = {0};
        su_text_add(&header, "{\"__metadata__\":{\"a\":\"\"");
        repeat(&header, ",\"a\":\"\"", RT_MAX_VALUES - 3 + more);
        su_text_add(&header, "}}");
        expect_header(&header, !more, "header exceeds the limit of 64 values");
    }
}

/* ---- programs */

/* A step takes so many rows, and what a window keeps has room for them all besides the window. */
static void rows(void **state) {
    (void)state;
    static const char text[] = HEAD "max_positions: 4096\nstack: [{attention: {n_heads: 4, head_dim: 16, window: 32}}]\n";
    SuArena arena = {0};
    SuDiags diags = {0};
    FeSpec spec;
    PsOptions options = {.check = true};
    const PgProgram *program;
    bool ok = fe_spec_parse("t.yaml", text, sizeof text - 1, NULL, 0, &spec, &diags);
    if (!ok) fail_msg("%s", diags.items[0].message);
    IrGraph *graph = fe_lower(&spec, &arena);
    assert_true(ps_fuse(graph, &options, &diags) && sc_program(graph, &options, &arena, &program, &diags));
    assert_int_equal(program->max_rows, PG_MAX_ROWS);
    assert_in_range(program->states[0].bytes, 1, (32 + 2 * PG_MAX_ROWS) * 64 * sizeof(float));
    su_arena_free(&arena);
    su_diags_free(&diags);
    fe_spec_free(&spec);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks),          cmocka_unit_test(repeated_blocks),
        cmocka_unit_test(defines),         cmocka_unit_test(bytes),
        cmocka_unit_test(values),          cmocka_unit_test(levels),
        cmocka_unit_test(anchors),         cmocka_unit_test(alias_nesting),
        cmocka_unit_test(tokenizer_bytes), cmocka_unit_test(tokenizer_values),
        cmocka_unit_test(tokenizer_ids),   cmocka_unit_test(added_tokens),
        cmocka_unit_test(texts),           cmocka_unit_test(header_bytes),
        cmocka_unit_test(header_values),   cmocka_unit_test(rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
