/* libFuzzer target: any bytes as a state of a small program. Nothing may be read outside them, every refusal has a reason, and
 * what is taken fills a state of its size.
 *
 * An input is read twice: as it is, and with version and digests put right, so that mutations come behind them. */
#include <stdlib.h>
#include <string.h>

#include "runtime/state_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STATE_BYTES = 3 * RT_STATE_BLOCK + 64 };
static const PgState states[] = {{"a", 0, 64}, {"b", 64, 3 * RT_STATE_BLOCK}};
static const PgProgram program = {
    .name = "toy", .vocab_size = 10, .max_positions = 1000, .states = states, .n_states = 2, .state_bytes = STATE_BYTES};
static const SuDigest weights = {{1}};

static void check(const uint8_t *data, size_t size) {
    SuDiags diags = {0};
    RtStateFile file;
    if (rt_state_check(data, size, "input", &program, &weights, &file, &diags)) {
        uint8_t *memory = calloc(1, STATE_BYTES);
        float logits[10];
        rt_state_unpack(&file, memory);
        if (file.logits) memcpy(logits, file.logits, sizeof logits);
        free(memory);
    } else if (!diags.errors) {
        abort();
    }
    su_diags_free(&diags);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1); /* aligned as a mapping is, and with its end guarded */
    if (size) memcpy(copy, data, size);
    check(copy, size);
    RtStateHeader *header = (RtStateHeader *)(void *)copy;
    if (size >= sizeof *header) {
        header->layout = rt_state_layout(&program);
        header->numerics = PG_NUMERICS;
        header->body = su_digest(copy + sizeof *header, size - sizeof *header);
        header->digest = rt_state_header_digest(header);
        check(copy, size);
    }
    free(copy);
    return 0;
}
