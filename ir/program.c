#include "ir/program.h"

#include <string.h>

bool pg_kernel_equal(const PgKernel *a, const PgKernel *b) {
    return true
#define PG_FIELD(type, name) &&memcmp(&a->name, &b->name, sizeof a->name) == 0
#include "ir/kernel_fields.def"
        ;
}

uint64_t pg_weight_bytes(const PgWeight *w) {
    return (uint64_t)w->planes * pg_panels(w->O) * ir_panel_bytes((IrDtype)w->dtype, w->K);
}

bool pg_same_angles(const PgRope *a, const PgRope *b) {
    return a->theta == b->theta && a->dim == b->dim && a->factor == b->factor && a->low == b->low && a->high == b->high &&
           a->original == b->original;
}

uint64_t pg_rope_bytes(const PgRope *rope) { return ((uint64_t)rope->dim * 4 + 63) / 64 * 64; /* dim/2 pairs of f32 */ }

const char *pg_kind_word(PgKind kind) {
    static const char *const words[PG_KIND_COUNT] = {
#define PG_KERNEL(NAME, name) [PG_##NAME] = #name,
#include "ir/kernel_kinds.def"
    };
    return words[kind];
}
