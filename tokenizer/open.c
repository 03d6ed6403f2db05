/* Tokenizers from tokenizer.json files. */
#include <stdlib.h>

#include "support/alloc.h"
#include "support/file.h"
#include "tokenizer/bpe.h"
#include "tokenizer/model.h"

static bool resolve(const TkBpe *bpe, const char *path, const char *name, const char *text, int32_t *id, SuDiags *diags) {
    if (text) {
        *id = tk_model_find(bpe, text);
        if (*id < 0)
            return su_error(diags, su_file_span(diags, path), NULL, "tokenizer has no token '%s', the spec's %s", text, name);
    } else if (*id >= 0 && tk_model_is_gap(bpe, *id)) {
        return su_error(diags, su_file_span(diags, path), NULL, "tokenizer has no token %d, the spec's %s", *id, name);
    }
    if (*id < bpe->vocab_size) return true;
    return su_error(diags, su_file_span(diags, path), NULL, "%s is token %d, outside the vocabulary (0 to %lld)", name, *id,
                    (long long)bpe->vocab_size - 1);
}

static bool resolve_end(const TkBpe *bpe, const char *path, TkSpecial end, TkSpecials *out, SuDiags *diags) {
    if (!resolve(bpe, path, "eos", end.text, &end.id, diags)) return false;
    if (end.id >= 0) out->ends[out->n_ends++] = end.id;
    return true;
}

bool tk_bpe_resolve(const TkBpe *bpe, const char *path, const TkBpeOptions *options, TkSpecials *out, SuDiags *diags) {
    *out = (TkSpecials){.bos = options->bos};
    bool ok = resolve(bpe, path, "bos", options->bos_text, &out->bos, diags) &&
              resolve_end(bpe, path, (TkSpecial){options->eos, options->eos_text}, out, diags);
    for (size_t i = 0; ok && i < options->n_more_eos; i++) ok = resolve_end(bpe, path, options->more_eos[i], out, diags);
    return ok;
}

void tk_bpe_free(TkBpe *bpe) {
    if (!bpe) return;
    tk_model_free(bpe);
    su_free(bpe);
}

static void discard(void *bpe) { tk_bpe_free(bpe); }

static RtTokenizer *finish(TkBpe *bpe, const char *path, const TkBpeOptions *options, SuDiags *diags) {
    TkSpecials specials;
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, discard, bpe);
    bool found = tk_bpe_resolve(bpe, path, options, &specials, diags);
    su_cleanup_done(&cleanup);
    if (!found) {
        tk_bpe_free(bpe);
        return NULL;
    }
    RtTokenizer *tokenizer = tk_model_tokenizer(bpe, &specials);
    if (!tokenizer) su_out_of_memory(diags, "making a tokenizer");
    return tokenizer;
}

TkBpe *tk_bpe_read(const char *text, size_t size, const char *path, int64_t vocab_size, SuDiags *diags) {
    TkBpe *bpe = su_calloc(1, sizeof *bpe);
    if (!bpe) {
        su_out_of_memory(diags, "making a tokenizer");
        return NULL;
    }
    bpe->vocab_size = vocab_size;
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, discard, bpe);
    bool ok = tk_model_read(bpe, text, size, path, diags);
    su_cleanup_done(&cleanup);
    if (ok) return bpe;
    tk_bpe_free(bpe);
    return NULL;
}

static RtTokenizer *bpe_parse_unguarded(const char *text, size_t size, const char *path, const TkBpeOptions *options,
                                        SuDiags *diags) {
    TkBpe *bpe = tk_bpe_read(text, size, path, options->vocab_size, diags);
    return bpe ? finish(bpe, path, options, diags) : NULL;
}

RtTokenizer *tk_bpe_parse(const char *text, size_t size, const char *path, const TkBpeOptions *options, SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "reading a tokenizer")) return NULL;
    RtTokenizer *result = bpe_parse_unguarded(text, size, path, options, diags);
    su_guard_end(&guard);
    return result;
}

static RtTokenizer *bpe_open_unguarded(const char *path, const TkBpeOptions *options, SuDiags *diags) {
    SuArena arena = {0};
    char *text;
    size_t size;
    RtTokenizer *tokenizer = NULL;
    if (su_read_file(&arena, path, TK_MAX_FILE, &text, &size, diags)) tokenizer = tk_bpe_parse(text, size, path, options, diags);
    su_arena_free(&arena);
    return tokenizer;
}

RtTokenizer *tk_bpe_open(const char *path, const TkBpeOptions *options, SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "reading a tokenizer")) return NULL;
    RtTokenizer *result = bpe_open_unguarded(path, options, diags);
    su_guard_end(&guard);
    return result;
}
