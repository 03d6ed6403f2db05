#include "tests/codegen/rig.h"

#if defined(__x86_64__)
#include <cpuid.h>
#else
#include <sys/auxv.h>
#endif

#include "runtime/dtypes.h"
#include "support/cpus.h"

enum { MARGIN = 1024, ALIGN = 64, STATE_BYTES = 512 << 10 }; /* MARGIN: around every operand; STATE_BYTES: most of one sequence */
enum { UNCHANGED, ANYTHING, WRITTEN }; /* RigMemory.results: what must stand there; WRITTEN: what the reference wrote */

/* ---------------------------------------------------------------------------------------------- suites */

static CgTarget target;
static uint64_t cases_run;

#if defined(__x86_64__)
/* Asked of the processor and not of cg_target_host, so that a fault there is a failure and nothing is skipped for it. */
static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static bool has_vnni(void) { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
static bool has_bf16(void) { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
/* With tiles of bytes and of bf16, and the system's leave. */
static bool has_amx(void) {
    enum { BF16 = 1 << 22, TILES = 1 << 24, BYTES = 1 << 25 };
    unsigned a, b, c, d;
    bool there = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & BF16) && (d & TILES) && (d & BYTES);
    return there && has_vnni() && has_bf16() && su_may_use_tiles();
}
static bool has_neon(void) { return false; }
static bool has_neon_bf16(void) { return false; }
#else
static bool has_avx512(void) { return false; }
static bool has_avx2(void) { return false; }
static bool has_bf16(void) { return false; }
static bool has_amx(void) { return false; }
static bool has_neon(void) { return true; }
static bool has_neon_bf16(void) {
    enum { BF16 = 1 << 14 }; /* HWCAP2_BF16 */
    return getauxval(AT_HWCAP2) & BF16;
}
#endif

static const struct {
    const char *name, *asked; /* asked: what cg_target_host calls it */
    bool (*present)(void);
    int lanes;
} instruction_sets[] = {{"avx512", NULL, has_avx512, 16},
                        {"avx512-plain", "avx512", has_avx512, 16},
                        {"avx2", "avx2", has_avx2, 8},
                        {"vnni-in-ir", "vnni-in-ir", has_avx2, 16},
                        {"bf16-in-ir", "bf16-in-ir", has_avx2, 16},
                        {"amx-in-ir", "amx-in-ir", has_avx2, 16},
                        {"avx512-bf16", NULL, has_bf16, 16},
                        {"avx512-amx", NULL, has_amx, 16},
                        {"neon", NULL, has_neon, 4},
                        {"neon-plain", "neon", has_neon, 4},
                        {"neon-bf16", NULL, has_neon_bf16, 4}};
enum { INSTRUCTION_SETS = sizeof instruction_sets / sizeof *instruction_sets };

bool rig_begin(int argc, char **argv) {
    SuDiags diags = {0};
    int i = 0;
    while (argc == 2 && i < INSTRUCTION_SETS && strcmp(instruction_sets[i].name, argv[1]) != 0) i++;
    if (argc != 2 || i == INSTRUCTION_SETS) {
        fprintf(stderr, "usage: %s ISA, one of", argv[0]);
        for (i = 0; i < INSTRUCTION_SETS; i++) fprintf(stderr, " %s", instruction_sets[i].name);
        fputc('\n', stderr);
        exit(2);
    }
    if (!instruction_sets[i].present()) {
        printf("skipped: this machine has no %s\n", argv[1]);
        return false;
    }
    if (!cg_target_host(instruction_sets[i].asked, &target, &diags) || target.vector_lanes != instruction_sets[i].lanes) {
        su_diags_print(&diags, stderr);
        fprintf(stderr, "this machine has %s, but there is no target for it\n", argv[1]);
        exit(1);
    }
    su_diags_free(&diags);
    return true;
}

int rig_end(int failed) {
    cg_target_free(&target);
    cg_llvm_shutdown();
    printf("%llu cases\n", (unsigned long long)cases_run);
    return failed != 0 ? failed : cases_run == 0;
}

const CgTarget *rig_target(void) { return &target; }

void rig_count_case(void) { cases_run++; }

void rig_each(int cases, uint64_t seed, void (*test)(Rng random)) {
    assert_true(cases > 0);
    for (int c = 0; c < cases; c++) {
        rig_count_case();
        test((Rng){seed * 1000 + (uint64_t)c});
    }
}

/* ---------------------------------------------------------------------------------------------- random numbers */

float rig_uniform(Rng *random, float low, float high) {
    float v = low + (high - low) * (float)rng_unit(random);
    return rng_next(random) % 64 == 0 ? ldexpf(v, -(int)rng_between(random, 0, 29)) : v;
}

float *rig_floats(Rng *random, uint64_t n, float low, float high) {
    float *x = malloc((n + 1) * sizeof *x);
    assert_non_null(x);
    for (uint64_t i = 0; i < n; i++) x[i] = rig_uniform(random, low, high);
    return x;
}

/* ---------------------------------------------------------------------------------------------- memory */

static void *aligned(uint64_t bytes) {
    void *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    assert_non_null(memory);
    return memory;
}

/* A NaN everywhere: reading what nobody wrote shows; as an index it leads nowhere. */
static void poison(uint8_t *at, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes / 4; i++) memcpy(at + 4 * i, &(uint32_t){0x7fc0beef}, 4);
}

static void point_at_memory(Rig *rig) {
    rig->args.weights = rig->memory[PG_WEIGHTS].now;
    rig->args.arena = rig->memory[PG_ARENA].now;
    for (uint32_t s = 0; s < rig->args.n_segments; s++)
        rig->segments[s].state = rig->memory[PG_STATE].now + s * (uint64_t)STATE_BYTES;
    rig->args.logits = (float *)(void *)(rig->memory[PG_NOWHERE].now + rig->slot_offset[RIG_LOGITS]);
}

/* At least so many bytes of a space; what is new is a NaN. */
static void grow(Rig *rig, unsigned space, uint64_t bytes) {
    RigMemory *old = &rig->memory[space], grown = *old;
    if (bytes <= old->bytes) return;
    grown.bytes = (bytes > 2 * old->bytes ? bytes : 2 * old->bytes) + 4095;
    grown.bytes -= grown.bytes % 4096;
    grown.now = aligned(grown.bytes);
    grown.expected = aligned(grown.bytes);
    grown.results = aligned(grown.bytes);
    if (old->bytes > 0) {
        memcpy(grown.now, old->now, old->bytes);
        memcpy(grown.expected, old->expected, old->bytes);
        memcpy(grown.results, old->results, old->bytes);
    }
    poison(grown.now + old->bytes, grown.bytes - old->bytes);
    poison(grown.expected + old->bytes, grown.bytes - old->bytes);
    memset(grown.results + old->bytes, UNCHANGED, grown.bytes - old->bytes);
    free(old->now);
    free(old->expected);
    free(old->results);
    *old = grown;
    point_at_memory(rig);
}

/* ---------------------------------------------------------------------------------------------- steps */

static void make_segments(Rig *rig) {
    bool block = rig->kernel.mode == PG_BLOCK;
    uint32_t count = block ? (uint32_t)rng_between(&rig->random, 1, 4) : 1, row = 0;
    for (uint32_t s = 0; s < count; s++) {
        uint32_t rows = block ? (uint32_t)rng_between(&rig->random, 1, rng_next(&rig->random) % 2 ? 13 : 3) : 1;
        rig->segments[s] = (RtSegment){.position = rng_between(&rig->random, 0, 40), .first_row = row, .count = rows};
        for (uint32_t i = 0; i < rows; i++, row++) {
            rig->row_segment[row] = (int32_t)s;
            rig->row_position[row] = rig->segments[s].position + i;
        }
    }
    rig->rows = row;
    rig->args.n_segments = count;
}

static void begin_step(Rig *rig, const PgKernel *kernel, Rng random) {
    memset(rig, 0, sizeof *rig);
    rig->random = random;
    rig->kernel = *kernel;
}

static void finish_step(Rig *rig) {
    uint64_t k = (uint64_t)rig->kernel.k;
    bool block = rig->kernel.mode == PG_BLOCK;
    rig->ld = block ? pg_ld(rig->rows) : 1;
    rig->ldp = block ? k * rig->ld + pg_position_pad(rig->kernel.E, rig->kernel.k) : k;
    rig->args.segments = rig->segments;
    rig->args.tokens = rig->tokens;
    rig->args.row_segment = rig->row_segment;
    rig->args.row_position = rig->row_position;
    rig->args.out_rows = rig->out_rows;
    rig->args.nonfinite = rig->nonfinite;
    rig->args.ld = rig->ld;
    rig->args.rows = (uint32_t)rig->rows;
    rig->phase = (PgPhase){
        .name = "test", .block = 3, .count = PG_ONCE, .fixed = 1, .E = (uint32_t)rig->kernel.E, .k = (uint32_t)rig->kernel.k};
    for (unsigned space = 0; space < RIG_SPACES; space++) grow(rig, space, space == PG_STATE ? 0 : 64 << 10);
    grow(rig, PG_STATE, rig->args.n_segments * (uint64_t)STATE_BYTES);
}

void rig_open(Rig *rig, const PgKernel *kernel, Rng random) {
    begin_step(rig, kernel, random);
    make_segments(rig);
    finish_step(rig);
}

void rig_open_rows(Rig *rig, const PgKernel *kernel, Rng random, uint32_t rows, uint32_t n_out_rows) {
    begin_step(rig, kernel, random);
    assert_true(rows >= 1 && rows <= PG_MAX_ROWS && n_out_rows <= rows);
    rig->segments[0].count = rows;
    rig->rows = rows;
    rig->args.n_segments = 1;
    rig->args.n_out_rows = n_out_rows;
    for (uint32_t i = 0; i < rows; i++) rig->row_position[i] = i;
    for (uint32_t i = 0; i < n_out_rows; i++) rig->out_rows[i] = (int32_t)rng_between(&rig->random, 0, rows - 1);
    finish_step(rig);
}

void rig_close(Rig *rig) {
    for (int space = 0; space < RIG_SPACES; space++) {
        free(rig->memory[space].now);
        free(rig->memory[space].expected);
        free(rig->memory[space].results);
    }
    for (int slot = 0; slot < RIG_SLOTS; slot++) {
        free(rig->weights[slot].values);
        free(rig->weights[slot].q);
        free(rig->weights[slot].d);
        free(rig->weights[slot].m);
    }
}

static unsigned space_of(const Rig *rig, unsigned slot) {
    return slot == RIG_LOGITS ? PG_NOWHERE : slot == RIG_FLOATS ? PG_ARENA : (unsigned)rig->phase.operands[slot].space;
}

static uint64_t address(const Rig *rig, unsigned slot, uint64_t segment) {
    return rig->slot_offset[slot] + (space_of(rig, slot) == PG_STATE ? segment * STATE_BYTES : 0);
}

/* In PG_BLOCK a part of an arena offset grows with LD, as in a real program. */
static PgRef make_ref(Rig *rig, PgSpace space, uint64_t offset) {
    PgRef ref = {.space = space, .fixed = offset};
    if (space == PG_ARENA && rig->kernel.mode == PG_BLOCK) {
        ref.per_row = ALIGN * (uint64_t)rng_between(&rig->random, 0, 3);
        while (ref.per_row * rig->ld > offset) ref.per_row -= ALIGN;
        ref.fixed = offset - ref.per_row * rig->ld;
    }
    return ref;
}

void rig_reserve(Rig *rig, unsigned slot, PgSpace space, uint64_t bytes) {
    RigMemory *memory = &rig->memory[space];
    uint64_t offset = memory->used + MARGIN;
    memory->used = offset + (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (space == PG_STATE)
        assert_true(memory->used + MARGIN <= STATE_BYTES);
    else
        grow(rig, space, memory->used + MARGIN);
    rig->slot_offset[slot] = offset;
    rig->slot_bytes[slot] = bytes;
    if (slot < PG_MAX_OPERANDS) rig->phase.operands[slot] = make_ref(rig, space, offset);
}

void rig_place(Rig *rig, unsigned slot, PgSpace space, uint64_t bytes, float low, float high) {
    uint64_t copies = space == PG_STATE ? rig->args.n_segments : 1;
    rig_reserve(rig, slot, space, bytes);
    for (uint64_t s = 0; s < copies; s++)
        for (uint64_t i = 0; i < bytes / 4; i++) rig_set(rig, slot, s, i, rig_uniform(&rig->random, low, high));
}

static uint64_t stride(const Rig *rig, PgLayout layout) { return layout == PG_POSITIONS ? rig->ldp : rig->ld; }

uint64_t rig_value_bytes(const Rig *rig, PgLayout layout, int64_t O, int64_t N) {
    uint64_t planes = layout == PG_PLANES ? (uint64_t)rig->kernel.E : 1;
    return planes * pg_panels(O) * stride(rig, layout) * (uint64_t)N * PG_LANES * 4;
}

static uint64_t element(const Rig *rig, PgLayout layout, int64_t O, int64_t N, uint64_t p, uint64_t index, int64_t i, int64_t n) {
    uint64_t panel = p * pg_panels(O) + (uint64_t)i / PG_LANES;
    return ((panel * stride(rig, layout) + index) * (uint64_t)N + (uint64_t)n) * PG_LANES + (uint64_t)i % PG_LANES;
}

uint64_t rig_parts(const Rig *rig, PgLayout layout) {
    switch (layout) {
    case PG_ROWS: return 1;
    case PG_PLANES: return (uint64_t)rig->kernel.E;
    case PG_POSITIONS: return (uint64_t)rig->kernel.k;
    }
    return 0;
}

uint64_t rig_position(const Rig *rig, uint64_t row, uint64_t j) {
    return rig->kernel.mode == PG_ROW ? j : (uint64_t)rig->positions[row * (uint64_t)rig->kernel.k + j];
}

uint64_t rig_plane(PgLayout layout, uint64_t j) { return layout == PG_PLANES ? j : 0; }

uint64_t rig_index(const Rig *rig, PgLayout layout, uint64_t row, uint64_t j) {
    return layout == PG_POSITIONS ? rig_position(rig, row, j) : row;
}

void rig_place_values(Rig *rig, unsigned slot, PgLayout layout, int64_t O, float low, float high) {
    int64_t padded = (int64_t)pg_panels(O) * PG_LANES;
    rig_reserve(rig, slot, PG_ARENA, rig_value_bytes(rig, layout, O, 1));
    for (uint64_t row = 0; row < rig->rows; row++) {
        for (uint64_t j = 0; j < rig_parts(rig, layout); j++) {
            uint64_t p = rig_plane(layout, j), index = rig_index(rig, layout, row, j);
            for (int64_t i = 0; i < padded; i++)
                rig_set(rig, slot, 0, element(rig, layout, O, 1, p, index, i, 0), rig_uniform(&rig->random, low, high));
        }
    }
}

void rig_place_channels(Rig *rig, unsigned slot, uint64_t planes, int64_t I, int64_t N, float low, float high) {
    rig_place(rig, slot, PG_WEIGHTS, planes * pg_panels(I) * (uint64_t)N * PG_LANES * 4, low, high);
}

/* Sixteen rows of K values, which the dtype holds, as a panel. */
static void store_panel(const RtDtype *dtype, const IrDtypeInfo *info, const float *const rows[PG_LANES], int64_t K, uint8_t *out) {
    static float columns[PG_LANES][RT_COLUMNS];
    for (int64_t k0 = 0; k0 < K; k0 += RT_COLUMNS) {
        int64_t n = K - k0 < RT_COLUMNS ? K - k0 : RT_COLUMNS;
        for (int lane = 0; lane < PG_LANES; lane++) memcpy(columns[lane], rows[lane] + k0, (size_t)n * sizeof(float));
        dtype->store(columns, (uint64_t)n, out + (uint64_t)k0 / info->group * info->group_bytes);
    }
}

void rig_place_panels(Rig *rig, unsigned slot, IrDtype dtype, uint64_t planes, int64_t O, int64_t K, float *values) {
    const RtDtype *functions = rt_dtype(dtype);
    uint64_t panel = ir_panel_bytes(dtype, K), panels = planes * pg_panels(O);
    float *past = rig_floats(&rig->random, (uint64_t)K, -1, 1); /* the lanes past O */
    functions->round(values, planes * (uint64_t)O * (uint64_t)K);
    functions->round(past, (uint64_t)K);
    rig->weights[slot] = (RigWeights){.values = values, .O = O, .K = K};
    rig_reserve(rig, slot, PG_WEIGHTS, panels * panel);
    uint8_t *at = rig->memory[PG_WEIGHTS].now + address(rig, slot, 0);
    for (uint64_t i = 0; i < panels; i++, at += panel) {
        const float *rows[PG_LANES];
        for (int64_t lane = 0; lane < PG_LANES; lane++) {
            int64_t o = (int64_t)(i % pg_panels(O)) * PG_LANES + lane;
            rows[lane] = o < O ? rig_weights(rig, slot, i / pg_panels(O), o) : past;
        }
        store_panel(functions, ir_dtype(dtype), rows, K, at);
    }
    memcpy(rig->memory[PG_WEIGHTS].expected + address(rig, slot, 0), rig->memory[PG_WEIGHTS].now + address(rig, slot, 0),
           panels * panel);
    free(past);
}

void rig_place_weights(Rig *rig, unsigned slot, IrDtype dtype, uint64_t planes, int64_t O, int64_t K, float most) {
    if (ir_is_blocks(dtype)) {
        rig_place_blocks(rig, slot, dtype, planes, O, K);
        return;
    }
    uint64_t n = planes * (uint64_t)O * (uint64_t)K;
    float *values = rig_floats(&rig->random, n, -most, most);
    for (uint64_t i = 0; i < n; i++)
        if (rng_next(&rig->random) % 2) values[i] = ldexpf(values[i], -(int)rng_between(&rig->random, 0, 22));
    rig_place_panels(rig, slot, dtype, planes, O, K, values);
}

void rig_place_logits(Rig *rig, int64_t O) {
    rig->args.out_stride = pg_panels(O) * PG_LANES;
    rig_reserve(rig, RIG_LOGITS, PG_NOWHERE, rig->args.n_out_rows * rig->args.out_stride * 4);
    rig_result(rig, RIG_LOGITS);
    point_at_memory(rig);
}

void rig_alias(Rig *rig, unsigned slot, unsigned other) {
    rig->phase.operands[slot] = rig->phase.operands[other];
    rig->slot_offset[slot] = rig->slot_offset[other];
    rig->slot_bytes[slot] = rig->slot_bytes[other];
}

void rig_result(Rig *rig, unsigned slot) {
    unsigned space = space_of(rig, slot);
    uint64_t copies = space == PG_STATE ? rig->args.n_segments : 1;
    for (uint64_t s = 0; s < copies; s++)
        memset(rig->memory[space].results + address(rig, slot, s), ANYTHING, rig->slot_bytes[slot]);
}

/* ---------------------------------------------------------------------------------------------- content */

/* Writes input: memory and expected memory alike. */
static void write_word(Rig *rig, unsigned slot, uint64_t segment, uint64_t at, const void *word) {
    RigMemory *memory = &rig->memory[space_of(rig, slot)];
    uint64_t where = address(rig, slot, segment) + 4 * at;
    memcpy(memory->now + where, word, 4);
    memcpy(memory->expected + where, word, 4);
}

void rig_set(Rig *rig, unsigned slot, uint64_t segment, uint64_t at, float v) { write_word(rig, slot, segment, at, &v); }
void rig_set_int(Rig *rig, unsigned slot, uint64_t at, int32_t v) { write_word(rig, slot, 0, at, &v); }

float rig_float(const Rig *rig, unsigned slot, uint64_t segment, uint64_t at) {
    float v;
    memcpy(&v, rig->memory[space_of(rig, slot)].expected + address(rig, slot, segment) + 4 * at, 4);
    return v;
}

int32_t rig_written_int(const Rig *rig, unsigned slot, uint64_t at) {
    int32_t v;
    memcpy(&v, rig->memory[space_of(rig, slot)].now + address(rig, slot, 0) + 4 * at, 4);
    return v;
}

void rig_set_bytes(Rig *rig, unsigned slot, uint64_t at, const void *bytes, uint64_t n) {
    RigMemory *memory = &rig->memory[space_of(rig, slot)];
    memcpy(memory->now + address(rig, slot, 0) + at, bytes, n);
    memcpy(memory->expected + address(rig, slot, 0) + at, bytes, n);
}

void rig_expect_bytes(Rig *rig, unsigned slot, uint64_t at, const void *bytes, uint64_t n) {
    RigMemory *memory = &rig->memory[space_of(rig, slot)];
    memcpy(memory->expected + address(rig, slot, 0) + at, bytes, n);
    memset(memory->results + address(rig, slot, 0) + at, WRITTEN, n);
}

static void expect_word(Rig *rig, unsigned slot, uint64_t segment, uint64_t at, const void *word) {
    RigMemory *memory = &rig->memory[space_of(rig, slot)];
    uint64_t where = address(rig, slot, segment) + 4 * at;
    memcpy(memory->expected + where, word, 4);
    memset(memory->results + where, WRITTEN, 4);
}

void rig_expect_float(Rig *rig, unsigned slot, uint64_t segment, uint64_t at, float v) { expect_word(rig, slot, segment, at, &v); }
void rig_expect_int(Rig *rig, unsigned slot, uint64_t at, int32_t v) { expect_word(rig, slot, 0, at, &v); }

float rig_get(const Rig *rig, unsigned slot, PgLayout layout, int64_t O, int64_t N, uint64_t p, uint64_t index, int64_t i,
              int64_t n) {
    return rig_float(rig, slot, 0, element(rig, layout, O, N, p, index, i, n));
}

void rig_get_all(const Rig *rig, unsigned slot, PgLayout layout, int64_t O, uint64_t p, uint64_t index, float *out) {
    for (int64_t i = 0; i < O; i++) out[i] = rig_get(rig, slot, layout, O, 1, p, index, i, 0);
}

void rig_expect(Rig *rig, unsigned slot, PgLayout layout, int64_t O, int64_t N, uint64_t p, uint64_t index, int64_t i, int64_t n,
                float v) {
    expect_word(rig, slot, 0, element(rig, layout, O, N, p, index, i, n), &v);
}

const float *rig_weights(const Rig *rig, unsigned slot, uint64_t e, int64_t o) {
    const RigWeights *weights = &rig->weights[slot];
    return weights->values + ((int64_t)e * weights->O + o) * weights->K;
}

/* ---------------------------------------------------------------------------------------------- routing */

/* Numbers k distinct experts of every row in rising order, each set of them as likely as another. */
static void choose_experts(Rig *rig, uint64_t row) {
    int64_t E = rig->kernel.E, k = rig->kernel.k, taken = 0;
    for (int64_t e = 0; e < E && taken < k; e++)
        if ((int64_t)(rng_next(&rig->random) % (uint64_t)(E - e)) < k - taken)
            rig->expert_indices[row * (uint64_t)k + (uint64_t)taken++] = (int32_t)e;
}

void rig_choose(Rig *rig, unsigned experts_slot) {
    uint64_t k = (uint64_t)rig->kernel.k;
    assert_true(rig->rows * k <= RIG_MAX_PAIRS);
    for (uint64_t row = 0; row < rig->rows; row++) choose_experts(rig, row);
    rig_reserve(rig, experts_slot, PG_ARENA, 4 * rig->ld * k);
    for (uint64_t i = 0; i < rig->rows * k; i++) rig_set_int(rig, experts_slot, i, rig->expert_indices[i]);
}

/* Experts' starts, blocks' experts, positions' rows, pairs' positions. */
uint64_t rig_group_bytes(const Rig *rig) {
    return 4 * ((uint64_t)rig->kernel.E + 1 + rig->ldp / 8 + rig->ldp + rig->ld * (uint64_t)rig->kernel.k);
}

/* Positions sorted by expert, each expert's padded to 8. */
void rig_group(Rig *rig, unsigned groups_slot, RigWriteInt write) {
    uint64_t k = (uint64_t)rig->kernel.k, expert_of = (uint64_t)rig->kernel.E + 1, row_of = expert_of + rig->ldp / 8;
    uint64_t pos_of = row_of + rig->ldp, at = 0;
    for (int32_t e = 0; e < rig->kernel.E; e++) {
        write(rig, groups_slot, (uint64_t)e, (int32_t)at);
        for (uint64_t pair = 0; pair < rig->rows * k; pair++) {
            if (rig->expert_indices[pair] != e) continue;
            write(rig, groups_slot, expert_of + at / 8, e);
            write(rig, groups_slot, pos_of + pair, (int32_t)at);
            rig->positions[pair] = (int32_t)at;
            write(rig, groups_slot, row_of + at++, (int32_t)(pair / k));
        }
        for (; at % 8 != 0; at++) write(rig, groups_slot, row_of + at, 0);
    }
    write(rig, groups_slot, (uint64_t)rig->kernel.E, (int32_t)at);
}

void rig_route(Rig *rig, unsigned experts_slot, unsigned combine_slot, unsigned groups_slot) {
    uint64_t k = (uint64_t)rig->kernel.k;
    rig_choose(rig, experts_slot);
    rig_reserve(rig, combine_slot, PG_ARENA, 4 * rig->ld * k);
    for (uint64_t i = 0; i < rig->rows * k; i++) {
        rig->combine_weights[i] = rig_uniform(&rig->random, 0.05f, 0.9f);
        rig_set(rig, combine_slot, 0, i, rig->combine_weights[i]);
    }
    if (rig->kernel.mode == PG_ROW) return;
    rig_reserve(rig, groups_slot, PG_ARENA, rig_group_bytes(rig));
    rig_group(rig, groups_slot, rig_set_int);
}

/* ---------------------------------------------------------------------------------------------- running and comparing */

static void run_tiles(Rig *rig, const PgCode *code, uint32_t first, uint32_t end) {
    rig->args.prepared = 0;
    while (first < end) {
        uint32_t run = (uint32_t)rng_between(&rig->random, 1, rng_next(&rig->random) % 2 ? 5 : end - first);
        if (run > end - first) run = end - first;
        code->run(&rig->args, &rig->phase, first, first + run);
        rig->args.prepared = 1;
        first += run;
    }
}

void rig_run(Rig *rig) {
    SuDiags diags = {0};
    CgCompiled *compiled = NULL;
    PgProgram program = {.name = "rig", .kernels = &rig->kernel, .n_kernels = 1};
    CgOptions options = {.dump_dir = getenv("MOSSC_DUMP"), .schedules = rig->schedule};
    if (!cg_llvm_compile(rig_target(), &program, &options, &compiled, &diags)) {
        su_diags_print(&diags, stderr);
        fail();
    }
    const PgCode *code = cg_codes(compiled);
    assert_true(code->claim >= 1);
    uint8_t *scratch = aligned(code->scratch + MARGIN), margin[MARGIN];
    poison(scratch, code->scratch + MARGIN);
    memcpy(margin, scratch + code->scratch, MARGIN);
    rig->args.scratch = scratch;
    uint32_t tiles = (uint32_t)pg_tiles(&rig->phase, code, rig->args.rows, rig->args.n_segments, rig->args.n_out_rows);
    uint32_t middle = (uint32_t)rng_between(&rig->random, 0, tiles); /* order must not matter */
    run_tiles(rig, code, middle, tiles);
    run_tiles(rig, code, 0, middle);
    assert_memory_equal(scratch + code->scratch, margin, MARGIN);
    free(scratch);
    cg_compiled_free(compiled);
    su_diags_free(&diags);
}

static const char *space_name(unsigned space) {
    static const char *const names[RIG_SPACES] = {"logits", "arena", "weights", "state"};
    return names[space];
}

/* Which operand holds this byte, for the message. */
static int slot_at(const Rig *rig, unsigned space, uint64_t where) {
    if (space == PG_STATE) where %= STATE_BYTES;
    for (unsigned slot = 0; slot < RIG_SLOTS; slot++) {
        bool here = where >= rig->slot_offset[slot] && where < rig->slot_offset[slot] + rig->slot_bytes[slot];
        if (space_of(rig, slot) == space && here) return (int)slot;
    }
    return -1;
}

/* Of what a kernel computes one NaN is as good as another; what it must leave alone keeps its bits. */
static bool good(const Rig *rig, const RigMemory *memory, uint64_t at) {
    float got, expected;
    memcpy(&got, memory->now + at, 4);
    memcpy(&expected, memory->expected + at, 4);
    if (memcmp(&got, &expected, 4) == 0 || memory->results[at] == ANYTHING) return true;
    if (memory->results[at] != WRITTEN) return false;
    if (rig->tolerance > 0 && fabsf(got - expected) <= rig->tolerance * fmaxf(1, fabsf(expected))) return true;
    return isnan(got) && isnan(expected);
}

void rig_check(Rig *rig, const char *what) {
    for (unsigned space = 0; space < RIG_SPACES; space++) {
        const RigMemory *memory = &rig->memory[space];
        if (memcmp(memory->now, memory->expected, memory->bytes) == 0) continue;
        for (uint64_t i = 0; i < memory->bytes; i += 4) {
            if (good(rig, memory, i)) continue;
            float a, b;
            memcpy(&a, memory->now + i, 4);
            memcpy(&b, memory->expected + i, 4);
            int slot = slot_at(rig, space, i);
            uint64_t within = space == PG_STATE ? i % STATE_BYTES : i;
            fail_msg("%s (%s): %s, operand %d, float %lld: %a, expected %a", what, rig_target()->name, space_name(space), slot,
                     slot < 0 ? -1LL : (long long)(within - rig->slot_offset[slot]) / 4, (double)a, (double)b);
        }
    }
}

void check_bits(const char *what, uint64_t i, uint64_t j, float got, float expected) {
    if (memcmp(&got, &expected, sizeof got) == 0 || (isnan(got) && isnan(expected))) return;
    fail_msg("%s[%llu][%llu]: got %a, expected %a", what, (unsigned long long)i, (unsigned long long)j, (double)got,
             (double)expected);
}
