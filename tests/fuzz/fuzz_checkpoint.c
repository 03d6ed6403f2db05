/* libFuzzer target: checkpoints whose tensors stand as elements or in parts of blocks, with names, dtypes and shapes that fit or do not.
 * Every refusal has a reason, and what is taken can be packed, or is refused for its values; nothing is read outside the file.
 *
 * An input is a byte for each tensor of the file: which name, dtype and shape; then, behind a zero, the data of all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/memory.h"
#include "runtime/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const PgTensor tensors[] = {
    {.name = "a", .rank = 2, .dtype = IR_Q8, .shape = {3, 40}},
    {.name = "b", .rank = 3, .dtype = IR_Q4, .shape = {2, 2, 40}},
    {.name = "c", .rank = 1, .dtype = IR_F16, .shape = {4}},
};
enum { TENSORS = sizeof tensors / sizeof *tensors, MOST = 64 };
static const PgWeight weights[] = {
    {.tensor = 0, .pack = PG_PANELS, .dtype = IR_Q8, .planes = 1, .O = 3, .K = 40, .offset = 0, .bytes = 2 * 544},
    {.tensor = 1, .pack = PG_PANELS, .dtype = IR_Q4, .planes = 2, .O = 2, .K = 40, .offset = 4096, .bytes = 2 * (2 * 288 + 64)},
};
static const PgProgram program = {
    .name = "checkpoint", .tensors = tensors, .n_tensors = TENSORS, .weights = weights, .n_weights = 2, .weight_bytes = 4096 + 1280};

/* What a byte may make: mostly what fits. */
static const struct {
    const char *name, *dtype, *shape;
    int elements, bytes;
} choices[] = {
    {"a", "F32", "[3,40]", 120, 4},     {"a", "BF16", "[3,40]", 120, 2},  {"a.q8", "I8", "[3,40]", 120, 1},
    {"a.d", "F16", "[3,2]", 6, 2},      {"b", "F16", "[2,2,40]", 160, 2}, {"b.q4", "U8", "[2,2,32]", 128, 1},
    {"b.d", "F16", "[2,2,1]", 4, 2},    {"b.m", "F16", "[2,2,1]", 4, 2},  {"b.s", "U8", "[2,2,2]", 8, 1},
    {"b.t", "U8", "[2,2,2]", 8, 1},     {"c", "F32", "[4]", 4, 4},        {"a.q4", "U8", "[3,32]", 96, 1},
    {"b.q8", "I8", "[2,2,40]", 160, 1}, {"c.d", "F16", "[1]", 1, 2},      {"a.d", "F32", "[3,2]", 6, 4},
    {"b.m", "F16", "[4,1]", 4, 2},      {"a.s", "U8", "[3,2]", 6, 1},     {"b.x", "U8", "[1]", 1, 1},
    {"a.d", "F16", "[3,1]", 3, 2},      {".q8", "I8", "[1]", 1, 1},
};
enum { CHOICES = sizeof choices / sizeof *choices };

/* The file of an input, mapped; its data ends where the map does or before. */
static SuMap make_file(const uint8_t *input, size_t n, const uint8_t *data, size_t size) {
    char header[MOST * 96];
    size_t at = 0, offset = 0;
    header[at++] = '{';
    for (size_t i = 0; i < n; i++) {
        size_t c = input[i] % CHOICES, end = offset + (size_t)(choices[c].elements * choices[c].bytes);
        at +=
            (size_t)snprintf(header + at, sizeof header - at, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                             i ? "," : "", choices[c].name, choices[c].dtype, choices[c].shape, offset, end);
        offset = end;
    }
    header[at++] = '}';
    SuMap map = {.size = 8 + at + offset};
    uint8_t *bytes = mmap(NULL, map.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED) abort();
    uint64_t length = at;
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, at);
    for (size_t i = 0; i < offset && size > 0; i++) bytes[8 + at + i] = data[i % size];
    map.data = bytes;
    return map;
}

static void pack(const RtCheckpoints *checkpoints, SuDiags *diags) {
    static RtWorkers *workers;
    if (!workers) workers = rt_workers_create(1, true);
    RtPages blob = rt_pages_alloc(program.weight_bytes);
    RtPacking packing = {.program = &program, .tensors = checkpoints->tensors, .workers = workers, .blob = blob.data};
    if (!rt_pack(&packing, diags) && !diags->errors) abort();
    rt_pages_free(&blob);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t n = zero ? (size_t)(zero - data) : size;
    if (n > MOST) return 0;
    RtWeightFile file = {.path = "input", .map = make_file(data, n, data + n, size - n)};
    RtWeightFiles files = {.items = &file, .count = 1};
    RtCheckpoints checkpoints;
    SuDiags diags = {0};
    if (rt_checkpoints_take(&files, tensors, TENSORS, &checkpoints, &diags)) {
        pack(&checkpoints, &diags);
        rt_checkpoints_close(&checkpoints);
    } else if (!diags.errors) {
        abort();
    }
    su_map_close(&file.map);
    su_diags_free(&diags);
    return 0;
}
