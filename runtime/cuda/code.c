/* The code of a program on a GPU: the module, what it says about itself, its entries. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cuda/gpu.h"
#include "support/alloc.h"

enum { LOG_BYTES = 4096, MOST_LAUNCHES = 1 << 20, STATIC_SHARED = 48 * 1024 /* from here on an entry must be told */ };

void rt_cuda_code_free(RtCuda *gpu) {
    RtCudaCode *code = &gpu->code;
    if (code->module) gpu->driver.module_unload(code->module);
    su_free(code->launches);
    su_free(code->functions);
    su_free(code->resident);
    *code = (RtCudaCode){0};
}

/* Of code that is newer than the driver. Where that is machine code a driver says no more than that it does not know it. */
static MossError too_new(const RtCuda *gpu, CuResult result) {
    int driver = gpu->facts.driver;
    char what[256];
    snprintf(what, sizeof what,
             "the driver supports CUDA %d.%d and may reject code from a newer NVRTC: update the driver, or set "
             "MOSSC_NVRTC to an older NVRTC",
             driver / 1000, driver % 1000 / 10);
    return rt_cuda_error(&gpu->driver, result, rt_cuda_symbols.module_load, what);
}

MossError rt_cuda_load_module(RtCuda *gpu, const void *image, CuModuleRef *out_module) {
    char log[LOG_BYTES] = "";
    CuJitOption options[] = {CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BYTES};
    void *values[] = {log, (void *)(uintptr_t)sizeof log};
    CuResult result = gpu->driver.module_load(out_module, image, 2, options, values);
    gpu->other_architecture = result == CU_NO_BINARY_FOR_GPU;
    if (!result) return (MossError){.code = MOSS_OK};
    *out_module = NULL;
    log[sizeof log - 1] = '\0';
    if (result == CU_UNSUPPORTED_PTX_VERSION || (result == CU_INVALID_IMAGE && !log[0])) return too_new(gpu, result);
    return rt_cuda_error(&gpu->driver, result, rt_cuda_symbols.module_load, log[0] ? log : NULL);
}

/* ---------------------------------------------------------------------------------------------- what it says */

static MossError not_ours(const char *why) {
    return rt_error(MOSS_DEVICE, "GPU module was not built by this version of mossc: %s", why);
}

/* Whether image and its size belong together, and to the program. */
static const char *fault_of(const RtCudaImage *image, size_t bytes, const PgProgram *program) {
    if (bytes < sizeof *image || image->magic != RT_CUDA_MAGIC) return "it has no mossc_image symbol";
    if (image->format != RT_CUDA_FORMAT || image->numerics != PG_NUMERICS) return "its format or numerics version differs";
    if (memcmp(image->spec_hash, program->spec_hash, sizeof program->spec_hash) != 0) return "it was built from another spec";
    if (image->n_launches > MOST_LAUNCHES || bytes != sizeof *image + image->n_launches * sizeof(RtCudaLaunch))
        return "its launch table is corrupt";
    if (image->few_list >= PG_LISTS) return "its list of phases for a few rows is unknown";
    return image->n_ropes == program->n_ropes ? NULL : "it was built from another program";
}

static const char *fault_of_launch(const RtCudaLaunch *launch, const PgProgram *program) {
    bool named = memchr(launch->entry, '\0', sizeof launch->entry) != NULL;
    bool good = named && launch->phase < program->steps[PG_BLOCK].n_phases && launch->per_tile > 0 && launch->threads > 0;
    return good ? NULL : "its launch table is corrupt";
}

/* Reads RtCudaImage and the launches. */
static MossError read_image(RtCuda *gpu, const PgProgram *program) {
    RtCudaCode *code = &gpu->code;
    CuPointer address;
    size_t bytes;
    CuResult result = gpu->driver.module_global(&address, &bytes, code->module, "mossc_image");
    if (result == CU_NOT_FOUND) return not_ours("it has no mossc_image symbol");
    if (result) return rt_cuda_error(&gpu->driver, result, rt_cuda_symbols.module_global, NULL);
    uint8_t *words = su_malloc(bytes);
    if (!words) return rt_error(MOSS_NO_MEMORY, "cannot allocate memory for the launch table");
    MossError error = gpu->device.kind->get(&gpu->device, words, address, bytes);
    const char *fault = NULL;
    if (error.code == MOSS_OK) {
        memcpy(&code->image, words, bytes < sizeof code->image ? bytes : sizeof code->image);
        fault = fault_of(&code->image, bytes, program);
    }
    if (error.code == MOSS_OK && !fault) {
        code->launches = su_calloc(code->image.n_launches + 1, sizeof *code->launches);
        if (code->launches) memcpy(code->launches, words + sizeof code->image, bytes - sizeof code->image);
        for (uint32_t i = 0; code->launches && i < code->image.n_launches && !fault; i++)
            fault = fault_of_launch(&code->launches[i], program);
        if (!code->launches) error = rt_error(MOSS_NO_MEMORY, "cannot allocate memory for the launch table");
    }
    su_free(words);
    return fault ? not_ours(fault) : error;
}

/* ---------------------------------------------------------------------------------------------- entries */

/* An entry, and how many of its blocks the GPU holds at once. */
static MossError find_entry(RtCuda *gpu, const char *name, uint32_t threads, uint32_t shared, CuFunctionRef *out_function,
                            unsigned *out_blocks) {
    int per_multiprocessor = 0;
    RT_CUDA_TRY(gpu, module_function, out_function, gpu->code.module, name);
    if (shared > gpu->facts.shared) {
        return rt_error(MOSS_DEVICE, "kernel %s needs %u bytes of shared memory per block, but %s allows at most %u", name, shared,
                        gpu->facts.name, gpu->facts.shared);
    }
    if (shared > STATIC_SHARED) RT_CUDA_TRY(gpu, function_set, *out_function, CU_FUNC_MAX_DYNAMIC_SHARED, (int)shared);
    RT_CUDA_TRY(gpu, occupancy, &per_multiprocessor, *out_function, (int)threads, shared);
    if (per_multiprocessor < 1)
        return rt_error(MOSS_DEVICE, "%s cannot run kernel %s: not one of its blocks fits on a multiprocessor", gpu->facts.name,
                        name);
    *out_blocks = (unsigned)(per_multiprocessor * gpu->facts.multiprocessors);
    return (MossError){.code = MOSS_OK};
}

static MossError find_launches(RtCuda *gpu) {
    RtCudaCode *code = &gpu->code;
    size_t n = (size_t)code->image.n_launches + 1;
    code->functions = su_calloc(n, sizeof *code->functions);
    code->resident = su_calloc(n, sizeof *code->resident);
    if (!code->functions || !code->resident) return rt_error(MOSS_NO_MEMORY, "cannot allocate memory for the launch table");
    for (uint32_t i = 0; i < code->image.n_launches; i++) {
        const RtCudaLaunch *launch = &code->launches[i];
        MossError error = find_entry(gpu, launch->entry, launch->threads, launch->shared, &code->functions[i], &code->resident[i]);
        if (error.code != MOSS_OK) return error;
    }
    return (MossError){.code = MOSS_OK};
}

static MossError find_entries(RtCuda *gpu) {
    RtCudaCode *code = &gpu->code;
    unsigned blocks;
    uint32_t threads = code->image.threads;
    MossError error = find_launches(gpu);
    code->row.shared = code->image.row_shared;
    code->rows.shared = code->image.few_shared;
    if (error.code == MOSS_OK)
        error = find_entry(gpu, "row_step", threads, code->row.shared, &code->row.function, &code->row.blocks);
    if (error.code == MOSS_OK && code->image.few_rows)
        error = find_entry(gpu, "rows_step", threads, code->rows.shared, &code->rows.function, &code->rows.blocks);
    if (error.code == MOSS_OK && code->image.n_ropes) error = find_entry(gpu, "fill_ropes", threads, 0, &code->fill_ropes, &blocks);
    if (error.code == MOSS_OK && code->image.n_arranged)
        error = find_entry(gpu, "arrange_weights", threads, 0, &code->arrange, &blocks);
    return error;
}

MossError moss_cuda_code(MossDevice *device, const PgProgram *program, const void *image, size_t bytes) {
    RtCuda *gpu = rt_cuda_of(device);
    if (device->model) return rt_error(MOSS_DEVICE, "GPU module is in use by a model: free the model first");
    if (bytes < 4) return rt_error(MOSS_DEVICE, "GPU module is empty");
    MossError error = rt_cuda_enter(gpu);
    if (error.code != MOSS_OK) return error;
    rt_cuda_code_free(gpu);
    error = rt_cuda_load_module(gpu, image, &gpu->code.module);
    if (error.code == MOSS_OK) error = read_image(gpu, program);
    if (error.code == MOSS_OK) error = find_entries(gpu);
    if (error.code != MOSS_OK) rt_cuda_code_free(gpu);
    return error;
}

bool moss_cuda_other_architecture(const MossDevice *device) { return ((const RtCuda *)device)->other_architecture; }
