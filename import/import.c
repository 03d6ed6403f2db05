#include "import/import.h"

#include <string.h>

#include "driver/expected.h"
#include "import/generation.h"
#include "runtime/weights.h"
#include "support/directory.h"

static const char generation_file[] = "generation.yaml";

/* One import. */
typedef struct Job {
    const ImOptions *options;
    ImReport *report;
    SuDiags *diags;
    ImCheckpoint checkpoint;
    ImModel model;
    SuDirectory directory;
} Job;

/* ---- the output */

static bool write_weights(Job *job) {
    const char *path = su_directory_file(&job->directory, IM_WEIGHTS_FILE, job->diags);
    RtWorkers *workers = path ? rt_workers_create(job->options->threads, false) : NULL;
    if (path && !workers) return su_out_of_memory(job->diags, "importing");
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, rt_workers_drop, workers);
    bool ok = path && im_write_weights(&job->model.plan, &job->model.spec, path, workers, &job->options->progress,
                                       &job->report->classes, job->diags);
    su_cleanup_done(&cleanup);
    rt_workers_free(workers);
    return ok;
}

/* The spec that was written, and the file held against it. */
static bool verify(Job *job) {
    FeSpec spec = {0};
    SuArena arena = {0};
    const char *spec_path = su_printf(&arena, "%s/%s", job->directory.temporary, IM_SPEC_FILE);
    const char *weights_path = su_printf(&arena, "%s/%s", job->directory.temporary, IM_WEIGHTS_FILE);
    SuDiags again = {0}; /* warnings were told */
    bool ok = fe_spec_load(spec_path, NULL, 0, &spec, &again) ||
              su_error(job->diags, su_file_span(job->diags, spec_path), NULL, "the spec does not read back: %s",
                       again.count ? again.items[0].message : "");
    su_diags_free(&again);
    size_t count = 0;
    const PgTensor *expected = ok ? dr_expected(&arena, &spec, &count) : NULL;
    RtCheckpoints checkpoints;
    ok = ok && rt_checkpoints_open(&weights_path, 1, expected, count, &checkpoints, job->diags);
    if (ok) rt_checkpoints_close(&checkpoints);
    fe_spec_free(&spec);
    su_arena_free(&arena);
    return ok;
}

static bool write_files(Job *job) {
    const ImTexts *t = &job->checkpoint.texts;
    SuText generation = {0};
    im_print_generation(t, &generation);
    bool ok = su_directory_write(&job->directory, IM_SPEC_FILE, job->model.text.text, job->model.text.size, job->diags);
    ok = ok &&
         (!t->tokenizer || su_directory_write(&job->directory, IM_TOKENIZER_FILE, t->tokenizer, t->tokenizer_size, job->diags));
    ok = ok &&
         (!generation.size || su_directory_write(&job->directory, generation_file, generation.text, generation.size, job->diags));
    su_text_free(&generation);
    return ok && write_weights(job) && (!job->options->verify || verify(job));
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
    ok = ok && make_output(job);
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
