/* GGUF files of llama.cpp, version 3 (import/gguf.h). */
#include "import/gguf.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "import/export/export.h"
#include "import/export/made.h"
#include "import/export/pairs.h"
#include "import/export/place.h"
#include "import/families/families.h"
#include "import/gguf_view.h"
#include "ir/quant_gguf.h"
#include "runtime/narrow.h"

enum { ALIGN = 32, ENDLESS = 1 << 20 /* the context_length of models that have no bound */ };

/* A tensor of the file: one of theirs, or all experts of a kind. */
typedef struct Tensor {
    ImGgufName name;
    const XpTensor **experts; /* [n_experts], or the one that it is */
    size_t n_experts;
    ImForm form;
    const float *values; /* [shape[0]] in place of them, of rope_freqs.weight */
    uint64_t shape[3]; /* slowest first */
    int rank;
    uint64_t offset, bytes;
} Tensor;

typedef struct Gguf {
    XpJob *job;
    ImArch arch;
    XpMake make;
    XpPairs pairs;
    SuText infos;
    Tensor *tensors;
    size_t n_tensors;
    SuArena *arena;
} Gguf;

/* ---- pairs */

static const cJSON *config_at(const Gguf *g, const char *key) { return cJSON_GetObjectItemCaseSensitive(g->job->config, key); }

static uint64_t whole_at(const Gguf *g, const char *key) {
    const cJSON *item = config_at(g, key);
    return cJSON_IsNumber(item) && item->valuedouble > 0 ? (uint64_t)item->valuedouble : 0;
}

static const cJSON *scaling_at(const Gguf *g, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(config_at(g, "rope_scaling"), key);
}

static bool is_llama3(const Gguf *g) {
    const char *kind = cJSON_GetStringValue(scaling_at(g, "rope_type"));
    return kind && strcmp(kind, "llama3") == 0;
}

/* Keys with a number for each layer, 0 where it has no such block, unless all layers have one. */
static const struct {
    const char *key, *kind;
} layered[] = {{"attention.head_count_kv", "attention"}, {"feed_forward_length", "mlp"}};

/* The kind of block that a layer must have for the key not to be 0; NULL: all layers have it, or the key is of no kind. */
static const char *missing_kind(const Gguf *g, const char *key) {
    for (size_t i = 0; i < sizeof layered / sizeof *layered; i++)
        for (uint64_t layer = 0; strcmp(layered[i].key, key) == 0 && layer < whole_at(g, "num_hidden_layers"); layer++)
            if (!xp_layer_has(&g->make, (int64_t)layer, layered[i].kind)) return layered[i].kind;
    return NULL;
}

static void put_layers(Gguf *g, const char *key, const char *kind, uint64_t value) {
    const uint64_t layers = whole_at(g, "num_hidden_layers");
    xp_put_array(&g->pairs, key, IM_GGUF_U32, layers);
    for (uint64_t i = 0; i < layers; i++) xp_put(&g->pairs.bytes, xp_layer_has(&g->make, (int64_t)i, kind) ? value : 0, 4);
}

static void add_key(void *context, const char *key, const char *theirs) {
    Gguf *g = context;
    const cJSON *item = config_at(g, theirs);
    const char *own = key + strlen(im_arch(g->arch)->word) + 1, *kind = missing_kind(g, own);
    if (im_arch_in(g->arch, IM_SET_RECURRENT) && strstr(key, ".key_length")) return; /* head_dim is that of the mixer */
    const bool real = strstr(key, "epsilon") || strstr(key, "freq_base") || strstr(key, "_scale");
    if (cJSON_IsBool(item))
        xp_put_flag(&g->pairs, key, cJSON_IsTrue(item));
    else if (cJSON_IsNumber(item) && real)
        xp_put_real(&g->pairs, key, item->valuedouble);
    else if (cJSON_IsNumber(item) && kind)
        put_layers(g, key, kind, (uint64_t)item->valuedouble);
    else if (cJSON_IsNumber(item))
        xp_put_number(&g->pairs, key, (uint64_t)item->valuedouble);
}

static const char *own_key(const Gguf *g, const char *key) { return su_printf(g->arena, "%s.%s", im_arch(g->arch)->word, key); }
static void add_own(Gguf *g, const char *key, uint64_t value) { xp_put_number(&g->pairs, own_key(g, key), value); }

static double spec_at(const Gguf *g, const char *place) { return xp_number_at(g->job->ours.root, place); }

/* Of attention, where there is some. */
static void add_heads(Gguf *g) {
    const uint64_t turned = (uint64_t)spec_at(g, "attention.rope.dim");
    add_own(g, "attention.value_length", whole_at(g, "head_dim"));
    if (!im_arch_in(g->arch, IM_SET_WITHOUT_ROPE)) add_own(g, "rope.dimension_count", turned ? turned : whole_at(g, "head_dim"));
    const cJSON *factor = scaling_at(g, "factor");
    if (!factor || is_llama3(g)) return;
    xp_put_word(&g->pairs, own_key(g, "rope.scaling.type"), "linear");
    xp_put_real(&g->pairs, own_key(g, "rope.scaling.factor"), factor->valuedouble);
}

/* What gguf_config.c reads of some architectures alone. */
static void add_special(Gguf *g) {
    static const char *const factors[][2] = {{"attention.scale", "attention_multiplier"},
                                             {"embedding_scale", "embedding_multiplier"},
                                             {"residual_scale", "residual_multiplier"},
                                             {"logit_scale", "logits_scaling"}};
    const bool copied = im_arch_in(g->arch, IM_SET_MAMBA | IM_SET_FALCON_MAMBA | IM_SET_FALCON_H1), /* gguf_keys.def */
        granite = im_arch_in(g->arch, IM_SET_GRANITES);
    const double inner = spec_at(g, "ssm.d_inner");
    if (inner > 0 && !copied) add_own(g, "ssm.inner_size", (uint64_t)inner);
    if (g->arch == IM_ARCH_FALCON_MAMBA) xp_put_flag(&g->pairs, own_key(g, "ssm.dt_b_c_rms"), true);
    if (im_arch_in(g->arch, IM_SET_NEMOTRONS))
        xp_put_real(&g->pairs, own_key(g, "attention.layer_norm_epsilon"), spec_at(g, "norm.eps"));
    for (size_t i = 0; granite && i < sizeof factors / sizeof *factors; i++)
        xp_put_real(&g->pairs, own_key(g, factors[i][0]), cJSON_GetNumberValue(config_at(g, factors[i][1])));
    if (granite)
        xp_put_flag(&g->pairs, own_key(g, "rope.scaling.finetuned"), spec_at(g, "attention.rope.dim") > 0); /* there is RoPE */
}

/* false after an error. */
static bool add_pairs(Gguf *g) {
    const bool recurrent = im_arch_in(g->arch, IM_SET_RECURRENT);
    xp_put_word(&g->pairs, "general.architecture", im_arch(g->arch)->word);
    xp_put_word(&g->pairs, "general.type", "model");
    xp_put_word(&g->pairs, "general.name", g->job->spec.name);
    xp_put_number(&g->pairs, "general.quantization_version", 2);
    im_gguf_each_key(g->arch, add_key, g, g->arena);
    add_own(g, "context_length", recurrent ? ENDLESS : whole_at(g, "max_position_embeddings"));
    add_own(g, "vocab_size", whole_at(g, "vocab_size"));
    if (recurrent) {
        add_own(g, "feed_forward_length", 0);
        add_own(g, "attention.head_count", 0);
    } else {
        add_heads(g);
    }
    add_special(g);
    return xp_gguf_texts(g->job, &g->pairs);
}

/* ---- tensors */

/* The form that rows keep: of blocks where all of them are such and the rows are whole ones. */
static ImForm form_of(const Gguf *g, const XpTensor *t, const ImGgufName *name) {
    const IrDtype of = t->runs[0].tensor == SIZE_MAX ? IR_F32 : g->job->tensors[t->runs[0].tensor].dtype;
    bool same = ir_is_blocks(of) && !name->log && t->rank > 1 && ir_gguf_row_bytes(of, t->K) != 0;
    for (size_t i = 0; same && i < t->n_runs; i++)
        same = t->runs[i].tensor != SIZE_MAX && g->job->tensors[t->runs[i].tensor].dtype == of;
    if (same) return of == IR_Q8 ? IM_Q8_0 : IM_Q4_K;
    return name->log || t->dtype == IR_F32 ? IM_F32 : t->dtype == IR_F16 ? IM_F16 : IM_BF16;
}

static void set_shape(const Gguf *g, Tensor *t) {
    const XpTensor *of = t->experts[0];
    const uint64_t groups = (uint64_t)spec_at(g, "ssm.n_groups");
    uint64_t rows = of->rows, K = of->K;
    if (of->rank == 1) K = rows, rows = 1;
    if (of->rank == 1 && t->name.flat && im_arch_in(g->arch, IM_SET_HEADED)) { /* a number a head; a norm in groups */
        const bool norm = strstr(t->name.name, "ssm_norm") && groups > 0 && K % groups == 0;
        rows = norm ? groups : K;
        K = norm ? K / groups : 1;
        t->shape[t->rank++] = rows;
    } else if (t->name.expert >= 0) {
        t->shape[t->rank++] = t->n_experts;
        t->shape[t->rank++] = rows;
    } else if (of->rank == 3) {
        t->shape[t->rank++] = of->experts;
        t->shape[t->rank++] = rows / of->experts;
    } else if (of->rank > 1 && !t->name.row) {
        t->shape[t->rank++] = rows;
    }
    t->shape[t->rank++] = K;
}

static bool add_tensor(Gguf *g, const XpTensor *theirs) {
    XpJob *job = g->job;
    ImGgufName name;
    if (!im_gguf_name_of(g->arch, xp_value_at(job->ours.root, "moe") != NULL, theirs->named->name, g->arena, &name))
        return su_error(job->diags, job->span, NULL, "tensor '%s' has no place in GGUF files", theirs->named->name);
    Tensor *t = NULL;
    for (size_t i = g->n_tensors; name.expert > 0 && i-- > 0 && !t;)
        if (strcmp(g->tensors[i].name.name, name.name) == 0) t = &g->tensors[i];
    if (!t) {
        t = &g->tensors[g->n_tensors++];
        *t = (Tensor){.name = name,
                      .experts = SU_NEW_ARRAY(g->arena, const XpTensor *, name.expert < 0 ? 1 : job->n_theirs),
                      .form = form_of(g, theirs, &name)};
    }
    t->experts[t->n_experts++] = theirs;
    return true;
}

/* Llama 3's scaling of RoPE is there as what each frequency is divided by (import/gguf_rope.c). */
static void add_divisors(Gguf *g) {
    const uint64_t count = whole_at(g, "head_dim") / 2;
    const double theta = cJSON_GetNumberValue(config_at(g, "rope_theta")), pi = 3.14159265358979323846;
    const double factor = cJSON_GetNumberValue(scaling_at(g, "factor")),
                 low = cJSON_GetNumberValue(scaling_at(g, "low_freq_factor")),
                 high = cJSON_GetNumberValue(scaling_at(g, "high_freq_factor")),
                 original = cJSON_GetNumberValue(scaling_at(g, "original_max_position_embeddings"));
    float *divisors = SU_NEW_ARRAY(g->arena, float, count);
    for (uint64_t i = 0; i < count; i++)
        divisors[i] = (float)xp_divisor(original / (2 * pi * pow(theta, (double)i / (double)count)), factor, low, high);
    g->tensors[g->n_tensors++] = (Tensor){
        .name = {.name = "rope_freqs.weight", .expert = -1}, .form = IM_F32, .values = divisors, .shape = {count}, .rank = 1};
}

static void place(Gguf *g) {
    uint64_t at = 0;
    for (size_t i = 0; i < g->n_tensors; i++) {
        Tensor *t = &g->tensors[i];
        if (!t->values) set_shape(g, t);
        uint64_t rows = 1;
        for (int d = 0; d + 1 < t->rank; d++) rows *= t->shape[d];
        t->bytes = rows * im_form_row_bytes(t->form, t->shape[t->rank - 1]);
        t->offset = at;
        at += (t->bytes + ALIGN - 1) / ALIGN * ALIGN;
        xp_put_text(&g->infos, t->name.name, strlen(t->name.name));
        xp_put(&g->infos, (uint64_t)t->rank, 4);
        for (int d = t->rank; d-- > 0;) xp_put(&g->infos, t->shape[d], 8);
        xp_put(&g->infos, im_form(t->form)->gguf, 4);
        xp_put(&g->infos, t->offset, 8);
    }
}

/* ---- data */

/* A row of theirs in blocks; all runs are of one dtype. */
static bool block_row(XpJob *job, const XpTensor *t, uint64_t row, uint8_t *out) {
    size_t i = 0;
    while (row >= t->runs[i].first + t->runs[i].rows) i++;
    const size_t tensor = t->runs[i].tensor;
    const uint64_t from = t->runs[i].from + row - t->runs[i].first;
    IrBlocks blocks;
    bool low = false;
    if (!rt_read_row(&job->expected[tensor], &job->checkpoints.tensors[tensor], from, &job->room, &blocks, &low))
        return rt_value_error(&job->expected[tensor], &job->checkpoints.tensors[tensor], from * t->K, job->diags);
    ir_row_to_gguf(&blocks, 0, out);
    return true;
}

static bool float_row(XpJob *job, const XpTensor *t, const Tensor *to, uint64_t row, float *values, uint8_t *out) {
    if (!xp_read(job, t, row, 1, values)) return false;
    for (uint64_t k = 0; k < t->K; k++) {
        const float x = to->name.log ? (float)-exp((double)values[k]) : values[k];
        const uint16_t half = to->form == IM_BF16 ? rt_narrow_bf16(x) : to->form == IM_F16 ? rt_narrow_f16(x) : 0;
        if (to->form == IM_F32)
            memcpy(out + k * sizeof x, &x, sizeof x);
        else
            memcpy(out + k * sizeof half, &half, sizeof half);
    }
    return true;
}

static bool write_part(Gguf *g, const Tensor *to, const XpTensor *t, FILE *file) {
    const bool blocks = im_form(to->form)->weights > 1, keys = strstr(to->name.name, ".attn_k.") != NULL;
    const uint64_t heads = whole_at(g, keys ? "num_key_value_heads" : "num_attention_heads");
    const ImOrder order = {.kind = to->name.pairs ? IM_TO_PAIRS : IM_IN_ORDER, .run = heads ? t->rows / heads : 1};
    const uint64_t bytes = im_form_row_bytes(to->form, t->K);
    SuArena arena = {0};
    float *values = SU_NEW_ARRAY(&arena, float, t->K);
    uint8_t *out = su_alloc(&arena, bytes);
    bool ok = true;
    for (uint64_t row = 0; ok && row < t->rows; row++) {
        const uint64_t from = im_order_row(&order, row);
        ok = blocks ? block_row(g->job, t, from, out) : float_row(g->job, t, to, from, values, out);
        if (ok) fwrite(out, 1, bytes, file);
    }
    su_arena_free(&arena);
    return ok;
}

static bool write_data(Gguf *g, FILE *file) {
    static const char zeros[ALIGN];
    bool ok = true;
    for (size_t i = 0; ok && i < g->n_tensors; i++) {
        const Tensor *t = &g->tensors[i];
        if (t->values) fwrite(t->values, 1, t->bytes, file);
        for (size_t e = 0; ok && e < t->n_experts; e++) ok = write_part(g, t, t->experts[e], file);
        fwrite(zeros, 1, (ALIGN - t->bytes % ALIGN) % ALIGN, file);
        dr_progress_update(&g->job->options->progress, i + 1, g->n_tensors);
    }
    return ok;
}

static bool write_file(Gguf *g, FILE *file) {
    SuText head = {0};
    xp_put_head(&head, g->n_tensors, &g->pairs);
    su_text_append(&head, g->infos.text, g->infos.size);
    while (head.size % ALIGN) xp_put(&head, 0, 1);
    fwrite(head.text, 1, head.size, file);
    su_text_free(&head);
    dr_progress_begin(&g->job->options->progress, "exporting", "tensors", true);
    const bool ok = write_data(g, file);
    dr_progress_end(&g->job->options->progress);
    return ok;
}

/* ---- reading back */

/* What an import makes of the file is the spec. */
static bool check_file(Gguf *g, const char *path) {
    XpJob *job = g->job;
    ImCheckpoint checkpoint;
    SuDiags unsaid = {0}; /* that there is no tokenizer */
    const bool open = im_checkpoint_open(path, &checkpoint, &unsaid);
    if (!open)
        su_error(job->diags, job->span, NULL, "the file does not read back: %s", unsaid.count ? unsaid.items[0].message : "");
    bool ok = open;
    if (open) {
        ImPlan plan = {.source = &checkpoint.source, .diags = job->diags};
        const ImFamily *family = im_family_of(checkpoint.config);
        im_top(&plan, "name", "exported");
        if (family) family->plan(checkpoint.config, &plan);
        im_config_all_used(checkpoint.config);
        ok = family && !plan.failed && !im_config_failed(checkpoint.config) &&
             im_source_all_taken(&checkpoint.source, job->diags) && xp_check(job, &plan);
        if (!ok && !job->diags->errors)
            su_error(job->diags, job->span, NULL, "the file does not read back: %s", unsaid.count ? unsaid.items[0].message : "");
        im_plan_free(&plan);
        im_checkpoint_close(&checkpoint);
    }
    su_diags_free(&unsaid);
    return ok;
}

/* ---- the architecture */

/* Whether files of an architecture are of the family; nemotron_h has one for models with experts. */
static bool is_arch_of(const Gguf *g, ImArch arch) {
    const XpFamily family = g->job->family;
    const char *type = xp_family_name(family == XP_FAMILY_GRANITEMOESHARED ? XP_FAMILY_GRANITEMOE : family);
    const bool experts = xp_value_at(g->job->ours.root, "moe") != NULL;
    if (im_arch_in(arch, IM_SET_NEMOTRONS) && experts != (arch == IM_ARCH_NEMOTRON_H_MOE)) return false;
    return strcmp(im_arch(arch)->model_type, type) == 0;
}

static bool find_arch(Gguf *g) {
    XpJob *job = g->job;
    const uint64_t window = whole_at(g, "sliding_window");
    int arch = 0;
    while (arch < IM_ARCHS && !is_arch_of(g, (ImArch)arch)) arch++;
    g->arch = (ImArch)arch;
    if (arch == IM_ARCHS)
        return su_error(job->diags, job->span, NULL, "GGUF files have no architecture of the family %s",
                        xp_family_name(job->family));
    if (window && window < whole_at(g, "max_position_embeddings"))
        su_warning(job->diags, job->span, NULL,
                   "attention.window: llama.cpp reads none of this architecture: its texts are others behind %" PRIu64 " tokens",
                   window);
    if (im_arch_in(g->arch, IM_SET_UNTIED) && cJSON_IsTrue(config_at(g, "tie_word_embeddings")))
        su_warning(job->diags, job->span, NULL,
                   "tie_embeddings: llama.cpp reads no file of this architecture without a head of its own");
    if (cJSON_GetArraySize(config_at(g, "mlp_only_layers")) > 0)
        return su_error(job->diags, job->span, NULL, "mlp.experts: GGUF files of the family %s have experts in all layers",
                        xp_family_name(job->family));
    if (config_at(g, "time_step_limit")) return su_error(job->diags, job->span, NULL, "ssm.dt_limit: GGUF has no key for it");
    return true;
}

/* ---- all of it */

static bool write_gguf(XpJob *job, XpReport *report) {
    Gguf g = {.job = job, .arena = &job->arena, .make = xp_make(job->family, job->ours.root)};
    g.tensors = SU_NEW_ARRAY(g.arena, Tensor, job->n_theirs + 1);
    bool ok = find_arch(&g) && add_pairs(&g);
    for (size_t i = 0; ok && i < job->n_theirs; i++) ok = add_tensor(&g, &job->theirs[i]);
    if (ok && is_llama3(&g)) add_divisors(&g);
    if (ok) place(&g);
    SuOut out;
    ok = ok && su_out_open(job->options->output, &out, job->diags);
    if (ok) {
        ok = write_file(&g, out.file);
        fflush(out.file);
        if (ok && out.way == SU_OUT_REPLACE) ok = check_file(&g, out.temporary);
        if (ok)
            ok = su_out_commit(&out, job->diags);
        else
            su_out_abort(&out);
    }
    uint64_t bytes = 0;
    for (size_t i = 0; i < g.n_tensors; i++) bytes += g.tensors[i].bytes;
    *report = (XpReport){.family = xp_family_name(job->family), .tensors = g.n_tensors, .bytes = bytes};
    su_text_free(&g.pairs.bytes);
    su_text_free(&g.infos);
    return ok;
}

bool xp_export_gguf(const XpExport *options, XpReport *report, SuDiags *diags) {
    XpJob job;
    SuGuard guard;
    *report = (XpReport){0};
    if (SU_CAUGHT(&guard, diags, "exporting a model")) return false;
    bool ok = xp_open(&job, options, true, diags);
    job.floats = true;
    ok = ok && write_gguf(&job, report);
    xp_close(&job);
    su_guard_end(&guard);
    return ok;
}
