/* A text: a prompt that is fed to a model, and what the model makes of it. All of `mossc run` but options and printing.
 *
 * Calls come in this order: dr_build_spec, dr_text_prompt, dr_build_model, dr_text_begin, dr_text_make. Each gives false after adding the
 * reason to build->diags. */
#ifndef MOSSC_DRIVER_GENERATE_H
#define MOSSC_DRIVER_GENERATE_H

#include "driver/build.h"
#include "driver/chat_template.h"
#include "runtime/prompt_cache.h"
#include "runtime/tokenizer.h"

/* What the caller says; it must live as long as the text. */
typedef struct DrTextOptions {
    const char *state_in;  /* a state's file that the text goes on from; NULL: a new state */
    const char *state_out; /* where the state after the text is written; NULL: nowhere */
    const RtPromptCacheOptions *cache; /* of prompts; NULL: none. Not with state_in */
    uint32_t chunk;         /* of moss_feed */
    uint64_t count;         /* tokens at most that follow the prompt; UINT64_MAX: up to an end, or max_positions */
    MossSampler sampler;    /* its state is the seed */
    MossPicking picking;    /* size 0: nothing besides the sampler */
    const char *const *stops; /* [n_stops] texts that end it, none empty */
    size_t n_stops;
    const int32_t *stop_ids; /* [n_stop_ids] that end it, besides the spec's eos */
    size_t n_stop_ids;
    bool ignore_eos;        /* what ends a text is never picked */
    const DrTemplate *template; /* the prompt is a user's message, put into it; NULL: it is the text */
    const char *system;     /* with a template: the system's text, or NULL */
    bool seed_given;        /* else the sampler goes on where that of state_in stands */
    bool allow_non_finite;  /* logits */
} DrTextOptions;

/* Who is told meanwhile. A zeroed one hears nothing. */
typedef struct DrTextHooks {
    void *context;
    /* A token that follows the prompt and the text that it adds, as in MossText. */
    void (*told)(void *context, int32_t token, const char *text, size_t size);
    /* Asked after every piece of the prompt and every burst of tokens: true ends the text there. */
    bool (*stop)(void *context);
} DrTextHooks;

/* Texts that end a text. */
typedef struct DrEnds {
    const char **texts; /* [count], the build's arena's */
    size_t count;
    size_t of_template; /* the one that is the template's end; SIZE_MAX: none is */
} DrEnds;

typedef struct DrText {
    DrBuild *build;
    const DrTextOptions *options;
    RtTokenizer *tokenizer;
    RtTokens prompt, tokens; /* tokens: those that follow */
    DrEnds ends;
    MossState *state;
    MossSampler sampler;
    MossPicker *picker; /* or NULL */
    uint64_t seed;      /* of the sampler */
    size_t read;        /* tokens of the prompt that the state has seen */
    MossStop stop;      /* MOSS_STOP_CALLER: DrTextHooks.stop said so, perhaps before the prompt was read */
    size_t steps;       /* tokens that were fed after the prompt */
    RtPromptCacheStats cached;
    double prefill_seconds, first_token_seconds, decode_seconds; /* first_token: from the start of prefill */
} DrText;

/* Whether the picking does anything that a sampler does not. */
bool dr_picks(const MossPicking *picking);
/* Makes the options' ids, and the template's end (NULL: no template), end a text of this tokenizer; lists the texts that do, of which the
 * template's end is one where it is not one token. false after adding to diags: too many ids, or one outside the vocabulary. */
bool dr_ends(DrBuild *build, RtTokenizer *tokenizer, const DrTextOptions *options, const DrTemplate *template, DrEnds *out);
/* A warning where both are given: the state has the conversation's beginning. */
void dr_warn_of_system(const char *system, const char *state_in, SuDiags *diags);

/* Opens the tokenizer and encodes the prompt. */
bool dr_text_prompt(DrText *text, DrBuild *build, const DrTextOptions *options, const char *prompt, size_t size);
/* Makes the state; with a cache dr_text_make does. */
bool dr_text_begin(DrText *text);
/* Reads the prompt (progress is told), makes the text and writes the state. */
bool dr_text_make(DrText *text, const DrProgress *progress, const DrTextHooks *hooks);
void dr_text_free(DrText *text); /* before its build */

#endif
