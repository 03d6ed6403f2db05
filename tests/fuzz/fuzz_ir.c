/* libFuzzer target: any bytes as the text form of a graph. Nothing may crash, leak or hang, and every refusal has a reason. What
 * is read can be printed; what also verifies reads back from its print as the same graph, has finite costs, and, when it is
 * small, can be evaluated: the evaluators trust the verifier, so this is what shows that they may. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/eval.h"
#include "ir/graph.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A graph is evaluated when all its values together have at most so many elements, and a token takes at most so many operations. */
enum { MOST_ELEMENTS = 1 << 15, MOST_FLOPS = 1 << 18, TOKENS = 3 };

static char *print(const IrGraph *g) {
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) abort();
    ir_print(g, out);
    if (fclose(out) != 0) abort();
    return text;
}

static void check_round_trip(const IrGraph *g, const char *text) {
    SuArena arena = {0};
    SuDiags diags = {0};
    SuSource source = {.path = "printed", .text = text, .size = strlen(text)};
    const IrGraph *again = ir_parse(&arena, &source, &diags);
    if (!again || !ir_verify(again, &diags) || !ir_graph_equal(g, again, NULL)) abort();
    char *same = print(again);
    if (strcmp(same, text) != 0) abort();
    free(same);
    su_diags_free(&diags);
    su_arena_free(&arena);
}

static double elements_of(const IrValue *value) {
    double n = 1;
    for (int d = 0; d < value->type.rank; d++) { n *= fabs((double)value->type.dim[d]); } /* IR_R counts 1 */
    return n;
}

static bool is_small(const IrGraph *g) {
    double elements = 0, flops = 0;
    for (size_t i = 0; i < g->n_values; i++) elements += elements_of(&g->values[i]);
    for (size_t i = 0; i < g->n_nodes; i++) {
        IrCost cost = ir_cost(g, &g->nodes[i], 1, TOKENS);
        if (!(cost.flops >= 0) || !(cost.weight_bytes >= 0) || !(cost.state_bytes >= 0)) abort();
        flops += cost.flops;
    }
    return elements <= MOST_ELEMENTS && flops <= MOST_FLOPS;
}

enum { POOL = 4 * MOST_ELEMENTS }; /* floats: a row of one weight takes 16 bytes of q4 */

typedef struct Weights {
    const IrGraph *g;
    float *pool; /* [POOL] */
} Weights;

/* Blocks whose parts end where the pool does. */
static IrBlocks blocks_of(const Weights *weights, const IrValue *value) {
    const uint64_t K = (uint64_t)value->type.dim[value->type.rank - 1], rows = (uint64_t)elements_of(value) / K;
    IrBlocks blocks = {.dtype = value->type.dtype, .rows = rows, .K = K};
    for (int i = 0; i < IR_PARTS; i++) {
        uint64_t bytes = rows * ir_part_bytes(blocks.dtype, (IrPart)i, K);
        if (bytes > 0) blocks.part[i] = (const uint8_t *)(weights->pool + POOL) - bytes;
    }
    return blocks;
}

/* Every weight is the end of the same numbers, so that what reads past it leaves the pool. */
static IrElements find_weight(void *context, const char *tensor) {
    const Weights *weights = context;
    double n = 0; /* the largest of this name: one may stand as it is and transformed */
    for (size_t i = 0; i < weights->g->n_values; i++) {
        const IrValue *value = &weights->g->values[i];
        if (value->kind != IR_WEIGHT || strcmp(value->name, tensor) != 0) continue;
        if (ir_is_blocks(value->type.dtype)) return (IrElements){.blocks = blocks_of(weights, value)};
        n = fmax(n, elements_of(value));
    }
    return (IrElements){.f = weights->pool + POOL - (size_t)n};
}

/* Small numbers, and a few that are not usual. */
static void fill(float *pool) {
    static const float odd[] = {INFINITY, 1e-40f, -3e38f, 0};
    for (int i = 0; i < POOL; i++) pool[i] = i % 97 ? (float)(i * 37 % 101 - 50) / 64 : odd[i % 4];
}

static void evaluate(const IrGraph *g, IrEval *eval, double *logits) {
    SuDiags diags = {0};
    if (!eval) abort();
    bool ok = true;
    for (int32_t t = 0; t < TOKENS && ok; t++) ok = ir_eval_token(eval, t, logits, &diags);
    if (ok == (diags.errors > 0)) abort();
    if (!ir_eval_value(eval, g->logits)) abort();
    ir_eval_free(eval);
    su_diags_free(&diags);
}

static void check_meaning(const IrGraph *g) {
    if (!is_small(g)) return;
    Weights weights = {.g = g, .pool = malloc(POOL * sizeof(float))};
    double *logits = malloc((size_t)g->values[g->logits].type.dim[1] * sizeof *logits);
    fill(weights.pool);
    evaluate(g, ir_eval32_new(g, find_weight, &weights), logits);
    evaluate(g, ir_eval64_new(g, find_weight, &weights), logits);
    free(logits);
    free(weights.pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    SuArena arena = {0};
    SuDiags diags = {0};
    char *copy = malloc(size + 1); /* readers may count on a NUL behind the text */
    if (size) memcpy(copy, data, size);
    copy[size] = '\0';
    SuSource source = {.path = "input", .text = copy, .size = size};
    const IrGraph *g = ir_parse(&arena, &source, &diags);
    if (g) {
        char *text = print(g);
        if (ir_verify(g, &diags)) {
            check_round_trip(g, text);
            check_meaning(g);
        } else if (!diags.errors) {
            abort();
        }
        free(text);
    } else if (!diags.errors) {
        abort();
    }
    su_diags_free(&diags);
    su_arena_free(&arena);
    free(copy);
    return 0;
}
