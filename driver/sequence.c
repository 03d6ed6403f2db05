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

bool dr_feed_cached(DrBuild *build, const RtPromptCacheOptions *options, const DrPrompt *prompt, const DrProgress *progress,
                    MossState **out_state, RtPromptCacheStats *out_stats) {
    RtPromptCache *cache = rt_prompt_cache_open(build->model, options, &build->diags);
    if (!cache) return false;
    MossError error =
        rt_prompt_cache_feed(cache, prompt->tokens, prompt->count, prompt->chunk, progress->update, progress->context, out_state);
    *out_stats = rt_prompt_cache_stats(cache);
    rt_prompt_cache_close(cache);
    if (out_stats->error.code != MOSS_OK)
        su_warning(&build->diags, (SuSpan){0}, NULL, "the prompt cache is not written: %s", out_stats->error.text);
    return dr_take_ok(build, error);
}
