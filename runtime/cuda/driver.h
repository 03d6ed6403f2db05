/* NVIDIA's driver, opened when a GPU is asked for (libcuda.so.1, or the file that MOSSC_CUDA_DRIVER names). Nothing links to it. The
 * functions that are used stand in one list, with the types that NVIDIA's documentation gives them. */
#ifndef MOSSC_RUNTIME_CUDA_DRIVER_H
#define MOSSC_RUNTIME_CUDA_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#include "ir/program.h"
#include "mossc/moss.h"

/* NVIDIA's enums, as C compilers have them. */
typedef unsigned CuResult; /* 0: success */
typedef unsigned CuAttribute, CuFunctionAttribute, CuCaptureMode, CuJitOption;
typedef int CuDevice;
typedef unsigned long long CuPointer; /* of the device */
typedef struct CuContext *CuContextRef;
typedef struct CuModule *CuModuleRef;
typedef struct CuFunction *CuFunctionRef;
typedef struct CuStream *CuStreamRef;
typedef struct CuEvent *CuEventRef;
typedef struct CuGraph *CuGraphRef;
typedef struct CuGraphExec *CuGraphExecRef;

/* Values of NVIDIA's enums that are used. */
enum {
    CU_OK = 0,
    CU_OUT_OF_MEMORY = 2,
    CU_NO_DEVICE = 100,
    CU_INVALID_IMAGE = 200,
    CU_NO_BINARY_FOR_GPU = 209,
    CU_INVALID_PTX = 218,
    CU_UNSUPPORTED_PTX_VERSION = 222,
    CU_NOT_FOUND = 500,
    CU_COOPERATIVE_LAUNCH_TOO_LARGE = 720,
    CU_ATTRIBUTE_MULTIPROCESSORS = 16,
    CU_ATTRIBUTE_INTEGRATED = 18,
    CU_ATTRIBUTE_MAJOR = 75,
    CU_ATTRIBUTE_MINOR = 76,
    CU_ATTRIBUTE_COOPERATIVE_LAUNCH = 95,
    CU_ATTRIBUTE_SHARED_OPTIN = 97,
    CU_FUNC_MAX_DYNAMIC_SHARED = 8,
    CU_STREAM_NON_BLOCKING = 1,
    CU_CAPTURE_THREAD_LOCAL = 1,
    CU_EVENT_DEFAULT = 0,
    CU_JIT_ERROR_LOG = 5,
    CU_JIT_ERROR_LOG_BYTES = 6
};

/* name, exported symbol, types of the parameters */
#define RT_CUDA_SYMBOLS(ROW)                                                                                                       \
    ROW(init, cuInit, (unsigned flags))                                                                                            \
    ROW(driver_version, cuDriverGetVersion, (int *version))                                                                        \
    ROW(error_name, cuGetErrorName, (CuResult, const char **))                                                                     \
    ROW(error_text, cuGetErrorString, (CuResult, const char **))                                                                   \
    ROW(device_count, cuDeviceGetCount, (int *count))                                                                              \
    ROW(device_get, cuDeviceGet, (CuDevice *, int ordinal))                                                                        \
    ROW(device_name, cuDeviceGetName, (char *name, int size, CuDevice))                                                            \
    ROW(device_attribute, cuDeviceGetAttribute, (int *value, CuAttribute, CuDevice))                                               \
    ROW(context_retain, cuDevicePrimaryCtxRetain, (CuContextRef *, CuDevice))                                                      \
    ROW(context_release, cuDevicePrimaryCtxRelease_v2, (CuDevice))                                                                 \
    ROW(context_set, cuCtxSetCurrent, (CuContextRef))                                                                              \
    ROW(memory_info, cuMemGetInfo_v2, (size_t *available, size_t *whole))                                                          \
    ROW(memory_alloc, cuMemAlloc_v2, (CuPointer *, size_t bytes))                                                                  \
    ROW(memory_free, cuMemFree_v2, (CuPointer))                                                                                    \
    ROW(host_alloc, cuMemHostAlloc, (void **, size_t bytes, unsigned flags))                                                       \
    ROW(host_free, cuMemFreeHost, (void *))                                                                                        \
    ROW(put, cuMemcpyHtoDAsync_v2, (CuPointer to, const void *from, size_t bytes, CuStreamRef))                                    \
    ROW(get, cuMemcpyDtoHAsync_v2, (void *to, CuPointer from, size_t bytes, CuStreamRef))                                          \
    ROW(copy, cuMemcpyDtoDAsync_v2, (CuPointer to, CuPointer from, size_t bytes, CuStreamRef))                                     \
    ROW(fill, cuMemsetD8Async, (CuPointer to, unsigned char value, size_t bytes, CuStreamRef))                                     \
    ROW(stream_create, cuStreamCreate, (CuStreamRef *, unsigned flags))                                                            \
    ROW(stream_destroy, cuStreamDestroy_v2, (CuStreamRef))                                                                         \
    ROW(stream_wait, cuStreamSynchronize, (CuStreamRef))                                                                           \
    ROW(event_create, cuEventCreate, (CuEventRef *, unsigned flags))                                                               \
    ROW(event_destroy, cuEventDestroy_v2, (CuEventRef))                                                                            \
    ROW(event_record, cuEventRecord, (CuEventRef, CuStreamRef))                                                                    \
    ROW(event_wait, cuEventSynchronize, (CuEventRef))                                                                              \
    ROW(event_elapsed, cuEventElapsedTime, (float *milliseconds, CuEventRef from, CuEventRef to))                                  \
    ROW(module_load, cuModuleLoadDataEx,                                                                                           \
        (CuModuleRef *, const void *image, unsigned n_options, CuJitOption *options, void **values))                               \
    ROW(module_unload, cuModuleUnload, (CuModuleRef))                                                                              \
    ROW(module_function, cuModuleGetFunction, (CuFunctionRef *, CuModuleRef, const char *name))                                    \
    ROW(module_global, cuModuleGetGlobal_v2, (CuPointer *, size_t *bytes, CuModuleRef, const char *name))                          \
    ROW(function_set, cuFuncSetAttribute, (CuFunctionRef, CuFunctionAttribute, int value))                                         \
    ROW(occupancy, cuOccupancyMaxActiveBlocksPerMultiprocessor, (int *blocks, CuFunctionRef, int threads, size_t shared))          \
    ROW(launch, cuLaunchKernel,                                                                                                    \
        (CuFunctionRef, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,   \
         unsigned shared, CuStreamRef, void **params, void **extra))                                                               \
    ROW(launch_together, cuLaunchCooperativeKernel,                                                                                \
        (CuFunctionRef, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,   \
         unsigned shared, CuStreamRef, void **params))                                                                             \
    ROW(capture_begin, cuStreamBeginCapture_v2, (CuStreamRef, CuCaptureMode))                                                      \
    ROW(capture_end, cuStreamEndCapture, (CuStreamRef, CuGraphRef *))                                                              \
    ROW(graph_make, cuGraphInstantiateWithFlags, (CuGraphExecRef *, CuGraphRef, unsigned long long flags))                         \
    ROW(graph_launch, cuGraphLaunch, (CuGraphExecRef, CuStreamRef))                                                                \
    ROW(graph_destroy, cuGraphDestroy, (CuGraphRef))                                                                               \
    ROW(graph_exec_destroy, cuGraphExecDestroy, (CuGraphExecRef))

enum { RT_CUDA_OLDEST_DRIVER = 11040 }; /* 1000 · major + 10 · minor of CUDA: graphs are made with flags from here on */

/* The functions of the driver. */
typedef struct RtCudaDriver {
    void *handle;
    int version;
#define RT_CUDA_FIELD(name, symbol, params) CuResult(*name) params;
    RT_CUDA_SYMBOLS(RT_CUDA_FIELD)
#undef RT_CUDA_FIELD
} RtCudaDriver;

/* Opens the library and initialises it. Each of these has its own message: no library, a symbol that it lacks or a version that is
 * too old, no GPU. Once loaded, the library stays until the process ends. */
MossError rt_cuda_driver_open(RtCudaDriver *out_driver);
/* The error of a call: MOSS_NO_MEMORY or MOSS_DEVICE, with the call and the code's name. `what` may be NULL. */
MossError rt_cuda_error(const RtCudaDriver *driver, CuResult result, const char *call, const char *what);

#endif
