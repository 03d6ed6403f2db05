/* Digests: XXH3 of 128 bits, in the byte order that xxHash calls canonical. They find damage and tell contents apart; they are
 * no defence against someone who makes a file on purpose. */
#ifndef MOSSC_RUNTIME_DIGEST_H
#define MOSSC_RUNTIME_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct RtDigest {
    uint8_t bytes[16];
} RtDigest;

static inline bool rt_digest_equal(const RtDigest *a, const RtDigest *b) { return memcmp(a, b, sizeof *a) == 0; }

RtDigest rt_digest(const void *data, size_t size);

enum { RT_HEX = 33 }; /* a digest in hexadecimal, with its NUL */
const char *rt_digest_hex(const RtDigest *digest, char out[RT_HEX]);

/* The digest of pieces, in order; may be asked for after every piece. */
typedef struct RtDigestStream RtDigestStream;
RtDigestStream *rt_digest_start(void); /* ends the process without memory, as arenas do */
void rt_digest_add(RtDigestStream *stream, const void *data, size_t size);
RtDigest rt_digest_now(const RtDigestStream *stream);
void rt_digest_end(RtDigestStream *stream);

#endif
