/* The values of an axis: written one by one, or a row of numbers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "explore/number.h"
#include "explore/parse.h"
#include "support/str.h"

#define KEY(section, key) EX_KEY_##section##_##key

/* What expressions see of a scalar. */
static ExValue value_of(const FeNode *node) {
    double number;
    if (node->plain && strcmp(node->text, "none") == 0) return (ExValue){.type = EX_NONE};
    if (node->plain && strcmp(node->text, "true") == 0) return (ExValue){.type = EX_TRUTH, .number = 1};
    if (node->plain && strcmp(node->text, "false") == 0) return (ExValue){.type = EX_TRUTH};
    if (node->plain && fe_parse_real(node->text, &number)) return (ExValue){.type = EX_NUMBER, .number = number};
    return (ExValue){.type = EX_WORD, .word = node->text};
}

/* ---- values that are there twice */

typedef struct Entry {
    const char *text;
    size_t index;
} Entry;

static int by_text(const void *left, const void *right) {
    const Entry *a = left, *b = right;
    int order = strcmp(a->text, b->text);
    return order ? order : a->index < b->index ? -1 : a->index > b->index;
}

static void add_text(SuText *out, const char *text) { su_text_add(out, "%zu:%s", strlen(text), text); }

/* A text that no other value has. Numbers are compared by what they are worth. */
static void describe(const FeNode *node, SuText *out) {
    ExValue value = node->kind == FE_SCALAR ? value_of(node) : (ExValue){0};
    if (node->kind == FE_SCALAR && value.type == EX_NUMBER) {
        su_text_add(out, "#%.17g", value.number == 0 ? 0 : value.number);
    } else if (node->kind == FE_SCALAR) {
        su_text_add(out, "%c", value.type == EX_WORD ? '"' : '.');
        add_text(out, node->text);
    }
    if (node->kind == FE_MAPPING) su_text_add(out, "{%zu", node->count);
    if (node->kind == FE_SEQUENCE) su_text_add(out, "[%zu", node->count);
    for (size_t i = 0; i < node->count; i++) {
        if (node->kind == FE_MAPPING) add_text(out, node->pairs[i].key);
        describe(node->kind == FE_MAPPING ? node->pairs[i].value : node->items[i], out);
    }
}

static void check_twice(const FeReader *r, const FeNode *list) {
    Entry *entries = SU_NEW_ARRAY(r->arena, Entry, list->count);
    for (size_t i = 0; i < list->count; i++) {
        SuText text = {0};
        describe(list->items[i], &text);
        entries[i] = (Entry){su_printf(r->arena, "%s", text.size ? text.text : ""), i};
        su_text_free(&text);
    }
    qsort(entries, list->count, sizeof(Entry), by_text);
    for (size_t i = 1; i < list->count; i++) {
        const FeNode *node = list->items[entries[i].index];
        if (strcmp(entries[i - 1].text, entries[i].text) != 0 || node->kind == FE_POISON) continue;
        su_report(r->diags, SU_CODE_unfit_value, node->span, "its points would be the same", "%s is there twice",
                  fe_node_what(r->arena, node));
    }
}

/* ---- values one by one */

static bool check_value(const FeReader *r, const FeNode *node, const ExValue *value) {
    if (fe_node_empty(node))
        return su_report(r->diags, SU_CODE_wrong_value, node->span, "write none, or {} for an empty map",
                         "a value is missing here");
    if (value->type == EX_NUMBER && !isfinite(value->number))
        return su_report(r->diags, SU_CODE_wrong_value, node->span, NULL, "%s is too large", fe_node_what(r->arena, node));
    return true;
}

static void read_list(const FeReader *r, const FeNode *list, ExAxis *axis) {
    const size_t errors = r->diags->errors;
    ExValue *values = SU_NEW_ARRAY(r->arena, ExValue, list->count);
    const FeNode **nodes = SU_NEW_ARRAY(r->arena, const FeNode *, list->count);
    for (size_t i = 0; i < list->count; i++) {
        nodes[i] = list->items[i];
        if (nodes[i]->kind != FE_SCALAR) axis->opaque = true;
        if (nodes[i]->kind == FE_SCALAR) values[i] = value_of(nodes[i]);
        if (nodes[i]->kind != FE_POISON) check_value(r, nodes[i], &values[i]);
    }
    if (axis->opaque) memset(values, 0, list->count * sizeof *values);
    axis->nodes = nodes;
    axis->values = values;
    check_twice(r, list);
    axis->n_values = r->diags->errors == errors ? list->count : 0;
}

/* ---- rows of numbers */

typedef struct Row {
    ExDecimal from, to, step;
    bool multiply;
    ExKey step_key;
} Row;

/* A key's number as it is written. */
static bool read_decimal(const FeReader *r, const ExMap *map, ExKey key, ExDecimal *out) {
    const char *text;
    double number;
    if (!ex_read_number(r, map, key, &text, &number)) return false;
    return ex_decimal(text, out) || su_report(r->diags, SU_CODE_wrong_value, ex_node(map, key)->span, NULL,
                                              "'%s': more than 36 digits", ex_key_name(r->arena, key));
}

static bool read_row(const FeReader *r, const ExMap *map, Row *out) {
    bool ok = read_decimal(r, map, KEY(axis, from), &out->from);
    ok = read_decimal(r, map, KEY(axis, to), &out->to) && ok;
    out->multiply = map->pairs[KEY(axis, times)] != NULL;
    out->step_key = out->multiply ? KEY(axis, times) : KEY(axis, step);
    return read_decimal(r, map, out->step_key, &out->step) && ok && !(out->multiply && map->pairs[KEY(axis, step)]);
}

static bool is_above(ExDecimal a, ExDecimal b) {
    int order;
    return ex_decimal_compare(a, b, &order) && order > 0;
}

/* Whether the row grows and has an end. */
static bool check_row(const FeReader *r, const ExMap *map, const Row *row) {
    const ExDecimal zero = {0}, one = {.digits = 1};
    const FeNode *step = ex_node(map, row->step_key), *from = ex_node(map, KEY(axis, from)), *to = ex_node(map, KEY(axis, to));
    if (!is_above(row->step, row->multiply ? one : zero))
        return su_report(r->diags, SU_CODE_wrong_value, step->span, NULL, "'%s': expected a number above %d, got %s",
                         ex_key_name(r->arena, row->step_key), row->multiply, fe_node_what(r->arena, step));
    if (row->multiply && !is_above(row->from, zero))
        return su_report(r->diags, SU_CODE_unfit_value, from->span, NULL,
                         "'axis.from': expected a number above 0 beside 'axis.times'");
    if (is_above(row->from, row->to))
        return su_report(r->diags, SU_CODE_unfit_value, to->span, NULL, "'axis.to' is below 'axis.from': no number is in the row");
    return true;
}

static bool next_in_row(const Row *row, ExDecimal *number) {
    return row->multiply ? ex_decimal_multiply(*number, row->step, number) : ex_decimal_add(*number, row->step, number);
}

static void read_numbers(const FeReader *r, const ExMap *map, ExAxis *axis) {
    Row row;
    if (!read_row(r, map, &row) || !check_row(r, map, &row)) return;
    const SuSpan span = axis->value_span, step = ex_node(map, row.step_key)->span;
    size_t capacity = 0, value_capacity = 0, count = 0;
    const FeNode **nodes = NULL;
    ExValue *values = NULL;
    int order = -1;
    bool exact = true;
    for (ExDecimal number = row.from; exact; count++) {
        exact = ex_decimal_compare(number, row.to, &order);
        if (!exact || order > 0) break;
        if (count == EX_MAX_VALUES) {
            su_report(r->diags, SU_CODE_too_large, step, NULL, "an axis of more than %d values", EX_MAX_VALUES);
            return;
        }
        FeNode *node = SU_NEW(r->arena, FeNode);
        *node = (FeNode){.kind = FE_SCALAR, .text = ex_decimal_text(r->arena, number), .plain = true, .span = span, .nodes = 1};
        nodes = su_grow(r->arena, nodes, &capacity, count + 1, sizeof *nodes);
        values = su_grow(r->arena, values, &value_capacity, count + 1, sizeof *values);
        nodes[count] = node;
        values[count] = value_of(node);
        exact = next_in_row(&row, &number);
    }
    if (!exact) {
        su_report(r->diags, SU_CODE_unfit_value, step, "list them under 'values'", "the numbers of this row have too many digits");
        return;
    }
    axis->nodes = nodes;
    axis->values = values;
    axis->n_values = count;
}

void ex_read_values(const ExParse *p, const ExMap *map, ExAxis *axis) {
    const FePair *values = map->pairs[KEY(axis, values)], *from = map->pairs[KEY(axis, from)];
    if (values && from) return; /* reported */
    if (values) {
        axis->value_span = values->key_span;
        const FeNode *list = ex_read_list(&p->reader, map, KEY(axis, values), 1, EX_MAX_VALUES);
        if (list) read_list(&p->reader, list, axis);
    } else if (from) {
        axis->value_span = from->key_span;
        read_numbers(&p->reader, map, axis);
    }
}

/* ---- templates */

bool ex_is_dollar(const FeNode *node) { return node->kind == FE_SCALAR && node->plain && strcmp(node->text, "$") == 0; }

static bool has_dollar(const FeNode *node) {
    if (ex_is_dollar(node)) return true;
    for (size_t i = 0; i < node->count; i++)
        if (has_dollar(node->kind == FE_MAPPING ? node->pairs[i].value : node->items[i])) return true;
    return false;
}

void ex_read_set(const ExParse *p, const ExMap *map, ExAxis *axis) {
    const FeNode *node = ex_node(map, KEY(axis, set));
    if (!node) return;
    if (node->kind == FE_MAPPING && has_dollar(node))
        axis->set = node;
    else
        ex_wrong_value(&p->reader, node, KEY(axis, set),
                       node->kind == FE_MAPPING ? "without $ all values of the axis would give the same spec" : NULL);
}
