#include "runtime/stops.h"

#include <string.h>

#include "support/alloc.h"

static bool reserve(char **text, size_t *room, size_t need) {
    if (need <= *room) return true;
    size_t more = need > 2 * *room ? need : 2 * *room;
    char *grown = su_realloc(*text, more);
    if (!grown) return false;
    *text = grown;
    *room = more;
    return true;
}

/* Whether text[0..size) is the beginning of a stop, or begins with one (*out_whole). */
static bool begins_stop(const RtStops *s, const char *text, size_t size, bool *out_whole) {
    bool begins = false;
    *out_whole = false;
    for (size_t i = 0; i < s->count; i++) {
        size_t stop = strlen(s->texts[i]), same = stop < size ? stop : size;
        if (memcmp(s->texts[i], text, same) != 0) continue;
        begins = true;
        *out_whole = *out_whole || same == stop;
    }
    return begins;
}

bool rt_stops_add(RtStops *s, const char **text, size_t *size, bool *out_found) {
    size_t all = s->size + *size, given = 0;
    *out_found = false;
    if (!reserve(&s->held, &s->held_room, all + 1) || !reserve(&s->given, &s->given_room, all + 1)) return false;
    memcpy(s->held + s->size, *text, *size);
    while (given < all && !begins_stop(s, s->held + given, all - given, out_found)) given++;
    memcpy(s->given, s->held, given);
    s->given[given] = '\0';
    s->size = all - given;
    memmove(s->held, s->held + given, s->size);
    s->held[s->size] = '\0';
    *text = s->given;
    *size = given;
    return true;
}

const char *rt_stops_rest(const RtStops *s, size_t *out_size) {
    *out_size = s->size;
    return s->held ? s->held : "";
}

void rt_stops_free(RtStops *s) {
    su_free(s->held);
    su_free(s->given);
    *s = (RtStops){0};
}
