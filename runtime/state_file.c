#include "runtime/state_file.h"

#include <stdlib.h>

#include "support/size.h"

static const char start_again[] = "feed the text again to create a new state";

/* ---- blocks */

static bool is_zero(const uint8_t *data, uint64_t size) { return !size || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0); }

static uint64_t count_blocks(uint64_t bytes) { return su_ceil_div(bytes, RT_STATE_BLOCK); }

static uint64_t block_size(uint64_t bytes, uint64_t block) {
    uint64_t left = bytes - block * RT_STATE_BLOCK;
    return left < RT_STATE_BLOCK ? left : RT_STATE_BLOCK;
}

static uint64_t bits_size(uint64_t bytes) { return su_round_up(su_ceil_div(count_blocks(bytes), 8), 8); }

static bool bit(const uint8_t *bits, uint64_t block) { return bits[block / 8] >> block % 8 & 1; }

void rt_state_copy(uint8_t *to, const uint8_t *from, uint64_t bytes) {
    for (uint64_t b = 0; b < count_blocks(bytes); b++) {
        uint64_t at = b * RT_STATE_BLOCK, size = block_size(bytes, b);
        if (memcmp(to + at, from + at, size) != 0) memcpy(to + at, from + at, size);
    }
}

SuDigest rt_state_layout(const PgProgram *program) {
    SuDigestStream *stream = su_digest_start();
    for (uint32_t i = 0; i < program->n_states; i++) {
        const PgState *s = &program->states[i];
        su_digest_add(stream, s->name, strlen(s->name) + 1);
        su_digest_add(stream, &s->offset, sizeof s->offset);
        su_digest_add(stream, &s->bytes, sizeof s->bytes);
    }
    su_digest_add(stream, &program->state_bytes, sizeof program->state_bytes);
    SuDigest layout = su_digest_now(stream);
    su_digest_end(stream);
    return layout;
}

/* ---- writing */

/* Where a body goes: into a digest, a file, or both. */
typedef struct Sink {
    SuDigestStream *digest;
    FILE *file;
} Sink;

static void put(Sink *sink, const void *data, size_t size) {
    if (sink->digest) su_digest_add(sink->digest, data, size);
    if (sink->file && !ferror(sink->file)) fwrite(data, 1, size, sink->file);
}

static void put_body(Sink *sink, const PgProgram *program, const RtSequence *sequence, const uint8_t *bits) {
    put(sink, bits, bits_size(program->state_bytes));
    for (uint64_t b = 0; b < count_blocks(program->state_bytes); b++)
        if (bit(bits, b)) put(sink, sequence->memory + b * RT_STATE_BLOCK, block_size(program->state_bytes, b));
    if (sequence->logits) put(sink, sequence->logits, (size_t)program->vocab_size * sizeof(float));
}

static RtStateHeader make_header(const PgProgram *program, const SuDigest *weights, const RtSequence *sequence, uint8_t *bits) {
    RtStateHeader header = {.format = RT_STATE_FORMAT,
                            .numerics = PG_NUMERICS,
                            .weights = *weights,
                            .layout = rt_state_layout(program),
                            .position = sequence->position,
                            .state_bytes = program->state_bytes,
                            .logits = sequence->logits ? (uint64_t)program->vocab_size : 0,
                            .has_random = sequence->random->is_set,
                            .seed = sequence->random->seed,
                            .random = sequence->random->state};
    memcpy(header.magic, RT_STATE_MAGIC, sizeof header.magic);
    memcpy(header.spec_hash, program->spec_hash, sizeof header.spec_hash);
    strncpy(header.name, program->name, sizeof header.name - 1);
    for (uint64_t b = 0; b < count_blocks(program->state_bytes); b++) {
        if (!is_zero(sequence->memory + b * RT_STATE_BLOCK, block_size(program->state_bytes, b))) {
            bits[b / 8] |= (uint8_t)(1u << b % 8);
            header.blocks++;
        }
    }
    Sink sink = {.digest = su_digest_start()};
    put_body(&sink, program, sequence, bits);
    header.body = su_digest_now(sink.digest);
    su_digest_end(sink.digest);
    header.digest = rt_state_header_digest(&header);
    return header;
}

bool rt_state_write(const char *path, const PgProgram *program, const SuDigest *weights, const RtSequence *sequence,
                    SuDiags *diags) {
    SuOut out;
    if (!su_out_open(path, &out, diags)) return false;
    SuArena arena = {0};
    uint8_t *bits = su_alloc_array(&arena, bits_size(program->state_bytes), 1);
    RtStateHeader header = make_header(program, weights, sequence, bits);
    Sink sink = {.file = out.file};
    put(&sink, &header, sizeof header);
    put_body(&sink, program, sequence, bits);
    su_arena_free(&arena);
    return su_out_commit(&out, diags);
}

/* ---- reading */

/* Is it a state file with an undamaged header? */
static bool check_header(const RtStateHeader *header, size_t size, SuSpan span, SuDiags *diags) {
    if (size < sizeof *header || memcmp(header->magic, RT_STATE_MAGIC, sizeof header->magic) != 0)
        return su_error(diags, span, "give a file that --state-out wrote", "file is not a complete state file");
    if (header->format != RT_STATE_FORMAT) {
        return su_error(diags, span, start_again, "state has an unsupported format: expected version %d, got %u", RT_STATE_FORMAT,
                        header->format);
    }
    SuDigest digest = rt_state_header_digest(header);
    if (!su_digest_equal(&digest, &header->digest))
        return su_error(diags, span, start_again, "file is corrupt: the digest of its header does not match");
    return true;
}

/* Is it of this model? */
static bool check_fit(const RtStateHeader *header, const PgProgram *program, const SuDigest *weights, SuSpan span, SuDiags *diags) {
    char name[RT_FILE_NAME];
    if (header->numerics != PG_NUMERICS) {
        return su_error(diags, span, start_again, "state was made with another version of the numerics: expected %d, got %u",
                        PG_NUMERICS, header->numerics);
    }
    if (memcmp(header->spec_hash, program->spec_hash, sizeof header->spec_hash) != 0) {
        return su_error(diags, span, "give the spec it was created with, and the same --set values",
                        "file is a state of another spec: '%s', not this configuration of '%s'", rt_file_name(header->name, name),
                        program->name);
    }
    if (!su_digest_equal(&header->weights, weights))
        return su_error(diags, span, "give the weights it was created with", "file is a state of this spec with other weights");
    SuDigest layout = rt_state_layout(program);
    if (!su_digest_equal(&header->layout, &layout) || header->state_bytes != program->state_bytes ||
        (header->logits && header->logits != (uint64_t)program->vocab_size)) {
        return su_error(diags, span, "run with the passes it was created with",
                        "file is a state of a program with another state layout");
    }
    if (header->position < 0 || (program->max_positions && header->position > program->max_positions))
        return su_error(diags, span, start_again, "file is corrupt: its position %lld is out of range",
                        (long long)header->position);
    return true;
}

/* Do bits and blocks fill the file exactly? */
static bool check_body(const RtStateFile *file, size_t size, SuSpan span, SuDiags *diags) {
    const RtStateHeader *header = file->header;
    uint64_t bits = bits_size(header->state_bytes), whole = sizeof *header + bits, set = 0;
    if (size < whole) return su_error(diags, span, start_again, "file is truncated");
    for (uint64_t b = 0; b < bits * 8; b++) {
        if (bit(file->bits, b)) {
            if (b >= count_blocks(header->state_bytes))
                return su_error(diags, span, start_again, "file is corrupt: it has blocks beyond the end of the state");
            whole += block_size(header->state_bytes, b);
            set++;
        }
    }
    whole += header->logits * sizeof(float);
    if (set != header->blocks || size != whole) {
        return su_error(diags, span, start_again, "file is corrupt or truncated: expected %llu bytes, got %zu",
                        (unsigned long long)whole, size);
    }
    SuDigest body = su_digest(file->bits, size - sizeof *header);
    if (!su_digest_equal(&body, &header->body))
        return su_error(diags, span, start_again, "file is corrupt: the digest of its contents does not match");
    return true;
}

bool rt_state_check(const uint8_t *data, size_t size, const char *path, const PgProgram *program, const SuDigest *weights,
                    RtStateFile *out, SuDiags *diags) {
    SuSpan span = su_file_span(diags, path);
    RtStateFile file = {.header = (const RtStateHeader *)(const void *)data};
    if (!check_header(file.header, size, span, diags) || !check_fit(file.header, program, weights, span, diags)) return false;
    file.bits = data + sizeof *file.header;
    if (!check_body(&file, size, span, diags)) return false;
    file.blocks = file.bits + bits_size(program->state_bytes);
    file.logits = file.header->logits ? data + size - file.header->logits * sizeof(float) : NULL;
    *out = file;
    return true;
}

bool rt_state_check_whole(const uint8_t *data, size_t size, const char *path, SuDiags *diags) {
    SuSpan span = su_file_span(diags, path);
    RtStateFile file = {.header = (const RtStateHeader *)(const void *)data};
    if (!check_header(file.header, size, span, diags)) return false;
    file.bits = data + sizeof *file.header;
    if (file.header->logits > size / sizeof(float)) return su_error(diags, span, start_again, "file is truncated");
    return check_body(&file, size, span, diags);
}

void rt_state_unpack(const RtStateFile *file, uint8_t *memory) {
    uint64_t bytes = file->header->state_bytes;
    const uint8_t *from = file->blocks;
    for (uint64_t b = 0; b < count_blocks(bytes); b++) {
        if (bit(file->bits, b)) {
            memcpy(memory + b * RT_STATE_BLOCK, from, block_size(bytes, b));
            from += block_size(bytes, b);
        }
    }
}
