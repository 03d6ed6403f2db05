#include "ir/program.h"

#include <string.h>

bool pg_kernel_equal(const PgKernel *a, const PgKernel *b) {
    return true
#define PG_FIELD(type, name) &&memcmp(&a->name, &b->name, sizeof a->name) == 0
#include "ir/kernel_fields.def"
        ;
}

uint64_t pg_weight_bytes(const PgWeight *w) {
    uint64_t panels = (uint64_t)w->planes * pg_panels(w->O), K = (uint64_t)w->K;
    return panels * PG_LANES * 4 * (w->dtype == PG_F32 ? K : (K + 1) / 2);
}

const char *pg_kind_word(PgKind kind) {
    static const char *const words[PG_KIND_COUNT] = {
#define PG_KERNEL(NAME, name) [PG_##NAME] = #name,
#include "ir/kernel_kinds.def"
    };
    return words[kind];
}
