/* Sets of families, for the tables of keys.def. A trait of the same name (PAIRS) is another thing: sets are included where traits are not. */
#ifndef MOSSC_IMPORT_EXPORT_SETS_H
#define MOSSC_IMPORT_EXPORT_SETS_H

#include "import/export/export.h"

enum {
#define XP_FAMILY(NAME, model_type, architecture) NAME = 1 << XP_FAMILY_##NAME,
#include "import/export/keys.def"
    ALL = (1 << XP_FAMILIES) - 1,
    RECURRENT = MAMBA | FALCON_MAMBA | MAMBA2,
    LOOKING = ALL & ~RECURRENT, /* with attention, and so with a longest sequence */
    GRANITES = GRANITE | GRANITEMOE | GRANITEMOESHARED | GRANITEMOEHYBRID,
    HEADED = GRANITEMOEHYBRID | BAMBA | FALCON_H1, /* Mamba-2 by the keys mamba_* */
    QWENS_MOE = QWEN2_MOE | QWEN3_MOE,
    XP_SET_UNTIED = NEMOTRON_H, /* transformers gives them a head of their own, whatever tie_word_embeddings says */
    XP_SET_PAIRS = LOOKING & ~NEMOTRON_H,
    XP_SET_LOOKING = LOOKING
};

#endif
