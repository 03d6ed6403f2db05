/* Files of states: one sequence, to be continued later with the same bits (docs/design.md, Files).
 *
 * A file belongs to a spec, its weights, the numerics version and the program's table of states. States have the layouts of
 * ir/program.h, so that a file serves every CPU. Blocks of the state that are all zero are left out: an attention cache is
 * zero where nothing was stored yet, so a file grows with what is in use, without the file knowing what a cache is. */
#ifndef MOSSC_RUNTIME_STATE_FILE_H
#define MOSSC_RUNTIME_STATE_FILE_H

#include "runtime/model.h"
#include "runtime/packed.h"

enum { RT_STATE_FORMAT = 2, RT_STATE_BLOCK = 4096 };
#define RT_STATE_MAGIC "mosscS\r\n"

/* The first bytes, little endian. Then the *body*: a bit for each RT_STATE_BLOCK bytes of the state, the lowest bit of a byte
 * first, padded with zero bits to a multiple of 8 bytes; those blocks whose bit is set, the state's last one as short as it is;
 * the logits after the last token. */
typedef struct RtStateHeader {
    char magic[8];
    uint32_t format, numerics;
    uint8_t spec_hash[16];
    SuDigest weights;        /* identity */
    SuDigest layout;         /* rt_state_layout */
    int64_t position;
    uint64_t state_bytes;
    uint64_t logits;         /* floats: vocab_size, or 0 when the last step did not make them */
    uint64_t blocks;         /* bits that are set */
    uint64_t has_random;     /* 1: the two below count */
    uint64_t seed, random;   /* of the sampler: what it started with, and where its generator stands */
    char name[RT_FILE_NAME]; /* of the spec, cut, for messages */
    SuDigest body;
    SuDigest digest; /* of all above */
} RtStateHeader;

_Static_assert(sizeof(RtStateHeader) == 216, "no padding in files");

/* A sequence as a file holds it. */
typedef struct RtSequence {
    int64_t position;
    const uint8_t *memory; /* [state_bytes] */
    const float *logits;   /* [vocab_size] or NULL */
    const RtRandom *random;
} RtSequence;

/* Writes a file that appears under its name only when it is whole. */
bool rt_state_write(const char *path, const PgProgram *program, const SuDigest *weights, const RtSequence *sequence,
                    SuDiags *diags);

/* A checked file: pointers into it. */
typedef struct RtStateFile {
    const RtStateHeader *header;
    const uint8_t *bits, *blocks, *logits; /* logits: unaligned; NULL when there are none */
} RtStateFile;

/* Whether the bytes are a whole, undamaged file of a state of the program with these weights. `path` is for messages. */
bool rt_state_check(const uint8_t *data, size_t size, const char *path, const PgProgram *program, const SuDigest *weights,
                    RtStateFile *out, SuDiags *diags);
/* Whether they are a whole, undamaged file of a state, of whichever program. */
bool rt_state_check_whole(const uint8_t *data, size_t size, const char *path, SuDiags *diags);
/* Into memory[state_bytes], which is zero. */
void rt_state_unpack(const RtStateFile *file, uint8_t *memory);

/* The digest of a program's table of states. */
SuDigest rt_state_layout(const PgProgram *program);
/* The digest that a header should carry. */
static inline SuDigest rt_state_header_digest(const RtStateHeader *header) {
    return su_digest(header, offsetof(RtStateHeader, digest));
}

/* Copies a state; what is zero on both sides is not touched, so that unused caches take no memory. */
void rt_state_copy(uint8_t *to, const uint8_t *from, uint64_t bytes);

#endif
