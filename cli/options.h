/* Options of the command line: one table per command, from which parsing, the help text, the error messages, shell completion and manual
 * pages come.
 *
 * Long options take their value as "--name value" or "--name=value", short ones as "-n value" or "-nvalue"; options and
 * positional arguments mix freely, "--" ends the options, and "-" is a positional argument (standard input). A name of two letters is
 * also written with one dash ("-pg"). */
#ifndef MOSSC_CLI_OPTIONS_H
#define MOSSC_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/progress.h"
#include "driver/build.h"
#include "passes/pipeline.h"
#include "support/arena.h"
#include "support/cpus.h"

/* Exit statuses; SU_BUG ends with 70. CLI_GO is none: the command goes on. */
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_BUG = 70, CLI_GO = -1 };

/* What an option writes, and where: at `offset` of the command's struct. */
typedef enum CliKind {
    CLI_FLAG, /* bool: set */
    CLI_TEXT, /* const char * */
    CLI_TEXTS, /* CliTexts: every use adds one */
    CLI_LIST, /* CliList: integers within [least, most] with commas between; every use adds some */
    CLI_INT, /* int64_t within [least, most] */
    CLI_REAL, /* double within [least, most] */
    CLI_SEED, /* uint64_t */
    CLI_OWN_SEED, /* CliSeed: knows whether it was given */
    CLI_WORD, /* int: index into words */
    CLI_PASS, /* int: a PsPass, at most `most` */
    CLI_NO_PASSES /* bool[PS_PASS_COUNT]: "--no-NAME" for every pass, one row for all of them */
} CliKind;

typedef DrTexts CliTexts;

typedef struct CliList {
    int64_t *items; /* the arguments' arena's */
    size_t count, capacity;
} CliList;

typedef struct CliSeed {
    uint64_t value; /* first: it is written like a CLI_SEED */
    bool given;
} CliSeed;

typedef struct CliOption {
    const char *name; /* without the dashes; "no-" for CLI_NO_PASSES */
    char letter; /* 0: no short form */
    const char *argument; /* as the help shows it; NULL for flags */
    CliKind kind;
    size_t offset;
    double least, most;
    const char *const *words; /* NULL-terminated */
    bool needed;
    const char *help;
} CliOption;

/* Rows of a table; `Type` is the command's struct and has the field named. */
#define CLI_ROW_FLAG(Type, field, text, about) {.name = text, .kind = CLI_FLAG, .offset = offsetof(Type, field), .help = about}
#define CLI_ROW_VALUE(Type, field, text, short_form, value, what, about)                                                           \
    .name = text, .letter = short_form, .argument = value, .kind = what, .offset = offsetof(Type, field), .help = about
#define CLI_ROW_TEXT(Type, field, text, short_form, value, is_needed, about)                                                       \
    {CLI_ROW_VALUE(Type, field, text, short_form, value, CLI_TEXT, about), .needed = is_needed}
#define CLI_ROW_TEXTS(Type, field, text, short_form, value, is_needed, about)                                                      \
    {CLI_ROW_VALUE(Type, field, text, short_form, value, CLI_TEXTS, about), .needed = is_needed}
#define CLI_ROW_INT(Type, field, text, short_form, value, smallest, largest, about)                                                \
    {CLI_ROW_VALUE(Type, field, text, short_form, value, CLI_INT, about), .least = smallest, .most = largest}
#define CLI_ROW_LIST(Type, field, text, short_form, value, smallest, largest, about)                                               \
    {CLI_ROW_VALUE(Type, field, text, short_form, value, CLI_LIST, about), .least = smallest, .most = largest}
#define CLI_ROW_REAL(Type, field, text, value, smallest, largest, about)                                                           \
    {CLI_ROW_VALUE(Type, field, text, 0, value, CLI_REAL, about), .least = smallest, .most = largest}
#define CLI_ROW_SEED(Type, field, text, value, about) {CLI_ROW_VALUE(Type, field, text, 0, value, CLI_SEED, about)}
#define CLI_ROW_OWN_SEED(Type, field, text, value, about) {CLI_ROW_VALUE(Type, field, text, 0, value, CLI_OWN_SEED, about)}
#define CLI_ROW_WORD(Type, field, text, value, list, about)                                                                        \
    {CLI_ROW_VALUE(Type, field, text, 0, value, CLI_WORD, about), .words = list}
#define CLI_ROW_PASS(Type, field, text, value, last, about)                                                                        \
    {CLI_ROW_VALUE(Type, field, text, 0, value, CLI_PASS, about), .most = last}

/* Rows that several commands share; `Type` has the fields sets, progress, off, weights, threads, chunk, isa, target, json. */
#define CLI_OPTION_SET(Type)                                                                                                       \
    CLI_ROW_TEXTS(Type, sets, "set", 0, "PATH=VALUE", false,                                                                       \
                  "override a value of the spec, as in --set stack[0].repeat=2; may be given several times")
#define CLI_OPTION_PROGRESS(Type)                                                                                                  \
    CLI_ROW_FLAG(Type, progress, "progress", "show progress also where standard error is not a terminal")
#define CLI_OPTION_NO_PASSES(Type) {.name = "no-", .kind = CLI_NO_PASSES, .offset = offsetof(Type, off), .help = "skip a pass"}
#define CLI_OPTION_WEIGHTS(Type, is_needed, about) CLI_ROW_TEXTS(Type, weights, "weights", 'w', "FILE", is_needed, about)
#define CLI_ABOUT_WEIGHTS "safetensors checkpoint, which may be given several times; or one file of mossc pack"
/* Of the commands that run a model. */
#define CLI_ABOUT_GIVEN                                                                                                            \
    "In the place of a spec there may be a directory that mossc import made, a folder from Hugging Face or mamba_ssm, or a .gguf " \
    "file. Then -w is "                                                                                                            \
    "not needed. Folders and .gguf files are imported into $MOSSC_CACHE_DIR/models, else $XDG_CACHE_HOME/mossc/models, else "      \
    "~/.cache/mossc/models, once, up to $MOSSC_MODELS_SIZE MiB (default 65536): those that were used least recently are removed "  \
    "first, and none that is in use (mossc cache)."
#define CLI_OPTION_THREADS(Type)                                                                                                   \
    CLI_ROW_INT(                                                                                                                   \
        Type, threads, "threads", 0, "N", 1, SU_MOST_THREADS,                                                                      \
        "number of threads (default: $MOSSC_THREADS, else the CPUs that this process may use, within its CPU quota); the result "  \
        "does not depend on it")
#define CLI_OPTION_CHUNK(Type)                                                                                                     \
    CLI_ROW_INT(Type, chunk, "chunk", 0, "C", 1, INT32_MAX,                                                                        \
                "most tokens fed in one step (default: as many as the program allows); the result does not depend on it")
#define CLI_OPTION_NON_FINITE(Type)                                                                                                \
    CLI_ROW_FLAG(Type, allow_non_finite, "allow-non-finite", "continue when logits are non-finite, which is otherwise an error")
#define CLI_OPTION_KEEP_BOM(Type)                                                                                                  \
    CLI_ROW_FLAG(Type, keep_bom, "keep-bom", "keep a byte-order mark at the start of the text, which is skipped otherwise")
#define CLI_OPTION_ISA(Type)                                                                                                       \
    CLI_ROW_WORD(                                                                                                                  \
        Type, isa, "isa", "ISA", cli_isa_words,                                                                                    \
        "generate code for best (what this machine has, the default), avx512 or avx2; for tests bf16-in-ir, the kernels for "      \
        "AVX-512 BF16 in instructions of AVX2")
#define CLI_OPTION_TARGET(Type)                                                                                                    \
    CLI_ROW_TEXT(Type, target, "target", 0, "TARGET", false,                                                                       \
                 "what the code is for: host (the default), aarch64, aarch64+dotprod+fp16, a core such as cortex-x4, a device "    \
                 "such as galaxy-s24-ultra, a GPU such as cuda:sm_90 (`mossc targets` lists them)")
#define CLI_OPTION_NO_CACHE(Type)                                                                                                  \
    CLI_ROW_FLAG(Type, no_cache, "no-cache",                                                                                       \
                 "compile all kernels again, with the default schedules, and store none (see `mossc cache --help`)")
#define CLI_OPTION_NO_TUNE(Type)                                                                                                   \
    CLI_ROW_FLAG(Type, no_tune, "no-tune", "compile with the default schedules, whatever `mossc tune` has found")
#define CLI_OPTION_DEBUGGER(Type)                                                                                                  \
    CLI_ROW_WORD(Type, debugger, "debug-info", "gdb|perf", cli_debugger_words,                                                     \
                 "tell gdb or perf the names of kernels and the lines of the spec they come from (docs/profiling.md)")
#define CLI_OPTION_DEVICE(Type)                                                                                                    \
    CLI_ROW_TEXT(                                                                                                                  \
        Type, device, "device", 0, "DEVICE", false,                                                                                \
        "where the model runs: cpu (the default), cuda or cuda:N, the N-th NVIDIA GPU; cuda:sm_90a: with the code of that target " \
        "(docs/cuda.md)")
#define CLI_OPTION_FAST(Type)                                                                                                      \
    CLI_ROW_FLAG(                                                                                                                  \
        Type, fast, "fast",                                                                                                        \
        "prompts and batches round what bf16 weights multiply to bf16, as training in bf16 does, for an error near 1e-2: "         \
        "about twice the speed of prompts with --device cuda; of CPUs it needs AVX-512 BF16 or ARM's bf16, and its speed there "   \
        "is not measured")
#define CLI_OPTION_VERIFY(Type) CLI_ROW_FLAG(Type, verify, "verify", "verify every byte of packed weights against its digest first")
#define CLI_OPTION_STATE_IN(Type)                                                                                                  \
    CLI_ROW_TEXT(Type, state_in, "state-in", 0, "FILE", false,                                                                     \
                 "continue from a state that --state-out wrote, bit for bit as an uninterrupted sequence")
#define CLI_OPTION_STATE_OUT(Type)                                                                                                 \
    CLI_ROW_TEXT(Type, state_out, "state-out", 0, "FILE", false,                                                                   \
                 "write the state after the last token; the file appears only when complete")
#define CLI_OPTION_JSON(Type, about) CLI_ROW_FLAG(Type, json, "json", about)

/* Of the commands that compile. */
#define CLI_ABOUT_CACHE                                                                                                            \
    "Compiled kernels are stored in $MOSSC_CACHE_DIR, else $XDG_CACHE_HOME/mossc/kernels, else ~/.cache/mossc/kernels, up to "     \
    "$MOSSC_CACHE_SIZE MiB (default 64); the least recently used ones are removed first."

extern const char *const cli_isa_words[]; /* NULL-terminated; "best" first */
extern const char *const cli_debugger_words[]; /* NULL-terminated; by CgDebugger */

/* What every command says of the model that it compiles and runs: the first member of its struct, CliCommand.runs_model. */
typedef struct CliModelOptions {
    CliTexts sets, weights;
    int64_t threads;
    bool progress, verify, no_cache, no_tune, fast;
    int isa, debugger;
    const char *device; /* NULL: cpu */
    bool off[PS_PASS_COUNT];
    CliReporter reporter; /* of cli_build_options */
} CliModelOptions;

/* What a command gets from main, and what cli_parse adds. */
typedef struct CliArgs {
    int argc;
    char **argv; /* after the command's name */
    const char **positionals; /* in `arena` */
    size_t n_positionals;
    SuArena arena; /* main frees it */
} CliArgs;

typedef struct CliCommand CliCommand;
struct CliCommand {
    const char *name;
    const char *summary; /* a line of the table of commands */
    const char *synopsis; /* after the name in the usage line */
    const char *about; /* paragraphs of the help text */
    const char *examples; /* lines, each a command or a # comment */
    const CliOption *options;
    size_t n_options;
    bool runs_model; /* its struct begins with a CliModelOptions, and it has their rows too, but for weights, verify and those whose
                        names its own table has */
    size_t least_positionals, most_positionals;
    const char *const *words; /* what they may be, NULL-terminated; NULL: files */
    bool takes_given; /* it calls cli_take_given: what its first positional names may bring the weights */
    bool takes_command; /* they name a command, or are one of the words */
    const CliCommand *const *parts; /* "explore spec", NULL-terminated; NULL: none. The command runs them */
    int (*run)(const CliCommand *command, CliArgs *args);
};

enum { CLI_OPTION_NAME = 64 };
/* The rows of a command, all that its help lists, from 0 on; NULL after the last one. */
const CliOption *cli_option(const CliCommand *command, size_t i);
/* Reads args into `options` (the command's struct, holding its defaults) and args->positionals. CLI_GO, or the status to
 * exit with: --help was printed, or a usage error was reported. */
int cli_parse(const CliCommand *command, CliArgs *args, void *options);
void cli_print_help(const CliCommand *command, FILE *out);
/* Whether an output is standard output: "-". NULL is not. */
bool cli_is_standard(const char *output);
/* Reports a usage error of `command` on standard error (printf style) and returns CLI_USAGE. */
int cli_usage_error(const CliCommand *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
