#include "import/import.h"

#include <string.h>
#include <sys/stat.h>

#include "import/cached.h"
#include "import/generation.h"
#include "support/directory.h"
#include "support/file.h"

/* One import. */
typedef struct Job {
    const ImOptions *options;
    ImReport *report;
    SuDiags *diags;
    ImCheckpoint checkpoint;
    ImModel model;
    SuDirectory directory;
} Job;

/* ---- texts */

enum { MOST_TEXTS = 3, LONGEST_TEXT = 256 << 20 };

/* A file of the output that is made whole; text NULL: there is none. */
typedef struct Text {
    const char *name, *text;
    size_t size;
} Text;

/* `generation` is the caller's to free, after the texts. */
static void make_texts(const Job *job, SuText *generation, Text out[MOST_TEXTS]) {
    const ImTexts *t = &job->checkpoint.texts;
    im_print_generation(t, generation);
    out[0] = (Text){IM_SPEC_FILE, job->model.text.text, job->model.text.size};
    out[1] = (Text){IM_TOKENIZER_FILE, t->tokenizer, t->tokenizer_size};
    out[2] = (Text){"generation.yaml", generation->size ? generation->text : NULL, generation->size};
}

/* ---- the output */

/* A worker pool for as long as `work` takes. */
static bool with_workers(Job *job, const char *path, bool (*work)(Job *job, const char *path, RtWorkers *workers)) {
    RtWorkers *workers = rt_workers_create(job->options->threads, false);
    if (!workers) return su_out_of_memory(job->diags, "importing");
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, rt_workers_drop, workers);
    const bool ok = work(job, path, workers);
    su_cleanup_done(&cleanup);
    rt_workers_free(workers);
    return ok;
}

static bool write_weights(Job *job, const char *path, RtWorkers *workers) {
    return im_write_weights(&job->model.plan, &job->model.spec, path, workers, &job->options->progress, &job->report->classes,
                            job->diags);
}

static bool verify_weights(Job *job, const char *path, RtWorkers *workers) {
    return im_verify_weights(&job->model.plan, &job->model.spec, path, workers, &job->options->progress, job->diags);
}

static bool verify_text(Job *job, const char *directory, const Text *t) {
    SuArena arena = {0};
    const char *path = su_printf(&arena, "%s/%s", directory, t->name);
    char *text;
    size_t size;
    struct stat st;
    bool ok = !t->text || su_read_file(&arena, path, LONGEST_TEXT, &text, &size, job->diags);
    if (!t->text && lstat(path, &st) == 0)
        ok = su_error(job->diags, su_file_span(job->diags, path), "remove it, or give the options that it was imported with",
                      "the checkpoint makes no such file");
    else if (ok && t->text && (size != t->size || memcmp(text, t->text, size) != 0))
        ok = su_error(job->diags, su_file_span(job->diags, path), "give the options that it was imported with",
                      "this is not what the checkpoint makes");
    su_diags_keep(job->diags);
    su_arena_free(&arena);
    return ok;
}

/* All of it is read back. */
static bool verify(Job *job, const char *directory) {
    SuArena arena = {0};
    SuText generation = {0};
    Text texts[MOST_TEXTS];
    make_texts(job, &generation, texts);
    bool ok = true;
    for (int i = 0; i < MOST_TEXTS; i++) ok = verify_text(job, directory, &texts[i]) && ok;
    ok = ok && with_workers(job, su_printf(&arena, "%s/%s", directory, IM_WEIGHTS_FILE), verify_weights);
    job->report->verified = ok;
    su_text_free(&generation);
    su_arena_free(&arena);
    return ok;
}

static bool write_files(Job *job) {
    SuText generation = {0};
    Text texts[MOST_TEXTS];
    make_texts(job, &generation, texts);
    bool ok = true;
    for (int i = 0; ok && i < MOST_TEXTS; i++)
        ok = !texts[i].text || su_directory_write(&job->directory, texts[i].name, texts[i].text, texts[i].size, job->diags);
    su_text_free(&generation);
    const char *weights = ok ? su_directory_file(&job->directory, IM_WEIGHTS_FILE, job->diags) : NULL;
    return weights && with_workers(job, weights, write_weights) && (!job->options->verify || verify(job, job->directory.temporary));
}

static bool make_output(Job *job) {
    if (!su_directory_open(job->options->output, &job->directory, job->diags)) return false;
    if (write_files(job)) return su_directory_commit(&job->directory, job->diags);
    su_directory_abort(&job->directory, job->diags);
    return false;
}

static bool work(Job *job) {
    if (!im_checkpoint_open(job->options->input, &job->checkpoint, job->diags)) return false;
    bool ok = im_model_make(&job->checkpoint, job->options, &job->model, job->diags);
    job->report->family = job->model.family;
    const bool there = job->options->verify && im_is_imported(job->options->output);
    ok = ok && (there ? verify(job, job->options->output) : make_output(job));
    su_diags_keep(job->diags);
    im_model_free(&job->model);
    im_checkpoint_close(&job->checkpoint);
    return ok;
}

bool im_import(const ImOptions *options, ImReport *report, SuDiags *diags) {
    *report = (ImReport){0};
    su_arena_settle(&report->arena);
    su_arena_settle(&report->classes.arena);
    Job job = {.options = options, .report = report, .diags = diags};
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "importing a checkpoint")) return false;
    bool ok = work(&job);
    su_guard_end(&guard);
    return ok;
}

void im_report_free(ImReport *report) {
    su_arena_free(&report->classes.arena);
    su_arena_free(&report->arena);
}
