/* A trained Mamba-1 block of somebody else's as a graph: both evaluators must give its recorded outputs.
 *
 *   test_mambalite DIRECTORY TOKENS FEATURES       DIRECTORY holds one file NAME.f64 of doubles per array (tests/ir/mambalite.py)
 *
 * The model: u = linear_in(input), out = mamba(u). Sizes as trained: D = 64, I = 128, N = 16, W = 4, R = 4. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ir/rig.h"

enum { D = 64, I = 128, N = 16, W = 4, R = 4 };

static void *need(void *pointer, const char *what) {
    if (!pointer) {
        fprintf(stderr, "cannot read %s\n", what);
        exit(1);
    }
    return pointer;
}

/* n doubles of an array of the model. */
static double *read_array(Rig *rig, const char *directory, const char *name, int64_t n) {
    char *path = su_printf(&rig->arena, "%s/%s.f64", directory, name);
    double *elements = SU_NEW_ARRAY(&rig->arena, double, (size_t)n);
    FILE *file = need(fopen(path, "rb"), path);
    bool whole = fread(elements, sizeof *elements, (size_t)n, file) == (size_t)n && fgetc(file) == EOF;
    fclose(file);
    need(whole ? elements : NULL, path);
    return elements;
}

/* Elements from `start` on of an array of `total`, as a weight. */
static IrValueId part(Rig *rig, const char *directory, const char *name, int64_t total, int64_t start, IrType type,
                      IrTransform transform) {
    const double *elements = read_array(rig, directory, name, total);
    int64_t n = ir_elements(&type, 0);
    float *floats = SU_NEW_ARRAY(&rig->arena, float, (size_t)n);
    for (int64_t i = 0; i < n; i++) floats[i] = (float)elements[start + i];
    char *unique = su_printf(&rig->arena, "%s.%lld", name, (long long)start);
    rig->names[rig->n_weights] = unique;
    rig->elements[rig->n_weights++].f = floats;
    return ir_weight(rig->b.graph, unique, type, transform);
}

static IrValueId matrix(Rig *rig, const char *directory, const char *name, int64_t rows, int64_t columns) {
    return part(rig, directory, name, rows * columns, 0, ir_type(IR_F32, 2, rows, columns), IR_AS_IS);
}

static IrValueId vector(Rig *rig, const char *directory, const char *name, int64_t n) {
    return part(rig, directory, name, n, 0, ir_type(IR_F32, 1, n), IR_AS_IS);
}

static IrValueId slice(Rig *rig, IrValueId x, int64_t start, int64_t count) {
    return ir_op1_attrs(&rig->b, IR_OP_slice, x, IR_NONE, IR_NONE,
                        RIG_ATTRS([IR_SLICE_start] = {.i = start}, [IR_SLICE_count] = {.i = count}));
}

static IrValueId op2(Rig *rig, IrOp op, IrValueId x, IrValueId y) { return ir_op1(&rig->b, op, x, y, IR_NONE); }
static IrValueId one_group(Rig *rig, IrOp op, IrValueId x, IrValueId y) {
    return ir_op1_attrs(&rig->b, op, x, y, IR_NONE, RIG_ATTRS({.i = 1}));
}
static IrValueId op1(Rig *rig, IrOp op, IrValueId x) { return ir_op1(&rig->b, op, x, IR_NONE, IR_NONE); }

/* c = silu(conv(x) + bias) */
static IrValueId make_conv(Rig *rig, const char *directory, IrValueId x) {
    IrValueId operands[] = {x, matrix(rig, directory, "mamba_conv1d_weight", I, W),
                            ir_state(rig->b.graph, "conv", ir_type(IR_F32, 2, (int64_t)I, (int64_t)(W - 1)))};
    IrValueId y = rig_stateful(rig, IR_OP_conv, operands, 3, NULL);
    return op1(rig, IR_OP_silu, op2(rig, IR_OP_add_bias, y, vector(rig, directory, "mamba_conv1d_bias", I)));
}

/* y = s C + D c with s = exp(dt A) s + (dt c) B */
static IrValueId make_scan(Rig *rig, const char *directory, IrValueId c) {
    IrValueId dbc = op2(rig, IR_OP_linear, c, matrix(rig, directory, "mamba_x_proj_weight", R + 2 * N, I));
    IrValueId dt = op2(rig, IR_OP_linear, slice(rig, dbc, 0, R), matrix(rig, directory, "mamba_dt_proj_weight", I, R));
    dt = op1(rig, IR_OP_softplus, op2(rig, IR_OP_add_bias, dt, vector(rig, directory, "mamba_dt_proj_bias", I)));
    IrValueId A = part(rig, directory, "mamba_A_log", I * N, 0, ir_type(IR_F32, 2, (int64_t)I, (int64_t)N), IR_NEG_EXP);
    IrValueId operands[] = {op1(rig, IR_OP_exp, op2(rig, IR_OP_outer, dt, A)),
                            one_group(rig, IR_OP_inject, op2(rig, IR_OP_mul, dt, c), slice(rig, dbc, R, N)),
                            ir_state(rig->b.graph, "ssm", ir_type(IR_F32, 2, (int64_t)I, (int64_t)N))};
    IrValueId s = rig_stateful(rig, IR_OP_recur, operands, 3, NULL);
    IrValueId skip = op2(rig, IR_OP_mul_param, c, vector(rig, directory, "mamba_D", I));
    return op2(rig, IR_OP_add, one_group(rig, IR_OP_contract, s, slice(rig, dbc, R + N, N)), skip);
}

static void make_model(Rig *rig, const char *directory, int64_t tokens, int64_t features) {
    IrValueId table = matrix(rig, directory, "input", tokens, features);
    IrValueId input = ir_op1_attrs(&rig->b, IR_OP_embed, rig->b.graph->tokens, table, IR_NONE, RIG_ATTRS({.f = 1}));
    IrValueId u = op2(rig, IR_OP_linear, input, matrix(rig, directory, "linear_in_weight", D, features));
    u = op2(rig, IR_OP_add_bias, u, vector(rig, directory, "linear_in_bias", D));
    IrType half = ir_type(IR_F32, 2, (int64_t)I, (int64_t)D); /* in_proj: the rows of x, then those of z */
    IrValueId x = op2(rig, IR_OP_linear, u, part(rig, directory, "mamba_in_proj_weight", 2 * I * D, 0, half, IR_AS_IS));
    IrValueId z = op2(rig, IR_OP_linear, u, part(rig, directory, "mamba_in_proj_weight", 2 * I * D, I * D, half, IR_AS_IS));
    IrValueId y = make_scan(rig, directory, make_conv(rig, directory, x));
    y = op2(rig, IR_OP_mul, y, op1(rig, IR_OP_silu, z));
    rig_finish(rig, op2(rig, IR_OP_linear, y, matrix(rig, directory, "mamba_out_proj_weight", D, I)));
}

/* Largest difference from what was recorded, relative to the largest output when that is above 1. */
static double difference(Rig *rig, bool in_double, int64_t tokens, const double *recorded) {
    double *out = SU_NEW_ARRAY(&rig->arena, double, (size_t)(tokens * D)), worst = 0, largest = 1;
    ir_eval_free(rig_run(rig, in_double, tokens, D, out));
    for (int64_t i = 0; i < tokens * D; i++) {
        largest = fmax(largest, fabs(recorded[i]));
        worst = fmax(worst, isfinite(out[i]) ? fabs(out[i] - recorded[i]) : INFINITY);
    }
    return worst / largest;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: test_mambalite DIRECTORY TOKENS FEATURES\n");
        return 2;
    }
    int64_t tokens = atoi(argv[2]), features = atoi(argv[3]);
    Rig rig;
    rig_start(&rig);
    make_model(&rig, argv[1], tokens, features);
    const double *recorded = read_array(&rig, argv[1], "out", tokens * D);
    double in_double = difference(&rig, true, tokens, recorded), in_float = difference(&rig, false, tokens, recorded);
    printf("  difference from the recorded outputs: %.2e in double, %.2e in float\n", in_double, in_float);
    rig_end(&rig);
    return in_double <= 1e-4 && in_float <= 1e-4 ? 0 : 1;
}
