/* Texts that end a text: looked for in what comes piece by piece. */
#ifndef MOSSC_RUNTIME_STOPS_H
#define MOSSC_RUNTIME_STOPS_H

#include <stdbool.h>
#include <stddef.h>

/* What may be the beginning of one is held back. */
typedef struct RtStops {
    const char *const *texts; /* [count], none empty */
    size_t count;
    size_t found; /* which one it was, once there is one; of equal texts the first */
    char *held, *given; /* malloced */
    size_t size, held_room, given_room;
} RtStops; /* `RtStops s = {.texts = …, .count = …};` stands before the first piece */

/* A piece comes; *text, *size is then what may be given out, with a NUL behind it, valid until the next call: all before a stop
 * when one is whole (*out_found), the first that is, else all that is no beginning of one. false: no memory, and the piece is lost. */
bool rt_stops_add(RtStops *stops, const char **text, size_t *size, bool *out_found);
/* What is held, when no more comes. */
const char *rt_stops_rest(const RtStops *stops, size_t *out_size);
void rt_stops_free(RtStops *stops);

#endif
