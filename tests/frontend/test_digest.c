/* Digests against what libxxhash 0.8.1 gives (XXH3_128bits, canonical form). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/digest.h"

enum { MOST = 5000 };

static uint8_t bytes[MOST];

static int fill(void **state) {
    (void)state;
    for (size_t i = 0; i < MOST; i++) bytes[i] = (uint8_t)(i * UINT64_C(2654435761) >> 13);
    return 0;
}

static void assert_digest(SuDigest digest, const char *expected) {
    char hex[SU_HEX];
    assert_string_equal(su_digest_hex(&digest, hex), expected);
}

/* One of each length that is treated in a way of its own. */
static void lengths_of_every_kind_are_as_xxhash_has_them(void **state) {
    (void)state;
    static const struct {
        size_t size;
        const char *digest;
    } known[] = {{0, "99aa06d3014798d86001c324468d497f"},    {3, "95c705060a313bf8a1c4a8259b827291"},
                 {8, "2761698c33953c430234362aaf47b71a"},    {16, "29be75b0bbbb5284aafffcec5df2cb27"},
                 {128, "ba44fd018231af4cbbe087d879edcc78"},  {240, "4f49ccc8526aa7ad407883ea5ef95b9a"},
                 {1024, "53bd178b75ab292e1fd15e7d36f5e1bc"}, {4097, "1487c90386606b4552606c941adb173b"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) assert_digest(su_digest(bytes, known[i].size), known[i].digest);
}

static void all_lengths_are_as_xxhash_has_them(void **state) {
    (void)state;
    SuDigestStream *all = su_digest_start();
    for (size_t size = 0; size < MOST; size++) {
        SuDigest digest = su_digest(bytes, size);
        su_digest_add(all, digest.bytes, sizeof digest.bytes);
    }
    assert_digest(su_digest_now(all), "7ecb8e76e897a45e77d6a6ece65bfeb8");
    su_digest_end(all);
}

static void pieces_give_the_digest_of_the_whole(void **state) {
    (void)state;
    for (size_t step = 1; step < 2500; step = step * 3 / 2 + 1) {
        SuDigestStream *stream = su_digest_start();
        for (size_t at = 0, size; at < MOST; at += size) {
            size = MOST - at < step ? MOST - at : step;
            su_digest_add(stream, bytes + at, size);
            SuDigest now = su_digest_now(stream), whole = su_digest(bytes, at + size);
            assert_true(su_digest_equal(&now, &whole));
        }
        su_digest_end(stream);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_of_every_kind_are_as_xxhash_has_them),
        cmocka_unit_test(all_lengths_are_as_xxhash_has_them),
        cmocka_unit_test(pieces_give_the_digest_of_the_whole),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
