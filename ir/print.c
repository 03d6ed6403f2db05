/* The text form of a graph. ir/parse.c states the grammar and reads it back. */
#include <inttypes.h>
#include <string.h>

#include "ir/internal.h"
#include "support/str.h"

const char *ir_dim_word(IrDim role) {
    switch (role) {
    case IR_DIM_UNKNOWN:
    case IR_DIM_ROW:
    case IR_DIM_CHANNEL:
    case IR_DIM_COUNT: return "";
    case IR_DIM_EXPERT: return "expert";
    case IR_DIM_SLOT: return "slot";
    case IR_DIM_INPUT: return "input";
    case IR_DIM_STATE: return "state";
    case IR_DIM_TAP: return "tap";
    case IR_DIM_POSITION: return "position";
    }
    return "";
}

const char *ir_region_word(IrRegionKind kind) {
    switch (kind) {
    case IR_REGION_LINEAR: return "linear";
    case IR_REGION_ROUTER: return "router";
    case IR_REGION_CONV: return "conv";
    case IR_REGION_SCAN: return "scan";
    case IR_REGION_ATTENTION: return "attention";
    case IR_REGION_HEADS: return "heads";
    case IR_REGION_TRAPEZOID: return "trapezoid";
    case IR_REGION_TURN: return "turn";
    }
    SU_BUG("unknown kind of region %d", (int)kind);
}

const char *ir_type_text(const IrType *type, char *buffer) {
    int size = snprintf(buffer, IR_TEXT, "%s[", ir_dtype_word(type->dtype));
    for (int i = 0; i < type->rank; i++) {
        const char *comma = i > 0 ? "," : "", *role = ir_dim_word((IrDim)type->role[i]);
        if (type->dim[i] == IR_R)
            size += snprintf(buffer + size, (size_t)(IR_TEXT - size), "%srows", comma);
        else
            size +=
                snprintf(buffer + size, (size_t)(IR_TEXT - size), "%s%s%s%" PRId64, comma, role, *role ? ":" : "", type->dim[i]);
    }
    snprintf(buffer + size, (size_t)(IR_TEXT - size), "]");
    return buffer;
}

static void print_real(double value, FILE *out) {
    char text[SU_REAL];
    fputs(su_real_text(value, text), out);
}

static void print_type(const IrType *type, FILE *out) {
    char text[IR_TEXT];
    fputs(ir_type_text(type, text), out);
}

static void print_value(const IrGraph *g, IrValueId id, FILE *out) {
    const IrValue *value = &g->values[id];
    switch (value->kind) {
    case IR_RESULT:
    case IR_TOKENS:
    case IR_POSITIONS: fprintf(out, "%%%s", value->name); return;
    case IR_WEIGHT: fprintf(out, "%s@%s", value->transform == IR_NEG_EXP ? "neg_exp " : "", value->name); return;
    case IR_STATE: fprintf(out, "@%s", value->name); return;
    }
}

static void print_attrs(const IrOpInfo *info, const IrNode *node, FILE *out) {
    bool any = false;
    for (int i = 0; i < info->n_attrs; i++) {
        if (i >= info->n_attrs - info->n_flags && node->attrs[i].i == 0) continue;
        fprintf(out, "%s%s=", any ? " " : " {", info->attr_names[i]);
        any = true;
        if (info->attr_is_real[i])
            print_real(node->attrs[i].f, out);
        else
            fprintf(out, "%" PRId64, node->attrs[i].i);
    }
    if (any) fputc('}', out);
}

static void print_node(const IrGraph *g, const IrNode *node, FILE *out) {
    const IrOpInfo *info = ir_op_info(node->op);
    int results = ir_result_count(info, node->n_operands);
    fputs(node->region == IR_NONE ? "  " : "    ", out);
    for (int i = 0; i < results; i++) fprintf(out, "%s%%%s", i > 0 ? ", " : "", g->values[node->results[i]].name);
    fprintf(out, " = %s", info->name);
    for (int i = 0; i < node->n_operands; i++) {
        fputs(i > 0 ? ", " : " ", out);
        print_value(g, node->operands[i], out);
    }
    print_attrs(info, node, out);
    for (int i = 0; i < results; i++) {
        fputs(i > 0 ? ", " : " : ", out);
        print_type(&g->values[node->results[i]].type, out);
    }
    if (node->block >= 0) fprintf(out, " block %" PRId32, node->block);
    if (node->span.line > 0) fprintf(out, " !%" PRIu32 ":%" PRIu32, node->span.line, node->span.column);
    fputc('\n', out);
}

static void print_roles(const IrGraph *g, const IrRegion *region, bool row, FILE *out) {
    bool first = true;
    for (int i = 0; i < IR_ROLE_COUNT; i++) {
        if (region->roles.of[i] == IR_NONE || ir_role_info((IrRole)i)->row != row) continue;
        fprintf(out, "%s %s=", first ? row ? "    row" : "    roles" : "", ir_role_info((IrRole)i)->name);
        print_value(g, region->roles.of[i], out);
        first = false;
    }
    if (!first) fputc('\n', out);
}

static void print_region_end(const IrGraph *g, int32_t region, FILE *out) {
    print_roles(g, &g->regions[region], false, out);
    print_roles(g, &g->regions[region], true, out);
    fputs("  }\n", out);
}

static void print_nodes(const IrGraph *g, FILE *out) {
    int32_t open = IR_NONE;
    for (size_t i = 0; i < g->n_nodes; i++) {
        int32_t region = g->nodes[i].region;
        if (region != open) {
            if (open != IR_NONE) print_region_end(g, open, out);
            if (region != IR_NONE)
                fprintf(out, "  region %s \"%s\" {\n", ir_region_word(g->regions[region].kind), g->regions[region].name);
            open = region;
        }
        print_node(g, &g->nodes[i], out);
    }
    if (open != IR_NONE) print_region_end(g, open, out);
}

static void print_declaration(const IrGraph *g, IrValueId id, const char *word, FILE *out) {
    fprintf(out, "  %s ", word);
    print_value(g, id, out);
    fputs(" : ", out);
    print_type(&g->values[id].type, out);
    fputc('\n', out);
}

static void print_model(const IrGraph *g, FILE *out) {
    static const uint8_t none[sizeof g->spec_hash];
    if (memcmp(g->spec_hash, none, sizeof none) != 0) {
        fputs("  spec ", out);
        for (size_t i = 0; i < sizeof g->spec_hash; i++) fprintf(out, "%02x", g->spec_hash[i]);
        fputc('\n', out);
    }
    if (g->max_positions > 0) fprintf(out, "  max_positions %" PRId64 "\n", g->max_positions);
}

void ir_print(const IrGraph *g, FILE *out) {
    fprintf(out, "graph @%s %s {\n", g->name, g->level == IR_NAIVE ? "naive" : "fused");
    print_model(g, out);
    print_declaration(g, g->tokens, "tokens", out);
    print_declaration(g, g->positions, "positions", out);
    for (size_t i = 0; i < g->n_values; i++) {
        if (g->values[i].kind == IR_WEIGHT) print_declaration(g, (IrValueId)i, "weight", out);
        if (g->values[i].kind == IR_STATE) print_declaration(g, (IrValueId)i, "state", out);
    }
    print_nodes(g, out);
    for (size_t i = 0; i < g->n_values; i++)
        if (g->values[i].kind == IR_STATE && g->values[i].next != IR_NONE)
            fprintf(out, "  next @%s = %%%s\n", g->values[i].name, g->values[g->values[i].next].name);
    if (g->logits != IR_NONE) fprintf(out, "  logits %%%s\n", g->values[g->logits].name);
    fputs("}\n", out);
}
