/* Digests: XXH3 of 128 bits, in the byte order that xxHash calls canonical. They find damage and tell contents apart; they are
 * no defence against someone who makes a file on purpose. */
#ifndef MOSSC_SUPPORT_DIGEST_H
#define MOSSC_SUPPORT_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct SuDigest {
    uint8_t bytes[16];
} SuDigest;

static inline bool su_digest_equal(const SuDigest *a, const SuDigest *b) { return memcmp(a, b, sizeof *a) == 0; }

SuDigest su_digest(const void *data, size_t size);

enum { SU_HEX = 33 }; /* a digest in hexadecimal, with its NUL */
const char *su_digest_hex(const SuDigest *digest, char out[SU_HEX]);

/* The digest of pieces, in order; may be asked for after every piece. */
typedef struct SuDigestStream SuDigestStream;
SuDigestStream *su_digest_start(void); /* without memory ends the guard, as arenas do */
void su_digest_add(SuDigestStream *stream, const void *data, size_t size);
SuDigest su_digest_now(const SuDigestStream *stream);
void su_digest_end(SuDigestStream *stream);

#endif
