#include "import/families/families.h"

#include <string.h>

static const ImFamily families[] = {
#define IM_FAMILY(name, function) {#name, function},
#include "import/families/families.def"
};
enum { FAMILIES = sizeof families / sizeof families[0] };

static const struct {
    const char *name, *why;
} refused[] = {
#define IM_REFUSED(name, why) {#name, why},
#include "import/families/families.def"
};

const ImFamily *im_family_of(const ImConfig *c) {
    const char *type = im_text_or(c, "model_type", NULL), *names[FAMILIES];
    if (!type)
        type = im_has(c, "mamba_moe_layers") ? "blackmamba" : im_has(c, "d_model") && im_has(c, "n_layer") ? "mamba_ssm" : NULL;
    if (!type) {
        im_config_error(c, "model_type", "the key is missing");
        return NULL;
    }
    for (size_t i = 0; i < FAMILIES; i++) {
        names[i] = families[i].name;
        if (strcmp(type, families[i].name) == 0) return &families[i];
    }
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (strcmp(type, refused[i].name) != 0) continue;
        im_config_error(c, "model_type", "%s is not in the language: %s", type, refused[i].why);
        return NULL;
    }
    const char *near = su_nearest(type, names, FAMILIES);
    im_config_error(c, "model_type", "'%s' is no family that is imported%s%s", type, near ? "; the nearest is " : "",
                    near ? near : "");
    return NULL;
}
