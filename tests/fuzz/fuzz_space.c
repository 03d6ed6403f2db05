/* libFuzzer: any bytes as a space. Nothing may crash, leak or hang; of a space that is taken, some points must have their index again, a
 * state, and edits that can be put into a spec; and every diagnostic must print.
 *
 *   fuzz_space -max_len=4096 -timeout=5 CORPUS tests/fuzz/corpus_space tests/explore/wrong */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "explore/space.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { POINTS = 64 };

static void check_values(const ExValue *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (values[i].type == EX_WORD ? !values[i].word : values[i].number - values[i].number != 0) abort();
}

static void check_edits(const FeEdit *edits, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!edits[i].path || !edits[i].path[0] || !edits[i].value || (edits[i].merge && edits[i].value->kind != FE_MAPPING))
            abort();
}

static void check_point(const ExSpace *space, uint64_t index) {
    uint32_t choices[EX_MAX_AXES];
    ExValue values[EX_MAX_AXES], derived[EX_MAX_RULES];
    const char *why = NULL;
    const ExExpr *where = NULL;
    ex_choices(space, index, choices);
    if (ex_index(space, choices) != index) abort();
    ExPointState state = ex_point(space, choices, values, derived, &why, &where);
    if (index == 0 && state == EX_TWIN) abort();
    if (state == EX_INVALID && (!why || !where || !ex_text(where))) abort();
    check_values(values, space->n_axes);
    if (state != EX_POINT) return;
    check_values(derived, space->n_derive);
    SuArena arena = {0};
    size_t count;
    const FeEdit *edits = ex_edits(space, choices, derived, true, &arena, &count);
    check_edits(edits, count);
    su_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ExSpace space;
    SuDiags diags = {0};
    bool ok = ex_space_parse("fuzz.yaml", (const char *)data, size, &space, &diags);
    if (ok != (diags.errors == 0)) abort();
    uint64_t stride = ok && space.n_indices > POINTS ? space.n_indices / POINTS : 1;
    for (uint64_t i = 0; ok && i < POINTS && i * stride < space.n_indices; i++) check_point(&space, i * stride);
    if (ok) check_point(&space, space.n_indices - 1);
    FILE *out = fopen("/dev/null", "w");
    if (out) {
        su_diags_print(&diags, out);
        fclose(out);
    }
    ex_space_free(&space);
    su_diags_free(&diags);
    return 0;
}
