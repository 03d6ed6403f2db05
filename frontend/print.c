/* A spec as YAML or JSON with every value written out: what is left when defaults, definitions, groups and --set have been
 * applied, by the table of keys. It reads back to the same FeSpec, names of blocks and places aside, and so to the same hash.
 * One line a top-level key and a block. */
#include <float.h>
#include <string.h>

#include "frontend/kinds.h"
#include "support/utf8.h"

typedef struct Print {
    SuText *out;
    bool json; /* else YAML, in which keys and words need no quotes */
} Print;

/* ---- scalars ---- */

/* A real that both languages take for one: with a point or an exponent. */
static void print_real(double value, SuText *out) {
    char buffer[SU_REAL];
    const char *text = su_real_text(value, buffer);
    su_text_add(out, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

/* What YAML allows in a text and does not take for a line break. */
static bool is_plain(uint32_t c) {
    return c >= ' ' && (c < 0x7F || c > 0x9F) && c != 0x2028 && c != 0x2029 && c != 0xFEFF && c != 0xFFFE && c != 0xFFFF;
}

/* In double quotes, which both languages read alike but for one escape. */
static void print_string(const Print *p, const char *text) {
    su_text_add(p->out, "\"");
    for (size_t left = strlen(text); left > 0;) {
        SuUtf8 c = su_utf8_at(text, left);
        if (c.code < ' ')
            su_text_add(p->out, p->json ? "\\u%04X" : "\\x%02X", (unsigned)c.code);
        else if (!is_plain(c.code))
            su_text_add(p->out, "\\u%04X", (unsigned)c.code);
        else
            su_text_add(p->out, "%s%.*s", *text == '"' || *text == '\\' ? "\\" : "", (int)c.size, text);
        text += c.size;
        left -= c.size;
    }
    su_text_add(p->out, "\"");
}

static void print_plain(const Print *p, const char *word, int size) {
    const char *quote = p->json ? "\"" : "";
    su_text_add(p->out, "%s%.*s%s", quote, size, word, quote);
}

static void print_key(const Print *p, const char *key) {
    print_plain(p, key, (int)strlen(key));
    su_text_add(p->out, ":");
}

/* Word `index` of a key; words that are not `bits` of it are passed over. */
static void print_words(const Print *p, const FeKeyRow *row, uint32_t bits, const char *separator) {
    const char *word, *between = "";
    int size;
    bool reserved;
    for (int i = 0; fe_word_at(row->words, i, &word, &size, &reserved); i++) {
        if (!(bits >> i & 1)) continue;
        su_text_add(p->out, "%s", between);
        print_plain(p, word, size);
        between = separator;
    }
}

/* ---- maps ---- */

static void print_map(const Print *p, const FeMap *map);
static void print_blocks(const Print *p, const FeValue *entries);

static void print_limits(const Print *p, const FeValue *value) {
    if (value->word) {
        print_plain(p, "none", 4);
        return;
    }
    su_text_add(p->out, "[");
    print_real(value->real, p->out);
    su_text_add(p->out, ", ");
    if (value->high < DBL_MAX)
        print_real(value->high, p->out);
    else
        print_plain(p, "none", 4);
    su_text_add(p->out, "]");
}

static void print_token(const Print *p, const char *text, bool none, int64_t id) {
    if (text)
        print_string(p, text);
    else if (none)
        su_text_add(p->out, "none");
    else
        su_text_add(p->out, "%lld", (long long)id);
}

/* A list of one is the token by itself. */
static void print_tokens(const Print *p, const FeValue *value) {
    if (value->word) print_token(p, NULL, true, 0);
    if (value->n_tokens > 1) su_text_add(p->out, "[");
    for (int64_t i = 0; i < value->n_tokens; i++) {
        su_text_add(p->out, "%s", i ? ", " : "");
        print_token(p, value->tokens[i].text, false, value->tokens[i].id);
    }
    if (value->n_tokens > 1) su_text_add(p->out, "]");
}

static void print_value(const Print *p, const FeKeyRow *row, const FeValue *value) {
    switch (row->type) {
    case FE_T_INT: su_text_add(p->out, "%lld", (long long)value->integer); return;
    case FE_T_INT_OR_WORD:
        if (value->word)
            print_plain(p, row->words, (int)strlen(row->words));
        else
            su_text_add(p->out, "%lld", (long long)value->integer);
        return;
    case FE_T_REAL: print_real(value->real, p->out); return;
    case FE_T_REAL_OR_WORD:
        if (value->word)
            print_plain(p, row->words, (int)strlen(row->words));
        else
            print_real(value->real, p->out);
        return;
    case FE_T_DECIMAL: su_text_add(p->out, "%s", value->text); return;
    case FE_T_BOOL: su_text_add(p->out, "%s", value->integer ? "true" : "false"); return;
    case FE_T_WORD: print_words(p, row, (uint32_t)1 << value->integer, ""); return;
    case FE_T_WORDS:
        su_text_add(p->out, "[");
        print_words(p, row, value->bits, ", ");
        su_text_add(p->out, "]");
        return;
    case FE_T_MODEL_NAME:
    case FE_T_NAME: print_plain(p, value->text, (int)strlen(value->text)); return;
    case FE_T_TEXT: print_string(p, value->text); return;
    case FE_T_TOKEN: print_token(p, value->text, value->word, value->integer); return;
    case FE_T_TOKENS: print_tokens(p, value); return;
    case FE_T_LIMITS: print_limits(p, value); return;
    case FE_T_MAP:
    case FE_T_MAP_OR_NONE:
        if (value->word)
            print_plain(p, "none", 4);
        else
            print_map(p, value->map);
        return;
    case FE_T_ENTRIES: print_blocks(p, value); return;
    case FE_T_DEFINES: /* what they gave is in the blocks */
    case FE_T_RESERVED: return;
    }
}

static void print_pair(const Print *p, const FeKeyRow *row, const FeValue *value) {
    print_key(p, row->name);
    if (p->json || row->type != FE_T_ENTRIES) su_text_add(p->out, " "); /* in YAML, blocks begin a line each */
    print_value(p, row, value);
}

/* JSON has no word beside a text: a token that is none is left out, which says the same. */
static bool is_printed(const Print *p, const FeMap *map, FeKey key) {
    const FeValue *value = fe_value(map, key);
    FeKeyType type = fe_key_row(key)->type;
    if (p->json && (type == FE_T_TOKEN || type == FE_T_TOKENS) && value->word) return false;
    return value->state == FE_GIVEN && !value->moot && !fe_only_word(fe_key_row(key));
}

static void print_map(const Print *p, const FeMap *map) {
    FeSectionRow row = fe_section_row(map->section);
    const char *between = "";
    su_text_add(p->out, "{");
    for (FeKey key = row.first; key < row.end; key++) {
        if (!is_printed(p, map, key)) continue;
        su_text_add(p->out, "%s", between);
        print_pair(p, fe_key_row(key), fe_value(map, key));
        between = ", ";
    }
    su_text_add(p->out, "}");
}

static void print_block(const Print *p, const FeBlock *block);

static void print_branches(const Print *p, const FeBlock *block) {
    su_text_add(p->out, "[");
    for (int64_t i = 0; i < block->n_branches; i++) {
        su_text_add(p->out, "%s{", i ? ", " : "");
        print_block(p, &block->branches[i]);
        su_text_add(p->out, "}");
    }
    su_text_add(p->out, "]");
}

/* The block's key and what stands there, in a map that is open. A share needs the other block's name. */
static void print_block(const Print *p, const FeBlock *block) {
    if (block->shared) {
        print_key(p, fe_key_row(KEY(entry, name))->name);
        su_text_add(p->out, " ");
        print_plain(p, block->name, (int)strlen(block->name));
        su_text_add(p->out, ", ");
    }
    print_key(p, block->share ? fe_key_row(KEY(entry, share))->name : fe_block_word(block));
    su_text_add(p->out, " ");
    if (block->n_branches > 0)
        print_branches(p, block);
    else
        print_map(p, block->share ? block->share->map : block->map);
}

static void print_blocks(const Print *p, const FeValue *entries) {
    for (int64_t i = 0; i < entries->n_blocks; i++) {
        const FeBlock *block = &entries->blocks[i];
        bool braces = p->json || block->shared;
        su_text_add(p->out, "%s%s", !p->json ? "\n  - " : i ? ",\n    " : "[\n    ", braces ? "{" : "");
        print_block(p, block);
        su_text_add(p->out, "%s", braces ? "}" : "");
    }
    su_text_add(p->out, "%s", p->json ? "\n  ]" : "");
}

/* ---- the file ---- */

static void print_file(const Print *p, const FeMap *file) {
    FeSectionRow row = fe_section_row(FE_SECTION_file);
    const char *between = p->json ? "{\n  " : "";
    for (FeKey key = row.first; key < row.end; key++) {
        if (!is_printed(p, file, key)) continue;
        su_text_add(p->out, "%s", between);
        print_pair(p, fe_key_row(key), fe_value(file, key));
        between = p->json ? ",\n  " : "\n";
    }
    su_text_add(p->out, "%s", p->json ? "\n}\n" : "\n");
}

void fe_print_spec(const FeSpec *spec, SuText *out) { print_file(&(Print){.out = out}, spec->map); }

void fe_print_spec_json(const FeSpec *spec, SuText *out) { print_file(&(Print){.out = out, .json = true}, spec->map); }
