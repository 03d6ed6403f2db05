/* What the functions of the emulated driver share. Each is written as emulated_NAME, with NAME and parameters as
 * runtime/cuda/driver.h has them, and exported under the driver's own name. */
#ifndef MOSSC_TESTS_CUDA_CALLS_H
#define MOSSC_TESTS_CUDA_CALLS_H

#include "device.h"

typedef enum Call {
#define CALL(name, symbol, params) CALL_##name,
    RT_CUDA_SYMBOLS(CALL)
#undef CALL
        CALLS
} Call;
#define EXPORT(name, symbol, params) CuResult emulated_##name params __asm__(#symbol) __attribute__((visibility("default")));
RT_CUDA_SYMBOLS(EXPORT)
#undef EXPORT

/* Of the calling thread. */
extern _Thread_local CuContextRef emulated_current;

enum {
    NOTHING = 0,
    EVER = 1,    /* before cuInit, too */
    CONTEXT = 2, /* a context that is alive */
    QUIET = 4    /* not while this thread captures */
};

/* Every function begins with this, and takes the lock; finish gives it back. What a call needs stands in `needs`. */
CuResult begin(Call call, int needs);
CuResult finish(CuResult result);

#endif
