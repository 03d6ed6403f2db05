/* Runs any artefact's NAME.so: tokens in, logits out. Built once for a target (with any artefact's mossrt/), it serves every model,
 * so that many are compared quickly: only the shared object is made for each.
 *
 *   driver NAME.so SYMBOL FILE.weights TOKENS OUT [--chunk N] [--threads N] [--state-in FILE] [--state-out FILE]
 *
 * TOKENS is a file of numbers; OUT gets float32 [tokens][vocab_size], the logits after each, without a header. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mossc/moss.h"

static void die(const char *what, const char *why) {
    fprintf(stderr, "driver: %s: %s\n", what, why);
    exit(1);
}

static void check(MossError error) {
    if (error.code != MOSS_OK) die("the runtime", error.text);
}

static const void *symbol(void *library, const char *name, const char *suffix) {
    char text[256];
    snprintf(text, sizeof text, "%s_%s", name, suffix);
    const void *found = dlsym(library, text);
    if (!found) die(text, dlerror());
    return found;
}

static int32_t *read_tokens(const char *path, uint32_t *out_count) {
    FILE *file = fopen(path, "r");
    int32_t *tokens = NULL, token;
    uint32_t count = 0;
    if (!file) die(path, "cannot be opened");
    while (fscanf(file, "%d", &token) == 1) {
        tokens = realloc(tokens, (count + 1) * sizeof *tokens);
        if (!tokens) die(path, "no memory");
        tokens[count++] = token;
    }
    fclose(file);
    *out_count = count;
    return tokens;
}

static const char *option(int argc, char **argv, const char *name) {
    for (int i = 6; i + 1 < argc; i += 2)
        if (strcmp(argv[i], name) == 0) return argv[i + 1];
    return NULL;
}

static void run(MossModel *model, MossState *state, const int32_t *tokens, uint32_t count, uint32_t chunk, FILE *out) {
    size_t vocab = (size_t)moss_program_vocab_size(moss_model_program(model));
    for (uint32_t at = 0, n; at < count; at += n) {
        n = count - at < chunk ? count - at : chunk;
        MossSegment segment = {.state = state, .tokens = tokens + at, .count = n, .logits = MOSS_ALL_LOGITS};
        check(moss_step(model, &segment, 1));
        for (uint32_t i = 0; i < n; i++) fwrite(moss_logits(model, i), sizeof(float), vocab, out);
    }
}

int main(int argc, char **argv) {
    if (argc < 6)
        die("usage", "driver NAME.so SYMBOL FILE.weights TOKENS OUT [--chunk N] [--threads N] [--state-in F] [--state-out F]");
    const char *chunk = option(argc, argv, "--chunk"), *threads = option(argc, argv, "--threads");
    const char *state_in = option(argc, argv, "--state-in"), *state_out = option(argc, argv, "--state-out");
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library) die(argv[1], dlerror());
    const MossProgram *program = symbol(library, argv[2], "program");
    MossOptions options = {.size = sizeof options, .threads = threads ? atoi(threads) : 1, .no_pin = true, .verify = true};
    MossModel *model;
    MossState *state;
    uint32_t count, most = chunk ? (uint32_t)atoi(chunk) : (uint32_t)moss_program_max_rows(program);
    int32_t *tokens = read_tokens(argv[4], &count);
    check(moss_model_open(program, symbol(library, argv[2], "codes"), argv[3], &options, &model));
    check(state_in ? moss_state_load(model, state_in, &state) : moss_state_create(model, &state));
    FILE *out = fopen(argv[5], "wb");
    if (!out) die(argv[5], "cannot be written");
    run(model, state, tokens, count, most, out);
    if (fclose(out) != 0) die(argv[5], "cannot be written");
    if (state_out) check(moss_state_save(state, state_out));
    moss_state_free(state);
    moss_model_free(model);
    free(tokens);
    return 0;
}
