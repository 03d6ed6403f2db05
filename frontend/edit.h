/* Specs made by editing a base: the tree of a file is read once and built many times, each time with other values in it. */
#ifndef MOSSC_FRONTEND_EDIT_H
#define MOSSC_FRONTEND_EDIT_H

#include "frontend/spec.h"
#include "frontend/yaml.h"

/* A value in place of what stands at a path. */
typedef struct FeEdit {
    const char *path;    /* as --set takes it */
    const FeNode *value; /* copied when it is put in place */
    bool merge;          /* value is a map whose keys are put beside those that are at the path; the word none there gives way */
    SuSpan span;         /* of who asks for it, for errors about the path */
} FeEdit;

typedef struct FeBase {
    SuArena arena; /* owns the tree and the text */
    const SuSource *source;
    const FeNode *root; /* a map */
} FeBase;

/* Reads the tree of a spec without checking it against the language. false: errors are in diags. Must be freed either way. */
bool fe_base_load(const char *path, FeBase *out, SuDiags *diags);
void fe_base_free(FeBase *base);

/* The spec of the base with the edits in it, in their order; as fe_spec_load gives it, with messages that point into the base or to where
 * the edits' values were written. `base` and the edits must live as long as the spec and its diagnostics. */
bool fe_spec_edited(const FeBase *base, const FeEdit *edits, size_t n_edits, FeSpec *out_spec, SuDiags *diags);

#endif
