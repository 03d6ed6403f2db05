/* From checkpoints to what kernels read: which file holds which tensor, elements as floats, packing.
 *
 * RtCheckpoints borrows nothing after opening but the paths' files; the tensors of a program are found by index. RtSource is
 * for the evaluators: every tensor as floats, already narrowed to its dtype and widened back, or as blocks, so that they compute with
 * exactly the values that kernels read. */
#ifndef MOSSC_RUNTIME_WEIGHTS_H
#define MOSSC_RUNTIME_WEIGHTS_H

#include "ir/program.h"
#include "ir/quant.h"
#include "mossc/moss.h"
#include "runtime/safetensors.h"
#include "runtime/workers.h"

/* ---- checkpoints */

/* A file that holds weights: of which kind, is decided from what is open. */
typedef struct RtWeightFile {
    const char *path;
    SuMap map; /* empty once somebody has taken it */
} RtWeightFile;

/* Its cleanup closes the files when a guard is ended (support/alloc.h): it stays where it is while it is open. */
typedef struct RtWeightFiles {
    RtWeightFile *items;
    size_t count, capacity;
    bool missing; /* a file could not be opened */
    SuArena arena; /* of items and paths */
    SuCleanup cleanup;
} RtWeightFiles;

/* Opens the files behind paths: an index (model.safetensors.index.json) stands for its shards, a directory for the index or the
 * model.safetensors that it holds. false after errors, one for each path: then nothing is open, and only `missing` is set. */
bool rt_weight_files_open(const char *const *paths, size_t n_paths, RtWeightFiles *out, SuDiags *diags);
/* The file that is opened for a path: itself, or what a directory holds; NULL: a directory holds neither. It lies in `arena`, or is `path`. */
const char *rt_weight_file_of(SuArena *arena, const char *path);
/* Whether it is a packed file, and nothing else. */
bool rt_weight_files_are_packed(const RtWeightFiles *files);
void rt_weight_files_close(RtWeightFiles *files);

/* A tensor as files hold it. */
typedef struct RtStored {
    const RtTensor *tensor; /* its elements; NULL: its blocks are there */
    IrBlocks blocks;
    const RtTensor *parts[IR_PARTS]; /* which hold the blocks */
} RtStored;

typedef struct RtCheckpoints {
    RtSafetensors *files;
    size_t n_files;
    RtStored *tensors; /* [n_tensors] in the program's order */
    SuArena arena; /* owns both arrays */
} RtCheckpoints;

/* Opens all files and holds them against the tensors that must be there: missing, extra, misshapen tensors, dtypes that are none
 * of f32, bf16, f16, and tensors that two files hold are errors. A tensor T that is q8 or q4 may stand as its parts (ir/quant.h) instead,
 * T.q8 and T.d say, all of them; parts of another dtype than the tensor's are an error. Values are not looked at. On failure nothing is
 * left open. (checkpoint.c) */
bool rt_checkpoints_open(const char *const *paths, size_t n_paths, const PgTensor *tensors, size_t n_tensors, RtCheckpoints *out,
                         SuDiags *diags);
/* The same of files that are open: it takes the mappings of those that it has read. The caller closes `files`. */
bool rt_checkpoints_take(RtWeightFiles *files, const PgTensor *tensors, size_t n_tensors, RtCheckpoints *out, SuDiags *diags);
void rt_checkpoints_close(RtCheckpoints *checkpoints);

/* Elements first .. first + count as floats: widened, exact. */
void rt_read_elements(const RtTensor *tensor, uint64_t first, uint64_t count, float *out);

/* Rounds values in place to what `dtype` holds, which is not q8 or q4. Returns the index of the first one that was not finite or does not
 * fit, or count if there is none. */
uint64_t rt_round_to(IrDtype dtype, float *values, uint64_t count);

/* Room to make a row of blocks in. */
typedef struct RtRoom {
    float *values; /* [K] */
    IrRow row;
} RtRoom;

/* Of the longest row of those tensors. */
RtRoom rt_room_make(SuArena *arena, const PgTensor *tensors, size_t n_tensors);
/* Row `row` of a q8 or q4 tensor: out->rows is 1. It lies in the file, or in the room, where elements are quantised. *out_low is set
 * where a q of -128 is read as -127, and left alone where not. false: rt_value_error says why, of the row's first element. */
bool rt_read_row(const PgTensor *expected, const RtStored *stored, uint64_t row, const RtRoom *room, IrBlocks *out, bool *out_low);

/* Adds the error about element `index` of a tensor that rt_round_to or rt_read_row refused. Always false. */
bool rt_value_error(const PgTensor *expected, const RtStored *stored, uint64_t index, SuDiags *diags);
/* Adds the warning about a tensor of which rt_read_row set *out_low. */
void rt_low_warning(const PgTensor *expected, SuDiags *diags);

/* ---- elements for the evaluators */

typedef struct RtSource RtSource;

/* Reads and checks every tensor; its values are rounded to its dtype. NULL after adding to diags. The tensors' names must
 * outlive the source. */
RtSource *rt_source_open(const char *const *paths, size_t n_paths, const PgTensor *tensors, size_t n_tensors, SuDiags *diags);
void rt_source_close(RtSource *source);
/* An IrWeightLookup whose context is an RtSource. */
IrElements rt_source_lookup(void *source, const char *name);

/* ---- packing */

/* Where packing reads and writes. */
typedef struct RtPacking {
    const PgProgram *program;
    const RtStored *tensors; /* [n_tensors] */
    bool drop; /* tensors lie in mapped files: give their pages back once they are packed */
    RtWorkers *workers;
    MossProgress progress; /* told packed bytes, by worker 0; may be NULL */
    void *progress_context;
    uint8_t *blob; /* [weight_bytes], zero */
} RtPacking;

/* Packs all weights of the program by all workers; q8 and q4 tensors that stand as elements are quantised. Non-finite elements and
 * overflow are errors. */
bool rt_pack(const RtPacking *packing, SuDiags *diags);

/* Packs checkpoints into a packed file (packed.h) that appears under its name only when it is whole. progress may be NULL. */
bool rt_packed_write(const char *path, const PgProgram *program, const RtStored *tensors, RtWorkers *workers, MossProgress progress,
                     void *progress_context, SuDiags *diags);

#endif
