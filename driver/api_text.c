/* mossc/mossc.h: what files and logits say of text. */
#include <math.h>
#include <string.h>

#include "driver/api.h"
#include "driver/generation.h"
#include "driver/score.h"
#include "driver/sequence.h"
#include "support/alloc.h"

static const MossError fine = {.code = MOSS_OK};

/* ---------------------------------------------------------------------------------------------- generation.yaml */

/* What the caller sees is the first member. */
typedef struct Generation {
    MosscGeneration told;
    DrGeneration read;
} Generation;

static MossError generation_open_unguarded(const char *spec_path, MosscDiags *diags, Generation *g) {
    DrBuild messages = {0};
    DrGeneration *read = &g->read;
    *read = (DrGeneration){.temperature = NAN, .top_p = NAN, .min_p = NAN, .repeat_penalty = NAN, .top_k = -1};
    bool ok = !spec_path || dr_generation_read(spec_path, read, &messages.diags);
    dr_generation_fill(read);
    MossError error = api_result(&messages, ok, MOSS_BAD_INPUT, diags);
    dr_build_free(&messages);
    g->told = (MosscGeneration){.temperature = read->temperature,
                                .top_p = read->top_p,
                                .min_p = read->min_p,
                                .repeat_penalty = read->repeat_penalty,
                                .top_k = read->top_k,
                                .stops = read->stops,
                                .n_stops = read->n_stops,
                                .chat_template = read->chat_template};
    return error;
}

MossError mossc_generation_open(const char *spec_path, MosscDiags *diags, const MosscGeneration **out_generation) {
    *out_generation = NULL;
    Generation *g = su_calloc(1, sizeof *g);
    if (!g) return (MossError){.code = MOSS_NO_MEMORY, .text = "cannot allocate memory for generation.yaml"};
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "reading generation.yaml")) {
        mossc_generation_free(&g->told);
        return rt_failure(&guard.failure);
    }
    MossError error = generation_open_unguarded(spec_path, diags, g);
    su_guard_end(&guard);
    if (error.code == MOSS_OK)
        *out_generation = &g->told;
    else
        mossc_generation_free(&g->told);
    return error;
}

void mossc_generation_free(const MosscGeneration *generation) {
    if (!generation) return;
    Generation *g = (Generation *)(uintptr_t)generation;
    dr_generation_free(&g->read);
    su_free(g);
}

/* ---------------------------------------------------------------------------------------------- how probable a text is */

/* What logits[n] say of the token that came. */
static void judge(const float *logits, int64_t n, int32_t token, double *out_logprob, int32_t *out_best) {
    bool finite = logits && moss_all_finite(logits, n);
    int64_t best = finite ? 0 : -1;
    for (int64_t i = 1; finite && i < n; i++) best = logits[i] > logits[best] ? i : best;
    if (out_logprob) *out_logprob = finite ? -dr_token_nats(logits, n, token) : NAN;
    if (out_best) *out_best = (int32_t)best;
}

MossError mossc_score(MossModel *model, MossState *state, const int32_t *tokens, size_t count, double *out_logprobs,
                      int32_t *out_best) {
    const MossProgram *program = moss_model_program(model);
    int64_t vocab_size = moss_program_vocab_size(program), most = dr_chunk_of_logits(program, 0);
    for (size_t at = 0, n; at < count; at += n) {
        n = count - at < (uint64_t)most ? count - at : (size_t)most;
        const float *before = moss_state_logits(state);
        double first = NAN; /* it is told once the step has checked the token */
        int32_t best = -1;
        if (tokens[at] >= 0 && tokens[at] < vocab_size) judge(before, vocab_size, tokens[at], &first, &best);
        MossSegment segment = {.state = state, .tokens = tokens + at, .count = (uint32_t)n, .logits = MOSS_ALL_LOGITS};
        MossError error = moss_step(model, &segment, 1);
        if (error.code != MOSS_OK) return error;
        if (out_logprobs) out_logprobs[at] = first;
        if (out_best) out_best[at] = best;
        for (size_t i = 1; i < n; i++)
            judge(moss_logits(model, (uint32_t)(i - 1)), vocab_size, tokens[at + i], out_logprobs ? out_logprobs + at + i : NULL,
                  out_best ? out_best + at + i : NULL);
    }
    return fine;
}
