/* What is behind a MossDevice that is an NVIDIA GPU; shared by the files of this directory.
 *
 *   gpu.c       opening and closing, facts, memory of the device
 *   code.c      the module of a program: entries, launches
 *   steps.c     tables of a step, launches, graphs
 *   picks.c     tokens picked on the device
 *
 * Calls of the driver go through RT_CUDA_TRY, which returns the call's error. All work is in one stream. */
#ifndef MOSSC_RUNTIME_CUDA_GPU_H
#define MOSSC_RUNTIME_CUDA_GPU_H

#include "runtime/cuda/driver.h"
#include "ir/cuda_image.h"
#include "runtime/cuda/moss_cuda.h"
#include "runtime/device.h"

#define RT_CUDA_TRY(gpu, function, ...)                                                                                            \
    do {                                                                                                                           \
        CuResult result_ = (gpu)->driver.function(__VA_ARGS__);                                                                    \
        if (result_) { return rt_cuda_error(&(gpu)->driver, result_, rt_cuda_symbols.function, NULL); }                            \
    } while (0)

/* The exported name of each function. */
typedef struct RtCudaSymbols {
#define RT_CUDA_NAME_FIELD(name, symbol, params) const char *name;
    RT_CUDA_SYMBOLS(RT_CUDA_NAME_FIELD)
#undef RT_CUDA_NAME_FIELD
} RtCudaSymbols;

extern const RtCudaSymbols rt_cuda_symbols;

/* Memory of the device that grows when more is needed. */
typedef struct RtCudaMemory {
    CuPointer address; /* 0: none */
    uint64_t bytes;
} RtCudaMemory;

/* A persistent entry. */
typedef struct RtCudaEntry {
    CuFunctionRef function;
    unsigned blocks; /* that the GPU holds at once, as far as launches have not shown that there is less room */
    unsigned shared;
} RtCudaEntry;

/* The module of a program. */
typedef struct RtCudaCode {
    CuModuleRef module; /* NULL: none */
    RtCudaImage image;
    RtCudaLaunch *launches;    /* [image.n_launches], malloced */
    CuFunctionRef *functions;  /* [image.n_launches], malloced: those of the launches */
    unsigned *resident;        /* [image.n_launches], malloced: blocks of each that the GPU holds at once */
    CuFunctionRef fill_ropes;  /* NULL without ropes */
    CuFunctionRef arrange;     /* NULL where weights stay as they are */
    RtCudaEntry row, rows;
} RtCudaCode;

enum { RT_CUDA_GRAPHS = 32 };

/* A step's launches as a graph. It serves all steps whose sizes round up to the same powers of two. */
typedef struct RtCudaGraph {
    CuGraphExecRef exec; /* NULL: free */
    uint32_t rows, segments, n_out_rows;
    uint64_t used;       /* number of the step that used it last */
} RtCudaGraph;

typedef struct RtCuda {
    MossDevice device; /* first */
    RtCudaDriver driver;
    MossCudaFacts facts;
    CuDevice handle;
    CuContextRef context;
    CuStreamRef stream;
    bool integrated;         /* its memory is the host's */
    bool other_architecture; /* why the last code was refused */
    RtCudaCode code;
    /* of the model */
    const PgProgram *program;
    CuPointer weights;
    bool lost;               /* the weights, in an unknown form: steps refuse */
    RtCudaMemory arena, scratch, logits;
    RtCudaMemory tables;      /* RtArgs and all arrays of a step, in one piece */
    uint8_t *staging;         /* pinned: what goes to `tables`, and comes back */
    uint64_t staging_bytes;
    RtCudaStuck *stuck;       /* pinned: where a launch says that it waited too long */
    bool in_row_step;         /* which entry was launched last */
    RtCudaMemory picks;       /* RtCudaPick, tokens, generators */
    RtCudaGraph graphs[RT_CUDA_GRAPHS];
    uint64_t steps;
} RtCuda;

static inline RtCuda *rt_cuda_of(MossDevice *device) { return (RtCuda *)device; }

/* Makes the context the calling thread's. */
MossError rt_cuda_enter(RtCuda *gpu);
/* The memory has `bytes` afterwards, its content is lost where it grew. `what` says what for, if there is not enough. */
MossError rt_cuda_grow(RtCuda *gpu, RtCudaMemory *memory, uint64_t bytes, const char *what);
void rt_cuda_release(RtCuda *gpu, RtCudaMemory *memory);
MossError rt_cuda_wait(RtCuda *gpu);
/* An error where the weights are lost. */
MossError rt_cuda_has_weights(const RtCuda *gpu);

/* Two events of the stream; whoever measures records timer->from himself. {0} may be freed. */
typedef struct RtCudaTimer {
    CuEventRef from, to;
} RtCudaTimer;

MossError rt_cuda_timer_make(RtCuda *gpu, RtCudaTimer *timer);
void rt_cuda_timer_free(RtCuda *gpu, RtCudaTimer *timer);
/* Waits for what was launched since timer->from, and says how long it took. */
MossError rt_cuda_timer_stop(RtCuda *gpu, const RtCudaTimer *timer, double *out_seconds);

/* ---- code.c */
/* The error has the driver's log, if it says anything. */
MossError rt_cuda_load_module(RtCuda *gpu, const void *image, CuModuleRef *out_module);
void rt_cuda_code_free(RtCuda *gpu);
/* ---- steps.c */
MossError rt_cuda_step(MossDevice *device, const RtDeviceStep *step);
MossError rt_cuda_steps_reserve(RtCuda *gpu, uint32_t rows); /* staging for steps of so many rows */
void rt_cuda_graphs_free(RtCuda *gpu);
uint64_t rt_cuda_scratch_bytes(const RtCuda *gpu, uint64_t ld, uint32_t segments); /* RtArgs.scratch of a step */

/* A step in staging and tables: where its parts are, as offsets of both. */
typedef struct RtCudaTables {
    uint64_t control, nonfinite, end; /* RtArgs lies at 0; nonfinite is behind the control block */
} RtCudaTables;

/* Room for everything of the step; its tables in staging. */
MossError rt_cuda_describe(RtCuda *gpu, const RtDeviceStep *step, RtCudaTables *out_tables);
RtCudaControl *rt_cuda_control(RtCuda *gpu, const RtCudaTables *tables);
/* Runs row_step or rows_step on tables that were sent. Where it is refused because not all blocks would be resident (a tool that changes the code
 * takes registers, another process multiprocessors), it is tried with fewer, and they stay so few: results do not depend on their number. */
MossError rt_cuda_launch_together(RtCuda *gpu, RtCudaEntry *entry, const RtCudaTables *tables);
MossError rt_cuda_send(RtCuda *gpu, const RtCudaTables *tables);
/* After a failure behind rt_cuda_send: waits for the copy from staging, which is written to again, and returns the error, or what
 * the launch says of why it ended itself. */
MossError rt_cuda_abandon(RtCuda *gpu, MossError error);
/* Logits come back into the step, control block and non-finite rows into staging; waits. */
MossError rt_cuda_receive(RtCuda *gpu, const RtCudaTables *tables, const RtDeviceStep *step);
/* ---- picks.c */
uint32_t rt_cuda_most_picks(const MossDevice *device);
MossError rt_cuda_generate(MossDevice *device, const RtDeviceStep *step, RtDevicePicks *picks);

#endif
