/* mossc/mossc.h: specs. */
#include <string.h>

#include "driver/api.h"
#include "frontend/yaml.h"
#include "support/alloc.h"
#include "support/file.h"
#include "support/str.h"

static const MossError fine = {.code = MOSS_OK};

static MossError no_memory(const char *what) {
    MossError error = {.code = MOSS_NO_MEMORY};
    snprintf(error.text, sizeof error.text, "cannot allocate memory for %s", what);
    return error;
}

DrBuildOptions api_options(const MosscSpec *spec) {
    return (DrBuildOptions){.spec = spec->path, .spec_text = spec->text, .spec_size = spec->size, .sets = &spec->sets};
}

static void copy_sets(MosscSpec *spec, const char *const *sets, size_t n_sets) {
    spec->sets.items = SU_NEW_ARRAY(&spec->arena, const char *, n_sets);
    for (size_t i = 0; i < n_sets; i++) spec->sets.items[spec->sets.count++] = su_strdup(&spec->arena, sets[i]);
}

/* spec->path and spec->text are there, or why they are not is among the build's messages. */
static MossError make_spec(MosscSpec *spec, const char *const *sets, size_t n_sets, MosscDiags *diags, MosscSpec **out_spec) {
    bool ok = spec->text != NULL;
    if (ok) {
        copy_sets(spec, sets, n_sets);
        DrBuildOptions options = api_options(spec);
        ok = dr_build_spec(&spec->build, &options);
    }
    MossError error = api_result(&spec->build, ok, MOSS_BAD_SPEC, diags);
    if (ok)
        *out_spec = spec;
    else
        mossc_spec_free(spec);
    return error;
}

static MossError spec_open_unguarded(const char *path, const char *const *sets, size_t n_sets, MosscDiags *diags,
                                     MosscSpec **out_spec) {
    *out_spec = NULL;
    MosscSpec *spec = su_calloc(1, sizeof *spec);
    if (!spec) return no_memory("a spec");
    spec->path = su_strdup(&spec->arena, path);
    if (!su_read_file(&spec->arena, path, FE_MAX_INPUT, &spec->text, &spec->size, &spec->build.diags)) spec->text = NULL;
    return make_spec(spec, sets, n_sets, diags, out_spec);
}

MossError mossc_spec_open(const char *path, const char *const *sets, size_t n_sets, MosscDiags *diags, MosscSpec **out_spec) {
    *out_spec = NULL;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "opening a spec")) return rt_failure(&guard.failure);
    MossError result = spec_open_unguarded(path, sets, n_sets, diags, out_spec);
    su_guard_end(&guard);
    return result;
}

static MossError spec_parse_unguarded(const char *name, const char *text, size_t size, const char *const *sets, size_t n_sets,
                                      MosscDiags *diags, MosscSpec **out_spec) {
    *out_spec = NULL;
    MosscSpec *spec = su_calloc(1, sizeof *spec);
    if (!spec) return no_memory("a spec");
    spec->path = su_strdup(&spec->arena, name);
    spec->text = su_strndup(&spec->arena, text, size);
    spec->size = size;
    return make_spec(spec, sets, n_sets, diags, out_spec);
}

MossError mossc_spec_parse(const char *name, const char *text, size_t size, const char *const *sets, size_t n_sets,
                           MosscDiags *diags, MosscSpec **out_spec) {
    *out_spec = NULL;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "reading a spec")) return rt_failure(&guard.failure);
    MossError result = spec_parse_unguarded(name, text, size, sets, n_sets, diags, out_spec);
    su_guard_end(&guard);
    return result;
}

void mossc_spec_free(MosscSpec *spec) {
    if (!spec) return;
    dr_build_free(&spec->build);
    su_arena_free(&spec->arena);
    su_free(spec);
}

/* ---------------------------------------------------------------------------------------------- what it says */

const char *mossc_spec_name(const MosscSpec *spec) { return spec->build.spec.name; }

int64_t mossc_spec_vocab_size(const MosscSpec *spec) { return spec->build.spec.vocab_size; }

int64_t mossc_spec_d_model(const MosscSpec *spec) { return spec->build.spec.d_model; }

int64_t mossc_spec_max_positions(const MosscSpec *spec) { return fe_position_bound(&spec->build.spec); }

const uint8_t *mossc_spec_hash(const MosscSpec *spec) { return spec->build.spec.hash; }

int64_t mossc_spec_n_blocks(const MosscSpec *spec) { return spec->build.spec.n_blocks; }

static MossError spec_print_unguarded(const MosscSpec *spec, MosscForm form, char **out_text, size_t *out_size) {
    SuText text = {0};
    (form == MOSSC_JSON ? fe_print_spec_json : fe_print_spec)(&spec->build.spec, &text);
    *out_text = text.text; /* su_malloc's; mossc_text_free frees it */
    if (out_size) *out_size = text.size;
    return text.text ? fine : no_memory("a spec as text");
}

MossError mossc_spec_print(const MosscSpec *spec, MosscForm form, char **out_text, size_t *out_size) {
    *out_text = NULL;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "printing a spec")) return rt_failure(&guard.failure);
    MossError result = spec_print_unguarded(spec, form, out_text, out_size);
    su_guard_end(&guard);
    return result;
}

void mossc_text_free(char *text) { su_free(text); }

static MossError no_such_block(const MosscSpec *spec, int64_t i) {
    MossError error = {.code = MOSS_BAD_INPUT};
    snprintf(error.text, sizeof error.text, "block %lld does not exist: the spec has %lld", (long long)i,
             (long long)spec->build.spec.n_blocks);
    return error;
}

MossError mossc_spec_block(const MosscSpec *spec, int64_t i, MosscBlock *out, size_t size) {
    if (i < 0 || i >= spec->build.spec.n_blocks) return no_such_block(spec, i);
    const FeBlock *block = &spec->build.spec.blocks[i];
    MosscBlock told = {.kind = fe_block_word(block),
                       .name = block->name ? block->name : "",
                       .path = block->path,
                       .line = block->span.line,
                       .experts = block->experts.count,
                       .top_k = block->experts.count ? block->router.top_k : 0,
                       .share = block->share ? block->share->name : "",
                       .branches = block->n_branches};
    memcpy(out, &told, size < sizeof told ? size : sizeof told);
    return fine;
}

/* ---------------------------------------------------------------------------------------------- its tensors */

/* The tensors, listed by the first call. */
static MossError list_tensors(MosscSpec *spec, const FeTensor **out, size_t *out_count) {
    *out_count = 0;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "listing tensors")) return rt_failure(&guard.failure);
    *out = fe_tensors(&spec->build.spec, out_count);
    su_guard_end(&guard);
    return fine;
}

MossError mossc_spec_n_tensors(MosscSpec *spec, int64_t *out_count) {
    const FeTensor *tensors;
    size_t count;
    MossError error = list_tensors(spec, &tensors, &count);
    *out_count = (int64_t)count;
    return error;
}

/* The name of a block's tensor without "blocks.3."; "" of others. */
static const char *part_of(const FeTensor *tensor) {
    const char *part = strchr(tensor->name, '.');
    part = part ? strchr(part + 1, '.') : NULL;
    return tensor->block >= 0 && part ? part + 1 : "";
}

MossError mossc_spec_tensor(MosscSpec *spec, int64_t i, MosscTensor *out, size_t size) {
    const FeTensor *tensors;
    size_t count;
    MossError error = list_tensors(spec, &tensors, &count);
    if (error.code != MOSS_OK) return error;
    if (i < 0 || (size_t)i >= count) {
        error.code = MOSS_BAD_INPUT;
        snprintf(error.text, sizeof error.text, "tensor %lld does not exist: the spec has %zu", (long long)i, count);
        return error;
    }
    const FeTensor *tensor = &tensors[i];
    MosscTensor told = {.name = tensor->name,
                        .rank = tensor->rank,
                        .dtype = ir_dtype_word(tensor->dtype),
                        .block = tensor->block,
                        .map = tensor->map ? tensor->map : "",
                        .own = fe_owned_word(part_of(tensor)),
                        .per_expert = tensor->per_expert};
    for (int d = 0; d < tensor->rank; d++) told.shape[d] = tensor->shape[d];
    memcpy(out, &told, size < sizeof told ? size : sizeof told);
    return fine;
}

/* ---------------------------------------------------------------------------------------------- what it costs */

static MossError find_costs(MosscSpec *spec, int64_t position) {
    DrBuild *build = &spec->build;
    DrBuildOptions options = api_options(spec);
    if (spec->has_costs && spec->position == position) return fine;
    bool ok = build->program || (dr_build_graph(build) && dr_build_program(build, &options));
    spec->has_costs = ok = ok && dr_costs(build, position, &spec->costs);
    spec->position = position;
    return api_result(build, ok, MOSS_BAD_SPEC, NULL);
}

static void give_cost(const DrCost *cost, MosscCost *out, size_t size) {
    MosscCost told = {.parameters = cost->parameters,
                      .active_parameters = cost->active,
                      .weight_bytes = cost->weight_bytes,
                      .state_bytes = cost->state_bytes,
                      .flops = cost->flops,
                      .token_bytes = cost->token_bytes};
    memcpy(out, &told, size < sizeof told ? size : sizeof told);
}

MossError mossc_spec_cost(MosscSpec *spec, int64_t position, MosscCost *out, size_t size) {
    MossError error = find_costs(spec, position);
    if (error.code == MOSS_OK) give_cost(&spec->costs.total, out, size);
    return error;
}

MossError mossc_spec_block_cost(MosscSpec *spec, int64_t i, int64_t position, MosscCost *out, size_t size) {
    if (i < -1 || i >= spec->build.spec.n_blocks) return no_such_block(spec, i);
    MossError error = find_costs(spec, position);
    if (error.code == MOSS_OK) give_cost(&spec->costs.parts[i + 1], out, size);
    return error;
}
