/* What the front end's tests share: cmocka, and specs from a text. */
#ifndef MOSSC_TESTS_FRONTEND_HELPERS_H
#define MOSSC_TESTS_FRONTEND_HELPERS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "frontend/keys.h"
#include "frontend/spec.h"

#define HEAD "mossc: 1\nname: t\nvocab_size: 256\nd_model: 64\n"

/* A value of a block: V(spec.blocks[0], ssm, d_state)->integer. */
#define V(block, section, key) value_of(&(block), FE_KEY_##section##_##key)

static inline const FeValue *value_of(const FeBlock *block, FeKey key) {
    const FeValue *value = fe_find_value(block->map, key);
    assert_non_null(value);
    return value;
}

/* per_expert names exactly these parts: "A|D", in the order of the table. */
static inline void assert_parts(const FeBlock *block, const char *expected) {
    char parts[128] = "";
    const char *word;
    int size;
    bool reserved;
    const char *words = fe_key_row(FE_KEY_ssm_experts_per_expert)->words;
    for (int i = 0; fe_word_at(words, i, &word, &size, &reserved); i++) {
        if (!(V(*block, ssm_experts, per_expert)->bits >> i & 1)) continue;
        if (parts[0]) strcat(parts, "|");
        strncat(parts, word, (size_t)size);
    }
    assert_string_equal(parts, expected);
}

typedef struct Loaded {
    FeSpec spec;
    SuDiags diags;
    bool ok;
} Loaded;

static inline Loaded load_with(const char *text, const char *const *sets, size_t n_sets) {
    Loaded l = {0};
    l.ok = fe_spec_parse("t.yaml", text, strlen(text), sets, n_sets, &l.spec, &l.diags);
    return l;
}

static inline Loaded load_text(const char *text) { return load_with(text, NULL, 0); }

/* A spec that must be good. */
static inline Loaded load_good(const char *text) {
    Loaded l = load_text(text);
    if (!l.ok) su_diags_print(&l.diags, stderr);
    assert_true(l.ok);
    return l;
}

static inline void unload(Loaded *l) {
    fe_spec_free(&l->spec);
    su_diags_free(&l->diags);
}

/* Exactly one error, which contains `text`. */
static inline void assert_error(const Loaded *l, const char *text) {
    assert_false(l->ok);
    assert_int_equal(l->diags.errors, 1);
    if (!strstr(l->diags.items[0].message, text)) fail_msg("'%s' is not in '%s'", text, l->diags.items[0].message);
}

#endif
