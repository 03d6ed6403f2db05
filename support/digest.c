/* XXH3 of 128 bits (doc/xxhash_spec.md of github.com/Cyan4973/xxHash), with seed 0 and the default secret. It is written out here
 * because an artefact (runtime/device.cmake) carries this file and must build where nothing but a C compiler is; a second
 * implementation, xxHash's own for the compiler, would only be one more that may differ. tests/frontend/test_digest.c holds it to
 * the digests that libxxhash gives.
 *
 * Up to 240 bytes are mixed in pieces of 16. Longer inputs go through eight accumulators in stripes of 64 bytes; sixteen stripes
 * are a block, after which the accumulators are scrambled. The last stripe is always the last 64 bytes of all, so that a block is
 * taken only once it is known that more bytes follow. */
#include "support/alloc.h"
#include "support/digest.h"

#include <stdlib.h>

#include "support/diag.h"

enum { STRIPE = 64, BLOCK = 1024, LANES = 8, SHORT = 240, SECRET = 192 };

#define P32_1 UINT64_C(0x9E3779B1)
#define P32_2 UINT64_C(0x85EBCA77)
#define P32_3 UINT64_C(0xC2B2AE3D)
#define P64_1 UINT64_C(0x9E3779B185EBCA87)
#define P64_2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define P64_3 UINT64_C(0x165667B19E3779F9)
#define P64_4 UINT64_C(0x85EBCA77C2B2AE63)
#define P64_5 UINT64_C(0x27D4EB2F165667C5)
#define MIX_1 UINT64_C(0x165667919E3779F9)
#define MIX_2 UINT64_C(0x9FB21C651E98DF25)

static const uint8_t secret[SECRET] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d, 0xe9,
    0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78,
    0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6,
    0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8, 0xa8, 0xfa, 0x76, 0x3f,
    0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31,
    0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff,
    0xfa, 0x13, 0x63, 0xeb, 0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f,
    0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

typedef struct Pair {
    uint64_t low, high;
} Pair;

struct SuDigestStream {
    uint64_t lanes[LANES];
    uint8_t tail[STRIPE];   /* the end of the last block taken */
    uint8_t held[BLOCK];    /* what no block has taken yet */
    size_t n_held;
    uint64_t size;          /* of all pieces */
};

/* ---- words */

static inline uint64_t word(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint32_t half(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline Pair multiply(uint64_t a, uint64_t b) {
    __extension__ typedef unsigned __int128 Wide;
    Wide product = (Wide)a * b;
    return (Pair){(uint64_t)product, (uint64_t)(product >> 64)};
}

static inline uint64_t fold(uint64_t a, uint64_t b) {
    Pair product = multiply(a, b);
    return product.low ^ product.high;
}

static inline uint64_t avalanche(uint64_t h) {
    h = (h ^ h >> 37) * MIX_1;
    return h ^ h >> 32;
}

static inline uint64_t old_avalanche(uint64_t h) { /* XXH64's */
    h = (h ^ h >> 33) * P64_2;
    h = (h ^ h >> 29) * P64_3;
    return h ^ h >> 32;
}

/* ---- up to 16 bytes */

static Pair of_3(const uint8_t *data, size_t size) { /* 1 to 3 */
    uint32_t low = (uint32_t)data[0] << 16 | (uint32_t)data[size / 2] << 24 | data[size - 1] | (uint32_t)size << 8;
    uint32_t swapped = __builtin_bswap32(low), high = swapped << 13 | swapped >> 19;
    return (Pair){old_avalanche(low ^ (uint64_t)(half(secret) ^ half(secret + 4))),
                  old_avalanche(high ^ (uint64_t)(half(secret + 8) ^ half(secret + 12)))};
}

static Pair of_8(const uint8_t *data, size_t size) { /* 4 to 8 */
    uint64_t both = half(data) + ((uint64_t)half(data + size - 4) << 32);
    Pair m = multiply(both ^ word(secret + 16) ^ word(secret + 24), P64_1 + (size << 2));
    m.high += m.low << 1;
    m.low ^= m.high >> 3;
    m.low = (m.low ^ m.low >> 35) * MIX_2;
    return (Pair){m.low ^ m.low >> 28, avalanche(m.high)};
}

static Pair of_16(const uint8_t *data, size_t size) { /* 9 to 16 */
    uint64_t low = word(data), high = word(data + size - 8);
    Pair m = multiply(low ^ high ^ word(secret + 32) ^ word(secret + 40), P64_1);
    m.low += (uint64_t)(size - 1) << 54;
    high ^= word(secret + 48) ^ word(secret + 56);
    m.high += high + (high & UINT32_MAX) * (P32_2 - 1);
    m.low ^= __builtin_bswap64(m.high);
    Pair h = multiply(m.low, P64_2);
    h.high += m.high * P64_2;
    return (Pair){avalanche(h.low), avalanche(h.high)};
}

/* ---- up to 240 bytes */

static inline uint64_t mix(const uint8_t *data, const uint8_t *key) {
    return fold(word(data) ^ word(key), word(data + 8) ^ word(key + 8));
}

static Pair mix_pair(Pair h, const uint8_t *a, const uint8_t *b, const uint8_t *key) {
    h.low = (h.low + mix(a, key)) ^ (word(b) + word(b + 8));
    h.high = (h.high + mix(b, key + 16)) ^ (word(a) + word(a + 8));
    return h;
}

static Pair finish_short(Pair h, size_t size) {
    uint64_t high = h.low * P64_1 + h.high * P64_4 + size * P64_2;
    return (Pair){avalanche(h.low + h.high), 0 - avalanche(high)};
}

static Pair of_128(const uint8_t *data, size_t size) { /* 17 to 128: pairs of 16 from both ends, the middle first */
    Pair h = {.low = size * P64_1};
    for (size_t i = (size - 1) / 32 + 1; i-- > 0;) h = mix_pair(h, data + 16 * i, data + size - 16 * (i + 1), secret + 32 * i);
    return finish_short(h, size);
}

static Pair of_240(const uint8_t *data, size_t size) { /* 129 to 240 */
    Pair h = {.low = size * P64_1};
    for (size_t i = 0; i < 128; i += 32) h = mix_pair(h, data + i, data + i + 16, secret + i);
    h = (Pair){avalanche(h.low), avalanche(h.high)};
    for (size_t i = 128; i + 32 <= size; i += 32) h = mix_pair(h, data + i, data + i + 16, secret + 3 + i - 128);
    h = mix_pair(h, data + size - 16, data + size - 32, secret + 136 - 17 - 16);
    return finish_short(h, size);
}

static Pair of_short(const uint8_t *data, size_t size) {
    if (size == 0)
        return (Pair){old_avalanche(word(secret + 64) ^ word(secret + 72)), old_avalanche(word(secret + 80) ^ word(secret + 88))};
    return size <= 3     ? of_3(data, size)
           : size <= 8   ? of_8(data, size)
           : size <= 16  ? of_16(data, size)
           : size <= 128 ? of_128(data, size)
                         : of_240(data, size);
}

/* ---- more */

static inline void take_stripe(uint64_t lanes[LANES], const uint8_t *data, const uint8_t *key) {
    uint64_t values[LANES], keyed[LANES];
    for (int i = 0; i < LANES; i++) values[i] = word(data + 8 * i);
    for (int i = 0; i < LANES; i++) keyed[i] = values[i] ^ word(key + 8 * i);
    for (int i = 0; i < LANES; i++) lanes[i] += values[i ^ 1] + (keyed[i] & UINT32_MAX) * (keyed[i] >> 32);
}

static void take_stripes(uint64_t lanes[LANES], const uint8_t *data, size_t count) {
    for (size_t s = 0; s < count; s++) take_stripe(lanes, data + s * STRIPE, secret + 8 * s);
}

static void take_block(uint64_t lanes[LANES], const uint8_t *data) {
    take_stripes(lanes, data, BLOCK / STRIPE);
    for (int i = 0; i < LANES; i++) lanes[i] = (lanes[i] ^ lanes[i] >> 47 ^ word(secret + SECRET - STRIPE + 8 * i)) * P32_1;
}

static uint64_t merge(const uint64_t lanes[LANES], const uint8_t *key, uint64_t h) {
    for (int i = 0; i < LANES; i += 2) h += fold(lanes[i] ^ word(key + 8 * i), lanes[i + 1] ^ word(key + 8 * i + 8));
    return avalanche(h);
}

static void start(SuDigestStream *s) {
    static const uint64_t first[LANES] = {P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1};
    memcpy(s->lanes, first, sizeof first);
    s->n_held = 0;
    s->size = 0;
}

void su_digest_add(SuDigestStream *s, const void *data, size_t size) {
    const uint8_t *at = data;
    s->size += size;
    while (size > BLOCK - s->n_held) {
        size_t more = BLOCK - s->n_held;
        const uint8_t *block = at;
        if (s->n_held) {
            memcpy(s->held + s->n_held, at, more);
            block = s->held;
        }
        take_block(s->lanes, block);
        memcpy(s->tail, block + BLOCK - STRIPE, STRIPE);
        s->n_held = 0;
        at += more;
        size -= more;
    }
    if (size) memcpy(s->held + s->n_held, at, size);
    s->n_held += size;
}

static Pair of_long(const SuDigestStream *s) {
    uint64_t lanes[LANES];
    uint8_t last[2 * STRIPE];
    memcpy(lanes, s->lanes, sizeof lanes);
    take_stripes(lanes, s->held, (s->n_held - 1) / STRIPE);
    memcpy(last, s->tail, STRIPE);
    size_t end = s->n_held < STRIPE ? s->n_held : STRIPE;
    memcpy(last + STRIPE, s->held + s->n_held - end, end);
    take_stripe(lanes, last + end, secret + SECRET - STRIPE - 7);
    return (Pair){merge(lanes, secret + 11, s->size * P64_1), merge(lanes, secret + SECRET - STRIPE - 11, ~(s->size * P64_2))};
}

/* ---- digests */

static SuDigest canonical(Pair h) { /* big endian, the high word first */
    uint64_t words[2] = {__builtin_bswap64(h.high), __builtin_bswap64(h.low)};
    SuDigest digest;
    memcpy(digest.bytes, words, sizeof digest.bytes);
    return digest;
}

SuDigest su_digest_now(const SuDigestStream *s) {
    return canonical(s->size <= SHORT ? of_short(s->held, (size_t)s->size) : of_long(s));
}

SuDigest su_digest(const void *data, size_t size) {
    if (size <= SHORT) return canonical(of_short(data, size));
    SuDigestStream s;
    start(&s);
    su_digest_add(&s, data, size);
    return su_digest_now(&s);
}

SuDigestStream *su_digest_start(void) {
    SuDigestStream *s = su_malloc(sizeof *s);
    if (!s) su_no_memory(sizeof *s);
    start(s);
    return s;
}

void su_digest_end(SuDigestStream *stream) { su_free(stream); }

const char *su_digest_hex(const SuDigest *digest, char out[SU_HEX]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof digest->bytes; i++) {
        out[2 * i] = digits[digest->bytes[i] >> 4];
        out[2 * i + 1] = digits[digest->bytes[i] & 15];
    }
    out[SU_HEX - 1] = '\0';
    return out;
}
