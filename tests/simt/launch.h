/* What test_simt (C) and the compiled CUDA C behind simt.h (C++) agree on. */
#ifndef MOSSC_TESTS_SIMT_LAUNCH_H
#define MOSSC_TESTS_SIMT_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct SimtLaunch SimtLaunch;
struct SimtLaunch {
    void (*run)(const SimtLaunch *launch); /* what every thread runs */
    const void *step;   /* Step */
    uint32_t *arrived;  /* of row_step */
    uint32_t phase, kernel;
    unsigned blocks, threads;
    bool cooperative;   /* all blocks are resident together; else one after the other */
    unsigned order;     /* 0: threads and blocks in rising order, 1: falling, others: mixed */
    char *finding;      /* text */
    size_t finding_bytes;
    unsigned *first_block;
};

/* A program of the compiled text: run one phase of it, or its decode step. */
typedef struct SimtProgram {
    void (*block)(const SimtLaunch *launch);
    void (*row)(const SimtLaunch *launch);
} SimtProgram;

#endif
