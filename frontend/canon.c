/* The canonical text of a spec: every key of the table as it is after defaults, without names and places. Its hash names the
 * model, so a spec's text never changes: keys.def says what stands where and how.
 *
 * A map is a line that begins with its key, its values are " key=value". */
#include <string.h>

#include "frontend/kinds.h"

typedef struct Canon {
    SuText *out;
    bool inside; /* of a line */
    FeCanonical *pieces; /* or NULL: all goes to one text */
} Canon;

static void end_line(Canon *c) {
    if (c->inside) su_text_add(c->out, "\n");
    c->inside = false;
}

static void begin_line(Canon *c, const char *word) {
    end_line(c);
    su_text_add(c->out, "%s", word);
    c->inside = true;
}

/* `inline_key`: the key of an inline map around it, or NULL. */
static void print_name(Canon *c, FeKey key, const char *inline_key) {
    const char *name = fe_hash_name(key);
    su_text_add(c->out, "%s", c->inside ? " " : "");
    if (name)
        su_text_add(c->out, "%s", name);
    else
        su_text_add(c->out, "%s%s%s", inline_key ? inline_key : "", inline_key ? "_" : "", fe_key_row(key)->name);
    c->inside = true;
}

static void print_word(Canon *c, FeKey key, int64_t index) {
    const char *word;
    int size;
    bool reserved;
    if (!fe_word_at(fe_key_row(key)->words, (int)index, &word, &size, &reserved)) SU_BUG("no word %lld", (long long)index);
    su_text_add(c->out, "=%.*s", size, word);
}

/* The length keeps any text apart from what follows. */
static void print_text(Canon *c, const char *text) { su_text_add(c->out, "=%zu:%s", strlen(text), text); }

static void print_map(Canon *c, const FeMap *map, const char *inline_key);

/* A line each, which begins with the kind. A parallel's branches follow it; a share names the other block by its number. */
static void print_blocks(Canon *c, const FeBlock *blocks, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const FeBlock *block = &blocks[i];
        begin_line(c, block->share ? fe_key_row(KEY(entry, share))->name : fe_block_word(block));
        if (block->n_branches > 0) {
            su_text_add(c->out, " branches=%lld", (long long)block->n_branches);
            print_blocks(c, block->branches, block->n_branches);
        } else {
            if (block->share) su_text_add(c->out, " of=%lld", (long long)block->share->of);
            print_map(c, block->share ? block->share->map : block->map, NULL);
        }
        end_line(c);
    }
}

/* The stack, which stands alone in its lines: what comes before it, each block, and what follows are texts of their own. */
static void print_stack(Canon *c, const FeBlock *blocks, int64_t n) {
    if (!c->pieces) {
        print_blocks(c, blocks, n);
        return;
    }
    end_line(c);
    for (int64_t i = 0; i < n; i++) {
        c->out = &c->pieces->blocks[i];
        print_blocks(c, &blocks[i], 1);
    }
    c->out = &c->pieces->after;
}

static void print_token(Canon *c, FeKey key, const char *inline_key, const char *text, int64_t id) {
    print_name(c, key, inline_key);
    if (text) {
        su_text_add(c->out, "_text");
        print_text(c, text);
    } else {
        su_text_add(c->out, "=%lld", (long long)id);
    }
}

/* Seventeen digits tell any two doubles apart. */
static void print_value(Canon *c, FeKey key, const FeValue *value, const char *inline_key) {
    const FeKeyRow *row = fe_key_row(key);
    FeHashForm form = fe_hash_form(key);
    switch (row->type) {
    case FE_T_INT:
    case FE_T_BOOL:
    case FE_T_INT_OR_WORD:
        print_name(c, key, inline_key);
        su_text_add(c->out, "=%lld", value->word ? 0 : (long long)value->integer);
        return;
    case FE_T_REAL:
    case FE_T_REAL_OR_WORD:
        print_name(c, key, inline_key);
        su_text_add(c->out, "=%.17g", value->word ? 0 : value->real);
        return;
    case FE_T_WORD:
        print_name(c, key, inline_key);
        if (form == FE_HASH_VALUE)
            su_text_add(c->out, "=%lld", (long long)value->integer);
        else
            print_word(c, key, value->integer);
        return;
    case FE_T_WORDS:
        print_name(c, key, inline_key);
        su_text_add(c->out, "=%u", (unsigned)value->bits);
        return;
    case FE_T_MODEL_NAME:
    case FE_T_NAME:
    case FE_T_TEXT:
    case FE_T_DECIMAL:
        print_name(c, key, inline_key);
        print_text(c, value->text);
        return;
    case FE_T_TOKEN: print_token(c, key, inline_key, value->text, value->word ? -1 : value->integer); return;
    case FE_T_TOKENS: /* each as if it were the only one */
        if (value->word) print_token(c, key, inline_key, NULL, -1);
        for (int64_t i = 0; i < value->n_tokens; i++) print_token(c, key, inline_key, value->tokens[i].text, value->tokens[i].id);
        return;
    case FE_T_LIMITS: /* hashed where it is not none */
        print_name(c, key, inline_key);
        su_text_add(c->out, "=%.17g:%.17g", value->real, value->high);
        return;
    case FE_T_MAP:
    case FE_T_MAP_OR_NONE:
        if (value->word) return;
        if (form != FE_HASH_INLINE) begin_line(c, row->name);
        print_map(c, value->map, form == FE_HASH_INLINE ? row->name : NULL);
        if (form != FE_HASH_INLINE) end_line(c);
        return;
    case FE_T_ENTRIES: print_stack(c, value->blocks, value->n_blocks); return;
    case FE_T_DEFINES:
    case FE_T_RESERVED: return;
    }
}

static void print_key(Canon *c, const FeMap *map, FeKey key, const char *inline_key) {
    const FeValue *value = fe_value(map, key);
    FeHashForm form = fe_hash_form(key);
    bool silent = value->state != FE_GIVEN || form == FE_HASH_NEVER || (form == FE_HASH_CHANGED && fe_is_default(key, value));
    if (!silent) print_value(c, key, value, inline_key);
}

static void print_map(Canon *c, const FeMap *map, const char *inline_key) {
    FeSectionRow row = fe_section_row(map->section);
    for (FeKey key = row.first; key < row.end; key++) {
        if (fe_hash_after(key) != FE_KEY_none) continue;
        print_key(c, map, key, inline_key);
        for (FeKey other = row.first; other < row.end; other++)
            if (fe_hash_after(other) == key) print_key(c, map, other, inline_key);
    }
}

void fe_print_canonical(const FeSpec *spec, SuText *out) {
    Canon c = {.out = out};
    su_text_add(out, "mossc 1\n");
    print_map(&c, spec->map, NULL);
}

void fe_print_canonical_pieces(const FeSpec *spec, FeCanonical *out) {
    Canon c = {.out = &out->before, .pieces = out};
    su_text_add(c.out, "mossc 1\n");
    print_map(&c, spec->map, NULL);
}
