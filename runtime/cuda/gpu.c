/* GPUs as devices: opening them, and their memory. */
#include "runtime/cuda/gpu.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "support/alloc.h"
#include "support/size.h"

enum {
    OLDEST_ARCHITECTURE = 75,
    UPLOAD = 32 << 20 /* bytes between two words about progress */,
    ARRANGING_BLOCKS = 4 /* a multiprocessor */
};

const RtCudaSymbols rt_cuda_symbols = {
#define NAME(name, symbol, params) .name = #symbol,
    RT_CUDA_SYMBOLS(NAME)
#undef NAME
};

/* ---------------------------------------------------------------------------------------------- memory */

MossError rt_cuda_enter(RtCuda *gpu) {
    RT_CUDA_TRY(gpu, context_set, gpu->context);
    return (MossError){.code = MOSS_OK};
}

MossError rt_cuda_wait(RtCuda *gpu) {
    RT_CUDA_TRY(gpu, stream_wait, gpu->stream);
    return (MossError){.code = MOSS_OK};
}

MossError rt_cuda_timer_make(RtCuda *gpu, RtCudaTimer *timer) {
    *timer = (RtCudaTimer){0};
    RT_CUDA_TRY(gpu, event_create, &timer->from, CU_EVENT_DEFAULT);
    RT_CUDA_TRY(gpu, event_create, &timer->to, CU_EVENT_DEFAULT);
    return (MossError){.code = MOSS_OK};
}

void rt_cuda_timer_free(RtCuda *gpu, RtCudaTimer *timer) {
    if (timer->from) gpu->driver.event_destroy(timer->from);
    if (timer->to) gpu->driver.event_destroy(timer->to);
    *timer = (RtCudaTimer){0};
}

MossError rt_cuda_timer_stop(RtCuda *gpu, const RtCudaTimer *timer, double *out_seconds) {
    float milliseconds = 0;
    RT_CUDA_TRY(gpu, event_record, timer->to, gpu->stream);
    RT_CUDA_TRY(gpu, event_wait, timer->to);
    RT_CUDA_TRY(gpu, event_elapsed, &milliseconds, timer->from, timer->to);
    *out_seconds = 1e-3 * (double)milliseconds;
    return (MossError){.code = MOSS_OK};
}

static MossError no_room(const RtCuda *gpu, uint64_t bytes, const char *what, uint64_t available, uint64_t whole) {
    double mib = 1 << 20;
    return rt_error(MOSS_NO_MEMORY, "need %.1f MiB on cuda:%d, but only %.1f of %.1f MiB are free (%s)", (double)bytes / mib,
                    gpu->facts.ordinal, (double)available / mib, (double)whole / mib, what);
}

/* Asks first: what is needed and what there is can then be said. A GPU that has its memory from the host's knows less: what the host
 * would give up (its page cache) counts as taken, so there only the attempt tells. */
static MossError check_room(RtCuda *gpu, uint64_t bytes, const char *what) {
    size_t available, whole;
    RT_CUDA_TRY(gpu, memory_info, &available, &whole);
    if (bytes <= available || (gpu->integrated && bytes <= whole)) return (MossError){.code = MOSS_OK};
    return no_room(gpu, bytes, what, available, whole);
}

static MossError take(RtCuda *gpu, uint64_t bytes, const char *what, CuPointer *out_address) {
    *out_address = 0;
    MossError error = check_room(gpu, bytes, what);
    if (error.code != MOSS_OK) return error;
    RT_CUDA_TRY(gpu, memory_alloc, out_address, bytes ? bytes : 1);
    return error;
}

void rt_cuda_release(RtCuda *gpu, RtCudaMemory *memory) {
    if (memory->address) gpu->driver.memory_free(memory->address);
    *memory = (RtCudaMemory){0};
}

MossError rt_cuda_grow(RtCuda *gpu, RtCudaMemory *memory, uint64_t bytes, const char *what) {
    if (memory->address && memory->bytes >= bytes) return (MossError){.code = MOSS_OK};
    MossError error = rt_cuda_wait(gpu);
    if (error.code != MOSS_OK) return error;
    rt_cuda_release(gpu, memory);
    error = take(gpu, bytes, what, &memory->address);
    if (error.code == MOSS_OK) memory->bytes = bytes;
    return error;
}

static MossError get(MossDevice *device, void *to, uint64_t from, uint64_t bytes) {
    RtCuda *gpu = rt_cuda_of(device);
    MossError error = rt_cuda_enter(gpu);
    if (error.code != MOSS_OK) return error;
    RT_CUDA_TRY(gpu, get, to, from, bytes, gpu->stream);
    return rt_cuda_wait(gpu);
}

static MossError put(MossDevice *device, uint64_t to, const void *from, uint64_t bytes) {
    RtCuda *gpu = rt_cuda_of(device);
    MossError error = rt_cuda_enter(gpu);
    if (error.code != MOSS_OK) return error;
    RT_CUDA_TRY(gpu, put, to, from, bytes, gpu->stream);
    return rt_cuda_wait(gpu);
}

static MossError clear(MossDevice *device, uint64_t address, uint64_t bytes) {
    RtCuda *gpu = rt_cuda_of(device);
    MossError error = rt_cuda_enter(gpu);
    if (error.code != MOSS_OK) return error;
    if (bytes) RT_CUDA_TRY(gpu, fill, address, 0, bytes, gpu->stream);
    return rt_cuda_wait(gpu);
}

static MossError copy(MossDevice *device, uint64_t to, uint64_t from, uint64_t bytes) {
    RtCuda *gpu = rt_cuda_of(device);
    MossError error = rt_cuda_enter(gpu);
    if (error.code != MOSS_OK) return error;
    if (bytes) RT_CUDA_TRY(gpu, copy, to, from, bytes, gpu->stream);
    return rt_cuda_wait(gpu);
}

static void release(MossDevice *device, uint64_t address) {
    RtCuda *gpu = rt_cuda_of(device);
    RtCudaMemory memory = {.address = address};
    rt_cuda_enter(gpu);
    rt_cuda_release(gpu, &memory);
}

static MossError alloc(MossDevice *device, uint64_t bytes, uint64_t *out_address) {
    RtCuda *gpu = rt_cuda_of(device);
    CuPointer address = 0;
    *out_address = 0;
    MossError error = rt_cuda_enter(gpu);
    if (error.code == MOSS_OK) error = take(gpu, bytes, "state of a sequence", &address);
    if (error.code == MOSS_OK) error = clear(device, address, bytes);
    if (error.code == MOSS_OK)
        *out_address = address;
    else if (address)
        release(device, address);
    return error;
}

/* ---------------------------------------------------------------------------------------------- the model */

/* What the model needs before its first step, asked for in one: nothing is taken where it would not do. */
static MossError check_model(RtCuda *gpu, const PgProgram *program) {
    double mib = 1 << 20;
    uint64_t step = rt_arena_bytes(program, PG_ROW, 1) + rt_cuda_scratch_bytes(gpu, 1, 1) + program->out_stride * sizeof(float);
    char what[256];
    snprintf(what, sizeof what, "'%s': weights %.1f MiB, activations of a step %.1f MiB, state of a sequence %.1f MiB",
             program->name, (double)program->weight_bytes / mib, (double)step / mib, (double)program->state_bytes / mib);
    return check_room(gpu, program->weight_bytes + step + program->state_bytes, what);
}

static MossError take_model(MossDevice *device, const PgProgram *program) {
    RtCuda *gpu = rt_cuda_of(device);
    MossError error = rt_cuda_enter(gpu);
    if (error.code != MOSS_OK) return error;
    if (!gpu->code.module || memcmp(gpu->code.image.spec_hash, program->spec_hash, sizeof program->spec_hash) != 0)
        return rt_error(MOSS_DEVICE, "no GPU module is loaded for '%s': call moss_cuda_code first", program->name);
    error = check_model(gpu, program);
    if (error.code == MOSS_OK) error = take(gpu, program->weight_bytes, "weights", &gpu->weights);
    gpu->program = program;
    if (error.code == MOSS_OK) error = rt_cuda_steps_reserve(gpu, 1);
    if (error.code != MOSS_OK) device->kind->leave_model(device);
    return error;
}

static void leave_model(MossDevice *device) {
    RtCuda *gpu = rt_cuda_of(device);
    rt_cuda_enter(gpu);
    gpu->driver.stream_wait(gpu->stream);
    rt_cuda_graphs_free(gpu);
    if (gpu->weights) gpu->driver.memory_free(gpu->weights);
    gpu->weights = 0;
    rt_cuda_release(gpu, &gpu->arena);
    rt_cuda_release(gpu, &gpu->scratch);
    rt_cuda_release(gpu, &gpu->logits);
    rt_cuda_release(gpu, &gpu->tables);
    rt_cuda_release(gpu, &gpu->picks);
    if (gpu->staging) gpu->driver.host_free(gpu->staging);
    if (gpu->stuck) gpu->driver.host_free(gpu->stuck);
    gpu->staging = NULL;
    gpu->stuck = NULL;
    gpu->staging_bytes = 0;
    gpu->program = NULL;
    gpu->lost = false;
}

/* Weights in the device's memory change between the form of the host's and that of the code. */
static MossError arrange_weights(RtCuda *gpu) {
    void *params[] = {&gpu->weights};
    if (!gpu->code.arrange) return (MossError){.code = MOSS_OK};
    RT_CUDA_TRY(gpu, launch, gpu->code.arrange, ARRANGING_BLOCKS * (unsigned)gpu->facts.multiprocessors, 1, 1,
                gpu->code.image.threads, 1, 1, 0, gpu->stream, params, NULL);
    return rt_cuda_wait(gpu);
}

MossError rt_cuda_has_weights(const RtCuda *gpu) {
    if (!gpu->lost) return (MossError){.code = MOSS_OK};
    return rt_error(MOSS_DEVICE, "the model's weights on the GPU are lost, since reading them failed: load the model again");
}

static MossError put_weights(MossDevice *device, const uint8_t *blob, MossProgress progress, void *context) {
    RtCuda *gpu = rt_cuda_of(device);
    uint64_t whole = gpu->program->weight_bytes;
    MossError error = rt_cuda_enter(gpu);
    for (uint64_t at = 0, n; at < whole && error.code == MOSS_OK; at += n) {
        n = whole - at < UPLOAD ? whole - at : UPLOAD;
        RT_CUDA_TRY(gpu, put, gpu->weights + at, blob + at, n, gpu->stream);
        error = rt_cuda_wait(gpu);
        if (progress) progress(context, at + n, whole);
    }
    return error.code == MOSS_OK ? arrange_weights(gpu) : error;
}

static MossError get_weights(MossDevice *device, uint8_t *blob) {
    RtCuda *gpu = rt_cuda_of(device);
    MossError error = rt_cuda_enter(gpu);
    if (error.code == MOSS_OK) error = rt_cuda_has_weights(gpu);
    if (error.code == MOSS_OK) error = arrange_weights(gpu);
    if (error.code != MOSS_OK) return error;
    error = get(device, blob, gpu->weights, gpu->program->weight_bytes);
    MossError again = arrange_weights(gpu);
    gpu->lost = again.code != MOSS_OK;
    return error.code != MOSS_OK ? error : again;
}

/* ---------------------------------------------------------------------------------------------- opening */

static void free_gpu(MossDevice *device) {
    RtCuda *gpu = rt_cuda_of(device);
    if (gpu->context) {
        rt_cuda_enter(gpu);
        rt_cuda_code_free(gpu);
        if (gpu->stream) gpu->driver.stream_destroy(gpu->stream);
        gpu->driver.context_release(gpu->handle);
    }
    su_free(gpu);
}

static const RtDeviceKind kind = {.name = "cuda",
                                  .free = free_gpu,
                                  .take_model = take_model,
                                  .leave_model = leave_model,
                                  .put_weights = put_weights,
                                  .get_weights = get_weights,
                                  .alloc = alloc,
                                  .release = release,
                                  .clear = clear,
                                  .copy = copy,
                                  .get = get,
                                  .put = put,
                                  .step = rt_cuda_step,
                                  .most_picks = rt_cuda_most_picks,
                                  .generate = rt_cuda_generate};

static MossError find_device(RtCuda *gpu, int ordinal) {
    int count = 0;
    RT_CUDA_TRY(gpu, device_count, &count);
    if (count < 1) return rt_error(MOSS_DEVICE, "NVIDIA driver found no GPU (is CUDA_VISIBLE_DEVICES empty?)");
    if (ordinal < 0 || ordinal >= count)
        return rt_error(MOSS_DEVICE, "GPU %d does not exist: the driver found %d, numbered from 0", ordinal, count);
    RT_CUDA_TRY(gpu, device_get, &gpu->handle, ordinal);
    gpu->facts.ordinal = ordinal;
    return (MossError){.code = MOSS_OK};
}

static MossError read_facts(RtCuda *gpu) {
    MossCudaFacts *f = &gpu->facts;
    int major = 0, minor = 0, together = 0, shared = 0, integrated = 0;
    RT_CUDA_TRY(gpu, device_name, f->name, sizeof f->name, gpu->handle);
    RT_CUDA_TRY(gpu, device_attribute, &major, CU_ATTRIBUTE_MAJOR, gpu->handle);
    RT_CUDA_TRY(gpu, device_attribute, &minor, CU_ATTRIBUTE_MINOR, gpu->handle);
    RT_CUDA_TRY(gpu, device_attribute, &f->multiprocessors, CU_ATTRIBUTE_MULTIPROCESSORS, gpu->handle);
    RT_CUDA_TRY(gpu, device_attribute, &together, CU_ATTRIBUTE_COOPERATIVE_LAUNCH, gpu->handle);
    RT_CUDA_TRY(gpu, device_attribute, &shared, CU_ATTRIBUTE_SHARED_OPTIN, gpu->handle);
    RT_CUDA_TRY(gpu, device_attribute, &integrated, CU_ATTRIBUTE_INTEGRATED, gpu->handle);
    f->architecture = 10 * major + minor;
    f->driver = gpu->driver.version;
    f->shared = (uint32_t)shared;
    gpu->integrated = integrated != 0;
    if (f->architecture < OLDEST_ARCHITECTURE) {
        return rt_error(MOSS_DEVICE, "%s is not supported: expected compute capability 7.5 (Turing) or newer, got %d.%d", f->name,
                        major, minor);
    }
    if (!together) return rt_error(MOSS_DEVICE, "%s does not support cooperative launches in its current configuration", f->name);
    return (MossError){.code = MOSS_OK};
}

static MossError make_context(RtCuda *gpu) {
    size_t available, whole;
    RT_CUDA_TRY(gpu, context_retain, &gpu->context, gpu->handle);
    MossError error = rt_cuda_enter(gpu);
    if (error.code != MOSS_OK) return error;
    RT_CUDA_TRY(gpu, stream_create, &gpu->stream, CU_STREAM_NON_BLOCKING);
    RT_CUDA_TRY(gpu, memory_info, &available, &whole);
    gpu->facts.memory_free = available;
    gpu->facts.memory = whole;
    return error;
}

MossError moss_cuda_open(int ordinal, MossDevice **out_device) {
    *out_device = NULL;
    RtCuda *gpu = su_calloc(1, sizeof *gpu);
    if (!gpu) return rt_error(MOSS_NO_MEMORY, "cannot allocate memory to open a GPU");
    gpu->device.kind = &kind;
    MossError error = rt_cuda_driver_open(&gpu->driver);
    if (error.code == MOSS_OK) error = find_device(gpu, ordinal);
    if (error.code == MOSS_OK) error = read_facts(gpu);
    if (error.code == MOSS_OK) error = make_context(gpu);
    if (error.code == MOSS_OK)
        *out_device = &gpu->device;
    else
        free_gpu(&gpu->device);
    return error;
}

const MossCudaFacts *moss_cuda_facts(const MossDevice *device) { return &((const RtCuda *)device)->facts; }
