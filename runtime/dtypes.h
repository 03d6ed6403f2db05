/* What loading does with the values of each dtype (ir/dtype.def) but q8 and q4 (ir/quant.h): reading them from a checkpoint, rounding floats to them, storing
 * panels. */
#ifndef MOSSC_RUNTIME_DTYPES_H
#define MOSSC_RUNTIME_DTYPES_H

#include <stdbool.h>

#include "ir/dtype.h"
#include "ir/program.h"

/* Columns that are stored at once: 16 KiB of floats, within L1; whole groups of every dtype here. */
enum { RT_COLUMNS = 256 };

typedef struct RtDtype {
    /* `count` elements as a checkpoint holds them, of no particular alignment. */
    void (*read)(const uint8_t *from, uint64_t count, float *out);
    /* Finite values to the nearest that the dtype holds, ties to even; infinite where there is none. false: none changes. */
    bool (*round)(float *values, uint64_t count);
    /* The first n columns of sixteen rows, whose values the dtype holds, into the groups of a panel at `out`. Behind column n - 1
     * the rows are zero up to the end of a group. */
    void (*store)(float (*rows)[RT_COLUMNS], uint64_t n, uint8_t *out);
} RtDtype;

/* Not of q8 and q4. */
const RtDtype *rt_dtype(IrDtype dtype);

#endif
