#include "ir/epilogue.h"

#include "ir/graph.h"
#include "ir/program.h"

const PgStepInfo *pg_step(PgStepKind kind) {
    static const PgStepInfo infos[PG_STEP_KINDS] = {
        [PG_NO_STEP] = {"", PG_NO_SLOT, PG_NO_SLOT, PG_NO_SLOT, IR_OP_COUNT, 0},
#define PG_STEP(NAME, word, linear, also, combine, op, moved) [PG_STEP_##NAME] = {word, linear, also, combine, op, moved},
#include "ir/epilogue.def"
    };
    return &infos[kind];
}
