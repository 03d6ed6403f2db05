#include "frontend/invisible.h"

#include <stddef.h>
#include <string.h>

static bool is_blank(uint32_t c) { return c == ' ' || c == '\t'; }

static bool is_line_end(uint32_t c) { return c == '\n' || c == '\r'; }

static bool is_one_of(uint32_t c, const char *characters) { return c > 0 && c < 0x80 && strchr(characters, (int)c); }

/* Quotes may span lines; everything else ends, and a block scalar begins. */
static void end_line(FePlace *p) {
    p->block = p->block || p->header;
    p->header = p->comment = p->plain = p->property = p->escaped = p->behind_indent = false;
    p->indent = 0;
}

static void take_quoted(FePlace *p, uint32_t c) {
    if (p->escaped)
        p->escaped = false;
    else if (p->quote == '"' && c == '\\')
        p->escaped = true;
    else if (c == (uint32_t)p->quote)
        p->quote = 0;
}

static void begin_header(FePlace *p) {
    p->header = p->property = true;
    p->block_indent = p->indent;
}

/* What a token begins with says what it is. '-' and '?' are indicators where a blank follows, else plain. */
static void begin_token(FePlace *p, uint32_t c) {
    if (is_one_of(p->before, "-?"))
        p->plain = true;
    else if (c == '"' || c == '\'')
        p->quote = (char)c;
    else if (is_one_of(c, "|>") && p->flow == 0)
        begin_header(p);
    else if (is_one_of(c, "&*!"))
        p->property = true;
    else if (!is_one_of(c, "-?:,"))
        p->plain = true;
}

static void take_visible(FePlace *p, uint32_t c) {
    bool blank_before = is_blank(p->before) || is_line_end(p->before) || p->before == 0;
    bool bracket = is_one_of(c, "[]{}") && (p->flow > 0 || !p->plain);
    if (c == '#' && blank_before) {
        p->comment = true;
    } else if (is_blank(c)) {
        p->property = false;
        if (p->before == ':') p->plain = false;
    } else if (bracket) {
        p->plain = p->property = false;
        if (is_one_of(c, "[{"))
            p->flow++;
        else if (p->flow > 0)
            p->flow--;
    } else if (c == ',' && p->flow > 0) {
        p->plain = p->property = false;
    } else if (!p->plain && !p->property) {
        begin_token(p, c);
    }
}

void fe_place_take(FePlace *p, uint32_t c) {
    if (is_line_end(c)) {
        end_line(p);
    } else if (!p->behind_indent && !p->quote && c == ' ') {
        p->indent++;
    } else {
        if (!p->behind_indent && p->block && p->indent <= p->block_indent) p->block = false;
        p->behind_indent = true;
        if (p->quote)
            take_quoted(p, c);
        else if (!p->comment && !p->block)
            take_visible(p, c);
    }
    p->before = c;
}

bool fe_place_is_text(const FePlace *p) {
    bool in_block = p->block && (p->behind_indent || p->indent > p->block_indent);
    return p->quote || p->comment || in_block;
}

const char *fe_invisible(const FePlace *p, uint32_t c) {
    if (c < 0x80 || fe_place_is_text(p)) return NULL;
    switch (c) {
#define INVISIBLE(code, name)                                                                                                      \
    case code: return name;
#define JOINER(code, name)                                                                                                         \
    case code: return p->before < 0x80 ? name : NULL;
#include "frontend/invisible.def"
    }
    return c >= 0xE0000 && c <= 0xE007F ? "TAG CHARACTER" : NULL;
}
