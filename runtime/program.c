/* What the public header tells of a program, whose tables it does not show. */
#include "ir/program.h"

#include "mossc/moss.h"

_Static_assert((int)MOSS_ONE_ROW == (int)PG_ROW && (int)MOSS_ROWS == (int)PG_BLOCK && (int)MOSS_MODES == (int)PG_MODES,
               "kinds of steps have one numbering");

const char *moss_program_name(const PgProgram *program) { return program->name; }

int64_t moss_program_vocab_size(const PgProgram *program) { return program->vocab_size; }

uint64_t moss_program_logits_stride(const PgProgram *program) { return program->out_stride; }

int64_t moss_program_max_positions(const PgProgram *program) { return program->max_positions; }

int64_t moss_program_max_rows(const PgProgram *program) { return program->max_rows; }

uint64_t moss_program_state_bytes(const PgProgram *program) { return program->state_bytes; }

uint64_t moss_program_weight_bytes(const PgProgram *program) { return program->weight_bytes; }

int64_t moss_program_width(const PgProgram *program) { return program->d_model; }

uint32_t moss_program_blocks(const PgProgram *program) {
    const PgStep *step = &program->steps[PG_ROW];
    uint32_t last = 0;
    for (uint32_t i = 0; i < step->n_phases; i++)
        if (step->phases[i].hidden > last) last = step->phases[i].hidden;
    return last > 0 ? last - 1 : 0;
}

const uint8_t *moss_program_spec_hash(const PgProgram *program) { return program->spec_hash; }

uint32_t moss_program_tensors(const PgProgram *program) { return program->n_tensors; }

MossTensor moss_program_tensor(const PgProgram *program, uint32_t i) {
    const PgTensor *t = &program->tensors[i];
    MossTensor told = {.name = t->name, .rank = t->rank};
    for (int32_t d = 0; d < t->rank; d++) told.shape[d] = t->shape[d];
    return told;
}

uint32_t moss_program_phases(const PgProgram *program, int mode) { return program->steps[mode].n_phases; }

const char *moss_program_phase_name(const PgProgram *program, int mode, uint32_t phase) {
    return program->steps[mode].phases[phase].name;
}
