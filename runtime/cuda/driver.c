/* Opening the driver, and saying what is wrong with it. */
#include "runtime/cuda/driver.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model.h"

#define DRIVER_HINT                                                                                                                \
    "the driver comes from NVIDIA or from the system's packages (Debian: nvidia-driver), never with the CUDA toolkit; where the "  \
    "loader does not find it, set MOSSC_CUDA_DRIVER to the file"

static MossError open_library(RtCudaDriver *d) {
    const char *path = getenv("MOSSC_CUDA_DRIVER");
    bool named = path && path[0];
    d->handle = dlopen(named ? path : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (d->handle) return (MossError){.code = MOSS_OK};
    if (named) return rt_error(MOSS_DEVICE, "MOSSC_CUDA_DRIVER: cannot load the library %s: %s", path, dlerror());
    return rt_error(MOSS_DEVICE, "NVIDIA driver (libcuda.so.1) was not found: " DRIVER_HINT);
}

static MossError find_symbols(RtCudaDriver *d) {
    const char *missing = NULL;
#define FIND(name, symbol, params)                                                                                                 \
    *(void **)&d->name = dlsym(d->handle, #symbol);                                                                                \
    if (!d->name && !missing) { missing = #symbol; }
    RT_CUDA_SYMBOLS(FIND)
#undef FIND
    if (!missing) return (MossError){.code = MOSS_OK};
    return rt_error(MOSS_DEVICE, "NVIDIA driver is too old, it has no %s: expected CUDA %d.%d or newer, update the driver", missing,
                    RT_CUDA_OLDEST_DRIVER / 1000, RT_CUDA_OLDEST_DRIVER % 1000 / 10);
}

static MossError start(RtCudaDriver *d) {
    CuResult result = d->init(0);
    if (result == CU_NO_DEVICE) return rt_error(MOSS_DEVICE, "NVIDIA driver found no GPU");
    if (result) return rt_cuda_error(d, result, "cuInit", "run `nvidia-smi` to check whether the driver works");
    if ((result = d->driver_version(&d->version))) return rt_cuda_error(d, result, "cuDriverGetVersion", NULL);
    if (d->version >= RT_CUDA_OLDEST_DRIVER) return (MossError){.code = MOSS_OK};
    return rt_error(MOSS_DEVICE, "NVIDIA driver is too old: expected CUDA %d.%d or newer, got %d.%d; update the driver",
                    RT_CUDA_OLDEST_DRIVER / 1000, RT_CUDA_OLDEST_DRIVER % 1000 / 10, d->version / 1000, d->version % 1000 / 10);
}

MossError rt_cuda_driver_open(RtCudaDriver *out_driver) {
    *out_driver = (RtCudaDriver){0};
    MossError error = open_library(out_driver);
    if (error.code == MOSS_OK) error = find_symbols(out_driver);
    if (error.code == MOSS_OK) error = start(out_driver);
    return error; /* the library stays loaded: it may have threads of its own */
}

MossError rt_cuda_error(const RtCudaDriver *driver, CuResult result, const char *call, const char *what) {
    const char *name = NULL, *text = NULL;
    if (driver->error_name(result, &name) || !name) name = "an unknown error";
    if (driver->error_text(result, &text) || !text) text = "no description";
    return rt_error(result == CU_OUT_OF_MEMORY ? MOSS_NO_MEMORY : MOSS_DEVICE, "%s: %s (%d: %s)%s%s", call, name, result, text,
                    what ? "; " : "", what ? what : "");
}
