/* NVIDIA GPUs as devices of models (mossc/moss.h). The driver is opened when the first GPU is; nothing links to it.
 *
 *   moss_cuda_open(0, &device);
 *   moss_cuda_code(device, program, cubin, size);
 *   moss_model_open(program, NULL, "x.weights", &(MossOptions){.size = sizeof(MossOptions), .device = device}, &model);
 *   … states, steps, moss_generate …
 *   moss_model_free(model), moss_device_free(device);
 *
 * Results agree with the CPU's within tolerance, not in their bits; the same GPU gives the same bits for the same steps. */
#ifndef MOSSC_RUNTIME_CUDA_MOSS_CUDA_H
#define MOSSC_RUNTIME_CUDA_MOSS_CUDA_H

#include "mossc/moss.h"

typedef struct MossCudaFacts {
    char name[64];
    int ordinal;
    int architecture;     /* 90 for sm_90 */
    int multiprocessors;
    int driver;           /* 13000: of CUDA 13.0 */
    uint32_t shared;      /* bytes of shared memory that a block can have */
    uint64_t memory_free, memory; /* bytes, when it was opened */
} MossCudaFacts;

/* Of moss_cuda_open. */
const MossCudaFacts *moss_cuda_facts(const MossDevice *device);

/* Whether the error of moss_cuda_code was that a cubin is for other GPUs: PTX may do. */
bool moss_cuda_other_architecture(const MossDevice *device);

/* The rate of a copy of `bytes` from device memory to device memory, bytes read and written counted, the best of some. */
MossError moss_cuda_copy_rate(MossDevice *device, uint64_t bytes, double *out_bytes_per_second);

/* What an entry of `image` does a second. The entry is `entry(float *out, u32 rounds)`, and each of its threads does `work` of
 * something in a round. It fills the GPU, and is launched with enough rounds that a launch's beginning and end do not count; the best
 * of some. The code of a program stays as it is. */
typedef struct MossCudaRate {
    const char *entry; /* NULL: none; the rate is 0 */
    double work;
    double rate;       /* out: of the whole GPU */
} MossCudaRate;

MossError moss_cuda_rates(MossDevice *device, const void *image, uint32_t threads, MossCudaRate *rates, size_t n);

#endif
