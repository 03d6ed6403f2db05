#include "support/json.h"

#include <string.h>

#include "support/arena.h"
#include "support/utf8.h"

typedef struct Gate {
    const SuJsonRules *rules;
    const char *text; /* a NUL behind its size */
    size_t size;
    SuSpan span;
    SuDiags *diags;
    bool in_string;
    int depth;
    size_t values;
} Gate;

#define FAIL(gate, ...) su_error((gate)->diags, (gate)->span, NULL, __VA_ARGS__)

/* How messages name the text; a whole file is named by the span, and needs no more before a ':'. */
static const char *named(const Gate *g) { return g->rules->part ? g->rules->part : "file"; }
static const char *place(const Gate *g) { return g->rules->part ? su_printf(&g->diags->arena, "%s: ", g->rules->part) : ""; }

static bool in_string(Gate *g, size_t i, size_t *size) {
    const char *at = g->text + i;
    if (!strncmp(at, "\\u0000", 6)) return FAIL(g, "%sNUL character in a string at byte %zu", place(g), i);
    if (at[0] == '\\' && (at[1] == '"' || at[1] == '\\')) *size = 2; /* other escapes are cJSON's to judge */
    g->in_string = at[0] != '"';
    return true;
}

static bool count_value(Gate *g) {
    return ++g->values <= g->rules->values || FAIL(g, "%s exceeds the limit of %zu values", named(g), g->rules->values);
}

static bool deeper(Gate *g, size_t i) {
    int most = g->rules->depth;
    return ++g->depth <= most || FAIL(g, "%sJSON is nested deeper than %d levels at byte %zu", place(g), most, i);
}

/* Whether the value that begins at text[i] is null_key's. */
static bool is_of_null_key(const Gate *g, size_t i) {
    const char *key = g->rules->null_key;
    if (!key) return false;
    size_t size = strlen(key);
    while (i && strchr(" \t\r\n:", g->text[i - 1])) i--;
    if (i < size + 2) return false;
    const char *quoted = g->text + i - size - 2;
    return quoted[0] == '"' && quoted[size + 1] == '"' && memcmp(quoted + 1, key, size) == 0;
}

static bool is_plain(const Gate *g, size_t i, size_t *size) {
    if (strchr("0123456789: \t\r\n", g->text[i])) return true;
    if (!is_of_null_key(g, i) || strncmp(g->text + i, "null", 4) != 0)
        return FAIL(g, "%sunexpected character '%.*s' at byte %zu", place(g), (int)*size, g->text + i, i);
    *size = 4;
    return true;
}

/* The character at text[i], and its size: set to more where what follows needs no look of its own. */
static bool look(Gate *g, size_t i, size_t *size) {
    if (g->in_string) return in_string(g, i, size);
    switch (g->text[i]) {
    case '"': return g->in_string = true;
    case '{':
    case '[': return deeper(g, i) && count_value(g);
    case '}':
    case ']': g->depth--; return true;
    case ',': return count_value(g);
    }
    return !g->rules->plain || is_plain(g, i, size);
}

static bool scan(Gate *g) {
    for (size_t i = 0, size; i < g->size; i += size) {
        SuUtf8 c = su_utf8_at(g->text + i, g->size - i);
        size = c.size;
        if (!c.whole || !c.code) return FAIL(g, "%sinvalid UTF-8 at byte %zu", place(g), i);
        if (!look(g, i, &size)) return false;
    }
    return true;
}

static void free_json(void *json) { cJSON_Delete(((SuJson *)json)->root); }

static bool parse(Gate *g, SuJson *out) {
    const char *end = NULL;
    if (!scan(g)) return false;
    out->root = cJSON_ParseWithLengthOpts(g->text, g->size, &end, false);
    size_t at = end && end >= g->text ? (size_t)(end - g->text) : 0;
    if (!out->root) return FAIL(g, "%s is not valid JSON: error near byte %zu", named(g), at);
    at += strspn(g->text + at, " \t\r\n");
    return at == g->size || FAIL(g, "%s has extra data after its JSON, at byte %zu", named(g), at);
}

bool su_json_parse(const char *text, size_t size, const SuJsonRules *rules, SuSpan span, SuJson *out, SuDiags *diags) {
    SuArena arena = {0};
    *out = (SuJson){0};
    su_cleanup_add(&out->cleanup, free_json, out);
    /* A copy with a NUL behind it: old versions of cJSON read one byte more than they should. */
    Gate gate = {.rules = rules, .text = su_strndup(&arena, text, size), .size = size, .span = span, .diags = diags, .values = 1};
    bool ok = parse(&gate, out);
    su_arena_free(&arena);
    if (!ok) su_json_free(out);
    return ok;
}

void su_json_free(SuJson *json) {
    su_cleanup_done(&json->cleanup);
    cJSON_Delete(json->root);
    json->root = NULL;
}
