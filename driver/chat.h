/* A conversation: messages of a user and answers of a model, by a chat template. A turn feeds its own tokens only: the state has all
 * that came before.
 *
 * Functions give false after adding the reason to build->diags; the conversation then stands where it stood. */
#ifndef MOSSC_DRIVER_CHAT_H
#define MOSSC_DRIVER_CHAT_H

#include "driver/generate.h"

/* Where a user's message begins, and what stood there. */
typedef struct DrTurn {
    size_t begin; /* in `fed` */
    MossSampler sampler;
    bool end_fed;
} DrTurn;

typedef struct DrChat {
    DrBuild *build;
    const DrTextOptions *options;
    const DrTemplate *template;
    const char *system; /* NULL: the template's own */
    RtTokenizer *tokenizer;
    MossState *state;
    MossPicker *picker; /* or NULL */
    MossSampler sampler;
    uint64_t seed;
    DrEnds ends;
    RtTokens fed; /* tokens that the state has seen since it was new or loaded */
    int64_t loaded; /* position of the state that was loaded; 0: none was */
    const char *loaded_from; /* its file, or NULL */
    DrTurn *turns; /* [n_turns], malloced */
    size_t n_turns, turns_capacity;
    size_t checkpoint; /* the turn before which the state's checkpoint stands; SIZE_MAX: none */
    bool end_fed; /* the last answer's end is in the state: it was a text. A state's file does not say so */
} DrChat;

/* What a turn took. */
typedef struct DrTurnReport {
    bool taken_back; /* DrTextHooks.stop ended the reading of the message, and the conversation stands where it stood */
    size_t read, made; /* tokens */
    double read_seconds, made_seconds;
    MossStop stop;
} DrTurnReport;

/* After dr_build_model. `options` (count is that of an answer), template and system must live as long. */
bool dr_chat_begin(DrChat *chat, DrBuild *build, const DrTextOptions *options, const DrTemplate *template, const char *system);
/* A message, and the answer to it, which hooks are told. */
bool dr_chat_turn(DrChat *chat, const char *text, const DrTextHooks *hooks, DrTurnReport *out);
/* Takes the last message and its answer back. The first time after a turn the state is there at once; else it is made again. false with an
 * error also when there is none. */
bool dr_chat_undo(DrChat *chat);
/* Begins anew, with another system's text. */
bool dr_chat_clear(DrChat *chat, const char *system);
/* The state as a file, and from one: it goes on, but what came before it cannot be taken back. */
bool dr_chat_save(DrChat *chat, const char *path);
bool dr_chat_load(DrChat *chat, const char *path);
void dr_chat_free(DrChat *chat); /* before its build */

#endif
