/* Points of a space: numbers, states, and the edits that make a spec of them. */
#include <math.h>
#include <string.h>

#include "explore/parse.h"
#include "support/str.h"

void ex_choices(const ExSpace *space, uint64_t index, uint32_t *out_choices) {
    for (size_t i = space->n_axes; i-- > 0; index /= space->axes[i].n_values)
        out_choices[i] = (uint32_t)(index % space->axes[i].n_values);
}

uint64_t ex_index(const ExSpace *space, const uint32_t *choices) {
    uint64_t index = 0;
    for (size_t i = 0; i < space->n_axes; i++) index = index * space->axes[i].n_values + choices[i];
    return index;
}

static void take_values(const ExSpace *space, const uint32_t *choices, ExValue *out) {
    for (size_t i = 0; i < space->n_axes; i++) out[i] = space->axes[i].values[choices[i]];
}

/* Whether a rule holds; false with *out_why where it has no truth value. */
static bool holds(const ExExpr *rule, const ExValue *values, const char **out_why) {
    ExValue value;
    if (!ex_eval(rule, values, &value, out_why)) return false;
    if (value.type != EX_TRUTH) *out_why = "the result is no truth value";
    return value.type == EX_TRUTH && value.number != 0;
}

/* A condition without a value counts like a false one, so that what is wrong is counted once. */
static ExPointState check_conditions(const ExSpace *space, const uint32_t *choices, const ExValue *values, const char **out_why,
                                     const ExExpr **out_where) {
    ExPointState state = EX_POINT;
    for (size_t i = 0; i < space->n_axes; i++) {
        const size_t at = space->order[i];
        const ExExpr *when = space->axes[at].when;
        const char *why = NULL;
        if (!when || holds(when, values, &why)) continue;
        if (choices[at] != 0) return EX_TWIN;
        if (!why || state == EX_INVALID) continue;
        state = EX_INVALID;
        *out_why = why;
        *out_where = when;
    }
    return state;
}

ExPointState ex_point(const ExSpace *space, const uint32_t *choices, ExValue *values, ExValue *derived, const char **out_why,
                      const ExExpr **out_where) {
    take_values(space, choices, values);
    ExPointState state = check_conditions(space, choices, values, out_why, out_where);
    for (size_t i = 0; state == EX_POINT && i < space->n_require; i++) {
        const char *why = NULL;
        if (holds(space->require[i], values, &why)) continue;
        state = why ? EX_INVALID : EX_EXCLUDED;
        *out_why = why;
        *out_where = space->require[i];
    }
    for (size_t i = 0; state == EX_POINT && i < space->n_derive; i++) {
        if (ex_eval(space->derive[i].value, values, &derived[i], out_why)) continue;
        state = EX_INVALID;
        *out_where = space->derive[i].value;
    }
    return state;
}

uint64_t ex_twin_of(const ExSpace *space, uint64_t index) {
    uint32_t choices[EX_MAX_AXES];
    ExValue values[EX_MAX_AXES];
    const char *why;
    ex_choices(space, index, choices);
    for (size_t i = 0; i < space->n_axes; i++) { /* behind those that its `when` names */
        const size_t at = space->order[i];
        take_values(space, choices, values);
        if (space->axes[at].when && !holds(space->axes[at].when, values, &why)) choices[at] = 0;
    }
    return ex_index(space, choices);
}

/* ---- edits */

/* The template with `value` for $; what has no $ in it is shared with the template. */
static const FeNode *substitute(SuArena *arena, const FeNode *node, const FeNode *value) {
    if (ex_is_dollar(node)) return value;
    FeNode *copy = NULL;
    for (size_t i = 0; i < node->count; i++) {
        const FeNode *old = node->kind == FE_MAPPING ? node->pairs[i].value : node->items[i];
        FeNode *new = (FeNode *)(uintptr_t)substitute(arena, old, value); /* a tree that is never written to */
        if (new == old) continue;
        if (!copy) {
            copy = SU_NEW(arena, FeNode);
            *copy = *node;
            copy->capacity = node->count;
            if (node->kind == FE_MAPPING)
                copy->pairs = memcpy(SU_NEW_ARRAY(arena, FePair, node->count), node->pairs, node->count * sizeof(FePair));
            else
                copy->items = memcpy(SU_NEW_ARRAY(arena, FeNode *, node->count), node->items, node->count * sizeof(FeNode *));
        }
        *(node->kind == FE_MAPPING ? &copy->pairs[i].value : &copy->items[i]) = new;
    }
    return copy ? copy : node;
}

static bool is_none(const FeNode *node) { return node->kind == FE_SCALAR && node->plain && strcmp(node->text, "none") == 0; }

static FeEdit edit_of(const ExAxis *axis, size_t target, const FeNode *value) {
    return (FeEdit){.path = axis->targets[target].path, .value = value, .span = axis->targets[target].span};
}

static size_t axis_edits(const ExAxis *axis, uint32_t choice, SuArena *arena, FeEdit *out) {
    const FeNode *value = axis->nodes[choice];
    bool merge = axis->set && !is_none(value);
    if (merge) value = substitute(arena, axis->set, value);
    for (size_t i = 0; i < axis->n_targets; i++) {
        out[i] = edit_of(axis, i, value);
        out[i].merge = merge;
    }
    return axis->n_targets;
}

static const char *value_text(SuArena *arena, const ExValue *value) {
    char text[SU_REAL];
    switch (value->type) {
    case EX_NONE: return "none";
    case EX_TRUTH: return value->number != 0 ? "true" : "false";
    case EX_WORD: return value->word;
    case EX_NUMBER: break;
    }
    if (value->number == floor(value->number) && fabs(value->number) < 0x1p53)
        return su_printf(arena, "%.0f", value->number == 0 ? 0 : value->number); /* not -0 */
    return su_strdup(arena, su_real_text(value->number, text));
}

static FeEdit derived_edit(const ExDerive *derive, const ExValue *value, SuArena *arena) {
    FeNode *node = SU_NEW(arena, FeNode);
    *node =
        (FeNode){.kind = FE_SCALAR, .text = value_text(arena, value), .plain = true, .span = ex_span(derive->value), .nodes = 1};
    return (FeEdit){.path = derive->target.path, .value = node, .span = derive->target.span};
}

const FeEdit *ex_edits(const ExSpace *space, const uint32_t *choices, const ExValue *derived, bool with_off, SuArena *arena,
                       size_t *out_count) {
    ExValue values[EX_MAX_AXES];
    size_t most = space->n_derive, count = 0;
    const char *why;
    take_values(space, choices, values);
    for (size_t i = 0; i < space->n_axes; i++) most += space->axes[i].n_targets;
    FeEdit *edits = SU_NEW_ARRAY(arena, FeEdit, most);
    for (size_t i = 0; i < space->n_axes; i++) {
        const ExAxis *axis = &space->axes[i];
        bool off = axis->when && !holds(axis->when, values, &why);
        if (!off || with_off) count += axis_edits(axis, choices[i], arena, &edits[count]);
    }
    for (size_t i = 0; i < space->n_derive; i++) edits[count++] = derived_edit(&space->derive[i], &derived[i], arena);
    *out_count = count;
    return edits;
}

bool ex_has_off(const ExSpace *space, const uint32_t *choices) {
    ExValue values[EX_MAX_AXES];
    const char *why;
    take_values(space, choices, values);
    for (size_t i = 0; i < space->n_axes; i++)
        if (space->axes[i].when && !holds(space->axes[i].when, values, &why)) return true;
    return false;
}
