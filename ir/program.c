#include "ir/program.h"

#include <string.h>

bool pg_kernel_equal(const PgKernel *a, const PgKernel *b) {
    return true
#define PG_FIELD(type, name) &&memcmp(&a->name, &b->name, sizeof a->name) == 0
#include "ir/kernel_fields.def"
        ;
}
