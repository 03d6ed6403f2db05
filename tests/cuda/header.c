/* Compiled where NVIDIA's header is: what runtime/cuda/driver.h says of functions and values is what the header says. */
#include <cuda.h>

/* Two names are the header's own. */
#define CU_STREAM_NON_BLOCKING OUR_STREAM_NON_BLOCKING
#define CU_EVENT_DEFAULT OUR_EVENT_DEFAULT
#include "runtime/cuda/driver.h"
#undef CU_STREAM_NON_BLOCKING
#undef CU_EVENT_DEFAULT

#define IS(ours, theirs) _Static_assert((unsigned)(ours) == (unsigned)(theirs), #theirs)
IS(CU_OK, CUDA_SUCCESS);
IS(CU_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY);
IS(CU_NO_DEVICE, CUDA_ERROR_NO_DEVICE);
IS(CU_NO_BINARY_FOR_GPU, CUDA_ERROR_NO_BINARY_FOR_GPU);
IS(CU_INVALID_PTX, CUDA_ERROR_INVALID_PTX);
IS(CU_NOT_FOUND, CUDA_ERROR_NOT_FOUND);
IS(CU_COOPERATIVE_LAUNCH_TOO_LARGE, CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
IS(CU_ATTRIBUTE_MULTIPROCESSORS, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
IS(CU_ATTRIBUTE_INTEGRATED, CU_DEVICE_ATTRIBUTE_INTEGRATED);
IS(CU_ATTRIBUTE_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
IS(CU_ATTRIBUTE_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
IS(CU_ATTRIBUTE_COOPERATIVE_LAUNCH, CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH);
IS(CU_ATTRIBUTE_SHARED_OPTIN, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
IS(CU_FUNC_MAX_DYNAMIC_SHARED, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
IS(OUR_STREAM_NON_BLOCKING, CU_STREAM_NON_BLOCKING);
IS(CU_CAPTURE_THREAD_LOCAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
IS(OUR_EVENT_DEFAULT, CU_EVENT_DEFAULT);
IS(CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BUFFER);
IS(CU_JIT_ERROR_LOG_BYTES, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);

/* The list once more, with the header's types. */
#define CuResult CUresult
#define CuAttribute CUdevice_attribute
#define CuFunctionAttribute CUfunction_attribute
#define CuCaptureMode CUstreamCaptureMode
#define CuJitOption CUjit_option
#define CuDevice CUdevice
#define CuPointer CUdeviceptr
#define CuContextRef CUcontext
#define CuModuleRef CUmodule
#define CuFunctionRef CUfunction
#define CuStreamRef CUstream
#define CuEventRef CUevent
#define CuGraphRef CUgraph
#define CuGraphExecRef CUgraphExec

#define SAME(name, symbol, params)                                                                                                 \
    _Static_assert(__builtin_types_compatible_p(CUresult(*) params, __typeof__(&symbol)), "the type of " #symbol);
RT_CUDA_SYMBOLS(SAME)
