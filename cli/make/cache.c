/* mossc cache: what the caches of kernels and of imported models hold; emptying them. */
#include <time.h>

#include "driver/cache_directory.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/show.h"
#include "codegen/tuning.h"
#include "import/cached.h"

typedef struct CacheOptions {
    bool clear, models, json;
    int64_t keep_days, keep_size; /* -1: not given */
} CacheOptions;

typedef struct Report {
    const char *directory;
    size_t entries, schedules, removed, removed_schedules;
    uint64_t bytes, most_bytes;
    const char *models_directory;
    ImCachedList models;
    size_t removed_models;
    uint64_t most_models_bytes;
} Report;

static Report look(const char *directory, SuDiags *diags) {
    SuEntries entries = cg_cache_list(directory);
    Report report = {
        .directory = directory, .entries = entries.count, .bytes = entries.bytes, .most_bytes = dr_cache_most_bytes(diags)};
    su_entries_free(&entries);
    SuEntries schedules = cg_tuning_list(directory);
    report.schedules = schedules.count;
    report.bytes += schedules.bytes;
    su_entries_free(&schedules);
    return report;
}

static bool prunes(const CacheOptions *o) { return o->keep_days >= 0 || o->keep_size >= 0; }

static void look_at_models(const CacheOptions *o, const char *directory, Report *report, SuDiags *diags) {
    const int64_t day = 24 * 60 * 60, before = o->keep_days >= 0 ? (int64_t)time(NULL) - o->keep_days * day : 0;
    report->models_directory = directory;
    report->most_models_bytes = dr_models_most_bytes(diags);
    if (prunes(o))
        report->removed_models = im_cached_prune(directory, before, o->keep_size >= 0 ? (uint64_t)o->keep_size << 20 : UINT64_MAX);
    report->models = im_cached_list(directory);
}

/* Of a time: "2026-06-02 14:05". */
static const char *moment(struct timespec at, char out[32]) {
    struct tm parts;
    if (!localtime_r(&at.tv_sec, &parts) || !strftime(out, 32, "%Y-%m-%d %H:%M", &parts)) out[0] = 0;
    return out;
}

static void print_json(const Report *report, const CacheOptions *o) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "directory", report->directory);
    cJSON_AddNumberToObject(root, "entries", (double)report->entries);
    cJSON_AddNumberToObject(root, "schedules", (double)report->schedules);
    cJSON_AddNumberToObject(root, "bytes", (double)report->bytes);
    cJSON_AddNumberToObject(root, "most_bytes", (double)report->most_bytes);
    if (o->clear) cJSON_AddNumberToObject(root, "removed", (double)report->removed);
    if (o->clear) cJSON_AddNumberToObject(root, "removed_schedules", (double)report->removed_schedules);
    cJSON *models = cJSON_AddArrayToObject(root, "models");
    for (size_t i = 0; i < report->models.count; i++) {
        const ImCached *model = &report->models.items[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", model->name);
        cJSON_AddNumberToObject(item, "bytes", (double)model->bytes);
        cJSON_AddNumberToObject(item, "used", (double)model->used.tv_sec);
        cJSON_AddItemToArray(models, item);
    }
    cJSON_AddStringToObject(root, "models_directory", report->models_directory);
    cJSON_AddNumberToObject(root, "models_bytes", (double)report->models.bytes);
    cJSON_AddNumberToObject(root, "most_models_bytes", (double)report->most_models_bytes);
    if (prunes(o)) cJSON_AddNumberToObject(root, "removed_models", (double)report->removed_models);
    cli_json_print(root);
}

static void print_text(const Report *report, const CacheOptions *o) {
    char bytes[CLI_NUMBER], most[CLI_NUMBER];
    if (o->clear) printf("removed %zu kernels and %zu schedules\n", report->removed, report->removed_schedules);
    printf("%s: %zu kernels, ", report->directory, report->entries);
    if (report->schedules > 0) printf("schedules of %zu, ", report->schedules);
    printf("%s of at most %s\n", cli_bytes((double)report->bytes, bytes), cli_bytes((double)report->most_bytes, most));
    if (prunes(o)) printf("removed %zu imported models\n", report->removed_models);
    if (!report->models.count && !o->models) return;
    printf("%s: %zu imported models, %s of at most %s\n", report->models_directory, report->models.count,
           cli_bytes((double)report->models.bytes, bytes), cli_bytes((double)report->most_models_bytes, most));
    for (size_t i = report->models.count; o->models && i-- > 0;) {
        const ImCached *model = &report->models.items[i];
        char used[32];
        printf("%10s  %s  %s\n", cli_bytes((double)model->bytes, bytes), moment(model->used, used), model->name);
    }
}

static bool show(const CacheOptions *o, SuArena *arena, SuDiags *diags) {
    const char *directory = dr_cache_directory(arena), *models = dr_model_directory(arena);
    if (!directory || !models) return dr_no_cache_directory(diags);
    size_t removed = o->clear ? cg_cache_clear(directory) : 0, schedules = o->clear ? cg_tuning_clear(directory) : 0;
    Report report = look(directory, diags);
    report.removed = removed;
    report.removed_schedules = schedules;
    look_at_models(o, models, &report, diags);
    (o->json ? print_json : print_text)(&report, o);
    im_cached_free(&report.models);
    if (!o->clear || report.entries + report.schedules == 0) return true;
    return su_error(diags, su_file_span(diags, directory), NULL,
                    "%zu kernels and %zu schedules could not be removed or were just stored", report.entries, report.schedules);
}

static const CliOption table[] = {
    CLI_ROW_FLAG(CacheOptions, clear, "clear",
                 "remove all kernels first, and the schedules that mossc tune has found; other files in the directory stay"),
    CLI_ROW_FLAG(CacheOptions, models, "models", "list the imported models: size, last use, name"),
    CLI_ROW_INT(CacheOptions, keep_days, "keep-days", 0, "DAYS", 0, 100000,
                "remove imported models first that were not used for so many days"),
    CLI_ROW_INT(CacheOptions, keep_size, "keep-size", 0, "MIB", 0, 16 << 20,
                "remove imported models first, those used least recently, until they take at most so much; 0 removes all"),
    CLI_OPTION_JSON(CacheOptions,
                    "print one JSON object: directory, entries, schedules, bytes, most_bytes, models (name, bytes, used), "
                    "models_directory, models_bytes, most_models_bytes, and what was removed"),
};

static int run(const CliCommand *command, CliArgs *args) {
    CacheOptions o = {.keep_days = -1, .keep_size = -1};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    SuDiags diags = {0};
    bool ok = show(&o, &args->arena, &diags);
    return cli_finish(&diags, ok);
}

const CliCommand cli_cache = {
    .name = "cache",
    .summary = "show the caches of kernels and imported models, or empty them",
    .synopsis = "[--clear] [--models] [--keep-days DAYS] [--keep-size MIB] [--json]",
    .about = CLI_ABOUT_CACHE
    "\n\nA kernel's key is a digest of everything that its code depends on: this build of mossc and of LLVM, the processor, shapes "
    "and fusion. A second digest is checked when it is read; a damaged kernel is compiled again. The cache may be emptied or "
    "removed at "
    "any time.\n\n"
    "Folders and .gguf files that were used in place of a spec are imported into $MOSSC_CACHE_DIR/models, else "
    "$XDG_CACHE_HOME/mossc/models, else ~/.cache/mossc/models, up to $MOSSC_MODELS_SIZE MiB (default 65536): after an import those "
    "used "
    "least recently are removed. A model that a command uses is never removed.",
    .examples = "mossc cache\n"
                "mossc cache --clear\n"
                "mossc cache --models\n"
                "mossc cache --keep-days 30 --keep-size 20000\n"
                "MOSSC_CACHE_DIR=/opt/model/kernels mossc cache --json\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 0,
    .most_positionals = 0,
    .run = run,
};
