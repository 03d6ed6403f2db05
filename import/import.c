#include "import/import.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "import/checkpoint.h"
#include "import/families/families.h"
#include "import/generation.h"
#include "runtime/weights.h"
#include "support/directory.h"

static const char spec_file[] = "spec.yaml", weights_file[] = "model.safetensors", tokenizer_file[] = "tokenizer.json",
                  generation_file[] = "generation.yaml";

/* One import. */
typedef struct Job {
    const ImOptions *options;
    ImReport *report;
    SuDiags *diags;
    ImCheckpoint checkpoint;
    ImPlan plan;
    SuText text; /* the spec */
    SuDirectory directory;
    bool has_directory;
} Job;

/* ---- the plan */

/* The last part of a path as a name of the language: [a-z0-9._-]+. */
static const char *name_of(SuArena *arena, const char *path) {
    char *real = realpath(path, NULL);
    const char *slash = strrchr(real ? real : path, '/');
    char *name = su_strdup(arena, slash ? slash + 1 : path), *end = strstr(name, ".gguf");
    free(real);
    if (end && !end[5]) *end = '\0';
    for (char *at = name; *at; at++)
        *at = isalnum((unsigned char)*at) || *at == '.' || *at == '_' ? (char)tolower((unsigned char)*at) : '-';
    return *name ? name : "model";
}

enum { MOST_STOPS = 16 }; /* of the language's tokenizer.eos */

/* ", eos: [2, 7]" of the tokens that end a text, without those that the vocabulary has not. */
static const char *stops_of(Job *job) {
    const ImTexts *t = &job->checkpoint.texts;
    SuArena *arena = &job->plan.arena;
    const char *list = "";
    size_t n = 0;
    for (size_t i = 0; i < t->n_stops && n < MOST_STOPS; i++)
        if (t->stops[i] < job->plan.vocab_size)
            list = su_printf(arena, "%s%s%" PRId64, list, n++ ? ", " : "", t->stops[i]);
        else
            im_note(&job->plan, "Token %" PRId64 " is said to end a text, but is not in the vocabulary.", t->stops[i]);
    return n == 0 ? "" : n == 1 ? su_printf(arena, ", eos: %s", list) : su_printf(arena, ", eos: [%s]", list);
}

static void say_tokenizer(Job *job) {
    const ImTexts *t = &job->checkpoint.texts;
    if (!t->tokenizer) {
        im_note(&job->plan, "There is no %s: put one beside this file to run on text, and name it in tokenizer.", tokenizer_file);
        return;
    }
    const char *bos = t->bos < 0 || t->bos >= job->plan.vocab_size ? "" : su_printf(&job->plan.arena, ", bos: %" PRId64, t->bos);
    im_top(&job->plan, "tokenizer", "{kind: bpe, file: %s%s%s}", tokenizer_file, bos, stops_of(job));
}

static bool make_plan(Job *job) {
    ImConfig *config = job->checkpoint.config;
    job->plan.source = &job->checkpoint.source;
    job->plan.diags = job->diags;
    job->plan.a_activation = job->options->a_activation;
    const ImFamily *family = im_family_of(config);
    if (!family) return false;
    job->report->what = su_strdup(&job->report->arena, job->checkpoint.what);
    job->report->family = family->name;
    const char *name = name_of(&job->plan.arena, job->options->input);
    im_top(&job->plan, "name", isalpha((unsigned char)*name) ? "%s" : "\"%s\"", name);
    family->plan(config, &job->plan);
    im_config_all_used(config);
    if (im_config_failed(config) || job->plan.failed || !im_source_all_taken(&job->checkpoint.source, job->diags)) return false;
    if (!job->plan.vocab_size) SU_BUG("the family '%s' has no embedding", family->name);
    say_tokenizer(job);
    im_plan_settle(&job->plan);
    return true;
}

/* ---- the spec */

/* The spec without weights says which tensors there are; what is wrong or doubtful in it is reported of it, once. */
static bool make_text(Job *job) {
    const ImOptions *o = job->options;
    const char *head =
        su_printf(&job->plan.arena, "Made by mossc import from a %s of the family %s.", job->checkpoint.what, job->report->family);
    SuText without = {0};
    FeSpec spec = {0};
    im_plan_print(&job->plan, head, NULL, &without);
    bool ok = fe_spec_parse(spec_file, without.text, without.size, NULL, 0, &spec, job->diags);
    const char *weights = ok ? im_weights_of(&job->plan, &spec, &without, o->dtype, o->exact, &job->plan.arena) : NULL;
    if (ok) im_plan_print(&job->plan, head, weights, &job->text);
    su_diags_keep(job->diags);
    fe_spec_free(&spec);
    su_text_free(&without);
    return ok;
}

static bool make_spec(Job *job, FeSpec *spec) {
    SuDiags again = {0};
    if (!make_text(job)) return false;
    bool ok = fe_spec_parse(spec_file, job->text.text, job->text.size, NULL, 0, spec, &again);
    if (!ok) SU_BUG("the spec is wrong with weights: %s", again.count ? again.items[0].message : "");
    su_diags_free(&again);
    return im_check_shapes(&job->plan, spec, job->diags);
}

/* ---- the output */

static bool write_weights(Job *job, FeSpec *spec) {
    const char *path = su_directory_file(&job->directory, weights_file, job->diags);
    RtWorkers *workers = path ? rt_workers_create(job->options->threads, false) : NULL;
    if (path && !workers) return su_out_of_memory(job->diags, "importing");
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, rt_workers_drop, workers);
    bool ok = path && im_write_weights(&job->plan, spec, path, workers, &job->options->progress, &job->report->classes, job->diags);
    su_cleanup_done(&cleanup);
    rt_workers_free(workers);
    return ok;
}

/* The spec that was written, and the file held against it. */
static bool verify(Job *job) {
    FeSpec spec = {0};
    SuArena arena = {0};
    const char *spec_path = su_printf(&arena, "%s/%s", job->directory.temporary, spec_file);
    const char *weights_path = su_printf(&arena, "%s/%s", job->directory.temporary, weights_file);
    SuDiags again = {0}; /* warnings were told */
    bool ok =
        fe_spec_load(spec_path, NULL, 0, &spec, &again) ||
        su_error(job->diags, su_file_span(job->diags, spec_path), NULL, "the spec does not read back: %s", again.items[0].message);
    su_diags_free(&again);
    size_t count = 0;
    const FeTensor *tensors = ok ? fe_tensors(&spec, &count) : NULL;
    PgTensor *expected = SU_NEW_ARRAY(&arena, PgTensor, count);
    for (size_t i = 0; i < count; i++) {
        expected[i] = (PgTensor){.name = tensors[i].name, .rank = tensors[i].rank, .dtype = (uint32_t)tensors[i].dtype};
        memcpy(expected[i].shape, tensors[i].shape, sizeof expected[i].shape);
    }
    RtCheckpoints checkpoints;
    ok = ok && rt_checkpoints_open(&weights_path, 1, expected, count, &checkpoints, job->diags);
    if (ok) rt_checkpoints_close(&checkpoints);
    fe_spec_free(&spec);
    su_arena_free(&arena);
    return ok;
}

static bool write_files(Job *job, FeSpec *spec) {
    const ImTexts *t = &job->checkpoint.texts;
    SuText generation = {0};
    im_print_generation(t, &generation);
    bool ok = su_directory_write(&job->directory, spec_file, job->text.text, job->text.size, job->diags);
    ok = ok && (!t->tokenizer || su_directory_write(&job->directory, tokenizer_file, t->tokenizer, t->tokenizer_size, job->diags));
    ok = ok &&
         (!generation.size || su_directory_write(&job->directory, generation_file, generation.text, generation.size, job->diags));
    su_text_free(&generation);
    return ok && write_weights(job, spec) && (!job->options->verify || verify(job));
}

static bool make_output(Job *job, FeSpec *spec) {
    if (!su_directory_open(job->options->output, &job->directory, job->diags)) return false;
    if (write_files(job, spec)) return su_directory_commit(&job->directory, job->diags);
    su_directory_abort(&job->directory, job->diags);
    return false;
}

static bool work(Job *job) {
    FeSpec spec = {0};
    bool ok = im_checkpoint_open(job->options->input, &job->checkpoint, job->diags);
    if (!ok) return false;
    ok = make_plan(job) && make_spec(job, &spec) && make_output(job, &spec);
    fe_spec_free(&spec);
    su_diags_keep(job->diags);
    su_text_free(&job->text);
    im_plan_free(&job->plan);
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
