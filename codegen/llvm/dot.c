#include "codegen/llvm/dot.h"

#include "ir/quant.h"

enum { RUN_BYTES = 64 };

/* ---------------------------------------------------------------------------------------------- registers */

static unsigned parts(const CgEmit *e) { return PG_LANES / (unsigned)e->target->dot_lanes; }
static unsigned lanes(const CgEmit *e) { return PG_LANES / parts(e); }
static LLVMTypeRef bytes_of(const CgEmit *e, unsigned n) { return LLVMVectorType(e->i8, n); }
static LLVMTypeRef words_of(const CgEmit *e) { return LLVMVectorType(e->i32, lanes(e)); }

static CgValue cast(CgEmit *e, CgValue v, LLVMTypeRef type) { return LLVMBuildBitCast(e->builder, v, type, ""); }

/* The same number in every element of a vector. */
static CgValue all(const CgEmit *e, LLVMTypeRef element, unsigned n, int64_t value) {
    CgValue elements[RUN_BYTES], one = LLVMConstInt(element, (uint64_t)value, 1);
    (void)e;
    for (unsigned i = 0; i < n; i++) elements[i] = one;
    return LLVMConstVector(elements, n);
}

/* Elements first, first + step … of a vector, `count` of them. */
static CgValue pick(CgEmit *e, CgValue v, unsigned first, unsigned step, unsigned count) {
    CgValue mask[RUN_BYTES];
    for (unsigned i = 0; i < count; i++) mask[i] = cg_i32(e, (int32_t)(first + i * step));
    return LLVMBuildShuffleVector(e->builder, v, LLVMGetPoison(LLVMTypeOf(v)), LLVMConstVector(mask, count), "");
}

/* ---------------------------------------------------------------------------------------------- the instructions */

/* Each adds to four lanes' worth of bytes a register; what they take is said by CgDotWay (codegen/target.h). */

/* sum + Σ of four u·p, u from 0 to 255. */
static CgValue vnni(CgEmit *e, CgValue sum, CgValue u, CgValue p) {
    CgValue args[3] = {sum, u, p};
    return cg_intrinsic(e, lanes(e) == 16 ? "llvm.x86.avx512.vpdpbusd.512" : "llvm.x86.avx512.vpdpbusd.256", NULL, 0, args, 3);
}

/* The same in plain instructions: four bytes after one another out of every lane. */
static CgValue vnni_in_ir(CgEmit *e, CgValue sum, CgValue u, CgValue p) {
    LLVMTypeRef words = words_of(e);
    for (unsigned i = 0; i < 4; i++) {
        CgValue a = LLVMBuildZExt(e->builder, pick(e, u, i, 4, lanes(e)), words, "");
        CgValue b = LLVMBuildSExt(e->builder, pick(e, p, i, 4, lanes(e)), words, "");
        sum = cg_iadd(e, sum, cg_imul(e, a, b));
    }
    return sum;
}

static CgValue sdot(CgEmit *e, CgValue sum, CgValue q, CgValue p) {
    LLVMTypeRef types[2] = {words_of(e), bytes_of(e, 16)};
    CgValue args[3] = {sum, q, p};
    return cg_intrinsic(e, "llvm.aarch64.neon.sdot", types, 2, args, 3);
}

/* Two outputs' eight k times two rows': a matrix of 2 × 2 sums. */
static CgValue smmla(CgEmit *e, CgValue sum, CgValue q, CgValue p) {
    LLVMTypeRef types[2] = {words_of(e), bytes_of(e, 16)};
    CgValue args[3] = {sum, q, p};
    return cg_intrinsic(e, "llvm.aarch64.neon.smmla", types, 2, args, 3);
}

/* u0·p0 + u1·p1 in 16 bits, u without a sign; then pairs of these in 32. */
static CgValue madd_bytes(CgEmit *e, CgValue u, CgValue p) {
    CgValue args[2] = {u, p};
    return cg_intrinsic(e, "llvm.x86.avx2.pmadd.ub.sw", NULL, 0, args, 2);
}

static CgValue madd_shorts(CgEmit *e, CgValue pairs) {
    CgValue args[2] = {pairs, all(e, e->i16, 2 * lanes(e), 1)};
    return cg_intrinsic(e, "llvm.x86.avx2.pmadd.wd", NULL, 0, args, 2);
}

static CgValue magnitude(CgEmit *e, CgValue q) {
    LLVMTypeRef type = LLVMTypeOf(q);
    CgValue args[2] = {q, LLVMConstInt(e->i1, 0, 0)};
    return cg_intrinsic(e, "llvm.abs", &type, 1, args, 2);
}

static CgValue with_sign_of(CgEmit *e, CgValue p, CgValue q) {
    CgValue args[2] = {p, q};
    return cg_intrinsic(e, "llvm.x86.avx2.psign.b", NULL, 0, args, 2);
}

/* sum + q·p of eight bytes, those from `first` on, in 16 bits. */
static CgValue multiply_half(CgEmit *e, CgValue sum, CgValue q, CgValue p, unsigned first) {
    LLVMTypeRef shorts = LLVMVectorType(e->i16, 8);
    CgValue args[2] = {pick(e, q, first, 1, 8), pick(e, p, first, 1, 8)};
    CgValue product = cg_intrinsic(e, "llvm.aarch64.neon.smull", &shorts, 1, args, 2);
    return sum == NULL ? product : cg_iadd(e, sum, product);
}

/* Neighbours' sums in 32 bits. */
static CgValue add_neighbours(CgEmit *e, CgValue shorts) {
    LLVMTypeRef types[2] = {words_of(e), LLVMTypeOf(shorts)};
    return cg_intrinsic(e, "llvm.aarch64.neon.saddlp", types, 2, &shorts, 1);
}

/* ---------------------------------------------------------------------------------------------- weights and inputs */

static CgValue load_part(CgEmit *e, CgValue address) {
    CgValue v = LLVMBuildLoad2(e->builder, bytes_of(e, 4 * lanes(e)), address, "");
    LLVMSetAlignment(v, 16); /* groups of q8 are 17 times 32 bytes */
    return v;
}

/* The low, or the high halves of bytes. */
static CgValue halves(CgEmit *e, CgValue v, unsigned high) {
    if (high && e->target->vector_lanes == 4) return LLVMBuildLShr(e->builder, v, all(e, e->i8, 4 * lanes(e), 4), "");
    if (high) { /* x86 shifts no bytes */
        LLVMTypeRef shorts = LLVMVectorType(e->i16, 2 * lanes(e));
        v = LLVMBuildLShr(e->builder, cast(e, v, shorts), all(e, e->i16, 2 * lanes(e), 4), "");
        v = cast(e, v, bytes_of(e, 4 * lanes(e)));
    }
    return LLVMBuildAnd(e->builder, v, all(e, e->i8, 4 * lanes(e), 15), "");
}

CgBytes cg_dot_weights(CgEmit *e, IrDtype dtype, CgValue group, unsigned run) {
    const uint64_t part_bytes = RUN_BYTES / parts(e), first = (dtype == IR_Q4 ? run / 2 : run) * RUN_BYTES;
    CgBytes out = {{NULL}};
    for (unsigned i = 0; i < parts(e); i++) {
        CgValue v = load_part(e, cg_at_n(e, group, first + i * part_bytes));
        if (dtype == IR_Q4) v = halves(e, v, run % 2);
        if (dtype == IR_Q8 && e->target->dot == CG_DOT_VNNI) /* without a sign, 128 too much */
            v = LLVMBuildXor(e->builder, v, all(e, e->i8, 4 * lanes(e), -128), "");
        out.part[i] = v;
    }
    return out;
}

unsigned cg_dot_runs(const CgEmit *e) { return e->target->dot == CG_DOT_SMLAL ? 2 : 1; }

unsigned cg_dot_rows(const CgEmit *e) { return e->target->dot == CG_DOT_SMMLA && e->kernel->mode == PG_BLOCK ? 2 : 1; }

unsigned cg_dot_k(IrDtype dtype, unsigned run) {
    return dtype == IR_Q4 ? run / 2 * CG_RUN + run % 2 * (IR_GROUP / 2) : run * CG_RUN;
}

unsigned cg_dot_run_of(IrDtype dtype, unsigned k) {
    if (dtype != IR_Q4) return k / CG_RUN;
    return k % (IR_GROUP / 2) / CG_RUN * 2 + k / (IR_GROUP / 2);
}

/* Elements first, first + 1 … of `a` and of `b` in turn, words or pairs of words. */
static CgValue woven(CgEmit *e, CgValue a, CgValue b, unsigned first, unsigned words) {
    CgValue mask[4];
    for (unsigned i = 0; i < 4; i++) {
        unsigned of = words == 1 ? i % 2 : i / 2, at = words == 1 ? first + i / 2 : first + i % 2;
        mask[i] = cg_i32(e, (int32_t)(4 * of + at));
    }
    return LLVMBuildShuffleVector(e->builder, a, b, LLVMConstVector(mask, 4), "");
}

void cg_dot_pair_weights(CgEmit *e, CgBytes w[2]) {
    CgBytes from[2] = {w[0], w[1]};
    for (unsigned i = 0; i < 2 * parts(e); i++) { /* outputs 2i, 2i + 1 */
        CgValue a = cast(e, from[0].part[i / 2], words_of(e)), b = cast(e, from[1].part[i / 2], words_of(e));
        w[i / parts(e)].part[i % parts(e)] = cast(e, woven(e, a, b, i % 2 * 2, 1), bytes_of(e, 4 * lanes(e)));
    }
}

CgBytes cg_dot_pair_input(CgEmit *e, CgValue a, CgValue b, unsigned lane) {
    CgBytes out = {{NULL}};
    CgValue both = cast(e, woven(e, a, b, lane, 2), bytes_of(e, 4 * lanes(e)));
    for (unsigned i = 0; i < parts(e); i++) out.part[i] = both;
    return out;
}

void cg_dot_store(CgEmit *e, const CgBytes *bytes, CgValue address) {
    for (unsigned i = 0; i < parts(e); i++) {
        CgValue at = cg_at_n(e, address, (uint64_t)i * 4 * lanes(e));
        LLVMSetAlignment(LLVMBuildStore(e->builder, bytes->part[i], at), 16);
    }
}

CgBytes cg_dot_load(CgEmit *e, CgValue address) {
    CgBytes out = {{NULL}};
    for (unsigned i = 0; i < parts(e); i++) out.part[i] = load_part(e, cg_at_n(e, address, (uint64_t)i * 4 * lanes(e)));
    return out;
}

CgBytes cg_dot_input(CgEmit *e, CgValue four, int lane) {
    LLVMTypeRef words = words_of(e);
    CgValue v = lane < 0 ? LLVMBuildInsertElement(e->builder, LLVMGetPoison(words), four, cg_i32(e, 0), "") : four;
    v = LLVMBuildShuffleVector(e->builder, v, LLVMGetPoison(LLVMTypeOf(v)), all(e, e->i32, lanes(e), lane < 0 ? 0 : lane), "");
    CgBytes out = {{NULL}};
    for (unsigned i = 0; i < parts(e); i++) out.part[i] = cast(e, v, bytes_of(e, 4 * lanes(e)));
    return out;
}

/* ---------------------------------------------------------------------------------------------- sums */

static CgValue base_bits(CgEmit *e) { return all(e, e->i32, lanes(e), 0x4b400000); }

/* Whether products of a whole group fit 16 bits: 15 · 127 · 8. */
static bool in_shorts(const CgEmit *e, IrDtype dtype) {
    return dtype == IR_Q4 && (e->target->dot == CG_DOT_MADD || e->target->dot == CG_DOT_SMLAL);
}

CgDot cg_dot_start(CgEmit *e, IrDtype dtype, CgValue p_sum) {
    CgDot sum = {{NULL}, {NULL}};
    CgValue base = p_sum == NULL ? LLVMConstNull(words_of(e)) : base_bits(e);
    if (in_shorts(e, dtype)) return sum; /* the first product begins it */
    if (e->target->dot == CG_DOT_VNNI && dtype == IR_Q8 && p_sum != NULL) { /* u is 128 more than q */
        CgValue less = cg_fma(e, cg_vec(e, -128.0f), p_sum, cg_vec(e, CG_DOT_BASE));
        base = cast(e, pick(e, less, 0, 1, lanes(e)), words_of(e));
    }
    for (unsigned i = 0; i < parts(e); i++) sum.low[i] = base;
    if (e->target->dot == CG_DOT_SMLAL)
        for (unsigned i = 0; i < parts(e); i++) sum.low[i] = sum.high[i] = NULL;
    return sum;
}

static CgValue add_or_begin(CgEmit *e, CgValue sum, CgValue v) { return sum == NULL ? v : cg_iadd(e, sum, v); }

static void add_madd(CgEmit *e, IrDtype dtype, const CgBytes *w, const CgBytes *x, CgDot *sum) {
    for (unsigned i = 0; i < parts(e); i++) {
        if (dtype == IR_Q4) {
            sum->low[i] = add_or_begin(e, sum->low[i], madd_bytes(e, w->part[i], x->part[i]));
            continue;
        }
        CgValue pairs = madd_bytes(e, magnitude(e, w->part[i]), with_sign_of(e, x->part[i], w->part[i]));
        sum->low[i] = cg_iadd(e, sum->low[i], madd_shorts(e, pairs));
    }
}

/* Two runs of q8 fit 16 bits: 2 · 127 · 127. */
static void add_smlal(CgEmit *e, IrDtype dtype, const CgBytes *w, const CgBytes *x, CgDot *sum) {
    for (unsigned i = 0; i < parts(e); i++) {
        for (unsigned half = 0; half < 2; half++) {
            CgValue *to = half ? &sum->high[i] : &sum->low[i];
            CgValue shorts = dtype == IR_Q4 ? *to : NULL;
            for (unsigned run = 0; run < 2; run++) shorts = multiply_half(e, shorts, w[run].part[i], x[run].part[i], 8 * half);
            *to = dtype == IR_Q4 ? shorts : add_or_begin(e, *to, add_neighbours(e, shorts));
        }
    }
}

void cg_dot_add(CgEmit *e, IrDtype dtype, const CgBytes *w, const CgBytes *x, CgDot *sum) {
    switch (e->target->dot) {
    case CG_DOT_MADD: add_madd(e, dtype, w, x, sum); return;
    case CG_DOT_SMLAL: add_smlal(e, dtype, w, x, sum); return;
    case CG_DOT_VNNI:
        for (unsigned i = 0; i < parts(e); i++)
            sum->low[i] = (e->target->dot_in_ir ? vnni_in_ir : vnni)(e, sum->low[i], w->part[i], x->part[i]);
        return;
    case CG_DOT_SDOT:
    case CG_DOT_SMMLA:
        for (unsigned i = 0; i < parts(e); i++)
            sum->low[i] = (cg_dot_rows(e) > 1 ? smmla : sdot)(e, sum->low[i], w->part[i], x->part[i]);
        return;
    }
}

void cg_dot_keep_place(CgEmit *e, CgDot *sum) {
    if (e->target->dot_in_ir) return; /* no registers are as large */
    for (unsigned i = 0; i < parts(e); i++) {
        if (sum->low[i] != NULL) sum->low[i] = cg_keep_place(e, sum->low[i]);
        if (sum->high[i] != NULL) sum->high[i] = cg_keep_place(e, sum->high[i]);
    }
}

/* Lanes of 16 bits, four or two of each output, as sums of 32. */
static CgValue joined(CgEmit *e, IrDtype dtype, const CgDot *sum, unsigned part) {
    if (e->target->dot == CG_DOT_MADD) return madd_shorts(e, sum->low[part]);
    CgValue low = sum->low[part], high = sum->high[part];
    if (dtype == IR_Q4) {
        low = add_neighbours(e, low);
        high = add_neighbours(e, high);
    }
    LLVMTypeRef words = words_of(e);
    CgValue args[2] = {low, high};
    return cg_intrinsic(e, "llvm.aarch64.neon.addp", &words, 1, args, 2);
}

/* Whether a sum is made of products alone, whatever it began with. */
static bool without_base(const CgEmit *e, IrDtype dtype) { return in_shorts(e, dtype) || e->target->dot == CG_DOT_SMLAL; }

CgValue cg_dot_end_integers(CgEmit *e, IrDtype dtype, const CgDot *sum) {
    CgValue part[CG_DOT_PARTS];
    for (unsigned i = 0; i < parts(e); i++) part[i] = without_base(e, dtype) ? joined(e, dtype, sum, i) : sum->low[i];
    return cg_concat(e, part, parts(e));
}

CgValue cg_dot_end(CgEmit *e, IrDtype dtype, const CgDot *sum) {
    CgValue part[CG_DOT_PARTS];
    for (unsigned i = 0; i < parts(e); i++) {
        CgValue v = without_base(e, dtype) ? cg_iadd(e, joined(e, dtype, sum, i), base_bits(e)) : sum->low[i];
        part[i] = cast(e, v, LLVMVectorType(e->f32, lanes(e)));
    }
    return cg_concat(e, part, parts(e));
}
