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

void fe_describe_block(const FeBlock *block, SuText *out) { rows[block->kind].kind->describe(block, out); }
