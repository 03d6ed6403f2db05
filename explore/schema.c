/* The table of keys of a space for people (`mossc help space`) and for editors (`mossc schema --space`: JSON Schema, draft 2020-12).
 *
 * The schema says what one map can tell by itself; expressions and what they name are left to mossc explore. */
#include <string.h>

#include <cjson/cJSON.h>

#include "explore/keys.h"
#include "explore/space.h"
#include "support/str.h"

/* ---- help */

static void print_section(ExSection section, SuText *out) {
    ExSectionRow row = ex_section_row(section);
    su_text_add(out, "%s%s%s\n", row.path, *row.path ? ": " : "", row.help);
    for (ExKey key = row.first; key < row.end; key++) {
        const ExKeyRow *k = ex_key_row(key);
        su_text_add(out, "  %-12s %s", k->name, ex_type_what(k->type));
        if (ex_is_required(key))
            su_text_add(out, "; required");
        else if (*k->fallback)
            su_text_add(out, "; default %s", k->fallback);
        su_text_add(out, "\n  %-12s   %s\n", "", k->help);
    }
    su_text_add(out, "\n");
}

static void print_rules(SuText *out) {
    su_text_add(out, "Keys that depend on each other:\n");
    for (size_t i = 0; ex_one_of(i); i++) {
        const ExOneOf *rule = ex_one_of(i);
        su_text_add(out, "  %s: one of %s and %s", ex_section_row(rule->section).path, ex_key_row(rule->key)->name,
                    ex_key_row(rule->other)->name);
        if (rule->given != EX_KEY_none) su_text_add(out, ", where %s is given", ex_key_row(rule->given)->name);
        su_text_add(out, "\n");
    }
    for (size_t i = 0; ex_with(i); i++)
        su_text_add(out, "  %s: %s needs %s\n", ex_section_row(ex_with(i)->section).path, ex_key_row(ex_with(i)->key)->name,
                    ex_key_row(ex_with(i)->other)->name);
    su_text_add(out, "\n");
}

static void print_metrics(SuText *out) {
    su_text_add(out, "metrics, for budgets and objectives\n");
    for (ExMetric metric = 0; metric < EX_METRIC_COUNT; metric++) {
        const ExMetricRow *row = ex_metric(metric);
        su_text_add(out, "  %-20s %s%s%s\n", row->name, row->unit, *row->unit ? ": " : "", row->help);
    }
    su_text_add(out, "\n");
}

void ex_print_keys(SuText *out) {
    for (ExSection section = 0; section < EX_SECTION_none; section++) print_section(section, out);
    print_rules(out);
    print_metrics(out);
    su_text_add(
        out,
        "Expressions: numbers, none, true, false, words (q8, \"mamba-1\"), names of axes, + - * / ( ), ceil, floor, min, max,\n"
        "== != < <= > >=, and, or, not. none equals only none; < <= > >= of a number with none are false.\n"
        "\n"
        "Sizes in budgets may have k, M or G behind them (powers of 1000), and those of bytes KiB, MiB or GiB.\n"
        "Top-level keys that begin with x- are ignored.\n");
}

/* ---- schema */

static cJSON *add_item(cJSON *list) {
    cJSON *item = cJSON_CreateObject();
    cJSON_AddItemToArray(list, item);
    return item;
}

static void add_required(cJSON *to, ExKey key) {
    cJSON_AddItemToArray(cJSON_AddArrayToObject(to, "required"), cJSON_CreateString(ex_key_row(key)->name));
}

/* What stands in a text of JSON, added to an object. */
static void add_parsed(cJSON *to, const char *text) {
    cJSON *parsed = cJSON_Parse(text);
    while (parsed && parsed->child) {
        cJSON *item = cJSON_DetachItemViaPointer(parsed, parsed->child);
        cJSON_AddItemToObject(to, item->string, item);
    }
    cJSON_Delete(parsed);
}

/* YAML of a fallback as JSON: numbers, {} and lists of a word. */
static void add_default(cJSON *to, const ExKeyRow *row) {
    if (*row->fallback == '[') {
        char word[32];
        snprintf(word, sizeof word, "%.*s", (int)strcspn(row->fallback + 1, "]"), row->fallback + 1);
        cJSON_AddItemToArray(cJSON_AddArrayToObject(to, "default"), cJSON_CreateString(word));
    } else if (*row->fallback) {
        cJSON_AddItemToObject(to, "default", cJSON_CreateRaw(row->fallback));
    }
}

/* In "allOf": exactly one of two keys; where another is given, as an implication. */
static void add_one_of(cJSON *all, const ExOneOf *rule) {
    cJSON *item = add_item(all);
    cJSON *then = item;
    if (rule->given != EX_KEY_none) {
        add_required(cJSON_AddObjectToObject(item, "if"), rule->given);
        then = cJSON_AddObjectToObject(item, "then");
    }
    cJSON *forms = cJSON_AddArrayToObject(then, "oneOf");
    add_required(add_item(forms), rule->key);
    add_required(add_item(forms), rule->other);
}

static void add_rules(cJSON *to, ExSection section) {
    cJSON *all = NULL, *needed = NULL;
    for (size_t i = 0; ex_one_of(i); i++) {
        if (ex_one_of(i)->section != section) continue;
        if (!all) all = cJSON_AddArrayToObject(to, "allOf");
        add_one_of(all, ex_one_of(i));
    }
    for (size_t i = 0; ex_with(i); i++) {
        const ExWith *rule = ex_with(i);
        if (rule->section != section) continue;
        if (!needed) needed = cJSON_AddObjectToObject(to, "dependentRequired");
        cJSON_AddItemToArray(cJSON_AddArrayToObject(needed, ex_key_row(rule->key)->name),
                             cJSON_CreateString(ex_key_row(rule->other)->name));
    }
}

static void add_map(cJSON *to, ExSection section) {
    ExSectionRow row = ex_section_row(section);
    cJSON_AddStringToObject(to, "description", row.help);
    cJSON_AddStringToObject(to, "type", "object");
    cJSON_AddFalseToObject(to, "additionalProperties");
    if (section == EX_SECTION_file) cJSON_AddObjectToObject(cJSON_AddObjectToObject(to, "patternProperties"), "^x-");
    cJSON *required = cJSON_AddArrayToObject(to, "required"), *properties = cJSON_AddObjectToObject(to, "properties");
    for (ExKey key = row.first; key < row.end; key++) {
        const ExKeyRow *k = ex_key_row(key);
        cJSON *property = cJSON_AddObjectToObject(properties, k->name);
        cJSON_AddStringToObject(property, "description", k->help);
        add_parsed(property, ex_type_schema(k->type));
        if (ex_is_required(key))
            cJSON_AddItemToArray(required, cJSON_CreateString(k->name));
        else
            add_default(property, k);
    }
    add_rules(to, section);
}

/* A bound is a number or a text with a unit; a budget is one, or two of which the second may be none. */
static void add_budgets(cJSON *definitions) {
    static const char bound[] =
        "{\"type\": [\"number\", \"string\"], \"pattern\": \"^-?[0-9.]+([eE][+-]?[0-9]+)? *([kMG]|[KMG]iB)?$\"}";
    static const char high[] = "{\"anyOf\": [{\"$ref\": \"#/$defs/bound\"}, {\"const\": \"none\"}]}";
    static const char budget[] =
        "{\"anyOf\": [{\"$ref\": \"#/$defs/bound\"}, {\"type\": \"array\", \"minItems\": 2, \"maxItems\": 2, "
        "\"prefixItems\": [{\"$ref\": \"#/$defs/bound\"}, {\"$ref\": \"#/$defs/high\"}]}]}";
    add_parsed(cJSON_AddObjectToObject(definitions, "bound"), bound);
    add_parsed(cJSON_AddObjectToObject(definitions, "high"), high);
    add_parsed(cJSON_AddObjectToObject(definitions, "budget"), budget);
    cJSON *map = cJSON_AddObjectToObject(definitions, "budgets");
    cJSON_AddStringToObject(map, "type", "object");
    cJSON_AddFalseToObject(map, "additionalProperties");
    cJSON *properties = cJSON_AddObjectToObject(map, "properties");
    for (ExMetric metric = 0; metric < EX_METRIC_COUNT; metric++) {
        cJSON *property = cJSON_AddObjectToObject(properties, ex_metric(metric)->name);
        cJSON_AddStringToObject(property, "description", ex_metric(metric)->help);
        cJSON_AddStringToObject(property, "$ref", "#/$defs/budget");
    }
}

static void add_objectives(cJSON *definitions) {
    cJSON *names = cJSON_AddArrayToObject(cJSON_AddObjectToObject(definitions, "objective"), "enum");
    for (ExMetric metric = 0; metric < EX_METRIC_COUNT; metric++) {
        char larger[64];
        snprintf(larger, sizeof larger, "-%s", ex_metric(metric)->name);
        cJSON_AddItemToArray(names, cJSON_CreateString(ex_metric(metric)->name));
        cJSON_AddItemToArray(names, cJSON_CreateString(larger));
    }
}

bool ex_print_schema(SuText *out) {
    cJSON *schema = cJSON_CreateObject();
    cJSON_AddStringToObject(schema, "$schema", "https://json-schema.org/draft/2020-12/schema");
    cJSON_AddStringToObject(schema, "title", "mossc space of specs");
    add_map(schema, EX_SECTION_file);
    cJSON *definitions = cJSON_AddObjectToObject(schema, "$defs");
    for (ExSection section = EX_SECTION_file + 1; section < EX_SECTION_none; section++)
        add_map(cJSON_AddObjectToObject(definitions, ex_section_row(section).id), section);
    add_budgets(definitions);
    add_objectives(definitions);
    char *text = cJSON_Print(schema);
    if (text) su_text_add(out, "%s\n", text);
    cJSON_Delete(schema);
    cJSON_free(text);
    return text != NULL;
}
