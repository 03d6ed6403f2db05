/* generation.yaml, beside a spec: what a checkpoint says of making text (mossc import writes it). */
#ifndef MOSSC_DRIVER_GENERATION_H
#define MOSSC_DRIVER_GENERATION_H

#include "frontend/edit.h"
#include "mossc/moss.h"

/* What is not said is NaN, and -1 for top_k. */
typedef struct DrGeneration {
    double temperature, top_p, min_p, repeat_penalty;
    int64_t top_k;
    int32_t stops[MOSS_MAX_ENDS]; /* [n_stops] ids that end a text, besides the spec's eos */
    uint32_t n_stops;
    const char *chat_template; /* Jinja; NULL: none */
    FeBase base; /* the file */
} DrGeneration;

/* Reads DIRECTORY/generation.yaml for a spec DIRECTORY/…; a file that is not there says nothing. false after adding to
 * diags: a file that is no YAML, or a value that makes no sense. A key that is not known is a warning. Must be freed either way, once
 * messages were printed, which point into it. */
bool dr_generation_read(const char *spec, DrGeneration *out, SuDiags *diags);
/* Puts what mossc does by default in place of what was not said; but for the template and the stops, which stay as they are. */
void dr_generation_fill(DrGeneration *generation);
void dr_generation_free(DrGeneration *generation);

#endif
