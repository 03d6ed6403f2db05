/* The program as text: what runs in each stage of each mode, on which memory, with which kernel. */
#include <inttypes.h>

#include "schedule/schedule.h"
#include "support/table.h"

static const char *const COUNTS[] = {
#define PG_COUNT_ROW(NAME, word) word,
#include "ir/words.def"
};
SU_TABLE_FULL(COUNTS, PG_PER_POSITION_BLOCK + 1);

static void print_epilogue(const PgKernel *k, FILE *out) {
    for (const PgEpilogueStep *s = k->epilogue.steps; s->kind != PG_NO_STEP; s++)
        fprintf(out, " %s",
                s->kind == PG_STEP_ACT ? pg_activation((PgActivation)s->act)->word : pg_step((PgStepKind)s->kind)->word);
}

/* What is fused into a kernel, in the order in which it happens. */
static void print_features(const PgKernel *k, FILE *out) {
    static const char *const selects[] = {
#define PG_SELECT_ROW(NAME, word, printed) printed,
#include "ir/words.def"
    };
    SU_TABLE_FULL(selects, PG_CHOSEN + 1);
    static const char *const scans[] = {
#define PG_SCAN_ROW(NAME, word) word,
#include "ir/words.def"
    };
    SU_TABLE_FULL(scans, PG_SCAN_PARAMS + 1);
    if (k->norm != PG_NO_NORM) fprintf(out, " %s-norm", k->norm == PG_RMS ? "rms" : "layer");
    if (k->norm_behind) fprintf(out, " norm-behind");
    if (k->rounds) fprintf(out, " rounds");
    if (k->bf16_x) fprintf(out, " bf16-inputs");
    if (k->kind == PG_LINEAR && k->select != PG_SINGLE) fprintf(out, " %s", selects[k->select]);
    if (k->kind == PG_SCAN) fprintf(out, " %s", scans[k->scan]);
    if (k->bias) fprintf(out, " bias");
    print_epilogue(k, out);
    if (k->act != PG_NO_ACT) fprintf(out, " %s", pg_activation(k->act)->word);
    if (k->gate) fprintf(out, " gate");
    if (k->expert_groups > 0) fprintf(out, " groups");
    if (k->scaled) fprintf(out, " scaled");
    if (k->gather_out_rows) fprintf(out, " output-rows");
    if (k->rope) fprintf(out, " rope%s", k->interleaved ? " interleaved" : "");
}

static void print_operand(int slot, const PgRef *ref, FILE *out) {
    if (ref->space == PG_NOWHERE) return;
    static const char *const spaces[] = {
#define PG_SPACE_ROW(NAME, word) word,
#include "ir/words.def"
    };
    SU_TABLE_FULL(spaces, PG_STATE + 1);
    fprintf(out, " %d:%s+", slot, spaces[ref->space]);
    if (ref->per_row != 0) fprintf(out, "%" PRIu64 "*LD+", ref->per_row);
    fprintf(out, "%" PRIu64, ref->fixed);
}

static void print_phase(const PgProgram *program, const PgPhase *p, FILE *out) {
    const PgKernel *k = &program->kernels[p->kernel];
    fprintf(out, "    %-24s k%-3u %s", p->name, p->kernel, pg_kind_word(k->kind));
    print_features(k, out);
    fprintf(out, " | %u per %s | line %u |", p->fixed, COUNTS[p->count], p->line);
    for (int i = 0; i < PG_MAX_OPERANDS; i++) print_operand(i, &p->operands[i], out);
    fputc('\n', out);
}

static void print_step(const PgProgram *program, int list, FILE *out) {
    static const char *const names[] = {[PG_ROW] = "one row", [PG_BLOCK] = "rows in blocks", [PG_FEW] = "few rows"};
    const PgStep *step = &program->steps[list];
    fprintf(out, "%s: %u phases in %u stages, arena %" PRIu64 "*LD+%" PRIu64 " bytes\n", names[list], step->n_phases,
            step->n_stages, step->arena_per_row, step->arena_fixed);
    for (uint32_t i = 0; i < step->n_phases; i++) {
        if (i == 0 || step->phases[i].stage != step->phases[i - 1].stage) fprintf(out, "  stage %u\n", step->phases[i].stage);
        print_phase(program, &step->phases[i], out);
    }
}

void sc_print_program(const PgProgram *program, FILE *out) {
    fprintf(out, "program %s\n", program->name);
    fprintf(out, "weights %" PRIu64 " bytes, %" PRIu64 " active; state %" PRIu64 " bytes; at most %" PRId64 " rows a step\n",
            program->weight_bytes, program->active_weight_bytes, program->state_bytes, program->max_rows);
    for (uint32_t i = 0; i < program->n_kernels; i++) {
        const PgKernel *k = &program->kernels[i];
        fprintf(out, "kernel k%u %s %s %s K=%" PRId64 " O=%" PRId64, i, pg_kind_word(k->kind), k->mode == PG_ROW ? "row" : "block",
                ir_dtype_word(k->dtype), k->K, k->O);
        if (k->E > 0) fprintf(out, " E=%" PRId64 " k=%" PRId64, k->E, k->k);
        if (k->N > 0) fprintf(out, " N=%" PRId64, k->N);
        print_features(k, out);
        fputc('\n', out);
    }
    print_step(program, PG_ROW, out);
    print_step(program, PG_BLOCK, out);
    if (program->steps[PG_FEW].n_phases > 0) print_step(program, PG_FEW, out);
}
