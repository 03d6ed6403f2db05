/* A program that has a model linked in (tiny.o and tiny.h of `mossc compile`) and runs it with libmoss and moss.h alone.
 *
 *   embedded DIRECTORY PROMPT TOKENS */
#include "tiny.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(MossError error) {
    if (error.code == MOSS_OK) return;
    fprintf(stderr, "embedded: %s\n", error.text);
    exit(1);
}

static bool show(void *context, int32_t token, const char *text, size_t size) {
    (void)context, (void)token;
    return fwrite(text, 1, size, stdout) == size;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    MossModel *model;
    MossState *state;
    MossTokenizer *tokenizer;
    MossTokens prompt = {0};
    MossSampler sampler = {.temperature = 0.8f, .top_k = 40, .top_p = 1, .state = 0};
    if (moss_program_state_bytes(&tiny_program) != TINY_STATE_BYTES) return 3;
    check(tiny_open(argv[1], NULL, &model));
    check(tiny_tokenizer(argv[1], &tokenizer));
    check(moss_state_create(model, &state));
    check(moss_encode(tokenizer, argv[2], strlen(argv[2]), &prompt));
    check(moss_feed(model, state, prompt.ids, prompt.count, 0));
    fputs(argv[2], stdout);
    check(moss_complete(model, state, tokenizer, &sampler, strtoull(argv[3], NULL, 10), show, NULL, NULL));
    moss_tokens_free(&prompt);
    moss_tokenizer_free(tokenizer);
    moss_state_free(state);
    moss_model_free(model);
    return 0;
}
