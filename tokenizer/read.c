/* From a tokenizer.json to a TkBpe: the sections in turn. */
#include <string.h>

#include "tokenizer/read.h"
#include "tokenizer/regex.h"
#include "support/table.h"

enum { F_VERSION, F_TRUNCATION, F_PADDING, F_ADDED, F_NORMALIZER, F_PRE, F_POST, F_DECODER, F_MODEL, F_COUNT };

static const TkField root_fields[] = {[F_VERSION] = {"version", TK_STRING},
                                      [F_TRUNCATION] = {"truncation", TK_NULL | TK_MAP},
                                      [F_PADDING] = {"padding", TK_NULL | TK_MAP},
                                      [F_ADDED] = {"added_tokens", TK_NULL | TK_LIST},
                                      [F_NORMALIZER] = {"normalizer", TK_NULL | TK_MAP},
                                      [F_PRE] = {"pre_tokenizer", TK_NULL | TK_MAP},
                                      [F_POST] = {"post_processor", TK_NULL | TK_MAP},
                                      [F_DECODER] = {"decoder", TK_NULL | TK_MAP},
                                      [F_MODEL] = {"model", TK_MAP | TK_REQUIRED}};
SU_TABLE_FULL(root_fields, F_COUNT);

/* What a training script left: text is never cut or filled up here. */
static void note_unused(const TkReader *r, const cJSON *const found[F_COUNT]) {
    for (int i = F_TRUNCATION; i <= F_PADDING; i++)
        if (found[i]) su_note(r->diags, r->span, NULL, "%s: is not used: texts are encoded whole", root_fields[i].name);
}

static bool read_sections(TkReader *r, TkBpe *bpe, const cJSON *root) {
    const cJSON *found[F_COUNT];
    if (!tk_fields(r, "", root, root_fields, F_COUNT, found)) return false;
    if (found[F_VERSION] && strcmp(found[F_VERSION]->valuestring, "1.0") != 0)
        return tk_fail(r, "version", "%s is not understood; known: 1.0", tk_shown(r, found[F_VERSION]->valuestring));
    note_unused(r, found);
    return tk_read_model(r, bpe, found[F_MODEL]) && tk_read_normalizer(r, bpe, found[F_NORMALIZER]) &&
           tk_read_added_tokens(r, bpe, found[F_ADDED]) && tk_read_pre_tokenizer(r, bpe, found[F_PRE]) &&
           tk_read_post_processor(r, found[F_POST]) && tk_read_decoder(r, bpe, found[F_DECODER]);
}

bool tk_model_read(TkBpe *bpe, const char *text, size_t size, const char *path, SuDiags *diags) {
    TkReader r = {.span = su_file_span(diags, path), .diags = diags};
    bpe->unicode = bpe->added_raw.unicode = bpe->added_normal.unicode = &tk_utf8proc;
    bpe->make_matcher = tk_matcher_create;
    bpe->free_matcher = tk_matcher_free;
    SuJson json;
    bool ok = tk_json_parse(&r, text, size, &json);
    if (ok) {
        ok = read_sections(&r, bpe, json.root);
        if (ok) ok = tk_model_make_outputs(bpe, diags);
        su_json_free(&json);
    }
    su_arena_free(&r.arena);
    return ok;
}
