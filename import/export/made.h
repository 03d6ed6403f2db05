/* Keys of config.json that follow from several values of a spec: the rows XP_MADE of keys.def. */
#ifndef MOSSC_IMPORT_EXPORT_MADE_H
#define MOSSC_IMPORT_EXPORT_MADE_H

#include "import/export/export.h"

typedef struct XpMake {
    const cJSON *json; /* the spec with every value */
    XpFamily family;
    bool pairs; /* a layer is a mixer and an mlp, not a block */
} XpMake;

XpMake xp_make(XpFamily family, const cJSON *json);
/* Whether a layer has a block of a kind, "moe" and "dense" among them. */
bool xp_layer_has(const XpMake *make, int64_t layer, const char *kind);
/* Adds those that are missing. */
void xp_add_made(cJSON *config, const XpMake *make);

#endif
