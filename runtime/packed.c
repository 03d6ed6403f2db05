/* Packed weights as they are read: what the header should be is made from the program and compared. */
#include "runtime/packed.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "support/alloc.h"
#include "support/size.h"

static const char pack_again[] = "create it again with mossc pack";

/* ---- the header */

SuDigest rt_packed_header_digest(const RtPackedHeader *header) {
    SuDigestStream *stream = su_digest_start();
    su_digest_add(stream, header, offsetof(RtPackedHeader, digest));
    su_digest_add(stream, header + 1, header->header_bytes - sizeof *header);
    SuDigest digest = su_digest_now(stream);
    su_digest_end(stream);
    return digest;
}

const char *rt_file_name(const char name[RT_FILE_NAME], char out[RT_FILE_NAME]) {
    size_t size = 0;
    while (size < RT_FILE_NAME - 1 && name[size] >= ' ' && name[size] <= '~') {
        out[size] = name[size];
        size++;
    }
    bool whole = size == RT_FILE_NAME - 1 || !name[size];
    out[whole ? size : 0] = '\0';
    return out;
}

static const char *weight_name(const PgProgram *program, uint32_t weight) {
    return program->tensors[program->weights[weight].tensor].name;
}

/* What the header says of all tensors together: the first dtype that is not float32. The table holds that of each. */
static IrDtype main_dtype(const PgProgram *program) {
    for (uint32_t i = 0; i < program->n_tensors; i++)
        if (program->tensors[i].dtype != IR_F32) return (IrDtype)program->tensors[i].dtype;
    return IR_F32;
}

RtPackedFront rt_packed_front(const PgProgram *program) {
    uint64_t size = sizeof(RtPackedHeader) + program->n_weights * sizeof(RtPackedTensor);
    for (uint32_t i = 0; i < program->n_weights; i++) size += strlen(weight_name(program, i)) + 1;
    uint64_t whole = su_round_up(size, RT_PACKED_ALIGN);
    uint8_t *bytes = su_calloc(1, whole);
    if (!bytes) su_no_memory(whole);
    RtPackedFront front = {.bytes = bytes,
                           .header = (RtPackedHeader *)(void *)bytes,
                           .table = (RtPackedTensor *)(void *)(bytes + sizeof(RtPackedHeader))};
    RtPackedHeader *header = front.header;
    *header = (RtPackedHeader){.format = RT_PACKED_FORMAT,
                               .numerics = PG_NUMERICS,
                               .dtype = main_dtype(program),
                               .n_weights = program->n_weights,
                               .header_bytes = size,
                               .data_offset = whole,
                               .data_bytes = program->weight_bytes};
    memcpy(header->magic, RT_PACKED_MAGIC, sizeof header->magic);
    memcpy(header->spec_hash, program->spec_hash, sizeof header->spec_hash);
    strncpy(header->name, program->name, sizeof header->name - 1);
    char *names = (char *)(front.table + program->n_weights);
    for (uint32_t i = 0; i < program->n_weights; i++) {
        const PgWeight *w = &program->weights[i];
        size_t name_size = strlen(weight_name(program, i)) + 1;
        front.table[i] = (RtPackedTensor){.pack = w->pack,
                                          .dtype = w->dtype,
                                          .negexp = w->negexp,
                                          .name_size = (uint32_t)name_size,
                                          .planes = w->planes,
                                          .O = w->O,
                                          .K = w->K,
                                          .offset = w->offset,
                                          .bytes = w->bytes};
        memcpy(names, weight_name(program, i), name_size);
        names += name_size;
    }
    return front;
}

/* ---- digests of tensors, by all workers */

typedef struct Digesting {
    const PgProgram *program;
    const uint8_t *blob;
    SuDigest *digests; /* [n_weights] */
    RtClaims claims;
} Digesting;

static void digest_work(void *context, int worker) {
    Digesting *d = context;
    (void)worker;
    for (;;) {
        uint32_t i = atomic_fetch_add(&d->claims.next, 1);
        if (i >= d->program->n_weights) return;
        d->digests[i] = su_digest(d->blob + d->program->weights[i].offset, d->program->weights[i].bytes);
    }
}

void rt_weights_digests(const PgProgram *program, const uint8_t *blob, RtWorkers *workers, SuDigest *digests) {
    Digesting digesting = {.program = program, .blob = blob, .digests = digests};
    rt_workers_run(workers, digest_work, &digesting);
}

SuDigest rt_weights_identity(const PgProgram *program, const uint8_t *blob, RtWorkers *workers) {
    SuArena arena = {0};
    SuDigest *digests = SU_NEW_ARRAY(&arena, SuDigest, program->n_weights);
    rt_weights_digests(program, blob, workers, digests);
    SuDigest identity = su_digest(digests, program->n_weights * sizeof *digests);
    su_arena_free(&arena);
    return identity;
}

/* ---- checking */

bool rt_packed_is(const uint8_t *data, size_t size) { return size >= 8 && memcmp(data, RT_PACKED_MAGIC, 8) == 0; }

static bool refuse_truncated(uint64_t size, uint64_t wanted, SuSpan span, SuDiags *diags) {
    return su_error(diags, span, pack_again, "file is truncated or incomplete: expected %llu bytes, got %llu",
                    (unsigned long long)wanted, (unsigned long long)size);
}

/* Is it a packed file with a whole, undamaged header? */
static bool check_header(const RtPackedHeader *header, size_t size, SuSpan span, SuDiags *diags) {
    if (size < sizeof *header || !rt_packed_is((const uint8_t *)header, size))
        return su_error(diags, span, pack_again, "file is not a complete packed-weights file");
    if (header->format != RT_PACKED_FORMAT) {
        return su_error(diags, span, "create it again with this version's mossc pack, or use the mossc that created it",
                        "file has an unsupported format: expected version %d, got %u", RT_PACKED_FORMAT, header->format);
    }
    if (header->header_bytes < sizeof *header || header->header_bytes > size)
        return su_error(diags, span, pack_again, "file is corrupt or truncated: its table does not fit the file");
    SuDigest digest = rt_packed_header_digest(header);
    if (!su_digest_equal(&digest, &header->digest))
        return su_error(diags, span, pack_again, "file is corrupt: the digest of its table does not match");
    return true;
}

bool rt_packed_check_header(const uint8_t *data, size_t size, const char *path, SuDiags *diags) {
    return check_header((const RtPackedHeader *)(const void *)data, size, su_file_span(diags, path), diags);
}

/* Was it made for this program? The expected front's digests are filled in from the file. */
static bool check_fit(const RtPackedHeader *header, const PgProgram *program, const RtPackedFront *want, SuSpan span,
                      SuDiags *diags) {
    char name[RT_FILE_NAME];
    if (header->numerics != PG_NUMERICS) {
        return su_error(diags, span, "create it again with this version's mossc pack, or use the mossc that created it",
                        "file was packed for another version of the numerics: expected %d, got %u", PG_NUMERICS, header->numerics);
    }
    if (memcmp(header->spec_hash, program->spec_hash, sizeof header->spec_hash) != 0) {
        return su_error(diags, span, "give the spec it was packed for, with the same --set values, or pack this spec's weights",
                        "file was packed for another spec: '%s', not this configuration of '%s'", rt_file_name(header->name, name),
                        program->name);
    }
    if (header->header_bytes != want->header->header_bytes || header->n_weights != program->n_weights ||
        header->dtype != want->header->dtype || header->data_offset != want->header->data_offset ||
        header->data_bytes != program->weight_bytes) {
        return su_error(diags, span, pack_again, "file was packed for a program with different weights or passes");
    }
    const RtPackedTensor *table = (const RtPackedTensor *)(header + 1);
    for (uint32_t i = 0; i < program->n_weights; i++) {
        want->table[i].digest = table[i].digest;
        if (memcmp(&table[i], &want->table[i], sizeof table[i]) != 0) {
            return su_error(diags, span, pack_again, "tensor '%s' has another layout or offset than this version's programs expect",
                            weight_name(program, i));
        }
    }
    if (memcmp(table, want->table, header->header_bytes - sizeof *header) != 0)
        return su_error(diags, span, pack_again, "file has tensors with other names than this program's");
    return true;
}

static bool all_zero(const uint8_t *data, uint64_t size) {
    return !size || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

bool rt_packed_check(const uint8_t *data, size_t size, const char *path, const PgProgram *program, RtPacked *out, SuDiags *diags) {
    const RtPackedHeader *header = (const RtPackedHeader *)(const void *)data;
    SuSpan span = su_file_span(diags, path);
    if (!check_header(header, size, span, diags)) return false;
    RtPackedFront want = rt_packed_front(program);
    uint64_t whole = want.header->data_offset + program->weight_bytes;
    bool ok = check_fit(header, program, &want, span, diags);
    if (ok && size != whole) ok = refuse_truncated(size, whole, span, diags);
    if (ok && !all_zero(data + header->header_bytes, header->data_offset - header->header_bytes))
        ok = su_error(diags, span, pack_again, "file is corrupt: non-zero bytes between its table and its tensors");
    if (ok) *out = (RtPacked){.header = header, .blob = data + header->data_offset};
    su_free(want.bytes);
    return ok;
}

bool rt_packed_take(SuMap *map, const char *path, const PgProgram *program, RtPacked *out, SuDiags *diags) {
    if (!rt_packed_check(map->data, map->size, path, program, out, diags)) return false;
    out->map = *map;
    *map = (SuMap){0};
    void *data = (void *)(uintptr_t)out->map.data;
    madvise(data, out->map.size, MADV_HUGEPAGE); /* wishes: where they are not granted, nothing changes */
    madvise(data, out->map.size, MADV_WILLNEED);
    return true;
}

/* Nothing but zeros between tensors: the program's weights lie in rising order. */
static bool check_gaps(const RtPacked *packed, const PgProgram *program, SuSpan span, SuDiags *diags) {
    uint64_t at = 0;
    for (uint32_t i = 0; i <= program->n_weights; i++) {
        const PgWeight *w = &program->weights[i];
        uint64_t next = i < program->n_weights ? w->offset : program->weight_bytes;
        if (next > at && !all_zero(packed->blob + at, next - at))
            return su_error(diags, span, pack_again, "file is corrupt: non-zero bytes between its tensors");
        at = i < program->n_weights ? w->offset + w->bytes : next;
    }
    return true;
}

bool rt_packed_verify(const RtPacked *packed, const char *path, const PgProgram *program, RtWorkers *workers, SuDiags *diags) {
    SuArena arena = {0};
    SuSpan span = su_file_span(diags, path);
    const RtPackedTensor *table = (const RtPackedTensor *)(packed->header + 1);
    SuDigest *digests = SU_NEW_ARRAY(&arena, SuDigest, program->n_weights);
    rt_weights_digests(program, packed->blob, workers, digests);
    SuDigest identity = su_digest(digests, program->n_weights * sizeof *digests);
    bool ok = true;
    for (uint32_t i = 0; i < program->n_weights; i++)
        if (!su_digest_equal(&digests[i], &table[i].digest))
            ok = su_error(diags, span, pack_again, "file is corrupt: the digest of tensor '%s' does not match",
                          weight_name(program, i));
    if (ok && !su_digest_equal(&identity, &packed->header->weights))
        ok = su_error(diags, span, pack_again, "file is corrupt: the digest of all its tensors does not match");
    su_arena_free(&arena);
    return ok && check_gaps(packed, program, span, diags);
}
