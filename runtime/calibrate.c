/* Inputs are looked at when the stage of a linear phase has ended: what its kernel read is then still in the arena. Rows come in rising
 * order, whatever the steps, and sums are in double, so that they are the same everywhere. */
#include "runtime/calibrate.h"

#include <string.h>

#include "support/alloc.h"
#include "support/size.h"

typedef struct Tensor {
    uint64_t planes, K, stride; /* stride: K rounded up to lanes */
    double *squares, *packed; /* [planes][stride]; the same without gaps, when asked for */
    uint64_t *count; /* [planes] */
} Tensor;

struct RtCalibration {
    MossModel *model;
    Tensor *tensors; /* [n_tensors] of the program; planes 0: of no linear map */
    SuArena arena;
};

/* An operand of a phase in the arena. */
static uint8_t *in_arena(const RtRunning *r, const PgRef *ref) { return r->model->arena.data + ref->per_row * r->ld + ref->fixed; }

/* The x of one input: panels of lanes that lie `step` floats apart. */
static void add_input(const float *x, uint64_t step, Tensor *t, uint64_t plane) {
    double *sums = t->squares + plane * t->stride;
    for (uint64_t k = 0; k < t->stride; k += PG_LANES, x += step)
        for (uint64_t lane = 0; lane < PG_LANES; lane++) sums[k + lane] += (double)x[lane] * (double)x[lane];
    t->count[plane]++;
}

/* Positions of the chosen experts, row by row; those that only fill blocks of 8 are not among them. */
static void add_positions(const RtRunning *r, const PgPhase *phase, const PgKernel *k, const float *x, Tensor *t) {
    uint64_t ldp = (uint64_t)k->k * r->ld + pg_position_pad(k->E, k->k);
    const int32_t *start = (const int32_t *)(const void *)in_arena(r, &phase->operands[PG_LINEAR_GROUPS]);
    const int32_t *expert_of = start + k->E + 1, *row_of = expert_of + ldp / 8, *pos_of = row_of + ldp;
    bool gathered = k->x_layout == PG_ROWS;
    for (uint64_t i = 0; i < (uint64_t)r->rows * (uint64_t)k->k; i++) {
        uint64_t position = (uint64_t)pos_of[i], at = gathered ? i / (uint64_t)k->k : position;
        uint64_t plane = k->select == PG_CHOSEN && t->planes > 1 ? (uint64_t)expert_of[position / 8] : 0;
        add_input(x + at * PG_LANES, (gathered ? r->ld : ldp) * PG_LANES, t, plane);
    }
}

/* Rows, each for all planes or, where x has planes, for its own. */
static void add_rows(const RtRunning *r, const PgPhase *phase, const PgKernel *k, const float *x, Tensor *t) {
    uint64_t rows = phase->count == PG_PER_OUT_ROW_BLOCK ? r->n_out_rows : r->rows;
    uint64_t planes = k->select == PG_ALL || k->x_layout == PG_PLANES ? (uint64_t)k->E : 1, size = t->stride * r->ld;
    for (uint64_t plane = 0; plane < planes; plane++) {
        const float *from = k->x_layout == PG_PLANES ? x + plane * size : x;
        uint64_t to = k->select == PG_ALL && t->planes > 1 ? plane : 0;
        for (uint64_t row = 0; row < rows; row++) add_input(from + row * PG_LANES, r->ld * PG_LANES, t, to);
    }
}

static const PgWeight *weight_at(const PgProgram *program, const PgRef *ref) {
    for (uint32_t i = 0; ref->space == PG_WEIGHTS && i < program->n_weights; i++)
        if (program->weights[i].offset == ref->fixed) return &program->weights[i];
    return NULL;
}

/* A RtAfterPhase. */
static void look(void *context, const RtRunning *r, const PgPhase *phase) {
    RtCalibration *c = context;
    const PgProgram *program = c->model->program;
    const PgKernel *k = &program->kernels[phase->kernel];
    if (k->kind != PG_LINEAR || k->mode != PG_BLOCK) return;
    const float *x = (const float *)(const void *)in_arena(r, &phase->operands[PG_LINEAR_X]);
    static const int slots[] = {PG_LINEAR_W, PG_LINEAR_W2};
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
        const PgWeight *weight = weight_at(program, &phase->operands[slots[i]]);
        if (!weight) continue;
        bool positions = k->select == PG_CHOSEN || k->x_layout == PG_POSITIONS;
        (positions ? add_positions : add_rows)(r, phase, k, x, &c->tensors[weight->tensor]);
    }
}

static void make_tensor(RtCalibration *c, const PgWeight *weight) {
    Tensor *t = &c->tensors[weight->tensor];
    const PgTensor *tensor = &c->model->program->tensors[weight->tensor];
    if (weight->pack != PG_PANELS || t->planes) return;
    /* Planes that are no leading dimension (ranks) share the inputs of one. */
    bool experts = tensor->rank == 3 && tensor->shape[0] == weight->planes;
    *t = (Tensor){.planes = experts ? (uint64_t)weight->planes : 1, .K = (uint64_t)weight->K};
    t->stride = su_round_up(t->K, PG_LANES);
    t->squares = su_alloc_array(&c->arena, t->planes * t->stride, sizeof *t->squares);
    t->packed = su_alloc_array(&c->arena, t->planes * t->K, sizeof *t->packed);
    t->count = su_alloc_array(&c->arena, t->planes, sizeof *t->count);
}

static RtCalibration *begin_unguarded(MossModel *model) {
    RtCalibration *c = su_calloc(1, sizeof *c);
    if (!c) return NULL;
    const PgProgram *program = model->program;
    c->model = model;
    c->tensors = su_alloc_array(&c->arena, program->n_tensors, sizeof *c->tensors);
    for (uint32_t i = 0; i < program->n_weights; i++) make_tensor(c, &program->weights[i]);
    model->after_phase = look;
    model->after_phase_context = c;
    return c;
}

RtCalibration *rt_calibration_begin(MossModel *model) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "calibrating")) return NULL;
    RtCalibration *result = begin_unguarded(model);
    su_guard_end(&guard);
    return result;
}

void rt_calibration_end(RtCalibration *calibration) {
    if (!calibration) return;
    calibration->model->after_phase = NULL;
    su_arena_free(&calibration->arena);
    su_free(calibration);
}

bool rt_calibration_inputs(const RtCalibration *c, const char *name, RtInputs *out) {
    const PgProgram *program = c->model->program;
    for (uint32_t i = 0; i < program->n_tensors; i++) {
        const Tensor *t = &c->tensors[i];
        if (!t->planes || strcmp(program->tensors[i].name, name) != 0) continue;
        for (uint64_t plane = 0; plane < t->planes; plane++)
            memcpy(t->packed + plane * t->K, t->squares + plane * t->stride, t->K * sizeof *t->packed);
        *out = (RtInputs){.planes = t->planes, .K = t->K, .squares = t->packed, .count = t->count};
        return true;
    }
    return false;
}
