/* The table of operations, the builder, the shape rules, equality and costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "ir/graph.h"

/* ---------------------------------------------------------------------------------------------- the table */

static void test_rows_of_the_table_are_taken_apart(void **state) {
    (void)state;
    const IrOpInfo *rope = ir_op_info(IR_OP_rope);
    assert_string_equal(rope->name, "rope");
    assert_int_equal(rope->n_attrs, IR_rope_ATTRS);
    assert_string_equal(rope->attr_names[IR_ROPE_dim], "dim");
    assert_string_equal(rope->attr_names[IR_ROPE_theta], "theta");
    assert_true(!rope->attr_is_real[IR_ROPE_dim] && rope->attr_is_real[IR_ROPE_theta]);
    const IrOpInfo *conv = ir_op_info(IR_OP_conv);
    assert_int_equal(conv->min_operands, 2);
    assert_int_equal(conv->max_operands, 3);
    assert_int_equal(conv->n_states, 1);
    assert_int_equal(conv->n_attrs, 0);
    assert_null(conv->attr_names[0]);
    const IrOpInfo *attend = ir_op_info(IR_OP_attend);
    assert_int_equal(attend->min_operands, 6);
    assert_int_equal(attend->n_states, 2);
    assert_int_equal(attend->results, 3);
    assert_int_equal(ir_op_info(IR_OP_add_bias_routed)->traits, IR_ROUTED | IR_ELEMENTWISE);
}

/* ---------------------------------------------------------------------------------------------- the builder */

static void test_weights_are_interned(void **state) {
    (void)state;
    SuArena arena = {0};
    IrGraph *g = ir_graph_new(&arena, "g");
    IrType type = ir_type(IR_BF16, 2, (int64_t)4, (int64_t)8);
    char name[] = "a.weight";
    IrValueId a = ir_weight(g, name, type, IR_AS_IS);
    name[0] = 'b'; /* the graph keeps its own copy */
    assert_int_equal(ir_weight(g, "a.weight", type, IR_AS_IS), a);
    assert_int_not_equal(ir_weight(g, "a.weight", type, IR_NEG_EXP), a);
    assert_int_not_equal(ir_weight(g, "b.weight", type, IR_AS_IS), a);
    for (int i = 0; i < 1000; i++) ir_weight(g, su_printf(&arena, "w%d", i), type, IR_AS_IS);
    assert_int_equal(ir_weight(g, "a.weight", type, IR_AS_IS), a);
    assert_string_equal(g->values[a].name, "a.weight");
    su_arena_free(&arena);
}

static void test_nodes_take_block_span_and_types(void **state) {
    (void)state;
    SuArena arena = {0};
    IrGraph *g = ir_graph_new(&arena, "g");
    IrBuilder b = {.graph = g, .span = {NULL, 12, 3, 4}, .block = 5};
    IrValueId table = ir_weight(g, "e", ir_type(IR_BF16, 2, (int64_t)16, (int64_t)8), IR_AS_IS);
    IrAttr scale = {.f = 2};
    IrValueId x = ir_op1_attrs(&b, IR_OP_embed, g->tokens, table, IR_NONE, &scale);
    IrType expected = ir_type(IR_F32, 2, (int64_t)IR_R, (int64_t)8);
    assert_true(ir_type_equal(&g->values[x].type, &expected));
    const IrNode *node = &g->nodes[g->values[x].node];
    assert_int_equal(node->span.line, 12);
    assert_int_equal(node->block, 5);
    assert_int_equal(node->region, IR_NONE);
    assert_int_equal(node->n_operands, 2);
    assert_int_equal(node->operands[2], IR_NONE);
    assert_int_equal(node->results[1], IR_NONE);
    assert_true(node->attrs[IR_EMBED_scale].f == 2);
    assert_int_equal(ir_elements(&g->values[x].type, 3), 24);
    su_arena_free(&arena);
}

/* ---------------------------------------------------------------------------------------------- shapes */

typedef struct ShapeCase {
    IrOp op;
    const char *operands; /* types, blank between; R rows */
    int64_t attrs[IR_MAX_ATTRS];
    const char *result; /* first result, or the reason after a ! */
} ShapeCase;

/* "f32[R,3]" or "i32[R,2]". */
static IrType type_of(const char *text) {
    IrType type = {.dtype = text[0] == 'i'   ? IR_I32
                            : text[0] == 'b' ? IR_BF16
                            : text[0] == 'q' ? text[1] == '8' ? IR_Q8 : IR_Q4
                                             : IR_F32};
    const char *at = strchr(text, '[');
    while (*at != ']') {
        at++;
        char *end;
        type.dim[type.rank++] = *at == 'R' ? IR_R : strtoll(at, &end, 10);
        at = *at == 'R' ? at + 1 : end;
    }
    return type;
}

static void check_shape(const ShapeCase *c) {
    SuArena arena = {0};
    IrGraph *g = ir_graph_new(&arena, "g");
    IrValueId operands[IR_MAX_OPERANDS];
    int n = 0;
    char *rest = su_strdup(&arena, c->operands);
    for (char *word; (word = strsep(&rest, " ")) != NULL; n++) {
        operands[n] = ir_weight(g, su_printf(&arena, "%d", n), ir_type(IR_F32, 1, (int64_t)1), IR_AS_IS);
        g->values[operands[n]].type = type_of(word);
    }
    IrAttr attrs[IR_MAX_ATTRS];
    for (int i = 0; i < IR_MAX_ATTRS; i++)
        if (i < ir_op_info(c->op)->n_attrs && ir_op_info(c->op)->attr_is_real[i])
            attrs[i].f = (double)c->attrs[i];
        else
            attrs[i].i = c->attrs[i];
    IrType types[IR_MAX_RESULTS];
    const char *why;
    bool ok = ir_infer(g, c->op, operands, n, attrs, types, &why);
    const char *name = ir_op_info(c->op)->name;
    if (c->result[0] == '!') {
        if (ok || strcmp(why, c->result + 1) != 0) fail_msg("%s %s: %s", name, c->operands, ok ? "fits" : why);
    } else {
        IrType expected = type_of(c->result);
        if (!ok || !ir_type_equal(&types[0], &expected)) fail_msg("%s %s: %s", name, c->operands, ok ? "other type" : why);
    }
    su_arena_free(&arena);
}

static const ShapeCase shapes[] = {
    {IR_OP_embed, "i32[R] bf16[16,8]", {0}, "f32[R,8]"},
    {IR_OP_embed, "f32[R,8] bf16[16,8]", {0}, "!tokens must be i32[rows]"},
    {IR_OP_rms_norm, "f32[R,3,8] f32[8]", {0, 1}, "f32[R,3,8]"},
    {IR_OP_rms_norm, "f32[R,8] f32[4]", {0, 2}, "f32[R,8]"},
    {IR_OP_rms_norm, "f32[R,8] f32[8]", {0, 3}, "!runs must be at least 1 and divide K"},
    {IR_OP_rms_norm, "f32[R,8] f32[7]", {0, 1}, "!the weight must be [K] or [K/runs], K as in x"},
    {IR_OP_clamp, "f32[R,3,8]", {0, 1} /* the bits of reals: 1 stands for the least positive one */, "f32[R,3,8]"},
    {IR_OP_clamp, "f32[R,8]", {1, 1}, "!low must be below high"},
    {IR_OP_layer_norm, "f32[R,8] f32[8] f32[8]", {0}, "f32[R,8]"},
    {IR_OP_layer_norm, "f32[R,8] f32[8]", {0}, "!operands are missing"},
    {IR_OP_linear, "f32[R,8] bf16[5,8]", {0}, "f32[R,5]"},
    {IR_OP_linear, "f32[R,3,8] bf16[5,8]", {0}, "f32[R,3,5]"},
    {IR_OP_linear, "f32[R,8] bf16[8,5]", {0}, "!the weight must be [O,K], K as in x"},
    {IR_OP_linear_all, "f32[R,8] bf16[3,5,8]", {0}, "f32[R,3,5]"},
    {IR_OP_linear_all, "f32[R,2,8] bf16[3,5,8]", {0}, "!x has another number of experts than the weight"},
    {IR_OP_linear_routed, "f32[R,8] bf16[3,5,8] i32[R,2]", {0}, "f32[R,2,5]"},
    {IR_OP_linear_routed, "f32[R,2,8] bf16[3,5,8] i32[R,2]", {0}, "f32[R,2,5]"},
    {IR_OP_linear, "f32[R,8] q8[5,8]", {1}, "f32[R,5]"},
    {IR_OP_linear, "f32[R,8] q4[5,8]", {0}, "f32[R,5]"},
    {IR_OP_linear, "f32[R,8] q4[5,8]", {2}, "!rounds must be 0 or 1"},
    {IR_OP_linear_all, "f32[R,8] q8[3,5,8]", {1}, "f32[R,3,5]"},
    {IR_OP_linear_all, "f32[R,8] bf16[3,5,8]", {1}, "!rounds must be 0 where the weight is neither q8 nor q4"},
    {IR_OP_linear_routed, "f32[R,8] q4[3,5,8] i32[R,2]", {1}, "f32[R,2,5]"},
    {IR_OP_linear_routed, "f32[R,8] bf16[3,5,8] i32[R,4]", {0}, "!the expert indices must be i32[rows,k] with k <= E"},
    {IR_OP_slice, "f32[R,3,8]", {2, 6}, "f32[R,3,6]"},
    {IR_OP_slice, "f32[R,8]", {3, 6}, "!the slice reaches past x"},
    {IR_OP_slice, "f32[R,8]", {1, INT64_MAX}, "!the slice reaches past x"},
    {IR_OP_add_bias, "f32[R,3,8] f32[3,8]", {0}, "f32[R,3,8]"},
    {IR_OP_add_bias, "f32[R,8] f32[3,8]", {0}, "!the bias must be [O], or [E,O] for x[rows,E,O]"},
    {IR_OP_add_bias_routed, "f32[R,2,8] f32[3,8] i32[R,2]", {0}, "f32[R,2,8]"},
    {IR_OP_mul_param, "f32[R,8] f32[3,8]", {0}, "f32[R,3,8]"},
    {IR_OP_mul_param, "f32[R,2,8] f32[3,8]", {0}, "!x has another number of experts than the parameter"},
    {IR_OP_mul_param_routed, "f32[R,8] f32[3,8] i32[R,2]", {0}, "f32[R,2,8]"},
    {IR_OP_silu, "f32[R,2,8,4]", {0}, "f32[R,2,8,4]"},
    {IR_OP_silu, "f32[8]", {0}, "!x must be f32 with rows"},
    {IR_OP_add, "f32[R,8] f32[R,3,8]", {0}, "f32[R,3,8]"},
    {IR_OP_mul, "f32[R,3,8] f32[R,8]", {0}, "f32[R,3,8]"},
    {IR_OP_mul, "f32[R,8] f32[R,1]", {0}, "f32[R,8]"},
    {IR_OP_mul,
     "f32[R,1] f32[R,8]",
     {0},
     "!the shapes must be equal, or [rows,I] and [rows,P,I], or those with N, or [rows,I] and [rows,1]"},
    {IR_OP_add,
     "f32[R,8] f32[R,9]",
     {0},
     "!the shapes must be equal, or [rows,I] and [rows,P,I], or those with N, or [rows,I] and [rows,1]"},
    {IR_OP_add,
     "f32[R,3,8] f32[R,1]",
     {0},
     "!the shapes must be equal, or [rows,I] and [rows,P,I], or those with N, or [rows,I] and [rows,1]"},
    {IR_OP_softmax, "f32[R,4]", {0}, "f32[R,4]"},
    {IR_OP_select, "f32[R,4] f32[4]", {2, 1, 1}, "i32[R,2]"},
    {IR_OP_select, "f32[R,12]", {6, 4, 2}, "i32[R,6]"},
    {IR_OP_select, "f32[R,4]", {5, 1, 1}, "!k must be between 1 and E"},
    {IR_OP_select, "f32[R,12]", {2, 5, 2}, "!groups must divide E"},
    {IR_OP_select, "f32[R,12]", {2, 4, 5}, "!top must be between 1 and groups"},
    {IR_OP_select, "f32[R,12]", {7, 4, 2}, "!k must be at most the number of experts in the top groups"},
    {IR_OP_gates, "f32[R,4] i32[R,2]", {1}, "f32[R,2]"},
    {IR_OP_expert_sum, "f32[R,4,8] i32[R,2] f32[R,2]", {0}, "f32[R,8]"},
    {IR_OP_expert_sum, "f32[R,4,8] i32[R,2] f32[R,3]", {0}, "!the combine weights must be f32[rows,k], k as in the expert indices"},
    {IR_OP_expert_sum_routed, "f32[R,2,8] f32[R,2]", {0}, "f32[R,8]"},
    {IR_OP_plane_sum, "f32[R,4,8]", {0}, "f32[R,8]"},
    {IR_OP_mix, "f32[4,8,3] i32[R,2] f32[R,2]", {0}, "f32[R,8,3]"},
    {IR_OP_conv, "f32[R,8] f32[8,4] f32[8,3]", {0}, "f32[R,8]"},
    {IR_OP_conv, "f32[R,8] f32[R,8,4] f32[8,3]", {0}, "f32[R,8]"},
    {IR_OP_conv, "f32[R,8] f32[8,1]", {0}, "f32[R,8]"},
    {IR_OP_conv, "f32[R,8] f32[8,4]", {0}, "!more than one tap needs a history"},
    {IR_OP_conv, "f32[R,8] f32[8,4] f32[8,4]", {0}, "!the history must be f32[I,W-1]"},
    {IR_OP_conv_each, "f32[R,3,8] f32[8,4] f32[3,8,3]", {0}, "f32[R,3,8]"},
    {IR_OP_conv_each, "f32[R,3,8] f32[8,4] f32[3,8,3] i32[R,2]", {0}, "f32[R,3,8]"},
    {IR_OP_conv_each, "f32[R,3,8] f32[8,1]", {0}, "f32[R,3,8]"},
    {IR_OP_conv_each, "f32[R,3,8] f32[8,4]", {0}, "!more than one tap needs a history"},
    {IR_OP_conv_each, "f32[R,3,8] f32[8,4] f32[2,8,3]", {0}, "!the history must be f32[E,C,W-1]"},
    {IR_OP_conv_each_routed, "f32[R,2,8] f32[8,4] f32[3,8,3] i32[R,2]", {0}, "f32[R,2,8]"},
    {IR_OP_conv_each_routed, "f32[R,2,8] f32[8,4] f32[3,8,3] i32[R,1]", {0}, "!the expert indices must be i32[rows,k], k as in x"},
    {IR_OP_outer, "f32[R,8] f32[8,4]", {0}, "f32[R,8,4]"},
    {IR_OP_outer, "f32[R,3,8] f32[8,4]", {0}, "f32[R,3,8,4]"},
    {IR_OP_outer, "f32[R,8] f32[3,8,4]", {0}, "f32[R,3,8,4]"},
    {IR_OP_outer, "f32[R,8] f32[R,8,4]", {0}, "f32[R,8,4]"},
    {IR_OP_outer, "f32[R,2,8] f32[3,8,4]", {0}, "!d has another number of experts than A"},
    {IR_OP_outer_routed, "f32[R,8] f32[3,8,4] i32[R,2]", {0}, "f32[R,2,8,4]"},
    {IR_OP_inject, "f32[R,8] f32[R,4]", {1}, "f32[R,8,4]"},
    {IR_OP_inject, "f32[R,8] f32[R,3,4]", {1}, "f32[R,3,8,4]"},
    {IR_OP_inject, "f32[R,3,8] f32[R,4]", {1}, "f32[R,3,8,4]"},
    {IR_OP_inject, "f32[R,2,8] f32[R,3,4]", {1}, "!v and B have different numbers of planes"},
    {IR_OP_inject, "f32[R,8] f32[R,8]", {2}, "f32[R,8,4]"},
    {IR_OP_inject, "f32[R,8] f32[R,9]", {3}, "!groups must divide the channels of v and the width of B"},
    {IR_OP_inject_sum, "f32[R,8] f32[R,4] f32[R,8,4]", {1}, "f32[R,8,4]"},
    {IR_OP_inject_sum, "f32[R,3,8] f32[R,3,8]", {2}, "f32[R,8,4]"},
    {IR_OP_inject_sum, "f32[R,3,8] f32[R,8]", {2}, "!v and B must be f32[rows,I] and f32[rows,G*N], or both with P"},
    {IR_OP_inject_sum, "f32[R,8] f32[R,4] f32[R,8,3]", {1}, "!the addend must be f32[rows,I,N]"},
    {IR_OP_inject_sum, "f32[R,8] f32[R,9]", {3}, "!groups must divide the channels of v and the width of B"},
    {IR_OP_delay, "f32[R,3,8] f32[3,8]", {0}, "f32[R,3,8]"},
    {IR_OP_delay, "f32[R,8] f32[4]", {0}, "!the state must be f32[I] or f32[P,I], as x"},
    {IR_OP_angle, "f32[R,3] f32[R,4] f32[12]", {0}, "f32[R,12]"},
    {IR_OP_angle, "f32[R,3] f32[R,4] f32[13]", {0}, "!the state must be f32[H*S]"},
    {IR_OP_rotate, "f32[R,2,24] f32[R,8] f32[R,8]", {4}, "f32[R,2,24]"},
    {IR_OP_rotate, "f32[R,24] f32[R,8] f32[R,8]", {3}, "!heads must divide the widths of x and of the angles'"},
    {IR_OP_rotate, "f32[R,24] f32[R,16] f32[R,16]", {4}, "!N must be even and at least 2*S"},
    {IR_OP_rotate, "f32[R,24] f32[R,8] f32[R,4]", {4}, "!x must be f32[rows,(P),H*N], the angles' f32[rows,H*S]"},
    {IR_OP_split, "f32[R,20]", {4, 5, 3}, "f32[R,3,5]"},
    {IR_OP_split, "f32[R,20]", {4, 5, 4}, "!the planes reach past x"},
    {IR_OP_split, "f32[R,2,20]", {4, 5, 3}, "!x must be f32[rows,K]"},
    {IR_OP_transpose, "f32[4,3,5]", {0}, "f32[3,20]"},
    {IR_OP_transpose, "f32[4,1,5]", {0}, "f32[20]"},
    {IR_OP_transpose, "f32[4,5]", {0}, "!w must be a weight [H,P,J]"},
    {IR_OP_repeat, "f32[R,8]", {3, 1}, "f32[R,24]"},
    {IR_OP_repeat, "f32[R,2,8]", {0, 1}, "!times must be at least 1"},
    {IR_OP_repeat, "f32[R,8]", {3, 3}, "!run must divide H"},
    {IR_OP_take, "f32[8,4]", {0, 2, 5}, "f32[5,4]"},
    {IR_OP_take, "f32[3,8]", {1, 4, 4}, "f32[3,4]"},
    {IR_OP_take, "f32[8,4]", {0, 4, 5}, "!the part reaches past w"},
    {IR_OP_recur, "f32[R,8] f32[R,8,4] f32[8,4]", {0}, "f32[R,8,4]"},
    {IR_OP_recur, "f32[R,8,4] f32[R,8,4] f32[8,4]", {0}, "f32[R,8,4]"},
    {IR_OP_recur, "f32[R,8,4] f32[R,3,8,4] f32[3,8,4] i32[R,2]", {0}, "f32[R,3,8,4]"},
    {IR_OP_recur,
     "f32[R,8,4] f32[R,8,4] f32[8,4] i32[R,2]",
     {0},
     "!the expert indices must be i32[rows,k] with k <= E of the state"},
    {IR_OP_recur,
     "f32[R,2,8,4] f32[R,8,4] f32[3,8,4]",
     {0},
     "!a and b must be f32[rows,(E),I,N] like the state, a perhaps without N"},
    {IR_OP_recur_routed, "f32[R,2,8,4] f32[R,8,4] f32[3,8,4] i32[R,2]", {0}, "f32[R,2,8,4]"},
    {IR_OP_contract, "f32[R,3,8,4] f32[R,4]", {1}, "f32[R,3,8]"},
    {IR_OP_contract, "f32[R,8,4] f32[R,8]", {2}, "f32[R,8]"},
    {IR_OP_contract, "f32[R,8,4] f32[R,8]", {1}, "!C must be f32[rows,G*N] or f32[rows,P,G*N], N as in s"},
    {IR_OP_contract, "f32[R,8,4] f32[R,3,4]", {1}, "f32[R,3,8]"},
    {IR_OP_contract, "f32[R,2,8,4] f32[R,3,4]", {1}, "!C has another number of planes than s"},
    {IR_OP_rope, "f32[R,24] i32[R]", {4, 6, 4, 100, 0, 1}, "f32[R,24]"},
    {IR_OP_rope, "f32[R,24] i32[R]", {4, 6, 4, 100, 1, 8, 1, 4, 8192}, "f32[R,24]"},
    {IR_OP_rope, "f32[R,24] i32[R]", {4, 6, 4, 100, 2, 1}, "!interleaved must be 0 or 1"},
    {IR_OP_rope, "f32[R,24] i32[R]", {4, 6, 4, 100, 0, 0}, "!factor must be positive"},
    {IR_OP_rope,
     "f32[R,24] i32[R]",
     {4, 6, 4, 100, 0, 8, 4, 4, 64},
     "!high must be 0, or above low, and low and original positive"},
    {IR_OP_rope, "f32[R,24] i32[R]", {4, 6, 3, 100, 0, 1}, "!dim must be even and at most head_dim"},
    {IR_OP_rope, "f32[R,24] i32[R]", {INT64_MAX, 6, 4, 100, 0, 1}, "!x must be f32[rows,heads*head_dim]"},
    {IR_OP_attend, "f32[R,24] f32[R,12] f32[R,12] i32[R] f32[32,12] f32[32,12]", {4, 2, 6, 32, 1}, "f32[R,24]"},
    {IR_OP_attend,
     "f32[R,24] f32[R,12] f32[R,12] i32[R] f32[32,12] f32[32,12]",
     {4, 2, 6, 31, 1},
     "!the caches must hold the window"},
    {IR_OP_attend, "f32[R,24] f32[R,12] f32[R,12] i32[R] f32[32,12] f32[32,12]", {4, 0, 6, 32, 1}, "!kv_heads must divide heads"},
    {IR_OP_attend, "f32[R,24] f32[R,12] f32[R,12] i32[R] f32[32,12] f32[32,12]", {4, 2, 6, 32, 0}, "!scale must be positive"},
    {IR_OP_mul_param, "f32[R,2147483647] f32[2147483647,2147483647]", {0}, "!a result has more than 2^48 elements"},
};

static void test_shape_rules(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check_shape(&shapes[i]);
}

/* ---------------------------------------------------------------------------------------------- equality */

/* %x = embed, %y = scale %x in a region: the logits. */
static IrGraph *make_small(SuArena *arena) {
    IrGraph *g = ir_graph_new(arena, "g");
    IrBuilder b = {.graph = g, .span = {NULL, 2, 3, 1}, .block = 0};
    IrAttr one = {.f = 1};
    IrValueId w = ir_weight(g, "w", ir_type(IR_F32, 2, (int64_t)4, (int64_t)4), IR_AS_IS);
    IrValueId x = ir_op1_attrs(&b, IR_OP_embed, g->tokens, w, IR_NONE, &one);
    g->logits = ir_op1_attrs(&b, IR_OP_scale, x, IR_NONE, IR_NONE, &one);
    g->level = IR_FUSED;
    g->regions = SU_NEW(arena, IrRegion);
    g->regions[0] = (IrRegion){IR_REGION_LINEAR, "m", ir_no_roles()};
    g->n_regions = 1;
    g->nodes[1].region = 0;
    return g;
}

static void assert_differs(IrGraph *g, const char *in) {
    SuArena arena = {0};
    const char *difference = NULL;
    assert_false(ir_graph_equal(make_small(&arena), g, &difference));
    assert_string_equal(difference, in);
    su_arena_free(&arena);
}

static void test_differences_are_found(void **state) {
    (void)state;
    SuArena arena = {0};
    const char *difference;
    IrGraph *g[15];
    for (int i = 0; i < 15; i++) g[i] = make_small(&arena);
    assert_true(ir_graph_equal(g[0], g[1], &difference));
    assert_null(difference);
    g[0]->nodes[1].attrs[IR_SCALE_factor].f = 2;
    assert_differs(g[0], "attributes");
    g[1]->nodes[1].op = IR_OP_silu;
    assert_differs(g[1], "operations of two nodes");
    g[2]->nodes[1].operands[0] = g[2]->tokens;
    assert_differs(g[2], "operands");
    g[3]->nodes[1].block = 1;
    assert_differs(g[3], "blocks");
    g[4]->nodes[1].span.column = 4;
    assert_differs(g[4], "spans");
    g[5]->nodes[1].region = IR_NONE;
    assert_differs(g[5], "regions");
    g[6]->level = IR_NAIVE;
    assert_differs(g[6], "levels");
    g[7]->logits = g[7]->nodes[0].results[0];
    assert_differs(g[7], "logits");
    g[8]->n_nodes = 1;
    assert_differs(g[8], "numbers of nodes");
    g[9]->values[g[9]->nodes[0].operands[1]].type.dtype = IR_F16;
    assert_differs(g[9], "weights or states");
    g[10]->name = "h";
    assert_differs(g[10], "names");
    g[11]->values[g[11]->nodes[1].results[0]].name = "other";
    assert_differs(g[11], "results");
    g[12]->regions[0].roles.of[IR_ROLE_y] = g[12]->logits;
    assert_differs(g[12], "regions");
    g[13]->max_positions = 5;
    assert_differs(g[13], "max_positions");
    g[14]->spec_hash[15] = 1;
    assert_differs(g[14], "hashes of the spec");
    su_arena_free(&arena);
}

/* ---------------------------------------------------------------------------------------------- costs */

static IrCost cost_of(IrOp op, const char *const *types, const IrValueKind *kinds, int n, const IrAttr *attrs, int64_t rows,
                      int64_t position) {
    SuArena arena = {0};
    IrGraph *g = ir_graph_new(&arena, "g");
    IrBuilder b = {.graph = g, .block = -1};
    IrValueId operands[IR_MAX_OPERANDS];
    for (int i = 0; i < n; i++) {
        operands[i] = ir_weight(g, su_printf(&arena, "%d", i), type_of(types[i]), IR_AS_IS);
        g->values[operands[i]].kind = kinds[i];
    }
    IrCost cost = ir_cost(g, ir_node(&b, op, operands, n, attrs), rows, position);
    su_arena_free(&arena);
    return cost;
}

static void test_costs_count_chosen_experts(void **state) {
    (void)state;
    const IrValueKind kinds[] = {IR_RESULT, IR_WEIGHT, IR_RESULT};
    IrCost routed = cost_of(IR_OP_linear_routed, (const char *[]){"f32[R,8]", "bf16[4,5,8]", "i32[R,2]"}, kinds, 3, NULL, 3, 0);
    assert_true(routed.flops == 3 * 2 * 5 * 16);
    assert_true(routed.weight_bytes == 2 * 5 * 8 * 2);
    IrCost all = cost_of(IR_OP_linear_all, (const char *[]){"f32[R,8]", "bf16[4,5,8]"}, kinds, 2, NULL, 1, 0);
    assert_true(all.flops == 4 * 5 * 16 && all.weight_bytes == 4 * 5 * 8 * 2);
    const IrValueKind embed[] = {IR_TOKENS, IR_WEIGHT};
    IrAttr scale = {.f = 1};
    assert_true(cost_of(IR_OP_embed, (const char *[]){"i32[R]", "f32[100,8]"}, embed, 2, &scale, 1, 0).weight_bytes == 32);
    const IrValueKind recur[] = {IR_RESULT, IR_RESULT, IR_STATE, IR_RESULT};
    IrCost held =
        cost_of(IR_OP_recur, (const char *[]){"f32[R,4,5,3]", "f32[R,4,5,3]", "f32[4,5,3]", "i32[R,1]"}, recur, 4, NULL, 1, 0);
    assert_true(held.flops == 2 * 15 && held.state_bytes == 2 * 15 * 4);
}

/* Rows 0 to 3 after 6 tokens, window 8: they see 7, 8, 8, 8 keys. */
static void test_attention_costs_what_it_sees(void **state) {
    (void)state;
    const char *types[] = {"f32[R,6]", "f32[R,6]", "f32[R,6]", "i32[R]", "f32[8,6]", "f32[8,6]"};
    const IrValueKind kinds[] = {IR_RESULT, IR_RESULT, IR_RESULT, IR_POSITIONS, IR_STATE, IR_STATE};
    IrAttr attrs[] = {[IR_ATTEND_heads] = {.i = 1},
                      [IR_ATTEND_kv_heads] = {.i = 1},
                      [IR_ATTEND_head_dim] = {.i = 6},
                      [IR_ATTEND_window] = {.i = 8},
                      [IR_ATTEND_scale] = {.f = 0.5}};
    IrCost cost = cost_of(IR_OP_attend, types, kinds, 6, attrs, 4, 6);
    assert_true(cost.flops == (7 + 8 + 8 + 8) * (4 * 6 + 3));
    attrs[IR_ATTEND_window].i = 0;
    cost = cost_of(IR_OP_attend, types, kinds, 6, attrs, 1, 9);
    assert_true(cost.flops == 10 * (4 * 6 + 3));
    assert_true(cost.state_bytes == 2 * (10 + 1) * 6 * 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_of_the_table_are_taken_apart),
        cmocka_unit_test(test_weights_are_interned),
        cmocka_unit_test(test_nodes_take_block_span_and_types),
        cmocka_unit_test(test_shape_rules),
        cmocka_unit_test(test_differences_are_found),
        cmocka_unit_test(test_costs_count_chosen_experts),
        cmocka_unit_test(test_attention_costs_what_it_sees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
