/* Told about long work, by the thread that called. A zeroed one hears nothing. */
#ifndef MOSSC_DRIVER_PROGRESS_H
#define MOSSC_DRIVER_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct DrProgress {
    void *context;
    /* What is done now, such as "loading weights", counted in "bytes". counts: update will be called; else nobody knows how far it is. */
    void (*begin)(void *context, const char *what, const char *unit, bool counts);
    void (*update)(void *context, uint64_t done, uint64_t total); /* a MossProgress */
    void (*end)(void *context);
} DrProgress;

static inline void dr_progress_begin(const DrProgress *progress, const char *what, const char *unit, bool counts) {
    if (progress->begin) progress->begin(progress->context, what, unit, counts);
}

static inline void dr_progress_update(const DrProgress *progress, uint64_t done, uint64_t total) {
    if (progress->update) progress->update(progress->context, done, total);
}

static inline void dr_progress_end(const DrProgress *progress) {
    if (progress->end) progress->end(progress->context);
}

#endif
