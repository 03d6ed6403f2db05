/* A program that knows mossc by its installed headers and library alone: compiles a spec, loads weights, and goes on with a text. Half
 * way it saves the state, forgets all of it, and goes on from the file.
 *
 *   whole SPEC WEIGHTS PROMPT TOKENS STATE     the text
 *   whole --about SPEC                         what the spec says and costs, as JSON
 *   whole --fresh SPEC WEIGHTS                 writes weights of seed 7; whether a model of them gives the logits of a fresh one */
#include <mossc/mossc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(MossError error) {
    if (error.code == MOSS_OK) return;
    fprintf(stderr, "whole: code %d: %s\n", (int)error.code, error.text);
    exit(1);
}

static void print_diags(const MosscDiags *diags) {
    for (size_t i = 0; i < mossc_diags_count(diags); i++) {
        MosscDiag d = mossc_diags_at(diags, i);
        fprintf(stderr, "%d %s %s %u %u %u [%s] [%s]\n", (int)d.severity, d.code, d.path, d.line, d.column, d.length, d.message,
                d.hint);
    }
}

static MosscSpec *open_spec(const char *path) {
    MosscDiags *diags = mossc_diags_create();
    MosscSpec *spec;
    MossError error = mossc_spec_open(path, NULL, 0, diags, &spec);
    print_diags(diags);
    mossc_diags_free(diags);
    check(error);
    return spec;
}

static MosscCompiled *compile(const MosscSpec *spec) {
    MosscCompileOptions options = {.size = sizeof options, .device = "cpu"};
    MosscCompiled *compiled;
    check(mossc_compile(spec, &options, NULL, &compiled));
    return compiled;
}

/* ---- the text */

static bool show(void *context, int32_t token, const char *text, size_t size) {
    (void)context, (void)token;
    return fwrite(text, 1, size, stdout) == size;
}

static int write_text(char **arguments) {
    MosscSpec *spec = open_spec(arguments[0]);
    MosscCompiled *compiled = compile(spec);
    MossTokenizer *tokenizer;
    MossModel *model;
    MossState *state;
    const char *weights = arguments[1], *prompt = arguments[2], *saved = arguments[4];
    uint64_t count = strtoull(arguments[3], NULL, 10);
    check(mossc_tokenizer_open(spec, NULL, &tokenizer));
    mossc_spec_free(spec);
    check(mossc_model_open(compiled, &weights, 1, &(MossOptions){.size = sizeof(MossOptions), .threads = 1}, NULL, &model));
    check(moss_state_create(model, &state));
    MossTokens tokens = {0};
    check(moss_encode(tokenizer, prompt, strlen(prompt), &tokens));
    check(moss_feed(model, state, tokens.ids, tokens.count, 0));
    MossSampler sampler = {.temperature = 0.8f, .top_k = 40, .top_p = 1, .state = 0};
    MossStop stop;
    fputs(prompt, stdout);
    check(moss_complete(model, state, tokenizer, &sampler, count / 2, show, NULL, &stop));
    if (stop != MOSS_STOP_COUNT) return 3;
    check(moss_state_save(state, saved));
    moss_state_free(state);
    check(moss_state_load(model, saved, &state));
    if (moss_state_position(state) != (int64_t)(tokens.count + count / 2)) return 4;
    check(moss_complete(model, state, tokenizer, &sampler, count - count / 2, show, NULL, &stop));
    moss_tokens_free(&tokens);
    moss_state_free(state);
    moss_model_free(model);
    mossc_compiled_free(compiled);
    moss_tokenizer_free(tokenizer);
    mossc_shutdown();
    return 0;
}

/* ---- what a spec says */

/* The tensors make up the parameters; there is none behind the last. */
static void check_tensors(MosscSpec *spec, double parameters) {
    int64_t count;
    MosscTensor tensor;
    double sum = 0;
    check(mossc_spec_n_tensors(spec, &count));
    for (int64_t i = 0; i < count; i++) {
        check(mossc_spec_tensor(spec, i, &tensor, sizeof tensor));
        double elements = 1;
        for (int64_t d = 0; d < tensor.rank; d++) elements *= (double)tensor.shape[d];
        sum += elements;
    }
    if (sum != parameters || mossc_spec_tensor(spec, count, &tensor, sizeof tensor).code != MOSS_BAD_INPUT) exit(9);
}

static int tell(const char *path) {
    MosscSpec *spec = open_spec(path);
    MosscCost cost, part, sum = {0};
    MosscBlock block;
    char *json;
    check(mossc_spec_print(spec, MOSSC_JSON, &json, NULL));
    check(mossc_spec_cost(spec, 1023, &cost, sizeof cost));
    for (int64_t i = -1; i < mossc_spec_n_blocks(spec); i++) {
        check(mossc_spec_block_cost(spec, i, 1023, &part, sizeof part));
        sum.parameters += part.parameters, sum.state_bytes += part.state_bytes, sum.flops += part.flops;
    }
    if (sum.parameters != cost.parameters || sum.state_bytes != cost.state_bytes || sum.flops != cost.flops) return 5;
    check(mossc_spec_block(spec, 0, &block, sizeof block));
    if (mossc_spec_block(spec, mossc_spec_n_blocks(spec), &block, sizeof block).code != MOSS_BAD_INPUT) return 6;
    check_tensors(spec, cost.parameters);
    printf("{\"name\": \"%s\", \"vocab_size\": %lld, \"d_model\": %lld, \"n_blocks\": %lld, \"kind\": \"%s\", \"experts\": %lld,",
           mossc_spec_name(spec), (long long)mossc_spec_vocab_size(spec), (long long)mossc_spec_d_model(spec),
           (long long)mossc_spec_n_blocks(spec), block.kind, (long long)block.experts);
    printf(" \"parameters\": %.0f, \"active_parameters\": %.0f, \"weight_bytes\": %.0f, \"state_bytes\": %.0f,", cost.parameters,
           cost.active_parameters, cost.weight_bytes, cost.state_bytes);
    printf(" \"flops_per_token\": %.0f, \"bytes_per_token\": %.0f, \"hash\": \"", cost.flops, cost.token_bytes);
    for (int i = 0; i < 16; i++) printf("%02x", mossc_spec_hash(spec)[i]);
    printf("\", \"spec\": %s}\n", json);
    mossc_text_free(json);
    mossc_spec_free(spec);
    return 0;
}

/* ---- fresh weights; a spec's text that is not a file */

static MosscSpec *parse_printed(const MosscSpec *spec) {
    char *yaml;
    size_t size;
    MosscSpec *again;
    check(mossc_spec_print(spec, MOSSC_YAML, &yaml, &size));
    check(mossc_spec_parse("printed", yaml, size, NULL, 0, NULL, &again));
    mossc_text_free(yaml);
    return again;
}

static int compare_fresh(const char *path, const char *weights) {
    MosscSpec *spec = open_spec(path), *again = parse_printed(spec);
    if (memcmp(mossc_spec_hash(spec), mossc_spec_hash(again), 16) != 0) return 7;
    check(mossc_fresh_write(spec, 7, weights, NULL, NULL, NULL));
    MosscCompiled *compiled = compile(again);
    const MossProgram *program = mossc_compiled_program(compiled);
    MossModel *models[2];
    MossState *states[2];
    const int32_t token = 1;
    check(mossc_model_open(compiled, &weights, 1, NULL, NULL, &models[0]));
    check(mossc_model_fresh(compiled, 7, NULL, NULL, &models[1]));
    for (int i = 0; i < 2; i++) {
        check(moss_state_create(models[i], &states[i]));
        check(moss_feed(models[i], states[i], &token, 1, 0));
    }
    size_t bytes = (size_t)moss_program_vocab_size(program) * sizeof(float);
    bool same = memcmp(moss_state_logits(states[0]), moss_state_logits(states[1]), bytes) == 0;
    for (int i = 0; i < 2; i++) moss_state_free(states[i]), moss_model_free(models[i]);
    mossc_compiled_free(compiled);
    mossc_spec_free(spec);
    mossc_spec_free(again);
    return same ? 0 : 8;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--about") == 0) return tell(argv[2]);
    if (argc == 4 && strcmp(argv[1], "--fresh") == 0) return compare_fresh(argv[2], argv[3]);
    return argc == 6 ? write_text(argv + 1) : 2;
}
