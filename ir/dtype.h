/* The types of values, and how weights of each are stored (ir/dtype.def). */
#ifndef MOSSC_IR_DTYPE_H
#define MOSSC_IR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum IrDtype {
#define IR_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most) IR_##NAME,
#include "ir/dtype.def"
    IR_I32 /* tokens, positions, expert indices: never a weight's */
} IrDtype;

/* How many dtypes a weight can have: all before IR_I32. */
enum { IR_STORED_DTYPES = IR_I32, IR_DTYPES = IR_I32 + 1 };

/* Most values of a group that one load makes into vectors, a vector a value. Groups of blocks have more. */
enum { IR_MAX_GROUP = 4 };

typedef enum IrMma { IR_NO_MMA, IR_MMA_16 } IrMma;

typedef struct IrDtypeInfo {
    const char *word, *file; /* "bf16", "BF16" or NULL */
    double bytes;            /* of a value in a checkpoint */
    uint64_t group, group_bytes, over, over_bytes;
    IrMma mma;
    double most;
} IrDtypeInfo;

/* Of a dtype that weights can have. */
static inline const IrDtypeInfo *ir_dtype(IrDtype dtype) {
    static const IrDtypeInfo infos[IR_STORED_DTYPES] = {
#define IR_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most)                                         \
    [IR_##NAME] = {#name, file, bytes, group, group_bytes, over, over_bytes, mma, most},
#include "ir/dtype.def"
    };
    return &infos[dtype];
}

/* Of any. */
static inline const char *ir_dtype_word(IrDtype dtype) { return dtype == IR_I32 ? "i32" : ir_dtype(dtype)->word; }

/* Values that share scales: q8 and q4. */
static inline bool ir_is_blocks(IrDtype dtype) { return dtype == IR_Q8 || dtype == IR_Q4; }

static inline uint64_t ir_groups(const IrDtypeInfo *dtype, uint64_t K) { return (K + dtype->group - 1) / dtype->group; }

/* Bytes of 16 outputs of K inputs each: the one place that knows. */
static inline uint64_t ir_panel_bytes_of(const IrDtypeInfo *dtype, uint64_t K) {
    uint64_t groups = ir_groups(dtype, K), shared = dtype->over == 0 ? 0 : (groups + dtype->over - 1) / dtype->over;
    return groups * dtype->group_bytes + shared * dtype->over_bytes;
}

static inline uint64_t ir_panel_bytes(IrDtype dtype, int64_t K) { return ir_panel_bytes_of(ir_dtype(dtype), (uint64_t)K); }

/* Bytes of the K values of one output that a kernel reads; blocks count with the zeros that fill them up in their panel. */
static inline double ir_row_bytes(IrDtype dtype, int64_t K) {
    return ir_is_blocks(dtype) ? (double)ir_panel_bytes(dtype, K) / 16 : (double)K * ir_dtype(dtype)->bytes;
}

#endif
