/* The last step of fusion: what is decided by looking at the neighbours of regions that are complete.
 *
 * Requires: the passes before it. Provides: every linear and every attend in a region; the head with its scaling, and the norm
 * before it, which makes only the rows whose logits are asked for; rope with its attention. With elementwise fusion also what a
 * one-row step fuses (one of few rows: where it can, schedule/few.c), and others do not: a norm is made again by each region that reads it, which costs less than a stage of its
 * own; a convolution is computed by the linear that makes its x. Destroys: nothing. */
#include "passes/graph_tools.h"
#include "passes/passes.h"

bool ps_is_linear(IrOp op) { return op == IR_OP_linear || op == IR_OP_linear_all || op == IR_OP_linear_routed; }

IrRoles ps_linear_roles(const IrNode *linear) {
    IrRoles roles = ir_no_roles();
    roles.of[IR_ROLE_x] = linear->operands[0];
    roles.of[IR_ROLE_w] = linear->operands[1];
    if (linear->op == IR_OP_linear_routed) roles.of[IR_ROLE_experts] = linear->operands[2];
    roles.of[IR_ROLE_linear] = roles.of[IR_ROLE_y] = linear->results[0];
    return roles;
}

void ps_make_linear_region(IrGraph *g, const PsGroup *group, const IrRoles *roles) {
    char name[96];
    ps_linear_name(g, roles->of[IR_ROLE_w], name, sizeof name);
    ps_make_region(g, IR_REGION_LINEAR, roles->of[IR_ROLE_y] == g->logits ? "head" : name, group, roles);
}

static void add(const IrGraph *g, PsGroup *group, const IrNode *node) { ps_group_add(group, (IrNodeId)(node - g->nodes)); }

/* ---- linears and attention that stand in no region yet */

static void lone_linear(IrGraph *g, const IrNode *linear) {
    PsGroup group = {.n = 0};
    IrRoles roles = ps_linear_roles(linear);
    add(g, &group, linear);
    const IrNode *last = ps_maker(g, g->logits);
    if (last->op == IR_OP_scale && last->operands[0] == linear->results[0] && last->region == IR_NONE) {
        add(g, &group, last);
        roles.of[IR_ROLE_scale] = roles.of[IR_ROLE_y] = g->logits;
    }
    ps_make_linear_region(g, &group, &roles);
}

/* The value before rope, which joins the group, or the value itself. */
static IrValueId before_rope(const IrGraph *g, const PsUses *uses, IrValueId value, PsGroup *group) {
    const IrNode *rope = ps_maker(g, value);
    if (rope == NULL || rope->op != IR_OP_rope || uses->count[value] != 1) return value;
    add(g, group, rope);
    return rope->operands[0];
}

static void lone_attention(IrGraph *g, const PsUses *uses, const IrNode *attend) {
    static const IrRole roles_of[] = {IR_ROLE_q, IR_ROLE_k, IR_ROLE_v, IR_ROLE_COUNT, IR_ROLE_k_cache, IR_ROLE_v_cache};
    PsGroup group = {.n = 0};
    IrRoles roles = ir_no_roles();
    for (int i = 0; i < 6; i++)
        if (roles_of[i] != IR_ROLE_COUNT) roles.of[roles_of[i]] = before_rope(g, uses, attend->operands[i], &group);
    if (roles.of[IR_ROLE_q] != attend->operands[0]) roles.of[IR_ROLE_rope] = attend->operands[0];
    roles.of[IR_ROLE_y] = attend->results[0];
    add(g, &group, attend);
    ps_make_region(g, IR_REGION_ATTENTION, ps_part_name(g, roles.of[IR_ROLE_k_cache], "attention"), &group, &roles);
}

static void enclose(IrGraph *g, const PsUses *uses) {
    for (size_t n = 0; n < g->n_nodes; n++) {
        if (g->nodes[n].region != IR_NONE) continue;
        if (ps_is_linear(g->nodes[n].op)) lone_linear(g, &g->nodes[n]);
        if (g->nodes[n].op == IR_OP_attend) lone_attention(g, uses, &g->nodes[n]);
    }
}

/* ---- norms and convolutions */

static const IrNode *norm_of(const IrGraph *g, IrValueId value) {
    const IrNode *norm = ps_maker(g, value);
    bool is = norm != NULL && (norm->op == IR_OP_rms_norm || norm->op == IR_OP_layer_norm) && norm->region == IR_NONE;
    return is ? norm : NULL;
}

static bool is_x(const IrGraph *g, const IrNode *node, IrValueId value) {
    if (node->region == IR_NONE) return false;
    const IrRegion *region = &g->regions[node->region];
    return (region->kind == IR_REGION_LINEAR || region->kind == IR_REGION_ROUTER) && region->roles.of[IR_ROLE_x] == value &&
           ps_is_linear(node->op);
}

static void mark_head(IrGraph *g, const PsUses *uses, IrRegion *region) {
    IrValueId x = region->roles.of[IR_ROLE_x];
    if (region->roles.of[IR_ROLE_y] == g->logits && norm_of(g, x) != NULL && uses->count[x] == 1)
        region->roles.of[IR_ROLE_output_norm] = x;
}

/* Norms of rows whose readers are all linears or routers. Those of a slice are short, those in runs are many; they stay. */
static void fold_norms(IrGraph *g) {
    SuArena scratch = {0};
    bool *folds = SU_NEW_ARRAY(&scratch, bool, g->n_values);
    for (size_t v = 0; v < g->n_values; v++) {
        const IrNode *norm = norm_of(g, (IrValueId)v);
        const IrNode *x = norm != NULL ? ps_maker(g, norm->operands[0]) : NULL;
        bool runs = norm != NULL && norm->op == IR_OP_rms_norm && norm->attrs[IR_RMS_NORM_runs].i > 1;
        folds[v] = norm != NULL && !runs && (x == NULL || x->op != IR_OP_slice);
    }
    for (size_t n = 0; n < g->n_nodes; n++)
        for (int i = 0; i < g->nodes[n].n_operands; i++)
            if (i > 0 || !is_x(g, &g->nodes[n], g->nodes[n].operands[i])) folds[g->nodes[n].operands[i]] = false;
    for (size_t r = 0; r < g->n_regions; r++) {
        IrRoles *roles = &g->regions[r].roles;
        if (roles->of[IR_ROLE_x] != IR_NONE && folds[roles->of[IR_ROLE_x]]) roles->of[IR_ROLE_norm] = roles->of[IR_ROLE_x];
    }
    su_arena_free(&scratch);
}

/* The convolution region that is the only reader of a plain linear, unmixed. */
static void join_conv(IrGraph *g, const PsUses *uses, IrRegion *region) {
    static const IrRole none[] = {IR_ROLE_w2,        IR_ROLE_act,      IR_ROLE_sum,   IR_ROLE_addend,
                                  IR_ROLE_out_scale, IR_ROLE_residual, IR_ROLE_scale, IR_ROLE_experts};
    IrNodeId user = ps_only_user(uses, region->roles.of[IR_ROLE_y]);
    if (region->kind != IR_REGION_LINEAR || user == IR_NONE || g->nodes[user].op != IR_OP_conv) return;
    if (g->nodes[user].region == IR_NONE || ps_maker(g, region->roles.of[IR_ROLE_linear])->op != IR_OP_linear) return;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        if (region->roles.of[none[i]] != IR_NONE) return;
    const IrRoles *conv = &g->regions[g->nodes[user].region].roles;
    if (conv->of[IR_ROLE_experts] == IR_NONE) region->roles.of[IR_ROLE_conv] = conv->of[IR_ROLE_y];
}

void ps_regions(IrGraph *g, bool fold) {
    SuArena scratch = {0};
    PsUses uses = ps_uses(g, &scratch);
    enclose(g, &uses);
    for (size_t r = 0; r < g->n_regions; r++)
        if (g->regions[r].kind == IR_REGION_LINEAR) mark_head(g, &uses, &g->regions[r]);
    if (fold) fold_norms(g);
    for (size_t r = 0; r < g->n_regions && fold; r++) join_conv(g, &uses, &g->regions[r]);
    su_arena_free(&scratch);
    ps_regroup(g);
}
