/* The table of kinds. */
#include "frontend/kinds.h"

#include <string.h>

static const FeKindRow rows[FE_N_KINDS] = {
#define FE_KIND(id, word, what)                                                                                                    \
    [FE_##id] = {#word, FE_SECTION_##word, KEY(defaults, word), KEY(entry, word), FE_ENDS(word), &fe_kind_##word},
#include "frontend/kinds.def"
};

const FeKindRow *fe_kind_row(FeBlockKind kind) { return &rows[kind]; }

bool fe_find_kind(const char *word, FeBlockKind *out_kind) {
    for (int i = 0; i < FE_N_KINDS; i++) {
        if (strcmp(rows[i].word, word) != 0) continue;
        *out_kind = (FeBlockKind)i;
        return true;
    }
    return false;
}

const char *fe_kind_words(SuArena *arena, const char *last) {
    const char *text = rows[0].word;
    for (int i = 1; i < FE_N_KINDS; i++) text = su_printf(arena, "%s%s%s", text, i + 1 < FE_N_KINDS ? ", " : last, rows[i].word);
    return text;
}

const char *fe_block_kind_word(FeBlockKind kind) { return rows[kind].word; }

const char *fe_block_word(const FeBlock *block) {
    return block->n_branches > 0 ? fe_key_row(KEY(entry, parallel))->name : rows[block->kind].word;
}

/* "ssm (8 experts, top 2, outputs), attention" */
static void describe_branches(const FeBlock *block, SuText *out) {
    for (int64_t i = 0; i < block->n_branches; i++) {
        SuText more = {0};
        fe_describe_block(&block->branches[i], &more);
        su_text_add(out, "%s%s", i ? ", " : "", fe_block_word(&block->branches[i]));
        if (more.size) su_text_add(out, " (%s)", more.text);
        su_text_free(&more);
    }
}

void fe_describe_block(const FeBlock *block, SuText *out) {
    if (block->n_branches > 0) {
        describe_branches(block, out);
        return;
    }
    SuText more = {0};
    rows[block->kind].kind->describe(block, &more);
    if (block->share) fe_describe_share(block->share, out);
    su_text_add(out, "%s%s", block->share && more.size ? ", " : "", more.size ? more.text : "");
    su_text_free(&more);
}
