/* mossc asm: the code that is generated for a spec. */
#include <string.h>

#include "cli/commands.h"
#include "cli/build.h"
#include "driver/device.h"
#include "support/str.h"

typedef struct AsmOptions {
    CliTexts sets;
    bool llvm, fast;
    const char *target;
    const char *form;
    int isa;
    bool off[PS_PASS_COUNT];
} AsmOptions;

/* Which of the target's forms of code a word names; the first one where none is given. -1: none. */
static int find_form(const DrDeviceKind *kind, const char *word) {
    for (int i = 0; word && kind->forms[i]; i++)
        if (strcmp(kind->forms[i], word) == 0) return i;
    return word ? -1 : 0;
}

static int no_such_form(const CliCommand *command, const DrDeviceKind *kind, const AsmOptions *o) {
    SuText all = {0};
    for (int i = 0; kind->forms[i]; i++) su_text_add(&all, "%s%s", i ? ", " : "", kind->forms[i]);
    int status = cli_usage_error(command, "--emit: expected one of %s for %s, got '%s'", all.text, o->target, o->form);
    su_text_free(&all);
    return status;
}

static bool find_target(DrBuild *build, const AsmOptions *o) {
    if (!o->isa) return dr_build_target(build, o->target, o->fast, NULL);
    build->has_target = cg_target_host(cli_isa_words[o->isa], &build->target, &build->diags);
    return build->has_target && (!o->fast || dr_cpu.check_fast(build, NULL, &build->target));
}

static bool print_code(DrBuild *build, const DrBuildOptions *options, const AsmOptions *o, int form) {
    if (!find_target(build, o) || !dr_build_spec(build, options) || !dr_build_graph(build) || !dr_build_program(build, options))
        return false;
    return dr_kind(build)->print(build, form, stdout);
}

static const CliOption table[] = {
    CLI_ROW_FLAG(AsmOptions, llvm, "llvm", "LLVM IR after optimisation instead of assembly: --emit llvm"),
    CLI_OPTION_TARGET(AsmOptions),
    CLI_ROW_TEXT(AsmOptions, form, "emit", 0, "FORM", false,
                 "asm (the default) or llvm; of a target cuda:sm_XX: cuda (the default), or ptx or cubin, which NVRTC makes of it"),
    CLI_OPTION_ISA(AsmOptions),
    CLI_OPTION_FAST(AsmOptions),
    CLI_OPTION_NO_PASSES(AsmOptions),
    CLI_OPTION_SET(AsmOptions),
};

static int run(const CliCommand *command, CliArgs *args) {
    AsmOptions o = {.target = "host"};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    if (o.isa && strcmp(o.target, "host") != 0)
        return cli_usage_error(command, "--isa is for the host and cannot be combined with --target");
    DrBuild build = {0};
    DrBuildOptions options = {.spec = args->positionals[0], .sets = &o.sets, .off = o.off, .fast = o.fast};
    if (o.llvm) o.form = "llvm";
    const DrDeviceKind *kind = dr_kind_of_target(o.target);
    int form = find_form(kind, o.form);
    if (form < 0) return no_such_form(command, kind, &o);
    return cli_build_finish(&build, print_code(&build, &options, &o, form));
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
