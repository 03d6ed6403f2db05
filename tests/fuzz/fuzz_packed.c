/* libFuzzer target: any bytes as packed weights of a small program. Nothing may be read outside them, every refusal has a
 * reason, and what is taken lies inside the file.
 *
 * An input is read twice: as it is, and with the version and the digest of its header put right, so that mutations come behind it. */
#include <stdlib.h>
#include <string.h>

#include "runtime/packed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const PgTensor tensors[] = {{.name = "m", .rank = 2, .dtype = IR_BF16, .shape = {20, 7}},
                                   {.name = "v", .rank = 1, .shape = {40}}};
static const PgWeight weights[] = {
    {.tensor = 0, .pack = PG_PANELS, .dtype = IR_BF16, .planes = 1, .O = 20, .K = 7, .offset = 0, .bytes = 512},
    {.tensor = 1, .pack = PG_VECTOR, .planes = 1, .O = 40, .K = 1, .offset = 512, .bytes = 192},
};
static const PgProgram program = {
    .name = "toy", .tensors = tensors, .n_tensors = 2, .weights = weights, .n_weights = 2, .weight_bytes = 704};

static void check(const uint8_t *data, size_t size, RtWorkers *workers) {
    SuDiags diags = {0};
    RtPacked packed;
    if (rt_packed_check(data, size, "input", &program, &packed, &diags)) {
        if (packed.blob < data || packed.blob + program.weight_bytes != data + size) abort();
        if (!rt_packed_verify(&packed, "input", &program, workers, &diags) && !diags.errors) abort();
    } else if (!diags.errors) {
        abort();
    }
    su_diags_free(&diags);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static RtWorkers *workers;
    if (!workers) workers = rt_workers_create(1, true);
    uint8_t *copy = malloc(size ? size : 1); /* aligned as a mapping is, and with its end guarded */
    if (size) memcpy(copy, data, size);
    check(copy, size, workers);
    RtPackedHeader *header = (RtPackedHeader *)(void *)copy;
    if (size >= sizeof *header && header->header_bytes >= sizeof *header && header->header_bytes <= size) {
        header->numerics = PG_NUMERICS;
        header->digest = rt_packed_header_digest(header);
        check(copy, size, workers);
    }
    free(copy);
    return 0;
}
