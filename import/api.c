/* mossc/mossc.h: models of others. */
#include <string.h>

#include "driver/api.h"
#include "driver/cache_directory.h"
#include "import/cached.h"
#include "support/str.h"

/* The index of a word, or `missing` for NULL; -1: it is none of them. */
static int find_word(const char *const *words, const char *word, int missing) {
    if (!word) return missing;
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], word) == 0) return i;
    return -1;
}

static bool read_options(const MosscImportOptions *o, ImOptions *out, SuDiags *diags) {
    int dtype = find_word(im_dtype_words, o->dtype, IM_AS_STORED), a = find_word(im_a_words, o->mamba3_a, 0);
    SuSpan nowhere = {0};
    if (dtype < 0) return su_error(diags, nowhere, "f32, bf16, q8 or q4", "weights cannot be stored as '%s'", o->dtype);
    if (a < 0) return su_error(diags, nowhere, "softplus or heavy_tail", "A of Mamba-3 cannot be '%s'", o->mamba3_a);
    if (o->exact && dtype != IM_AS_STORED) return su_error(diags, nowhere, NULL, "exact: dtype says another thing");
    out->dtype = (ImDtype)dtype;
    out->a_activation = a ? im_a_words[a] : NULL;
    out->exact = o->exact;
    out->verify = o->verify;
    out->threads = o->threads;
    out->progress = (DrProgress){.context = o->progress_context, .update = o->progress};
    return true;
}

/* The directory that was made; NULL after errors. */
static const char *import_it(const ImOptions *options, SuArena *arena, SuDiags *diags) {
    bool made;
    if (!options->output) return im_cached(options, dr_models_most_bytes(diags), arena, &made, diags);
    ImReport report;
    made = im_import(options, &report, diags);
    im_report_free(&report);
    return made ? options->output : NULL;
}

static MossError import_unguarded(const char *input, const char *output, const MosscImportOptions *given, MosscDiags *diags,
                                  char **out_directory) {
    DrBuild build = {0};
    SuArena arena = {0};
    MosscImportOptions all;
    ImOptions options = {.input = input, .output = output};
    MossError size = rt_take_sized("MosscImportOptions", given, &all, sizeof all);
    bool ok = dr_take_ok(&build, size) && read_options(&all, &options, &build.diags);
    const char *made = ok ? import_it(&options, &arena, &build.diags) : NULL;
    MossError error = api_result(&build, made != NULL, MOSS_BAD_WEIGHTS, diags);
    SuText text = {0};
    if (made) su_text_add(&text, "%s", made);
    if (out_directory)
        *out_directory = text.text;
    else
        su_text_free(&text);
    dr_build_free(&build);
    su_arena_free(&arena);
    return error;
}

bool mossc_is_checkpoint(const char *path) { return im_is_checkpoint(path); }

MossError mossc_import(const char *input, const char *output, const MosscImportOptions *options, MosscDiags *diags,
                       char **out_directory) {
    if (out_directory) *out_directory = NULL;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "importing a model")) return rt_failure(&guard.failure);
    MossError error = import_unguarded(input, output, options, diags, out_directory);
    su_guard_end(&guard);
    return error;
}
