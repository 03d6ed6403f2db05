/* The sections normalizer and decoder. */
#include <string.h>

#include "support/str.h"
#include "support/utf8.h"
#include "tokenizer/read.h"

static const TkField type_field = {"type", TK_STRING | TK_REQUIRED};

/* Both sections have it. */
static bool read_replace(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item) {
    const TkField fields[] = {type_field, {"pattern", TK_MAP | TK_REQUIRED}, {"content", TK_STRING | TK_REQUIRED}};
    const cJSON *found[3];
    if (!tk_fields(r, path, item, fields, 3, found)) return false;
    step->content = tk_copied(bpe, found[2]->valuestring);
    return tk_read_pattern(r, bpe, step, su_printf(&r->arena, "%s.pattern", path), found[1]);
}

/* ---- normalizer */

static bool read_form(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item) {
    static const char *const words[] = {[TK_NFC] = "NFC", [TK_NFD] = "NFD", [TK_NFKC] = "NFKC", [TK_NFKD] = "NFKD"};
    const cJSON *found[1];
    (void)bpe;
    if (!tk_fields(r, path, item, &type_field, 1, found)) return false;
    for (int i = 0; i < TK_FORMS; i++)
        if (strcmp(found[0]->valuestring, words[i]) == 0) step->form = (TkForm)i;
    return true;
}

static bool read_prepend(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item) {
    const TkField fields[] = {type_field, {"prepend", TK_STRING | TK_REQUIRED}};
    const cJSON *found[2];
    if (!tk_fields(r, path, item, fields, 2, found)) return false;
    step->text = tk_copied(bpe, found[1]->valuestring);
    return true;
}

static bool read_strip(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item) {
    const TkField fields[] = {type_field, {"strip_left", TK_BOOL | TK_REQUIRED}, {"strip_right", TK_BOOL | TK_REQUIRED}};
    const cJSON *found[3];
    (void)bpe;
    if (!tk_fields(r, path, item, fields, 3, found)) return false;
    step->left = cJSON_IsTrue(found[1]);
    step->right = cJSON_IsTrue(found[2]);
    return true;
}

static bool read_normal(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item, const char *type) {
    static const struct {
        const char *type;
        TkStepKind kind;
        bool (*read)(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item);
    } kinds[] = {{"NFC", TK_STEP_FORM, read_form},           {"NFD", TK_STEP_FORM, read_form},
                 {"NFKC", TK_STEP_FORM, read_form},          {"NFKD", TK_STEP_FORM, read_form},
                 {"Prepend", TK_STEP_PREPEND, read_prepend}, {"Replace", TK_STEP_REPLACE, read_replace},
                 {"Strip", TK_STEP_STRIP, read_strip}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].type) != 0) continue;
        TkStep *step = tk_new_step(r, &bpe->normalizer, path, kinds[i].kind);
        return step && kinds[i].read(r, bpe, step, path, item);
    }
    return tk_unknown_step(r, path, type, "NFC, NFD, NFKC, NFKD, Prepend, Replace, Strip, Sequence");
}

bool tk_read_normalizer(TkReader *r, TkBpe *bpe, const cJSON *item) {
    return !item || tk_read_chain(r, bpe, "normalizer", item, "normalizers", read_normal);
}

/* ---- decoder: steps of tokens up to Fuse, of the whole text behind it */

static bool has_kind(const TkSteps *steps, TkStepKind kind) {
    for (int i = 0; i < steps->count; i++)
        if (steps->items[i].kind == kind) return true;
    return false;
}

/* Decoding heeds none of its other fields. */
static bool read_bytes(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item) {
    const TkField fields[] = {type_field, {"add_prefix_space", TK_BOOL}, {"trim_offsets", TK_BOOL}, {"use_regex", TK_BOOL}};
    const cJSON *found[4];
    (void)bpe, (void)step;
    return tk_fields(r, path, item, fields, 4, found);
}

static bool read_type_alone(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item) {
    const cJSON *found[1];
    (void)bpe, (void)step;
    return tk_fields(r, path, item, &type_field, 1, found);
}

enum { MOST_TRIMMED = 1 << 20 };

static bool read_trim(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item) {
    const TkField fields[] = {
        type_field, {"content", TK_STRING | TK_REQUIRED}, {"start", TK_NUMBER | TK_REQUIRED}, {"stop", TK_NUMBER | TK_REQUIRED}};
    const cJSON *found[4];
    int32_t start, stop;
    if (!tk_fields(r, path, item, fields, 4, found)) return false;
    if (!tk_whole(found[2], MOST_TRIMMED, &start) || !tk_whole(found[3], MOST_TRIMMED, &stop))
        return tk_fail(r, path, "expected start and stop to be whole numbers up to %d", MOST_TRIMMED);
    step->start = (uint32_t)start;
    step->stop = (uint32_t)stop;
    return tk_read_character(r, bpe, su_printf(&r->arena, "%s.content", path), found[1], &step->text);
}

static bool read_blanks(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item) {
    const cJSON *found[TK_METASPACE_FIELDS];
    return tk_fields(r, path, item, tk_metaspace_fields, TK_METASPACE_FIELDS, found) &&
           tk_read_character(r, bpe, su_printf(&r->arena, "%s.replacement", path), found[1], &step->text) &&
           tk_read_scheme(r, path, found[2], found[3], &step->scheme);
}

/* What a step means that stands behind Fuse, if it means the same for pieces of the text as for all of it. */
static bool check_fused(TkReader *r, TkBpe *bpe, TkStep *step, const char *path) {
    bool character =
        step->kind == TK_STEP_REPLACE && step->literal && su_utf8_at(step->text.text, step->text.size).size == step->text.size;
    if (character) return true;
    if (step->kind != TK_STEP_TRIM || step->stop) return tk_fail(r, path, "is not understood behind Fuse");
    for (int i = 0; i + 1 < bpe->decoder.count; i++)
        if (bpe->decoder.items[i].whole) return tk_fail(r, path, "is not understood: a second Strip behind Fuse");
    step->whole = true;
    return true;
}

static bool read_one_decoder(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item, const char *type) {
    static const struct {
        const char *type;
        TkStepKind kind; /* TK_STEP_KINDS: none */
        bool (*read)(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item);
    } kinds[] = {{"ByteLevel", TK_STEP_BYTES, read_bytes},
                 {"ByteFallback", TK_STEP_FALLBACK, read_type_alone},
                 {"Replace", TK_STEP_REPLACE, read_replace},
                 {"Strip", TK_STEP_TRIM, read_trim},
                 {"Metaspace", TK_STEP_BLANKS, read_blanks}};
    if (strcmp(type, "Fuse") == 0) {
        bpe->fused = true;
        return read_type_alone(r, bpe, NULL, path, item);
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].type) != 0) continue;
        if (has_kind(&bpe->decoder, TK_STEP_BYTES)) return tk_fail(r, path, "is not understood behind ByteLevel");
        TkStep *step = tk_new_step(r, &bpe->decoder, path, kinds[i].kind);
        return step && kinds[i].read(r, bpe, step, path, item) && (!bpe->fused || check_fused(r, bpe, step, path));
    }
    return tk_unknown_step(r, path, type, "ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, Sequence");
}

bool tk_read_decoder(TkReader *r, TkBpe *bpe, const cJSON *item) {
    if (!item) return tk_fail(r, "decoder", "is missing: without it, Hugging Face inserts a space between tokens");
    if (!tk_read_chain(r, bpe, "decoder", item, "decoders", read_one_decoder)) return false;
    return !(has_kind(&bpe->decoder, TK_STEP_BYTES) && has_kind(&bpe->decoder, TK_STEP_FALLBACK)) ||
           tk_fail(r, "decoder", "ByteLevel beside ByteFallback is not understood");
}
