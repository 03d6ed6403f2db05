#include "ir/epilogue.h"

#include "ir/program.h"

const PgStepInfo *pg_step(PgStepKind kind) {
    static const PgStepInfo infos[PG_STEP_KINDS] = {
        [PG_NO_STEP] = {"", PG_NO_SLOT, PG_NO_SLOT, PG_NO_SLOT, 0, 0},
#define PG_STEP(NAME, word, linear, also, combine, flops, moved) [PG_STEP_##NAME] = {word, linear, also, combine, flops, moved},
#include "ir/epilogue.def"
    };
    return &infos[kind];
}
