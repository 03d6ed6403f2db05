#include "support/digest.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "support/diag.h"

struct SuDigestStream {
    XXH3_state_t state; /* 64-aligned */
};

static SuDigest canonical(XXH128_hash_t hash) {
    XXH128_canonical_t bytes;
    SuDigest digest;
    _Static_assert(sizeof bytes == sizeof digest, "128 bits");
    XXH128_canonicalFromHash(&bytes, hash);
    memcpy(digest.bytes, bytes.digest, sizeof digest.bytes);
    return digest;
}

SuDigest su_digest(const void *data, size_t size) { return canonical(XXH3_128bits(data, size)); }

const char *su_digest_hex(const SuDigest *digest, char out[SU_HEX]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof digest->bytes; i++) {
        out[2 * i] = digits[digest->bytes[i] >> 4];
        out[2 * i + 1] = digits[digest->bytes[i] & 15];
    }
    out[SU_HEX - 1] = '\0';
    return out;
}

SuDigestStream *su_digest_start(void) {
    SuDigestStream *stream = aligned_alloc(_Alignof(SuDigestStream), sizeof *stream);
    if (!stream) { SU_BUG("no memory for %zu bytes", sizeof *stream); }
    XXH3_INITSTATE(&stream->state);
    XXH3_128bits_reset(&stream->state);
    return stream;
}

void su_digest_add(SuDigestStream *stream, const void *data, size_t size) { XXH3_128bits_update(&stream->state, data, size); }

SuDigest su_digest_now(const SuDigestStream *stream) { return canonical(XXH3_128bits_digest(&stream->state)); }

void su_digest_end(SuDigestStream *stream) { free(stream); }
