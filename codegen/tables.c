/* The tables of a program as C: designated initialisers of the structs of ir/program.h, so that they may be read too. What is zero is
 * left out where that is most of it (operands). */
#include "codegen/artefact.h"
#include "support/table.h"

#include <inttypes.h>

/* Whoever adds a field to one of these prints it below; then the size here. */
_Static_assert(sizeof(PgProgram) == 264 && sizeof(PgStep) == 32 && sizeof(PgPhase) == 480 && sizeof(PgTensor) == 48 &&
                   sizeof(PgWeight) == 88 && sizeof(PgState) == 24 && sizeof(PgRope) == 120,
               "every field of a table is printed");

/* A C string: three octal digits for whatever is not plain. */
static void print_string(const char *text, SuText *out) {
    su_text_add(out, "\"");
    for (; *text != '\0'; text++) {
        bool plain = *text >= ' ' && *text <= '~' && *text != '"' && *text != '\\' && *text != '?';
        su_text_add(out, plain ? "%c" : "\\%03o", (unsigned char)*text);
    }
    su_text_add(out, "\"");
}

static void print_ref(const PgRef *ref, SuText *out) {
    static const char *const spaces[] = {
#define PG_SPACE_ROW(NAME, word) "PG_" #NAME,
#include "ir/words.def"
    };
    SU_TABLE_FULL(spaces, PG_STATE + 1);
    su_text_add(out, "{%s, %" PRIu64 ", %" PRIu64 "}", spaces[ref->space], ref->per_row, ref->fixed);
}

static void begin_table(const char *type, const char *name, SuText *out) {
    su_text_add(out, "static const %s %s[] = {\n", type, name);
}

static void end_table(SuText *out) { su_text_add(out, "};\n\n"); }

/* ---- phases */

static void print_phase(const PgPhase *p, SuText *out) {
    su_text_add(out,
                "    {.kernel = %u, .stage = %u, .count = %u, .fixed = %u, .E = %u, .k = %u, .block = %d, .line = %u, "
                ".hidden = %u, .hidden_slot = %u, .name = ",
                p->kernel, p->stage, p->count, p->fixed, p->E, p->k, p->block, p->line, p->hidden, p->hidden_slot);
    print_string(p->name, out);
    su_text_add(out, ",\n     .operands = {");
    int printed = 0;
    for (int i = 0; i < PG_MAX_OPERANDS; i++) {
        if (p->operands[i].space == PG_NOWHERE) continue;
        su_text_add(out, "%s[%d] = ", printed++ == 0 ? "" : ", ", i);
        print_ref(&p->operands[i], out);
    }
    su_text_add(out, "%s}},\n", printed == 0 ? "{PG_NOWHERE, 0, 0}" : "");
}

static void print_phases(const PgStep *step, const char *name, SuText *out) {
    begin_table("PgPhase", name, out);
    for (uint32_t i = 0; i < step->n_phases; i++) print_phase(&step->phases[i], out);
    end_table(out);
}

/* ---- weights and states */

static void print_tensors(const PgProgram *program, SuText *out) {
    begin_table("PgTensor", "tensors", out);
    for (uint32_t i = 0; i < program->n_tensors; i++) {
        const PgTensor *t = &program->tensors[i];
        su_text_add(out, "    {.rank = %d, .dtype = %u, .shape = {%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 "}, .name = ",
                    t->rank, t->dtype, t->shape[0], t->shape[1], t->shape[2], t->shape[3]);
        print_string(t->name, out);
        su_text_add(out, "},\n");
    }
    end_table(out);
}

static void print_weights(const PgProgram *program, SuText *out) {
    begin_table("PgWeight", "weights", out);
    for (uint32_t i = 0; i < program->n_weights; i++) {
        const PgWeight *w = &program->weights[i];
        su_text_add(out,
                    "    {.tensor = %u, .pack = %u, .dtype = %u, .negexp = %u, .planes = %" PRId64 ", .O = %" PRId64
                    ", .K = %" PRId64 ", .first = %" PRId64 ", .rows = %" PRId64 ", .times = %" PRId64 ", .run = %" PRId64
                    ", .offset = %" PRIu64 ", .bytes = %" PRIu64 "},\n",
                    w->tensor, w->pack, w->dtype, w->negexp, w->planes, w->O, w->K, w->first, w->rows, w->times, w->run, w->offset,
                    w->bytes);
    }
    end_table(out);
}

static void print_states(const PgProgram *program, SuText *out) {
    if (program->n_states == 0) return;
    begin_table("PgState", "states", out);
    for (uint32_t i = 0; i < program->n_states; i++) {
        const PgState *s = &program->states[i];
        su_text_add(out, "    {.offset = %" PRIu64 ", .bytes = %" PRIu64 ", .name = ", s->offset, s->bytes);
        print_string(s->name, out);
        su_text_add(out, "},\n");
    }
    end_table(out);
}

static void print_ropes(const PgProgram *program, SuText *out) {
    if (program->n_ropes == 0) return;
    begin_table("PgRope", "ropes", out);
    for (uint32_t i = 0; i < program->n_ropes; i++) {
        const PgRope *r = &program->ropes[i];
        su_text_add(
            out, "    {.theta = %a, .dim = %" PRId64 ", .factor = %a, .low = %a, .high = %a, .original = %" PRId64 ", .table = {",
            r->theta, r->dim, r->factor, r->low, r->high, r->original);
        for (int list = 0; list < PG_LISTS; list++) {
            if (list > 0) su_text_add(out, ", ");
            print_ref(&r->table[list], out);
        }
        su_text_add(out, "}},\n");
    }
    end_table(out);
}

/* ---- the program */

/* ".tensors = tensors, .n_tensors = 12," */
static void print_list(const char *name, uint32_t count, SuText *out) {
    if (count > 0) su_text_add(out, "    .%s = %s, .n_%s = %u,\n", name, name, name, count);
}

static void print_step(const PgStep *step, const char *mode, const char *phases, SuText *out) {
    su_text_add(out,
                "    .steps[%s] = {.phases = %s, .n_phases = %u, .n_stages = %u, .arena_per_row = %" PRIu64
                ", .arena_fixed = %" PRIu64 "},\n",
                mode, phases, step->n_phases, step->n_stages, step->arena_per_row, step->arena_fixed);
}

static void print_program(const PgProgram *p, const char *symbol, SuText *out) {
    su_text_add(out, "const PgProgram %s_program = {\n    .name = ", symbol);
    print_string(p->name, out);
    su_text_add(out, ",\n    .spec_hash = {");
    for (size_t i = 0; i < sizeof p->spec_hash; i++) su_text_add(out, "%s%u", i == 0 ? "" : ", ", p->spec_hash[i]);
    su_text_add(out,
                "},\n    .vocab_size = %" PRId64 ",\n    .d_model = %" PRId64 ",\n    .max_positions = %" PRId64
                ",\n    .max_rows = %" PRId64 ",\n    .out_stride = %" PRIu64 ",\n    .n_kernels = %u,\n",
                p->vocab_size, p->d_model, p->max_positions, p->max_rows, p->out_stride, p->n_kernels);
    print_step(&p->steps[PG_ROW], "PG_ROW", "phases_row", out);
    print_step(&p->steps[PG_BLOCK], "PG_BLOCK", "phases_block", out);
    if (p->steps[PG_FEW].n_phases > 0) print_step(&p->steps[PG_FEW], "PG_FEW", "phases_few", out);
    print_list("tensors", p->n_tensors, out);
    print_list("weights", p->n_weights, out);
    su_text_add(out, "    .weight_bytes = %" PRIu64 ",\n    .active_weight_bytes = %" PRIu64 ",\n", p->weight_bytes,
                p->active_weight_bytes);
    print_list("states", p->n_states, out);
    su_text_add(out, "    .state_bytes = %" PRIu64 ",\n", p->state_bytes);
    print_list("ropes", p->n_ropes, out);
    su_text_add(out, "};\n");
}

void cg_print_tables(const PgProgram *program, const char *symbol, SuText *out) {
    su_text_add(out,
                "/* %s: what its phases are, where their operands lie, and what its weights are made of; by mossc %s. */\n"
                "#include \"ir/program.h\"\n\n"
                "extern const PgProgram %s_program;\n\n",
                program->name, MOSSC_VERSION, symbol);
    print_phases(&program->steps[PG_ROW], "phases_row", out);
    print_phases(&program->steps[PG_BLOCK], "phases_block", out);
    if (program->steps[PG_FEW].n_phases > 0) print_phases(&program->steps[PG_FEW], "phases_few", out);
    print_tensors(program, out);
    print_weights(program, out);
    print_states(program, out);
    print_ropes(program, out);
    print_program(program, symbol, out);
}
