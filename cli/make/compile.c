/* mossc compile: a model as a directory that needs no compiler of ours, and no LLVM, where it runs. */
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/format.h"
#include "cli/build.h"
#include "cli/given.h"
#include "driver/artefact/artefact.h"
#include "driver/device.h"

typedef struct CompileOptions {
    CliTexts sets, weights;
    const char *target, *output, *cpus;
    int emit;
    int64_t threads;
    bool progress, fast;
} CompileOptions;

enum { EMIT_ALL, EMIT_ASM, EMIT_LLVM, EMIT_OBJ };
static const char *const emit_words[] = {"all", "asm", "llvm", "obj", NULL};

/* Only the code. */
static bool emit_alone(const DrArtefact *artefact, const CompileOptions *o) {
    static const CgEmission emissions[] = {[EMIT_ASM] = CG_ASSEMBLY, [EMIT_LLVM] = CG_IR, [EMIT_OBJ] = CG_OBJECT};
    CgEmission emission = emissions[o->emit];
    if (o->output && !cli_is_standard(o->output)) return dr_artefact_emit_file(artefact, emission, o->output);
    if (emission != CG_OBJECT || !isatty(STDOUT_FILENO)) return dr_artefact_emit(artefact, emission, stdout);
    return su_error(&artefact->build->diags, (SuSpan){0}, "give a file name with -o", "object files are not written to a terminal");
}

/* A path as a shell takes it for one word. */
static const char *shell_word(SuArena *arena, const char *path) {
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./+=:,@%-";
    const char *before = path[0] == '-' ? "./" : ""; /* no option */
    if (!path[strspn(path, plain)]) return su_printf(arena, "%s%s", before, path);
    SuText word = {0};
    su_text_add(&word, "'%s", before);
    for (const char *c = path; *c; c++) su_text_add(&word, *c == '\'' ? "'\\''" : "%c", *c);
    su_text_add(&word, "'");
    const char *copy = su_strdup(arena, word.text);
    su_text_free(&word);
    return copy;
}

/* What was made, for people; what comes next, for a shell too. */
static void say_what_next(const DrArtefact *artefact, const CompileOptions *o) {
    DrBuild *build = artefact->build;
    char code[CLI_NUMBER], weights[CLI_NUMBER], state[CLI_NUMBER];
    fprintf(stderr, "mossc: code %s, weights %s, state %s a sequence; %s/README.md says how it is built and run\n",
            cli_bytes((double)dr_artefact_code_bytes(artefact, o->output), code),
            cli_bytes((double)build->program->weight_bytes, weights), cli_bytes((double)build->program->state_bytes, state),
            o->output);
    printf("cd %s\n%s\n./%s --prompt 'It was' -n 100\n", shell_word(&build->arena, o->output),
           dr_artefact_build_line(&build->arena, artefact), artefact->name);
}

/* ---------------------------------------------------------------------------------------------- the command */

static bool compile(DrBuild *build, const DrBuildOptions *options, const CompileOptions *o) {
    DrArtefact artefact;
    if (!dr_artefact_plan(build, options, o->target, o->cpus, &artefact)) return false;
    cli_build_print(build); /* warnings, before the work */
    if (o->emit != EMIT_ALL) return emit_alone(&artefact, o);
    if (!dr_artefact_write(&artefact, o->output)) return false;
    say_what_next(&artefact, o);
    return true;
}

static const CliOption table[] = {
    CLI_OPTION_WEIGHTS(CompileOptions, false, CLI_ABOUT_WEIGHTS " (needed, but for --emit)"),
    CLI_OPTION_TARGET(CompileOptions),
    CLI_ROW_TEXT(CompileOptions, output, "output", 'o', "DIR", false,
                 "the directory to create, which appears only when complete; with --emit a file (default: standard output)"),
    CLI_ROW_WORD(CompileOptions, emit, "emit", "WHAT", emit_words,
                 "only the code: asm, llvm (IR after optimisation) or obj (the relocatable object); default all"),
    CLI_ROW_TEXT(
        CompileOptions, cpus, "cpus", 0, "LIST", false,
        "CPUs of the device that run the model unless the program that opens it says otherwise, as in 7,6,5,4 (default: all)"),
    CLI_ROW_FLAG(CompileOptions, fast, "fast", "the code of `mossc run --fast`; of CPUs for targets with bf16, such as aarch64+bf16"),
    CLI_OPTION_THREADS(CompileOptions),
    CLI_OPTION_SET(CompileOptions),
    CLI_OPTION_PROGRESS(CompileOptions),
};

/* Numbers with commas between them. */
static bool is_cpu_list(const char *text) {
    for (;; text++) {
        size_t digits = strspn(text, "0123456789");
        bool octal = digits > 1 && text[0] == '0'; /* to C */
        text += digits;
        if (digits < 1 || digits > 4 || octal || (*text != ',' && *text != '\0')) return false;
        if (*text == '\0') return true;
    }
}

static int run(const CliCommand *command, CliArgs *args) {
    CompileOptions o = {.target = "host"};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    if (o.emit == EMIT_ALL && !o.output) return cli_usage_error(command, "-o DIR (--output) is needed");
    if (o.emit == EMIT_ALL && cli_is_standard(o.output))
        return cli_usage_error(command, "-o: expected a directory name, standard output cannot be a directory");
    if (o.emit == EMIT_ALL && !o.weights.count && !cli_brings_weights(args->positionals[0]))
        return cli_usage_error(command, "-w FILE (--weights) is needed");
    const DrDeviceKind *kind = dr_kind_of_target(o.target);
    if (kind->write_code && o.emit != EMIT_ALL)
        return cli_usage_error(command, "--emit is for CPUs: `mossc asm --target %s --emit cubin` is for GPUs", o.target);
    if (!(kind->takes & DR_CPUS) && o.cpus) return cli_usage_error(command, "--cpus cannot be combined with a GPU target");
    if (o.cpus && !is_cpu_list(o.cpus))
        return cli_usage_error(command, "--cpus: expected numbers separated by commas, got '%s'", o.cpus);
    CliReporter reporter = {.asked = o.progress};
    DrBuild build = {0};
    DrBuildOptions options = {.spec = args->positionals[0],
                              .sets = &o.sets,
                              .weights = &o.weights,
                              .threads = o.threads,
                              .progress = cli_reporter_hooks(&reporter),
                              .fast = o.fast};
    return cli_build_finish(&build, cli_take_given(&build, &options, &o.weights) && compile(&build, &options, &o));
}

const CliCommand cli_compile = {
    .name = "compile",
    .summary = "create a directory with code, weights and runtime for a phone, a board, a GPU or this machine",
    .synopsis = "SPEC -w WEIGHTS... -o DIR [--target TARGET] [OPTION]...",
    .about = "Compiles SPEC ahead of time and writes a directory with everything that is needed to run the model: an object "
             "with its code and tables, a header, packed weights, the runtime in C, a text generator and a README with the "
             "lines that build it. Building it needs a C compiler; running it needs nothing. Prints the lines that build it "
             "and run it on the target.\n\n"
             "Texts and saved states are, bit for bit, those of `mossc run`, whatever the target. DIR must not exist, or must "
             "be empty.\n\n"
             "For a GPU (--target cuda:sm_80) NVRTC compiles the code, for that architecture and as PTX for later ones; "
             "running it needs only the driver. Texts are those of `mossc run --device cuda`.\n\n" CLI_ABOUT_GIVEN,
    .examples = "mossc compile specs/moss-tiny.yaml -w models/moss-tiny.safetensors --target aarch64 -o moss-tiny-arm\n"
                "mossc compile specs/moss-tiny.yaml -w models/moss-tiny.safetensors -o moss-tiny-here\n"
                "mossc compile specs/moss-tiny.yaml -w models/moss-tiny.safetensors --target cuda:sm_80 -o moss-tiny-a100\n"
                "mossc compile specs/moss-tiny.yaml --target cortex-a720 --emit asm\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .takes_given = true,
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
