/* mossc: the public C API of the compiler, beside the runtime's (moss.h), which it includes. C17, and C++.
 *
 *   MosscSpec *spec;  MosscCompiled *compiled;  MossModel *model;  MossTokenizer *tokenizer;  MossState *state;
 *   mossc_spec_open("model.yaml", NULL, 0, NULL, &spec)            a spec, checked
 *   mossc_compile(spec, NULL, NULL, &compiled)                     code for this machine, in this process
 *   mossc_model_open(compiled, paths, 1, NULL, NULL, &model)       weights
 *   mossc_tokenizer_open(spec, NULL, &tokenizer)
 *   moss_state_create(model, &state); moss_encode(…); moss_feed(…); moss_complete(…);      moss.h from here on
 *
 * Ownership. Each function that makes something says who frees it; nothing made here needs the spec afterwards. A model needs its
 * MosscCompiled: free states, then the model, then that. Texts and arrays given to a function are only read while it runs. What is
 * returned as a pointer to const belongs to the object that was asked, and lives as long.
 *
 * Threads. An object is used by one thread at a time, any thread; different objects by several at once. Compiling and loading use
 * threads of their own meanwhile. The kernel cache on disk may be shared by any number of threads and processes.
 *
 * Errors are values (MossError). Where a function fails, what it returns through a pointer is NULL. A MosscDiags, where one is given,
 * gets every message with its place in the spec, warnings too; MossError.text has the errors in short. Nothing is printed, and the
 * process is never ended. */
#ifndef MOSSC_MOSSC_H
#define MOSSC_MOSSC_H

#include "mossc/moss.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MOSSC_API MOSS_API

MOSSC_API const char *mossc_version(void);

/* ---- messages */

typedef struct MosscDiags MosscDiags;

typedef enum MosscSeverity { MOSSC_ERROR, MOSSC_WARNING, MOSSC_NOTE } MosscSeverity;

typedef struct MosscDiag {
    MosscSeverity severity;
    const char *code;    /* "unknown-key": stays the same when the message is reworded */
    const char *path;    /* the spec's or another file's, as it was given; "" where no file is at fault */
    uint32_t line, column, length; /* from 1, in characters; line 0: the file as a whole */
    const char *message; /* one line, no end of line */
    const char *hint;    /* what to do; "" where there is nothing to say */
} MosscDiag;

/* Empty; NULL: no memory. The caller frees it. Every function that is given it adds to it. */
MOSSC_API MosscDiags *mossc_diags_create(void);
MOSSC_API void mossc_diags_free(MosscDiags *diags); /* NULL is fine */
MOSSC_API void mossc_diags_clear(MosscDiags *diags);
MOSSC_API size_t mossc_diags_count(const MosscDiags *diags);
/* Message i, in the order of finding; its texts are valid until the next change of diags. */
MOSSC_API MosscDiag mossc_diags_at(const MosscDiags *diags, size_t i);

/* ---- specs */

typedef struct MosscSpec MosscSpec;

/* Reads and checks a spec (docs/language.md). sets: n_sets texts "PATH=VALUE" that override its values; may be NULL. diags may be NULL.
 * MOSS_BAD_SPEC: it is wrong, or cannot be read. The caller frees the spec. */
MOSSC_API MossError mossc_spec_open(const char *path, const char *const *sets, size_t n_sets, MosscDiags *diags,
                                    MosscSpec **out_spec);
/* The same from text[0..size). name stands for the path in messages, and files that the spec names are found beside it. */
MOSSC_API MossError mossc_spec_parse(const char *name, const char *text, size_t size, const char *const *sets, size_t n_sets,
                                     MosscDiags *diags, MosscSpec **out_spec);
MOSSC_API void mossc_spec_free(MosscSpec *spec); /* NULL is fine */

MOSSC_API const char *mossc_spec_name(const MosscSpec *spec);
MOSSC_API int64_t mossc_spec_vocab_size(const MosscSpec *spec);
MOSSC_API int64_t mossc_spec_d_model(const MosscSpec *spec);
MOSSC_API int64_t mossc_spec_max_positions(const MosscSpec *spec); /* tokens of a sequence; 0: no bound */
/* [16] the digest of all that gives a model its meaning: not of names, comments and places. */
MOSSC_API const uint8_t *mossc_spec_hash(const MosscSpec *spec);

typedef enum MosscForm { MOSSC_YAML, MOSSC_JSON } MosscForm;
/* The spec with every value written out. *out_text ends in a NUL; mossc_text_free frees it. out_size may be NULL. */
MOSSC_API MossError mossc_spec_print(const MosscSpec *spec, MosscForm form, char **out_text, size_t *out_size);
MOSSC_API void mossc_text_free(char *text); /* NULL is fine */

typedef struct MosscBlock {
    const char *kind; /* "ssm", "mlp", "attention", "shortconv", "parallel" */
    const char *name; /* as the spec has it; "" where it has none */
    const char *path; /* "stack[0].blocks[1]" */
    uint32_t line; /* of the spec */
    int64_t experts, top_k; /* 0: it has none; a parallel says nothing of its branches */
    const char *share; /* the block whose weights it has; "" where they are its own */
    int64_t branches; /* of a parallel; else 0 */
} MosscBlock;

MOSSC_API int64_t mossc_spec_n_blocks(const MosscSpec *spec);
/* Block i of n_blocks. size: sizeof(MosscBlock) of the caller, so that later versions may add to it; so below too. */
MOSSC_API MossError mossc_spec_block(const MosscSpec *spec, int64_t i, MosscBlock *out, size_t size);

/* A tensor of a checkpoint. */
typedef struct MosscTensor {
    const char *name; /* "blocks.3.x_proj.weight" */
    int64_t rank;
    int64_t shape[4]; /* [rank], then zeros */
    const char *dtype; /* what its values are rounded to when they are loaded: "f32", "bf16", "f16", "q8" or "q4" */
    int64_t block;     /* of the spec; -1: outside the blocks */
    const char *map;   /* what weights.overrides, and of a block share.adapters.targets, call it: "x_proj"; "": neither may name it */
    const char *own;   /* the word of share.own under which a share has one of its own: "conv"; "": none */
    bool per_expert;   /* the leading dimension counts the block's experts */
} MosscTensor;

/* How many there are, in *out_count, in the order of the blocks. */
MOSSC_API MossError mossc_spec_n_tensors(MosscSpec *spec, int64_t *out_count);
/* Tensor i of them. */
MOSSC_API MossError mossc_spec_tensor(MosscSpec *spec, int64_t i, MosscTensor *out, size_t size);

/* Whole numbers, as doubles since totals may pass 2^63. A multiply-add is two FLOPs. */
typedef struct MosscCost {
    double parameters; /* elements of a checkpoint */
    double active_parameters; /* of them, used by one token: idle experts are not */
    double weight_bytes; /* of a checkpoint in the spec's weights.dtype and its overrides */
    double state_bytes; /* of one sequence, on a CPU */
    double flops; /* of one token that is decoded */
    double token_bytes; /* of weights and states that it reads and writes */
} MosscCost;

/* position: how many tokens attention looks back on. The first call takes as long as making the program (milliseconds). */
MOSSC_API MossError mossc_spec_cost(MosscSpec *spec, int64_t position, MosscCost *out, size_t size);
/* Of block i; -1: of the parts outside the blocks (embedding, final norm, head). */
MOSSC_API MossError mossc_spec_block_cost(MosscSpec *spec, int64_t i, int64_t position, MosscCost *out, size_t size);

/* ---- compiling */

typedef struct MosscCompiled MosscCompiled;

/* All zero but for size is right, as NULL is. size is checked as MossOptions.size is (moss.h). */
typedef struct MosscCompileOptions {
    size_t size; /* sizeof(MosscCompileOptions) */
    const char *device; /* "cpu" (NULL too), "cuda", "cuda:N" */
    const char *isa; /* of a CPU: "avx512", "avx2", "neon"; NULL: the best that this machine has */
    bool fast; /* see `mossc run --help`; an error where the processor cannot do it */
    bool no_cache; /* compile all kernels anew, with the default schedules (`mossc tune`), and keep none */
    const char *cache_directory; /* of the kernel cache; NULL: what the environment names (`mossc cache --help`) */
} MosscCompileOptions;

/* Makes the code of a spec, in this process or on a GPU, which the result then holds. options and diags may be NULL. MOSS_BAD_SPEC: no
 * program can be made of it, or an option is wrong. MOSS_BAD_INPUT: options->size. MOSS_DEVICE: the device or its compiler. The caller
 * frees the result. */
MOSSC_API MossError mossc_compile(const MosscSpec *spec, const MosscCompileOptions *options, MosscDiags *diags,
                                  MosscCompiled **out_compiled);
MOSSC_API void mossc_compiled_free(MosscCompiled *compiled); /* after its models; NULL is fine */
/* What moss_program_… and moss_weights_pack ask for. */
MOSSC_API const MossProgram *mossc_compiled_program(const MosscCompiled *compiled);
/* How many kernels the program has, and how many came from the kernel cache. */
MOSSC_API uint32_t mossc_compiled_kernels(const MosscCompiled *compiled);
MOSSC_API uint32_t mossc_compiled_found(const MosscCompiled *compiled);

/* ---- weights: on a GPU one model at a time, on CPUs any number */

/* Loads safetensors checkpoints, or maps one file that moss_weights_pack made (moss_model_load). options and diags may be NULL;
 * options->device is not read: it is that of `compiled`. moss_model_free frees the model. */
MOSSC_API MossError mossc_model_open(MosscCompiled *compiled, const char *const *paths, size_t n_paths, const MossOptions *options,
                                     MosscDiags *diags, MossModel **out_model);
/* Of elements in memory: `lookup` gives those of each tensor of the program (moss_model_from_memory), which are read during the call. */
MOSSC_API MossError mossc_model_from_memory(MosscCompiled *compiled, MossTensorLookup lookup, void *context,
                                            const MossOptions *options, MosscDiags *diags, MossModel **out_model);
/* With fresh weights, those that mossc_fresh_write writes for the seed. */
MOSSC_API MossError mossc_model_fresh(MosscCompiled *compiled, uint64_t seed, const MossOptions *options, MosscDiags *diags,
                                      MossModel **out_model);
/* Writes fresh weights as float32 safetensors; the file appears under its name only when it is whole. The same seed gives the same bytes
 * on every machine. progress (of bytes) and diags may be NULL. MOSS_NO_FILE: it cannot be written. */
MOSSC_API MossError mossc_fresh_write(MosscSpec *spec, uint64_t seed, const char *path, MossProgress progress, void *context,
                                      MosscDiags *diags);

/* Rounds rows of K weights w[rows][K] to dtype "q8" or "q4" as loading does (docs/language.md, "Weights of 8 and 4 bits"): weight k of a
 * row is d[g]*q[k] - m[g], g = k / 32, where d*q and m are exact. q[rows][K], d and m [rows][(K + 31) / 32] are the caller's. MOSS_BAD_INPUT:
 * another dtype or NULL, no weights, or more than memory can hold. MOSS_BAD_WEIGHTS: a weight is not finite, or too large for the dtype. */
MOSSC_API MossError mossc_round_weights(const char *dtype, const float *w, int64_t rows, int64_t K, int8_t *q, float *d, float *m);

/* ---- models of others (docs/import.md) */

/* All zero but for size is right, as NULL is. size is checked as MossOptions.size is. */
typedef struct MosscImportOptions {
    size_t size; /* sizeof(MosscImportOptions) */
    const char *dtype; /* of the weights: "f32", "bf16", "q8", "q4"; NULL: as they are stored */
    const char *mamba3_a; /* "softplus", "heavy_tail"; NULL: not said */
    bool exact; /* f32 for all weights that no other dtype holds exactly */
    bool verify; /* what was written is read back and held against the checkpoint; an output that is there is only that */
    int threads; /* 0: as many as the process may use CPUs */
    MossProgress progress; /* may be NULL */
    void *progress_context;
} MosscImportOptions;

/* Whether a path names a checkpoint of others, by what is there: a folder with config.json and no spec.yaml, or a file that ends in ".gguf". */
MOSSC_API bool mossc_is_checkpoint(const char *path);
/* Makes the directory `output` of a checkpoint, with spec.yaml, model.safetensors, and where there are such tokenizer.json and
 * generation.yaml; it appears only when it is complete. An `output` that is there is an error, but with options->verify one that an import
 * made is held against the checkpoint and the options, and not changed: MOSS_OK says that every number and text is what they make.
 *
 * output NULL: a directory of the cache, where it is found again, and held against the checkpoint with options->verify. This process uses it
 * until it ends, with one descriptor: no process removes it from the cache meanwhile, however small $MOSSC_MODELS_SIZE is.
 *
 * Which directory it is stands in *out_directory, which may be NULL; mossc_text_free frees it. options and diags may be NULL.
 * MOSS_BAD_WEIGHTS: the checkpoint, an option, or an output that is not what they make. MOSS_BAD_INPUT: options->size. */
MOSSC_API MossError mossc_import(const char *input, const char *output, const MosscImportOptions *options, MosscDiags *diags,
                                 char **out_directory);

/* ---- text */

/* What the generation.yaml beside a spec says of making text, and where it says nothing what mossc does by default (docs/chat.md). */
typedef struct MosscGeneration {
    double temperature, top_p, min_p, repeat_penalty;
    int64_t top_k;
    const int32_t *stops; /* [n_stops] ids that end a text, besides the spec's eos */
    size_t n_stops;
    const char *chat_template; /* Jinja; NULL: none */
} MosscGeneration;

/* Reads DIRECTORY/generation.yaml for a spec DIRECTORY/…; one that is not there says nothing; spec_path may be NULL. diags may be NULL. MOSS_BAD_INPUT: the file is
 * wrong. mossc_generation_free frees it. */
MOSSC_API MossError mossc_generation_open(const char *spec_path, MosscDiags *diags, const MosscGeneration **out_generation);
MOSSC_API void mossc_generation_free(const MosscGeneration *generation); /* NULL is fine */

/* Feeds tokens to a state and says how probable each was after those before it: out_logprobs[count], natural logarithms of the model's
 * probabilities, in double; and out_best[count], the most probable token there (of equals the first). NaN and -1 for the first where the state
 * had no logits before, and where logits are not finite. Each may be NULL. The state then has logits. Errors: those of moss_step; out_…
 * of the steps before it are there. */
MOSSC_API MossError mossc_score(MossModel *model, MossState *state, const int32_t *tokens, size_t count, double *out_logprobs,
                                int32_t *out_best);

/* The tokenizer that the spec names, with its files. diags may be NULL. MOSS_BAD_INPUT: a file is missing or wrong.
 * moss_tokenizer_free frees it. */
MOSSC_API MossError mossc_tokenizer_open(const MosscSpec *spec, MosscDiags *diags, MossTokenizer **out_tokenizer);

/* Frees what LLVM holds for the whole process. Calling it is optional; no function of mossc.h may be called afterwards. */
MOSSC_API void mossc_shutdown(void);

#ifdef __cplusplus
}
#endif

#endif
