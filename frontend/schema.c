/* The table of keys for people (`mossc help keys`) and for editors (`mossc schema`: JSON Schema, draft 2020-12).
 *
 * The schema says what one map can tell by itself; rules between keys, and what defaults supply, are left to mossc check. */
#include <string.h>

#include <cjson/cJSON.h>

#include "frontend/kinds.h"

/* ---- help ---- */

static void print_words(const char *words, const char *between, SuText *out) {
    const char *word;
    int size;
    bool reserved, first = true;
    for (int i = 0; fe_word_at(words, i, &word, &size, &reserved); i++) {
        if (!reserved) {
            su_text_add(out, "%s%.*s", first ? "" : between, size, word);
            first = false;
        }
    }
}

static void print_range(const FeKeyRow *row, SuText *out) {
    if (row->least == row->most)
        su_text_add(out, "%lld", (long long)row->least);
    else if (row->most == INT32_MAX)
        su_text_add(out, "integer >= %lld", (long long)row->least);
    else
        su_text_add(out, "integer %lld..%lld", (long long)row->least, (long long)row->most);
}

static void print_type(const FeKeyRow *row, SuText *out) {
    switch (row->type) {
    case FE_T_INT: print_range(row, out); return;
    case FE_T_INT_OR_WORD:
        print_range(row, out);
        su_text_add(out, " | %s", row->words);
        return;
    case FE_T_REAL: su_text_add(out, "number > 0"); return;
    case FE_T_REAL_OR_WORD: su_text_add(out, "number > 0 | %s", row->words); return;
    case FE_T_DECIMAL: su_text_add(out, "decimal number > 0"); return;
    case FE_T_BOOL: su_text_add(out, "true | false"); return;
    case FE_T_WORD: print_words(row->words, " | ", out); return;
    case FE_T_WORDS:
        su_text_add(out, "list of ");
        print_words(row->words, ", ", out);
        return;
    case FE_T_MODEL_NAME:
    case FE_T_NAME: su_text_add(out, "name"); return;
    case FE_T_TEXT: su_text_add(out, "text"); return;
    case FE_T_TOKEN: su_text_add(out, "none | token | id"); return;
    case FE_T_TOKENS: su_text_add(out, "none | token | id | list of tokens and ids"); return;
    case FE_T_LIMITS: su_text_add(out, "[number >= 0, number | none] | none"); return;
    case FE_T_MAP: su_text_add(out, "map"); return;
    case FE_T_MAP_OR_NONE: su_text_add(out, "map | none"); return;
    case FE_T_ENTRIES: su_text_add(out, "list of entries"); return;
    case FE_T_DEFINES: su_text_add(out, "map of named blocks"); return;
    case FE_T_RESERVED: su_text_add(out, "not supported in this version"); return;
    }
}

static void print_fallback(const FeKeyRow *row, SuText *out) {
    if (fe_fallback_required(row))
        su_text_add(out, "; required");
    else if (fe_fallback_value(row))
        su_text_add(out, "; default %s", fe_fallback_value(row));
    else if (fe_fallback_derived(row))
        su_text_add(out, "; default %s", fe_fallback_derived(row));
}

static void print_section(FeSection section, SuText *out) {
    FeSectionRow row = fe_section_row(section);
    su_text_add(out, "%s%s%s\n", row.path, *row.path ? ": " : "", row.help);
    for (FeKey key = row.first; key < row.end; key++) {
        const FeKeyRow *k = fe_key_row(key);
        su_text_add(out, "  %-18s ", k->name);
        print_type(k, out);
        print_fallback(k, out);
        su_text_add(out, "\n  %-18s   %s\n", "", k->help);
    }
    su_text_add(out, "\n");
}

void fe_print_keys(SuText *out) {
    for (FeSection section = 0; section < FE_SECTION_none; section++) print_section(section, out);
    su_text_add(out, "Top-level keys that begin with x- are ignored.\n");
}

/* ---- schema ---- */

#define NAME_PATTERN "^[a-z][a-z0-9_-]*$"

static cJSON *add_object(cJSON *to, const char *key) { return cJSON_AddObjectToObject(to, key); }

/* A new object at the end of a list. */
static cJSON *add_item(cJSON *list) {
    cJSON *item = cJSON_CreateObject();
    cJSON_AddItemToArray(list, item);
    return item;
}

static void add_text(cJSON *list, const char *text, int size) {
    char copy[64];
    snprintf(copy, sizeof copy, "%.*s", size, text);
    cJSON_AddItemToArray(list, cJSON_CreateString(copy));
}

/* "enum": the words of a key. */
static void add_words(cJSON *to, const char *words) {
    cJSON *list = cJSON_AddArrayToObject(to, "enum");
    const char *word;
    int size;
    bool reserved;
    for (int i = 0; fe_word_at(words, i, &word, &size, &reserved); i++)
        if (!reserved) add_text(list, word, size);
}

static void add_integer(cJSON *to, const FeKeyRow *row) {
    cJSON_AddStringToObject(to, "type", "integer");
    cJSON_AddNumberToObject(to, "minimum", (double)row->least);
    cJSON_AddNumberToObject(to, "maximum", (double)row->most);
}

static void add_nonempty_string(cJSON *to) {
    cJSON_AddStringToObject(to, "type", "string");
    cJSON_AddNumberToObject(to, "minLength", 1);
}

static void add_reference(cJSON *to, const char *definition) {
    char path[64];
    snprintf(path, sizeof path, "#/$defs/%s", definition);
    cJSON_AddStringToObject(to, "$ref", path);
}

/* A name, which no kind of block has. */
static void add_name(cJSON *to) {
    cJSON_AddStringToObject(to, "pattern", NAME_PATTERN);
    cJSON *kinds = cJSON_AddArrayToObject(add_object(to, "not"), "enum");
    for (int i = 0; i < FE_N_KINDS; i++) cJSON_AddItemToArray(kinds, cJSON_CreateString(fe_block_kind_word((FeBlockKind)i)));
    cJSON_AddItemToArray(kinds, cJSON_CreateString(fe_key_row(KEY(entry, parallel))->name));
    cJSON_AddItemToArray(kinds, cJSON_CreateString(fe_key_row(KEY(entry, share))->name));
}

/* An empty value, which YAML tools read as null, is {} where a map is wanted. */
static void add_child(cJSON *to, const FeKeyRow *row) {
    cJSON *forms = cJSON_AddArrayToObject(to, "anyOf");
    add_reference(add_item(forms), fe_section_row(row->child).id);
    cJSON_AddStringToObject(add_item(forms), "type", "null");
    if (row->type == FE_T_MAP_OR_NONE) cJSON_AddStringToObject(add_item(forms), "const", "none");
}

static void add_integer_or_word(cJSON *to, const FeKeyRow *row) {
    cJSON *forms = cJSON_AddArrayToObject(to, "anyOf");
    add_integer(add_item(forms), row);
    cJSON_AddStringToObject(add_item(forms), "const", row->words);
}

/* YAML 1.1 tools read 1e-5, without a point, as a text. `word`: what may stand in its place, or NULL. */
static void add_real(cJSON *to, const char *word) {
    cJSON *forms = cJSON_AddArrayToObject(to, "anyOf"), *number = add_item(forms), *text = add_item(forms);
    cJSON_AddStringToObject(number, "type", "number");
    cJSON_AddNumberToObject(number, "exclusiveMinimum", 0);
    cJSON_AddStringToObject(text, "type", "string");
    cJSON_AddStringToObject(text, "pattern", "^\\+?[0-9.]+[eE][+-]?[0-9]+$");
    if (word) cJSON_AddStringToObject(add_item(forms), "const", word);
}

static void add_word_list(cJSON *to, const FeKeyRow *row) {
    cJSON_AddStringToObject(to, "type", "array");
    cJSON_AddNumberToObject(to, "minItems", 1);
    cJSON_AddTrueToObject(to, "uniqueItems");
    add_words(add_object(to, "items"), row->words);
}

/* A name of digits is a number to YAML tools. */
static void add_model_name(cJSON *to) {
    cJSON *types = cJSON_AddArrayToObject(to, "type");
    add_text(types, "string", 6);
    add_text(types, "number", 6);
    cJSON_AddStringToObject(to, "pattern", "^[a-z0-9._-]+$");
}

static void add_token(cJSON *to, const FeKeyRow *row) {
    cJSON *forms = cJSON_AddArrayToObject(to, "anyOf");
    add_nonempty_string(add_item(forms));
    add_integer(add_item(forms), row);
}

static void add_tokens(cJSON *to, const FeKeyRow *row) {
    cJSON *forms = cJSON_AddArrayToObject(to, "anyOf");
    add_nonempty_string(add_item(forms));
    add_integer(add_item(forms), row);
    cJSON *list = add_item(forms);
    cJSON_AddStringToObject(list, "type", "array");
    cJSON_AddNumberToObject(list, "minItems", 1);
    cJSON_AddNumberToObject(list, "maxItems", MOSS_MAX_ENDS);
    cJSON_AddBoolToObject(list, "uniqueItems", true);
    add_token(add_object(list, "items"), row);
}

static void add_entries(cJSON *to, const FeKeyRow *row) {
    cJSON_AddStringToObject(to, "type", "array");
    cJSON_AddNumberToObject(to, "minItems", (double)row->least);
    if (row->most < INT32_MAX) cJSON_AddNumberToObject(to, "maxItems", (double)row->most);
    add_reference(add_object(to, "items"), "item");
}

/* "required": names that must all be there. */
static void add_required(cJSON *to, const char *first, const char *second) {
    cJSON *names = cJSON_AddArrayToObject(to, "required");
    cJSON_AddItemToArray(names, cJSON_CreateString(first));
    if (second) cJSON_AddItemToArray(names, cJSON_CreateString(second));
}

static void add_defines(cJSON *to) {
    cJSON *types = cJSON_AddArrayToObject(to, "type");
    add_text(types, "object", 6);
    add_text(types, "null", 4);
    add_name(add_object(to, "propertyNames"));
    cJSON *block = add_object(to, "additionalProperties");
    add_reference(block, "entry");
    cJSON *wrong = cJSON_AddArrayToObject(add_object(block, "not"), "anyOf");
    add_required(add_item(wrong), "name", NULL);
    add_required(add_item(wrong), "repeat", NULL);
}

/* none, or [low, high] whose second may be none. */
static void add_limits(cJSON *to) {
    cJSON *forms = cJSON_AddArrayToObject(to, "anyOf");
    cJSON_AddStringToObject(add_item(forms), "const", "none");
    cJSON *pair = add_item(forms);
    cJSON_AddStringToObject(pair, "type", "array");
    cJSON_AddNumberToObject(pair, "minItems", 2);
    cJSON_AddNumberToObject(pair, "maxItems", 2);
    cJSON *items = cJSON_AddArrayToObject(pair, "prefixItems"), *low = add_item(items), *high = add_item(items);
    cJSON_AddStringToObject(low, "type", "number");
    cJSON_AddNumberToObject(low, "minimum", 0);
    cJSON *highs = cJSON_AddArrayToObject(high, "anyOf"), *number = add_item(highs);
    cJSON_AddStringToObject(number, "type", "number");
    cJSON_AddNumberToObject(number, "exclusiveMinimum", 0);
    cJSON_AddStringToObject(add_item(highs), "const", "none");
}

static void add_type(cJSON *to, const FeKeyRow *row) {
    switch (row->type) {
    case FE_T_INT: add_integer(to, row); return;
    case FE_T_INT_OR_WORD: add_integer_or_word(to, row); return;
    case FE_T_REAL:
    case FE_T_DECIMAL: add_real(to, NULL); return;
    case FE_T_REAL_OR_WORD: add_real(to, row->words); return;
    case FE_T_BOOL: cJSON_AddStringToObject(to, "type", "boolean"); return;
    case FE_T_WORD: add_words(to, row->words); return;
    case FE_T_WORDS: add_word_list(to, row); return;
    case FE_T_MODEL_NAME: add_model_name(to); return;
    case FE_T_NAME:
        cJSON_AddStringToObject(to, "type", "string");
        add_name(to);
        return;
    case FE_T_TEXT: add_nonempty_string(to); return;
    case FE_T_TOKEN: add_token(to, row); return;
    case FE_T_TOKENS: add_tokens(to, row); return;
    case FE_T_LIMITS: add_limits(to); return;
    case FE_T_MAP:
    case FE_T_MAP_OR_NONE: add_child(to, row); return;
    case FE_T_ENTRIES: add_entries(to, row); return;
    case FE_T_DEFINES: add_defines(to); return;
    case FE_T_RESERVED: add_object(to, "not"); return;
    }
}

/* Words are texts; numbers and truth values of YAML are JSON as they are. */
static void add_default(cJSON *to, const FeKeyRow *row) {
    const char *value = fe_fallback_value(row);
    bool text = row->type == FE_T_WORD || row->type == FE_T_INT_OR_WORD || row->type == FE_T_REAL_OR_WORD ||
                row->type == FE_T_MAP_OR_NONE || row->type == FE_T_LIMITS || row->type == FE_T_TOKEN || row->type == FE_T_TOKENS;
    if (value) cJSON_AddItemToObject(to, "default", text ? cJSON_CreateString(value) : cJSON_CreateRaw(value));
}

static void add_properties(cJSON *to, FeSectionRow section) {
    cJSON *properties = add_object(to, "properties");
    for (FeKey key = section.first; key < section.end; key++) {
        const FeKeyRow *row = fe_key_row(key);
        cJSON *property = add_object(properties, row->name);
        cJSON_AddStringToObject(property, "description", row->help);
        add_type(property, row);
        add_default(property, row);
    }
}

/* Keys of which at most one may be given. */
static void add_exclusives(cJSON *to, FeSectionRow section) {
    for (FeKey key = section.first; key < section.end; key++) {
        FeKey other = fe_exclusive(key);
        if (other != FE_KEY_none && key < other)
            add_required(add_object(to, "not"), fe_key_row(key)->name, fe_key_row(other)->name);
    }
}

/* An entry is one block or a group. */
static void add_entry_forms(cJSON *to) {
    cJSON *forms = cJSON_AddArrayToObject(to, "oneOf");
    for (int i = 0; i < FE_N_KINDS; i++) add_required(add_item(forms), fe_block_kind_word((FeBlockKind)i), NULL);
    add_required(add_item(forms), fe_key_row(KEY(entry, parallel))->name, NULL);
    add_required(add_item(forms), fe_key_row(KEY(entry, share))->name, NULL);
    add_required(add_item(forms), "repeat", "blocks");
}

static void add_definition(cJSON *definitions, FeSection id) {
    FeSectionRow section = fe_section_row(id);
    cJSON *definition = add_object(definitions, section.id);
    cJSON_AddStringToObject(definition, "description", section.help);
    cJSON_AddStringToObject(definition, "type", "object");
    cJSON_AddFalseToObject(definition, "additionalProperties");
    add_exclusives(definition, section);
    if (id == FE_SECTION_entry) add_entry_forms(definition);
    add_properties(definition, section);
}

/* An entry of the stack, or a word that stands for one. */
static void add_item_definition(cJSON *definitions) {
    cJSON *forms = cJSON_AddArrayToObject(add_object(definitions, "item"), "anyOf");
    add_reference(add_item(forms), "entry");
    cJSON *word = add_item(forms);
    cJSON_AddStringToObject(word, "type", "string");
    cJSON_AddStringToObject(word, "pattern", NAME_PATTERN);
}

/* Only the top level can require keys: everywhere else defaults may give them. */
static void add_file(cJSON *to) {
    FeSectionRow file = fe_section_row(FE_SECTION_file);
    cJSON_AddStringToObject(to, "type", "object");
    cJSON_AddFalseToObject(to, "additionalProperties");
    add_object(add_object(to, "patternProperties"), "^x-");
    cJSON *required = cJSON_AddArrayToObject(to, "required");
    for (FeKey key = file.first; key < file.end; key++)
        if (fe_fallback_required(fe_key_row(key))) cJSON_AddItemToArray(required, cJSON_CreateString(fe_key_row(key)->name));
    add_properties(to, file);
}

bool fe_print_schema(SuText *out) {
    cJSON *schema = cJSON_CreateObject();
    cJSON_AddStringToObject(schema, "$schema", "https://json-schema.org/draft/2020-12/schema");
    cJSON_AddStringToObject(schema, "title", "mossc model specification");
    add_file(schema);
    cJSON *definitions = add_object(schema, "$defs");
    for (FeSection section = FE_SECTION_file + 1; section < FE_SECTION_none; section++) add_definition(definitions, section);
    add_item_definition(definitions);
    char *text = cJSON_Print(schema);
    if (text) su_text_add(out, "%s\n", text);
    cJSON_Delete(schema);
    cJSON_free(text);
    return text != NULL;
}
