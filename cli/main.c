/* mossc: the commands, and which one is meant. Nothing outside cli/ prints to a user or exits.
 *
 * Exit status: 0 all went well; 1 something the user gave (spec, weights, text, a place to write) is at fault; 2 the command
 * line was wrong; 70 a bug of ours. Data goes to standard output, everything else to standard error. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/show.h"
#include "codegen/target.h"
#include "explore/space.h"
#include "frontend/spec.h"
#include "support/file.h"
#include "support/str.h"

static const CliCommand *const commands[] = {
    &cli_check,  /* is the spec right, and how big is the model? */
    &cli_run,    /* text */
    &cli_chat,   /* a conversation */
    &cli_eval,   /* how well a model predicts a text */
    &cli_logits, /* numbers for other programs */
    &cli_bench,  /* speed */
    &cli_init,   /* fresh weights */
    &cli_import, /* models of others */
    &cli_export, /* and for others */
    &cli_info,   /* what is this file? */
    &cli_compile, /* for a phone, a board, or this machine */
    &cli_quantize, /* weights of 8 and 4 bits */
    &cli_pack,   /* weights that load in milliseconds */
    &cli_warm,   /* kernels that are there already */
    &cli_cache,  /* where they are kept */
    &cli_explore, /* which spec is best? */
    &cli_explain, /* what a step does, and its bottleneck */
    &cli_tune,   /* faster kernels for the machine at hand */
    &cli_limits, /* what the machine can do */
    &cli_targets, /* what code can be made for */
    &cli_ir,     /* what the compiler sees */
    &cli_asm,    /* what it makes */
    &cli_schema, /* for editors */
    &cli_completion, /* for shells */
    &cli_man,    /* for man */
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

const CliCommand *cli_command(size_t i) {
    for (size_t c = 0; c < N_COMMANDS; c++) {
        if (i-- == 0) return commands[c];
        for (const CliCommand *const *part = commands[c]->parts; part && *part; part++)
            if (i-- == 0) return *part;
    }
    return NULL;
}

static const CliCommand *find_command(const char *name) {
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static void print_overview(FILE *out) {
    fputs("usage: mossc COMMAND ARGUMENTS\n"
          "       mossc help [COMMAND | keys | space]\n"
          "\n" CLI_ABOUT_MOSSC "\n"
          "commands:\n",
          out);
    for (size_t i = 0; i < N_COMMANDS; i++) fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fputs("  help       this text, `help COMMAND`, `help keys`: every key of the spec language, or\n"
          "             `help space`: every key of a space of specs\n"
          "\n"
          "`mossc COMMAND --help` tells a command's options and gives examples; `mossc --version` the version.\n"
          "\n"
          "examples:\n"
          "  mossc check specs/moss-tiny.yaml\n"
          "  mossc run specs/moss-tiny.yaml -w models/moss-tiny.safetensors --prompt 'It was a dark evening'\n",
          out);
}

/* What `mossc help` knows besides the commands. */
static const struct {
    const char *name;
    void (*print)(SuText *out);
} topics[] = {{"keys", fe_print_keys}, {"space", ex_print_keys}};
enum { N_TOPICS = sizeof topics / sizeof topics[0] };

static const char *const topic_words[] = {"keys", "space", NULL};
_Static_assert(sizeof topic_words / sizeof *topic_words == N_TOPICS + 1, "the words of all topics");
const CliCommand cli_help_words = {
    .name = "help", .summary = "tell about a command or a topic", .words = topic_words, .takes_command = true};

/* `what`: "command" or, after help, "command or topic". */
static int unknown_command(const char *name, const char *what, bool with_topics) {
    const char *names[N_COMMANDS + N_TOPICS + 1];
    size_t count = 0;
    for (size_t i = 0; i < N_COMMANDS; i++) names[count++] = commands[i]->name;
    for (size_t i = 0; with_topics && i < N_TOPICS; i++) names[count++] = topics[i].name;
    if (!with_topics) names[count++] = "help";
    const char *near = su_nearest(name, names, count);
    fprintf(stderr, "mossc: unknown %s '%s'", what, name);
    if (near) fprintf(stderr, "; did you mean '%s'?", near);
    fputs("\nTry 'mossc --help'.\n", stderr);
    return CLI_USAGE;
}

static int help(int argc, char **argv) {
    if (argc == 0 || strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
        print_overview(stdout);
        return CLI_OK;
    }
    if (argc > 1) {
        fprintf(stderr, "mossc help: unexpected argument '%s'\nTry 'mossc --help'.\n", argv[1]);
        return CLI_USAGE;
    }
    for (size_t i = 0; i < N_TOPICS; i++) {
        if (strcmp(argv[0], topics[i].name) != 0) continue;
        SuText text = {0};
        topics[i].print(&text);
        fputs(text.text, stdout);
        su_text_free(&text);
        return CLI_OK;
    }
    const CliCommand *command = find_command(argv[0]);
    if (!command) return unknown_command(argv[0], "command or topic", true);
    cli_print_help(command, stdout);
    return CLI_OK;
}

static int run_command(const CliCommand *command, int argc, char **argv) {
    CliArgs args = {.argc = argc, .argv = argv};
    int status = command->run(command, &args);
    su_arena_free(&args.arena);
    cg_llvm_shutdown();
    return status;
}

static int dispatch(int argc, char **argv) {
    if (argc < 2) {
        print_overview(stderr);
        return CLI_USAGE;
    }
    const char *first = argv[1];
    if (strcmp(first, "help") == 0) return help(argc - 2, argv + 2);
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0) return help(0, NULL);
    if (strcmp(first, "--version") == 0) {
        puts("mossc " MOSSC_VERSION);
        return CLI_OK;
    }
    if (first[0] == '-') {
        fprintf(stderr, "mossc: expected a command before option '%s'\nTry 'mossc --help'.\n", first);
        return CLI_USAGE;
    }
    const CliCommand *command = find_command(first);
    return command ? run_command(command, argc - 2, argv + 2) : unknown_command(first, "command", false);
}

/* What ends none of the guards within (support/alloc.h) ends here. */
static int dispatch_guarded(int argc, char **argv) {
    SuDiags diags = {0};
    SuGuard guard;
    if (SU_CAUGHT(&guard, &diags, "reading the command line")) {
        cli_show(&diags);
        su_diags_free(&diags);
        return CLI_FAILED;
    }
    int status = dispatch(argc, argv);
    su_guard_end(&guard);
    return status;
}

/* A standard stream that the caller closed would be the descriptor of the first file opened, into which messages then went. Opened
 * the wrong way round: reading or writing it is still an error. */
static void fill_standard_streams(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY); /* takes the lowest that is free */
}

int main(int argc, char **argv) {
    fill_standard_streams();
    su_out_clean_on_signals();
    int status = dispatch_guarded(argc, argv);
    /* A full disk shows only here: what was printed may still lie in the buffer. */
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "mossc: error: cannot write standard output%s%s\n", errno ? ": " : "", errno ? strerror(errno) : "");
        if (status == CLI_OK) status = CLI_FAILED;
    }
    return cli_saw_bug() ? CLI_BUG : status;
}
