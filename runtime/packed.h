/* Packed weights: a file that holds the blob which kernels read, mapped and used in place (docs/design.md, Files).
 *
 * Nothing in a file is trusted: what its header and table should say is made from the program and compared, so that no offset
 * or name of the file is ever followed. The header's digest, which covers the table, is always checked; the tensors' digests,
 * which the table holds, only when asked for, since that reads all of the file.
 *
 * The *identity* of weights is the digest of the tensors' digests in the program's order. It is the same whether weights came
 * from a packed file or were packed when they were loaded. */
#ifndef MOSSC_RUNTIME_PACKED_H
#define MOSSC_RUNTIME_PACKED_H

#include "ir/program.h"
#include "mossc/moss.h"
#include "runtime/workers.h"
#include "support/digest.h"
#include "support/file.h"

enum { RT_PACKED_FORMAT = 2, RT_FILE_NAME = 64, RT_PACKED_ALIGN = 4096 };
#define RT_PACKED_MAGIC "mosscW\r\n" /* eight bytes; the line end shows a transfer as text */

/* The first bytes of a file, little endian. RtPackedTensor[n_weights] and their names, each with a NUL, follow; then zeros up
 * to data_offset, a multiple of RT_PACKED_ALIGN; then the blob, which ends the file. */
typedef struct RtPackedHeader {
    char magic[8];
    uint32_t format, numerics;
    uint8_t spec_hash[16];
    uint32_t dtype, n_weights;
    uint64_t header_bytes;      /* with table and names */
    uint64_t data_offset, data_bytes;
    char name[RT_FILE_NAME];  /* of the spec, cut, for messages */
    SuDigest weights;         /* identity */
    SuDigest digest;          /* of all header_bytes but these sixteen */
} RtPackedHeader;

/* A PgWeight. */
typedef struct RtPackedTensor {
    uint32_t pack, dtype, negexp, name_size;
    int64_t planes, O, K;
    uint64_t offset, bytes; /* within the blob */
    SuDigest digest;        /* of those bytes */
} RtPackedTensor;

_Static_assert(sizeof(RtPackedHeader) == 160 && sizeof(RtPackedTensor) == 72, "no padding in files");

/* Whether the bytes begin as a packed file does. */
bool rt_packed_is(const uint8_t *data, size_t size);

/* Whether the bytes begin with an undamaged header of this format, whose table and names, header_bytes in all, are there. What the table
 * says is not looked at. `path` is for messages. */
bool rt_packed_check_header(const uint8_t *data, size_t size, const char *path, SuDiags *diags);

/* A file that fits the program. */
typedef struct RtPacked {
    SuMap map;           /* empty when checked in memory */
    const RtPackedHeader *header;
    const uint8_t *blob; /* [weight_bytes] */
} RtPacked;

/* Whether the bytes are a whole file of the program; all but the tensors' digests is checked. `path` is for messages. */
bool rt_packed_check(const uint8_t *data, size_t size, const char *path, const PgProgram *program, RtPacked *out, SuDiags *diags);
/* Checks a file that is open. On success `out` has taken the mapping, and *map is empty. */
bool rt_packed_take(SuMap *map, const char *path, const PgProgram *program, RtPacked *out, SuDiags *diags);
/* Checks the tensors' digests of an open file, and that nothing but zeros lies between them. */
bool rt_packed_verify(const RtPacked *packed, const char *path, const PgProgram *program, RtWorkers *workers, SuDiags *diags);
/* The same by workers of its own, as many as the options say (runtime/model.c). */
MossError rt_packed_verify_by(const RtPacked *packed, const char *path, const PgProgram *program, const MossOptions *options);

/* What a file of the program begins with: header, table and names, zeros up to data_offset. All of it but the digests. */
typedef struct RtPackedFront {
    uint8_t *bytes; /* [data_offset], malloced */
    RtPackedHeader *header;
    RtPackedTensor *table;
} RtPackedFront;

RtPackedFront rt_packed_front(const PgProgram *program);

/* The digests[n_weights] of packed weights, and their identity. */
void rt_weights_digests(const PgProgram *program, const uint8_t *blob, RtWorkers *workers, SuDigest *digests);
SuDigest rt_weights_identity(const PgProgram *program, const uint8_t *blob, RtWorkers *workers);

/* The digest that a header should carry; header_bytes must be readable. */
SuDigest rt_packed_header_digest(const RtPackedHeader *header);

/* A file's `name` for messages: "" when it holds what is no name. */
const char *rt_file_name(const char name[RT_FILE_NAME], char out[RT_FILE_NAME]);

#endif
