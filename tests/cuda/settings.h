/* What the emulated GPU and its compiler are told by the environment variable MOSSC_EMULATED_GPU: "key=value,key=value,…". */
#ifndef MOSSC_TESTS_CUDA_SETTINGS_H
#define MOSSC_TESTS_CUDA_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

enum { SETTING_TEXT = 64 };

/* fail=NAME:N or fail=NAME:N:CODE: the N-th call of a function of the driver fails, or all calls of one of NVRTC. */
typedef struct FailingCall {
    char name[SETTING_TEXT];
    uint64_t number;
    int code;
} FailingCall;

typedef struct Settings {
    int devices;         /* 1 */
    char name[SETTING_TEXT];
    int architecture;    /* 90: compute capability 9.0 */
    int multiprocessors; /* 2 */
    int blocks;          /* of a function that a multiprocessor holds at most: 1 */
    uint64_t memory;     /* bytes: 256 MiB */
    bool integrated;     /* 0; 1: it is the host's, most of which is the page cache's: next to nothing is free, but can be had */
    int driver;          /* version: 13000 */
    int newest;          /* architecture that NVRTC knows: 121 */
    int places;          /* for blocks of a cooperative launch, fewer than occupancy says: 0, as many */
    int absent;          /* blocks of a cooperative launch that never begin: 0 */
    unsigned order;      /* of threads and blocks, as SimtLaunch.order: 0 */
    bool lazy;           /* 1: nothing runs before somebody waits for it; 0: at once */
    bool leaks;          /* 0; 1: what was not freed is told when the library goes, and the process ends with LEAKED */
    bool calls;          /* 0; 1: how often each function was called is told then */
    FailingCall fail;
} Settings;

enum { LEAKED = 96 };

/* Ends the process on a setting that nobody knows. */
Settings settings_read(void);

#endif
