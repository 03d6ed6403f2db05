/* mossc/mossc.h: weights of 8 and 4 bits. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "driver/api.h"
#include "ir/quant.h"
#include "support/alloc.h"
#include "support/size.h"

static MossError wrong(int code, const char *text) {
    MossError error = {.code = code};
    snprintf(error.text, sizeof error.text, "%s", text);
    return error;
}

/* A row in the form of a checkpoint, in memory of its own. */
typedef struct Row {
    IrDtype dtype;
    uint64_t K;
    void *memory;
    IrRow parts;
} Row;

static bool make_row(Row *row) {
    uint64_t at[IR_PARTS], size = 0;
    for (IrPart part = 0; part < IR_PARTS; part++) {
        at[part] = size;
        size += (ir_part_bytes(row->dtype, part, row->K) + 7) / 8 * 8;
    }
    row->memory = su_calloc(1, size);
    if (!row->memory) return false;
    for (IrPart part = 0; part < IR_PARTS; part++) row->parts.part[part] = (char *)row->memory + at[part];
    return true;
}

/* What the row's weights are. */
static void read_row(const Row *row, int8_t *q, float *d, float *m) {
    IrBlocks blocks = {.dtype = row->dtype, .rows = 1, .K = row->K};
    for (IrPart part = 0; part < IR_PARTS; part++) blocks.part[part] = row->parts.part[part];
    for (uint64_t g = 0; g * IR_GROUP < row->K; g++) {
        IrGroup group;
        ir_blocks_group(&blocks, 0, g, &group);
        uint64_t left = row->K - g * IR_GROUP;
        memcpy(q + g * IR_GROUP, group.q, left < IR_GROUP ? left : IR_GROUP);
        d[g] = group.d;
        m[g] = group.m;
    }
}

static bool all_finite(const float *w, uint64_t n) {
    for (uint64_t k = 0; k < n; k++)
        if (!isfinite(w[k])) return false;
    return true;
}

static MossError round_rows(Row *row, const float *w, uint64_t rows, int8_t *q, float *d, float *m) {
    uint64_t groups = (row->K + IR_GROUP - 1) / IR_GROUP;
    for (uint64_t i = 0; i < rows; i++) {
        const float *from = w + i * row->K;
        if (!all_finite(from, row->K)) return wrong(MOSS_BAD_WEIGHTS, "a weight is not finite");
        if (!ir_quantise(row->dtype, from, NULL, row->K, &row->parts))
            return wrong(MOSS_BAD_WEIGHTS, "a weight is too large: a scale would be beyond f16");
        read_row(row, q + i * row->K, d + i * groups, m + i * groups);
    }
    return (MossError){.code = MOSS_OK};
}

MossError mossc_round_weights(const char *dtype, const float *w, int64_t rows, int64_t K, int8_t *q, float *d, float *m) {
    Row row = {.K = (uint64_t)K};
    uint64_t weights, bytes;
    int found = 0;
    if (!dtype) return wrong(MOSS_BAD_INPUT, "no dtype is given");
    while (found < IR_STORED_DTYPES && strcmp(dtype, ir_dtype_word((IrDtype)found)) != 0) found++;
    if (found >= IR_STORED_DTYPES || !ir_is_blocks((IrDtype)found)) return wrong(MOSS_BAD_INPUT, "the dtype must be q8 or q4");
    row.dtype = (IrDtype)found;
    if (rows < 1 || K < 1) return wrong(MOSS_BAD_INPUT, "there are no weights");
    if (!su_mul((uint64_t)rows, row.K, &weights) || !su_mul(weights, sizeof *w, &bytes) || bytes > PTRDIFF_MAX)
        return wrong(MOSS_BAD_INPUT, "there are more weights than memory can hold");
    if (!make_row(&row)) return wrong(MOSS_NO_MEMORY, "cannot allocate memory for a row");
    MossError error = round_rows(&row, w, (uint64_t)rows, q, d, m);
    su_free(row.memory);
    return error;
}
