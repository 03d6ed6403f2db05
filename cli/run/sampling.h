/* How tokens are picked and where a text ends: options that `run` and `chat` share. */
#ifndef MOSSC_CLI_RUN_SAMPLING_H
#define MOSSC_CLI_RUN_SAMPLING_H

#include "cli/options.h"
#include "driver/generate.h"
#include "driver/generation.h"

/* What was not given is NaN, and -1 for top_k: then the model's generation.yaml says it, or mossc. */
typedef struct CliSampling {
    double temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    int64_t top_k, repeat_last, max_tokens, logprobs;
    CliTexts stops, stop_ids, biases;
    bool ignore_eos;
    CliSeed seed;
} CliSampling;

#define CLI_SAMPLING_DEFAULTS(tokens)                                                                                              \
    {.temperature = __builtin_nan(""),                                                                                             \
     .top_p = __builtin_nan(""),                                                                                                   \
     .min_p = __builtin_nan(""),                                                                                                   \
     .repeat_penalty = __builtin_nan(""),                                                                                          \
     .top_k = -1,                                                                                                                  \
     .repeat_last = 64,                                                                                                            \
     .max_tokens = (tokens)}

/* Rows of a table; `Type` has a CliSampling called sampling. */
#define CLI_SAMPLING_ROWS(Type)                                                                                                    \
    CLI_ROW_REAL(Type, sampling.temperature, "temp", "T", 0, 1000,                                                                 \
                 "temperature (default 0.8, or the model's); 0 always takes the most probable token"),                             \
        CLI_ROW_INT(Type, sampling.top_k, "top-k", 0, "K", 0, 2147483647,                                                          \
                    "sample among the K most probable tokens (default 40, or the model's); 0: all"),                               \
        CLI_ROW_REAL(Type, sampling.top_p, "top-p", "P", 0, 1,                                                                     \
                     "sample among the fewest tokens whose probabilities add up to P (default 1: all, or the model's)"),           \
        CLI_ROW_REAL(Type, sampling.min_p, "min-p", "P", 0, 1,                                                                     \
                     "leave out tokens less probable than P times the most probable one (default 0: none, or the model's)"),       \
        CLI_ROW_REAL(Type, sampling.repeat_penalty, "repeat-penalty", "R", 0, 1000,                                                \
                     "divide logits of tokens that came before by R, multiply negative ones (default 1: no change, or the "        \
                     "model's)"),                                                                                                  \
        CLI_ROW_REAL(Type, sampling.presence_penalty, "presence-penalty", "A", -1000, 1000,                                        \
                     "subtract A from logits of tokens that came before (default 0)"),                                             \
        CLI_ROW_REAL(Type, sampling.frequency_penalty, "frequency-penalty", "A", -1000, 1000,                                      \
                     "subtract A as often as the token came before (default 0)"),                                                  \
        CLI_ROW_INT(Type, sampling.repeat_last, "repeat-last-n", 0, "N", -1, 2147483647,                                           \
                    "let penalties look at the last N tokens, the prompt's too (default 64); 0: at none; -1: at all"),             \
        CLI_ROW_TEXTS(Type, sampling.biases, "logit-bias", 0, "ID=B", false,                                                       \
                      "add B to the logit of token ID; -inf: never pick it; may be given several times"),                          \
        CLI_ROW_TEXTS(Type, sampling.stops, "stop", 0, "TEXT", false,                                                              \
                      "end where TEXT would come, which is not printed; may be given several times"),                              \
        CLI_ROW_TEXTS(Type, sampling.stop_ids, "stop-id", 0, "ID", false,                                                          \
                      "end at token ID too, besides the spec's eos; may be given several times"),                                  \
        CLI_ROW_FLAG(Type, sampling.ignore_eos, "ignore-eos", "never pick a token that ends the text"),                            \
        CLI_ROW_OWN_SEED(                                                                                                          \
            Type, sampling.seed, "seed", "N",                                                                                      \
            "of the sampler, 0 to 2^64 - 1 (default 0; with --state-in the sampler of the state goes on, unless another seed "     \
            "than its own is given); the same seed gives the same text on every machine")

#define CLI_ABOUT_SAMPLING                                                                                                         \
    "A token is picked in these steps: --logit-bias, penalties, temperature, top-k, top-p (of the probabilities at that "          \
    "temperature), min-p. What is not given is taken from generation.yaml beside the spec, if `mossc import` has written one."

/* Fills in what the options, and else the model, say. Lists are the arena's. false after adding to diags. */
bool cli_sampling(const CliSampling *options, const DrGeneration *model, SuArena *arena, DrTextOptions *out, SuDiags *diags);

#endif
