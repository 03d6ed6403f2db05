#include "driver/expected.h"

#include <string.h>

const PgTensor *dr_expected(SuArena *arena, FeSpec *spec, size_t *out_count) {
    const FeTensor *tensors = fe_tensors(spec, out_count);
    PgTensor *expected = SU_NEW_ARRAY(arena, PgTensor, *out_count);
    for (size_t i = 0; i < *out_count; i++) {
        expected[i] = (PgTensor){.name = tensors[i].name, .rank = tensors[i].rank, .dtype = (uint32_t)tensors[i].dtype};
        memcpy(expected[i].shape, tensors[i].shape, sizeof expected[i].shape);
    }
    return expected;
}
