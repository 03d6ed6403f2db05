#include "runtime/digest.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "support/diag.h"

struct RtDigestStream {
    XXH3_state_t state; /* 64-aligned */
};

static RtDigest canonical(XXH128_hash_t hash) {
    XXH128_canonical_t bytes;
    RtDigest digest;
    _Static_assert(sizeof bytes == sizeof digest, "128 bits");
    XXH128_canonicalFromHash(&bytes, hash);
    memcpy(digest.bytes, bytes.digest, sizeof digest.bytes);
    return digest;
}

RtDigest rt_digest(const void *data, size_t size) { return canonical(XXH3_128bits(data, size)); }

const char *rt_digest_hex(const RtDigest *digest, char out[RT_HEX]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof digest->bytes; i++) {
        out[2 * i] = digits[digest->bytes[i] >> 4];
        out[2 * i + 1] = digits[digest->bytes[i] & 15];
    }
    out[RT_HEX - 1] = '\0';
    return out;
}

RtDigestStream *rt_digest_start(void) {
    RtDigestStream *stream = aligned_alloc(_Alignof(RtDigestStream), sizeof *stream);
    if (!stream) { SU_BUG("no memory for %zu bytes", sizeof *stream); }
    XXH3_INITSTATE(&stream->state);
    XXH3_128bits_reset(&stream->state);
    return stream;
}

void rt_digest_add(RtDigestStream *stream, const void *data, size_t size) { XXH3_128bits_update(&stream->state, data, size); }

RtDigest rt_digest_now(const RtDigestStream *stream) { return canonical(XXH3_128bits_digest(&stream->state)); }

void rt_digest_end(RtDigestStream *stream) { free(stream); }
