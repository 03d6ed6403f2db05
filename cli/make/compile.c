/* mossc compile: a model as a directory that needs no compiler of ours, and no LLVM, where it runs. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/make/artefact/files.h"
#include "cli/make/artefact/link.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/build.h"
#include "cli/progress.h"
#include "cli/show.h"
#include "driver/device.h"
#include "driver/text.h"
#include "codegen/artefact.h"
#include "runtime/packed.h"
#include "runtime/weights.h"
#include "support/file.h"
#include "tokenizer/bpe.h"

typedef struct CompileOptions {
    CliTexts sets, weights;
    const char *target, *output, *cpus;
    int emit;
    int64_t threads;
    bool progress, fast;
} CompileOptions;

enum { EMIT_ALL, EMIT_ASM, EMIT_LLVM, EMIT_OBJ };
static const char *const emit_words[] = {"all", "asm", "llvm", "obj", NULL};

/* What is being made. */
typedef struct Compile {
    const CompileOptions *options;
    DrBuild build;
    CliArtefact artefact;
    SuDirectory directory;
} Compile;

/* ---------------------------------------------------------------------------------------------- the object */

/* Files, and the program, bear the model's name. */
static bool check_name(const char *name, SuDiags *diags) {
    bool plain = (name[0] >= 'a' && name[0] <= 'z') || (name[0] >= '0' && name[0] <= '9');
    if (plain && strcmp(name, "mossrt") != 0) return true;
    return su_error(diags, (SuSpan){0}, "choose another with --set name=NAME", "model name '%s' cannot be used in file names",
                    name);
}

static bool find_target(Compile *c, FeDevice *out_device) {
    if (!dr_build_target(&c->build, c->options->target, out_device)) return false;
    c->build.gpu.fast = c->options->fast;
    return true;
}

static bool is_gpu(const Compile *c) { return !(dr_kind(&c->build)->takes & DR_CPUS); }

/* Spec, target and program, the cheap part: what is wrong with them is known before anything is written. */
static bool prepare(Compile *c, const DrBuildOptions *options) {
    DrBuild *build = &c->build;
    FeDevice device = {0};
    if (!find_target(c, &device) || !dr_build_spec(build, options) || !check_name(build->spec.name, &build->diags)) return false;
    if (!dr_build_graph(build) || !dr_build_program(build, options)) return false;
    cli_show(&build->diags); /* warnings */
    build->diags.count = 0;
    c->artefact = (CliArtefact){.spec = &build->spec,
                                .program = build->program,
                                .target = is_gpu(c) ? NULL : &build->target,
                                .gpu = is_gpu(c) ? &build->gpu : NULL,
                                .name = build->spec.name,
                                .symbol = cli_artefact_symbol(&build->arena, build->spec.name),
                                .bos = (int32_t)build->spec.tokenizer.bos,
                                .eos = (int32_t)build->spec.tokenizer.eos,
                                .cpus = c->options->cpus ? c->options->cpus : device.workers};
    return true;
}

static bool emit(Compile *c, CgEmission emission, FILE *out) {
    CliProgress progress = cli_progress_start(c->options->progress, "compiling", "kernels");
    cli_progress_say(&progress);
    bool ok = cg_llvm_artefact(&c->build.target, c->build.program, c->artefact.symbol, emission, out, &c->build.diags);
    cli_progress_end(&progress);
    return ok;
}

static bool emit_to(Compile *c, CgEmission emission, const char *path) {
    SuOut out;
    if (!su_out_open(path, &out, &c->build.diags)) return false;
    if (emit(c, emission, out.file)) return su_out_commit(&out, &c->build.diags);
    su_out_abort(&out);
    return false;
}

/* Only the code, for those who look. */
static bool emit_alone(Compile *c) {
    static const CgEmission emissions[] = {[EMIT_ASM] = CG_ASSEMBLY, [EMIT_LLVM] = CG_IR, [EMIT_OBJ] = CG_OBJECT};
    CgEmission emission = emissions[c->options->emit];
    if (c->options->output && !cli_is_standard(c->options->output)) return emit_to(c, emission, c->options->output);
    if (emission != CG_OBJECT || !isatty(STDOUT_FILENO)) return emit(c, emission, stdout);
    return su_error(&c->build.diags, (SuSpan){0}, "give a file name with -o", "object files are not written to a terminal");
}

/* ---------------------------------------------------------------------------------------------- the directory */

static const char *file_of(Compile *c, const char *suffix) {
    return su_directory_file(&c->directory, su_printf(&c->build.arena, "%s%s", c->artefact.name, suffix), &c->build.diags);
}

static bool write_file(Compile *c, const char *suffix, const char *text, size_t size) {
    const char *name = su_printf(&c->build.arena, "%s%s", c->artefact.name, suffix);
    return su_directory_write(&c->directory, name, text, size, &c->build.diags);
}

static bool write_object(Compile *c) {
    const char *object = file_of(c, ".o");
    if (!object || !emit_to(c, CG_OBJECT, object)) return false;
    const char *shared = file_of(c, ".so"), *linker = shared ? cli_artefact_link(&c->build.target, object, shared) : NULL;
    c->artefact.shared = linker != NULL;
    if (shared && !linker) {
        su_directory_forget(&c->directory, shared);
        fprintf(stderr, "mossc: %s.so was not created: no linker for %s was found (ld.lld or a cross compiler's)\n",
                c->artefact.name, c->build.target.triple);
    }
    return shared != NULL;
}

/* A DrWriteFile. */
static bool write_code_file(void *context, const char *suffix, const char *bytes, size_t size) {
    return write_file(context, suffix, bytes, size);
}

static bool write_device_code(Compile *c) {
    CliProgress progress = cli_progress_start(c->options->progress, "compiling", "kernels");
    cli_progress_say(&progress);
    bool ok = dr_kind(&c->build)->write_code(&c->build, c->artefact.symbol, write_code_file, c);
    cli_progress_end(&progress);
    return ok;
}

static bool write_code(Compile *c) { return dr_kind(&c->build)->write_code ? write_device_code(c) : write_object(c); }

/* A packed file fits every target: it is copied as it is, once all of it is checked. */
static bool copy_packed(Compile *c, RtWeightFile *file) {
    RtPacked packed;
    const char *name = su_printf(&c->build.arena, "%s.weights", c->artefact.name);
    MossOptions moss = {.size = sizeof moss, .threads = (int)c->options->threads};
    if (!rt_packed_take(&file->map, file->path, c->build.program, &packed, &c->build.diags)) return false;
    bool ok = dr_moss_ok(&c->build.diags, rt_packed_verify_by(&packed, file->path, c->build.program, &moss)) &&
              su_directory_write(&c->directory, name, packed.map.data, packed.map.size, &c->build.diags);
    su_map_close(&packed.map);
    return ok;
}

static bool pack_weights(Compile *c) {
    const CliTexts *weights = &c->options->weights;
    const char *path = file_of(c, ".weights");
    if (!path) return false;
    CliProgress progress = cli_progress_start(c->options->progress, "packing weights", "bytes");
    MossOptions moss = cli_moss_options(c->options->threads, &progress);
    MossError error = moss_weights_pack(c->build.program, weights->items, weights->count, &moss, path);
    cli_progress_end(&progress);
    return dr_moss_ok(&c->build.diags, error);
}

static bool write_weights(Compile *c) {
    RtWeightFiles files;
    if (!rt_weight_files_open(c->options->weights.items, c->options->weights.count, &files, &c->build.diags)) return false;
    bool packed = rt_weight_files_are_packed(&files), ok = packed && copy_packed(c, &files.items[0]);
    rt_weight_files_close(&files);
    return packed ? ok : pack_weights(c);
}

/* A device's tokenizer needs no JSON and no library: what a tokenizer.json says is put into tables. */
static bool write_tokenizer(Compile *c) {
    if (c->build.spec.tokenizer.kind != FE_TOKENIZER_BPE) return true;
    TkBpeOptions options = dr_bpe_options(&c->build.spec);
    SuText file = {0};
    bool ok = tk_bpe_pack(c->build.spec.tokenizer.file, &options, &file, &c->build.diags) &&
              write_file(c, ".tokenizer", file.text, file.size);
    su_text_free(&file);
    return ok;
}

static bool fill_directory(Compile *c) {
    return write_tokenizer(c) && write_code(c) && write_weights(c) &&
           cli_artefact_files(&c->artefact, &c->directory, &c->build.diags);
}

static bool make_directory(Compile *c, const DrBuildOptions *options) {
    if (!dr_build_files(&c->build, options)) return false; /* do the weights fit? */
    if (!su_directory_open(c->options->output, &c->directory, &c->build.diags)) return false;
    bool ok = fill_directory(c);
    if (!ok) {
        su_directory_abort(&c->directory, &c->build.diags);
        return false;
    }
    return su_directory_commit(&c->directory, &c->build.diags);
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
static void say_what_next(Compile *c) {
    char code[CLI_NUMBER], weights[CLI_NUMBER], state[CLI_NUMBER];
    struct stat object = {0};
    stat(su_printf(&c->build.arena, "%s/%s.%s", c->options->output, c->artefact.name, is_gpu(c) ? "cubin" : "o"), &object);
    fprintf(stderr, "mossc: code %s, weights %s, state %s a sequence; %s/README.md says how it is built and run\n",
            cli_bytes((double)object.st_size, code), cli_bytes((double)c->build.program->weight_bytes, weights),
            cli_bytes((double)c->build.program->state_bytes, state), c->options->output);
    printf("cd %s\n%s\n./%s --prompt 'It was' -n 100\n", shell_word(&c->build.arena, c->options->output),
           cli_artefact_build_line(&c->build.arena, &c->artefact), c->artefact.name);
}

/* ---------------------------------------------------------------------------------------------- the command */

static bool compile(Compile *c, const DrBuildOptions *options) {
    if (!prepare(c, options)) return false;
    if (c->options->emit != EMIT_ALL) return emit_alone(c);
    if (!make_directory(c, options)) return false;
    say_what_next(c);
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
    CLI_ROW_FLAG(CompileOptions, fast, "fast", "for a GPU: the code of `mossc run --fast`"),
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
    if (o.emit == EMIT_ALL && !o.weights.count) return cli_usage_error(command, "-w FILE (--weights) is needed");
    const DrDeviceKind *kind = dr_kind_of_target(o.target);
    if (kind != &dr_cpu && o.emit != EMIT_ALL)
        return cli_usage_error(command, "--emit is for CPUs: `mossc asm --target %s --emit cubin` is for GPUs", o.target);
    if (!(kind->takes & DR_CPUS) && o.cpus) return cli_usage_error(command, "--cpus cannot be combined with a GPU target");
    if (!(kind->takes & DR_FAST) && o.fast) return cli_usage_error(command, "--fast is for GPUs, such as --target cuda:sm_90");
    if (o.cpus && !is_cpu_list(o.cpus))
        return cli_usage_error(command, "--cpus: expected numbers separated by commas, got '%s'", o.cpus);
    Compile c = {.options = &o};
    DrBuildOptions options = {.spec = args->positionals[0], .sets = &o.sets, .weights = &o.weights, .threads = o.threads};
    bool ok = compile(&c, &options);
    return cli_build_finish(&c.build, ok);
}

const CliCommand cli_compile = {
    .name = "compile",
    .summary = "create a directory with code, weights and runtime for a phone, a board, a GPU or this machine",
    .synopsis = "SPEC -w WEIGHTS... -o DIR [--target TARGET] [OPTION]...",
    .about =
        "Compiles SPEC ahead of time and writes a directory that holds all it takes to run the model: an object with its code and "
        "tables, a header, packed weights, the runtime in C, a text generator and a README with the lines that build it. Where it "
        "is built, a C compiler is needed; where it runs, nothing. Prints the lines that build and run it on or for the target.\n\n"
        "Texts, and saved states, are those of `mossc run` to the last bit, whatever the target. DIR must not exist, or be "
        "empty.\n\n"
        "For a GPU (--target cuda:sm_80) NVRTC makes the code, for that architecture and as PTX for later ones; where it runs, "
        "only "
        "the driver is needed. Texts are those of `mossc run --device cuda`.",
    .examples = "mossc compile specs/moss-tiny.yaml -w models/moss-tiny.safetensors --target aarch64 -o moss-tiny-arm\n"
                "mossc compile specs/moss-tiny.yaml -w models/moss-tiny.safetensors -o moss-tiny-here\n"
                "mossc compile specs/moss-tiny.yaml -w models/moss-tiny.safetensors --target cuda:sm_80 -o moss-tiny-a100\n"
                "mossc compile specs/moss-tiny.yaml --target cortex-a720 --emit asm\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
