/* Sampling with all its steps (moss.h, pickers). */
#ifndef MOSSC_RUNTIME_PICKER_H
#define MOSSC_RUNTIME_PICKER_H

#include "mossc/moss.h"

/* sampler.c: moss_sample, without the tokens whose probability is below min_p times the largest. */
int32_t rt_sample(MossSampler *sampler, float min_p, const float *logits, int64_t n, int64_t limit);

/* moss_pick from logits[n] of which some were made NaN; log-probabilities are told by the state's own, [n] too. */
int32_t rt_picker_pick(MossPicker *picker, MossSampler *sampler, const float *logits, const float *own, int64_t n);

/* Room for so many more tokens, so that none is asked for within a step. false: no memory. */
bool rt_picker_reserve(MossPicker *picker, size_t more);

/* generate.c: the next token of a state that has logits, by its picker (NULL: none). room[limit] where the vocabulary has gaps. As
 * moss_pick; nothing is committed. */
int32_t rt_pick(const MossVocabulary *vocabulary, const MossState *state, MossSampler *sampler, MossPicker *picker, float *room);

#endif
