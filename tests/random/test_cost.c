/* The costs of phases, held against the costs of the nodes that they were made of: two ways of counting, one from the kernels'
 * descriptions and one from the graph, must agree on specs from the whole language, whatever passes are off. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "frontend/lower.h"
#include "ir/phase_cost.h"
#include "schedule/schedule.h"

enum { SPECS = 150 };

typedef struct Case {
    uint64_t seed;
    const char *passes; /* the one that is off, or "all on" */
    SuText yaml;
    FeSpec spec;
    SuArena arena;
    SuDiags diags;
    IrGraph *graph; /* fused */
    const PgProgram *program;
    bool failed;
} Case;

static void expect(Case *c, const char *what, double got, double expected, bool right) {
    if (right) return;
    if (!c->failed) printf("FAILED: seed %llu, %s\n%s", (unsigned long long)c->seed, c->passes, c->yaml.text);
    printf("  -> %s: %.17g, expected %.17g\n", what, got, expected);
    c->failed = true;
}

static void expect_equal(Case *c, const char *what, double got, double expected) {
    expect(c, what, got, expected, fabs(got - expected) <= 1e-9 * fabs(expected));
}

static double graph_flops(const Case *c, int64_t rows, int64_t position) {
    double flops = 0;
    for (size_t i = 0; i < c->graph->n_nodes; i++) flops += ir_cost(c->graph, &c->graph->nodes[i], rows, position).flops;
    return flops;
}

/* FLOPs of a norm that this phase computes again, though a phase before it has (see inlined norms, one-row steps). */
static double repeated_norm(const PgStep *step, const PgProgram *program, uint32_t index) {
    const PgPhase *phase = &step->phases[index];
    const PgKernel *k = &program->kernels[phase->kernel];
    unsigned slot = k->kind == PG_LINEAR ? PG_LINEAR_NORM_W : PG_ROUTE_NORM_W;
    if ((k->kind != PG_LINEAR && k->kind != PG_ROUTE) || k->norm == PG_NO_NORM) return 0;
    double places = k->x_layout == PG_ROWS ? 1 : (double)(k->x_layout == PG_PLANES ? k->E : k->k);
    for (uint32_t i = 0; i < index; i++) {
        const PgPhase *other = &step->phases[i];
        PgKind kind = program->kernels[other->kernel].kind;
        if (kind != PG_LINEAR && kind != PG_ROUTE) continue;
        const PgRef *norm = &other->operands[kind == PG_LINEAR ? PG_LINEAR_NORM_W : PG_ROUTE_NORM_W];
        bool same = norm->space == PG_WEIGHTS && norm->fixed == phase->operands[slot].fixed;
        if (same) return places * (double)k->K * (k->norm == PG_RMS ? 4 : 7);
    }
    return 0;
}

static void flops_of_phases_are_those_of_nodes(Case *c) {
    const int64_t rows_of[] = {1, 2, 9, 64};
    for (int64_t position = 0; position < 400; position += 333) {
        for (size_t r = 0; r < sizeof rows_of / sizeof *rows_of; r++) {
            PgMode mode = rows_of[r] == 1 ? PG_ROW : PG_BLOCK;
            const PgStep *step = &c->program->steps[mode];
            PgWork work = {.rows = rows_of[r], .segments = 1, .n_out_rows = rows_of[r], .position = position};
            double flops = 0;
            for (uint32_t i = 0; i < step->n_phases; i++)
                flops += pg_phase_cost(c->program, &step->phases[i], &work).flops - repeated_norm(step, c->program, i);
            expect_equal(c, mode == PG_ROW ? "FLOPs of a row" : "FLOPs of rows", flops, graph_flops(c, rows_of[r], position));
        }
    }
}

/* Bytes of each weight that some phase reads: the most that one of them does, since a weight in several phases is one weight. */
static double *weight_bytes(const Case *c, PgMode mode, const PgWork *work) {
    double *bytes = calloc(c->program->n_weights + 1, sizeof *bytes);
    const PgStep *step = &c->program->steps[mode];
    for (uint32_t i = 0; i < step->n_phases; i++) {
        for (int o = 0; o < PG_MAX_OPERANDS; o++) {
            const PgWeight *weight = pg_operand_weight(c->program, &step->phases[i].operands[o]);
            if (!weight) continue;
            PgPhase only = step->phases[i]; /* with this weight alone */
            for (int other = 0; other < PG_MAX_OPERANDS; other++)
                if (other != o && only.operands[other].space == PG_WEIGHTS) only.operands[other].space = PG_NOWHERE;
            double left = pg_phase_cost(c->program, &only, work).weight_bytes;
            for (; left > 0; weight++) { /* of linears in one phase: those behind it too */
                double *most = &bytes[weight - c->program->weights], part = fmin(left, (double)weight->bytes);
                *most = fmax(*most, part);
                left -= part;
            }
        }
    }
    return bytes;
}

static double total(const Case *c, const double *bytes) {
    double sum = 0;
    for (uint32_t i = 0; i < c->program->n_weights; i++) sum += bytes[i];
    return sum;
}

static void a_token_reads_the_active_weights(Case *c) {
    PgWork one = {.rows = 1, .segments = 1, .n_out_rows = 1};
    double *bytes = weight_bytes(c, PG_ROW, &one), sum = total(c, bytes);
    double expected = (double)c->program->active_weight_bytes;
    expect(c, "weight bytes of a token", sum, expected, fabs(sum - expected) <= 1);
    free(bytes);
}

/* More rows choose more experts, never more than there are. */
static void more_rows_read_more_weights(Case *c) {
    double before = 0;
    for (int64_t rows = 1; rows <= 4096; rows *= 4) {
        PgWork work = {.rows = rows, .segments = 1, .n_out_rows = rows};
        double *bytes = weight_bytes(c, PG_BLOCK, &work), sum = total(c, bytes);
        for (uint32_t i = 0; i < c->program->n_weights; i++) {
            double all = (double)c->program->weights[i].bytes;
            expect(c, "bytes of a weight", bytes[i], all, bytes[i] <= all * (1 + 1e-12));
        }
        expect(c, "weight bytes of more rows", sum, before, sum >= before);
        before = sum;
        free(bytes);
    }
}

/* Nothing is counted but what is there, and nothing is left out. */
static void states_are_moved_once(Case *c) {
    const PgStep *step = &c->program->steps[PG_ROW];
    PgWork one = {.rows = 1, .segments = 1, .n_out_rows = 1, .position = 100};
    double bytes = 0, graph = 0;
    for (uint32_t i = 0; i < step->n_phases; i++) bytes += pg_phase_cost(c->program, &step->phases[i], &one).state_bytes;
    for (size_t i = 0; i < c->graph->n_nodes; i++) graph += ir_cost(c->graph, &c->graph->nodes[i], 1, 100).state_bytes;
    expect(c, "state bytes", bytes, graph, bytes >= graph * (1 - 1e-9)); /* padded panels */
    expect(c, "state bytes", bytes, graph, (bytes == 0) == (graph == 0));
}

static bool check(uint64_t seed, PsPass off) {
    Case c = {.seed = seed, .passes = off == PS_PASS_COUNT ? "all on" : ps_pass_name(off)};
    PsOptions passes = {0};
    if (off < PS_PASS_COUNT) passes.off[off] = true;
    draw_spec(seed, draw_weights_of(seed), &c.yaml);
    bool made = fe_spec_parse("random.yaml", c.yaml.text, c.yaml.size, NULL, 0, &c.spec, &c.diags);
    if (made) c.graph = fe_lower(&c.spec, &c.arena);
    made = made && ps_fuse(c.graph, &passes, &c.diags) && sc_program(c.graph, &passes, &c.arena, &c.program, &c.diags);
    expect(&c, "compiled", made, 1, made);
    if (made) {
        flops_of_phases_are_those_of_nodes(&c);
        a_token_reads_the_active_weights(&c);
        more_rows_read_more_weights(&c);
        states_are_moved_once(&c);
    }
    su_text_free(&c.yaml);
    fe_spec_free(&c.spec);
    su_arena_free(&c.arena);
    su_diags_free(&c.diags);
    return !c.failed;
}

int main(void) {
    static const PsPass offs[] = {PS_PASS_COUNT, PS_ROUTE_FUSION, PS_SCAN_FUSION, PS_ELEMENTWISE_FUSION};
    int failed = 0;
    for (uint64_t seed = 1; seed <= SPECS && failed < 3; seed++)
        for (size_t i = 0; i < sizeof offs / sizeof *offs; i++) failed += !check(seed, offs[i]);
    printf("%d of %d specs failed\n", failed, SPECS);
    return failed != 0;
}
