/* Are two graphs the same but for the numbers of their values? Values are compared by their names, which verified graphs have
 * once each. */
#include <string.h>

#include "ir/internal.h"

static bool same_value(const IrGraph *a, IrValueId x, const IrGraph *b, IrValueId y) {
    if (x == IR_NONE || y == IR_NONE) return x == y;
    const IrValue *v = &a->values[x], *w = &b->values[y];
    if (v->kind != w->kind || v->transform != w->transform || !ir_type_equal(&v->type, &w->type) ||
        !ir_roles_agree(&v->type, &w->type))
        return false;
    return strcmp(v->name, w->name) == 0;
}

static bool same_attrs(const IrNode *a, const IrNode *b) {
    const IrOpInfo *info = ir_op_info(a->op);
    for (int i = 0; i < info->n_attrs; i++)
        if (info->attr_is_real[i] ? a->attrs[i].f != b->attrs[i].f : a->attrs[i].i != b->attrs[i].i) return false;
    return true;
}

static bool same_region(const IrGraph *a, int32_t x, const IrGraph *b, int32_t y) {
    if (x == IR_NONE || y == IR_NONE) return x == y;
    const IrRegion *r = &a->regions[x], *s = &b->regions[y];
    if (r->kind != s->kind || strcmp(r->name, s->name) != 0) return false;
    for (int i = 0; i < IR_ROLE_COUNT; i++)
        if (!same_value(a, r->roles.of[i], b, s->roles.of[i])) return false;
    return true;
}

static const char *node_difference(const IrGraph *a, const IrNode *x, const IrGraph *b, const IrNode *y) {
    if (x->op != y->op) return "operations of two nodes";
    if (x->n_operands != y->n_operands) return "numbers of operands";
    for (int i = 0; i < x->n_operands; i++)
        if (!same_value(a, x->operands[i], b, y->operands[i])) return "operands";
    for (int i = 0; i < IR_MAX_RESULTS; i++)
        if (!same_value(a, x->results[i], b, y->results[i])) return "results";
    if (!same_attrs(x, y)) return "attributes";
    if (!same_region(a, x->region, b, y->region)) return "regions";
    if (x->block != y->block) return "blocks";
    if (x->span.line != y->span.line || (x->span.line > 0 && x->span.column != y->span.column)) return "spans";
    return NULL;
}

/* The next weight or state at or after *i; false at the end. */
static bool next_constant(const IrGraph *g, size_t *i) {
    while (*i < g->n_values && g->values[*i].kind != IR_WEIGHT && g->values[*i].kind != IR_STATE) ++*i;
    return *i < g->n_values;
}

static bool same_constants(const IrGraph *a, const IrGraph *b) {
    size_t i = 0, j = 0;
    for (;; i++, j++) {
        bool more_a = next_constant(a, &i), more_b = next_constant(b, &j);
        if (more_a != more_b) return false;
        if (!more_a) return true;
        if (!same_value(a, (IrValueId)i, b, (IrValueId)j)) return false;
        if (!same_value(a, a->values[i].next, b, b->values[j].next)) return false;
    }
}

static const char *difference(const IrGraph *a, const IrGraph *b) {
    if (strcmp(a->name, b->name) != 0) return "names";
    if (a->level != b->level) return "levels";
    if (a->max_positions != b->max_positions) return "max_positions";
    if (memcmp(a->spec_hash, b->spec_hash, sizeof a->spec_hash) != 0) return "hashes of the spec";
    if (!same_value(a, a->tokens, b, b->tokens) || !same_value(a, a->positions, b, b->positions)) return "inputs";
    if (!same_constants(a, b)) return "weights or states";
    if (a->n_nodes != b->n_nodes) return "numbers of nodes";
    for (size_t i = 0; i < a->n_nodes; i++) {
        const char *what = node_difference(a, &a->nodes[i], b, &b->nodes[i]);
        if (what) return what;
    }
    return same_value(a, a->logits, b, b->logits) ? NULL : "logits";
}

bool ir_graph_equal(const IrGraph *a, const IrGraph *b, const char **out_difference) {
    const char *what = difference(a, b);
    if (out_difference) *out_difference = what;
    return what == NULL;
}
