#include "ir/activation.h"

const PgActivationInfo *pg_activation(PgActivation act) {
    static const PgActivationInfo infos[PG_ACTIVATIONS] = {
        [PG_NO_ACT] = {"", 0, 0},
#define IR_ACTIVATION(name, NAME, flops, exps, exact) [PG_##NAME] = {#name, flops, exps},
#include "ir/activation.def"
    };
    return &infos[act];
}
