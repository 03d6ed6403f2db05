/* What a GPU can do: how fast its memory is, and how fast its units are, by kernels made for that (codegen/cuda/limits.h). */
#include "runtime/cuda/gpu.h"

enum { REPEATS = 8, MOST_ROUNDS = 1 << 22 };
static const double LEAST_SECONDS = 4e-3; /* of a launch */

static void keep_best(double work, double seconds, double *rate) {
    if (seconds > 0 && work / seconds > *rate) *rate = work / seconds;
}

/* ---------------------------------------------------------------------------------------------- memory */

static MossError time_copies(RtCuda *gpu, CuPointer to, CuPointer from, uint64_t bytes, const RtCudaTimer *timer,
                             double *out_rate) {
    MossError error = {.code = MOSS_OK};
    *out_rate = 0;
    for (int i = 0; i < REPEATS && error.code == MOSS_OK; i++) {
        double seconds = 0;
        RT_CUDA_TRY(gpu, event_record, timer->from, gpu->stream);
        RT_CUDA_TRY(gpu, copy, to, from, bytes, gpu->stream);
        error = rt_cuda_timer_stop(gpu, timer, &seconds);
        keep_best(2 * (double)bytes, seconds, out_rate);
    }
    return error;
}

MossError moss_cuda_copy_rate(MossDevice *device, uint64_t bytes, double *out_bytes_per_second) {
    RtCuda *gpu = rt_cuda_of(device);
    RtCudaMemory from = {0}, to = {0};
    RtCudaTimer timer = {0};
    MossError error = rt_cuda_enter(gpu);
    if (error.code == MOSS_OK) error = rt_cuda_grow(gpu, &from, bytes, "buffer of the timed copy");
    if (error.code == MOSS_OK) error = rt_cuda_grow(gpu, &to, bytes, "buffer of the timed copy");
    if (error.code == MOSS_OK) error = device->kind->clear(device, from.address, bytes);
    if (error.code == MOSS_OK) error = rt_cuda_timer_make(gpu, &timer);
    if (error.code == MOSS_OK) error = time_copies(gpu, to.address, from.address, bytes, &timer, out_bytes_per_second);
    rt_cuda_timer_free(gpu, &timer);
    rt_cuda_release(gpu, &from);
    rt_cuda_release(gpu, &to);
    return error;
}

/* ---------------------------------------------------------------------------------------------- units */

/* An entry, launched on as many blocks as the GPU holds at once. */
typedef struct Probe {
    CuFunctionRef function;
    unsigned blocks, threads;
    RtCudaMemory out; /* a float of each thread */
    RtCudaTimer timer;
} Probe;

static MossError find_probe(RtCuda *gpu, CuModuleRef module, const char *entry, Probe *probe) {
    int blocks = 0;
    RT_CUDA_TRY(gpu, module_function, &probe->function, module, entry);
    RT_CUDA_TRY(gpu, occupancy, &blocks, probe->function, (int)probe->threads, 0);
    probe->blocks = (unsigned)((blocks > 0 ? blocks : 1) * gpu->facts.multiprocessors);
    return rt_cuda_grow(gpu, &probe->out, (uint64_t)probe->blocks * probe->threads * sizeof(float), "buffer of the timed kernel");
}

static MossError run_probe(RtCuda *gpu, const Probe *probe, uint32_t rounds, double *out_seconds) {
    CuPointer out = probe->out.address;
    void *params[] = {&out, &rounds};
    RT_CUDA_TRY(gpu, event_record, probe->timer.from, gpu->stream);
    RT_CUDA_TRY(gpu, launch, probe->function, probe->blocks, 1, 1, probe->threads, 1, 1, 0, gpu->stream, params, NULL);
    return rt_cuda_timer_stop(gpu, &probe->timer, out_seconds);
}

static MossError time_probe(RtCuda *gpu, const Probe *probe, double work, double *out_rate) {
    double seconds = 0, threads = (double)probe->blocks * probe->threads;
    uint32_t rounds = 1;
    MossError error = run_probe(gpu, probe, rounds, &seconds);
    while (error.code == MOSS_OK && seconds < LEAST_SECONDS && rounds < MOST_ROUNDS) {
        rounds *= 2;
        error = run_probe(gpu, probe, rounds, &seconds);
    }
    *out_rate = 0;
    for (int i = 0; i < REPEATS && error.code == MOSS_OK; i++) {
        error = run_probe(gpu, probe, rounds, &seconds);
        keep_best(work * rounds * threads, seconds, out_rate);
    }
    return error;
}

MossError moss_cuda_rates(MossDevice *device, const void *image, uint32_t threads, MossCudaRate *rates, size_t n) {
    RtCuda *gpu = rt_cuda_of(device);
    Probe probe = {.threads = threads};
    CuModuleRef module = NULL;
    MossError error = rt_cuda_enter(gpu);
    if (error.code == MOSS_OK) error = rt_cuda_load_module(gpu, image, &module);
    if (error.code == MOSS_OK) error = rt_cuda_timer_make(gpu, &probe.timer);
    for (size_t i = 0; i < n && error.code == MOSS_OK; i++) {
        rates[i].rate = 0;
        if (!rates[i].entry) continue;
        error = find_probe(gpu, module, rates[i].entry, &probe);
        if (error.code == MOSS_OK) error = time_probe(gpu, &probe, rates[i].work, &rates[i].rate);
    }
    rt_cuda_timer_free(gpu, &probe.timer);
    rt_cuda_release(gpu, &probe.out);
    if (module) gpu->driver.module_unload(module);
    return error;
}
