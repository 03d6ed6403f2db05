/* Weights of q8 and q4 and rounded rows, written byte by byte from the layouts of ir/program.h and ir/dtype.def. */
#include "tests/codegen/reference.h"

/* A random half of small or of usual size, and its value; d of q8 and of q4 may be 0. */
static uint16_t random_half(Rng *random, float *out) {
    uint16_t exponent = (uint16_t)rng_between(random, 0, 14), mantissa = (uint16_t)rng_between(random, 0, 1023);
    if (rng_next(random) % 16 == 0) exponent = mantissa = 0;
    *out = exponent == 0 ? ldexpf((float)mantissa, -24) : ldexpf((float)(1024 + mantissa), exponent - 25);
    return (uint16_t)(exponent << 10 | mantissa);
}

/* One group of one output: numbers that both forms have in common. */
typedef struct Block {
    uint16_t d, m;
    uint8_t s, t;
} Block;

typedef struct Blocks {
    Rig *rig;
    RigWeights *w;
    unsigned slot;
    IrDtype dtype;
    uint64_t groups, panel_bytes;
} Blocks;

static void put_q8(const Blocks *b, uint64_t panel, unsigned lane, uint64_t g, const int8_t *q, const Block *block) {
    uint64_t group = panel + g * 544;
    for (unsigned k = 0; k < 32; k++) rig_set_bytes(b->rig, b->slot, group + k / 4 * 64 + lane * 4 + k % 4, &q[k], 1);
    rig_set_bytes(b->rig, b->slot, group + 512 + lane * 2, &block->d, 2);
}

static void put_q4(const Blocks *b, uint64_t panel, unsigned lane, uint64_t g, const int8_t *q, const Block *block) {
    uint64_t group = panel + g * 288, shared = panel + b->groups * 288 + g / 8 * 64;
    for (unsigned k = 0; k < 16; k++) {
        uint8_t both = (uint8_t)(q[k] | q[k + 16] << 4);
        rig_set_bytes(b->rig, b->slot, group + k / 4 * 64 + lane * 4 + k % 4, &both, 1);
    }
    rig_set_bytes(b->rig, b->slot, group + 256 + lane, &block->s, 1);
    rig_set_bytes(b->rig, b->slot, group + 272 + lane, &block->t, 1);
    rig_set_bytes(b->rig, b->slot, shared + lane * 2, &block->d, 2);
    rig_set_bytes(b->rig, b->slot, shared + 32 + lane * 2, &block->m, 2);
}

/* Output `row` of [planes·O], which stands in `lane` of a panel. */
static void make_row(const Blocks *b, uint64_t row, uint64_t panel, unsigned lane) {
    Rng *random = &b->rig->random;
    const int64_t K = b->w->K;
    Block block = {0};
    float d = 0, m = 0;
    for (uint64_t g = 0; g < b->groups; g++) {
        uint64_t at = row * b->groups + g;
        if (b->dtype == IR_Q8 || g % 8 == 0) block.d = random_half(random, &d);
        if (g % 8 == 0) block.m = random_half(random, &m);
        block.s = (uint8_t)rng_between(random, 0, 63);
        block.t = (uint8_t)rng_between(random, 0, 63);
        b->w->d[at] = b->dtype == IR_Q8 ? d : d * block.s;
        b->w->m[at] = b->dtype == IR_Q8 ? 0 : m * block.t;
        bool extreme = rng_next(random) % 4 == 0; /* all of them as large as they get */
        int8_t *q = b->w->q[at];
        for (int64_t k = 0; k < 32; k++) {
            int64_t least = b->dtype == IR_Q8 ? -127 : 0, most = b->dtype == IR_Q8 ? 127 : 15;
            q[k] = (int8_t)(extreme ? (k + (int64_t)row) % 2 ? most : least : rng_between(random, least, most));
            int64_t i = (int64_t)g * 32 + k;
            if (i >= K) q[k] = 0;
            if (i < K) b->w->values[(int64_t)row * K + i] = fmaf(b->w->d[at], q[k], -b->w->m[at]);
        }
        (b->dtype == IR_Q8 ? put_q8 : put_q4)(b, panel, lane, g, q, &block);
    }
}

void rig_place_blocks(Rig *rig, unsigned slot, IrDtype dtype, uint64_t planes, int64_t O, int64_t K) {
    uint64_t groups = pg_round_groups(K), rows = planes * (uint64_t)O, panels = pg_panels(O);
    rig->weights[slot] = (RigWeights){.values = calloc(rows * (uint64_t)K, sizeof(float)),
                                      .O = O,
                                      .K = K,
                                      .q = calloc(rows * groups, IR_GROUP),
                                      .d = calloc(rows * groups, sizeof(float)),
                                      .m = calloc(rows * groups, sizeof(float))};
    Blocks b = {rig, &rig->weights[slot], slot, dtype, groups, ir_panel_bytes(dtype, K)};
    rig_reserve(rig, slot, PG_WEIGHTS, planes * panels * b.panel_bytes);
    uint8_t zero[64] = {0}; /* lanes past O */
    for (uint64_t at = 0; at < planes * panels * b.panel_bytes; at += 32) rig_set_bytes(rig, slot, at, zero, 32);
    for (uint64_t row = 0; row < rows; row++) {
        uint64_t o = row % (uint64_t)O;
        make_row(&b, row, (row / (uint64_t)O * panels + o / PG_LANES) * b.panel_bytes, (unsigned)(o % PG_LANES));
    }
}

/* ---------------------------------------------------------------------------------------------- inputs */

void ref_round(const float *x, int64_t n, int8_t p[IR_GROUP], float *scale, float *sum) {
    float most = 0;
    bool finite = true;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) finite = false;
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    }
    int total = 0;
    memset(p, 0, IR_GROUP);
    *scale = finite ? 0 : NAN;
    *sum = 0;
    if (!finite || most < 0x1p-100f) return;
    *scale = most / 127;
    for (int64_t i = 0; i < n; i++) {
        float v = nearbyintf(x[i] * (127 / most));
        p[i] = (int8_t)(v > 127 ? 127 : v < -127 ? -127 : v);
        total += p[i];
    }
    *sum = (float)total;
}

RefRounded ref_rounded_at(int64_t K, uint64_t ld, uint64_t row, uint64_t g) {
    uint64_t groups = pg_round_groups(K);
    return (RefRounded){(g * ld + row) * 32, (groups * 32 + g * 4) * ld + row * 4, (groups * 36 + g * 4) * ld + row * 4};
}

static void place_row(Rig *rig, unsigned slot, const float *x, int64_t K, uint64_t ld, uint64_t plane, uint64_t row) {
    uint64_t base = plane * ld * pg_rounded_bytes(K);
    for (uint64_t g = 0; g < pg_round_groups(K); g++) {
        int8_t p[IR_GROUP];
        float scale, sum;
        int64_t first = (int64_t)g * 32, n = K - first < 32 ? K - first : 32;
        RefRounded at = ref_rounded_at(K, ld, row, g);
        ref_round(x + first, n, p, &scale, &sum);
        rig_set_bytes(rig, slot, base + at.p, p, sizeof p);
        rig_set_bytes(rig, slot, base + at.scale, &scale, sizeof scale);
        rig_set_bytes(rig, slot, base + at.sum, &sum, sizeof sum);
    }
}

void rig_place_rounded(Rig *rig, unsigned slot, PgLayout layout, int64_t K, float low, float high) {
    uint64_t ld = layout == PG_POSITIONS ? rig->ldp : rig->ld, planes = layout == PG_PLANES ? (uint64_t)rig->kernel.E : 1;
    float *x = malloc((size_t)K * sizeof *x);
    rig_place_values(rig, RIG_FLOATS, layout, K, low, high);
    rig_reserve(rig, slot, PG_ARENA, planes * ld * pg_rounded_bytes(K));
    for (uint64_t row = 0; row < rig->rows; row++) {
        for (uint64_t j = 0; j < rig_parts(rig, layout); j++) {
            uint64_t plane = rig_plane(layout, j), index = rig_index(rig, layout, row, j);
            rig_get_all(rig, RIG_FLOATS, layout, K, plane, index, x);
            place_row(rig, slot, x, K, ld, plane, index);
        }
    }
    free(x);
}

float ref_rounded_dot(const Rig *rig, unsigned slot, uint64_t m, int64_t o, const float *x) {
    const RigWeights *w = &rig->weights[slot];
    uint64_t groups = pg_round_groups(w->K), row = m * (uint64_t)w->O + (uint64_t)o;
    float y = 0;
    for (uint64_t g = 0; g < groups; g++) {
        int8_t p[IR_GROUP];
        float scale, sum;
        int64_t first = (int64_t)g * 32, n = w->K - first < 32 ? w->K - first : 32;
        int products = 0;
        ref_round(x + first, n, p, &scale, &sum);
        for (int k = 0; k < 32; k++) products += w->q[row * groups + g][k] * p[k];
        float c = w->d[row * groups + g] * (float)products;
        if (rig->kernel.dtype == IR_Q4) c = fmaf(-w->m[row * groups + g], sum, c);
        y = fmaf(scale, c, y);
    }
    return y;
}

/* ---------------------------------------------------------------------------------------------- bf16 */

uint16_t ref_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x)) return (uint16_t)(bits >> 16 | 0x40);
    uint32_t rest = bits & 0xffff, whole = bits >> 16;
    return (uint16_t)(whole + (rest > 0x8000 || (rest == 0x8000 && whole % 2 == 1)));
}

static float of_bf16(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

float ref_bf16_dot(const float *w, const float *x, int64_t K) {
    float sum = 0;
    for (int64_t k = 0; k < K; k += 2) {
        if (k + 1 < K) sum = fmaf(w[k + 1], of_bf16(ref_bf16(x[k + 1])), sum);
        sum = fmaf(w[k], of_bf16(ref_bf16(x[k])), sum);
    }
    return sum;
}

void rig_place_bf16(Rig *rig, unsigned slot, PgLayout layout, int64_t K, float low, float high) {
    uint64_t ld = layout == PG_POSITIONS ? rig->ldp : rig->ld, planes = layout == PG_PLANES ? (uint64_t)rig->kernel.E : 1;
    float *x = malloc((size_t)K * sizeof *x);
    rig_place_values(rig, RIG_FLOATS, layout, K, low, high);
    rig_reserve(rig, slot, PG_ARENA, planes * ld * pg_bf16_bytes(K));
    for (uint64_t row = 0; row < rig->rows; row++) {
        for (uint64_t j = 0; j < rig_parts(rig, layout); j++) {
            uint64_t plane = rig_plane(layout, j), index = rig_index(rig, layout, row, j);
            rig_get_all(rig, RIG_FLOATS, layout, K, plane, index, x);
            for (uint64_t g = 0; g < pg_round_groups(K); g++) {
                uint16_t halves[IR_GROUP] = {0};
                for (uint64_t i = 0; i < IR_GROUP && g * IR_GROUP + i < (uint64_t)K; i++) halves[i] = ref_bf16(x[g * IR_GROUP + i]);
                rig_set_bytes(rig, slot, plane * ld * pg_bf16_bytes(K) + (g * ld + index) * sizeof halves, halves, sizeof halves);
            }
        }
    }
    free(x);
}
