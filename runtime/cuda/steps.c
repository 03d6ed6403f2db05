/* Steps on a GPU. A step's tables (RtArgs, segments, tokens, …) are one piece of memory that goes up in one copy. One row, or a few,
 * are one cooperative launch; more are launches of the phases in order, kept as a graph for the next step of that size. */
#include <string.h>

#include "runtime/cuda/gpu.h"
#include "support/size.h"

enum { ALIGN = 128 /* a line of the caches: RtCudaControl.arrived has one */ };

/* ---------------------------------------------------------------------------------------------- tables */

static uint64_t take(uint64_t *end, uint64_t bytes) {
    uint64_t at = *end;
    *end = su_round_up(at + bytes, ALIGN);
    return at;
}

static RtCudaTables place_tables(uint32_t rows, uint64_t offsets[5]) {
    RtCudaTables t = {.end = su_round_up(sizeof(RtArgs), ALIGN)};
    t.control = take(&t.end, sizeof(RtCudaControl));
    t.nonfinite = take(&t.end, rows * sizeof(int32_t));
    offsets[0] = take(&t.end, rows * sizeof(RtSegment));
    offsets[1] = take(&t.end, rows * sizeof(int32_t)); /* tokens */
    offsets[2] = take(&t.end, rows * sizeof(int32_t)); /* row_segment */
    offsets[3] = take(&t.end, rows * sizeof(int32_t)); /* out_rows */
    offsets[4] = take(&t.end, rows * sizeof(int64_t)); /* row_position */
    return t;
}

MossError rt_cuda_steps_reserve(RtCuda *gpu, uint32_t rows) {
    uint64_t offsets[5], bytes = place_tables(rows, offsets).end;
    CuPointer before = gpu->tables.address;
    MossError error = rt_cuda_grow(gpu, &gpu->tables, bytes, "step tables");
    if (gpu->tables.address != before) { rt_cuda_graphs_free(gpu); } /* they name the tables */
    if (error.code == MOSS_OK && !gpu->stuck) {
        RT_CUDA_TRY(gpu, host_alloc, (void **)&gpu->stuck, sizeof *gpu->stuck, 0);
        memset(gpu->stuck, 0, sizeof *gpu->stuck);
    }
    if (error.code != MOSS_OK || gpu->staging_bytes >= bytes) return error;
    if (gpu->staging) gpu->driver.host_free(gpu->staging);
    gpu->staging = NULL;
    gpu->staging_bytes = 0;
    void *staging = NULL;
    RT_CUDA_TRY(gpu, host_alloc, &staging, bytes, 0);
    gpu->staging = staging;
    gpu->staging_bytes = bytes;
    return error;
}

uint64_t rt_cuda_scratch_bytes(const RtCuda *gpu, uint64_t ld, uint32_t segments) {
    const RtCudaImage *image = &gpu->code.image;
    return image->scratch_per_row * ld + (uint64_t)image->scratch_per_segment * segments + image->scratch_fixed;
}

/* Values of the step, results, and what kernels share between launches. */
static MossError reserve_values(RtCuda *gpu, const RtDeviceStep *s) {
    uint64_t scratch = rt_cuda_scratch_bytes(gpu, s->ld, s->n_segments);
    char what[96];
    snprintf(what, sizeof what, "activations of a step of %u tokens (feed fewer at once with --chunk)", s->rows);
    const RtCudaImage *image = &gpu->code.image;
    uint64_t more = s->mode == PG_BLOCK ? image->arena_per_row * s->ld + image->arena_fixed : 0;
    MossError error = rt_cuda_grow(gpu, &gpu->arena, rt_arena_bytes(gpu->program, s->mode, s->rows) + more, what);
    if (error.code == MOSS_OK) error = rt_cuda_grow(gpu, &gpu->scratch, scratch, what);
    if (error.code == MOSS_OK && s->n_out_rows > 0) {
        uint64_t bytes = s->n_out_rows * gpu->program->out_stride * sizeof(float);
        error = rt_cuda_grow(gpu, &gpu->logits, bytes, "logits of a step");
    }
    return error;
}

/* An address of the device in a field that is a pointer on the host. */
static void *at(CuPointer address) { return (void *)(uintptr_t)address; }

static void *table(RtCuda *gpu, uint64_t offset, const void *from, uint64_t bytes) {
    memcpy(gpu->staging + offset, from, bytes);
    return at(gpu->tables.address + offset);
}

MossError rt_cuda_describe(RtCuda *gpu, const RtDeviceStep *s, RtCudaTables *out_tables) {
    uint64_t offsets[5];
    MossError error = rt_cuda_steps_reserve(gpu, s->rows);
    if (error.code == MOSS_OK) error = reserve_values(gpu, s);
    if (error.code != MOSS_OK) return error;
    *out_tables = place_tables(s->rows, offsets);
    RtArgs args = {.weights = at(gpu->weights),
                   .arena = at(gpu->arena.address),
                   .scratch = at(gpu->scratch.address),
                   .segments = table(gpu, offsets[0], s->segments, s->n_segments * sizeof *s->segments),
                   .tokens = table(gpu, offsets[1], s->tokens, s->rows * sizeof *s->tokens),
                   .row_segment = table(gpu, offsets[2], s->row_segment, s->rows * sizeof *s->row_segment),
                   .out_rows = table(gpu, offsets[3], s->out_rows, s->n_out_rows * sizeof *s->out_rows),
                   .row_position = table(gpu, offsets[4], s->row_position, s->rows * sizeof *s->row_position),
                   .nonfinite = table(gpu, out_tables->nonfinite, s->nonfinite, s->rows * sizeof *s->nonfinite),
                   .logits = at(gpu->logits.address),
                   .out_stride = gpu->program->out_stride,
                   .ld = s->ld,
                   .rows = s->rows,
                   .n_segments = s->n_segments,
                   .n_out_rows = s->n_out_rows};
    RtCudaControl control = {.stuck = (uintptr_t)gpu->stuck, .steps = 1};
    memcpy(gpu->staging, &args, sizeof args);
    memcpy(gpu->staging + out_tables->control, &control, sizeof control);
    gpu->steps++;
    return error;
}

RtCudaControl *rt_cuda_control(RtCuda *gpu, const RtCudaTables *tables) {
    return (RtCudaControl *)(void *)(gpu->staging + tables->control);
}

MossError rt_cuda_send(RtCuda *gpu, const RtCudaTables *tables) {
    RT_CUDA_TRY(gpu, put, gpu->tables.address, gpu->staging, tables->end, gpu->stream);
    return (MossError){.code = MOSS_OK};
}

/* What a launch that ended itself says of where it waited, in place of the driver's error. */
static MossError stuck_or(const RtCuda *gpu, MossError error) {
    const RtCudaStuck *s = gpu->stuck;
    if (error.code == MOSS_OK || !s->set) return error;
    const PgProgram *program = gpu->program;
    const char *phase = "end of step";
    const PgStep *step = &program->steps[gpu->in_row_step ? PG_ROW : gpu->code.image.few_list];
    if (s->phase < step->n_phases) phase = step->phases[s->phase].name;
    return rt_error(MOSS_DEVICE,
                    "%s: block %u of %u timed out at barrier %u, before %s: %u blocks had arrived; the launch was ended\n"
                    "    note: please report this with the spec; another process that uses the GPU may be the reason",
                    gpu->facts.name, s->block, s->blocks, s->nth, phase, s->arrived);
}

static MossError receive(RtCuda *gpu, const RtCudaTables *tables, const RtDeviceStep *s) {
    uint64_t bytes = tables->end - tables->control, logits = s->n_out_rows * gpu->program->out_stride * sizeof(float);
    if (logits) RT_CUDA_TRY(gpu, get, s->logits, gpu->logits.address, logits, gpu->stream);
    RT_CUDA_TRY(gpu, get, gpu->staging + tables->control, gpu->tables.address + tables->control, bytes, gpu->stream);
    return rt_cuda_wait(gpu);
}

MossError rt_cuda_receive(RtCuda *gpu, const RtCudaTables *tables, const RtDeviceStep *s) {
    return stuck_or(gpu, receive(gpu, tables, s));
}

MossError rt_cuda_abandon(RtCuda *gpu, MossError error) {
    gpu->driver.stream_wait(gpu->stream); /* whatever it says: `error` came first */
    return stuck_or(gpu, error);
}

/* ---------------------------------------------------------------------------------------------- one launch */

MossError rt_cuda_launch_together(RtCuda *gpu, const RtCudaEntry *entry, const RtCudaTables *tables) {
    CuPointer step = gpu->tables.address, control = gpu->tables.address + tables->control;
    void *params[] = {&step, &control};
    gpu->in_row_step = entry == &gpu->code.row;
    RT_CUDA_TRY(gpu, launch_together, entry->function, entry->blocks, 1, 1, gpu->code.image.threads, 1, 1, entry->shared,
                gpu->stream, params);
    return (MossError){.code = MOSS_OK};
}

/* ---------------------------------------------------------------------------------------------- many launches */

/* Blocks for a launch of a step so large, at most; the kernel itself counts its tiles. */
static unsigned blocks_of(const RtCuda *gpu, uint32_t index, uint32_t rows, uint32_t segments, uint32_t n_out_rows) {
    const RtCudaLaunch *launch = &gpu->code.launches[index];
    PgPhase phase = {.count = launch->count, .E = launch->E, .k = launch->k};
    uint64_t tiles = su_ceil_div(pg_count(&phase, rows, segments, n_out_rows), launch->per_tile) * launch->fixed + launch->surplus;
    uint64_t most = gpu->code.resident[index];
    return (unsigned)(tiles < 1 ? 1 : tiles < most ? tiles : most);
}

static MossError launch_phase(RtCuda *gpu, uint32_t index, const RtCudaGraph *size) {
    const RtCudaLaunch *launch = &gpu->code.launches[index];
    CuPointer step = gpu->tables.address;
    uint32_t phase = launch->phase;
    void *params[] = {&step, &phase};
    RT_CUDA_TRY(gpu, launch, gpu->code.functions[index], blocks_of(gpu, index, size->rows, size->segments, size->n_out_rows), 1, 1,
                launch->threads, 1, 1, launch->shared, gpu->stream, params, NULL);
    return (MossError){.code = MOSS_OK};
}

static MossError launch_ropes(RtCuda *gpu) {
    CuPointer step = gpu->tables.address;
    void *params[] = {&step};
    if (!gpu->code.fill_ropes) return (MossError){.code = MOSS_OK};
    RT_CUDA_TRY(gpu, launch, gpu->code.fill_ropes, (unsigned)gpu->facts.multiprocessors, 1, 1, gpu->code.image.threads, 1, 1, 0,
                gpu->stream, params, NULL);
    return (MossError){.code = MOSS_OK};
}

static MossError launch_phases(RtCuda *gpu, const RtCudaGraph *size) {
    MossError error = launch_ropes(gpu);
    for (uint32_t i = 0; i < gpu->code.image.n_launches && error.code == MOSS_OK; i++) error = launch_phase(gpu, i, size);
    return error;
}

/* ---------------------------------------------------------------------------------------------- graphs */

static void free_graph(RtCuda *gpu, RtCudaGraph *graph) {
    if (graph->exec) gpu->driver.graph_exec_destroy(graph->exec);
    *graph = (RtCudaGraph){0};
}

void rt_cuda_graphs_free(RtCuda *gpu) {
    for (int i = 0; i < RT_CUDA_GRAPHS; i++) free_graph(gpu, &gpu->graphs[i]);
}

static uint32_t power_up(uint32_t n) {
    uint32_t power = 1;
    while (power < n) power *= 2;
    return n ? power : 0;
}

/* The one of this size, or an empty one in place of the one that was used least recently. */
static RtCudaGraph *find_graph(RtCuda *gpu, const RtDeviceStep *s) {
    RtCudaGraph size = {.rows = power_up(s->rows), .segments = power_up(s->n_segments), .n_out_rows = power_up(s->n_out_rows)};
    RtCudaGraph *oldest = &gpu->graphs[0];
    for (int i = 0; i < RT_CUDA_GRAPHS; i++) {
        RtCudaGraph *g = &gpu->graphs[i];
        if (g->exec && g->rows == size.rows && g->segments == size.segments && g->n_out_rows == size.n_out_rows) return g;
        if (g->used < oldest->used) oldest = g;
    }
    free_graph(gpu, oldest);
    *oldest = size;
    return oldest;
}

/* Captures the launches. Whatever happens, the stream is no longer being captured afterwards. */
static MossError capture(RtCuda *gpu, RtCudaGraph *graph) {
    CuGraphRef captured = NULL;
    RT_CUDA_TRY(gpu, capture_begin, gpu->stream, CU_CAPTURE_THREAD_LOCAL);
    MossError error = launch_phases(gpu, graph);
    CuResult result = gpu->driver.capture_end(gpu->stream, &captured);
    if (error.code == MOSS_OK && result) error = rt_cuda_error(&gpu->driver, result, rt_cuda_symbols.capture_end, NULL);
    if (error.code == MOSS_OK && (result = gpu->driver.graph_make(&graph->exec, captured, 0))) {
        graph->exec = NULL;
        error = rt_cuda_error(&gpu->driver, result, rt_cuda_symbols.graph_make, NULL);
    }
    if (captured) gpu->driver.graph_destroy(captured);
    return error;
}

/* Graphs know the tables' address. */
static MossError launch_graph(RtCuda *gpu, const RtDeviceStep *s) {
    RtCudaGraph *graph = find_graph(gpu, s);
    MossError error = {.code = MOSS_OK};
    graph->used = gpu->steps;
    if (!graph->exec) error = capture(gpu, graph);
    if (error.code != MOSS_OK) return error;
    RT_CUDA_TRY(gpu, graph_launch, graph->exec, gpu->stream);
    return error;
}

/* ---------------------------------------------------------------------------------------------- timed, one by one */

static MossError time_phase(RtCuda *gpu, uint32_t index, const RtCudaGraph *size, const RtCudaTimer *timer, MossPhaseTime *times) {
    double seconds = 0;
    RT_CUDA_TRY(gpu, event_record, timer->from, gpu->stream);
    MossError error = launch_phase(gpu, index, size);
    if (error.code == MOSS_OK) error = rt_cuda_timer_stop(gpu, timer, &seconds);
    times[gpu->code.launches[index].phase].working += seconds;
    return error;
}

static MossError launch_timed(RtCuda *gpu, const RtDeviceStep *s) {
    RtCudaGraph size = {.rows = s->rows, .segments = s->n_segments, .n_out_rows = s->n_out_rows};
    RtCudaTimer timer = {0};
    MossError error = launch_ropes(gpu);
    if (error.code == MOSS_OK) error = rt_cuda_timer_make(gpu, &timer);
    for (uint32_t i = 0; i < gpu->code.image.n_launches && error.code == MOSS_OK; i++)
        error = time_phase(gpu, i, &size, &timer, s->times);
    rt_cuda_timer_free(gpu, &timer);
    return error;
}

/* ---------------------------------------------------------------------------------------------- the step */

static MossError launch(RtCuda *gpu, const RtDeviceStep *s, const RtCudaTables *tables) {
    if (s->mode == PG_ROW) return rt_cuda_launch_together(gpu, &gpu->code.row, tables);
    if (s->times) return launch_timed(gpu, s);
    if (s->rows <= gpu->code.image.few_rows) return rt_cuda_launch_together(gpu, &gpu->code.rows, tables);
    return launch_graph(gpu, s);
}

MossError rt_cuda_step(MossDevice *device, const RtDeviceStep *s) {
    RtCuda *gpu = rt_cuda_of(device);
    RtCudaTables tables;
    MossError error = rt_cuda_enter(gpu);
    if (error.code == MOSS_OK) error = rt_cuda_has_weights(gpu);
    if (error.code == MOSS_OK) error = rt_cuda_describe(gpu, s, &tables);
    if (error.code != MOSS_OK) return error;
    error = rt_cuda_send(gpu, &tables);
    if (error.code == MOSS_OK) error = launch(gpu, s, &tables);
    if (error.code != MOSS_OK) return rt_cuda_abandon(gpu, error);
    error = rt_cuda_receive(gpu, &tables, s);
    if (error.code == MOSS_OK) memcpy(s->nonfinite, gpu->staging + tables.nonfinite, s->rows * sizeof *s->nonfinite);
    return error;
}
