/* What test_simt and tests/cuda (C) and the compiled CUDA C behind simt.h (C++) agree on. */
#ifndef MOSSC_TESTS_SIMT_LAUNCH_H
#define MOSSC_TESTS_SIMT_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Memory whose accesses races.h watches. */
typedef struct SimtMemory {
    const char *name;
    const void *data;
    size_t bytes;
} SimtMemory;

typedef struct SimtLaunch SimtLaunch;
struct SimtLaunch {
    void (*run)(const SimtLaunch *launch); /* what every thread runs */
    void *step;         /* Step */
    void *control;      /* Control, of the persistent entries */
    uint32_t number;    /* of the program's launches */
    void *const *params; /* where each parameter lies, of an entry that tests/cuda launches */
    unsigned blocks, threads;
    size_t shared;      /* bytes of dynamic shared memory */
    bool cooperative;   /* all blocks are resident together; else one after the other */
    unsigned absent;    /* of the blocks of a cooperative launch, the last ones, that never begin */
    unsigned order;     /* 0: threads and blocks in rising order, 1: falling, others: mixed */
    char *finding;      /* text */
    size_t finding_bytes;
    unsigned *first_block;
    const SimtMemory *watched; /* [n_watched], of a text that watches (library.h) */
    size_t n_watched;
};

/* A program of the compiled text: one of its launches for many rows, and its persistent entries for one row and a few. */
typedef struct SimtProgram {
    void (*many)(const SimtLaunch *launch);
    void (*row)(const SimtLaunch *launch);
    void (*rows)(const SimtLaunch *launch);
} SimtProgram;

#endif
