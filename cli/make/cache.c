/* mossc cache: what the kernel cache holds; emptying it. */
#include "driver/cache_directory.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/show.h"
#include "codegen/tuning.h"

typedef struct CacheOptions {
    bool clear, json;
} CacheOptions;

typedef struct Report {
    const char *directory;
    size_t entries, schedules, removed, removed_schedules;
    uint64_t bytes, most_bytes;
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

static void print_json(const Report *report, const CacheOptions *o) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "directory", report->directory);
    cJSON_AddNumberToObject(root, "entries", (double)report->entries);
    cJSON_AddNumberToObject(root, "schedules", (double)report->schedules);
    cJSON_AddNumberToObject(root, "bytes", (double)report->bytes);
    cJSON_AddNumberToObject(root, "most_bytes", (double)report->most_bytes);
    if (o->clear) cJSON_AddNumberToObject(root, "removed", (double)report->removed);
    if (o->clear) cJSON_AddNumberToObject(root, "removed_schedules", (double)report->removed_schedules);
    cli_json_print(root);
}

static void print_text(const Report *report, const CacheOptions *o) {
    char bytes[CLI_NUMBER], most[CLI_NUMBER];
    if (o->clear) printf("removed %zu kernels and %zu schedules\n", report->removed, report->removed_schedules);
    printf("%s: %zu kernels, ", report->directory, report->entries);
    if (report->schedules > 0) printf("schedules of %zu, ", report->schedules);
    printf("%s of at most %s\n", cli_bytes((double)report->bytes, bytes), cli_bytes((double)report->most_bytes, most));
}

static bool show(const CacheOptions *o, SuArena *arena, SuDiags *diags) {
    const char *directory = dr_cache_directory(arena);
    if (!directory) return dr_no_cache_directory(diags);
    size_t removed = o->clear ? cg_cache_clear(directory) : 0, schedules = o->clear ? cg_tuning_clear(directory) : 0;
    Report report = look(directory, diags);
    report.removed = removed;
    report.removed_schedules = schedules;
    (o->json ? print_json : print_text)(&report, o);
    if (!o->clear || report.entries + report.schedules == 0) return true;
    return su_error(diags, su_file_span(diags, directory), NULL,
                    "%zu kernels and %zu schedules could not be removed or were just stored", report.entries, report.schedules);
}

static const CliOption table[] = {
    CLI_ROW_FLAG(CacheOptions, clear, "clear",
                 "remove all kernels first, and the schedules that mossc tune has found; other files in the directory stay"),
    CLI_OPTION_JSON(CacheOptions,
                    "print one JSON object: directory, entries, schedules, bytes, most_bytes, and with --clear removed, "
                    "removed_schedules"),
};

static int run(const CliCommand *command, CliArgs *args) {
    CacheOptions o = {0};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    SuDiags diags = {0};
    bool ok = show(&o, &args->arena, &diags);
    return cli_finish(&diags, ok);
}

const CliCommand cli_cache = {
    .name = "cache",
    .summary = "show the kernel cache, or empty it",
    .synopsis = "[--clear] [--json]",
    .about = CLI_ABOUT_CACHE
    "\n\nA kernel's key is a digest of everything that its code depends on: this build of mossc and of LLVM, the processor, shapes "
    "and fusion. A second digest is checked when it is read; a damaged kernel is compiled again. The cache may be emptied or "
    "removed at "
    "any time.",
    .examples = "mossc cache\n"
                "mossc cache --clear\n"
                "MOSSC_CACHE_DIR=/opt/model/kernels mossc cache --json\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 0,
    .most_positionals = 0,
    .run = run,
};
