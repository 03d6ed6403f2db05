#include "runtime/model.h"
#include "support/str.h"

MossError moss_artefact_open(const PgProgram *program, const PgCode *codes, const char *directory, const MossOptions *options,
                             MossModel **out_model) {
    SuText path = {0};
    su_text_add(&path, "%s/%s.weights", directory, program->name);
    MossError error = moss_model_open(program, codes, path.text, options, out_model);
    su_text_free(&path);
    return error;
}
