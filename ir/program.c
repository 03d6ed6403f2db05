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
