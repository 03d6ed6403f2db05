/* Memory whose neighbours cannot be touched: an access past its end, or far before its beginning, ends the process with a message
 * that names it. */
#ifndef MOSSC_TESTS_SIMT_GUARDED_H
#define MOSSC_TESTS_SIMT_GUARDED_H

#include <stdint.h>

typedef struct Guarded {
    uint8_t *data; /* 64-aligned, filled with large floats; `bytes` rounded up to 64 end at the guard */
    uint8_t *mapped;
    uint64_t mapped_bytes;
} Guarded;

/* `name` must live on. */
Guarded guarded_alloc(const char *name, uint64_t bytes);
void guarded_read_only(const Guarded *g);
void guarded_free(Guarded *g);
/* From now on faults are told, and where they happen: what guarded_say said last. */
void guarded_report(void);
void guarded_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
