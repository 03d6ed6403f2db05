/* The families of models that are imported: each fills a plan from a config and the tensors of the source (families.def). */
#ifndef MOSSC_IMPORT_FAMILIES_H
#define MOSSC_IMPORT_FAMILIES_H

#include "import/plan.h"

typedef void (*ImPlanner)(ImConfig *c, ImPlan *plan);

typedef struct ImFamily {
    const char *name; /* model_type of config.json */
    ImPlanner plan;
} ImFamily;

/* The family of a config: by model_type, or by the keys that the configs of mamba_ssm and BlackMamba have. NULL after an error. */
const ImFamily *im_family_of(const ImConfig *c);

void im_bamba(ImConfig *c, ImPlan *plan);
void im_blackmamba(ImConfig *c, ImPlan *plan);
void im_falcon_h1(ImConfig *c, ImPlan *plan);
void im_granite_hybrid(ImConfig *c, ImPlan *plan);
void im_granite_moe(ImConfig *c, ImPlan *plan);
void im_jamba(ImConfig *c, ImPlan *plan);
void im_lfm2(ImConfig *c, ImPlan *plan);
void im_mamba_1(ImConfig *c, ImPlan *plan);
void im_mamba_2(ImConfig *c, ImPlan *plan);
void im_mamba_ssm(ImConfig *c, ImPlan *plan);
void im_nemotron_h(ImConfig *c, ImPlan *plan);
void im_transformer(ImConfig *c, ImPlan *plan);

#endif
