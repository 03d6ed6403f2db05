/* A program that holds two models and gives them memory of its own, with what their headers say: no state and no arena is
 * allocated. Prints for each the sum of the last logits' bits. */
#include <stdio.h>
#include <stdlib.h>

#include "one.h"
#include "two.h"

static _Alignas(64) uint8_t state_one[ONE_STATE_BYTES], arena_one[ONE_ARENA_BYTES_MOST];
static _Alignas(64) uint8_t state_two[TWO_STATE_BYTES], arena_two[TWO_ARENA_BYTES];

static void check(MossError error) {
    if (error.code == MOSS_OK) return;
    fprintf(stderr, "%s\n", error.text);
    exit(1);
}

static void run(MossModel *model, void *memory, int64_t vocab) {
    static const int32_t tokens[] = {7, 3, 200, 41, 5};
    MossState *state;
    uint32_t sum = 0;
    check(moss_state_place(model, memory, &state));
    check(moss_feed(model, state, tokens, 5, 3));
    for (int64_t i = 0; i < vocab; i++) {
        union {
            float value;
            uint32_t bits;
        } logit = {moss_state_logits(state)[i]};
        sum = sum * 31 + logit.bits;
    }
    printf("%s %u\n", moss_program_name(moss_model_program(model)), sum);
    moss_state_free(state);
    moss_model_free(model);
}

int main(void) {
    const int cpus[] = {0};
    MossOptions options = {.size = sizeof options, .threads = 2, .arena = arena_one, .arena_bytes = sizeof arena_one};
    MossModel *model;
    check(one_open(".", &options, &model));
    run(model, state_one, ONE_VOCAB);
    options =
        (MossOptions){.size = sizeof(MossOptions), .cpus = cpus, .n_cpus = 1, .arena = arena_two, .arena_bytes = sizeof arena_two};
    check(two_open(".", &options, &model));
    run(model, state_two, TWO_VOCAB);
    return 0;
}
