#include "tests/codegen2/rig.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { MARGIN = 1024, ALIGN = 64 }; /* bytes around every operand that must not change */

/* splitmix64: neighbouring seeds give unrelated numbers. */
uint32_t rig_next(RigRandom *r) {
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}

int64_t rig_range(RigRandom *r, int64_t low, int64_t high) { return low + (int64_t)(rig_next(r) % (uint64_t)(high - low + 1)); }

float rig_uniform(RigRandom *r, float low, float high) {
    return low + (high - low) * ((float)(rig_next(r) & 0xffffff) / 16777216.0f);
}

static void make_segments(Rig *rig) {
    bool block = rig->kernel.mode == PG_BLOCK;
    uint32_t count = block ? (uint32_t)rig_range(&rig->random, 1, 4) : 1, row = 0;
    for (uint32_t s = 0; s < count; s++) {
        uint32_t rows = block ? (uint32_t)rig_range(&rig->random, 1, rig_next(&rig->random) % 2 ? 13 : 3) : 1;
        rig->segments[s] = (RtSegment){.position = rig_range(&rig->random, 0, 40), .first_row = row, .count = rows};
        for (uint32_t i = 0; i < rows; i++, row++) {
            rig->row_segment[row] = (int32_t)s;
            rig->row_position[row] = rig->segments[s].position + i;
        }
    }
    rig->rows = row;
    rig->ld = block ? pg_ld(row) : 1;
    uint64_t k = (uint64_t)rig->kernel.k;
    rig->ldp = block ? k * rig->ld + pg_position_pad(rig->kernel.E, rig->kernel.k) : k;
    rig->args.n_segments = count;
}

static void *zeroed(uint64_t bytes) {
    void *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    assert_non_null(memory);
    memset(memory, 0, (bytes + 4095) / 4096 * 4096);
    return memory;
}

enum { STATE_BYTES = 512 << 10 }; /* most of one sequence */

/* Bytes of a space. */
static uint64_t space_bytes(const Rig *rig, int space) {
    return space == PG_STATE ? rig->args.n_segments * (uint64_t)STATE_BYTES : 2 << 20;
}

void rig_open(Rig *rig, const CgTarget *target, const PgKernel *kernel, RigRandom random) {
    memset(rig, 0, sizeof *rig);
    rig->target = target;
    rig->random = random;
    rig->kernel = *kernel;
    make_segments(rig);
    rig->state_bytes = STATE_BYTES;
    for (int space = PG_ARENA; space <= PG_STATE; space++) {
        uint64_t bytes = space_bytes(rig, space);
        rig->memory[space] = zeroed(bytes);
        rig->expected[space] = zeroed(bytes);
        rig->results[space] = zeroed(bytes);
        for (uint64_t i = 0; i < bytes / 4; i++)
            memcpy(rig->memory[space] + 4 * i, &(uint32_t){0x7fc0beef}, 4); /* a NaN: reading what nobody wrote shows */
        memcpy(rig->expected[space], rig->memory[space], bytes);
    }
    for (uint32_t s = 0; s < rig->args.n_segments; s++) rig->segments[s].state = rig->memory[PG_STATE] + s * rig->state_bytes;
    rig->args.weights = rig->memory[PG_WEIGHTS];
    rig->args.arena = rig->memory[PG_ARENA];
    rig->args.segments = rig->segments;
    rig->args.row_segment = rig->row_segment;
    rig->args.row_position = rig->row_position;
    rig->args.nonfinite = rig->nonfinite;
    rig->args.ld = rig->ld;
    rig->args.rows = (uint32_t)rig->rows;
    rig->phase.block = 3;
}

void rig_close(Rig *rig) {
    for (int space = PG_ARENA; space <= PG_STATE; space++) {
        free(rig->memory[space]);
        free(rig->expected[space]);
        free(rig->results[space]);
    }
}

static uint64_t address(const Rig *rig, unsigned slot, uint64_t segment) {
    return rig->slot_offset[slot] + (rig->phase.operands[slot].space == PG_STATE ? segment * rig->state_bytes : 0);
}

/* In PG_BLOCK a part of an arena offset grows with LD, as in a real program. */
static PgRef make_ref(Rig *rig, PgSpace space, uint64_t offset) {
    PgRef ref = {.space = space, .fixed = offset};
    if (space == PG_ARENA && rig->kernel.mode == PG_BLOCK) {
        ref.per_row = ALIGN * (uint64_t)rig_range(&rig->random, 0, 3);
        while (ref.per_row * rig->ld > offset) ref.per_row -= ALIGN;
        ref.fixed = offset - ref.per_row * rig->ld;
    }
    return ref;
}

void rig_place(Rig *rig, unsigned slot, PgSpace space, uint64_t bytes, float low, float high) {
    uint64_t offset = rig->used[space] + MARGIN, copies = space == PG_STATE ? rig->args.n_segments : 1;
    rig->used[space] = offset + (bytes + ALIGN - 1) / ALIGN * ALIGN;
    assert_true(rig->used[space] + MARGIN <= (space == PG_STATE ? rig->state_bytes : space_bytes(rig, space)));
    rig->slot_offset[slot] = offset;
    rig->slot_bytes[slot] = bytes;
    rig->phase.operands[slot] = make_ref(rig, space, offset);
    for (uint64_t s = 0; s < copies; s++)
        for (uint64_t i = 0; i < bytes / 4; i++) rig_set(rig, slot, s, i, rig_uniform(&rig->random, low, high));
}

void rig_result(Rig *rig, unsigned slot) {
    uint64_t space = rig->phase.operands[slot].space, copies = space == PG_STATE ? rig->args.n_segments : 1;
    for (uint64_t s = 0; s < copies; s++) memset(rig->results[space] + address(rig, slot, s), 1, rig->slot_bytes[slot]);
}

/* Writes input: memory and expected memory alike. */
static void write_word(Rig *rig, unsigned slot, uint64_t segment, uint64_t at, const void *word) {
    uint64_t space = rig->phase.operands[slot].space, where = address(rig, slot, segment) + 4 * at;
    memcpy(rig->memory[space] + where, word, 4);
    memcpy(rig->expected[space] + where, word, 4);
}

void rig_set(Rig *rig, unsigned slot, uint64_t segment, uint64_t at, float v) { write_word(rig, slot, segment, at, &v); }
void rig_set_int(Rig *rig, unsigned slot, uint64_t at, int32_t v) { write_word(rig, slot, 0, at, &v); }

float rig_float(const Rig *rig, unsigned slot, uint64_t segment, uint64_t at) {
    float v;
    memcpy(&v, rig->expected[rig->phase.operands[slot].space] + address(rig, slot, segment) + 4 * at, 4);
    return v;
}

/* Numbers k distinct experts of every row in rising order. */
static void choose_experts(Rig *rig, uint64_t row) {
    int64_t E = rig->kernel.E, k = rig->kernel.k, taken = 0;
    for (int64_t e = 0; e < E && taken < k; e++)
        if ((int64_t)(rig_next(&rig->random) % (uint64_t)(E - e)) < k - taken)
            rig->expert_indices[row * (uint64_t)k + (uint64_t)taken++] = (int32_t)e;
}

/* Positions sorted by expert, each expert's padded to 8. */
static void group(Rig *rig, int32_t *start) {
    uint64_t k = (uint64_t)rig->kernel.k;
    int32_t at = 0;
    for (int64_t e = 0; e < rig->kernel.E; e++) {
        start[e] = at;
        for (uint64_t pair = 0; pair < rig->rows * k; pair++) {
            if (rig->expert_indices[pair] != e) continue;
            rig->expert_of[at / 8] = (int32_t)e;
            rig->row_of[at] = (int32_t)(pair / k);
            rig->positions[pair] = at++;
        }
        while (at % 8) rig->row_of[at++] = 0;
    }
    start[rig->kernel.E] = at;
}

void rig_route(Rig *rig, unsigned experts_slot, unsigned combine_slot, unsigned groups_slot) {
    uint64_t k = (uint64_t)rig->kernel.k, E = (uint64_t)rig->kernel.E, at = 0;
    for (uint64_t row = 0; row < rig->rows; row++) choose_experts(rig, row);
    rig_place(rig, experts_slot, PG_ARENA, 4 * rig->ld * k, 0, 0);
    rig_place(rig, combine_slot, PG_ARENA, 4 * rig->ld * k, 0.05f, 0.9f);
    for (uint64_t i = 0; i < rig->rows * k; i++) {
        rig_set_int(rig, experts_slot, i, rig->expert_indices[i]);
        rig->combine_weights[i] = rig_float(rig, combine_slot, 0, i);
    }
    if (rig->kernel.mode == PG_ROW) return;
    int32_t start[64];
    group(rig, start);
    rig_place(rig, groups_slot, PG_ARENA, 4 * (E + 1 + rig->ldp / 8 + rig->ldp + rig->ld * k), 0, 0);
    for (uint64_t e = 0; e <= E; e++) rig_set_int(rig, groups_slot, at++, start[e]);
    for (uint64_t b = 0; b < rig->ldp / 8; b++) rig_set_int(rig, groups_slot, at++, rig->expert_of[b]);
    for (uint64_t p = 0; p < rig->ldp; p++) rig_set_int(rig, groups_slot, at++, rig->row_of[p]);
    for (uint64_t i = 0; i < rig->rows * k; i++) rig_set_int(rig, groups_slot, at++, rig->positions[i]);
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

float rig_get(const Rig *rig, unsigned slot, PgLayout layout, int64_t O, int64_t N, uint64_t p, uint64_t index, int64_t i,
              int64_t n) {
    return rig_float(rig, slot, 0, element(rig, layout, O, N, p, index, i, n));
}

static void expect_word(Rig *rig, unsigned slot, uint64_t segment, uint64_t at, const void *word) {
    uint64_t space = rig->phase.operands[slot].space, where = address(rig, slot, segment) + 4 * at;
    memcpy(rig->expected[space] + where, word, 4);
    memset(rig->results[space] + where, 0, 4);
}

void rig_expect(Rig *rig, unsigned slot, PgLayout layout, int64_t O, int64_t N, uint64_t p, uint64_t index, int64_t i, int64_t n,
                float v) {
    expect_word(rig, slot, 0, element(rig, layout, O, N, p, index, i, n), &v);
}

void rig_expect_float(Rig *rig, unsigned slot, uint64_t segment, uint64_t at, float v) { expect_word(rig, slot, segment, at, &v); }
void rig_expect_int(Rig *rig, unsigned slot, uint64_t at, int32_t v) { expect_word(rig, slot, 0, at, &v); }

static float half_to_float(uint16_t h) {
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    float v = exponent == 0 ? ldexpf((float)mantissa, -24) : ldexpf((float)(mantissa + 1024), exponent - 25);
    return h & 0x8000 ? -v : v;
}

float rig_weight(const Rig *rig, unsigned slot, IrDtype dtype, int64_t O, int64_t K, uint64_t e, int64_t o, int64_t k) {
    uint64_t panel = e * pg_panels(O) + (uint64_t)o / PG_LANES, lane = (uint64_t)o % PG_LANES;
    if (dtype == IR_F32) return rig_float(rig, slot, 0, (panel * (uint64_t)K + (uint64_t)k) * PG_LANES + lane);
    uint64_t pair = (panel * (uint64_t)((K + 1) / 2) + (uint64_t)k / 2) * PG_LANES + lane;
    uint16_t narrow;
    memcpy(&narrow, rig->expected[PG_WEIGHTS] + address(rig, slot, 0) + 4 * pair + 2 * (uint64_t)(k % 2), 2);
    if (dtype == IR_F16) return half_to_float(narrow);
    uint32_t bits = (uint32_t)narrow << 16;
    float v;
    memcpy(&v, &bits, 4);
    return v;
}

/* A narrow number of absolute value 2^-10 … 2^-3, any mantissa and sign. */
static uint32_t narrow_bits(Rig *rig, IrDtype dtype) {
    uint32_t low = dtype == IR_F16 ? 0x1400 : 0x3a80, count = dtype == IR_F16 ? 0x1c00 : 0x380;
    uint32_t sign = rig_next(&rig->random) & 1;
    return sign << 15 | (low + rig_next(&rig->random) % count);
}

void rig_place_weights(Rig *rig, unsigned slot, IrDtype dtype, uint64_t planes, int64_t O, int64_t K) {
    uint64_t row = dtype == IR_F32 ? (uint64_t)K : (uint64_t)(K + 1) / 2, words = planes * pg_panels(O) * row * PG_LANES;
    rig_place(rig, slot, PG_WEIGHTS, 4 * words, -0.2f, 0.2f);
    if (dtype == IR_F32) return;
    for (uint64_t i = 0; i < words; i++) {
        uint32_t low = narrow_bits(rig, dtype);
        rig_set_int(rig, slot, i, (int32_t)(low | narrow_bits(rig, dtype) << 16));
    }
}

uint64_t rig_position(const Rig *rig, uint64_t row, uint64_t j) {
    return rig->kernel.mode == PG_ROW ? j : (uint64_t)rig->positions[row * (uint64_t)rig->kernel.k + j];
}

void rig_run(Rig *rig, uint32_t tiles) {
    SuDiags diags = {0};
    CgCompiled *compiled = NULL;
    PgProgram program = {.name = "rig", .kernels = &rig->kernel, .n_kernels = 1};
    if (!cg_llvm_compile(rig->target, &program, NULL, &compiled, &diags)) {
        su_diags_print(&diags, stderr);
        fail();
    }
    const PgCode *code = cg_codes(compiled);
    rig->args.scratch = zeroed(code->scratch + ALIGN);
    for (uint32_t tile = 0; tile < tiles;) {
        uint32_t end = tile + (uint32_t)rig_range(&rig->random, 1, rig_next(&rig->random) % 2 ? 5 : 60);
        if (end > tiles) end = tiles;
        code->run(&rig->args, &rig->phase, tile, end);
        tile = end;
    }
    free(rig->args.scratch);
    cg_compiled_free(compiled);
    su_diags_free(&diags);
}

static const char *space_name(int space) { return space == PG_ARENA ? "arena" : space == PG_STATE ? "state" : "weights"; }

/* Which operand holds this byte, for the message. */
static int slot_at(const Rig *rig, int space, uint64_t where) {
    if (space == PG_STATE) where %= rig->state_bytes;
    for (int slot = 0; slot < PG_MAX_OPERANDS; slot++) {
        bool here = where >= rig->slot_offset[slot] && where < rig->slot_offset[slot] + rig->slot_bytes[slot];
        if (rig->phase.operands[slot].space == (uint64_t)space && here) return slot;
    }
    return -1;
}

void rig_check(Rig *rig, const char *what) {
    for (int space = PG_ARENA; space <= PG_STATE; space++) {
        const uint8_t *got = rig->memory[space], *want = rig->expected[space];
        uint64_t bytes = space_bytes(rig, space);
        if (memcmp(got, want, bytes) == 0) continue;
        for (uint64_t i = 0; i < bytes; i += 4) {
            if (rig->results[space][i] || memcmp(got + i, want + i, 4) == 0) continue;
            float a, b;
            memcpy(&a, got + i, 4);
            memcpy(&b, want + i, 4);
            int slot = slot_at(rig, space, i);
            fail_msg("%s (%s): %s, operand %d, float %lld: %a, expected %a", what, rig->target->name, space_name(space), slot,
                     slot < 0 ? -1LL : (long long)(i - rig->slot_offset[slot]) / 4, (double)a, (double)b);
        }
    }
}

void rig_each(int cases, uint64_t seed, void (*test)(const CgTarget *target, RigRandom random)) {
    static const char *const isas[] = {NULL, "avx2"};
    for (int i = 0; i < 2; i++) {
        CgTarget target;
        SuDiags diags = {0};
        if (!cg_target_host(isas[i], &target, &diags)) {
            su_diags_print(&diags, stderr);
            fail();
        }
        for (int c = 0; c < cases; c++) {
            RigRandom random = {seed * 1000 + (uint64_t)c};
            test(&target, random);
        }
        cg_target_free(&target);
        su_diags_free(&diags);
    }
}
