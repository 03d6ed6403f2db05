/* The sections that are chains of stages: normalizer, pre_tokenizer, post_processor, decoder. Each may be a Sequence, which may
 * hold further ones. */
#include <string.h>

#include "support/str.h"
#include "tokenizer/known.h"
#include "tokenizer/read.h"
#include "tokenizer/regex.h"

/* Reads one stage that is no Sequence. */
typedef bool ReadStage(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item, const char *type);

/* `list` is the name of a Sequence's list. JSON's own bound on depth bounds the recursion. */
static bool read_chain(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item, const char *list, ReadStage *read) {
    const char *type = tk_type(r, path, item);
    if (!type) return false;
    if (strcmp(type, "Sequence") != 0) return read(r, bpe, path, item, type);
    const TkField fields[] = {{"type", TK_STRING | TK_REQUIRED}, {list, TK_LIST | TK_REQUIRED}};
    const cJSON *found[2];
    if (!tk_fields(r, path, item, fields, 2, found)) return false;
    int i = 0;
    for (const cJSON *child = found[1]->child; child; child = child->next, i++)
        if (!read_chain(r, bpe, su_printf(&r->arena, "%s.%s[%d]", path, list, i), child, list, read)) return false;
    return true;
}

static bool unknown(TkReader *r, const char *path, const char *type, const char *known) {
    return tk_fail(r, su_printf(&r->arena, "%s.type", path), "%s is not understood; known: %s", tk_shown(r, type), known);
}

/* ---- normalizer */

static bool read_normal_form(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item, const char *type) {
    static const TkField fields[] = {{"type", TK_STRING | TK_REQUIRED}};
    const cJSON *found[1];
    if (strcmp(type, "NFC") != 0) return unknown(r, path, type, "NFC, Sequence");
    bpe->nfc = true;
    return tk_fields(r, path, item, fields, 1, found);
}

bool tk_read_normalizer(TkReader *r, TkBpe *bpe, const cJSON *item) {
    return !item || read_chain(r, bpe, "normalizer", item, "normalizers", read_normal_form);
}

/* ---- pre_tokenizer */

/* A pattern in the file's words, or GPT-2's with item NULL. */
static bool compile_pattern(TkReader *r, TkBpe *bpe, TkStage *stage, const char *path, const cJSON *item, bool literal) {
    const char *text = item ? item->valuestring : tk_gpt2_pattern, *why;
    stage->text = su_strdup(&bpe->arena, text);
    stage->literal = literal;
    stage->pattern = tk_pattern_compile(&r->arena, text, strlen(text), literal, &why);
    return stage->pattern || tk_fail(r, path, "the pattern cannot be used: %s", why);
}

static bool read_byte_level(TkReader *r, TkBpe *bpe, TkStage *stage, const char *path, const cJSON *item) {
    static const TkField fields[] = {{"type", TK_STRING | TK_REQUIRED},
                                     {"add_prefix_space", TK_BOOL | TK_REQUIRED},
                                     {"trim_offsets", TK_BOOL}, /* of places in the text, which nobody asks for here */
                                     {"use_regex", TK_BOOL}};
    const cJSON *found[4];
    if (!tk_fields(r, path, item, fields, 4, found)) return false;
    stage->kind = TK_BYTE_LEVEL;
    stage->add_prefix_space = cJSON_IsTrue(found[1]);
    stage->behavior = TK_ISOLATED;
    return cJSON_IsFalse(found[3]) || compile_pattern(r, bpe, stage, path, NULL, false);
}

static bool read_behavior(TkReader *r, TkStage *stage, const char *path, const char *word) {
    static const char *const words[] = {[TK_REMOVED] = "Removed",
                                        [TK_ISOLATED] = "Isolated",
                                        [TK_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
                                        [TK_MERGED_WITH_NEXT] = "MergedWithNext",
                                        [TK_CONTIGUOUS] = "Contiguous"};
    for (int i = 0; i < (int)(sizeof words / sizeof *words); i++) {
        if (strcmp(word, words[i]) == 0) {
            stage->behavior = (TkBehavior)i;
            return true;
        }
    }
    return tk_fail(r, su_printf(&r->arena, "%s.behavior", path), "%s is not understood", tk_shown(r, word));
}

static bool read_split(TkReader *r, TkBpe *bpe, TkStage *stage, const char *path, const cJSON *item) {
    static const TkField fields[] = {{"type", TK_STRING | TK_REQUIRED},
                                     {"pattern", TK_MAP | TK_REQUIRED},
                                     {"behavior", TK_STRING | TK_REQUIRED},
                                     {"invert", TK_BOOL | TK_REQUIRED}};
    static const TkField kinds[] = {{"Regex", TK_STRING}, {"String", TK_STRING}};
    const cJSON *found[4], *pattern[2];
    const char *place = su_printf(&r->arena, "%s.pattern", path);
    if (!tk_fields(r, path, item, fields, 4, found) || !tk_fields(r, place, found[1], kinds, 2, pattern)) return false;
    if (!pattern[0] == !pattern[1]) return tk_fail(r, place, "expected one of Regex and String");
    bool literal = pattern[1];
    if (!pattern[literal]->valuestring[0]) return tk_fail(r, place, "is empty");
    stage->kind = TK_SPLIT;
    stage->invert = cJSON_IsTrue(found[3]);
    return read_behavior(r, stage, path, found[2]->valuestring) && compile_pattern(r, bpe, stage, place, pattern[literal], literal);
}

static bool read_splitter(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item, const char *type) {
    if (bpe->n_stages == TK_MAX_STAGES) return tk_fail(r, path, "more than %d pre-tokenizers", TK_MAX_STAGES);
    TkStage *stage = &bpe->stages[bpe->n_stages++];
    if (strcmp(type, "ByteLevel") == 0) return read_byte_level(r, bpe, stage, path, item);
    if (strcmp(type, "Split") == 0) return read_split(r, bpe, stage, path, item);
    return unknown(r, path, type, "ByteLevel, Split, Sequence");
}

bool tk_read_pre_tokenizer(TkReader *r, TkBpe *bpe, const cJSON *item) {
    return !item || read_chain(r, bpe, "pre_tokenizer", item, "pretokenizers", read_splitter);
}

/* ---- post_processor: none changes the ids of a text; what a template puts around them is the spec's bos and eos */

static bool read_processor(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item, const char *type) {
    (void)bpe, (void)item;
    if (strcmp(type, "ByteLevel") == 0 || strcmp(type, "TemplateProcessing") == 0) return true;
    return unknown(r, path, type, "ByteLevel, TemplateProcessing, Sequence");
}

bool tk_read_post_processor(TkReader *r, const cJSON *item) {
    return !item || read_chain(r, NULL, "post_processor", item, "processors", read_processor);
}

/* ---- decoder */

static bool read_one_decoder(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item, const char *type) {
    static const TkField byte_level[] = {{"type", TK_STRING | TK_REQUIRED},
                                         {"add_prefix_space", TK_BOOL}, /* decoding heeds none of them */
                                         {"trim_offsets", TK_BOOL},
                                         {"use_regex", TK_BOOL}};
    const cJSON *found[4];
    if (strcmp(type, "ByteLevel") == 0) {
        bpe->decode_byte_level = true;
        return tk_fields(r, path, item, byte_level, 4, found);
    }
    if (strcmp(type, "ByteFallback") == 0)
        bpe->decode_byte_fallback = true;
    else if (strcmp(type, "Fuse") != 0)  /* Fuse puts texts together, as is done here anyway */
        return unknown(r, path, type, "ByteLevel, ByteFallback, Fuse, Sequence");
    return tk_fields(r, path, item, byte_level, 1, found);
}

bool tk_read_decoder(TkReader *r, TkBpe *bpe, const cJSON *item) {
    if (!item) return tk_fail(r, "decoder", "is missing: without it, Hugging Face inserts a space between tokens");
    if (!read_chain(r, bpe, "decoder", item, "decoders", read_one_decoder)) return false;
    return !(bpe->decode_byte_level && bpe->decode_byte_fallback) ||
           tk_fail(r, "decoder", "ByteLevel beside ByteFallback is not understood");
}
