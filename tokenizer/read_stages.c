/* Chains of steps, any of which may be a Sequence; the sections pre_tokenizer and post_processor. */
#include <string.h>

#include "support/str.h"
#include "support/utf8.h"
#include "tokenizer/known.h"
#include "tokenizer/read.h"
#include "tokenizer/regex.h"

bool tk_read_chain(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item, const char *list, TkReadStep *read) {
    const char *type = tk_type(r, path, item);
    if (!type) return false;
    if (strcmp(type, "Sequence") != 0) return read(r, bpe, path, item, type);
    const TkField fields[] = {{"type", TK_STRING | TK_REQUIRED}, {list, TK_LIST | TK_REQUIRED}};
    const cJSON *found[2];
    if (!tk_fields(r, path, item, fields, 2, found)) return false;
    int i = 0;
    for (const cJSON *child = found[1]->child; child; child = child->next, i++)
        if (!tk_read_chain(r, bpe, su_printf(&r->arena, "%s.%s[%d]", path, list, i), child, list, read)) return false;
    return true;
}

bool tk_unknown_step(TkReader *r, const char *path, const char *type, const char *known) {
    return tk_fail(r, su_printf(&r->arena, "%s.type", path), "%s is not understood; known: %s", tk_shown(r, type), known);
}

/* The last two are what earlier files and later ones have besides. */
const TkField tk_metaspace_fields[TK_METASPACE_FIELDS] = {{"type", TK_STRING | TK_REQUIRED},
                                                          {"replacement", TK_STRING | TK_REQUIRED},
                                                          {"prepend_scheme", TK_STRING},
                                                          {"add_prefix_space", TK_BOOL},
                                                          {"split", TK_BOOL},
                                                          {"str_rep", TK_STRING}};

/* ---- steps and patterns */

TkStep *tk_new_step(TkReader *r, TkSteps *steps, const char *path, TkStepKind kind) {
    if (steps->count == TK_MAX_STEPS) {
        tk_fail(r, path, "more than %d steps", TK_MAX_STEPS);
        return NULL;
    }
    TkStep *step = &steps->items[steps->count++];
    *step = (TkStep){.kind = kind};
    return step;
}

TkText tk_copied(TkBpe *bpe, const char *text) {
    size_t size = strlen(text);
    return (TkText){.text = su_strndup(&bpe->arena, text, size), .size = size};
}

bool tk_compile_step(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const char *text, bool literal) {
    const char *why;
    step->text = tk_copied(bpe, text);
    step->literal = literal;
    step->pattern = tk_pattern_compile(&r->arena, step->text.text, step->text.size, literal, &why);
    return step->pattern || tk_fail(r, path, "the pattern cannot be used: %s", why);
}

bool tk_read_pattern(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item) {
    static const TkField kinds[] = {{"Regex", TK_STRING}, {"String", TK_STRING}};
    const cJSON *pattern[2];
    if (!tk_fields(r, path, item, kinds, 2, pattern)) return false;
    if (!pattern[0] == !pattern[1]) return tk_fail(r, path, "expected one of Regex and String");
    bool literal = pattern[1];
    if (!pattern[literal]->valuestring[0]) return tk_fail(r, path, "is empty");
    return tk_compile_step(r, bpe, step, path, pattern[literal]->valuestring, literal);
}

bool tk_read_character(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item, TkText *out) {
    *out = tk_copied(bpe, item->valuestring);
    bool one = out->size && su_utf8_at(out->text, out->size).size == out->size;
    return one || tk_fail(r, path, "expected one character, got %s", tk_shown(r, item->valuestring));
}

/* ---- pre_tokenizer */

static bool read_byte_level(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item) {
    static const TkField fields[] = {{"type", TK_STRING | TK_REQUIRED},
                                     {"add_prefix_space", TK_BOOL | TK_REQUIRED},
                                     {"trim_offsets", TK_BOOL}, /* of places in the text, which nobody asks for here */
                                     {"use_regex", TK_BOOL}};
    const cJSON *found[4];
    if (!tk_fields(r, path, item, fields, 4, found)) return false;
    step->prefix = cJSON_IsTrue(found[1]);
    step->behavior = TK_ISOLATED;
    return cJSON_IsFalse(found[3]) || tk_compile_step(r, bpe, step, path, tk_gpt2_pattern, false);
}

static bool read_behavior(TkReader *r, TkStep *step, const char *path, const char *word) {
    static const char *const words[] = {[TK_REMOVED] = "Removed",
                                        [TK_ISOLATED] = "Isolated",
                                        [TK_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
                                        [TK_MERGED_WITH_NEXT] = "MergedWithNext",
                                        [TK_CONTIGUOUS] = "Contiguous"};
    for (int i = 0; i < (int)(sizeof words / sizeof *words); i++) {
        if (strcmp(word, words[i]) == 0) {
            step->behavior = (TkBehavior)i;
            return true;
        }
    }
    return tk_fail(r, su_printf(&r->arena, "%s.behavior", path), "%s is not understood", tk_shown(r, word));
}

static bool read_split(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item) {
    static const TkField fields[] = {{"type", TK_STRING | TK_REQUIRED},
                                     {"pattern", TK_MAP | TK_REQUIRED},
                                     {"behavior", TK_STRING | TK_REQUIRED},
                                     {"invert", TK_BOOL | TK_REQUIRED}};
    const cJSON *found[4];
    if (!tk_fields(r, path, item, fields, 4, found)) return false;
    step->invert = cJSON_IsTrue(found[3]);
    return read_behavior(r, step, path, found[2]->valuestring) &&
           tk_read_pattern(r, bpe, step, su_printf(&r->arena, "%s.pattern", path), found[1]);
}

/* Numbers, one by one or as they stand together, are split like matches of a pattern. */
static bool read_digits(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item) {
    static const TkField fields[] = {{"type", TK_STRING | TK_REQUIRED}, {"individual_digits", TK_BOOL}};
    const cJSON *found[2];
    if (!tk_fields(r, path, item, fields, 2, found)) return false;
    step->behavior = cJSON_IsTrue(found[1]) ? TK_ISOLATED : TK_CONTIGUOUS;
    return tk_compile_step(r, bpe, step, path, tk_known_text(TK_KNOWN_NUMBER), false);
}

bool tk_read_scheme(TkReader *r, const char *path, const cJSON *scheme, const cJSON *prefix, TkScheme *out) {
    static const char *const words[] = {[TK_ALWAYS] = "always", [TK_FIRST] = "first", [TK_NEVER] = "never"};
    *out = cJSON_IsFalse(prefix) ? TK_NEVER : TK_ALWAYS; /* files of before 2024 have add_prefix_space alone */
    if (!scheme) return true;
    for (int i = 0; i < TK_SCHEMES; i++) {
        if (strcmp(scheme->valuestring, words[i]) != 0) continue;
        *out = (TkScheme)i;
        if (cJSON_IsFalse(prefix) && i != TK_NEVER) return tk_fail(r, path, "add_prefix_space and prepend_scheme disagree");
        return true;
    }
    return tk_fail(r, su_printf(&r->arena, "%s.prepend_scheme", path), "%s is not understood; known: always, first, never",
                   tk_shown(r, scheme->valuestring));
}

static bool read_metaspace(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item) {
    const cJSON *found[TK_METASPACE_FIELDS];
    const char *place = su_printf(&r->arena, "%s.replacement", path);
    if (!tk_fields(r, path, item, tk_metaspace_fields, TK_METASPACE_FIELDS, found)) return false;
    if (!tk_read_character(r, bpe, place, found[1], &step->text)) return false;
    if (!tk_read_scheme(r, path, found[2], found[3], &step->scheme)) return false;
    return cJSON_IsFalse(found[4]) || tk_compile_step(r, bpe, step, place, found[1]->valuestring, true);
}

static bool read_splitter(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item, const char *type) {
    static const struct {
        const char *type;
        TkStepKind kind;
        bool (*read)(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item);
    } kinds[] = {{"ByteLevel", TK_STEP_BYTE_LEVEL, read_byte_level},
                 {"Split", TK_STEP_SPLIT, read_split},
                 {"Digits", TK_STEP_SPLIT, read_digits},
                 {"Metaspace", TK_STEP_METASPACE, read_metaspace}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].type) != 0) continue;
        TkStep *step = tk_new_step(r, &bpe->pre_tokenizer, path, kinds[i].kind);
        return step && kinds[i].read(r, bpe, step, path, item);
    }
    return tk_unknown_step(r, path, type, "ByteLevel, Split, Digits, Metaspace, Sequence");
}

bool tk_read_pre_tokenizer(TkReader *r, TkBpe *bpe, const cJSON *item) {
    return !item || tk_read_chain(r, bpe, "pre_tokenizer", item, "pretokenizers", read_splitter);
}

/* ---- post_processor: none changes the ids of a text; what a template puts around them is the spec's bos and eos */

static bool read_processor(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item, const char *type) {
    (void)bpe, (void)item;
    if (strcmp(type, "ByteLevel") == 0 || strcmp(type, "TemplateProcessing") == 0) return true;
    return tk_unknown_step(r, path, type, "ByteLevel, TemplateProcessing, Sequence");
}

bool tk_read_post_processor(TkReader *r, const cJSON *item) {
    return !item || tk_read_chain(r, NULL, "post_processor", item, "processors", read_processor);
}
