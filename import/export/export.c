#include "import/export/export.h"

#include <inttypes.h>
#include <string.h>

#include "driver/text.h"
#include "import/export/place.h"
#include "import/families/families.h"
#include "import/folder.h"
#include "support/file.h"

static bool json_of(const FeSpec *spec, const char *path, SuJson *out, SuDiags *diags) {
    static const SuJsonRules rules = {.depth = 64, .values = 1 << 22};
    SuText text = {0};
    fe_print_spec_json(spec, &text);
    const bool ok = su_json_parse(text.text, text.size, &rules, su_file_span(diags, path), out, diags);
    if (ok) xp_add_scales(out->root);
    su_text_free(&text);
    return ok;
}

/* ---- what the family makes of the config */

static bool plan_of_config(XpJob *job) {
    char *text = xp_config_text(job->config);
    if (!text) return su_out_of_memory(job->diags, "exporting");
    su_text_add(&job->config_text, "%s\n", text);
    cJSON_free(text);
    char *copy = su_strdup(&job->arena, job->config_text.text);
    job->has_read = im_json_parse(copy, strlen(copy), "config.json", &job->read, job->diags);
    if (!job->has_read) return false;
    ImConfig *config = im_config(job->read.root, "config.json", &job->arena, job->diags);
    const ImFamily *family = im_family_of(config);
    if (!family) SU_BUG("'%s' is no family", xp_family_name(job->family));
    job->source.path = "config.json";
    job->source.invents = true;
    job->source.joins = !job->gguf;
    job->plan.source = &job->source;
    job->plan.diags = job->diags;
    im_top(&job->plan, "name", "exported");
    family->plan(config, &job->plan);
    im_config_all_used(config);
    im_plan_settle(&job->plan);
    return !im_config_failed(config) && !job->plan.failed;
}

bool xp_check(XpJob *job, const ImPlan *plan) {
    SuText text = {0};
    SuJson made;
    SuDiags doubts = {0}; /* about a spec that nobody wrote */
    fe_spec_free(&job->made);
    im_plan_print(plan, "what is exported, read back", NULL, &text);
    if (!fe_spec_parse("exported", text.text, text.size, NULL, 0, &job->made, &doubts))
        SU_BUG("the spec of an export is wrong: %s", doubts.count ? doubts.items[0].message : "");
    bool ok = json_of(&job->made, "exported", &made, job->diags);
    if (ok) {
        ok = xp_same_spec(job, made.root);
        su_json_free(&made);
    }
    su_diags_free(&doubts);
    su_text_free(&text);
    return ok;
}

static bool make_plan(XpJob *job) {
    const IrDtype dtype = ir_is_blocks(job->spec.weights.dtype) ? IR_F32 : job->spec.weights.dtype;
    job->has_ours = json_of(&job->spec, job->options->spec, &job->ours, job->diags);
    job->family = job->has_ours ? xp_family_of(job->ours.root, job->span, job->diags) : XP_FAMILIES;
    if (job->family == XP_FAMILIES) return false;
    job->config = xp_config(job->family, job->ours.root, &job->texts.specials, dtype);
    if (!plan_of_config(job) || !xp_check(job, &job->plan)) return false;
    return xp_invert(job);
}

/* ---- texts */

static const char *text_of(XpJob *job, const TkBpe *bpe, int32_t id) {
    const TkVocab *from = id >= 0 && (size_t)id < bpe->added.n_ids && bpe->added.texts[id].text ? &bpe->added : &bpe->vocab;
    if (id < 0 || (size_t)id >= from->n_ids || !from->texts[id].text) return NULL;
    return su_strndup(&job->arena, from->texts[id].text, from->texts[id].size);
}

static bool read_tokenizer(XpJob *job) {
    XpTexts *t = &job->texts;
    const char *file = job->spec.tokenizer.file;
    char *text;
    if (!su_read_file(&job->arena, file, TK_MAX_FILE, &text, &t->size, job->diags)) return false;
    const TkBpeOptions options = dr_bpe_options(&job->spec, &job->arena);
    TkBpe *bpe = tk_bpe_read(text, t->size, file, job->spec.vocab_size, job->diags);
    const bool ok = bpe && tk_bpe_resolve(bpe, file, &options, &t->specials, job->diags);
    t->tokenizer = text;
    if (ok) t->bos = text_of(job, bpe, t->specials.bos);
    if (ok && t->specials.n_ends) t->eos = text_of(job, bpe, t->specials.ends[0]);
    tk_bpe_free(bpe);
    return ok;
}

static bool read_texts(XpJob *job) {
    const FeTokenizer *t = &job->spec.tokenizer;
    job->has_texts = true;
    job->texts.specials.bos = (int32_t)t->bos.id;
    for (int64_t i = 0; i < t->n_eos && t->kind == FE_TOKENIZER_BYTES; i++)
        job->texts.specials.ends[job->texts.specials.n_ends++] = (int32_t)t->eos[i].id;
    return (t->kind == FE_TOKENIZER_BYTES || read_tokenizer(job)) &&
           dr_generation_read(job->options->spec, &job->texts.generation, job->diags);
}

/* ---- reading */

static bool read_blocks(XpJob *job, size_t tensor, uint64_t first, uint64_t rows, uint64_t K, float *out) {
    const PgTensor *expected = &job->expected[tensor];
    const RtStored *stored = &job->checkpoints.tensors[tensor];
    for (uint64_t row = 0; row < rows; row++) {
        IrBlocks blocks;
        bool low = false;
        if (!rt_read_row(expected, stored, first + row, &job->room, &blocks, &low))
            return rt_value_error(expected, stored, (first + row) * K, job->diags);
        ir_blocks_row(&blocks, 0, out + row * K);
    }
    return true;
}

static bool read_ours(XpJob *job, size_t tensor, uint64_t first, uint64_t rows, uint64_t K, float *out) {
    const IrDtype dtype = job->tensors[tensor].dtype;
    if (ir_is_blocks(dtype)) return read_blocks(job, tensor, first, rows, K, out);
    const RtStored *stored = &job->checkpoints.tensors[tensor];
    rt_read_elements(stored->tensor, first * K, rows * K, out);
    const uint64_t bad = rt_round_to(dtype, out, rows * K);
    return bad == rows * K || rt_value_error(&job->expected[tensor], stored, first * K + bad, job->diags);
}

bool xp_read(XpJob *job, const XpTensor *t, uint64_t first, uint64_t rows, float *out) {
    for (size_t i = 0; i < t->n_runs; i++) {
        const XpRun *run = &t->runs[i];
        const uint64_t from = run->first > first ? run->first : first, run_end = run->first + run->rows;
        const uint64_t end = run_end < first + rows ? run_end : first + rows;
        if (from >= end) continue;
        float *to = out + (from - first) * t->K;
        for (uint64_t k = 0; run->tensor == SIZE_MAX && k < (end - from) * t->K; k++) to[k] = -0.0f;
        if (run->tensor != SIZE_MAX && !read_ours(job, run->tensor, run->from + from - run->first, end - from, t->K, to))
            return false;
    }
    return true;
}

/* ---- all of it */

/* Weights that a family has none for, and takes for ones. */
static bool check_ones(XpJob *job) {
    for (size_t i = 0; i < job->n_ones; i++) {
        const XpRun *run = &job->ones[i];
        SuArena arena = {0};
        float *values = SU_NEW_ARRAY(&arena, float, run->rows);
        bool ok = read_ours(job, run->tensor, run->from, run->rows, 1, values);
        for (uint64_t k = 0; ok && k < run->rows; k++)
            if (values[k] != 1)
                ok = su_error(job->diags, job->span, NULL,
                              "tensor '%s': the family %s has no such weights: expected 1, got %g at %" PRIu64,
                              job->tensors[run->tensor].name, xp_family_name(job->family), (double)values[k], k);
        su_arena_free(&arena);
        if (!ok) return false;
    }
    return true;
}

bool xp_open(XpJob *job, const XpExport *o, bool gguf, SuDiags *diags) {
    *job = (XpJob){.options = o, .diags = diags, .gguf = gguf};
    job->span = su_file_span(diags, o->spec);
    if (!fe_spec_load(o->spec, o->sets->items, o->sets->count, &job->spec, diags)) return false;
    job->tensors = fe_tensors(&job->spec, &job->n_tensors);
    job->expected = SU_NEW_ARRAY(&job->arena, PgTensor, job->n_tensors);
    for (size_t i = 0; i < job->n_tensors; i++) {
        const FeTensor *t = &job->tensors[i];
        job->expected[i] = (PgTensor){.name = t->name, .rank = t->rank, .dtype = (uint32_t)t->dtype};
        memcpy(job->expected[i].shape, t->shape, sizeof t->shape);
    }
    if (!read_texts(job) || !make_plan(job)) return false;
    job->has_checkpoints =
        rt_checkpoints_open(o->weights->items, o->weights->count, job->expected, job->n_tensors, &job->checkpoints, diags);
    job->room = rt_room_make(&job->arena, job->expected, job->n_tensors);
    return job->has_checkpoints && check_ones(job);
}

void xp_close(XpJob *job) {
    su_diags_keep(job->diags);
    if (job->has_texts) dr_generation_free(&job->texts.generation);
    if (job->has_checkpoints) rt_checkpoints_close(&job->checkpoints);
    if (job->has_ours) su_json_free(&job->ours);
    if (job->has_read) su_json_free(&job->read);
    cJSON_Delete(job->config);
    su_text_free(&job->config_text);
    im_plan_free(&job->plan);
    su_arena_free(&job->source.arena);
    fe_spec_free(&job->made);
    fe_spec_free(&job->spec);
    su_arena_free(&job->arena);
}
