/* Fresh weights: the distributions of the language page, streams of their own, the same bytes for the same seed. */
#include "tests/runtime/files.h"

#include <math.h>

#include "runtime/fresh.h"

enum { N = 100000 };

static void draw(const RtFreshTensor *tensor, uint64_t seed, float out[N]) {
    RtFreshStream stream = rt_fresh_start(tensor, seed);
    rt_fresh_next(&stream, N, out);
}

static void moments(const float x[N], double *mean, double *deviation, double *least, double *most) {
    double sum = 0, squares = 0;
    *least = INFINITY;
    *most = -INFINITY;
    for (int i = 0; i < N; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
        *least = fmin(*least, (double)x[i]);
        *most = fmax(*most, (double)x[i]);
    }
    *mean = sum / (double)N;
    *deviation = sqrt(squares / (double)N - *mean * *mean);
}

static void test_uniform_and_normal_draws(void **unused) {
    (void)unused;
    static float x[N];
    double mean, deviation, least, most;
    draw(&(RtFreshTensor){.tensor = {.name = "u"}, .kind = RT_FRESH_UNIFORM_FAN, .fan = 64, .scale = 0.5}, 1, x);
    moments(x, &mean, &deviation, &least, &most);
    assert_true(fabs(mean) < 1e-3 && fabs(deviation - 0.0625 / sqrt(3)) < 3e-4);
    assert_true(least >= -0.0625 && least < -0.0624 && most <= 0.0625 && most > 0.0624);
    draw(&(RtFreshTensor){.tensor = {.name = "n"}, .kind = RT_FRESH_NORMAL, .scale = 1}, 1, x);
    moments(x, &mean, &deviation, &least, &most);
    assert_true(fabs(mean) < 4e-4 && fabs(deviation - 0.02) < 3e-4 && least < -0.07 && most > 0.07);
    int within = 0;
    for (int i = 0; i < N; i++) within += fabsf(x[i]) < 0.02f;
    assert_true(abs(within - 68269) < 800);
}

static void test_dt_bias_and_a_log(void **unused) {
    (void)unused;
    static float x[N];
    draw(&(RtFreshTensor){.tensor = {.name = "dt", .rank = 1, .shape = {N}}, .kind = RT_FRESH_DT_BIAS}, 1, x);
    double sum = 0;
    for (int i = 0; i < N; i++) {
        double d = log1p(exp((double)x[i])); /* softplus gives d back */
        assert_true(d > 0.00099999 && d < 0.1000001);
        sum += log(d);
    }
    assert_true(fabs(sum / (double)N - 0.5 * (log(0.001) + log(0.1))) < 0.02);
    draw(&(RtFreshTensor){.tensor = {.name = "A_log", .rank = 3, .shape = {2, N, 16}}, .kind = RT_FRESH_A_LOG}, 1, x);
    assert_true(x[0] == 0 && x[1] == (float)log(2) && x[15] == (float)log(16) && x[16] == 0 && x[33] == x[1]);
    draw(&(RtFreshTensor){.tensor = {.name = "D"}, .kind = RT_FRESH_ONES, .scale = 1}, 1, x);
    assert_true(x[0] == 1 && x[N - 1] == 1);
    draw(&(RtFreshTensor){.tensor = {.name = "b"}, .kind = RT_FRESH_ZEROS, .scale = 1}, 1, x);
    assert_true(x[0] == 0 && x[N - 1] == 0);
}

static void test_a_stream_belongs_to_seed_and_name(void **unused) {
    (void)unused;
    static float a[N], b[N];
    RtFreshTensor t = {.tensor = {.name = "blocks.0.in_proj.weight"}, .kind = RT_FRESH_NORMAL, .scale = 1};
    draw(&t, 5, a);
    RtFreshStream stream = rt_fresh_start(&t, 5);
    for (uint64_t at = 0, n; at < N; at += n) { /* in runs of any size */
        n = at % 7 + 1 < N - at ? at % 7 + 1 : N - at;
        rt_fresh_next(&stream, n, b + at);
    }
    assert_memory_equal(a, b, sizeof a);
    draw(&t, 6, b);
    assert_true(memcmp(a, b, 64) != 0);
    t.tensor.name = "blocks.1.in_proj.weight";
    draw(&t, 5, b);
    assert_true(memcmp(a, b, 64) != 0);
}

/* FNV-1a of a whole file: what every machine must write. */
static void test_the_bytes_are_the_agreed_ones(void **unused) {
    (void)unused;
    static const RtFreshTensor tensors[] = {
        {.tensor = {"embed.weight", 2, {256, 32}}, .kind = RT_FRESH_NORMAL, .scale = 1},
        {.tensor = {"blocks.0.out_proj.weight", 2, {32, 64}}, .kind = RT_FRESH_UNIFORM_FAN, .fan = 64, .scale = 0.5},
        {.tensor = {"blocks.0.dt_proj.bias", 2, {4, 64}}, .kind = RT_FRESH_DT_BIAS, .scale = 1},
        {.tensor = {"blocks.0.A_log", 2, {64, 16}}, .kind = RT_FRESH_A_LOG, .scale = 1},
    };
    Directory directory = directory_make();
    const char *path = directory_file(&directory, "fresh.safetensors");
    SuDiags diags = {0};
    assert_true(rt_fresh_write(path, tensors, 4, 42, NULL, NULL, &diags));
    SuMap map;
    assert_true(su_map_open(path, &map, &diags));
    uint64_t digest = 0xCBF29CE484222325;
    for (size_t i = 0; i < map.size; i++) digest = (digest ^ map.data[i]) * 0x100000001B3;
    su_map_close(&map);
    directory_remove(&directory);
    su_diags_free(&diags);
    assert_int_equal(digest, 0x9B12A0D564F9D1F1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uniform_and_normal_draws),
        cmocka_unit_test(test_dt_bias_and_a_log),
        cmocka_unit_test(test_a_stream_belongs_to_seed_and_name),
        cmocka_unit_test(test_the_bytes_are_the_agreed_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
