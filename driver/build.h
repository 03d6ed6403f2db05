/* From a spec to a model that runs: every stage of the compiler, one call each.
 *
 * A DrBuild owns what its stages made; dr_build_free gives all of it back. One thread at a time uses a build. Functions return false
 * after adding the reason to build->diags, which also collects warnings; nothing is printed. */
#ifndef MOSSC_DRIVER_BUILD_H
#define MOSSC_DRIVER_BUILD_H

#include "codegen/cuda/cuda.h"
#include "codegen/target.h"
#include "driver/progress.h"
#include "frontend/spec.h"
#include "ir/graph.h"
#include "ir/program.h"
#include "mossc/moss.h"
#include "schedule/schedule.h"
#include "support/diag.h"

typedef struct DrDeviceKind DrDeviceKind; /* driver/device.h */

/* Debug builds check every pass, as `mossc ir --check` does. */
#ifdef NDEBUG
enum { DR_DEBUG_BUILD = 0 };
#else
enum { DR_DEBUG_BUILD = 1 };
#endif

/* Texts of the caller's, which must live as long as they are used. */
typedef struct DrTexts {
    const char **items;
    size_t count;
} DrTexts;

/* What the stages made so far. Zero is a valid start. */
typedef struct DrBuild {
    SuDiags diags;
    SuArena arena; /* owns graph and program */
    FeSpec spec;
    IrGraph *graph; /* naive, then fused */
    const PgProgram *program;
    const DrDeviceKind *kind; /* what code is made for; NULL: CPUs. Set by dr_build_device and dr_build_target */
    CgTarget target; /* of a CPU */
    CgCompiled *compiled;
    MossDevice *device; /* that is open and has the code: then there are neither target nor compiled; NULL: this process */
    CgCudaTarget gpu; /* of a GPU; without a device code is only compiled for it */
    MossModel *model;
    PsOptions passes; /* set by the caller before dr_build_program */
    PsStageBytes *live[PG_MODES]; /* [n_stages] of each step (PsOptions.live) */
    bool has_spec, has_target;
    MossCode code; /* of the runtime's last error; MOSS_OK: what failed, if anything did, was not the runtime */
    const CgSchedule *schedules; /* [n_kernels] of a CPU's kernels (driver/tuning.h), or NULL */
    uint32_t kernels_tuned; /* of them, by `mossc tune` */
    uint32_t kernels_found; /* in the cache; set by dr_build_code. All or none of a GPU's, whose code is one piece */
    double compile_seconds, load_seconds; /* set by dr_build_model */
} DrBuild;

/* Whether compiled kernels are looked for and kept on disk. */
typedef enum DrCache {
    DR_CACHE, /* yes; where they cannot be kept there is a warning */
    DR_NO_CACHE,
    DR_CACHE_NEEDED /* an error then */
} DrCache;

/* What the caller says about a build; all of it must live as long as the call. */
typedef struct DrBuildOptions {
    const char *spec; /* path, "-": standard input; with spec_text what stands for it in messages */
    const char *spec_text; /* the spec itself, or NULL */
    size_t spec_size;
    const DrTexts *sets; /* "PATH=VALUE"; may be NULL */
    const bool *off; /* [PS_PASS_COUNT] or NULL */
    const char *isa; /* "avx512", "avx2"; NULL: the best of this machine */
    const char *dump_dir; /* an existing directory, or NULL */
    DrCache cache;
    const char *cache_directory; /* NULL: what the environment names */
    bool no_tune; /* the default schedules, whatever is stored */
    CgDebugger debugger;
    const char *device; /* "cpu", "cuda", "cuda:1", or NULL: cpu */
    const DrTexts *weights; /* paths */
    int64_t threads; /* 0: as many as the process may use CPUs */
    DrProgress progress;
    bool fast; /* CgCudaTarget.fast; of a CPU PsOptions.bf16_inputs */
    bool verify; /* packed weights against their digests */
} DrBuildOptions;

/* Each stage needs the ones above it. */
bool dr_build_spec(DrBuild *build, const DrBuildOptions *options); /* YAML -> Spec */
bool dr_build_graph(DrBuild *build); /* Spec -> naive Graph */
bool dr_build_program(DrBuild *build, const DrBuildOptions *options); /* Graph -> fused Graph -> Program */
bool dr_build_files(DrBuild *build, const DrBuildOptions *options); /* do the checkpoints fit? before the slow part */
bool dr_build_code(DrBuild *build, const DrBuildOptions *options); /* Program -> kernels in this process, or on the device */
bool dr_build_weights(DrBuild *build, const DrBuildOptions *options); /* checkpoints -> Model */
/* All that follow dr_build_spec, dr_build_device first. */
bool dr_build_model(DrBuild *build, const DrBuildOptions *options);

/* The model of elements in memory (moss_model_from_memory); `what` is told to progress. */
bool dr_build_from_memory(DrBuild *build, const DrBuildOptions *options, const char *what, MossTensorLookup lookup, void *context);

/* Frees all of it; the build is then as at its start. */
void dr_build_free(DrBuild *build);
/* A build that has nothing yet but the device of another one, which still owns it; dr_build_forget frees such a build. */
DrBuild dr_build_again(const DrBuild *build);
void dr_build_forget(DrBuild *again);

/* Adds a runtime error to the sink, one for each of its lines. true if there was none. */
bool dr_moss_ok(SuDiags *diags, MossError error);
/* The same for a build, which keeps the code. */
bool dr_take_ok(DrBuild *build, MossError error);
/* Makes `path` a directory if there is nothing yet. */
bool dr_make_directory(SuDiags *diags, const char *path);
/* What moss_model_load wants; NULL where a device has the code. */
const PgCode *dr_codes(const DrBuild *build);
/* A MossNote: adds a warning to an SuDiags. */
void dr_note(void *diags, const char *text);
/* What the options say to the runtime; progress is theirs, and notes go to the build's sink. */
MossOptions dr_moss_options(DrBuild *build, const DrBuildOptions *options);

#endif
