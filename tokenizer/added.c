/* Added tokens: a tree of their bytes, walked from every place of the text. */
#include "tokenizer/added.h"

#include "support/utf8.h"

/* ---- the tree */

static uint32_t *link_of(TkAdded *added, uint32_t *from, uint8_t byte) {
    while (*from && added->nodes[*from].byte != byte) from = &added->nodes[*from].sibling;
    return from;
}

int32_t tk_added_add(TkAdded *added, SuArena *arena, const TkAddedToken *token) {
    /* First, so that no link moves while the text is walked. */
    added->nodes = su_grow(arena, added->nodes, &added->nodes_capacity, added->n_nodes + token->size + 1, sizeof *added->nodes);
    if (added->n_nodes == 0) added->n_nodes = 1;
    uint32_t *link = &added->first[(uint8_t)token->text[0]];
    for (size_t i = 0;; i++) {
        if (!*link) {
            added->nodes[added->n_nodes] = (TkAddedNode){.token = -1, .byte = (uint8_t)token->text[i]};
            *link = (uint32_t)added->n_nodes++;
        }
        if (i + 1 == token->size) break;
        link = link_of(added, &added->nodes[*link].child, (uint8_t)token->text[i + 1]);
    }
    TkAddedNode *node = &added->nodes[*link];
    if (node->token >= 0) return node->token;
    node->token = (int32_t)added->count;
    added->tokens = su_grow(arena, added->tokens, &added->capacity, added->count + 1, sizeof *added->tokens);
    added->tokens[added->count++] = *token;
    return -1;
}

/* The longest token that begins at text[0..size); NULL if none does. */
static const TkAddedToken *longest(const TkAdded *added, const char *text, size_t size) {
    const TkAddedToken *found = NULL;
    uint32_t node = added->first[(uint8_t)text[0]];
    for (size_t i = 1; node; i++) {
        if (added->nodes[node].token >= 0) found = &added->tokens[added->nodes[node].token];
        if (i == size) break;
        node = added->nodes[node].child;
        while (node && added->nodes[node].byte != (uint8_t)text[i]) node = added->nodes[node].sibling;
    }
    return found;
}

/* ---- the flags */

/* The character that ends at text[end), end ≥ 1. */
static SuUtf8 before(const char *text, size_t end) {
    size_t at = end - 1;
    while (at > 0 && ((uint8_t)text[at] & 0xC0) == 0x80) at--;
    return su_utf8_at(text + at, end - at);
}

static bool stands_alone(const TkUnicode *unicode, const char *text, size_t size, size_t begin, size_t end) {
    bool word_before = begin > 0 && unicode->is_word(unicode, before(text, begin).code);
    bool word_behind = end < size && unicode->is_word(unicode, su_utf8_at(text + end, size - end).code);
    return !word_before && !word_behind;
}

static size_t skip_spaces_back(const char *text, size_t end, size_t least) {
    while (end > least) {
        SuUtf8 c = before(text, end);
        if (!tk_is_space(c.code)) break;
        end -= c.size;
    }
    return end;
}

static size_t skip_spaces(const char *text, size_t begin, size_t size) {
    while (begin < size) {
        SuUtf8 c = su_utf8_at(text + begin, size - begin);
        if (!tk_is_space(c.code)) break;
        begin += c.size;
    }
    return begin;
}

/* Matches are found in the whole text, one behind the other, also in blanks that an rstrip has taken: such a token comes all the
 * same, unless by its own lstrip nothing is left for it. So does Hugging Face's. */
bool tk_added_split(const TkAdded *added, const char *text, size_t size, TkPiece *piece, void *context) {
    size_t done = 0; /* what is before has been handed out */
    for (size_t at = 0; added->count && at < size;) {
        const TkAddedToken *token = added->first[(uint8_t)text[at]] ? longest(added, text + at, size - at) : NULL;
        size_t begin = at, end = token ? at + token->size : 0;
        at = token ? end : at + 1;
        if (!token || (token->single_word && !stands_alone(added->unicode, text, size, begin, end))) continue;
        if (token->lstrip) begin = begin < done ? done : skip_spaces_back(text, begin, done);
        if (token->rstrip) end = skip_spaces(text, end, size);
        if (begin >= end) continue;
        if (done < begin && !piece(context, -1, text + done, begin - done)) return false;
        if (!piece(context, token->id, text + begin, end - begin)) return false;
        done = end;
    }
    return done == size || piece(context, -1, text + done, size - done);
}
