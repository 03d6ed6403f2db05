/* The loop that makes a text, behind moss_complete and `mossc run`: tokens are picked, fed and told. */
#ifndef MOSSC_RUNTIME_COMPLETE_H
#define MOSSC_RUNTIME_COMPLETE_H

#include "mossc/moss.h"

typedef struct RtCompletion {
    MossModel *model;
    MossState *state;
    const MossTokenizer *tokenizer;
    MossSampler *sampler;
    uint64_t count;  /* tokens at most */
    bool feed_last;  /* the last of `count` tokens too; without it that costs no step, and the state stands before it */
    const char *const *stops; /* [n_stops] texts that end it, none empty */
    size_t n_stops;
    size_t *stop_text; /* out: with MOSS_STOP_TEXT the one of `stops` that came; NULL: nobody asks */
    bool ignore_eos, whole; /* as in MossCompletion */
    MossPicker *picker;
    MossText told;   /* false: enough, at once */
    bool (*fed)(void *context); /* the state stands after all that was told; false: enough. NULL: nobody asks */
    void *context;   /* of both */
} RtCompletion;

/* Errors and stops are those of moss_complete; out_stop may not be NULL. No guard is around the calls of told and fed. */
MossError rt_complete(const RtCompletion *completion, MossStop *out_stop);

#endif
