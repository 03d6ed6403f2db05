#include "runtime/model.h"
#include "support/alloc.h"
#include "support/str.h"

static MossError artefact_open_unguarded(const PgProgram *program, const PgCode *codes, const char *directory,
                                         const MossOptions *options, MossModel **out_model) {
    SuText path = {0};
    su_text_add(&path, "%s/%s.weights", directory, program->name);
    MossError error = moss_model_open(program, codes, path.text, options, out_model);
    su_text_free(&path);
    return error;
}

MossError moss_artefact_open(const PgProgram *program, const PgCode *codes, const char *directory, const MossOptions *options,
                             MossModel **out_model) {
    *out_model = NULL;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "opening an artefact")) return rt_failure(&guard.failure);
    MossError error = artefact_open_unguarded(program, codes, directory, options, out_model);
    su_guard_end(&guard);
    return error;
}
