#include "driver/artefact/artefact.h"

#include <string.h>
#include <sys/stat.h>

#include "driver/artefact/files.h"
#include "driver/artefact/link.h"
#include "driver/device.h"
#include "driver/text.h"
#include "runtime/packed.h"
#include "runtime/weights.h"
#include "support/file.h"
#include "tokenizer/bpe.h"

/* ---- the plan */

/* Files, and the program, bear the model's name. */
static bool check_name(const char *name, SuDiags *diags) {
    bool plain = (name[0] >= 'a' && name[0] <= 'z') || (name[0] >= '0' && name[0] <= '9');
    if (plain && strcmp(name, "mossrt") != 0) return true;
    return su_error(diags, (SuSpan){0}, "choose another with --set name=NAME", "model name '%s' cannot be used in file names",
                    name);
}

bool dr_artefact_plan(DrBuild *build, const DrBuildOptions *options, const char *target, const char *cpus, DrArtefact *out) {
    FeDevice device = {0};
    if (!dr_build_target(build, target, options->fast, &device) || !dr_build_spec(build, options) ||
        !check_name(build->spec.name, &build->diags) || !dr_build_graph(build) || !dr_build_program(build, options)) {
        return false;
    }
    *out = (DrArtefact){.build = build,
                        .options = options,
                        .name = build->spec.name,
                        .symbol = dr_artefact_symbol(&build->arena, build->spec.name),
                        .cpus = cpus ? cpus : device.workers};
    return true;
}

/* ---- the code */

bool dr_artefact_emit(const DrArtefact *a, CgEmission emission, FILE *out) {
    DrBuild *build = a->build;
    dr_progress_begin(&a->options->progress, "compiling", "kernels", false);
    bool ok = cg_llvm_artefact(&build->target, build->program, a->symbol, emission, out, &build->diags);
    dr_progress_end(&a->options->progress);
    return ok;
}

bool dr_artefact_emit_file(const DrArtefact *a, CgEmission emission, const char *path) {
    SuOut out;
    if (!su_out_open(path, &out, &a->build->diags)) return false;
    if (dr_artefact_emit(a, emission, out.file)) return su_out_commit(&out, &a->build->diags);
    su_out_abort(&out);
    return false;
}

/* A directory being filled. */
typedef struct Filling {
    DrArtefact *artefact;
    DrBuild *build;
    SuDirectory directory;
} Filling;

static const char *name_of(const Filling *f, const char *suffix) {
    return su_printf(&f->build->arena, "%s%s", f->artefact->name, suffix);
}

/* A DrWriteFile. */
static bool write_file(void *context, const char *suffix, const char *bytes, size_t size) {
    Filling *f = context;
    return su_directory_write(&f->directory, name_of(f, suffix), bytes, size, &f->build->diags);
}

static const char *path_of(Filling *f, const char *suffix) {
    return su_directory_file(&f->directory, name_of(f, suffix), &f->build->diags);
}

static bool write_object(Filling *f) {
    DrBuild *build = f->build;
    const char *object = path_of(f, ".o");
    if (!object || !dr_artefact_emit_file(f->artefact, CG_OBJECT, object)) return false;
    const char *shared = path_of(f, ".so");
    if (!shared) return false;
    f->artefact->shared = dr_artefact_link(&build->target, object, shared) != NULL;
    if (f->artefact->shared) return true;
    su_directory_forget(&f->directory, shared);
    su_note(&build->diags, (SuSpan){0}, "install ld.lld or a cross compiler, if the model is to be opened with dlopen",
            "%s.so was not created: no linker for %s was found", f->artefact->name, build->target.triple);
    return true;
}

static bool write_device_code(Filling *f) {
    const DrProgress *progress = &f->artefact->options->progress;
    dr_progress_begin(progress, "compiling", "kernels", false);
    bool ok = dr_kind(f->build)->write_code(f->build, f->artefact->symbol, write_file, f);
    dr_progress_end(progress);
    return ok;
}

/* ---- weights and tokenizer */

/* A packed file fits every target: it is copied as it is, once all of it is checked. */
static bool copy_packed(Filling *f, RtWeightFile *file) {
    DrBuild *build = f->build;
    const DrBuildOptions *options = f->artefact->options;
    RtPacked packed;
    MossOptions moss = dr_moss_options(build, options);
    if (!rt_packed_take(&file->map, file->path, build->program, &packed, &build->diags)) return false;
    dr_progress_begin(&options->progress, "checking", "bytes", false);
    MossError error = rt_packed_verify_by(&packed, file->path, build->program, &moss);
    dr_progress_end(&options->progress);
    bool ok = dr_moss_ok(&build->diags, error) && write_file(f, ".weights", (const char *)packed.map.data, packed.map.size);
    su_map_close(&packed.map);
    return ok;
}

static bool pack_weights(Filling *f) {
    const DrBuildOptions *options = f->artefact->options;
    const char *path = path_of(f, ".weights");
    if (!path) return false;
    MossOptions moss = dr_moss_options(f->build, options);
    dr_progress_begin(&options->progress, "packing weights", "bytes", true);
    MossError error = moss_weights_pack(f->build->program, options->weights->items, options->weights->count, &moss, path);
    dr_progress_end(&options->progress);
    return dr_moss_ok(&f->build->diags, error);
}

static bool write_weights(Filling *f) {
    const DrTexts *weights = f->artefact->options->weights;
    RtWeightFiles files;
    if (!rt_weight_files_open(weights->items, weights->count, &files, &f->build->diags)) return false;
    bool packed = rt_weight_files_are_packed(&files), ok = packed && copy_packed(f, &files.items[0]);
    rt_weight_files_close(&files);
    return packed ? ok : pack_weights(f);
}

/* A device's tokenizer needs no JSON and no library: what a tokenizer.json says is put into tables. */
static bool write_tokenizer(Filling *f) {
    const FeSpec *spec = &f->build->spec;
    if (spec->tokenizer.kind != FE_TOKENIZER_BPE) return true;
    TkBpeOptions options = dr_bpe_options(spec, &f->build->arena);
    SuText file = {0};
    bool ok =
        tk_bpe_pack(spec->tokenizer.file, &options, &file, &f->build->diags) && write_file(f, ".tokenizer", file.text, file.size);
    su_text_free(&file);
    return ok;
}

/* ---- all of it */

static bool fill(Filling *f) {
    bool has_object = !dr_kind(f->build)->write_code;
    return write_tokenizer(f) && (has_object ? write_object : write_device_code)(f) && write_weights(f) &&
           dr_artefact_files(f->artefact, &f->directory);
}

bool dr_artefact_write(DrArtefact *a, const char *directory) {
    SuDiags *diags = &a->build->diags;
    Filling f = {.artefact = a, .build = a->build};
    if (!dr_build_files(a->build, a->options)) return false; /* do the weights fit? */
    if (!su_directory_open(directory, &f.directory, diags)) return false;
    if (fill(&f)) return su_directory_commit(&f.directory, diags);
    su_directory_abort(&f.directory, diags);
    return false;
}

uint64_t dr_artefact_code_bytes(const DrArtefact *a, const char *directory) {
    struct stat code = {0};
    stat(su_printf(&a->build->arena, "%s/%s%s", directory, a->name, dr_kind(a->build)->artefact.code), &code);
    return (uint64_t)code.st_size;
}
