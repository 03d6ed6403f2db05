/* Models compiled on this machine for another one, with what they must answer.
 *
 *     make_cases --out DIRECTORY --count N [--seed S] [--all] [--blocks | --fast] [--spec FILE -w CHECKPOINT [--spec-targets N]] TARGET…
 *
 * writes, for N random specs (each for one of the targets in turn, or for all of them with --all) and for the spec given (for all
 * targets, or for the last N of them), an object, packed weights, tokens and logits; and cases.c, which lists them. The logits of random specs are those of
 * eval32, which defines the bits; a given spec's come from the code for this machine. Every other random spec has q8 and q4 weights, with
 * --blocks all; with --fast they have bf16 weights, and their steps of several rows round inputs to bf16. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/artefact.h"
#include "codegen/target.h"
#include "frontend/lower.h"
#include "ir/eval.h"
#include "schedule/schedule.h"
#include "ir/program.h"
#include "mossc/moss.h"
#include "runtime/safetensors.h"
#include "support/str.h"
#include "tests/random/draw.h"
#include "tests/random/rng.h"
#include "tests/random/weights.h"

/* An emulated vector instruction takes 20 ns and more, so sequences are short; one in LONG_EVERY keeps its length, which may pass 256. */
enum { GIVEN_TOKENS = 14, MOST_TOKENS = 17, LONG_EVERY = 20, MAX_TRIES = 40 };
/* As in tests/random/test_random.c. */
#define FAST_TOLERANCE 6e-2
#define FAST_GAP 4e-3

typedef struct Options {
    uint64_t seed;
    int64_t count, spec_targets; /* 0: all */
    const char *out, *spec, *weights;
    bool all, blocks, fast;
    char **targets;
    int n_targets;
} Options;

typedef struct Maker {
    const Options *options;
    SuDiags diags;
    SuText declarations, rows;
    int made, of_dtype[IR_STORED_DTYPES];
} Maker;

/* One spec on its way through the compiler. */
typedef struct Model {
    Maker *maker;
    char name[32], what[96];
    FeSpec spec;
    SuArena arena;
    IrGraph *naive;
    const PgProgram *program;
    int32_t *tokens; /* [T] */
    float *logits; /* [T][V] */
    int64_t T, V;
    bool fast;
} Model;

/* ---------------------------------------------------------------------------------------------- files */

static const char *path_of(Model *m, const char *suffix) {
    return su_printf(&m->arena, "%s/%s.%s", m->maker->options->out, m->name, suffix);
}

static bool write_file(Model *m, const char *suffix, const void *bytes, size_t size) {
    const char *path = path_of(m, suffix);
    FILE *file = fopen(path, "wb");
    bool ok = file != NULL && fwrite(bytes, 1, size, file) == size;
    ok = file != NULL && fclose(file) == 0 && ok;
    return ok || su_error(&m->maker->diags, su_file_span(&m->maker->diags, path), NULL, "cannot be written");
}

static bool moss_ok(Model *m, MossError error) {
    return error.code == MOSS_OK || su_error(&m->maker->diags, (SuSpan){0}, NULL, "%s", error.text);
}

/* ---------------------------------------------------------------------------------------------- the compiler */

static bool compile(Model *m) {
    PsOptions passes = {.bf16_inputs = m->fast};
    IrGraph *graph = fe_lower(&m->spec, &m->arena);
    m->naive = fe_lower(&m->spec, &m->arena);
    m->V = m->spec.vocab_size;
    m->maker->of_dtype[m->spec.weights.dtype]++;
    return ps_fuse(graph, &passes, &m->maker->diags) && sc_program(graph, &passes, &m->arena, &m->program, &m->maker->diags);
}

static bool emit_object(Model *m, const char *target_name, int index) {
    CgTarget target;
    SuDiags *diags = &m->maker->diags;
    if (!cg_target_by_name(target_name, &target, diags)) return false;
    char *bytes = NULL;
    size_t size = 0;
    FILE *object = open_memstream(&bytes, &size);
    const char *symbol = su_printf(&m->arena, "%s_%d", m->name, index), *suffix = su_printf(&m->arena, "%d.o", index);
    bool ok = cg_llvm_artefact(&target, m->program, symbol, CG_OBJECT, object, diags);
    ok = fclose(object) == 0 && ok && write_file(m, suffix, bytes, size);
    free(bytes);
    cg_target_free(&target);
    su_text_add(&m->maker->declarations, "extern const PgProgram %s_program;\nextern const PgCode %s_codes[];\n", symbol, symbol);
    su_text_add(&m->maker->rows, "    {\"%s\", \"%s, %s\", &%s_program, %s_codes, %lld, %lld, %g},\n", m->name, target_name,
                m->what, symbol, symbol, (long long)m->T, (long long)m->V, m->fast ? FAST_TOLERANCE : 0.0);
    m->maker->made++;
    return ok;
}

/* For the targets [first, end), counted round. */
static bool emit_objects(Model *m, int first, int end) {
    const Options *o = m->maker->options;
    for (int i = first; i < end; i++)
        if (!emit_object(m, o->targets[i % o->n_targets], i % o->n_targets)) return false;
    return write_file(m, "tokens", m->tokens, (size_t)m->T * sizeof *m->tokens) &&
           write_file(m, "logits", m->logits, (size_t)(m->T * m->V) * sizeof *m->logits);
}

static void draw_tokens(Model *m, uint64_t seed) {
    Rng rng = {seed};
    m->tokens = SU_NEW_ARRAY(&m->arena, int32_t, (size_t)m->T);
    m->logits = SU_NEW_ARRAY(&m->arena, float, (size_t)(m->T * m->V));
    for (int64_t t = 0; t < m->T; t++) m->tokens[t] = (int32_t)rng_between(&rng, 0, m->V - 1);
}

/* Reports what went wrong, while the spec that it points into is there; warnings are fine. */
static void close_model(Model *m) {
    SuDiags *diags = &m->maker->diags;
    if (diags->errors > 0) su_diags_print(diags, stderr);
    su_diags_free(diags);
    *diags = (SuDiags){0};
    fe_spec_free(&m->spec);
    su_arena_free(&m->arena);
}

/* ---------------------------------------------------------------------------------------------- a random spec */

static void fill(void *context, size_t tensor, uint64_t first, uint64_t count, void *out) {
    const Weights *weights = context;
    memcpy(out, weights->drawn[tensor] + first, count * sizeof(float));
}

/* As a checkpoint, then packed. */
static bool write_weights(Model *m, Weights *weights) {
    RtWriteTensor *tensors = SU_NEW_ARRAY(&m->arena, RtWriteTensor, weights->count);
    const char *checkpoint = path_of(m, "safetensors");
    for (size_t i = 0; i < weights->count; i++) {
        tensors[i] = (RtWriteTensor){.name = weights->tensors[i].name, .rank = weights->tensors[i].rank};
        memcpy(tensors[i].shape, weights->tensors[i].shape, sizeof tensors[i].shape);
    }
    MossOptions moss = {.size = sizeof moss, .threads = 1};
    bool ok = rt_safetensors_write(checkpoint, tensors, weights->count, fill, weights, &m->maker->diags) &&
              moss_ok(m, moss_weights_pack(m->program, &checkpoint, 1, &moss, path_of(m, "weights")));
    remove(checkpoint);
    return ok;
}

static bool evaluate(Model *m, Weights *weights, double *out_gap) {
    IrEval *eval = ir_eval32_new(m->naive, weights_stored, weights);
    double *row = SU_NEW_ARRAY(&m->arena, double, (size_t)m->V);
    bool ok = true;
    for (int64_t t = 0; t < m->T && ok; t++) {
        ok = ir_eval_token(eval, m->tokens[t], row, &m->maker->diags);
        for (int64_t v = 0; v < m->V; v++) m->logits[t * m->V + v] = (float)row[v];
    }
    *out_gap = ir_eval_min_gap(eval);
    ir_eval_free(eval);
    return ok;
}

/* Weights, and what they give; with --fast such that rounding changes no choice of experts. */
static bool draw_truth(Model *m, uint64_t seed, Weights *weights) {
    double gap = 0;
    for (uint64_t attempt = 0; attempt < MAX_TRIES && gap < FAST_GAP; attempt++) {
        weights_free(weights);
        *weights = (Weights){0};
        weights_draw(&m->spec, seed + 1000000 * attempt, weights);
        if (!evaluate(m, weights, &gap)) return false;
        if (!m->fast) return true;
    }
    return gap >= FAST_GAP || su_error(&m->maker->diags, (SuSpan){0}, NULL, "no weights without a close routing decision");
}

static bool random_case(Maker *maker, int64_t index) {
    const Options *o = maker->options;
    uint64_t seed = o->seed + (uint64_t)index;
    Model m = {.maker = maker, .fast = o->fast};
    Weights weights = {0};
    SuText yaml = {0};
    snprintf(m.name, sizeof m.name, "random_%lld", (long long)index);
    snprintf(m.what, sizeof m.what, "the spec of test_random %s--seed %llu", o->blocks ? "--blocks " : "",
             (unsigned long long)seed);
    const char *set = "weights.dtype=bf16";
    int64_t T = draw_spec(seed, o->fast ? DRAW_FLOATS : o->blocks ? DRAW_BLOCKS : draw_weights_of(seed), &yaml);
    m.T = T > MOST_TOKENS && index % LONG_EVERY != LONG_EVERY - 1 ? MOST_TOKENS : T;
    bool ok = fe_spec_parse("random.yaml", yaml.text, yaml.size, &set, o->fast, &m.spec, &maker->diags) && compile(&m);
    if (ok) {
        draw_tokens(&m, seed);
        int first = o->all ? 0 : (int)(index % o->n_targets), end = o->all ? o->n_targets : first + 1;
        ok = draw_truth(&m, seed, &weights) && write_weights(&m, &weights) && emit_objects(&m, first, end);
    }
    weights_free(&weights);
    su_text_free(&yaml);
    close_model(&m);
    return ok;
}

/* ---------------------------------------------------------------------------------------------- the spec given */

static bool run_here(Model *m) {
    CgTarget host;
    CgCompiled *compiled = NULL;
    MossModel *model = NULL;
    MossState *state = NULL;
    MossOptions moss = {.size = sizeof moss, .threads = 1};
    MossSegment segment = {.tokens = m->tokens, .count = (uint32_t)m->T, .logits = MOSS_ALL_LOGITS};
    if (!cg_target_host(NULL, &host, &m->maker->diags)) return false;
    bool ok = cg_llvm_compile(&host, m->program, &(CgOptions){0}, &compiled, &m->maker->diags) &&
              moss_ok(m, moss_model_open(m->program, cg_codes(compiled), path_of(m, "weights"), &moss, &model)) &&
              moss_ok(m, moss_state_create(model, &state));
    segment.state = state;
    ok = ok && moss_ok(m, moss_step(model, &segment, 1));
    for (int64_t t = 0; t < m->T && ok; t++)
        memcpy(m->logits + t * m->V, moss_logits(model, (uint32_t)t), (size_t)m->V * sizeof(float));
    moss_state_free(state);
    moss_model_free(model);
    cg_compiled_free(compiled);
    cg_target_free(&host);
    return ok;
}

static bool given_case(Maker *maker) {
    const Options *o = maker->options;
    Model m = {.maker = maker, .name = "given", .T = GIVEN_TOKENS};
    snprintf(m.what, sizeof m.what, "%s", o->spec);
    MossOptions moss = {.size = sizeof moss, .threads = 1};
    bool ok = fe_spec_load(o->spec, NULL, 0, &m.spec, &maker->diags) && compile(&m) &&
              moss_ok(&m, moss_weights_pack(m.program, &o->weights, 1, &moss, path_of(&m, "weights")));
    if (ok) draw_tokens(&m, o->seed);
    bool all = o->spec_targets == 0 || o->spec_targets > o->n_targets;
    ok = ok && run_here(&m) && emit_objects(&m, all ? 0 : o->n_targets - (int)o->spec_targets, o->n_targets);
    close_model(&m);
    return ok;
}

/* ---------------------------------------------------------------------------------------------- all of them */

static bool write_table(const Maker *maker) {
    char path[4096];
    snprintf(path, sizeof path, "%s/cases.c", maker->options->out);
    FILE *file = fopen(path, "w");
    if (file == NULL) return false;
    fprintf(file, "#include \"cases.h\"\n\n%s\nconst Case cases[] = {\n%s};\nconst int n_cases = %d;\n", maker->declarations.text,
            maker->rows.text, maker->made);
    return fclose(file) == 0;
}

static bool make(const Options *o) {
    Maker maker = {.options = o};
    bool ok = o->spec == NULL || given_case(&maker);
    for (int64_t i = 0; i < o->count && ok; i++) ok = random_case(&maker, i);
    ok = ok && write_table(&maker);
    if (ok) {
        printf("%d models; specs in", maker.made);
        for (int i = 0; i < IR_STORED_DTYPES; i++) printf(" %s %d", ir_dtype_word((IrDtype)i), maker.of_dtype[i]);
        printf("\n");
    }
    su_text_free(&maker.declarations);
    su_text_free(&maker.rows);
    cg_llvm_shutdown();
    return ok;
}

int main(int argc, char **argv) {
    static const struct option names[] = {{"out", 1, NULL, 'o'},  {"count", 1, NULL, 'n'},        {"seed", 1, NULL, 's'},
                                          {"spec", 1, NULL, 'f'}, {"all", 0, NULL, 'a'},          {"blocks", 0, NULL, 'b'},
                                          {"fast", 0, NULL, 'F'}, {"spec-targets", 1, NULL, 't'}, {NULL, 0, NULL, 0}};
    Options o = {.seed = 1};
    for (int c; (c = getopt_long(argc, argv, "w:", names, NULL)) != -1;) {
        switch (c) {
        case 'o': o.out = optarg; break;
        case 'n': o.count = strtoll(optarg, NULL, 10); break;
        case 's': o.seed = strtoull(optarg, NULL, 10); break;
        case 'f': o.spec = optarg; break;
        case 'w': o.weights = optarg; break;
        case 'a': o.all = true; break;
        case 'b': o.blocks = true; break;
        case 'F': o.fast = true; break;
        case 't': o.spec_targets = strtoll(optarg, NULL, 10); break;
        default: return 2;
        }
    }
    o.targets = argv + optind;
    o.n_targets = argc - optind;
    if (o.out == NULL || o.n_targets == 0 || (o.spec == NULL) != (o.weights == NULL)) {
        fputs("usage: make_cases --out DIRECTORY --count N [--seed S] [--spec FILE -w CHECKPOINT [--spec-targets N]] [--all] "
              "[--blocks | --fast] "
              "TARGET...\n",
              stderr);
        return 2;
    }
    return make(&o) ? 0 : 1;
}
