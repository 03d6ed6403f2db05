/* The sections that hold tokens: model and added_tokens. */
#include <string.h>

#include "support/str.h"
#include "tokenizer/read.h"
#include "support/table.h"

enum { M_TYPE, M_DROPOUT, M_UNK, M_PREFIX, M_SUFFIX, M_FUSE, M_FALLBACK, M_IGNORE, M_VOCAB, M_MERGES, M_COUNT };

/* Files of GPT-2's time lack `type`; only BPE has merges. */
static const TkField model_fields[] = {[M_TYPE] = {"type", TK_STRING},
                                       [M_DROPOUT] = {"dropout", TK_NULL | TK_NUMBER},
                                       [M_UNK] = {"unk_token", TK_NULL | TK_STRING},
                                       [M_PREFIX] = {"continuing_subword_prefix", TK_NULL | TK_STRING},
                                       [M_SUFFIX] = {"end_of_word_suffix", TK_NULL | TK_STRING},
                                       [M_FUSE] = {"fuse_unk", TK_BOOL},
                                       [M_FALLBACK] = {"byte_fallback", TK_BOOL},
                                       [M_IGNORE] = {"ignore_merges", TK_BOOL},
                                       [M_VOCAB] = {"vocab", TK_MAP | TK_REQUIRED},
                                       [M_MERGES] = {"merges", TK_LIST | TK_REQUIRED}};
SU_TABLE_FULL(model_fields, M_COUNT);

/* ---- vocab */

static bool bad_id(TkReader *r, const char *path) { return tk_fail(r, path, "expected an id, a whole number up to %d", TK_MAX_ID); }

static const char *vocab_path(TkReader *r, const char *text) { return su_printf(&r->arena, "model.vocab[%s]", tk_shown(r, text)); }

static bool read_vocab(TkReader *r, TkBpe *bpe, const cJSON *map) {
    size_t count = 0;
    int32_t id, largest = -1;
    for (const cJSON *item = map->child; item; item = item->next, count++) {
        if (!tk_whole(item, TK_MAX_ID, &id)) return bad_id(r, vocab_path(r, item->string));
        largest = id > largest ? id : largest;
    }
    tk_vocab_make(&bpe->vocab, &bpe->arena, count, (size_t)largest + 1);
    for (const cJSON *item = map->child; item; item = item->next) {
        tk_whole(item, TK_MAX_ID, &id);
        if (bpe->vocab.texts[id].text)
            return tk_fail(r, vocab_path(r, item->string), "has the id %d, as has %s", id, tk_shown(r, bpe->vocab.texts[id].text));
        size_t size = strlen(item->string);
        if (tk_vocab_add(&bpe->vocab, id, su_strndup(&bpe->arena, item->string, size), size) >= 0)
            return tk_fail(r, vocab_path(r, item->string), "is duplicated");
    }
    return true;
}

/* ---- merges */

typedef struct Half {
    const char *text;
    size_t size;
} Half;

/* "a b" or ["a", "b"]. */
static bool read_halves(const cJSON *item, Half half[2]) {
    if (cJSON_IsString(item)) {
        const char *blank = strchr(item->valuestring, ' ');
        if (!blank || strchr(blank + 1, ' ')) return false;
        half[0] = (Half){item->valuestring, (size_t)(blank - item->valuestring)};
        half[1] = (Half){blank + 1, strlen(blank + 1)};
    } else {
        const cJSON *first = cJSON_IsArray(item) ? item->child : NULL, *second = first ? first->next : NULL;
        if (!second || second->next || !cJSON_IsString(first) || !cJSON_IsString(second)) return false;
        half[0] = (Half){first->valuestring, strlen(first->valuestring)};
        half[1] = (Half){second->valuestring, strlen(second->valuestring)};
    }
    return half[0].size && half[1].size;
}

/* A merge that is listed again has the rank of its last place, as Hugging Face reads it. */
static bool read_merge(TkReader *r, TkBpe *bpe, const cJSON *item, uint32_t rank, SuText *whole) {
    Half half[2];
    const char *path = "model.merges";
    if (!read_halves(item, half))
        return tk_fail(r, su_printf(&r->arena, "%s[%u]", path, rank), "expected \"a b\" or [\"a\", \"b\"]");
    whole->size = 0;
    su_text_append(whole, half[0].text, half[0].size);
    su_text_append(whole, half[1].text, half[1].size);
    int32_t left = tk_vocab_find(&bpe->vocab, half[0].text, half[0].size);
    int32_t right = tk_vocab_find(&bpe->vocab, half[1].text, half[1].size);
    int32_t id = tk_vocab_find(&bpe->vocab, whole->text, whole->size);
    if (left < 0 || right < 0 || id < 0) {
        const char *missing = left < 0 ? su_strndup(&r->arena, half[0].text, half[0].size) : right < 0 ? half[1].text : whole->text;
        return tk_fail(r, su_printf(&r->arena, "%s[%u]", path, rank), "names %s, which is not in the vocab", tk_shown(r, missing));
    }
    if (!tk_merges_add(&bpe->merges, left, right, rank, id)) tk_merges_move(&bpe->merges, left, right, rank);
    return true;
}

/* The first line of a merges.txt, which some files took along. */
static bool is_version(const cJSON *item) { return cJSON_IsString(item) && strncmp(item->valuestring, "#version", 8) == 0; }

static bool read_merges(TkReader *r, TkBpe *bpe, const cJSON *list) {
    size_t count = 0;
    for (const cJSON *item = list->child; item; item = item->next) count++;
    tk_merges_make(&bpe->merges, &bpe->arena, count);
    SuText whole = {0};
    uint32_t rank = 0;
    bool ok = true;
    for (const cJSON *item = list->child; item && ok; item = item->next)
        if (!is_version(item)) ok = read_merge(r, bpe, item, rank++, &whole);
    su_text_free(&whole);
    return ok;
}

/* ---- model */

static bool check_words(TkReader *r, TkBpe *bpe, const cJSON *const found[M_COUNT]) {
    if (found[M_TYPE] && strcmp(found[M_TYPE]->valuestring, "BPE") != 0)
        return tk_fail(r, "model.type", "%s is not understood; known: BPE", tk_shown(r, found[M_TYPE]->valuestring));
    if (found[M_DROPOUT] && found[M_DROPOUT]->valuedouble != 0)
        return tk_fail(r, "model.dropout", "is not understood: expected null, so that a text has one reading");
    for (int i = M_PREFIX; i <= M_SUFFIX; i++)
        if (found[i] && found[i]->valuestring[0])
            return tk_fail(r, su_printf(&r->arena, "model.%s", model_fields[i].name), "is not understood: expected null");
    bpe->fuse_unk = cJSON_IsTrue(found[M_FUSE]);
    bpe->byte_fallback = cJSON_IsTrue(found[M_FALLBACK]);
    bpe->ignore_merges = cJSON_IsTrue(found[M_IGNORE]);
    return true;
}

bool tk_read_model(TkReader *r, TkBpe *bpe, const cJSON *item) {
    const cJSON *found[M_COUNT];
    /* Another model has other fields: its type is what is worth saying. */
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(item, "type");
    if (cJSON_IsString(type) && strcmp(type->valuestring, "BPE") != 0) {
        found[M_TYPE] = type;
        return check_words(r, bpe, found);
    }
    if (!tk_fields(r, "model", item, model_fields, M_COUNT, found) || !check_words(r, bpe, found) ||
        !read_vocab(r, bpe, found[M_VOCAB]) || !read_merges(r, bpe, found[M_MERGES])) {
        return false;
    }
    tk_model_index_characters(bpe);
    bpe->unk = -1;
    if (!found[M_UNK]) return true;
    const char *unk = found[M_UNK]->valuestring;
    bpe->unk = tk_vocab_find(&bpe->vocab, unk, strlen(unk));
    return bpe->unk >= 0 || tk_fail(r, "model.unk_token", "%s is not in the vocab", tk_shown(r, unk));
}

/* ---- added_tokens */

enum { A_ID, A_CONTENT, A_SINGLE, A_LSTRIP, A_RSTRIP, A_NORMALIZED, A_SPECIAL, A_COUNT };

/* `special` means nothing here: all tokens are found in a text, as Hugging Face does without split_special_tokens. */
static const TkField added_fields[] = {[A_ID] = {"id", TK_NUMBER | TK_REQUIRED},
                                       [A_CONTENT] = {"content", TK_STRING | TK_REQUIRED},
                                       [A_SINGLE] = {"single_word", TK_BOOL | TK_REQUIRED},
                                       [A_LSTRIP] = {"lstrip", TK_BOOL | TK_REQUIRED},
                                       [A_RSTRIP] = {"rstrip", TK_BOOL | TK_REQUIRED},
                                       [A_NORMALIZED] = {"normalized", TK_BOOL | TK_REQUIRED},
                                       [A_SPECIAL] = {"special", TK_BOOL | TK_REQUIRED}};
SU_TABLE_FULL(added_fields, A_COUNT);

/* Ids and texts of added tokens and of the vocab must agree. */
static bool check_added(TkReader *r, const TkBpe *bpe, const char *path, int32_t id, const char *content) {
    const TkVocab *vocab = &bpe->vocab;
    int32_t known = tk_vocab_find(vocab, content, strlen(content));
    if (known >= 0 && known != id)
        return tk_fail(r, path, "%s has the id %d in the vocab, not %d", tk_shown(r, content), known, id);
    const char *other = (size_t)id < vocab->n_ids ? vocab->texts[id].text : NULL;
    if (known < 0 && other) return tk_fail(r, path, "the id %d is %s in the vocab", id, tk_shown(r, other));
    return true;
}

/* The text that is looked for: of a normalized token, its normal form. */
static bool searched_text(TkReader *r, TkBpe *bpe, const char *path, const char *content, bool normalized, TkText *out) {
    TkWork work = {.unicode = bpe->unicode, .diags = r->diags};
    *out = (TkText){.text = content, .size = strlen(content)};
    bool ok = true;
    if (normalized && bpe->normalizer.count) {
        if (!tk_model_matcher(bpe, &work.matcher)) return su_out_of_memory(r->diags, "reading a tokenizer");
        ok = tk_normalize(&bpe->normalizer, &work, out);
    }
    out->text = su_strndup(&bpe->arena, out->text, out->size);
    tk_work_free(&work);
    if (work.matcher) bpe->free_matcher(work.matcher);
    if (ok && (out->size < 1 || out->size > TK_MAX_ADDED))
        return tk_fail(r, path, "expected a text of 1 to %d bytes after normalization", TK_MAX_ADDED);
    return ok;
}

static bool read_added(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item) {
    const cJSON *found[A_COUNT];
    int32_t id;
    if (!tk_fields(r, path, item, added_fields, A_COUNT, found)) return false;
    if (!tk_whole(found[A_ID], TK_MAX_ID, &id)) return bad_id(r, su_printf(&r->arena, "%s.id", path));
    const char *content = found[A_CONTENT]->valuestring, *place = su_printf(&r->arena, "%s.content", path);
    if (!*content || strlen(content) > TK_MAX_ADDED) return tk_fail(r, place, "expected a text of 1 to %d bytes", TK_MAX_ADDED);
    if (!check_added(r, bpe, path, id, content)) return false;
    if (bpe->added.texts[id].text) return tk_fail(r, su_printf(&r->arena, "%s.id", path), "%d is duplicated", id);
    if (tk_vocab_add(&bpe->added, id, su_strdup(&bpe->arena, content), strlen(content)) >= 0)
        return tk_fail(r, place, "%s is duplicated", tk_shown(r, content));
    bool normalized = cJSON_IsTrue(found[A_NORMALIZED]);
    TkText searched;
    if (!searched_text(r, bpe, place, content, normalized, &searched)) return false;
    TkAddedToken token = {.id = id,
                          .text = searched.text,
                          .size = searched.size,
                          .single_word = cJSON_IsTrue(found[A_SINGLE]),
                          .lstrip = cJSON_IsTrue(found[A_LSTRIP]),
                          .rstrip = cJSON_IsTrue(found[A_RSTRIP])};
    int32_t other = tk_added_add(normalized ? &bpe->added_normal : &bpe->added_raw, &bpe->arena, &token);
    return other < 0 || tk_fail(r, place, "%s is duplicated after normalization", tk_shown(r, content));
}

/* The largest id of all; what is no id is reported when the token is read. */
static int32_t largest_id(const TkBpe *bpe, const cJSON *list) {
    int32_t largest = (int32_t)bpe->vocab.n_ids - 1, id;
    for (const cJSON *item = list ? list->child : NULL; item; item = item->next) {
        const cJSON *field = cJSON_GetObjectItemCaseSensitive(item, "id");
        if (tk_whole(field, TK_MAX_ID, &id) && id > largest) largest = id;
    }
    return largest;
}

bool tk_read_added_tokens(TkReader *r, TkBpe *bpe, const cJSON *item) {
    size_t count = 0;
    for (const cJSON *child = item ? item->child : NULL; child; child = child->next) count++;
    tk_vocab_make(&bpe->added, &bpe->arena, count, (size_t)largest_id(bpe, item) + 1);
    int i = 0;
    for (const cJSON *child = item ? item->child : NULL; child; child = child->next, i++)
        if (!read_added(r, bpe, su_printf(&r->arena, "added_tokens[%d]", i), child)) return false;
    return true;
}
