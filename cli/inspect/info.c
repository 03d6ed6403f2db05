/* mossc info: what a file or a directory is. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/format.h"
#include "cli/show.h"
#include "import/about.h"

typedef struct InfoOptions {
    bool tensors, digest, json;
} InfoOptions;

enum { MOST_SHOWN = 100, SHAPE = 192 };

/* ---- for programs */

static void add_facts(cJSON *root, const char *name, const ImFacts *facts) {
    cJSON *object = cJSON_AddObjectToObject(root, name);
    for (size_t i = 0; i < facts->count; i++) {
        const ImFact *fact = &facts->items[i];
        if (fact->plain)
            cJSON_AddRawToObject(object, fact->key, fact->value);
        else
            cJSON_AddStringToObject(object, fact->key, fact->value);
    }
}

static void add_tensors(cJSON *root, const ImAbout *about) {
    cJSON *list = cJSON_AddArrayToObject(root, "tensors");
    for (size_t i = 0; i < about->n_tensors; i++) {
        const ImAboutTensor *t = &about->tensors[i];
        cJSON *item = cJSON_CreateObject(), *shape;
        cJSON_AddItemToArray(list, item);
        cJSON_AddStringToObject(item, "name", t->name);
        cJSON_AddStringToObject(item, "dtype", t->dtype);
        shape = cJSON_AddArrayToObject(item, "shape");
        for (int d = 0; d < t->rank; d++) cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->shape[d]));
        cJSON_AddNumberToObject(item, "bytes", (double)t->bytes);
    }
}

static void print_json(ImAbout *about, const char *path, bool tensors) {
    size_t count;
    const ImAboutClass *classes = im_about_classes(about, &count);
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "path", path);
    cJSON_AddStringToObject(root, "what", about->what);
    cJSON_AddNumberToObject(root, "bytes", (double)about->bytes);
    add_facts(root, "facts", &about->facts);
    add_facts(root, "metadata", &about->metadata);
    cJSON *list = cJSON_AddArrayToObject(root, "classes");
    for (size_t i = 0; i < count; i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddItemToArray(list, item);
        cJSON_AddStringToObject(item, "name", classes[i].name);
        cJSON_AddStringToObject(item, "dtype", classes[i].dtype);
        cJSON_AddNumberToObject(item, "tensors", (double)classes[i].tensors);
        cJSON_AddNumberToObject(item, "elements", (double)classes[i].elements);
        cJSON_AddNumberToObject(item, "bytes", (double)classes[i].bytes);
    }
    if (tensors) add_tensors(root, about);
    cli_json_print(root);
}

/* ---- for people */

/* A text of a file, on one line, without what a terminal would obey. */
static void print_text(const char *text) {
    int shown = 0;
    for (; *text && shown < MOST_SHOWN; text++) {
        const unsigned char c = (unsigned char)*text;
        const bool control = c < ' ' || c == 0x7F, c1 = c == 0xC2 && (unsigned char)text[1] < 0xA0;
        if (c1) text++;
        putchar(control || c1 ? ' ' : c);
        shown += (c & 0xC0) != 0x80; /* characters, not bytes */
        if (shown == MOST_SHOWN)
            while (((unsigned char)text[1] & 0xC0) == 0x80) putchar(*++text);
    }
    if (*text) fputs("...", stdout);
}

static void print_facts(const ImFacts *facts) {
    for (size_t i = 0; i < facts->count; i++) {
        fputs("  ", stdout);
        print_text(facts->items[i].key);
        printf("%*s ", (int)(strlen(facts->items[i].key) < 24 ? 24 - strlen(facts->items[i].key) : 0), "");
        print_text(facts->items[i].value);
        putchar('\n');
    }
}

static void print_tensors(const ImAbout *about) {
    char size[CLI_NUMBER], shape[SHAPE];
    printf("\n  %-8s %10s  %-24s %s\n", "dtype", "size", "shape", "tensor");
    for (size_t i = 0; i < about->n_tensors; i++) {
        const ImAboutTensor *t = &about->tensors[i];
        int at = snprintf(shape, sizeof shape, "[");
        for (int d = 0; d < t->rank; d++)
            at += snprintf(shape + at, sizeof shape - (size_t)at, "%s%" PRIu64, d ? ", " : "", t->shape[d]);
        snprintf(shape + at, sizeof shape - (size_t)at, "]");
        fputs("  ", stdout);
        print_text(t->dtype);
        printf("%*s %10s  %-24s ", (int)(strlen(t->dtype) < 8 ? 8 - strlen(t->dtype) : 0), "", cli_bytes((double)t->bytes, size),
               shape);
        print_text(t->name);
        putchar('\n');
    }
}

static void print_classes(ImAbout *about) {
    char size[CLI_NUMBER], elements[CLI_NUMBER];
    size_t count;
    const ImAboutClass *classes = im_about_classes(about, &count);
    printf("\n  %-8s %8s %10s %10s  %s\n", "dtype", "tensors", "elements", "size", "name");
    for (size_t i = 0; i < count; i++) {
        const ImAboutClass *c = &classes[i];
        fputs("  ", stdout);
        print_text(c->dtype);
        printf("%*s %8" PRIu64 " %10s %10s  ", (int)(strlen(c->dtype) < 8 ? 8 - strlen(c->dtype) : 0), "", c->tensors,
               cli_count((double)c->elements, elements), cli_bytes((double)c->bytes, size));
        print_text(c->name);
        putchar('\n');
    }
}

static void print(ImAbout *about, const char *path, bool tensors) {
    char size[CLI_NUMBER], elements[CLI_NUMBER];
    uint64_t sum = 0;
    for (size_t i = 0; i < about->n_tensors; i++) sum += about->tensors[i].elements;
    printf("%s: %s, %s", path, about->what, cli_bytes((double)about->bytes, size));
    if (about->n_tensors) printf(", %zu tensors of %s elements", about->n_tensors, cli_count((double)sum, elements));
    printf("\n");
    if (about->facts.count) printf("\n");
    print_facts(&about->facts);
    if (about->metadata.count) printf("\n");
    print_facts(&about->metadata);
    if (about->n_tensors) (tensors ? print_tensors(about) : print_classes(about));
}

/* ---- the command */

static const CliOption table[] = {
    CLI_ROW_FLAG(InfoOptions, tensors, "tensors", "every tensor, in place of a summary"),
    CLI_ROW_FLAG(InfoOptions, digest, "digest",
                 "read every byte: a digest of each file, and packed tensors against the digests that they were written with"),
    CLI_OPTION_JSON(InfoOptions, "print one JSON object"),
};

static int run(const CliCommand *command, CliArgs *args) {
    InfoOptions o = {0};
    const int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    SuDiags diags = {0};
    ImAbout about;
    const bool ok = im_about(args->positionals[0], o.digest, &about, &diags);
    if (ok) (o.json ? print_json : print)(&about, args->positionals[0], o.tensors);
    const int end = cli_finish(&diags, ok);
    im_about_free(&about);
    return end;
}

const CliCommand cli_info = {
    .name = "info",
    .summary = "tell what a file or directory is, and what it holds",
    .synopsis = "FILE|DIRECTORY [OPTION]...",
    .about =
        "Knows checkpoints (safetensors files, indexes of shards and folders that hold them, GGUF files), packed weights, states, "
        "tokenizers (tokenizer.json, and the packed form), specs, directories of mossc import, and artefacts of mossc compile. "
        "Prints "
        "what it is, its sizes, what the file says of itself, and its tensors: a line for all whose names differ in numbers "
        "alone.\n\n"
        "A packed file's identity is that of its weights, which a state names too. Digests are XXH3 of 128 bits. A file that is "
        "damaged, or lies about its sizes, is an error.",
    .examples = "mossc info models/granite-4.0-h-1b\n"
                "mossc info model.gguf --tensors\n"
                "mossc info weights.moss --digest --json\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
