#include "runtime/cuda/moss_cuda.h"
#include "runtime/model.h"
#include "support/alloc.h"
#include "support/file.h"
#include "support/str.h"

enum { MOST_CODE_BYTES = 1 << 30 };

/* DIRECTORY/NAME.SUFFIX. */
static MossError load_code(MossDevice *device, const PgProgram *program, const char *directory, const char *suffix) {
    SuArena arena = {0};
    SuDiags diags = {0};
    char *code;
    size_t size;
    const char *path = su_printf(&arena, "%s/%s.%s", directory, program->name, suffix);
    MossError error = su_read_file(&arena, path, MOST_CODE_BYTES, &code, &size, &diags)
                          ? moss_cuda_code(device, program, code, size + 1) /* PTX ends in a NUL, which stands there */
                          : rt_error_from(MOSS_NO_FILE, &diags);
    if (error.code == MOSS_DEVICE) error = rt_error(MOSS_DEVICE, "%s: %.800s", path, error.text);
    su_diags_free(&diags);
    su_arena_free(&arena);
    return error;
}

/* The cubin, or the PTX where that is for other GPUs. */
static MossError load_either(MossDevice *device, const PgProgram *program, const char *directory) {
    MossError error = load_code(device, program, directory, "cubin");
    if (error.code == MOSS_OK || !moss_cuda_other_architecture(device)) return error;
    error = load_code(device, program, directory, "ptx");
    if (error.code != MOSS_DEVICE || !moss_cuda_other_architecture(device)) return error;
    return rt_error(MOSS_DEVICE, "the code in %s is for later GPUs than this one, which is sm_%d", directory,
                    moss_cuda_facts(device)->architecture);
}

static MossError load_either_guarded(MossDevice *device, const PgProgram *program, const char *directory) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "reading the code of a GPU")) return rt_failure(&guard.failure);
    MossError error = load_either(device, program, directory);
    su_guard_end(&guard);
    return error;
}

MossError moss_cuda_artefact_open(const PgProgram *program, const char *directory, const MossOptions *options,
                                  MossModel **out_model) {
    MossOptions own;
    *out_model = NULL;
    MossError error = rt_take_options(options, &own);
    if (error.code != MOSS_OK) return error;
    if (!own.device)
        return rt_error(MOSS_DEVICE, "%s runs on a GPU: give one of moss_cuda_open in MossOptions.device", program->name);
    error = load_either_guarded(own.device, program, directory);
    return error.code != MOSS_OK ? error : moss_artefact_open(program, NULL, directory, &own, out_model);
}
