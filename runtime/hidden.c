/* The residual stream of a step, copied from the arena when the stage that wrote a part of it has ended: nothing is compiled for it, and
 * where it is not asked for nothing is done. */
#include "runtime/device.h"
#include "runtime/model.h"

/* A RtAfterPhase: panels of lanes become rows. */
static void copy_rows(void *context, const RtRunning *r, const PgPhase *phase) {
    MossModel *m = context;
    if (phase->hidden == 0) return;
    const PgRef *ref = &phase->operands[phase->hidden_slot];
    const float *from = (const float *)(const void *)(m->arena.data + ref->per_row * r->ld + ref->fixed); /* [width/16][LD][16] */
    const uint64_t width = (uint64_t)m->program->d_model;
    float *to = (float *)(void *)m->hidden.data + (phase->hidden - 1) * r->rows * width; /* [rows][width] */
    for (uint64_t row = 0; row < r->rows; row++, to += width)
        for (uint64_t c = 0; c < width; c++) to[c] = from[(c / PG_LANES * r->ld + row) * PG_LANES + c % PG_LANES];
}

MossError moss_model_keep_hidden(MossModel *model, bool keep) {
    if (keep && model->device)
        return rt_error(MOSS_DEVICE, "hidden states are kept on CPUs only, not on device '%s'", model->device->kind->name);
    if (keep && moss_program_blocks(model->program) == 0)
        return rt_error(MOSS_BAD_INPUT, "program '%s' does not tell where its blocks begin", model->program->name);
    model->after_phase = keep ? copy_rows : NULL;
    model->after_phase_context = keep ? model : NULL;
    model->keeps_hidden = keep;
    model->hidden_rows = 0;
    if (!keep) rt_pages_free(&model->hidden);
    return (MossError){.code = MOSS_OK};
}

uint64_t rt_hidden_bytes(const MossModel *model, uint32_t rows) {
    return model->keeps_hidden
               ? (uint64_t)(moss_program_blocks(model->program) + 1) * rows * (uint64_t)model->program->d_model * sizeof(float)
               : 0;
}

const float *moss_hidden(const MossModel *model, uint32_t block) {
    if (model->hidden_rows == 0 || block > moss_program_blocks(model->program)) return NULL;
    return (const float *)(const void *)model->hidden.data +
           (uint64_t)block * model->hidden_rows * (uint64_t)model->program->d_model;
}

uint32_t moss_hidden_rows(const MossModel *model) { return model->hidden_rows; }
