#include "runtime/stops.h"

#include <stdint.h>
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

/* Where the stop begins that is whole first, of several that end there the longest; SIZE_MAX: none is. */
static size_t find_whole(RtStops *s, size_t all) {
    size_t begin = SIZE_MAX;
    for (size_t end = s->size + 1; begin == SIZE_MAX && end <= all; end++) { /* in what was held there was none */
        for (size_t i = 0; i < s->count; i++) {
            size_t size = strlen(s->texts[i]);
            if (size > end || end - size >= begin || memcmp(s->held + end - size, s->texts[i], size) != 0) continue;
            begin = end - size;
            s->found = i;
        }
    }
    return begin;
}

/* Whether all of text[0..size) is the beginning of a stop. */
static bool begins_stop(const RtStops *s, const char *text, size_t size) {
    for (size_t i = 0; i < s->count; i++)
        if (strlen(s->texts[i]) > size && memcmp(s->texts[i], text, size) == 0) return true;
    return false;
}

bool rt_stops_add(RtStops *s, const char **text, size_t *size, bool *out_found) {
    size_t all = s->size + *size;
    *out_found = false;
    if (!reserve(&s->held, &s->held_room, all + 1) || !reserve(&s->given, &s->given_room, all + 1)) return false;
    memcpy(s->held + s->size, *text, *size);
    size_t whole = find_whole(s, all), given = 0;
    *out_found = whole != SIZE_MAX;
    if (*out_found)
        given = whole;
    else
        while (given < all && !begins_stop(s, s->held + given, all - given)) given++;
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
