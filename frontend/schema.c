/* The table of keys for people (`mossc help keys`) and for editors (`mossc schema`: JSON Schema, draft 2020-12).
 *
 * The schema says what one map can tell by itself; rules between keys, and what defaults supply, are left to mossc check. */
#include <string.h>

#include "frontend/keys.h"
#include "frontend/spec.h"

/* ---- help ---- */

static void print_words(const char *words, const char *between, FILE *out) {
    const char *word;
    int size;
    bool reserved, first = true;
    for (int i = 0; fe_word_at(words, i, &word, &size, &reserved); i++) {
        if (!reserved) {
            fprintf(out, "%s%.*s", first ? "" : between, size, word);
            first = false;
        }
    }
}

static void print_range(const FeKeyRow *row, FILE *out) {
    if (row->least == row->most)
        fprintf(out, "%lld", (long long)row->least);
    else if (row->most == INT32_MAX)
        fprintf(out, "integer >= %lld", (long long)row->least);
    else
        fprintf(out, "integer %lld..%lld", (long long)row->least, (long long)row->most);
}

static void print_type(const FeKeyRow *row, FILE *out) {
    switch (row->type) {
    case FE_T_INT: print_range(row, out); return;
    case FE_T_INT_OR_WORD:
        print_range(row, out);
        fprintf(out, " | %s", row->words);
        return;
    case FE_T_REAL: fputs("number > 0", out); return;
    case FE_T_DECIMAL: fputs("decimal number > 0", out); return;
    case FE_T_BOOL: fputs("true | false", out); return;
    case FE_T_WORD: print_words(row->words, " | ", out); return;
    case FE_T_WORDS:
        fputs("list of ", out);
        print_words(row->words, ", ", out);
        return;
    case FE_T_MODEL_NAME:
    case FE_T_NAME: fputs("name", out); return;
    case FE_T_TEXT: fputs("text", out); return;
    case FE_T_TOKEN: fputs("none | token | id", out); return;
    case FE_T_MAP: fputs("map", out); return;
    case FE_T_MAP_OR_NONE: fputs("map | none", out); return;
    case FE_T_ENTRIES: fputs("list of entries", out); return;
    case FE_T_DEFINES: fputs("map of named blocks", out); return;
    case FE_T_RESERVED: fputs("not in this version", out); return;
    }
}

static void print_fallback(const FeKeyRow *row, FILE *out) {
    if (fe_fallback_required(row))
        fputs("; required", out);
    else if (fe_fallback_value(row))
        fprintf(out, "; default %s", fe_fallback_value(row));
    else if (fe_fallback_derived(row))
        fprintf(out, "; default %s", fe_fallback_derived(row));
}

static void print_section(FeSection section, FILE *out) {
    FeSectionRow row = fe_section_row(section);
    fprintf(out, "%s%s%s\n", row.path, *row.path ? ": " : "", row.help);
    for (FeKey key = row.first; key < row.end; key++) {
        const FeKeyRow *k = fe_key_row(key);
        fprintf(out, "  %-18s ", k->name);
        print_type(k, out);
        print_fallback(k, out);
        fprintf(out, "\n  %-18s   %s\n", "", k->help);
    }
    fputc('\n', out);
}

void fe_print_keys(FILE *out) {
    for (FeSection section = 0; section < FE_SECTION_none; section++) print_section(section, out);
    fputs("Top-level keys that begin with x- are ignored.\n", out);
}

/* ---- schema ---- */

static void print_string(const char *text, FILE *out) {
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void print_word_strings(const char *words, FILE *out) {
    fputc('"', out);
    print_words(words, "\", \"", out);
    fputc('"', out);
}

static void print_integer(const FeKeyRow *row, FILE *out) {
    fprintf(out, "\"type\": \"integer\", \"minimum\": %lld, \"maximum\": %lld", (long long)row->least, (long long)row->most);
}

/* An empty value, which YAML tools read as null, is {} where a map is wanted. */
static void print_reference(const FeKeyRow *row, bool none, FILE *out) {
    fprintf(out, "\"anyOf\": [{\"$ref\": \"#/$defs/%s\"}, {\"type\": \"null\"}", fe_section_row(row->child).id);
    fputs(none ? ", {\"const\": \"none\"}]" : "]", out);
}

static void print_schema_type(const FeKeyRow *row, FILE *out) {
    switch (row->type) {
    case FE_T_INT: print_integer(row, out); return;
    case FE_T_INT_OR_WORD:
        fputs("\"anyOf\": [{", out);
        print_integer(row, out);
        fprintf(out, "}, {\"const\": \"%s\"}]", row->words);
        return;
    case FE_T_REAL:
    case FE_T_DECIMAL: /* YAML 1.1 tools read 1e-5, without a point, as a text */
        fputs("\"anyOf\": [{\"type\": \"number\", \"exclusiveMinimum\": 0}, "
              "{\"type\": \"string\", \"pattern\": \"^\\\\+?[0-9.]+[eE][+-]?[0-9]+$\"}]",
              out);
        return;
    case FE_T_BOOL: fputs("\"type\": \"boolean\"", out); return;
    case FE_T_WORD:
        fputs("\"enum\": [", out);
        print_word_strings(row->words, out);
        fputc(']', out);
        return;
    case FE_T_WORDS:
        fputs("\"type\": \"array\", \"minItems\": 1, \"uniqueItems\": true, \"items\": {\"enum\": [", out);
        print_word_strings(row->words, out);
        fputs("]}", out);
        return;
    case FE_T_MODEL_NAME: /* a name of digits is a number to YAML tools */
        fputs("\"type\": [\"string\", \"number\"], \"pattern\": \"^[a-z0-9._-]+$\"", out);
        return;
    case FE_T_NAME:
        fputs("\"type\": \"string\", \"pattern\": \"^[a-z][a-z0-9_-]*$\", "
              "\"not\": {\"enum\": [\"ssm\", \"mlp\", \"attention\", \"share\"]}",
              out);
        return;
    case FE_T_TEXT: fputs("\"type\": \"string\", \"minLength\": 1", out); return;
    case FE_T_TOKEN:
        fputs("\"anyOf\": [{\"type\": \"string\", \"minLength\": 1}, {", out);
        print_integer(row, out);
        fputs("}]", out);
        return;
    case FE_T_MAP: print_reference(row, false, out); return;
    case FE_T_MAP_OR_NONE: print_reference(row, true, out); return;
    case FE_T_ENTRIES: fputs("\"type\": \"array\", \"minItems\": 1, \"items\": {\"$ref\": \"#/$defs/item\"}", out); return;
    case FE_T_DEFINES:
        fputs("\"type\": [\"object\", \"null\"], \"propertyNames\": {\"pattern\": \"^[a-z][a-z0-9_-]*$\", "
              "\"not\": {\"enum\": [\"ssm\", \"mlp\", \"attention\", \"share\"]}}, "
              "\"additionalProperties\": {\"$ref\": \"#/$defs/entry\", "
              "\"not\": {\"anyOf\": [{\"required\": [\"name\"]}, {\"required\": [\"repeat\"]}]}}",
              out);
        return;
    case FE_T_RESERVED: fputs("\"not\": {}", out); return;
    }
}

/* A default as JSON: words and decimals of YAML are JSON as they are, but for texts. */
static void print_default(const FeKeyRow *row, FILE *out) {
    const char *value = fe_fallback_value(row);
    if (!value) return;
    bool text = row->type == FE_T_WORD || row->type == FE_T_INT_OR_WORD || row->type == FE_T_MAP_OR_NONE || row->type == FE_T_TOKEN;
    fputs(", \"default\": ", out);
    if (text)
        print_string(value, out);
    else
        fputs(value, out);
}

static void print_properties(FeSectionRow section, const char *indent, FILE *out) {
    for (FeKey key = section.first; key < section.end; key++) {
        const FeKeyRow *row = fe_key_row(key);
        fprintf(out, "%s  \"%s\": {\"description\": ", indent, row->name);
        print_string(row->help, out);
        fputs(", ", out);
        print_schema_type(row, out);
        print_default(row, out);
        fprintf(out, "}%s\n", key + 1 < section.end ? "," : "");
    }
}

/* Only the top level can require keys: everywhere else defaults may give them. */
static void print_required(FeSectionRow section, FILE *out) {
    bool first = true;
    fputs("  \"required\": [", out);
    for (FeKey key = section.first; key < section.end; key++) {
        if (fe_fallback_required(fe_key_row(key))) {
            fprintf(out, "%s\"%s\"", first ? "" : ", ", fe_key_row(key)->name);
            first = false;
        }
    }
    fputs("],\n", out);
}

/* Keys of which at most one may be given. */
static void print_exclusives(FeSectionRow section, FILE *out) {
    for (FeKey key = section.first; key < section.end; key++) {
        FeKey other = fe_exclusive(key);
        if (other != FE_KEY_none && key < other)
            fprintf(out, "      \"not\": {\"required\": [\"%s\", \"%s\"]},\n", fe_key_row(key)->name, fe_key_row(other)->name);
    }
}

static void print_definition(FeSection id, FILE *out) {
    FeSectionRow section = fe_section_row(id);
    fprintf(out, "    \"%s\": {\n      \"description\": ", section.id);
    print_string(section.help, out);
    fputs(",\n      \"type\": \"object\", \"additionalProperties\": false,\n", out);
    print_exclusives(section, out);
    if (id == FE_SECTION_entry) {
        fputs("      \"oneOf\": [{\"required\": [\"ssm\"]}, {\"required\": [\"mlp\"]}, {\"required\": [\"attention\"]}, "
              "{\"required\": [\"repeat\", \"blocks\"]}],\n",
              out);
    }
    fputs("      \"properties\": {\n", out);
    print_properties(section, "      ", out);
    fputs("      }\n    },\n", out);
}

void fe_print_schema(FILE *out) {
    FeSectionRow file = fe_section_row(FE_SECTION_file);
    fputs("{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n  \"title\": \"mossc model specification\",\n",
          out);
    fputs("  \"type\": \"object\", \"additionalProperties\": false,\n  \"patternProperties\": {\"^x-\": {}},\n", out);
    print_required(file, out);
    fputs("  \"properties\": {\n", out);
    print_properties(file, "  ", out);
    fputs("  },\n  \"$defs\": {\n", out);
    for (FeSection section = FE_SECTION_file + 1; section < FE_SECTION_none; section++) print_definition(section, out);
    fputs(
        "    \"item\": {\"anyOf\": [{\"$ref\": \"#/$defs/entry\"}, {\"type\": \"string\", \"pattern\": \"^[a-z][a-z0-9_-]*$\"}]}\n",
        out);
    fputs("  }\n}\n", out);
}
