#include "tests/codegen/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <setjmp.h>
#include <cmocka.h>
// clang-format on

#include "ir/vmath32.h"

static uint8_t *room(void) {
    uint8_t *p = aligned_alloc(4096, HARNESS_BYTES);
    assert_non_null(p);
    return p;
}

Harness *harness_new(const char *isa, uint64_t seed) {
    Harness *h = calloc(1, sizeof *h);
    assert_non_null(h);
    SuDiags diags = {0};
    h->present = cg_target_host(isa, &h->target, &diags);
    su_diags_free(&diags);
    h->random = seed * 0x9e3779b97f4a7c15u + 1;
    h->arena = room();
    h->weights = room();
    h->state = room();
    h->scratch = room();
    h->logits = room();
    h->dump_dir = getenv("MOSSC_DUMP");
    return h;
}

void harness_free(Harness *h) {
    cg_target_free(&h->target);
    free(h->arena);
    free(h->weights);
    free(h->state);
    free(h->scratch);
    free(h->logits);
    free(h);
}

void harness_step(Harness *h, PgMode mode, uint32_t rows, uint32_t n_out_rows) {
    memset(h->arena, 0xff, HARNESS_BYTES); /* NaN */
    memset(h->state, 0xff, HARNESS_BYTES);
    memset(h->scratch, 0xff, HARNESS_BYTES);
    memset(h->logits, 0xff, HARNESS_BYTES);
    memset(h->nonfinite, 0, sizeof h->nonfinite);
    memset(&h->phase, 0, sizeof h->phase);
    h->arena_used = h->weights_used = h->state_used = 4096;
    h->segments[0] = (RtSegment){.state = h->state, .first_row = 0, .count = rows};
    h->args = (RtArgs){.weights = h->weights,
                       .arena = h->arena,
                       .scratch = h->scratch,
                       .segments = h->segments,
                       .tokens = h->tokens,
                       .row_segment = h->row_segment,
                       .row_position = h->row_position,
                       .out_rows = h->out_rows,
                       .logits = (float *)h->logits,
                       .nonfinite = h->nonfinite,
                       .ld = mode == PG_ROW ? 1 : pg_ld(rows),
                       .rows = rows,
                       .n_segments = 1,
                       .n_out_rows = n_out_rows};
    h->phase.fixed = 1;
    h->phase.name = "test";
}

/* xorshift64* */
static uint64_t next_random(Harness *h) {
    h->random ^= h->random >> 12;
    h->random ^= h->random << 25;
    h->random ^= h->random >> 27;
    return h->random * 0x2545f4914f6cdd1du;
}

uint32_t harness_below(Harness *h, uint32_t n) { return (uint32_t)((next_random(h) >> 32) * n >> 32); }

float harness_float(Harness *h) {
    float unit = (float)((double)(next_random(h) >> 11) * 0x1p-52 - 1.0);
    return harness_below(h, 64) == 0 ? ldexpf(unit, -(int)harness_below(h, 30)) : unit;
}

float *harness_floats(Harness *h, uint64_t n) {
    float *x = malloc((n + 1) * sizeof *x);
    assert_non_null(x);
    for (uint64_t i = 0; i < n; i++) x[i] = harness_float(h);
    return x;
}

static float half_value(uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float magnitude = exponent == 0 ? ldexpf((float)fraction, -24) : ldexpf((float)(fraction + 1024), exponent - 25);
    return bits & 0x8000 ? -magnitude : magnitude;
}

/* The half whose value is x exactly. */
static uint16_t half_bits(float x) {
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    float a = fabsf(x);
    if (a < 0x1p-14f) return (uint16_t)(sign | (uint16_t)ldexpf(a, 24));
    int e = ilogbf(a);
    return (uint16_t)(sign | (e + 15) << 10 | ((uint16_t)ldexpf(a, 10 - e) & 1023));
}

static uint32_t float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

float *harness_weights(Harness *h, IrDtype dtype, uint64_t n) {
    float *w = harness_floats(h, n);
    for (uint64_t i = 0; i < n; i++) {
        if (dtype == IR_BF16) {
            uint32_t bits = float_bits(w[i]) & 0xffff0000u;
            memcpy(&w[i], &bits, sizeof bits);
        } else if (dtype == IR_F16) { /* |w| < 2, denormals among them */
            w[i] = half_value((uint16_t)(next_random(h) & 0xbfff));
        }
    }
    return w;
}

float *harness_arena(Harness *h, unsigned slot, uint64_t bytes) {
    uint64_t at = h->arena_used, per_row = h->args.ld > 1 ? 64 : 0;
    at += per_row * h->args.ld;
    h->phase.operands[slot] = (PgRef){PG_ARENA, per_row, at - per_row * h->args.ld};
    h->arena_used = at + (bytes + 127) / 64 * 64;
    assert_true(h->arena_used <= HARNESS_BYTES);
    return (float *)(h->arena + at);
}

float *harness_state(Harness *h, unsigned slot, uint64_t bytes) {
    h->phase.operands[slot] = (PgRef){PG_STATE, 0, h->state_used};
    float *at = (float *)(h->state + h->state_used);
    h->state_used += (bytes + 127) / 64 * 64;
    assert_true(h->state_used <= HARNESS_BYTES);
    return at;
}

void *harness_packed(Harness *h, unsigned slot, uint64_t bytes) {
    void *at = h->weights + h->weights_used;
    h->phase.operands[slot] = (PgRef){PG_WEIGHTS, 0, h->weights_used};
    h->weights_used += (bytes + 127) / 64 * 64;
    assert_true(h->weights_used <= HARNESS_BYTES);
    memset(at, 0, bytes);
    return at;
}

void harness_pack_panels(Harness *h, unsigned slot, IrDtype dtype, const float *w, int64_t planes, int64_t O, int64_t K) {
    int64_t panels = (int64_t)pg_panels(O), pairs = (K + 1) / 2;
    uint64_t panel = dtype == IR_F32 ? (uint64_t)K * 64 : (uint64_t)pairs * 64;
    uint8_t *to = harness_packed(h, slot, (uint64_t)(planes * panels) * panel);
    for (int64_t e = 0; e < planes; e++) {
        for (int64_t o = 0; o < O; o++) {
            uint8_t *p = to + (uint64_t)(e * panels + o / 16) * panel;
            for (int64_t k = 0; k < K; k++) {
                float x = w[(e * O + o) * K + k];
                if (dtype == IR_F32) {
                    ((float *)p)[k * 16 + o % 16] = x;
                } else {
                    ((uint16_t *)p)[(k / 2 * 16 + o % 16) * 2 + k % 2] =
                        dtype == IR_BF16 ? (uint16_t)(float_bits(x) >> 16) : half_bits(x);
                }
            }
        }
    }
}

void harness_pack_vector(Harness *h, unsigned slot, const float *b, int64_t planes, int64_t O) {
    harness_pack_channels(h, slot, b, planes, O, 1);
}

void harness_pack_channels(Harness *h, unsigned slot, const float *w, int64_t planes, int64_t I, int64_t N) {
    int64_t panels = (int64_t)pg_panels(I);
    float *to = harness_packed(h, slot, (uint64_t)(planes * panels * N) * 64);
    for (int64_t e = 0; e < planes; e++) {
        for (int64_t i = 0; i < I; i++)
            for (int64_t n = 0; n < N; n++) to[((e * panels + i / 16) * N + n) * 16 + i % 16] = w[(e * I + i) * N + n];
    }
}

void harness_put(float *to, const float *values, uint64_t count, int64_t n, uint64_t stride) {
    int64_t padded = (int64_t)pg_panels(n) * 16;
    for (uint64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < padded; j++)
            to[((uint64_t)(j / 16) * stride + i) * 16 + (uint64_t)(j % 16)] = j < n ? values[i * (uint64_t)n + (uint64_t)j] : 7;
}

float harness_at(const float *from, uint64_t i, int64_t j, uint64_t stride) {
    return from[((uint64_t)(j / 16) * stride + i) * 16 + (uint64_t)(j % 16)];
}

void harness_run(Harness *h, const PgKernel *kernel) {
    PgProgram program = {.kernels = kernel, .n_kernels = 1};
    CgOptions options = {.dump_dir = h->dump_dir};
    CgCompiled *compiled = NULL;
    SuDiags diags = {0};
    if (!cg_llvm_compile(&h->target, &program, &options, &compiled, &diags)) {
        su_diags_print(&diags, stderr);
        fail();
    }
    const PgCode *code = &cg_codes(compiled)[0];
    assert_true(code->claim >= 1);
    assert_true(code->scratch <= HARNESS_BYTES);
    uint32_t tiles = (uint32_t)pg_tiles(&h->phase, code, h->args.rows, h->args.n_segments, h->args.n_out_rows);
    uint32_t middle = harness_below(h, tiles + 1); /* the second half first: order must not matter */
    for (uint32_t t = middle; t < tiles;) {
        uint32_t run = 1 + harness_below(h, tiles - t);
        code->run(&h->args, &h->phase, t, t + run);
        t += run;
    }
    code->run(&h->args, &h->phase, 0, middle);
    cg_compiled_free(compiled);
    su_diags_free(&diags);
}

void harness_groups(Harness *h, unsigned slot, const int32_t *expert_indices, uint32_t rows, int64_t E, int64_t k) {
    uint64_t ldp = (uint64_t)k * h->args.ld + pg_position_pad(E, k);
    int32_t *start = (int32_t *)harness_arena(h, slot, ((uint64_t)E + 1 + ldp / 8 + ldp + h->args.ld * (uint64_t)k) * 4);
    int32_t *expert_of = start + E + 1, *row_of = expert_of + ldp / 8, *pos_of = row_of + ldp;
    int32_t at = 0;
    for (int32_t e = 0; e < E; e++) {
        start[e] = at;
        for (uint32_t i = 0; i < rows * (uint32_t)k; i++) {
            if (expert_indices[i] == e) {
                expert_of[at / 8] = e;
                pos_of[i] = at;
                row_of[at++] = (int32_t)(i / (uint32_t)k);
            }
        }
        for (; at % 8 != 0; at++) row_of[at] = 0;
    }
    start[E] = at;
}

void harness_experts(Harness *h, int32_t *expert_indices, int64_t E, int64_t k) {
    int64_t chosen = 0;
    for (int64_t e = 0; e < E; e++)  /* k of E, uniformly */
        if (harness_below(h, (uint32_t)(E - e)) < (uint32_t)(k - chosen)) expert_indices[chosen++] = (int32_t)e;
}

float reference_dot(const float *w, const float *x, int64_t K) {
    float total = 0;
    for (int64_t k0 = 0; k0 < K; k0 += PG_SEGMENT_K) {
        float acc = 0;
        for (int64_t k = k0; k < K && k < k0 + PG_SEGMENT_K; k++) acc = fmaf(w[k], x[k], acc);
        total = k0 == 0 ? acc : total + acc;
    }
    return total;
}

static float tree(float *lanes) {
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] = lanes[i] + lanes[i + half];
    return lanes[0];
}

void reference_norm(PgNormKind kind, const float *x, const float *w, const float *b, int64_t n, double eps, float *out) {
    float lanes[16] = {0}, mean = 0;
    if (kind == PG_LAYER) {
        for (int64_t i = 0; i < n; i++) lanes[i % 16] = lanes[i % 16] + x[i];
        mean = tree(lanes) / (float)n;
        memset(lanes, 0, sizeof lanes);
    }
    for (int64_t i = 0; i < n; i++) {
        float d = kind == PG_LAYER ? x[i] - mean : x[i];
        lanes[i % 16] = fmaf(d, d, lanes[i % 16]);
    }
    float r = 1.0f / sqrtf(tree(lanes) / (float)n + (float)eps);
    for (int64_t i = 0; i < n; i++) {
        float d = kind == PG_LAYER ? x[i] - mean : x[i];
        out[i] = kind == PG_LAYER ? d * r * w[i] + b[i] : d * r * w[i];
    }
}

float reference_act(PgActivation act, float x) {
    switch (act) {
    case PG_NO_ACT: return x;
#define IR_ACTIVATION(name, NAME, flops, exps, exact)                                                                              \
    case PG_##NAME: return vm_##name(x);
#include "ir/activation.def"
    }
    return x;
}

void check_bits(const char *what, uint64_t i, uint64_t j, float got, float expected) {
    if (float_bits(got) != float_bits(expected) && !(isnan(got) && isnan(expected))) {
        fail_msg("%s[%llu][%llu]: got %a, expected %a", what, (unsigned long long)i, (unsigned long long)j, (double)got,
                 (double)expected);
    }
}
