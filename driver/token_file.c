/* Token ids as text. */
#include "driver/token_file.h"

#include <inttypes.h>
#include <string.h>

#include "driver/text.h"
#include "support/file.h"

enum { MAX_TOKEN_FILE = 1 << 30 };

/* A place in the text, 1-based; ids and separators are ASCII, so a byte is a character up to the first mistake. */
typedef struct Cursor {
    const SuSource *source;
    size_t at;
    uint32_t line, column;
} Cursor;

static void skip_separators(Cursor *c) {
    while (c->at < c->source->size && memchr(" \t\r\n,", c->source->text[c->at], 5)) {
        bool line_ends = c->source->text[c->at++] == '\n';
        c->column = line_ends ? 1 : c->column + 1;
        c->line += line_ends;
    }
}

static size_t word_size(const Cursor *c) {
    size_t end = c->at;
    while (end < c->source->size && !memchr(" \t\r\n,", c->source->text[end], 5)) end++;
    return end - c->at;
}

/* The id at the cursor, `size` characters long. */
static bool read_id(const Cursor *c, size_t size, int64_t vocab_size, int32_t *out_id, SuDiags *diags) {
    SuSpan span = {.source = c->source, .line = c->line, .column = c->column, .length = (uint32_t)(size < 1000 ? size : 1000)};
    int64_t id = 0;
    for (size_t i = 0; i < size; i++) {
        char digit = c->source->text[c->at + i];
        if (digit < '0' || digit > '9')
            return su_error(diags, span, "ids are separated by blanks, commas or line breaks", "not a token id");
        if (id < vocab_size) id = id * 10 + (digit - '0');
    }
    if (id >= vocab_size) return su_error(diags, span, NULL, "token id too large: the spec's vocab_size is %" PRId64, vocab_size);
    *out_id = (int32_t)id;
    return true;
}

bool dr_read_tokens(SuArena *arena, const char *path, int64_t vocab_size, int32_t **out_tokens, size_t *out_count, SuDiags *diags) {
    char *text;
    size_t size, capacity = 0, count = 0;
    if (!su_read_file(arena, path, MAX_TOKEN_FILE, &text, &size, diags)) return false;
    dr_skip_bom(path, &text, &size, diags);
    SuSource *source = SU_NEW(arena, SuSource);
    *source = (SuSource){.path = path, .text = text, .size = size};
    Cursor c = {.source = source, .line = 1, .column = 1};
    int32_t *tokens = NULL;
    for (skip_separators(&c); c.at < size; skip_separators(&c)) {
        size_t length = word_size(&c);
        tokens = su_grow(arena, tokens, &capacity, count + 1, sizeof tokens[0]);
        if (!read_id(&c, length, vocab_size, &tokens[count], diags)) return false;
        count++;
        c.at += length;
        c.column += (uint32_t)length;
    }
    if (!count) return su_error(diags, su_file_span(diags, path), NULL, "holds no token ids");
    *out_tokens = tokens;
    *out_count = count;
    return true;
}
