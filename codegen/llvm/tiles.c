#include "codegen/llvm/tiles.h"

#include "codegen/llvm/blocks.h"

enum { A = CG_TILE_SUMS, B, REGISTERS, CONFIG_BYTES = 64, LINE = 64 };

static bool is_bf16(const CgEmit *e) { return e->kernel->bf16_x; }

/* Lines of B: each has as many k as 4 bytes hold. */
static unsigned lines_of_b(const CgEmit *e) { return is_bf16(e) ? CG_TILE_K / 2 : CG_TILE_K / 4; }

static CgValue tile(CgEmit *e, unsigned number) { return LLVMConstInt(e->i8, number, 0); }

static void call(CgEmit *e, const char *name, CgValue *args, unsigned count) { cg_intrinsic(e, name, NULL, 0, args, count); }

/* ---------------------------------------------------------------------------------------------- registers' sizes */

/* Palette 1: bytes of a row from byte 16 on, 16 bits each, rows from byte 48 on. */
static void store_config(CgEmit *e, CgValue at) {
    uint8_t bytes[CONFIG_BYTES] = {1};
    for (unsigned i = 0; i < REGISTERS; i++) {
        bytes[16 + 2 * i] = (uint8_t)(i == A ? CG_TILE_K * (is_bf16(e) ? 2 : 1) : LINE);
        bytes[48 + i] = (uint8_t)(i == B ? lines_of_b(e) : CG_TILE_ROWS);
    }
    for (unsigned i = 0; i < CONFIG_BYTES; i += 4) {
        uint32_t word =
            (uint32_t)bytes[i] | (uint32_t)bytes[i + 1] << 8 | (uint32_t)bytes[i + 2] << 16 | (uint32_t)bytes[i + 3] << 24;
        cg_store_i32(e, cg_at_n(e, at, i), cg_i32(e, (int32_t)word));
    }
}

void cg_tiles_begin(CgEmit *e) {
    if (e->target->amx_in_ir) {
        e->tiles = cg_var_array(e, e->vec, CG_TILE_SUMS * CG_TILE_ROWS);
        return;
    }
    CgValue config = cg_var_array(e, e->i8, CONFIG_BYTES);
    store_config(e, config);
    call(e, "llvm.x86.ldtilecfg", &config, 1);
}

void cg_tiles_end(CgEmit *e) {
    if (!e->target->amx_in_ir) call(e, "llvm.x86.tilerelease", NULL, 0);
}

/* ---------------------------------------------------------------------------------------------- the same in memory */

static CgValue sums_of(CgEmit *e, unsigned c) { return cg_at_n(e, e->tiles, (uint64_t)c * CG_TILE_ROWS * CG_VEC_BYTES); }

static void copy_sums(CgEmit *e, CgValue from, CgValue to) {
    for (unsigned r = 0; r < CG_TILE_ROWS; r++) {
        CgValue v = from == NULL ? cg_zero(e) : cg_load_vec(e, cg_at_n(e, from, (uint64_t)r * CG_VEC_BYTES));
        cg_store_vec(e, cg_at_n(e, to, (uint64_t)r * CG_VEC_BYTES), v);
    }
}

static CgValue byte_of(CgEmit *e, CgValue words, unsigned i, bool has_sign) {
    CgValue high = LLVMBuildShl(e->builder, words, cg_ivec(e, (int32_t)(24 - 8 * i)), "");
    return has_sign ? LLVMBuildAShr(e->builder, high, cg_ivec(e, 24), "") : LLVMBuildLShr(e->builder, high, cg_ivec(e, 24), "");
}

/* sum + Σ of four x·w, bytes with a sign by bytes without one. */
static CgValue add_bytes(CgEmit *e, CgValue sum, CgValue x, CgValue w) {
    for (unsigned i = 0; i < 4; i++) sum = cg_iadd(e, sum, cg_imul(e, byte_of(e, x, i, true), byte_of(e, w, i, false)));
    return sum;
}

static CgValue line_of(CgEmit *e, CgValue address, CgValue line) {
    return cg_load_ivec(e, cg_at(e, address, cg_imul_n(e, line, LINE)));
}

static void multiply_in_ir(CgEmit *e, unsigned c, const CgTilePair *pair) {
    CgValue zero = is_bf16(e) ? cg_zero(e) : cg_ivec(e, 0);
    CgLoop row = cg_for_n(e, CG_TILE_ROWS);
    CgValue a = cg_at(e, pair->a, cg_imul_n(e, row.index, pair->a_step));
    CgValue at = cg_at(e, sums_of(e, c), cg_imul_n(e, row.index, CG_VEC_BYTES)), old = cg_load_vec(e, at);
    CgLoop line = cg_for_n(e, lines_of_b(e));
    CgValue sum[2] = {cg_carry(e, &line, zero), cg_carry(e, &line, zero)}; /* of bf16 those of even k and of odd ones */
    CgValue x = cg_splat(e, cg_load_i32(e, cg_at(e, a, cg_imul_n(e, line.index, 4)))), w = line_of(e, pair->b, line.index);
    CgValue more[2] = {sum[0], sum[1]};
    if (is_bf16(e)) {
        CgValue inputs[2], weights[2];
        cg_bf16_halves(e, x, inputs);
        cg_bf16_halves(e, w, weights);
        for (unsigned i = 0; i < 2; i++) more[i] = cg_fma(e, inputs[i], weights[i], sum[i]);
    } else {
        more[0] = add_bytes(e, sum[0], x, w);
    }
    for (unsigned i = 0; i < 2; i++) cg_next(&line, sum[i], more[i]);
    cg_end_for(e, &line);
    CgValue v = cg_after(&line, sum[0]);
    if (is_bf16(e)) {
        v = cg_add(e, old, cg_add(e, v, cg_after(&line, sum[1])));
    } else {
        v = cg_iadd(e, LLVMBuildBitCast(e->builder, old, e->ivec, ""), v);
        v = LLVMBuildBitCast(e->builder, v, e->vec, "");
    }
    cg_store_vec(e, at, v);
    cg_end_for(e, &row);
}

/* ---------------------------------------------------------------------------------------------- registers */

void cg_tile_zero(CgEmit *e, unsigned c) {
    CgValue args[1] = {tile(e, c)};
    if (e->target->amx_in_ir)
        copy_sums(e, NULL, sums_of(e, c));
    else
        call(e, "llvm.x86.tilezero", args, 1);
}

void cg_tile_load(CgEmit *e, unsigned c, CgValue address) {
    CgValue args[3] = {tile(e, c), address, cg_i64(e, LINE)};
    if (e->target->amx_in_ir)
        copy_sums(e, address, sums_of(e, c));
    else
        call(e, "llvm.x86.tileloadd64", args, 3);
}

void cg_tile_store(CgEmit *e, unsigned c, CgValue address) {
    CgValue args[3] = {tile(e, c), address, cg_i64(e, LINE)};
    if (e->target->amx_in_ir)
        copy_sums(e, sums_of(e, c), address);
    else
        call(e, "llvm.x86.tilestored64", args, 3);
}

void cg_tile_multiply(CgEmit *e, unsigned c, const CgTilePair *pair, bool same_a) {
    if (e->target->amx_in_ir) {
        multiply_in_ir(e, c, pair);
        return;
    }
    CgValue a[3] = {tile(e, A), pair->a, cg_i64(e, pair->a_step)}, b[3] = {tile(e, B), pair->b, cg_i64(e, LINE)};
    CgValue product[3] = {tile(e, c), tile(e, A), tile(e, B)};
    if (!same_a) call(e, "llvm.x86.tileloadd64", a, 3);
    call(e, "llvm.x86.tileloadd64", b, 3);
    call(e, is_bf16(e) ? "llvm.x86.tdpbf16ps" : "llvm.x86.tdpbsud", product, 3);
}
