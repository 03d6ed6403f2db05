/* mossc man: manual pages in roff. */
#include <string.h>

#include "cli/shell/shell.h"
#include "support/directory.h"
#include "cli/show.h"
#include "support/utf8.h"

/* ---- roff */

/* Characters as they are in the source, whatever roff makes of them. */
static void add_plain(const char *text, size_t size, SuText *out) {
    bool begins = out->size == 0 || out->text[out->size - 1] == '\n';
    for (size_t i = 0; i < size;) {
        const SuUtf8 at = su_utf8_at(text + i, size - i);
        const char c = text[i];
        if (begins && (c == '.' || c == '\'')) su_text_add(out, "\\&");
        if (at.code >= 0x80)
            su_text_add(out, "\\[u%04X]", (unsigned)at.code);
        else if (c == '\\')
            su_text_add(out, "\\e");
        else if (c == '-')
            su_text_add(out, "\\-");
        else if (c == '\'')
            su_text_add(out, "\\(aq");
        else if (c == '`')
            su_text_add(out, "\\(ga");
        else if (c == '^')
            su_text_add(out, "\\(ha");
        else if (c == '~')
            su_text_add(out, "\\(ti");
        else
            su_text_append(out, &c, 1);
        begins = c == '\n';
        i += at.size;
    }
}

/* Paragraphs: empty lines become .PP. */
static void add_text(const char *text, const char *paragraph, SuText *out) {
    for (const char *at = text; *at;) {
        const size_t size = strcspn(at, "\n");
        add_plain(at, size, out);
        su_text_add(out, "%s\n", size ? "" : paragraph);
        at += size + (at[size] == '\n');
    }
}

static void add_bold(const char *dashes, const char *text, SuText *out) {
    su_text_add(out, "\\fB");
    add_plain(dashes, strlen(dashes), out);
    add_plain(text, strlen(text), out);
    su_text_add(out, "\\fR");
}

/* "mossc-explore-spec" */
static void add_page(const char *name, SuText *out) {
    su_text_add(out, "mossc");
    if (*name) su_text_add(out, "-");
    for (; *name; name++) su_text_append(out, *name == ' ' ? "-" : name, 1);
}

static void add_heading(const char *name, const char *summary, SuText *out) {
    SuText page = {0};
    add_page(name, &page);
    su_text_add(out, ".\\\" made by `mossc man`\n.TH ");
    for (size_t i = 0; i < page.size; i++) {
        const char c = (char)(page.text[i] >= 'a' && page.text[i] <= 'z' ? page.text[i] - 32 : page.text[i]);
        add_plain(&c, 1, out);
    }
    su_text_add(out, " 1 \"\" \"mossc " MOSSC_VERSION "\" \"mossc\"\n.SH NAME\n");
    add_plain(page.text, page.size, out);
    su_text_add(out, " \\- ");
    add_plain(summary, strlen(summary), out);
    su_text_add(out, "\n");
    su_text_free(&page);
}

static void add_status(SuText *out) {
    su_text_add(
        out, ".SH EXIT STATUS\n0: all went well. 1: something given (spec, weights, text, a place to write) is at fault. 2: wrong "
             "usage. 70: a bug of mossc.\n");
}

/* ---- pages */

static void add_option(const CliOption *option, SuText *out) {
    char name[CLI_OPTION_NAME];
    for (int part = 0; cli_option_name(option, part, name); part++) {
        const char letter[2] = {option->letter, '\0'};
        su_text_add(out, ".TP\n");
        if (option->letter) {
            add_bold("-", letter, out);
            su_text_add(out, ", ");
        }
        if (strlen(name) == 2) {
            add_bold("-", name, out);
            su_text_add(out, ", ");
        }
        add_bold("--", name, out);
        if (option->argument) {
            su_text_add(out, " \\fI");
            add_plain(option->argument, strlen(option->argument), out);
            su_text_add(out, "\\fR");
        }
        su_text_add(out, "\n");
        add_text(option->kind == CLI_NO_PASSES ? ps_pass_help((PsPass)part) : option->help, ".IP", out);
        if (option->needed) su_text_add(out, "(needed)\n");
    }
}

void cli_print_man(const CliCommand *command, SuText *out) {
    add_heading(command->name, command->summary, out);
    su_text_add(out, ".SH SYNOPSIS\n\\fBmossc ");
    add_plain(command->name, strlen(command->name), out);
    su_text_add(out, "\\fR ");
    add_plain(command->synopsis, strlen(command->synopsis), out);
    su_text_add(out, "\n.SH DESCRIPTION\n");
    add_text(command->about, ".PP", out);
    su_text_add(out, ".SH OPTIONS\n");
    for (size_t i = 0; cli_option(command, i); i++) add_option(cli_option(command, i), out);
    su_text_add(out, ".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nprint the help text\n.SH EXAMPLES\n.nf\n");
    for (const char *line = command->examples; *line;) {
        const size_t size = strcspn(line, "\n");
        add_plain(line, size, out);
        su_text_add(out, "\n");
        line += size + (line[size] == '\n');
    }
    su_text_add(out, ".fi\n");
    add_status(out);
    su_text_add(out, ".SH SEE ALSO\n\\fBmossc\\fR(1)\n");
}

void cli_print_man_overview(SuText *out) {
    add_heading("", "compiler of state-space language models with experts", out);
    su_text_add(
        out, ".SH SYNOPSIS\n\\fBmossc\\fR \\fICOMMAND\\fR [\\fIARGUMENT\\fR]...\n.br\n\\fBmossc help\\fR [\\fICOMMAND\\fR | keys | "
             "space]\n.SH DESCRIPTION\n");
    add_text(CLI_ABOUT_MOSSC, ".PP", out);
    su_text_add(out, ".SH COMMANDS\n");
    for (size_t i = 0; cli_command(i); i++) {
        const CliCommand *command = cli_command(i);
        su_text_add(out, ".TP\n\\fB");
        add_page(command->name, out);
        su_text_add(out, "\\fR(1)\n");
        add_plain(command->summary, strlen(command->summary), out);
        su_text_add(out, "\n");
    }
    su_text_add(out, ".SH FILES\n");
    add_text(CLI_ABOUT_CACHE, ".PP", out);
    add_status(out);
}

/* ---- the command */

typedef struct ManOptions {
    const char *output;
} ManOptions;

static bool write_page(SuDirectory *directory, const CliCommand *command, SuDiags *diags) {
    SuText name = {0}, page = {0};
    add_page(command ? command->name : "", &name);
    su_text_add(&name, ".1");
    if (command)
        cli_print_man(command, &page);
    else
        cli_print_man_overview(&page);
    const bool ok = su_directory_write(directory, name.text, page.text, page.size, diags);
    su_text_free(&name);
    su_text_free(&page);
    return ok;
}

/* A page of mossc and one of each command. */
static bool write_all(const char *path, SuDiags *diags) {
    SuDirectory directory;
    if (!su_directory_open(path, &directory, diags)) return false;
    bool ok = write_page(&directory, NULL, diags);
    for (size_t i = 0; ok && cli_command(i); i++) ok = write_page(&directory, cli_command(i), diags);
    if (ok) return su_directory_commit(&directory, diags);
    su_directory_abort(&directory, diags);
    return false;
}

static const CliOption table[] = {
    CLI_ROW_TEXT(ManOptions, output, "output", 'o', "DIR", false, "make a directory with the pages of all commands"),
};

static const CliCommand *find(const char *name) {
    for (size_t i = 0; cli_command(i); i++)
        if (strcmp(cli_command(i)->name, name) == 0) return cli_command(i);
    return NULL;
}

static int run(const CliCommand *command, CliArgs *args) {
    ManOptions o = {0};
    const int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    if (o.output && args->n_positionals) return cli_usage_error(command, "-o DIR is for the pages of all commands");
    if (o.output) {
        SuDiags diags = {0};
        const bool ok = write_all(o.output, &diags);
        return cli_finish(&diags, ok);
    }
    const char *name = args->n_positionals == 0   ? NULL
                       : args->n_positionals == 1 ? args->positionals[0]
                                                  : su_printf(&args->arena, "%s %s", args->positionals[0], args->positionals[1]);
    const CliCommand *of = name ? find(name) : NULL;
    if (name && !of) return cli_usage_error(command, "no command is called '%s'", name);
    SuText page = {0};
    if (of)
        cli_print_man(of, &page);
    else
        cli_print_man_overview(&page);
    fputs(page.text, stdout);
    su_text_free(&page);
    return CLI_OK;
}

const CliCommand cli_man = {
    .name = "man",
    .summary = "print the manual page of a command",
    .synopsis = "[COMMAND] | -o DIR",
    .about = "Prints a manual page in roff, as man reads it: of a command, or of mossc. Installing mossc installs all of them.",
    .examples = "mossc man bench | man -l -\n"
                "mossc man -o man1\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .takes_command = true,
    .most_positionals = 2,
    .run = run,
};
