/* The table of keys of a space as data; maps checked by it. */
#include "explore/keys.h"

#include <math.h>
#include <string.h>

#include "support/str.h"
#include "support/table.h"

/* YAML 1.1 tools read 1e-5, without a point, as a text. */
#define NUMBER_SCHEMA                                                                                                              \
    "{\"anyOf\": [{\"type\": \"number\"}, {\"type\": \"string\", \"pattern\": \"^[+-]?[0-9.]+[eE][+-]?[0-9]+$\"}]}"

static const struct {
    const char *what, *schema;
} types[] = {
#define EX_TYPE(id, what, schema) [EX_T_##id] = {what, schema},
#include "explore/keys.def"
};
SU_TABLE_FULL(types, EX_T_COUNT_OF_TYPES);

static const ExKeyRow rows[] = {
#define EX_KEY(section, key, type, fallback, help)                                                                                 \
    [EX_KEY_##section##_##key] = {#key, EX_SECTION_##section, EX_T_##type, fallback, help},
#include "explore/keys.def"
};
SU_TABLE_FULL(rows, EX_KEY_none);

static const struct {
    const char *id, *path, *help;
    ExKey first;
} sections[] = {
#define EX_SECTION(id, path, help) [EX_SECTION_##id] = {#id, path, help, EX_FIRST_KEY_##id},
#include "explore/keys.def"
    [EX_SECTION_none] = {"", "", "", EX_KEY_none},
};

static const ExOneOf one_ofs[] = {
#define EX_KEY_axis_ALWAYS EX_KEY_none
#define EX_KEY_quality_ALWAYS EX_KEY_none
#define EX_ONE_OF(section, given, key, other)                                                                                      \
    {EX_SECTION_##section, EX_KEY_##section##_##given, EX_KEY_##section##_##key, EX_KEY_##section##_##other},
#include "explore/keys.def"
};

static const ExWith withs[] = {
#define EX_WITH(section, key, other) {EX_SECTION_##section, EX_KEY_##section##_##key, EX_KEY_##section##_##other},
#include "explore/keys.def"
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

const ExKeyRow *ex_key_row(ExKey key) { return &rows[key]; }

ExSectionRow ex_section_row(ExSection section) {
    return (ExSectionRow){sections[section].id, sections[section].path, sections[section].help, sections[section].first,
                          sections[section + 1].first};
}

const char *ex_type_what(ExKeyType type) { return types[type].what; }

const char *ex_type_schema(ExKeyType type) { return types[type].schema; }

bool ex_is_required(ExKey key) { return rows[key].fallback[0] == '!'; }

const ExOneOf *ex_one_of(size_t index) { return index < COUNT(one_ofs) ? &one_ofs[index] : NULL; }

const ExWith *ex_with(size_t index) { return index < COUNT(withs) ? &withs[index] : NULL; }

const char *ex_key_name(SuArena *arena, ExKey key) {
    const char *path = sections[rows[key].section].path;
    return *path ? su_printf(arena, "%s.%s", path, rows[key].name) : rows[key].name;
}

/* ---- maps */

static ExKey find_key(const char *name, ExSectionRow section) {
    for (ExKey key = section.first; key < section.end; key++)
        if (strcmp(rows[key].name, name) == 0) return key;
    return EX_KEY_none;
}

/* Reports a key that the section does not have; returns the one that was probably meant, or EX_KEY_none. */
static ExKey unknown_key(const FeReader *r, const FePair *pair, ExSectionRow section) {
    const char *names[EX_KEY_none];
    for (ExKey key = section.first; key < section.end; key++) names[key - section.first] = rows[key].name;
    const char *near = su_nearest(pair->key, names, section.end - section.first);
    const char *hint = near ? su_printf(r->arena, "did you mean '%s'?", near) : "mossc help space lists every key";
    su_report(r->diags, SU_CODE_unknown_key, pair->key_span, hint, "unknown key %s%s%s", fe_quote(r->arena, pair->key),
              *section.path ? " in " : "", section.path);
    return near ? find_key(near, section) : EX_KEY_none;
}

static bool is_later(SuSpan a, SuSpan b) { return a.line > b.line || (a.line == b.line && a.column > b.column); }

/* Whether a key that needs this one is there: then that says what is missing. */
static bool is_needed(const ExMap *map, ExKey key) {
    for (size_t i = 0; i < COUNT(withs); i++)
        if (withs[i].other == key && map->pairs[withs[i].key]) return true;
    return false;
}

static void check_one_of(const FeReader *r, const ExMap *map, const bool *meant, const ExOneOf *rule) {
    const FePair *a = map->pairs[rule->key], *b = map->pairs[rule->other];
    const char *first = ex_key_name(r->arena, rule->key), *second = ex_key_name(r->arena, rule->other);
    if (rule->given != EX_KEY_none && !map->pairs[rule->given]) return;
    if (!a && !b && (is_needed(map, rule->key) || is_needed(map, rule->other))) return;
    if (a && b) {
        su_report(r->diags, SU_CODE_exclusive_keys, is_later(a->key_span, b->key_span) ? a->key_span : b->key_span, NULL,
                  "'%s' and '%s' cannot both be given: keep one of them", first, second);
    } else if (!a && !b && !meant[rule->key] && !meant[rule->other]) {
        su_report(r->diags, SU_CODE_missing_key, map->span, NULL, "'%s' or '%s' is required", first, second);
    }
}

static void check_with(const FeReader *r, const ExMap *map, const bool *meant, const ExWith *rule) {
    const FePair *pair = map->pairs[rule->key];
    if (!pair || map->pairs[rule->other] || meant[rule->other]) return;
    su_report(r->diags, SU_CODE_missing_key, pair->key_span, NULL, "'%s' needs '%s' beside it", ex_key_name(r->arena, rule->key),
              ex_key_name(r->arena, rule->other));
}

/* Rules between keys. `meant`: keys that were misspelt. */
static void check_rules(const FeReader *r, const ExMap *map, const bool *meant, ExSection section) {
    ExSectionRow row = ex_section_row(section);
    for (ExKey key = row.first; key < row.end; key++) {
        if (!ex_is_required(key) || map->pairs[key] || meant[key]) continue;
        su_report(r->diags, SU_CODE_missing_key, map->span, NULL, "'%s' is required: %s", ex_key_name(r->arena, key),
                  rows[key].help);
    }
    for (size_t i = 0; i < COUNT(one_ofs); i++)
        if (one_ofs[i].section == section) check_one_of(r, map, meant, &one_ofs[i]);
    for (size_t i = 0; i < COUNT(withs); i++)
        if (withs[i].section == section) check_with(r, map, meant, &withs[i]);
}

bool ex_read_map(const FeReader *r, const FeNode *node, ExSection section, ExMap *out) {
    ExSectionRow row = ex_section_row(section);
    bool meant[EX_KEY_none] = {false};
    *out = (ExMap){.span = node->span};
    if (node->kind == FE_POISON) return false;
    if (node->kind != FE_MAPPING && (!fe_node_empty(node) || section == EX_SECTION_file))
        return su_report(r->diags, SU_CODE_wrong_value, node->span, NULL, "%s: expected a map of keys, got %s",
                         *row.path ? row.path : "space", fe_node_what(r->arena, node));
    if (section == EX_SECTION_file && node->count) out->span = node->pairs[0].key_span;
    for (size_t i = 0; node->kind == FE_MAPPING && i < node->count; i++) {
        const FePair *pair = &node->pairs[i];
        ExKey key = find_key(pair->key, row);
        if (key != EX_KEY_none) {
            out->pairs[key] = pair;
        } else if (section != EX_SECTION_file || strncmp(pair->key, "x-", 2) != 0) {
            ExKey near = unknown_key(r, pair, row);
            if (near != EX_KEY_none) meant[near] = true;
        }
    }
    check_rules(r, out, meant, section);
    return true;
}

/* ---- values */

const FeNode *ex_node(const ExMap *map, ExKey key) {
    const FeNode *node = map->pairs[key] ? map->pairs[key]->value : NULL;
    return node && node->kind != FE_POISON ? node : NULL;
}

bool ex_wrong_value(const FeReader *r, const FeNode *node, ExKey key, const char *hint) {
    if (node->kind == FE_POISON) return false;
    return su_report(r->diags, SU_CODE_wrong_value, node->span, hint, "'%s': expected %s, got %s", ex_key_name(r->arena, key),
                     types[rows[key].type].what, fe_node_what(r->arena, node));
}

bool ex_read_text(const FeReader *r, const ExMap *map, ExKey key, const char **out) {
    const FeNode *node = ex_node(map, key);
    if (!node) return false;
    if (node->kind != FE_SCALAR || !node->text[0]) return ex_wrong_value(r, node, key, NULL);
    *out = node->text;
    return true;
}

/* Why a value that looks like a number is none. */
static const char *advice(const FeNode *node) {
    double number;
    bool digits = node->kind == FE_SCALAR && strspn(node->text, "+-0123456789.") > 0;
    if (digits && !node->plain) return "a quoted number is not a number: leave out the quotes";
    return digits && !fe_parse_real(node->text, &number) ? "numbers are decimal: no leading zero, no '_', no '0x'" : NULL;
}

bool ex_read_number(const FeReader *r, const ExMap *map, ExKey key, const char **out_text, double *out) {
    const FeNode *node = ex_node(map, key);
    if (!node) return false;
    bool ok = node->kind == FE_SCALAR && node->plain && fe_parse_real(node->text, out) && isfinite(*out);
    *out_text = node->text;
    return ok || ex_wrong_value(r, node, key, advice(node));
}

bool ex_read_integer(const FeReader *r, const ExMap *map, ExKey key, int64_t least, int64_t most, int64_t *out) {
    const FeNode *node = ex_node(map, key);
    int64_t value;
    if (!node) return false;
    bool ok = node->kind == FE_SCALAR && node->plain && fe_parse_integer(node->text, &value) && value >= least && value <= most;
    if (!ok) return ex_wrong_value(r, node, key, advice(node));
    *out = value;
    return true;
}

const FeNode *ex_read_list(const FeReader *r, const ExMap *map, ExKey key, size_t least, size_t most) {
    const FeNode *node = ex_node(map, key);
    if (!node) return NULL;
    if (node->kind == FE_SEQUENCE && node->count >= least && node->count <= most) return node;
    if (node->kind == FE_SEQUENCE)
        su_report(r->diags, node->count > most ? SU_CODE_too_large : SU_CODE_wrong_value, node->span, NULL,
                  "'%s': expected %s, got a list of %zu", ex_key_name(r->arena, key), types[rows[key].type].what, node->count);
    else
        ex_wrong_value(r, node, key, node->kind == FE_SCALAR && !fe_node_empty(node) ? "write a list: [ ... ]" : NULL);
    return NULL;
}
