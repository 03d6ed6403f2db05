/* Invisible characters in YAML: where they are text, and where they hide a mistake. */
#ifndef MOSSC_FRONTEND_INVISIBLE_H
#define MOSSC_FRONTEND_INVISIBLE_H

#include <stdbool.h>
#include <stdint.h>

/* Where a character stands, as far as that matters here: read from the front, one character after the other, by the rules of
 * YAML's scanner in short. A zeroed one stands at the start of a text. */
typedef struct FePlace {
    uint32_t before;                   /* the last character; 0 at the start */
    uint32_t indent, block_indent;     /* spaces before the line; before the line of a block scalar's header */
    uint32_t flow;                     /* open brackets and braces */
    char quote;                        /* of the quoted scalar around it, or 0 */
    bool escaped;                      /* behind a backslash in double quotes */
    bool behind_indent;                /* not in the spaces that a line begins with */
    bool plain, property;              /* in a plain scalar; in an anchor, alias, tag or block scalar's header */
    bool header, block;                /* a block scalar begins with the next line; inside one */
    bool comment;
} FePlace;

/* Takes the next character. */
void fe_place_take(FePlace *place, uint32_t c);
/* Whether what comes next is text: quoted, of a block scalar or of a comment. */
bool fe_place_is_text(const FePlace *place);
/* The name of a character that cannot be seen where it stands, or NULL. */
const char *fe_invisible(const FePlace *place, uint32_t c);

#endif
