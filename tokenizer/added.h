/* Added tokens: texts that are found in the input before anything splits it, with Hugging Face's flags. */
#ifndef MOSSC_TOKENIZER_ADDED_H
#define MOSSC_TOKENIZER_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "support/arena.h"
#include "support/limits.h"
#include "tokenizer/unicode.h"

enum {
    TK_MAX_ADDED = SU_LIMIT(1024, 32)
}; /* bytes of one: what a character of text costs at most, should all of them begin alike */

typedef struct TkAddedToken {
    int32_t id;
    const char *text; /* as it is looked for */
    size_t size;      /* 1 to TK_MAX_ADDED */
    bool single_word, lstrip, rstrip;
} TkAddedToken;

/* A tree of bytes. Node 0 stands for nothing. */
typedef struct TkAddedNode {
    uint32_t child, sibling;
    int32_t token; /* -1: no text ends here */
    uint8_t byte;
} TkAddedNode;

typedef struct TkAdded {
    TkAddedToken *tokens;
    size_t count, capacity;
    TkAddedNode *nodes;
    size_t n_nodes, nodes_capacity;
    uint32_t first[256];
    const TkUnicode *unicode; /* for single_word */
} TkAdded; /* in an arena; `TkAdded a = {0};` holds nothing */

/* -1, or the index of the token that has this text already; only then nothing is added. */
int32_t tk_added_add(TkAdded *added, SuArena *arena, const TkAddedToken *token);

/* Goes through text[0..size), UTF-8, and calls `piece` for every stretch in order: id -1 for text between tokens (never empty).
 * Where several tokens begin, the longest is taken. Stops when `piece` returns false, which is then returned. */
typedef bool TkPiece(void *context, int32_t id, const char *text, size_t size);
bool tk_added_split(const TkAdded *added, const char *text, size_t size, TkPiece *piece, void *context);

#endif
