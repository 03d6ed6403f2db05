/* mossc asm: the code that is generated for a spec. */
#include "cli/commands.h"
#include "cli/pipeline.h"

static const char *const target_words[] = {"host", NULL};

typedef struct AsmOptions {
    CliTexts sets;
    bool llvm;
    int target, isa;
    bool off[PS_PASS_COUNT];
} AsmOptions;

static bool print_code(CliBuild *build, const CliBuildOptions *options, bool llvm) {
    if (!cli_build_spec(build, options) || !cli_build_graph(build) || !cli_build_program(build, options)) return false;
    const char *isa = options->isa ? cli_isa_words[options->isa] : NULL;
    if (!cg_target_host(isa, &build->target, &build->diags)) return false;
    build->has_target = true;
    return cg_llvm_print(&build->target, build->program, llvm, stdout, &build->diags);
}

static const CliOption table[] = {
    CLI_ROW_FLAG(AsmOptions, llvm, "llvm", "LLVM IR after optimisation instead of assembly"),
    CLI_ROW_WORD(AsmOptions, target, "target", "TARGET", target_words,
                 "host: the machine mossc runs on (default, and the only one in this version)"),
    CLI_OPTION_ISA(AsmOptions),
    CLI_OPTION_NO_PASSES(AsmOptions),
    CLI_OPTION_SET(AsmOptions),
};

static int run(const CliCommand *command, CliArgs *args) {
    AsmOptions o = {0};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    CliBuild build = {0};
    CliBuildOptions options = {.spec = args->positionals[0], .sets = &o.sets, .off = o.off, .isa = o.isa};
    bool ok = print_code(&build, &options, o.llvm);
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
                "mossc asm specs/moss-tiny.yaml --llvm --isa avx2\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
