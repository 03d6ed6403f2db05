/* Folders of Hugging Face. */
#include <string.h>

#include "import/export/export.h"
#include "import/export/sets.h"
#include "runtime/narrow.h"
#include "support/directory.h"

enum { RUN = 1 << 16 };

static bool is_convolution(const char *name) {
    static const char *const ends[] = {".conv1d.weight", ".conv.conv.weight"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const char *end = strstr(name, ends[i]);
        if (end && !end[strlen(ends[i])]) return true;
    }
    return false;
}

/* Those of four bytes first (safetensors.h). */
static size_t *order_of(XpJob *job) {
    size_t *order = SU_NEW_ARRAY(&job->arena, size_t, job->n_theirs), n = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < job->n_theirs; i++)
            if ((job->theirs[i].dtype == IR_F32) == (pass == 0)) order[n++] = i;
    return order;
}

static RtWriteTensor header_of(const XpTensor *t) {
    RtWriteTensor w = {.name = t->named->name, .rank = t->rank, .shape = {(int64_t)t->rows}, .dtype = ir_dtype(t->dtype)->file};
    if (t->rank > 1) w.shape[1] = (int64_t)t->K;
    if (t->rank == 3) {
        w.shape[0] = (int64_t)t->experts;
        w.shape[1] = (int64_t)(t->rows / t->experts);
        w.shape[2] = (int64_t)t->K;
    } else if (t->rank > 1 && is_convolution(w.name)) { /* one input channel each */
        w.rank = 3;
        w.shape[2] = w.shape[1];
        w.shape[1] = 1;
    }
    return w;
}

static void put(RtSafetensorsOut *out, size_t index, const XpTensor *t, uint64_t first, uint64_t rows, float *values) {
    const uint64_t n = rows * t->K, size = (uint64_t)ir_dtype(t->dtype)->bytes;
    uint16_t *halves = (uint16_t *)values;
    for (uint64_t i = 0; i < n && t->dtype != IR_F32; i++) { /* in place: a half never lies behind what is read next */
        const uint16_t half = t->dtype == IR_BF16 ? rt_narrow_bf16(values[i]) : rt_narrow_f16(values[i]);
        memcpy(&halves[i], &half, sizeof half);
    }
    rt_safetensors_put(out, index, first * t->K * size, values, n * size);
}

static bool write_tensors(XpJob *job, const size_t *order, RtSafetensorsOut *out) {
    uint64_t most = RUN;
    for (size_t i = 0; i < job->n_theirs; i++)
        if (job->theirs[i].K > most) most = job->theirs[i].K;
    float *values = SU_NEW_ARRAY(&job->arena, float, most);
    for (size_t i = 0; i < job->n_theirs; i++) {
        const XpTensor *t = &job->theirs[order[i]];
        const uint64_t step = most / t->K;
        for (uint64_t first = 0; first < t->rows; first += step) {
            const uint64_t rows = t->rows - first < step ? t->rows - first : step;
            if (!xp_read(job, t, first, rows, values)) return false;
            put(out, i, t, first, rows, values);
        }
        dr_progress_update(&job->options->progress, i + 1, job->n_theirs);
    }
    return true;
}

static bool write_weights(XpJob *job, const char *path) {
    const size_t *order = order_of(job);
    RtWriteTensor *headers = SU_NEW_ARRAY(&job->arena, RtWriteTensor, job->n_theirs);
    for (size_t i = 0; i < job->n_theirs; i++) headers[i] = header_of(&job->theirs[order[i]]);
    RtSafetensorsOut out;
    if (!path || !rt_safetensors_begin(path, headers, job->n_theirs, &out, job->diags)) return false;
    dr_progress_begin(&job->options->progress, "exporting", "tensors", true);
    const bool ok = write_tensors(job, order, &out);
    dr_progress_end(&job->options->progress);
    if (ok) return rt_safetensors_commit(&out, job->diags);
    rt_safetensors_drop(&out);
    return false;
}

/* ---- texts */

static bool write_json(XpJob *job, SuDirectory *directory, const char *name, cJSON *json) {
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    if (!text) return su_out_of_memory(job->diags, "exporting");
    SuText line = {0};
    su_text_add(&line, "%s\n", text);
    cJSON_free(text);
    const bool ok = su_directory_write(directory, name, line.text, line.size, job->diags);
    su_text_free(&line);
    return ok;
}

static bool write_tokenizer(XpJob *job, SuDirectory *directory) {
    const XpTexts *t = &job->texts;
    if (t->tokenizer && !su_directory_write(directory, "tokenizer.json", t->tokenizer, t->size, job->diags)) return false;
    if (!t->tokenizer && !t->generation.chat_template) return true;
    cJSON *config = cJSON_CreateObject();
    cJSON_AddStringToObject(config, "tokenizer_class", "PreTrainedTokenizerFast");
    cJSON_AddBoolToObject(config, "clean_up_tokenization_spaces", false);
    if (t->specials.bos >= 0) cJSON_AddBoolToObject(config, "add_bos_token", true);
    if (t->bos) cJSON_AddStringToObject(config, "bos_token", t->bos);
    if (t->eos) cJSON_AddStringToObject(config, "eos_token", t->eos);
    if (t->generation.chat_template) cJSON_AddStringToObject(config, "chat_template", t->generation.chat_template);
    return write_json(job, directory, "tokenizer_config.json", config);
}

static void add_real(cJSON *map, const char *key, double value) {
    if (value >= 0) cJSON_AddNumberToObject(map, key, value);
}

/* How text is sampled, and the tokens that end it, those of generation.yaml too. */
static bool write_generation(XpJob *job, SuDirectory *directory) {
    const DrGeneration *g = &job->texts.generation;
    const TkSpecials *s = &job->texts.specials;
    const bool samples = g->temperature > 0 || g->top_p >= 0 || g->top_k >= 0 || g->min_p >= 0;
    if (!samples && !(g->repeat_penalty >= 0) && !g->n_stops) return true;
    cJSON *map = cJSON_CreateObject(), *ends = cJSON_AddArrayToObject(map, "eos_token_id");
    for (uint32_t i = 0; i < s->n_ends; i++) cJSON_AddItemToArray(ends, cJSON_CreateNumber(s->ends[i]));
    for (uint32_t i = 0; i < g->n_stops; i++) {
        bool there = false;
        for (uint32_t k = 0; k < s->n_ends; k++) there = there || s->ends[k] == g->stops[i];
        if (!there) cJSON_AddItemToArray(ends, cJSON_CreateNumber(g->stops[i]));
    }
    if (samples) cJSON_AddBoolToObject(map, "do_sample", true);
    add_real(map, "temperature", g->temperature);
    add_real(map, "top_p", g->top_p);
    add_real(map, "top_k", (double)g->top_k);
    add_real(map, "min_p", g->min_p);
    add_real(map, "repetition_penalty", g->repeat_penalty);
    return write_json(job, directory, "generation_config.json", map);
}

static bool write_folder(XpJob *job) {
    SuDirectory directory;
    if (!su_directory_open(job->options->output, &directory, job->diags)) return false;
    const bool ok = su_directory_write(&directory, "config.json", job->config_text.text, job->config_text.size, job->diags) &&
                    write_tokenizer(job, &directory) && write_generation(job, &directory) &&
                    write_weights(job, su_directory_file(&directory, "model.safetensors", job->diags));
    if (ok) return su_directory_commit(&directory, job->diags);
    su_directory_abort(&directory, job->diags);
    return false;
}

static uint64_t bytes_of(const XpJob *job) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < job->n_theirs; i++)
        bytes += job->theirs[i].rows * job->theirs[i].K * (uint64_t)ir_dtype(job->theirs[i].dtype)->bytes;
    return bytes;
}

bool xp_export_folder(const XpExport *options, XpReport *report, SuDiags *diags) {
    XpJob job;
    SuGuard guard;
    *report = (XpReport){0};
    if (SU_CAUGHT(&guard, diags, "exporting a model")) return false;
    bool ok = xp_open(&job, options, false, diags);
    if (ok && xp_family_is(job.family, XP_SET_UNTIED) && job.spec.tie_embeddings)
        su_warning(diags, job.span, NULL, "tie_embeddings: transformers reads no head of %s but one of its own",
                   xp_family_name(job.family));
    ok = ok && write_folder(&job);
    if (ok) *report = (XpReport){.family = xp_family_name(job.family), .tensors = job.n_theirs, .bytes = bytes_of(&job)};
    xp_close(&job);
    su_guard_end(&guard);
    return ok;
}
