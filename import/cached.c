#include "import/cached.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/cache_directory.h"
#include "support/digest.h"
#include "support/directory.h"
#include "support/file.h"

enum { FORMAT = 2, MOST_FILES = 4096, MOST_TRIES = 8 }; /* FORMAT: of what an import makes; a change of it makes all anew */

static bool ends_with(const char *text, const char *end) {
    size_t size = strlen(text), end_size = strlen(end);
    return size > end_size && strcmp(text + size - end_size, end) == 0;
}

static bool holds(const char *directory, const char *name) {
    SuArena arena = {0};
    bool there = access(su_printf(&arena, "%s/%s", directory, name), F_OK) == 0;
    su_arena_free(&arena);
    return there;
}

static bool is_directory(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool im_is_checkpoint(const char *path) {
    return is_directory(path) ? holds(path, "config.json") && !holds(path, IM_SPEC_FILE) : ends_with(path, ".gguf");
}

bool im_is_imported(const char *path) { return is_directory(path) && holds(path, IM_SPEC_FILE) && holds(path, IM_WEIGHTS_FILE); }

/* ---- what an import was made of */

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* Of a folder what an import may read; of a GGUF file itself, and its other parts, which lie beside it. */
static bool is_input(const char *name, bool folder) {
    static const char *const ends[] = {".json", ".safetensors", ".jinja"};
    for (size_t i = 0; folder && i < sizeof ends / sizeof ends[0]; i++)
        if (ends_with(name, ends[i])) return true;
    return !folder && ends_with(name, ".gguf");
}

static void add_file(SuDigestStream *stream, const char *directory, const char *name, SuArena *arena) {
    struct stat st = {0};
    if (stat(su_printf(arena, "%s/%s", directory, name), &st) != 0) return;
    const uint64_t numbers[] = {(uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec};
    su_digest_add(stream, name, strlen(name) + 1);
    su_digest_add(stream, numbers, sizeof numbers);
}

static void add_files(SuDigestStream *stream, const char *directory, bool folder, SuArena *arena) {
    DIR *open = opendir(directory);
    const char **names = SU_NEW_ARRAY(arena, const char *, MOST_FILES);
    size_t count = 0;
    for (struct dirent *entry; open && count < MOST_FILES && (entry = readdir(open));)
        if (is_input(entry->d_name, folder)) names[count++] = su_strdup(arena, entry->d_name);
    if (open) closedir(open);
    if (count) qsort(names, count, sizeof *names, by_text);
    for (size_t i = 0; i < count; i++) add_file(stream, directory, names[i], arena);
}

/* The path without links, its files, and what changes their import. */
static SuDigest digest_of(const ImOptions *o, const char *real, SuArena *arena) {
    const bool folder = is_directory(real), split = !folder && strstr(real, "-of-");
    const char *slash = strrchr(real, '/'), *version = MOSSC_VERSION;
    const char *directory = folder ? real : su_printf(arena, "%.*s", (int)(slash ? slash - real : 0), real);
    const int numbers[] = {FORMAT, (int)o->dtype, o->exact};
    SuDigestStream *stream = su_digest_start();
    su_digest_add(stream, real, strlen(real) + 1);
    su_digest_add(stream, version, strlen(version) + 1);
    su_digest_add(stream, numbers, sizeof numbers);
    if (o->a_activation) su_digest_add(stream, o->a_activation, strlen(o->a_activation));
    if (folder || split)
        add_files(stream, directory, folder, arena);
    else
        add_file(stream, directory, slash ? slash + 1 : real, arena);
    SuDigest digest = su_digest_now(stream);
    su_digest_end(stream);
    return digest;
}

/* ---- the cache */

/* Makes the directories of a path. What fails shows when something is written there. */
static void make_parents(SuArena *arena, const char *path) {
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/'))
        mkdir(su_printf(arena, "%.*s", (int)(slash - path), path), 0700);
    mkdir(path, 0700);
}

/* Imports to `output`, unless another process is faster. */
static bool make(const ImOptions *options, const char *output, bool *out_made, SuDiags *diags) {
    ImOptions own = *options;
    ImReport report;
    const size_t count = diags->count, errors = diags->errors;
    own.output = output;
    const bool ok = im_import(&own, &report, diags);
    *out_made = ok && report.classes.count > 0;
    im_report_free(&report);
    if (ok) return true;
    if (!im_is_imported(output)) return false;
    diags->count = count;
    diags->errors = errors;
    return true;
}

/* Whether one that was there is what the checkpoint makes. */
static bool verify(const ImOptions *options, const char *output, SuDiags *diags) {
    ImOptions own = *options;
    ImReport report;
    own.output = output;
    const bool ok = im_import(&own, &report, diags);
    im_report_free(&report);
    if (!ok) su_note(diags, su_file_span(diags, output), NULL, "remove this directory, and the model is imported anew");
    return ok;
}

static const char *output_of(const ImOptions *options, const char *cache, SuArena *arena, SuDiags *diags) {
    char hex[SU_HEX];
    char *real = realpath(options->input, NULL);
    if (!real) {
        su_error(diags, su_file_span(diags, options->input), NULL, "cannot open: %s", su_file_error(errno));
        return NULL;
    }
    const SuDigest digest = digest_of(options, real, arena);
    const char *slash = strrchr(real, '/'), *name = slash ? slash + 1 : real;
    const char *output = su_printf(arena, "%s/%.64s-%.16s", cache, name, su_digest_hex(&digest, hex));
    free(real);
    return output;
}

const char *im_cached(const ImOptions *options, uint64_t most_bytes, SuArena *arena, bool *out_made, SuDiags *diags) {
    const char *cache = dr_model_directory(arena);
    bool used = false;
    *out_made = false;
    if (!cache) {
        dr_no_cache_directory(diags);
        return NULL;
    }
    const char *output = output_of(options, cache, arena, diags);
    if (!output) return NULL;
    for (int i = 0; !used && i < MOST_TRIES; i++) { /* it may be removed before it is used */
        *out_made = false;
        make_parents(arena, cache);
        if (!im_is_imported(output) && !make(options, output, out_made, diags)) return NULL;
        used = su_directory_use(output);
    }
    if (!used) {
        su_error(diags, su_file_span(diags, output), "raise $MOSSC_MODELS_SIZE",
                 "other processes remove the imported model before it can be used");
        return NULL;
    }
    if (options->verify && !*out_made && !verify(options, output, diags)) return NULL;
    su_directory_touch(output);
    if (*out_made) im_cached_prune(cache, 0, most_bytes);
    return output;
}
