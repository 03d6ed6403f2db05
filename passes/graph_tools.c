#include "passes/graph_tools.h"

#include <stdio.h>
#include <string.h>

static void count_use(PsUses *uses, IrValueId value, IrNodeId user) {
    if (value == IR_NONE) return;
    uses->count[value]++;
    if (user != IR_NONE) uses->user[value] = user;
}

PsUses ps_uses(const IrGraph *g, SuArena *arena) {
    PsUses uses = {SU_NEW_ARRAY(arena, int32_t, g->n_values), SU_NEW_ARRAY(arena, IrNodeId, g->n_values)};
    for (size_t v = 0; v < g->n_values; v++) uses.user[v] = IR_NONE;
    for (size_t n = 0; n < g->n_nodes; n++)
        for (int i = 0; i < g->nodes[n].n_operands; i++) count_use(&uses, g->nodes[n].operands[i], (IrNodeId)n);
    for (size_t v = 0; v < g->n_values; v++)
        if (g->values[v].kind == IR_STATE) count_use(&uses, g->values[v].next, IR_NONE);
    count_use(&uses, g->logits, IR_NONE);
    return uses;
}

const IrNode *ps_maker(const IrGraph *g, IrValueId value) {
    if (value == IR_NONE || g->values[value].kind != IR_RESULT) return NULL;
    return &g->nodes[g->values[value].node];
}

IrNodeId ps_only_user(const PsUses *uses, IrValueId value) { return uses->count[value] == 1 ? uses->user[value] : IR_NONE; }

void ps_group_add(PsGroup *group, IrNodeId node) {
    if (ps_group_has(group, node)) return;
    if (group->n == PS_MAX_GROUP) SU_BUG("a region of more than %d nodes", PS_MAX_GROUP);
    group->nodes[group->n++] = node;
}

bool ps_group_has(const PsGroup *group, IrNodeId node) {
    for (int i = 0; i < group->n; i++)
        if (group->nodes[i] == node) return true;
    return false;
}

/* The name of a weight or state behind "blocks.3.". */
static const char *inside_block(const char *name) {
    const char *dot = strncmp(name, "blocks.", 7) == 0 ? strchr(name + 7, '.') : NULL;
    return dot != NULL ? dot + 1 : name;
}

const char *ps_part_name(const IrGraph *g, IrValueId of, const char *what) {
    static const char branches[] = "branches.";
    const char *name = inside_block(g->values[of].name), *number = name + strlen(branches);
    if (strncmp(name, branches, strlen(branches)) != 0) return what;
    return su_printf(g->arena, "%s%.*s.%s", branches, (int)strcspn(number, "."), number, what);
}

void ps_make_region(IrGraph *g, IrRegionKind kind, const char *what, const PsGroup *group, const IrRoles *roles) {
    g->regions = su_grow(g->arena, g->regions, &g->regions_capacity, g->n_regions + 1, sizeof *g->regions);
    int32_t block = g->nodes[group->nodes[0]].block;
    const char *name = block >= 0 ? su_printf(g->arena, "blocks.%d.%s", block, what) : su_strdup(g->arena, what);
    g->regions[g->n_regions] = (IrRegion){kind, name, *roles};
    for (int i = 0; i < group->n; i++) {
        IrNode *node = &g->nodes[group->nodes[i]];
        if (node->region != IR_NONE) SU_BUG("node %d is put into two regions", group->nodes[i]);
        node->region = (int32_t)g->n_regions;
    }
    g->n_regions++;
}

/* ---- order. Units (a region, or a node alone) are placed depth first, in the order of their first node. */

typedef struct Regroup {
    IrGraph *g;
    IrNode *order;
    IrNodeId *new_id;   /* of each old node */
    size_t n;
    uint8_t *entered;   /* of each old node: its unit is being placed or is placed */
    IrNodeId *first;    /* of each region: its nodes as a list in graph order */
    IrNodeId *next;     /* of each old node: the next of its region */
} Regroup;

static void list_regions(Regroup *r) {
    for (size_t i = 0; i < r->g->n_regions; i++) r->first[i] = IR_NONE;
    for (size_t i = r->g->n_nodes; i-- > 0;) {
        int32_t region = r->g->nodes[i].region;
        if (region == IR_NONE) continue;
        r->next[i] = r->first[region];
        r->first[region] = (IrNodeId)i;
    }
}

static void place_unit(Regroup *r, IrNodeId first);

static void place_operands(Regroup *r, const IrNode *node) {
    for (int i = 0; i < node->n_operands; i++) {
        const IrNode *maker = ps_maker(r->g, node->operands[i]);
        if (maker == NULL || (node->region != IR_NONE && maker->region == node->region)) continue;
        IrNodeId id = (IrNodeId)(maker - r->g->nodes);
        if (!r->entered[id]) place_unit(r, id);
        if (r->new_id[id] == IR_NONE) SU_BUG("region of node %d depends on itself", id);
    }
}

static void emit(Regroup *r, IrNodeId id) {
    r->new_id[id] = (IrNodeId)r->n;
    r->order[r->n++] = r->g->nodes[id];
}

static void place_unit(Regroup *r, IrNodeId id) {
    const IrNode *node = &r->g->nodes[id];
    if (node->region == IR_NONE) {
        r->entered[id] = 1;
        place_operands(r, node);
        emit(r, id);
        return;
    }
    IrNodeId first = r->first[node->region];
    for (IrNodeId i = first; i != IR_NONE; i = r->next[i]) r->entered[i] = 1;
    for (IrNodeId i = first; i != IR_NONE; i = r->next[i]) place_operands(r, &r->g->nodes[i]);
    for (IrNodeId i = first; i != IR_NONE; i = r->next[i]) emit(r, i);
}

void ps_regroup(IrGraph *g) {
    SuArena scratch = {0};
    Regroup r = {.g = g,
                 .order = SU_NEW_ARRAY(g->arena, IrNode, g->n_nodes),
                 .new_id = SU_NEW_ARRAY(&scratch, IrNodeId, g->n_nodes),
                 .entered = SU_NEW_ARRAY(&scratch, uint8_t, g->n_nodes),
                 .first = SU_NEW_ARRAY(&scratch, IrNodeId, g->n_regions),
                 .next = SU_NEW_ARRAY(&scratch, IrNodeId, g->n_nodes)};
    list_regions(&r);
    for (size_t i = 0; i < g->n_nodes; i++) r.new_id[i] = IR_NONE;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!r.entered[i]) place_unit(&r, (IrNodeId)i);
    g->nodes = r.order;
    g->nodes_capacity = g->n_nodes;
    for (size_t v = 0; v < g->n_values; v++)
        if (g->values[v].kind == IR_RESULT) g->values[v].node = r.new_id[g->values[v].node];
    su_arena_free(&scratch);
}

PsChoice ps_choice(const IrGraph *g, IrValueId expert_indices) {
    const IrNode *select = ps_maker(g, expert_indices);
    return (PsChoice){.E = ir_dim(&g->values[select->operands[0]].type, IR_DIM_CHANNEL),
                      .k = ir_dim(&g->values[expert_indices].type, IR_DIM_SLOT)};
}

const IrValue *ps_weight(const IrGraph *g, IrValueId value) {
    int64_t first;
    IrValueId weight = ir_weight_behind(g, value, &first);
    return weight != IR_NONE ? &g->values[weight] : NULL;
}

PgActivation ps_activation(IrOp op) {
    static const PgActivation activations[IR_OP_COUNT] = {
#define IR_ACTIVATION(name, NAME, flops, exps, exact) [IR_OP_##name] = PG_##NAME,
#include "ir/activation.def"
    };
    return activations[op];
}

void ps_linear_name(const IrGraph *g, IrValueId weight, char *out, size_t size) {
    const IrValue *w = ps_weight(g, weight);
    const char *name = w != NULL ? w->name : "linear";
    name = inside_block(name);
    size_t length = strlen(name);
    if (length > 7 && strcmp(name + length - 7, ".weight") == 0) length -= 7;
    snprintf(out, size, "%.*s", (int)length, name);
}
