/* From a spec to a model that runs: every stage of the compiler, one call each. */
#ifndef MOSSC_CLI_PIPELINE_H
#define MOSSC_CLI_PIPELINE_H

#include "cli/options.h"
#include "codegen/cuda/cuda.h"
#include "codegen/target.h"
#include "frontend/spec.h"
#include "ir/graph.h"
#include "passes/pipeline.h"
#include "ir/program.h"
#include "mossc/moss.h"
#include "support/diag.h"

typedef struct CliProgress CliProgress; /* cli/progress.h */

/* Debug builds check every pass, as `mossc ir --check` does. */
#ifdef NDEBUG
enum { CLI_DEBUG_BUILD = 0 };
#else
enum { CLI_DEBUG_BUILD = 1 };
#endif

/* What the stages made so far. Zero is a valid start; cli_build_finish frees whatever is there. */
typedef struct CliBuild {
    SuDiags diags;
    SuArena arena; /* owns graph and program */
    FeSpec spec;
    IrGraph *graph; /* naive, then fused */
    const PgProgram *program;
    CgTarget target;
    CgCompiled *compiled;
    MossDevice *device; /* the GPU, where the command names one: it then has the code, and there are neither target nor compiled */
    CgCudaTarget gpu; /* its target; without a device code is only compiled for it. All zero: for the CPU */
    MossModel *model;
    PsOptions passes; /* set by the command before cli_build_program */
    bool has_spec, has_target;
    uint32_t kernels_found; /* in the cache; set by cli_build_code. All or none of a GPU's, whose code is one piece */
    double compile_seconds, load_seconds; /* set by cli_build_model */
} CliBuild;

/* Whether compiled kernels are looked for and kept on disk. */
typedef enum CliCache {
    CLI_CACHE, /* yes; where they cannot be kept there is a warning */
    CLI_NO_CACHE,
    CLI_CACHE_NEEDED /* an error then */
} CliCache;

/* What the command line says about a build. */
typedef struct CliBuildOptions {
    const char *spec; /* path, "-": standard input */
    const CliTexts *sets;
    const bool *off; /* [PS_PASS_COUNT] or NULL */
    int isa; /* index into cli_isa_words */
    const char *dump_dir; /* an existing folder, or NULL */
    CliCache cache;
    int debugger; /* a CgDebugger */
    const char *device; /* "cpu", "cuda", "cuda:1", or NULL: cpu */
    const CliTexts *weights;
    int64_t threads;
    bool progress;
    bool fast; /* CgCudaTarget.fast */
    bool verify; /* packed weights against their digests */
} CliBuildOptions;

/* Those of a command that runs a model; `model` must live as long. */
CliBuildOptions cli_build_options(const char *spec, const CliModelOptions *model);

/* Each stage needs the ones above it. false: the reason is in build->diags. */
bool cli_build_spec(CliBuild *build, const CliBuildOptions *options); /* YAML -> Spec */
bool cli_build_graph(CliBuild *build); /* Spec -> naive Graph */
bool cli_build_program(CliBuild *build, const CliBuildOptions *options); /* Graph -> fused Graph -> Program */
bool cli_build_files(CliBuild *build, const CliBuildOptions *options); /* do the checkpoints fit? before the slow part */
bool cli_build_code(CliBuild *build, const CliBuildOptions *options); /* Program -> kernels in this process */
bool cli_build_weights(CliBuild *build, const CliBuildOptions *options); /* checkpoints -> Model */
/* All that follow cli_build_spec; prints the spec's warnings first. */
bool cli_build_model(CliBuild *build, const CliBuildOptions *options);

/* Opens the GPU that options name, if they name one; before cli_build_program. cli_build_model does it. */
bool cli_build_device(CliBuild *build, const CliBuildOptions *options);

/* Prints what was found, frees everything; the exit status. */
int cli_build_finish(CliBuild *build, bool ok);

/* Before long work whose end is a file: whether `path` (NULL: none) can be written. Prints all that was found so far: messages
 * come before an output opens. */
bool cli_check_output(CliBuild *build, const char *path);
/* Adds a runtime error to the sink, one for each of its lines. true if there was none. */
bool cli_moss_ok(SuDiags *diags, MossError error);
/* Makes `path` a folder if there is nothing yet. */
bool cli_make_folder(SuDiags *diags, const char *path);
/* What moss_model_load wants; NULL where a GPU has the code. */
const PgCode *cli_codes(const CliBuild *build);
/* Loading options that show progress through `progress`. */
MossOptions cli_moss_options(int64_t threads, CliProgress *progress);

#endif
