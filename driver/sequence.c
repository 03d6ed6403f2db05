#include "driver/sequence.h"

int64_t dr_chunk_of_logits(const PgProgram *program, int64_t chunk) {
    int64_t most = program->max_rows;
    if (chunk) return chunk < most ? chunk : most;
    return most < PG_MAX_ROWS ? most : PG_MAX_ROWS;
}

bool dr_state_begin(DrBuild *build, const char *state_in, MossState **out_state) {
    return dr_moss_ok(&build->diags,
                      state_in ? moss_state_load(build->model, state_in, out_state) : moss_state_create(build->model, out_state));
}

bool dr_state_end(DrBuild *build, const MossState *state, const char *state_out) {
    return !state_out || dr_take_ok(build, moss_state_save(state, state_out));
}

bool dr_feed_cached(DrBuild *build, const RtPromptCacheOptions *options, const DrPrompt *prompt, RtPromptRead read, void *context,
                    MossState **out_state, RtPromptCacheStats *out_stats) {
    RtPromptCache *cache = rt_prompt_cache_open(build->model, options, &build->diags);
    if (!cache) return false;
    MossError error = rt_prompt_cache_feed(cache, prompt->tokens, prompt->count, prompt->chunk, read, context, out_state);
    *out_stats = rt_prompt_cache_stats(cache);
    rt_prompt_cache_close(cache);
    if (out_stats->error.code != MOSS_OK)
        su_warning(&build->diags, (SuSpan){0}, NULL, "cannot write the prompt cache: %s", out_stats->error.text);
    return dr_take_ok(build, error);
}

static bool has_f16_weights(const PgProgram *program) {
    for (uint32_t i = 0; i < program->n_weights; i++)
        if (program->weights[i].dtype == IR_F16) return true;
    return false;
}

/* Of logits that are finite where tokens are fed one by one, which on CPUs have the same bits: tensor cores take numbers of the
 * weights' type. */
static bool non_finite_together(DrBuild *build) {
    const char *hint =
        has_f16_weights(build->program)
            ? "prompts on a GPU take no inputs of f16 weights beyond 131008, 65504 with --fast: try weights.dtype=bf16"
            : "--allow-non-finite continues anyway";
    return su_error(&build->diags, (SuSpan){0}, hint, "logits are non-finite, and finite where tokens are fed one by one");
}

bool dr_non_finite(DrBuild *build, const char *state_in, const int32_t *tokens, size_t count) {
    static const char hint[] = "the weights may be corrupt or belong to another spec; --allow-non-finite continues anyway";
    MossState *state = NULL;
    MossNonFinite where;
    SuDiags *diags = &build->diags;
    bool ok = dr_state_begin(build, state_in, &state) &&
              dr_moss_ok(diags, moss_find_non_finite(build->model, state, tokens, count, &where));
    moss_state_free(state);
    if (!ok) return false;
    if (!where.found) return non_finite_together(build);
    if (!where.phase[0])
        return su_error(diags, (SuSpan){0}, hint, "logits at position %lld are non-finite", (long long)where.position);
    if (where.block < 0) {
        return su_error(diags, (SuSpan){0}, hint, "logits are non-finite: first at position %lld, in %s, outside the blocks",
                        (long long)where.position, where.phase);
    }
    return su_error(diags, (SuSpan){0}, hint,
                    "logits are non-finite: first at position %lld, in %s of block %d (line %u of the spec)",
                    (long long)where.position, where.phase, where.block, where.line);
}
