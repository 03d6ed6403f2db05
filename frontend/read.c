/* Reading values by the type that their key wants. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "frontend/keys.h"
#include "support/str.h"

/* "one of a, b and c", without reserved words */
static const char *word_list(SuArena *arena, const char *words) {
    SuText text = {0};
    const char *word;
    int size;
    bool reserved;
    for (int i = 0; fe_word_at(words, i, &word, &size, &reserved); i++)
        if (!reserved) su_text_add(&text, "%s%.*s", text.size ? ", " : "", size, word);
    const char *copy = su_printf(arena, "%s%s", strchr(text.text, ',') ? "one of " : "", text.text);
    su_text_free(&text);
    return copy;
}

/* What a key wants, for messages. */
static const char *expected(SuArena *arena, const FeKeyRow *row) {
    switch (row->type) {
    case FE_T_INT:
        if (row->least == row->most) return su_printf(arena, "%lld", (long long)row->least);
        return su_printf(arena, "an integer from %lld to %lld", (long long)row->least, (long long)row->most);
    case FE_T_INT_OR_WORD:
        return su_printf(arena, "an integer from %lld to %lld, or %s", (long long)row->least, (long long)row->most, row->words);
    case FE_T_REAL_OR_WORD: return su_printf(arena, "a finite number above 0, or %s", row->words);
    case FE_T_REAL:
    case FE_T_DECIMAL: return "a finite number above 0";
    case FE_T_BOOL: return "true or false";
    case FE_T_WORD: return word_list(arena, row->words);
    case FE_T_WORDS: return su_printf(arena, "a list of words, each %s", word_list(arena, row->words));
    case FE_T_MODEL_NAME: return "a name of a-z, 0-9, '.', '_' and '-'";
    case FE_T_NAME: return "a name of a-z, 0-9, '_' and '-' that begins with a letter";
    case FE_T_TEXT: return "a text";
    case FE_T_TOKEN: return "none, a token or an id";
    case FE_T_TOKENS: return su_printf(arena, "none, a token or an id, or a list of 1 to %d of them", MOSS_MAX_ENDS);
    case FE_T_LIMITS: return "[low, high] with 0 <= low < high, where high may be none; or none";
    case FE_T_MAP: return "a map";
    case FE_T_MAP_OR_NONE: return "a map or none";
    case FE_T_ENTRIES: return "a list of blocks, groups and words";
    case FE_T_DEFINES: return "a map of named blocks";
    case FE_T_RESERVED: return "nothing";
    }
    SU_BUG("key type %d", (int)row->type);
}

static bool looks_numeric(const char *text) {
    text += *text == '-' || *text == '+';
    return *text >= '0' && *text <= '9';
}

/* Why a value that looks right is not. */
static const char *advice(const FeKeyRow *row, const FeNode *node) {
    bool integer = row->type == FE_T_INT || row->type == FE_T_INT_OR_WORD;
    bool number = integer || row->type == FE_T_REAL || row->type == FE_T_REAL_OR_WORD || row->type == FE_T_DECIMAL;
    double real = 0;
    int64_t whole;
    if (node->kind != FE_SCALAR || fe_node_empty(node)) return NULL;
    if (!node->plain && number && looks_numeric(node->text)) return "a quoted number is not a number: leave out the quotes";
    if (!node->plain && row->type == FE_T_BOOL) return "a quoted word is not a truth value: leave out the quotes";
    if (integer && fe_parse_real(node->text, &real) && !fe_parse_integer(node->text, &whole))
        return "an integer is written in decimal digits only, without sign, point or exponent";
    if (number && looks_numeric(node->text) && !fe_parse_real(node->text, &real))
        return "numbers are decimal: no leading zero, no '_', no '0x'";
    if (number && looks_numeric(node->text) && real > 0 && isinf((float)real))
        return "it is too large for float32: at most 3.4028234e38";
    if (number && looks_numeric(node->text) && real > 0 && (float)real == 0) return "as float32 it is 0: at least 1e-45";
    return NULL;
}

/* Whether it is finite as float32, and 0 only if it is 0. */
static bool is_float32(double real) { return isfinite((float)real) && ((float)real != 0 || real == 0); }

static FeValue broken(FeValue value) {
    value.state = FE_BROKEN;
    return value;
}

static FeValue wrong_value(const FeReader *r, const FeNode *node, FeKey key, FeValue value) {
    const FeKeyRow *row = fe_key_row(key);
    if (node->kind != FE_POISON) {
        su_report(r->diags, SU_CODE_wrong_value, node->span, advice(row, node), "'%s': expected %s, got %s",
                  fe_key_name(r->arena, key), expected(r->arena, row), fe_node_what(r->arena, node));
    }
    return broken(value);
}

/* ---- scalars ---- */

static bool is_word(const FeNode *node, const char *word) { return node->kind == FE_SCALAR && strcmp(node->text, word) == 0; }

static FeValue read_integer(const FeReader *r, const FeNode *node, FeKey key, FeValue value) {
    const FeKeyRow *row = fe_key_row(key);
    if (row->type == FE_T_INT_OR_WORD && is_word(node, row->words)) {
        value.word = true;
        return value;
    }
    bool ok = node->kind == FE_SCALAR && node->plain && fe_parse_integer(node->text, &value.integer);
    return ok && value.integer >= row->least && value.integer <= row->most ? value : wrong_value(r, node, key, value);
}

static FeValue read_real(const FeReader *r, const FeNode *node, FeKey key, FeValue value) {
    if (fe_key_row(key)->type == FE_T_REAL_OR_WORD && is_word(node, fe_key_row(key)->words)) {
        value.word = true;
        return value;
    }
    bool ok = node->kind == FE_SCALAR && node->plain && fe_parse_real(node->text, &value.real);
    value.text = node->text;
    return ok && is_float32(value.real) && value.real > 0 ? value : wrong_value(r, node, key, value);
}

static FeValue read_bool(const FeReader *r, const FeNode *node, FeKey key, FeValue value) {
    value.integer = is_word(node, "true");
    return node->plain && (value.integer || is_word(node, "false")) ? value : wrong_value(r, node, key, value);
}

/* The index of a word in a list of words, -1 when it is none. */
static int find_word(const char *words, const char *text, bool *out_reserved) {
    const char *word;
    int size;
    for (int i = 0; fe_word_at(words, i, &word, &size, out_reserved); i++)
        if (strlen(text) == (size_t)size && memcmp(text, word, (size_t)size) == 0) return i;
    return -1;
}

static const char *nearest_word(SuArena *arena, const char *words, const char *text) {
    enum { MOST_WORDS = 32 };
    const char *list[MOST_WORDS], *word;
    int size, count = 0;
    bool reserved;
    for (int i = 0; count < MOST_WORDS && fe_word_at(words, i, &word, &size, &reserved); i++)
        if (!reserved) list[count++] = su_strndup(arena, word, (size_t)size);
    return su_nearest(text, list, (size_t)count);
}

/* One word of a WORD or WORDS key; -1 after an error. */
static int read_one_word(const FeReader *r, const FeNode *node, FeKey key) {
    const FeKeyRow *row = fe_key_row(key);
    bool reserved = false;
    int index = node->kind == FE_SCALAR ? find_word(row->words, node->text, &reserved) : -1;
    const char *name = fe_key_name(r->arena, key);
    if (index >= 0 && reserved) {
        su_report(r->diags, SU_CODE_not_in_version, node->span, NULL, "'%s': %s is not supported in this version", name,
                  node->text);
        return -1;
    }
    if (index < 0 && node->kind != FE_POISON) {
        const char *near = node->kind == FE_SCALAR ? nearest_word(r->arena, row->words, node->text) : NULL;
        const char *hint = near ? su_printf(r->arena, "did you mean '%s'?", near) : NULL;
        su_report(r->diags, SU_CODE_wrong_value, node->span, hint, "'%s': expected %s, got %s", name,
                  word_list(r->arena, row->words), fe_node_what(r->arena, node));
    }
    return index;
}

static FeValue read_word(const FeReader *r, const FeNode *node, FeKey key, FeValue value) {
    value.integer = read_one_word(r, node, key);
    return value.integer < 0 ? broken(value) : value;
}

static FeValue read_words(const FeReader *r, const FeNode *node, FeKey key, FeValue value) {
    if (node->kind != FE_SEQUENCE) return wrong_value(r, node, key, value);
    if (node->count == 0) {
        su_report(r->diags, SU_CODE_wrong_value, node->span, NULL, "'%s' is empty: name at least one of its words",
                  fe_key_name(r->arena, key));
        return broken(value);
    }
    for (size_t i = 0; i < node->count; i++) {
        int index = read_one_word(r, node->items[i], key);
        if (index < 0) {
            value.state = FE_BROKEN;
        } else if (value.bits & 1u << index) {
            su_report(r->diags, SU_CODE_wrong_value, node->items[i]->span, NULL, "'%s': duplicate word %s",
                      fe_key_name(r->arena, key), node->items[i]->text);
            value.state = FE_BROKEN;
        } else {
            value.bits |= 1u << index;
        }
    }
    return value;
}

/* ---- texts ---- */

/* Names that other YAML tools would read as truth values are refused; quoted ones are read alike everywhere. */
static FeValue read_name(const FeReader *r, const FeNode *node, FeKey key, FeValue value) {
    bool text = node->kind == FE_SCALAR && node->text[0];
    bool ok = text && (fe_key_row(key)->type == FE_T_NAME
                           ? fe_is_name(node->text)
                           : strspn(node->text, "abcdefghijklmnopqrstuvwxyz0123456789._-") == strlen(node->text));
    value.text = node->text;
    if (ok && node->plain && fe_is_truth_word(node->text)) {
        su_report(r->diags, SU_CODE_bad_name, node->span, "choose another name", "'%s': YAML tools read %s as a truth value",
                  fe_key_name(r->arena, key), node->text);
        return broken(value);
    }
    return ok ? value : wrong_value(r, node, key, value);
}

static FeValue read_text(const FeReader *r, const FeNode *node, FeKey key, FeValue value) {
    value.text = node->text;
    return node->kind == FE_SCALAR && node->text[0] ? value : wrong_value(r, node, key, value);
}

static FeValue read_token(const FeReader *r, const FeNode *node, FeKey key, FeValue value) {
    value.integer = -1;
    if (node->kind != FE_SCALAR || !node->text[0]) return wrong_value(r, node, key, value);
    if (node->plain && strcmp(node->text, "none") == 0) {
        value.word = true;
    } else if (node->plain && looks_numeric(node->text)) {
        bool ok = fe_parse_integer(node->text, &value.integer) && value.integer <= fe_key_row(key)->most;
        return ok ? value : wrong_value(r, node, key, value);
    } else {
        value.text = node->text;
    }
    return value;
}

static bool has_token(const FeToken *tokens, int64_t count, const FeToken *other) {
    for (int64_t i = 0; i < count; i++) {
        bool texts = tokens[i].text && other->text, ids = !tokens[i].text && !other->text;
        if (texts ? strcmp(tokens[i].text, other->text) == 0 : ids && tokens[i].id == other->id) return true;
    }
    return false;
}

static FeValue read_tokens(const FeReader *r, const FeNode *node, FeKey key, FeValue value) {
    bool list = node->kind == FE_SEQUENCE;
    size_t count = list ? node->count : 1;
    if (count < 1 || count > MOSS_MAX_ENDS) return wrong_value(r, node, key, value);
    FeToken *tokens = SU_NEW_ARRAY(r->arena, FeToken, count);
    for (size_t i = 0; i < count; i++) {
        const FeNode *item = list ? node->items[i] : node;
        FeValue one = read_token(r, item, key, value);
        if (one.state == FE_GIVEN && list && one.word) one = wrong_value(r, item, key, value);
        if (one.state != FE_GIVEN || one.word) return one;
        tokens[i] = (FeToken){.id = one.integer, .text = one.text, .span = item->span};
        if (has_token(tokens, (int64_t)i, &tokens[i])) {
            su_report(r->diags, SU_CODE_wrong_value, item->span, NULL, "'%s': duplicate token %s", fe_key_name(r->arena, key),
                      item->text);
            return broken(value);
        }
    }
    value.tokens = tokens;
    value.n_tokens = (int64_t)count;
    return value;
}

static bool read_limit(const FeNode *node, double *out) {
    return node->kind == FE_SCALAR && node->plain && fe_parse_real(node->text, out) && *out >= 0 && is_float32(*out);
}

static FeValue read_limits(const FeReader *r, const FeNode *node, FeKey key, FeValue value) {
    if (is_word(node, "none")) {
        value.word = true;
        return value;
    }
    value.high = DBL_MAX;
    bool pair = node->kind == FE_SEQUENCE && node->count == 2 && read_limit(node->items[0], &value.real);
    bool ok = pair && (is_word(node->items[1], "none") || read_limit(node->items[1], &value.high));
    return ok && value.real < value.high ? value : wrong_value(r, node, key, value);
}

/* ---- maps ---- */

static FeValue read_child(const FeReader *r, const FeNode *node, FeKey key, FeValue value) {
    const FeKeyRow *row = fe_key_row(key);
    if (row->type == FE_T_MAP_OR_NONE && is_word(node, "none")) {
        value.word = true;
        return value;
    }
    if (node->kind != FE_MAPPING && !fe_node_empty(node)) return wrong_value(r, node, key, value);
    value.map = fe_read_map(r, node, row->child, value.key_span);
    return value;
}

FeValue fe_read_value(const FeReader *r, const FeNode *node, FeKey key, SuSpan key_span) {
    FeValue value = {.state = FE_GIVEN, .written = true, .key_span = key_span, .span = node->span, .node = node};
    switch (fe_key_row(key)->type) {
    case FE_T_INT:
    case FE_T_INT_OR_WORD: return read_integer(r, node, key, value);
    case FE_T_REAL:
    case FE_T_REAL_OR_WORD:
    case FE_T_DECIMAL: return read_real(r, node, key, value);
    case FE_T_BOOL: return read_bool(r, node, key, value);
    case FE_T_WORD: return read_word(r, node, key, value);
    case FE_T_WORDS: return read_words(r, node, key, value);
    case FE_T_MODEL_NAME:
    case FE_T_NAME: return read_name(r, node, key, value);
    case FE_T_TEXT: return read_text(r, node, key, value);
    case FE_T_TOKEN: return read_token(r, node, key, value);
    case FE_T_TOKENS: return read_tokens(r, node, key, value);
    case FE_T_LIMITS: return read_limits(r, node, key, value);
    case FE_T_MAP:
    case FE_T_MAP_OR_NONE: return read_child(r, node, key, value);
    case FE_T_ENTRIES: return node->kind == FE_SEQUENCE ? value : wrong_value(r, node, key, value);
    case FE_T_DEFINES: return node->kind == FE_MAPPING || fe_node_empty(node) ? value : wrong_value(r, node, key, value);
    case FE_T_RESERVED:
        su_report(r->diags, SU_CODE_not_in_version, key_span, NULL, "'%s' is not supported in this version",
                  fe_key_name(r->arena, key));
        return broken(value);
    }
    SU_BUG("key type of %s", fe_key_row(key)->name);
}

static void check_exclusive(const FeReader *r, const FeMap *map) {
    FeSectionRow row = fe_section_row(map->section);
    for (FeKey key = row.first; key < row.end; key++) {
        FeKey other = fe_exclusive(key);
        if (other == FE_KEY_none || other < key) continue;
        FeValue *a = fe_value(map, key), *b = fe_value(map, other);
        if (a->node && b->node) { /* a misspelt key has no node: it was reported */
            bool a_later = a->key_span.line > b->key_span.line ||
                           (a->key_span.line == b->key_span.line && a->key_span.column > b->key_span.column);
            su_report(r->diags, SU_CODE_exclusive_keys, a_later ? a->key_span : b->key_span, NULL,
                      "'%s' and '%s' cannot both be given: keep one of them", fe_key_name(r->arena, a_later ? other : key),
                      fe_key_name(r->arena, a_later ? key : other));
            a->state = b->state = FE_BROKEN;
        }
    }
}

FeMap *fe_read_map(const FeReader *r, const FeNode *node, FeSection section, SuSpan span) {
    FeMap *map = fe_new_map(r->arena, section, span);
    FeSectionRow row = fe_section_row(section);
    for (size_t i = 0; node->kind == FE_MAPPING && i < node->count; i++) {
        const FePair *pair = &node->pairs[i];
        FeKey key = row.first;
        while (key < row.end && strcmp(fe_key_row(key)->name, pair->key) != 0) key++;
        if (key < row.end) {
            *fe_value(map, key) = fe_read_value(r, pair->value, key, pair->key_span);
        } else if (section != FE_SECTION_file || strncmp(pair->key, "x-", 2) != 0) {
            FeKey meant = fe_report_unknown(r, pair, section);
            if (meant != FE_KEY_none && fe_value(map, meant)->state == FE_ABSENT) fe_value(map, meant)->state = FE_BROKEN;
        }
    }
    check_exclusive(r, map);
    return map;
}
