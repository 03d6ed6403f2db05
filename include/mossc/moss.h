/* moss: the public C API of the runtime. Runs a compiled program; knows nothing of YAML, graphs or LLVM. C17, and C++.
 *
 * Ownership in three sentences. A MossModel owns packed weights, workers and the arena of a step; programs, kernels and files are
 * the caller's and must outlive it. A MossState owns the memory of one sequence and belongs to the model that made it: free
 * states first. What a function returns as a pointer to const belongs to the object that was asked, and lives as long.
 *
 * Threads. A model, its states and its device are used by one thread at a time, any thread; different models (without a common
 * device) by several threads at once. Functions of a MossProgram only read. The library keeps no state of its own besides,
 * but for a count of forks.
 *
 * Forks. The child of a fork may use the models and states that it has copies of, and free them: its first step starts the workers anew,
 * as many as can be started. No step may run while another thread forks. A device does not survive a fork: steps, and new states, of a
 * model on one give MOSS_DEVICE in the child, which opens its own.
 *
 * Errors are values: MossError.code is MOSS_OK (0) for success, and text says what was wrong and with which file or tensor. Where
 * a function fails, what it returns through a pointer is NULL or 0, unless it says otherwise.
 * The same tokens give the same bits whatever the split into steps, segments and threads (docs/design.md, The bits). */
#ifndef MOSSC_MOSS_H
#define MOSSC_MOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MOSS_API __attribute__((visibility("default")))
#else
#define MOSS_API
#endif

enum { MOSS_ERROR_TEXT = 1024 };

typedef enum MossCode {
    MOSS_OK,
    MOSS_BAD_WEIGHTS, /* a checkpoint that does not fit the program */
    MOSS_BAD_INPUT,   /* token out of range, past max_positions, empty segment, state of another model */
    MOSS_NON_FINITE,  /* a router gave a non-finite value */
    MOSS_NO_MEMORY,
    MOSS_NO_FILE,  /* a file cannot be opened or written */
    MOSS_BAD_STATE, /* a state file that is damaged, or not of this model */
    MOSS_DEVICE,    /* a GPU, its driver, or its code: missing, unfit, or a call of it failed */
    MOSS_BAD_SPEC,  /* a spec, or an option of compiling it (mossc.h) */
    MOSS_BUG        /* a bug in this library, with its place in the source: please report it */
} MossCode;

typedef struct MossError {
    MossCode code;
    char text[MOSS_ERROR_TEXT]; /* one or more lines, no trailing newline; empty when code is MOSS_OK */
} MossError;

typedef struct PgProgram MossProgram; /* a compiled model's tables: SYMBOL_program of an artefact, or mossc_compiled_program's */
typedef struct PgCode MossKernels; /* the functions that belong to it, one after another: SYMBOL_codes of an artefact */
typedef struct MossModel MossModel;
typedef struct MossState MossState;
typedef struct MossDevice MossDevice; /* moss_cuda_open makes one */

/* Told about long work: done of total bytes. */
typedef void (*MossProgress)(void *context, uint64_t done, uint64_t total);

/* Told what is odd about something that is taken all the same: a line, valid during the call, which the thread that loads or packs makes. */
typedef void (*MossNote)(void *context, const char *text);

/* All zero but for size is right, as NULL is. Later versions may add to the end: a caller of an earlier one, whose size is less, gets what
 * is zero there. MOSS_BAD_INPUT: size is 0, or more than this library's, unless what it does not know is zero. */
typedef struct MossOptions {
    size_t size; /* sizeof(MossOptions) */
    int threads; /* workers, the caller's thread included; 0: as many as there are `cpus`, or the process may
                      * use CPUs, and no more than its control groups' quota pays for. Where fewer can be started there are fewer
                      * (moss_model_missing_threads) */
    bool no_pin; /* workers are pinned to distinct CPUs of the allowed mask unless this is set */
    const int *cpus; /* [n_cpus] where workers run, one on each, in this order; those that the process may not use are passed
                      * over. NULL: any. With more threads than that none is pinned */
    size_t n_cpus;
    void *arena; /* memory for the values of a step; the model uses it as long as it lives, and allocates what larger steps
                  * need. NULL, too little for one row, or not 64-aligned: the model allocates all of it */
    size_t arena_bytes;
    MossProgress progress; /* of loading; may be NULL */
    void *progress_context;
    bool verify; /* check every tensor of packed weights against its digest, which reads all of the file */
    MossDevice *device; /* where weights and states lie and steps run; one model at a time. NULL: this process, and its CPUs */
    MossNote note; /* of loading and packing checkpoints; may be NULL */
    void *note_context;
} MossOptions;

/* ---- programs: what is known of a compiled model without its weights. All of it can be asked at any time, by any thread. */

/* Kinds of steps: of one row (a token of one sequence), and of several. */
enum { MOSS_ONE_ROW, MOSS_ROWS, MOSS_MODES };

MOSS_API const char *moss_program_name(const MossProgram *program);
MOSS_API int64_t moss_program_vocab_size(const MossProgram *program); /* logits of a token */
MOSS_API uint64_t moss_program_logits_stride(const MossProgram *program); /* floats from one row of logits to the next: moss_step_into */
MOSS_API int64_t moss_program_width(const MossProgram *program); /* d_model */
MOSS_API uint32_t moss_program_blocks(const MossProgram *program); /* of the spec; 0: not known, of a graph that was text */
MOSS_API int64_t moss_program_max_positions(const MossProgram *program); /* tokens of a sequence; 0: no bound */
MOSS_API int64_t moss_program_max_rows(const MossProgram *program); /* tokens of a step, all segments together */
MOSS_API uint64_t moss_program_state_bytes(const MossProgram *program); /* of one sequence */
MOSS_API uint64_t moss_program_weight_bytes(const MossProgram *program); /* of the packed weights */
MOSS_API const uint8_t *moss_program_spec_hash(const MossProgram *program); /* [16] */

/* A tensor that a checkpoint of the program must hold: row-major, the language's shape. */
typedef struct MossTensor {
    const char *name; /* "blocks.3.in_proj.weight" */
    int32_t rank;
    int64_t shape[4]; /* [rank], then zeros */
} MossTensor;

MOSS_API uint32_t moss_program_tensors(const MossProgram *program); /* how many */
MOSS_API MossTensor moss_program_tensor(const MossProgram *program, uint32_t i);

/* Phases of a step of this kind (MOSS_ONE_ROW, MOSS_ROWS), and the name of one, such as "blocks.3.in_proj". */
MOSS_API uint32_t moss_program_phases(const MossProgram *program, int mode);
MOSS_API const char *moss_program_phase_name(const MossProgram *program, int mode, uint32_t phase);

/* ---- models */

/* Loads safetensors checkpoints (tensors may be spread over files), narrows and packs them; or maps one file that
 * moss_weights_pack made, told by how it begins. Such a file must not be cut or written while a model uses it. codes are those of
 * the program; with a device, which has code of its own, NULL. */
MOSS_API MossError moss_model_load(const MossProgram *program, const MossKernels *codes, const char *const *paths, size_t n_paths,
                                   const MossOptions *options, MossModel **out_model);
/* Maps one packed file: all that an artefact of `mossc compile` needs, and links. */
MOSS_API MossError moss_model_open(const MossProgram *program, const MossKernels *codes, const char *path,
                                   const MossOptions *options, MossModel **out_model);
/* Like moss_model_load from memory: `lookup` gives each tensor's elements (row-major float32, the language's shape) or NULL. */
typedef const float *(*MossTensorLookup)(void *context, const char *name);
MOSS_API MossError moss_model_from_memory(const MossProgram *program, const MossKernels *codes, MossTensorLookup lookup,
                                          void *context, const MossOptions *options, MossModel **out_model);
MOSS_API void moss_model_free(MossModel *model); /* its device is free for another */
/* Maps DIRECTORY/NAME.weights, with the program's name: what SYMBOL_open in the header of an artefact does. */
MOSS_API MossError moss_artefact_open(const MossProgram *program, const MossKernels *codes, const char *directory,
                                      const MossOptions *options, MossModel **out_model);
MOSS_API const MossProgram *moss_model_program(const MossModel *model);
MOSS_API int moss_model_threads(const MossModel *model);
/* How many more threads were asked for than could be started, and the errno of the first that could not. The model works without. */
MOSS_API int moss_model_missing_threads(const MossModel *model, int *out_errno);

/* Writes checkpoints as the program's kernels read them. The file appears under its name only when it is whole. It serves every
 * CPU, but this spec, PG_NUMERICS and format only. MOSS_BAD_WEIGHTS also when the file cannot be written. */
MOSS_API MossError moss_weights_pack(const MossProgram *program, const char *const *paths, size_t n_paths,
                                     const MossOptions *options, const char *out_path);
/* Checks all of a packed file, its tensors' digests too. */
MOSS_API MossError moss_weights_verify(const MossProgram *program, const char *path, const MossOptions *options);

/* ---- devices: NVIDIA GPUs. The driver is opened when the first one is; nothing links to it. Results agree with the CPU's within
 * tolerance, not in their bits; the same GPU gives the same bits for the same steps. */

/* MOSS_DEVICE, each with a text that says what to do: no driver or one that is too old, no GPU of this number (from 0), one before
 * sm_75, one that cannot launch blocks together. */
MOSS_API MossError moss_cuda_open(int ordinal, MossDevice **out_device);
/* Loads what mossc made for the program: a cubin of this GPU's architecture, or PTX of one before it, which ends in a NUL. It replaces
 * what was there; not while a model lives. MOSS_DEVICE: code for another GPU, of another program, or damaged. */
MOSS_API MossError moss_cuda_code(MossDevice *device, const MossProgram *program, const void *image, size_t bytes);
/* Puts the code in DIRECTORY/NAME.cubin into options->device, which must be there (DIRECTORY/NAME.ptx where that is code for another
 * GPU), then moss_artefact_open. */
MOSS_API MossError moss_cuda_artefact_open(const MossProgram *program, const char *directory, const MossOptions *options,
                                           MossModel **out_model);
/* After its model. NULL is fine. */
MOSS_API void moss_device_free(MossDevice *device);

/* ---- sequences */

MOSS_API MossError moss_state_create(MossModel *model, MossState **out_state); /* at position 0 */
/* The same in memory of the caller's: moss_program_state_bytes, 64-aligned, which it frees after the state. Not with a device. */
MOSS_API MossError moss_state_place(MossModel *model, void *memory, MossState **out_state);
MOSS_API void moss_state_reset(MossState *state);
MOSS_API MossError moss_state_clone(const MossState *state, MossState **out_copy);
MOSS_API int64_t moss_state_position(const MossState *state); /* tokens fed so far */
MOSS_API void moss_state_free(MossState *state);
/* Logits after the last token, vocab_size floats: when the state's last step wanted them and no other step came after, or the
 * state was loaded or cloned with them. Else NULL. Valid until the next step. */
MOSS_API const float *moss_state_logits(const MossState *state);

/* The sampler of a sequence: its seed, and MossSampler.state as it is now. Clones and files carry it, so that an interrupted text can be
 * continued with the same tokens; nothing else reads it. moss_state_random gives false, and zeros, when it was never set. */
MOSS_API void moss_state_set_random(MossState *state, uint64_t seed, uint64_t sampler_state);
MOSS_API bool moss_state_random(const MossState *state, uint64_t *out_seed, uint64_t *out_sampler_state);

/* Writes position, state and those logits to a file that appears under its name only when it is whole, and reads it back as a
 * state of its own. Continuing gives the bits of the sequence that was never saved, with any threads and on any CPU. Refused
 * (MOSS_BAD_STATE) is a file of another spec, other weights or another PG_NUMERICS, and any damage. Of weights that were not
 * loaded from a packed file the first save or load takes a digest, which reads them all once. */
MOSS_API MossError moss_state_save(const MossState *state, const char *path);
MOSS_API MossError moss_state_load(MossModel *model, const char *path, MossState **out_state);

/* Taking tokens back, as when guessed ones prove wrong. moss_state_checkpoint keeps a copy of the state (its memory is allocated by
 * the first checkpoint of a state and used again by later ones) and, from then on, up to MOSS_REWIND fed tokens. moss_state_rewind
 * takes the last n of those back: state, position and logits are then, to the bit, what they were n tokens ago. The checkpoint stays.
 * What was fed between the checkpoint and there is fed again, which is a step of the model: moss_logits are then those of that step.
 * MOSS_BAD_INPUT, and nothing has changed: no checkpoint, n larger than what was fed since, or more than MOSS_REWIND tokens fed since,
 * unless n is all of them. A state that a failed step left unusable can be taken back before it. Checkpoints are neither saved nor cloned; a reset drops them. */
enum { MOSS_REWIND = 64 };
MOSS_API MossError moss_state_checkpoint(MossState *state);
MOSS_API MossError moss_state_rewind(MossState *state, uint32_t n);

/* ---- steps */

typedef enum MossLogits { MOSS_NO_LOGITS, MOSS_LAST_LOGITS, MOSS_ALL_LOGITS } MossLogits;

typedef struct MossSegment {
    MossState *state; /* each state at most once in a step */
    const int32_t *tokens;
    uint32_t count; /* ≥ 1 */
    MossLogits logits;
} MossSegment;

/* Feeds all segments; the rows of all of them together are at most moss_program_max_rows (moss_feed splits for you). On an error
 * that is found before work starts (MOSS_BAD_INPUT) no state has changed; MOSS_NON_FINITE names the first sequence
 * whose router was not finite: moss_state_failed tells which ones failed, and all others have gone on, with the bits and the logits
 * that they would have had without them. A failed state is refused until it is reset or taken back. */
MOSS_API MossError moss_step(MossModel *model, const MossSegment *segments, uint32_t n_segments);
/* moss_step whose logits go to memory of the caller's, which nothing keeps: rows[wanted rows][moss_program_logits_stride] floats, 64-aligned,
 * vocab_size of each row valid. States keep a copy of those after their last token; moss_logits has none. MOSS_BAD_INPUT also where it is
 * not aligned; MOSS_NO_MEMORY also after the step, for those copies, which then are not there. */
MOSS_API MossError moss_step_into(MossModel *model, const MossSegment *segments, uint32_t n_segments, float *rows);
/* Whether its last step failed. */
MOSS_API bool moss_state_failed(const MossState *state);
/* Logits of the last step: row i of the wanted ones in order of segments, vocab_size floats. Valid until the next step. */
MOSS_API const float *moss_logits(const MossModel *model, uint32_t i);
MOSS_API uint32_t moss_logits_count(const MossModel *model);

/* Hidden states: the residual stream, what one block hands to the next. From the next step on the model keeps that of each step's rows, as it
 * takes them from the kernels' own memory: they and the logits have the same bits with and without. It costs a copy a block, and
 * (blocks + 1) * rows * d_model floats; false gives them back, and costs nothing. MOSS_DEVICE: the model's steps run on a GPU, whose
 * hidden states are not kept. MOSS_BAD_INPUT: the program does not tell how many blocks it has. */
MOSS_API MossError moss_model_keep_hidden(MossModel *model, bool keep);
/* Of the last step: [moss_hidden_rows][d_model] before block `block` (from 0), and with `block` = moss_program_blocks after the last one,
 * before the final norm; rows in the order of the segments' tokens. Valid until the next step. NULL: not kept, or no such block. */
MOSS_API const float *moss_hidden(const MossModel *model, uint32_t block);
/* Rows of the last step; 0: none were kept, as of moss_find_non_finite and of a step that was refused. */
MOSS_API uint32_t moss_hidden_rows(const MossModel *model);

/* Whether all of n values are finite: no NaN, no infinity. */
MOSS_API bool moss_all_finite(const float *values, int64_t n);

/* Where values that are not finite come from. */
typedef struct MossNonFinite {
    bool found;
    int64_t position; /* of the token */
    int32_t block; /* of the spec; -1: outside the blocks, or on a device, where phases are not seen */
    uint32_t line; /* of the spec, where it is known; else 0 */
    char phase[64]; /* such as "blocks.3.in_proj"; empty: not seen */
} MossNonFinite;
/* Feeds the tokens to the state one by one, slowly, up to the first phase whose result is not finite. */
MOSS_API MossError moss_find_non_finite(MossModel *model, MossState *state, const int32_t *tokens, size_t count,
                                        MossNonFinite *out);

/* Feeds one sequence in chunks of at most `chunk` tokens (0: moss_program_max_rows). logits of the last token are wanted. */
MOSS_API MossError moss_feed(MossModel *model, MossState *state, const int32_t *tokens, size_t count, uint32_t chunk);

/* Seconds that a worker spent on the tiles of a phase, and, after the last phase of a stage, waiting for the other workers. */
typedef struct MossPhaseTime {
    double working, waiting;
} MossPhaseTime;

/* ---- text: tokens that follow from each other, picked from logits and fed without a look at them in between */

typedef struct MossSampler MossSampler;

enum { MOSS_MAX_ENDS = 16 }; /* ids that end a text, at most */

typedef struct MossVocabulary {
    int64_t limit; /* ids from here on are never picked (padding of the vocabulary); at most vocab_size */
    int32_t eos; /* ends a sequence when it is picked; -1: none */
    const uint32_t *gaps; /* [(limit + 31) / 32] bits, the lowest first, of ids that are never picked; NULL: none */
    const int32_t *more_eos; /* [n_more_eos] ids that end a sequence as eos does; at most MOSS_MAX_ENDS - 1 */
    uint32_t n_more_eos;
} MossVocabulary;

typedef struct MossSequence {
    MossState *state; /* with logits (moss_state_logits), and room for `count` positions; each at most once */
    MossSampler *sampler; /* moves on with every token; each sequence has its own */
    int32_t *tokens; /* [count] out */
    bool ended; /* out: eos is what would follow */
} MossSequence;

/* Picks a token for every sequence and feeds it, `count` times; *out_count is how often. It is fewer when a sequence has ended, or
 * after an error: then no sequence was fed its next token, and the others may be called for again. All states have logits afterwards, but
 * those that failed (MOSS_NON_FINITE, moss_state_failed); the last of the tokens is the one that failed.
 * MOSS_BAD_INPUT also when no logit of a sequence is a number. */
MOSS_API MossError moss_generate(MossModel *model, const MossVocabulary *vocabulary, MossSequence *sequences, uint32_t n,
                                 uint32_t count, uint32_t *out_count);

/* When set, the times of the phases of the following steps are added to times[mode][worker * n_phases + phase]; every worker's
 * add up to the time of the steps. It costs a worker two looks at the clock a phase. NULL switches it off. A device's steps of many
 * rows are timed by its own clock, launch by launch; those of one row and of few are one launch, of which nothing is known. */
MOSS_API void moss_profile(MossModel *model, MossPhaseTime *times[MOSS_MODES]);

/* ---- sampling. Deterministic on every machine: its own exp and its own generator. */

struct MossSampler {
    float temperature; /* ≥ 0; 0: greedy */
    int32_t top_k; /* ≥ 0; 0: all */
    float top_p; /* 0 to 1; 1: all */
    uint64_t state; /* of the generator: start it with the seed */
};

/* Picks a token from logits[n]; ids ≥ `limit` are never picked (padding of the vocabulary). -1 if all are NaN. */
MOSS_API int32_t moss_sample(MossSampler *sampler, const float *logits, int64_t n, int64_t limit);

/* ---- pickers: what a sequence's tokens are picked by besides its sampler. The steps, in this order: biases are added to the logits; the
 * mask; the penalties for tokens that came before; and then the sampler's own: temperature, top_k, top_p (of the probabilities at that
 * temperature), min_p. A picker belongs to one sequence. With a device, logits come to this process for every token. Its callbacks are
 * called in the middle of moss_generate_picked, moss_complete_with and the functions below: they must neither make nor free objects of this
 * library. */

typedef struct MossPicker MossPicker;

typedef struct MossBias {
    int32_t token;
    float add; /* to its logit; -INFINITY: it is never picked */
} MossBias;

/* All zero but for size and context is right, and does nothing. Later versions may add to the end, as to MossOptions. */
typedef struct MossPicking {
    size_t size;                                /* sizeof(MossPicking) */
    float min_p;                                /* ≥ 0: tokens less probable than this share of the most probable one are left out */
    float repeat_penalty;                       /* ≥ 0: logits of tokens that came before are divided by it, if negative multiplied; 0, 1: none */
    float presence_penalty, frequency_penalty; /* subtracted from those logits: once, and as often as the token came; any number */
    int32_t penalty_window;                     /* how many of the last tokens count; 0: 64; -1: all */
    const MossBias *biases;                     /* [n_biases], copied */
    size_t n_biases;
    uint32_t logprobs; /* how many of the most probable tokens moss_picker_logprobs tells, at most 1000; 0: it tells nothing */
    /* Which tokens may come next: bits[(limit + 31) / 32], the lowest first, all zero before; NULL: any. false: none, the sequence ends here as by
     * eos. It may be asked more than once before a token is committed. eos is a token like others. */
    bool (*allow)(void *context, uint32_t *bits, int64_t limit);
    void (*commit)(void *context, int32_t token);   /* this one was picked and fed; may be NULL */
    void (*rollback)(void *context, uint32_t count); /* the last `count` that were committed are taken back; may be NULL */
    void *context;
} MossPicking;

typedef struct MossLogprob {
    int32_t token;
    float logprob; /* natural, of the model's own probabilities: those of its logits below the limit, before any step above */
} MossLogprob;

/* For logits of vocab_size, at least 1. MOSS_BAD_INPUT: a value that is not finite, or out of the range above; a bias of an id outside 0 …
 * vocab_size - 1, or one that is NaN or +INFINITY; size as in MossOptions. MOSS_NO_MEMORY. */
MOSS_API MossError moss_picker_create(const MossPicking *picking, int64_t vocab_size, MossPicker **out_picker);
MOSS_API void moss_picker_free(MossPicker *picker); /* NULL is fine */
/* Tokens that came before, such as a prompt's: penalties see them, the mask's callbacks do not. Ids outside the
 * vocabulary are passed over. MOSS_NO_MEMORY: the first of them may have been taken. */
MOSS_API MossError moss_picker_feed(MossPicker *picker, const int32_t *tokens, size_t count);
/* Tells the picker that a token that moss_pick gave was fed: penalties see it, and so does `commit`. moss_generate_picked does so itself.
 * MOSS_NO_MEMORY: neither does. */
MOSS_API MossError moss_picker_commit(MossPicker *picker, int32_t token);
/* Takes back the last tokens that were fed or committed, as moss_state_rewind does; of the committed ones `rollback` is told. Of more than
 * there are, all. */
MOSS_API void moss_picker_rewind(MossPicker *picker, uint32_t count);
/* moss_sample by all the steps, from logits[n]; ids ≥ `limit`, or outside the picker's vocabulary, are never picked. MOSS_NO_TOKEN: no logit is a
 * number, or none is allowed; MOSS_NO_MORE: `allow` gave false. */
enum { MOSS_NO_TOKEN = -1, MOSS_NO_MORE = -2 };
MOSS_API int32_t moss_pick(MossPicker *picker, MossSampler *sampler, const float *logits, int64_t n, int64_t limit);
/* Of the last token that was picked: the token itself first, then the most probable ones in order, the token among them again if it is one;
 * *out_count is 1 + `logprobs` at most, and 0 when nothing was picked or asked for. Valid until the next one is picked. */
MOSS_API const MossLogprob *moss_picker_logprobs(const MossPicker *picker, uint32_t *out_count);

/* moss_generate with pickers[n], NULL for a sequence without; NULL: none has. A sequence has ended also where `allow` gives false.
 * MOSS_BAD_INPUT also when no token of a sequence may be picked; MOSS_NO_MEMORY. Each picker at most once. */
MOSS_API MossError moss_generate_picked(MossModel *model, const MossVocabulary *vocabulary, MossSequence *sequences,
                                        MossPicker *const *pickers, uint32_t n, uint32_t count, uint32_t *out_count);

/* ---- tokenizers: text to token ids and back. They only read once they are made: several threads may use one. */

typedef struct RtTokenizer MossTokenizer;

/* Ids of a text; `MossTokens t = {0}` is valid and empty, moss_tokens_free leaves it so. */
typedef struct MossTokens {
    int32_t *ids; /* the library's */
    size_t count, capacity;
} MossTokens;

/* An id is a byte. bos and eos are ids, or -1 for none; from 256 on they stand for no byte. */
MOSS_API MossError moss_tokenizer_bytes(int64_t vocab_size, int32_t bos, int32_t eos, MossTokenizer **out_tokenizer);
/* Maps DIRECTORY/NAME.tokenizer, which `mossc compile` made. MOSS_BAD_INPUT: damaged, or for another size of vocabulary. */
MOSS_API MossError moss_tokenizer_open(const char *directory, const char *name, int64_t vocab_size, MossTokenizer **out_tokenizer);
MOSS_API void moss_tokenizer_free(MossTokenizer *tokenizer); /* NULL is fine */
MOSS_API int32_t moss_tokenizer_bos(const MossTokenizer *tokenizer); /* -1: none */
MOSS_API int32_t moss_tokenizer_eos(const MossTokenizer *tokenizer); /* -1: none; of several the first */
/* All ids that end a text, eos first: their number, and *out_ids (out_ids may be NULL), valid until moss_tokenizer_set_ends or the tokenizer
 * is freed. */
MOSS_API uint32_t moss_tokenizer_ends(const MossTokenizer *tokenizer, const int32_t **out_ids);
/* Puts ids[count], count ≤ MOSS_MAX_ENDS, in place of eos. Not while another thread uses it. MOSS_BAD_INPUT: too many, or a negative one. With
 * moss_tokenizer_bytes the limit of moss_tokenizer_vocabulary rises to them: none may be vocab_size or more. */
MOSS_API MossError moss_tokenizer_set_ends(MossTokenizer *tokenizer, const int32_t *ids, uint32_t count);

/* Appends the ids that a model is fed for text[0..size): bos, if there is one, and the text's. MOSS_BAD_INPUT: an id that the
 * vocabulary lacks. */
MOSS_API MossError moss_encode(const MossTokenizer *tokenizer, const char *text, size_t size, MossTokens *out);
/* Appends the ids of a part of a text, without bos. behind: it follows another part, and some tokenizers then put no blank before it. */
MOSS_API MossError moss_encode_part(const MossTokenizer *tokenizer, const char *text, size_t size, bool behind, MossTokens *out);
/* The bytes of one id, which need not be whole characters; none for bos, what ends a text, and ids that stand for nothing. *out_size is how many
 * there are, of which at most room_size are written to room. */
MOSS_API MossError moss_token_bytes(const MossTokenizer *tokenizer, int32_t token, char *room, size_t room_size, size_t *out_size);
MOSS_API void moss_tokens_free(MossTokens *tokens);

/* What moss_generate may pick. bits[vocab_size / 32 + 1] must live as long as the result is used; so must the tokenizer, whose more_eos is, and
 * moss_tokenizer_set_ends changes what is there. */
MOSS_API MossVocabulary moss_tokenizer_vocabulary(const MossTokenizer *tokenizer, uint32_t *bits);

/* The text of ids as they come, in whole UTF-8 characters where tokens are pieces of text (`bytes` gives any bytes): a piece of a
 * character is held until the rest is there. The tokenizer must outlive it. What add and end return is *out_size bytes and a NUL,
 * valid until the next call; end gives what is still held, as U+FFFD, and the stream may begin anew. NULL: no memory, and the
 * text of this token is lost. */
typedef struct MossStream MossStream;
MOSS_API MossError moss_stream_create(const MossTokenizer *tokenizer, MossStream **out_stream);
/* Before the first token: what comes is a whole text, of which the decoders of some tokenizers take a blank away in front. Without, it
 * follows another text. */
MOSS_API void moss_stream_whole(MossStream *stream);
MOSS_API const char *moss_stream_add(MossStream *stream, int32_t token, size_t *out_size);
MOSS_API const char *moss_stream_end(MossStream *stream, size_t *out_size);
MOSS_API void moss_stream_free(MossStream *stream); /* NULL is fine */

/* ---- one text, from prompt to end */

/* Called with a token that was picked, and the text that it adds (a NUL follows; may be empty; valid during the call). What may be the beginning
 * of a text that ends it comes with a later token. false ends the text. At the very end token may be -1, once or twice: with what was held
 * so, and with U+FFFD for a piece of a character that no token finished; what it then gives is passed over. It may make objects of this
 * library. */
typedef bool (*MossText)(void *context, int32_t token, const char *text, size_t size);

typedef enum MossStop {
    MOSS_STOP_COUNT, /* MossText was called with `count` tokens */
    MOSS_STOP_EOS, /* what ends a text would be the next token, which is neither told nor fed; or the picker's `allow` gave false */
    MOSS_STOP_POSITIONS, /* max_positions is reached: the last token could not be fed */
    MOSS_STOP_CALLER, /* MossText gave false; on a device up to 31 more tokens may have been fed */
    MOSS_STOP_TEXT    /* one of the texts that end it came: MossText got what stands before it. Its tokens were fed, but for a last one
                       * without a position */
} MossStop;

/* Continues a state that has logits (after moss_feed, or loaded with them): picks tokens, feeds them and calls `told` with them, up to `count`
 * times. The state is then the one after all of these tokens. out_stop may be NULL; *out_stop is set first, to MOSS_STOP_COUNT, and after an
 * error means nothing. Errors: MOSS_BAD_INPUT, the state has no logits or all of them are NaN, an id of the tokenizer is outside
 * the vocabulary, or a number of the sampler outside its range; those of moss_step; MOSS_NO_MEMORY. `told` may have been called before an error. */
MOSS_API MossError moss_complete(MossModel *model, MossState *state, const MossTokenizer *tokenizer, MossSampler *sampler,
                                 uint64_t count, MossText told, void *context, MossStop *out_stop);

/* All zero but for size, count and told is right. Later versions may add to the end, as to MossOptions. */
typedef struct MossCompletion {
    size_t size;    /* sizeof(MossCompletion) */
    uint64_t count; /* tokens at most */
    const char *const *stops; /* [n_stops] texts that end it, at the first that is whole; what may begin one is held until that is known */
    size_t n_stops;
    bool ignore_eos;    /* what ends a text is never picked */
    bool whole;         /* the text stands by itself: moss_stream_whole */
    MossPicker *picker; /* or NULL */
    MossText told;
    void *context;
} MossCompletion;

/* moss_complete with all of that. MOSS_BAD_INPUT also for an empty text among `stops`, for size as in MossOptions, and where the picker leaves
 * no token. */
MOSS_API MossError moss_complete_with(MossModel *model, MossState *state, const MossTokenizer *tokenizer, MossSampler *sampler,
                                      const MossCompletion *completion, MossStop *out_stop);
/* What moss_complete_with would refuse of these, whatever the state: for callers that ask before they feed a prompt. */
MOSS_API MossError moss_completion_check(const MossModel *model, const MossTokenizer *tokenizer, const MossSampler *sampler,
                                         const MossCompletion *completion);

/* The same token by token, for whom a callback does not suit: what is picked, fed and held does not depend on which of the two is used. What the
 * completion points to must live as long as the writing, and so must the other objects; its `told` is not called. In between the
 * model may step other states, and the state may be cloned and saved, but not fed.
 *
 * On a device (a GPU), without stops and without a picker, a text that goes on alone picks and feeds up to 32 tokens before the first of them
 * is told: the state, and with it a clone or a file of it, is then up to 31 tokens ahead of what was told (moss_state_position says where
 * it is). On CPUs, and with stops or a picker, it has fed what was told and no more. */
typedef struct MossWriting MossWriting;

typedef struct MossPiece {
    int32_t token; /* -1: text that was held, at the very end */
    const char *text; /* [size] and a NUL, valid until the next piece; may be empty */
    size_t size;
} MossPiece;

MOSS_API MossError moss_writing_begin(MossModel *model, MossState *state, const MossTokenizer *tokenizer, MossSampler *sampler,
                                      const MossCompletion *completion, MossWriting **out_writing);
/* *out_more is false at the end, and after an error, which comes behind the pieces that were made before it. */
MOSS_API MossError moss_writing_next(MossWriting *writing, MossPiece *out_piece, bool *out_more);
/* The next piece of each of n writings, each at most once: out_pieces[n], out_more[n]. Tokens of those that pick from the same (model, tokenizer,
 * ignore_eos) are fed in one step; each text is the one that it would be alone. Of one without more, moss_writing_next tells its error.
 * MOSS_NO_MEMORY: nothing has happened. */
MOSS_API MossError moss_writings_next(MossWriting *const *writings, uint32_t n, MossPiece *out_pieces, bool *out_more);
MOSS_API MossStop moss_writing_stop(const MossWriting *writing); /* why it ended, once it has */
MOSS_API void moss_writing_free(MossWriting *writing); /* at any time; NULL is fine */

#ifdef __cplusplus
}
#endif

#endif
