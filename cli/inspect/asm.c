/* mossc asm: the code that is generated for a spec. */
#include <string.h>

#include "cli/inspect/asm_cuda.h"
#include "cli/commands.h"
#include "cli/pipeline.h"
#include "cli/target.h"
#include "codegen/cuda/cuda.h"

typedef struct AsmOptions {
    CliTexts sets;
    bool llvm;
    const char *target;
    int isa, emit;
    bool off[PS_PASS_COUNT];
} AsmOptions;

static bool find_target(CliBuild *build, const char *target, int isa) {
    build->has_target = isa ? cg_target_host(cli_isa_words[isa], &build->target, &build->diags)
                            : cli_find_target(target, &build->arena, &build->target, NULL, &build->diags);
    return build->has_target;
}

static bool print_code(CliBuild *build, const CliBuildOptions *options, const char *target, bool llvm) {
    if (!find_target(build, target, options->isa)) return false;
    if (!cli_build_spec(build, options) || !cli_build_graph(build) || !cli_build_program(build, options)) return false;
    return cg_llvm_print(&build->target, build->program, llvm, stdout, &build->diags);
}

static const CliOption table[] = {
    CLI_ROW_FLAG(AsmOptions, llvm, "llvm", "LLVM IR after optimisation instead of assembly"),
    CLI_OPTION_TARGET(AsmOptions),
    CLI_ROW_WORD(AsmOptions, emit, "emit", "FORM", cli_cuda_forms,
                 "of a target cuda:sm_XX: cuda (the default), or ptx or cubin, which NVRTC makes of it"),
    CLI_OPTION_ISA(AsmOptions),
    CLI_OPTION_NO_PASSES(AsmOptions),
    CLI_OPTION_SET(AsmOptions),
};

static int run(const CliCommand *command, CliArgs *args) {
    AsmOptions o = {.target = "host"};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    if (o.isa && strcmp(o.target, "host") != 0)
        return cli_usage_error(command, "--isa is for the host: it does not go with --target");
    CliBuild build = {0};
    CliBuildOptions options = {.spec = args->positionals[0], .sets = &o.sets, .off = o.off, .isa = o.isa};
    bool cuda = cg_cuda_is_target(o.target);
    if (cuda && o.llvm) return cli_usage_error(command, "--llvm is not for CUDA targets: they take --emit");
    if (!cuda && o.emit) return cli_usage_error(command, "--emit is for CUDA targets, such as --target cuda:sm_90");
    bool ok = cuda ? cli_print_cuda(&build, &options, o.target, o.emit) : print_code(&build, &options, o.target, o.llvm);
    fflush(stdout);
    return cli_build_finish(&build, ok);
}

const CliCommand cli_asm = {
    .name = "asm",
    .summary = "print the code that is generated for a spec",
    .synopsis = "SPEC [OPTION]...",
    .about = "Prints the generated code of every kernel of the spec's program. Blocks of one shape share their kernels, so this "
             "is much shorter than the model is deep.",
    .examples = "mossc asm specs/moss-tiny.yaml\n"
                "mossc asm specs/moss-tiny.yaml --llvm --isa avx2\n"
                "mossc asm specs/moss-tiny.yaml --target aarch64:cortex-x4\n"
                "mossc asm specs/moss-tiny.yaml --target cuda:sm_90\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
