/* The emulated driver's inside: objects, memory and work that waits to be done. One lock (emulated_cuda.c) is held in all of it. */
#ifndef MOSSC_TESTS_CUDA_DEVICE_H
#define MOSSC_TESTS_CUDA_DEVICE_H

#include <pthread.h>

#include "image.h"
#include "runtime/cuda/driver.h"
#include "settings.h"

/* Values of CUresult that the emulation gives and mossc does not name. */
enum {
    CU_INVALID_VALUE = 1,
    CU_NOT_INITIALIZED = 3,
    CU_INVALID_DEVICE = 101,
    CU_INVALID_CONTEXT = 201,
    CU_INVALID_HANDLE = 400,
    CU_ILLEGAL_STATE = 401,
    CU_NOT_READY = 600,
    CU_ILLEGAL_ADDRESS = 700,
    CU_OUT_OF_RESOURCES = 701,
    CU_MISALIGNED_ADDRESS = 716,
    CU_LAUNCH_FAILED = 719,
    CU_CAPTURE_UNSUPPORTED = 900,
    CU_CAPTURE_INVALIDATED = 901,
    CU_CAPTURE_WRONG_THREAD = 908,
    CU_UNKNOWN = 999
};

enum { MAX_DEVICES = 8 };

/* ---- objects: whatever a program makes and has to give back */

typedef enum Kind { MEMORY, PINNED, GLOBAL, MODULE, STREAM, EVENT, GRAPH, GRAPH_EXEC, KINDS } Kind;

typedef struct Object {
    struct Object *next;
    Kind kind;
    CuContextRef context;
} Object;

struct CuContext {
    int device, users;
    CuResult dead; /* what killed it: every later call of it gives that */
    uint64_t used; /* bytes of device memory */
    CuStreamRef default_stream; /* made when it is used */
};

typedef struct Memory {
    Object object;
    CuModuleRef module; /* of a GLOBAL */
    const EmulatedGlobal *global;
    uint8_t *data; /* ends at a page that cannot be touched, but for up to 63 bytes */
    size_t bytes;
    uint8_t *mapped; /* with a page at both sides */
    size_t mapped_bytes;
} Memory;

struct CuFunction {
    struct CuModule *module;
    const EmulatedEntry *entry;
    uint32_t most_shared; /* bytes of dynamic shared memory that a launch may have */
};

struct CuModule {
    Object object;
    void *library;
    int file; /* that it was loaded from */
    bool (*run)(const SimtLaunch *launch);
    const EmulatedEntry *entries;
    const EmulatedGlobal *globals;
    struct CuFunction *functions;
};

typedef enum Action { RUN, PUT, GET, COPY, FILL, STAMP } Action;

typedef struct Operation {
    Action action;
    CuFunctionRef function; /* RUN */
    unsigned blocks, threads, shared;
    bool together;
    _Alignas(8) uint8_t params[ENTRY_PARAMS * ENTRY_PARAM_BYTES];
    uint8_t *to; /* of the rest; a device's or a host's address, as the action says */
    const uint8_t *from;
    size_t bytes;
    uint8_t value;
    CuEventRef event; /* STAMP */
} Operation;

typedef struct Work {
    Operation *operations;
    size_t count, room;
} Work;

struct CuStream {
    Object object;
    Work queue;
    CuGraphRef capture; /* what is captured at present */
    bool broken; /* the capture is invalid */
    bool relaxed;
    pthread_t capturing;
};

struct CuEvent {
    Object object;
    unsigned flags;
    CuStreamRef stream; /* that it waits in; NULL: it was stamped, or never recorded */
    bool stamped;
    double seconds;
};

struct CuGraph {
    Object object;
    Work work;
};

struct CuGraphExec {
    Object object;
    Work work;
};

typedef struct Device {
    Settings settings;
    bool ready; /* cuInit was called */
    struct CuContext contexts[MAX_DEVICES];
    Object *objects;
    bool leaked;
} Device;

extern Device device;

/* calloced and listed */
void *object_new(Kind kind, CuContextRef context, size_t bytes);
/* NULL: there is none such (any more). */
void *object_find(Kind kind, const void *handle);
void object_remove(Object *object); /* and frees it */
void object_free(Object *object); /* with all that belongs to it */
/* Tells what the context (NULL: any) still has, but for what belongs to a module. */
bool objects_report(const struct CuContext *context);

/* Bytes of shared memory that a block can have. */
int device_most_shared(void);

/* ---- memory.c */

/* What an allocation takes of the device: the driver hands out units of 512 bytes. */
static inline uint64_t memory_charge(uint64_t bytes) { return (bytes + 511) / 512 * 512; }

Memory *memory_new(Kind kind, CuContextRef context, size_t bytes);
void memory_free(Memory *memory);
/* The memory that holds all these bytes, or NULL after a message that names the call. */
Memory *memory_holding(Kind kind, const void *at, size_t bytes, const char *call);
bool memory_is_pinned(const void *at, size_t bytes);
/* The device's memory cannot be touched but by what runs on it: a host that follows a device pointer faults, as with a GPU. */
void memory_open(const Memory *memory);
void memory_close(const Memory *memory);
/* What lies at an address that could not be touched. */
void memory_describe(const void *at, char *out, size_t bytes);

/* ---- work.c */

void work_add(Work *work, const Operation *operation);
void work_free(Work *work);
CuResult work_run(CuContextRef context, const Operation *operation);
/* Runs what waits in a stream, up to the event if one is named; an error kills the context. */
CuResult stream_flush(CuStreamRef stream, const struct CuEvent *until);
void flush_all(CuContextRef context);

#endif
