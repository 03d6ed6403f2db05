/* Merges out of scores. A token is made of two others wherever its text is that of the two; the token of the highest score is made
 * first. Among equal scores the longer left part, then the longer right one, then the lower ids come first: Hugging Face's order. */
#include <stdlib.h>
#include <string.h>

#include "import/gguf_tokenizer.h"
#include "support/utf8.h"
#include "tokenizer/bpe.h"

typedef struct Merge {
    uint32_t whole, left, right;     /* ids */
    uint32_t left_size, right_size;  /* characters */
    double score;
} Merge;

static const char too_large[] = "the scores mean more merges than a tokenizer may have";

typedef struct Merges {
    const ImToken *tokens;
    const ImToken **by_text; /* [count] */
    size_t count;
    Merge *items;
    size_t n_items, capacity;
    SuArena arena;
} Merges;

static int compare_texts(const char *a, size_t a_size, const char *b, size_t b_size) {
    const int order = memcmp(a, b, a_size < b_size ? a_size : b_size);
    return order != 0 ? order : (a_size > b_size) - (a_size < b_size);
}

static int by_text(const void *a, const void *b) {
    const ImToken *x = *(const ImToken *const *)a, *y = *(const ImToken *const *)b;
    return compare_texts(x->text, x->size, y->text, y->size);
}

static int more(uint32_t a, uint32_t b) { return (a < b) - (a > b); }

static int by_rank(const void *a, const void *b) {
    const Merge *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->left_size != y->left_size) return more(x->left_size, y->left_size);
    if (x->right_size != y->right_size) return more(x->right_size, y->right_size);
    if (x->whole != y->whole) return more(y->whole, x->whole);
    return x->left != y->left ? more(y->left, x->left) : more(y->right, x->right);
}

/* The token of a text that merges know; NULL: none. */
static const ImToken *find(const Merges *m, const char *text, size_t size) {
    const ImToken wanted = {.text = text, .size = size}, *key = &wanted;
    const ImToken *const *found = bsearch(&key, m->by_text, m->count, sizeof *m->by_text, by_text);
    return found != NULL ? *found : NULL;
}

static uint32_t characters(const char *text, size_t size) {
    uint32_t n = 0;
    for (size_t i = 0; i < size; i += su_utf8_at(text + i, size - i).size) n++;
    return n;
}

static bool may_merge(const ImToken *token) {
    return token->kind == IM_TOKEN_NORMAL && token->size <= IM_LONGEST_PIECE && memchr(token->text, ' ', token->size) == NULL;
}

/* false: there are more than a tokenizer.json may have. */
static bool add_merges_of(Merges *m, const ImToken *whole) {
    for (size_t at = su_utf8_at(whole->text, whole->size).size; at < whole->size;
         at += su_utf8_at(whole->text + at, whole->size - at).size) {
        const ImToken *left = find(m, whole->text, at), *right = left != NULL ? find(m, whole->text + at, whole->size - at) : NULL;
        if (right == NULL) continue;
        if (m->n_items == TK_MAX_VALUES) return false;
        m->items = su_grow(&m->arena, m->items, &m->capacity, m->n_items + 1, sizeof *m->items);
        m->items[m->n_items++] = (Merge){.whole = (uint32_t)(whole - m->tokens),
                                         .left = (uint32_t)(left - m->tokens),
                                         .right = (uint32_t)(right - m->tokens),
                                         .left_size = characters(left->text, left->size),
                                         .right_size = characters(right->text, right->size),
                                         .score = whole->score};
    }
    return true;
}

/* NULL, or what is wrong. */
static const char *add_as_json(const Merges *m, SuText *json) {
    SuText pair = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < m->n_items && json->size <= TK_MAX_FILE; i++) {
        const ImToken *left = &m->tokens[m->items[i].left], *right = &m->tokens[m->items[i].right];
        pair.size = 0;
        su_text_append(&pair, left->text, left->size);
        su_text_append(&pair, " ", 1);
        su_text_append(&pair, right->text, right->size);
        if (i != 0) su_text_append(json, ",", 1);
        ok = im_json_add_text(json, pair.text, pair.size);
    }
    su_text_free(&pair);
    return !ok ? "a token is no UTF-8" : json->size > TK_MAX_FILE ? too_large : NULL;
}

/* Whether no two tokens that merges make have different scores: then the file does not say what comes first. */
static bool are_alike(const Merges *m) {
    for (size_t i = 1; i < m->n_items; i++)
        if (m->items[i].score != m->items[0].score) return false;
    return m->n_items > 1;
}

static const char *make(Merges *m, const ImToken *tokens, size_t count, SuText *json) {
    m->by_text = SU_NEW_ARRAY(&m->arena, const ImToken *, count);
    for (size_t i = 0; i < count; i++)
        if (may_merge(&tokens[i])) m->by_text[m->count++] = &tokens[i];
    if (m->count != 0) qsort(m->by_text, m->count, sizeof *m->by_text, by_text);
    for (size_t i = 0; i < count; i++)
        if (may_merge(&tokens[i]) && !add_merges_of(m, &tokens[i])) return too_large;
    if (are_alike(m)) return "all scores are the same, so that they do not say what is merged first";
    if (m->n_items != 0) qsort(m->items, m->n_items, sizeof *m->items, by_rank);
    return add_as_json(m, json);
}

const char *im_gguf_merges(const ImToken *tokens, size_t count, SuText *json) {
    Merges merges = {.tokens = tokens};
    const char *wrong = make(&merges, tokens, count, json);
    su_arena_free(&merges.arena);
    return wrong;
}
