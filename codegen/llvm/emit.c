#include "codegen/llvm/emit.h"

#include <string.h>

#include "support/diag.h"

/* ---------------------------------------------------------------------------------------------- constants */

CgValue cg_i64(CgEmit *e, uint64_t n) { return LLVMConstInt(e->i64, n, 0); }
CgValue cg_i32(CgEmit *e, int32_t n) { return LLVMConstInt(e->i32, (uint64_t)(int64_t)n, 1); }

CgValue cg_f32(CgEmit *e, float x) { return LLVMConstReal(e->f32, (double)x); /* every float is a double */ }

static unsigned lanes_of(const CgEmit *e) { return LLVMGetVectorSize(e->vec); }

static CgValue constant_splat(const CgEmit *e, CgValue scalar) {
    CgValue lanes[PG_LANES];
    for (unsigned i = 0; i < PG_LANES; i++) lanes[i] = scalar;
    return LLVMConstVector(lanes, lanes_of(e));
}

CgValue cg_vec(CgEmit *e, float x) { return constant_splat(e, cg_f32(e, x)); }
CgValue cg_ivec(CgEmit *e, int32_t n) { return constant_splat(e, cg_i32(e, n)); }
CgValue cg_zero(CgEmit *e) { return LLVMConstNull(e->vec); }

/* ---------------------------------------------------------------------------------------------- integers */

CgValue cg_iadd(CgEmit *e, CgValue a, CgValue b) { return LLVMBuildAdd(e->builder, a, b, ""); }
CgValue cg_isub(CgEmit *e, CgValue a, CgValue b) { return LLVMBuildSub(e->builder, a, b, ""); }
CgValue cg_imul(CgEmit *e, CgValue a, CgValue b) { return LLVMBuildMul(e->builder, a, b, ""); }
CgValue cg_udiv(CgEmit *e, CgValue a, CgValue b) { return LLVMBuildUDiv(e->builder, a, b, ""); }
CgValue cg_urem(CgEmit *e, CgValue a, CgValue b) { return LLVMBuildURem(e->builder, a, b, ""); }
CgValue cg_iadd_n(CgEmit *e, CgValue a, uint64_t n) { return n == 0 ? a : cg_iadd(e, a, cg_i64(e, n)); }
CgValue cg_imul_n(CgEmit *e, CgValue a, uint64_t n) { return n == 1 ? a : cg_imul(e, a, cg_i64(e, n)); }
CgValue cg_udiv_n(CgEmit *e, CgValue a, uint64_t n) { return n == 1 ? a : cg_udiv(e, a, cg_i64(e, n)); }
CgValue cg_urem_n(CgEmit *e, CgValue a, uint64_t n) { return n == 1 ? cg_i64(e, 0) : cg_urem(e, a, cg_i64(e, n)); }

CgValue cg_umin(CgEmit *e, CgValue a, CgValue b) { return cg_select(e, cg_icmp(e, LLVMIntULT, a, b), a, b); }
CgValue cg_umax(CgEmit *e, CgValue a, CgValue b) { return cg_select(e, cg_icmp(e, LLVMIntUGT, a, b), a, b); }
CgValue cg_wide(CgEmit *e, CgValue i32_value) { return LLVMBuildZExt(e->builder, i32_value, e->i64, ""); }

CgValue cg_icmp(CgEmit *e, LLVMIntPredicate how, CgValue a, CgValue b) { return LLVMBuildICmp(e->builder, how, a, b, ""); }

/* ---------------------------------------------------------------------------------------------- floats */

/* Versions of LLVM differ in how they take a register apart. */
static void cast_arguments(CgEmit *e, LLVMTypeRef function, CgValue *args, unsigned count) {
    LLVMTypeRef wanted[4];
    if (LLVMCountParamTypes(function) != count || count > 4) SU_BUG("an intrinsic of %u arguments", count);
    LLVMGetParamTypes(function, wanted);
    for (unsigned i = 0; i < count; i++)
        if (LLVMTypeOf(args[i]) != wanted[i]) args[i] = LLVMBuildBitCast(e->builder, args[i], wanted[i], "");
}

CgValue cg_intrinsic(CgEmit *e, const char *name, LLVMTypeRef *types, unsigned n_types, CgValue *args, unsigned count) {
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    if (id == 0) SU_BUG("LLVM has no intrinsic %s", name);
    CgValue callee = LLVMGetIntrinsicDeclaration(e->module, id, types, n_types);
    LLVMTypeRef function = LLVMIntrinsicGetType(e->context, id, types, n_types);
    cast_arguments(e, function, args, count);
    return LLVMBuildCall2(e->builder, function, callee, args, count, "");
}

static CgValue intrinsic(CgEmit *e, const char *name, LLVMTypeRef type, CgValue *args, unsigned count) {
    return cg_intrinsic(e, name, &type, 1, args, count);
}

CgValue cg_add(CgEmit *e, CgValue a, CgValue b) { return LLVMBuildFAdd(e->builder, a, b, ""); }
CgValue cg_sub(CgEmit *e, CgValue a, CgValue b) { return LLVMBuildFSub(e->builder, a, b, ""); }
CgValue cg_mul(CgEmit *e, CgValue a, CgValue b) { return LLVMBuildFMul(e->builder, a, b, ""); }
CgValue cg_div(CgEmit *e, CgValue a, CgValue b) { return LLVMBuildFDiv(e->builder, a, b, ""); }

CgValue cg_fma(CgEmit *e, CgValue a, CgValue b, CgValue c) {
    CgValue args[3] = {a, b, c};
    return intrinsic(e, "llvm.fma", LLVMTypeOf(a), args, 3);
}

CgValue cg_sqrt(CgEmit *e, CgValue a) { return intrinsic(e, "llvm.sqrt", LLVMTypeOf(a), &a, 1); }
CgValue cg_abs(CgEmit *e, CgValue a) { return intrinsic(e, "llvm.fabs", LLVMTypeOf(a), &a, 1); }

CgValue cg_ieee_max(CgEmit *e, CgValue a, CgValue b) {
    CgValue args[2] = {a, b};
    return intrinsic(e, "llvm.maximum", LLVMTypeOf(a), args, 2);
}

CgValue cg_ieee_min(CgEmit *e, CgValue a, CgValue b) {
    CgValue args[2] = {a, b};
    return intrinsic(e, "llvm.minimum", LLVMTypeOf(a), args, 2);
}

CgValue cg_abs_greater(CgEmit *e, CgValue a, CgValue b) {
    CgValue args[2] = {a, b};
    LLVMTypeRef types[2] = {e->ivec, e->vec};
    return cg_intrinsic(e, e->target->abs_greater, types, 2, args, 2);
}

CgValue cg_fcmp(CgEmit *e, LLVMRealPredicate how, CgValue a, CgValue b) { return LLVMBuildFCmp(e->builder, how, a, b, ""); }

CgValue cg_select(CgEmit *e, CgValue condition, CgValue yes, CgValue no) {
    return LLVMBuildSelect(e->builder, condition, yes, no, "");
}

/* ---------------------------------------------------------------------------------------------- lanes */

void cg_set_lanes(CgEmit *e, unsigned lanes) {
    e->vec = LLVMVectorType(e->f32, lanes);
    e->ivec = LLVMVectorType(e->i32, lanes);
    e->hvec = LLVMVectorType(LLVMHalfTypeInContext(e->context), lanes);
}

CgValue cg_splat(CgEmit *e, CgValue scalar) {
    LLVMTypeRef type = LLVMVectorType(LLVMTypeOf(scalar), lanes_of(e));
    CgValue one = LLVMBuildInsertElement(e->builder, LLVMGetPoison(type), scalar, cg_i32(e, 0), "");
    return LLVMBuildShuffleVector(e->builder, one, LLVMGetPoison(type), cg_ivec(e, 0), "");
}

CgValue cg_splat_lane(CgEmit *e, CgValue vector, unsigned lane) {
    return LLVMBuildShuffleVector(e->builder, vector, LLVMGetPoison(LLVMTypeOf(vector)), cg_ivec(e, (int32_t)lane), "");
}

CgValue cg_concat(CgEmit *e, const CgValue *parts, unsigned count) {
    CgValue joined[PG_LANES], lane[PG_LANES];
    for (unsigned i = 0; i < count; i++) joined[i] = parts[i];
    for (; count > 1; count /= 2) {
        unsigned lanes = 2 * LLVMGetVectorSize(LLVMTypeOf(joined[0]));
        for (unsigned i = 0; i < lanes; i++) lane[i] = cg_i32(e, (int32_t)i);
        for (unsigned i = 0; i < count / 2; i++)
            joined[i] = LLVMBuildShuffleVector(e->builder, joined[2 * i], joined[2 * i + 1], LLVMConstVector(lane, lanes), "");
    }
    return joined[0];
}

CgValue cg_lane(CgEmit *e, CgValue vector, unsigned lane) {
    return LLVMBuildExtractElement(e->builder, vector, cg_i32(e, (int32_t)lane), "");
}

CgValue cg_set_lane(CgEmit *e, CgValue vector, CgValue scalar, unsigned lane) {
    return LLVMBuildInsertElement(e->builder, vector, scalar, cg_i32(e, (int32_t)lane), "");
}

CgValue cg_tree_sum(CgEmit *e, CgValue vector) {
    for (unsigned half = PG_LANES / 2; half > 0; half /= 2) {
        CgValue low[PG_LANES], high[PG_LANES];
        for (unsigned i = 0; i < half; i++) {
            low[i] = cg_i32(e, (int32_t)i);
            high[i] = cg_i32(e, (int32_t)(i + half));
        }
        CgValue poison = LLVMGetPoison(LLVMTypeOf(vector));
        CgValue a = LLVMBuildShuffleVector(e->builder, vector, poison, LLVMConstVector(low, half), "");
        CgValue b = LLVMBuildShuffleVector(e->builder, vector, poison, LLVMConstVector(high, half), "");
        vector = cg_add(e, a, b);
    }
    return cg_lane(e, vector, 0);
}

/* ---------------------------------------------------------------------------------------------- memory */

CgValue cg_at(CgEmit *e, CgValue base, CgValue bytes) { return LLVMBuildInBoundsGEP2(e->builder, e->i8, base, &bytes, 1, ""); }

CgValue cg_at_n(CgEmit *e, CgValue base, uint64_t bytes) { return bytes == 0 ? base : cg_at(e, base, cg_i64(e, bytes)); }

CgValue cg_opaque(CgEmit *e, CgValue address) { return intrinsic(e, "llvm.strip.invariant.group", e->ptr, &address, 1); }

/* A fence for this thread alone: no instruction. */
void cg_keep_order(CgEmit *e) { LLVMBuildFence(e->builder, LLVMAtomicOrderingAcquireRelease, true, ""); }

/* Assembly without any: its result lies in the register of its operand. */
CgValue cg_keep_place(CgEmit *e, CgValue vector) {
    const char *where = e->target->vector_lanes == 4 ? "=w,0" : e->target->vector_lanes == 8 ? "=x,0" : "=v,0";
    LLVMTypeRef type = LLVMTypeOf(vector), function = LLVMFunctionType(type, &type, 1, 0);
    CgValue nothing = LLVMGetInlineAsm(function, "", 0, where, strlen(where), true, false, LLVMInlineAsmDialectATT, false);
    return LLVMBuildCall2(e->builder, function, nothing, &vector, 1, "");
}

void cg_prefetch(CgEmit *e, CgValue address) {
    CgValue args[4] = {address, cg_i32(e, 0), cg_i32(e, 3), cg_i32(e, 1)}; /* for reading, into all levels, data */
    intrinsic(e, "llvm.prefetch", e->ptr, args, 4);
}

static CgValue load(CgEmit *e, LLVMTypeRef type, CgValue address, unsigned alignment) {
    CgValue value = LLVMBuildLoad2(e->builder, type, address, "");
    LLVMSetAlignment(value, alignment);
    return value;
}

static void store(CgEmit *e, CgValue address, CgValue value, unsigned alignment) {
    LLVMSetAlignment(LLVMBuildStore(e->builder, value, address), alignment);
}

CgValue cg_load_vec(CgEmit *e, CgValue address) { return load(e, e->vec, address, lanes_of(e) * 4); }
CgValue cg_load_ivec(CgEmit *e, CgValue address) { return load(e, e->ivec, address, lanes_of(e) * 4); }
void cg_store_vec(CgEmit *e, CgValue address, CgValue vector) { store(e, address, vector, lanes_of(e) * 4); }
CgValue cg_load_vec_unaligned(CgEmit *e, CgValue address) { return load(e, e->vec, address, 4); }
void cg_store_vec_unaligned(CgEmit *e, CgValue address, CgValue vector) { store(e, address, vector, 4); }
CgValue cg_load_f32(CgEmit *e, CgValue address) { return load(e, e->f32, address, 4); }
void cg_store_f32(CgEmit *e, CgValue address, CgValue scalar) { store(e, address, scalar, 4); }
CgValue cg_load_i32(CgEmit *e, CgValue address) { return load(e, e->i32, address, 4); }
void cg_store_i32(CgEmit *e, CgValue address, CgValue scalar) { store(e, address, scalar, 4); }
CgValue cg_load_i64(CgEmit *e, CgValue address) { return load(e, e->i64, address, 8); }
CgValue cg_load_ptr(CgEmit *e, CgValue address) { return load(e, e->ptr, address, 8); }
CgValue cg_load_splat(CgEmit *e, CgValue address) { return cg_splat(e, cg_load_f32(e, address)); }
CgValue cg_load_few(CgEmit *e, CgValue address, unsigned count) { return load(e, LLVMVectorType(e->f32, count), address, 4); }

CgValue cg_count_up(CgEmit *e, CgValue address) {
    LLVMAtomicOrdering order = LLVMAtomicOrderingAcquireRelease;
    CgValue old = LLVMBuildAtomicRMW(e->builder, LLVMAtomicRMWBinOpAdd, address, cg_i32(e, 1), order, false);
    LLVMSetAlignment(old, 4);
    return old;
}

void cg_store_few(CgEmit *e, CgValue address, CgValue few) { store(e, address, few, 4); }

/* ---------------------------------------------------------------------------------------------- variables */

/* Opens the entry block for more code; returns the block to come back to. */
static LLVMBasicBlockRef open_entry(CgEmit *e, bool at_front) {
    LLVMBasicBlockRef here = LLVMGetInsertBlock(e->builder);
    LLVMValueRef before = at_front ? LLVMGetFirstInstruction(e->entry) : LLVMGetBasicBlockTerminator(e->entry);
    LLVMPositionBuilderBefore(e->builder, before);
    return here;
}

static void close_entry(CgEmit *e, LLVMBasicBlockRef here) { LLVMPositionBuilderAtEnd(e->builder, here); }

CgValue cg_var_array(CgEmit *e, LLVMTypeRef type, uint64_t count) {
    LLVMBasicBlockRef here = open_entry(e, true);
    CgValue var = LLVMBuildAlloca(e->builder, LLVMArrayType2(type, count), "");
    LLVMSetAlignment(var, 64);
    close_entry(e, here);
    return var;
}

/* ---------------------------------------------------------------------------------------------- control */

static LLVMBasicBlockRef new_block(CgEmit *e, const char *name) {
    return LLVMAppendBasicBlockInContext(e->context, e->function, name);
}

/* A loop tests at its bottom; before it stands a test for zero runs, unless the bounds are known to allow one. */
CgLoop cg_for(CgEmit *e, CgValue start, CgValue end, uint64_t step) {
    CgLoop loop = {.start = start, .end = end, .step = step};
    loop.guarded =
        !(LLVMIsAConstantInt(start) && LLVMIsAConstantInt(end) && LLVMConstIntGetZExtValue(start) < LLVMConstIntGetZExtValue(end));
    loop.before = LLVMGetInsertBlock(e->builder);
    loop.body = new_block(e, "loop");
    loop.after = new_block(e, "done");
    if (loop.guarded)
        LLVMBuildCondBr(e->builder, cg_icmp(e, LLVMIntULT, start, end), loop.body, loop.after);
    else
        LLVMBuildBr(e->builder, loop.body);
    LLVMPositionBuilderAtEnd(e->builder, loop.body);
    loop.index = LLVMBuildPhi(e->builder, e->i64, "i");
    LLVMAddIncoming(loop.index, &start, &loop.before, 1);
    return loop;
}

CgLoop cg_for_n(CgEmit *e, uint64_t count) { return cg_for(e, cg_i64(e, 0), cg_i64(e, count), 1); }

CgValue cg_carry(CgEmit *e, CgLoop *loop, CgValue first) {
    if (loop->carried == CG_MAX_CARRIED) SU_BUG("a loop carries more than %d values", CG_MAX_CARRIED);
    CgValue phi = LLVMBuildPhi(e->builder, LLVMTypeOf(first), "");
    LLVMAddIncoming(phi, &first, &loop->before, 1);
    loop->first[loop->carried] = first;
    loop->next[loop->carried] = phi; /* unchanged unless cg_next says otherwise */
    loop->phi[loop->carried++] = phi;
    return phi;
}

static int carried_index(const CgLoop *loop, CgValue carried) {
    for (int i = 0; i < loop->carried; i++)
        if (loop->phi[i] == carried) return i;
    SU_BUG("not a value that this loop carries");
}

void cg_next(CgLoop *loop, CgValue carried, CgValue value) { loop->next[carried_index(loop, carried)] = value; }

void cg_end_for(CgEmit *e, CgLoop *loop) {
    LLVMBasicBlockRef latch = LLVMGetInsertBlock(e->builder);
    bool once = !loop->guarded && LLVMConstIntGetZExtValue(loop->start) + loop->step >= LLVMConstIntGetZExtValue(loop->end);
    if (once) { /* no way back: not a loop at all */
        LLVMBuildBr(e->builder, loop->after);
    } else {
        CgValue next = cg_iadd_n(e, loop->index, loop->step);
        LLVMAddIncoming(loop->index, &next, &latch, 1);
        for (int i = 0; i < loop->carried; i++) LLVMAddIncoming(loop->phi[i], &loop->next[i], &latch, 1);
        LLVMBuildCondBr(e->builder, cg_icmp(e, LLVMIntULT, next, loop->end), loop->body, loop->after);
    }
    LLVMPositionBuilderAtEnd(e->builder, loop->after);
    LLVMMoveBasicBlockAfter(loop->after, latch);
    for (int i = 0; i < loop->carried; i++) {
        if (!loop->guarded) {
            loop->last[i] = loop->next[i];
            continue;
        }
        loop->last[i] = LLVMBuildPhi(e->builder, LLVMTypeOf(loop->first[i]), "");
        LLVMAddIncoming(loop->last[i], &loop->first[i], &loop->before, 1);
        LLVMAddIncoming(loop->last[i], &loop->next[i], &latch, 1);
    }
}

CgValue cg_after(const CgLoop *loop, CgValue carried) { return loop->last[carried_index(loop, carried)]; }

CgIf cg_if(CgEmit *e, CgValue condition) {
    CgIf c = {.before = LLVMGetInsertBlock(e->builder), .other = new_block(e, "else"), .after = new_block(e, "join")};
    LLVMBasicBlockRef then = new_block(e, "then");
    LLVMBuildCondBr(e->builder, condition, then, c.other);
    LLVMPositionBuilderAtEnd(e->builder, then);
    return c;
}

void cg_else(CgEmit *e, CgIf *c) {
    c->then_end = LLVMGetInsertBlock(e->builder);
    LLVMBuildBr(e->builder, c->after);
    LLVMPositionBuilderAtEnd(e->builder, c->other);
    LLVMMoveBasicBlockAfter(c->other, c->then_end);
    c->has_else = true;
}

void cg_end_if(CgEmit *e, CgIf *c) {
    if (!c->has_else) cg_else(e, c);
    c->else_end = LLVMGetInsertBlock(e->builder);
    LLVMBuildBr(e->builder, c->after);
    LLVMPositionBuilderAtEnd(e->builder, c->after);
    LLVMMoveBasicBlockAfter(c->after, c->else_end);
}

CgValue cg_join(CgEmit *e, const CgIf *c, CgValue then_value, CgValue else_value) {
    CgValue phi = LLVMBuildPhi(e->builder, LLVMTypeOf(then_value), "");
    CgValue values[2] = {then_value, else_value};
    LLVMBasicBlockRef blocks[2] = {c->then_end, c->else_end};
    LLVMAddIncoming(phi, values, blocks, 2);
    return phi;
}

CgLoop cg_for_tiles(CgEmit *e) { return cg_for(e, e->tile0, e->tile1, 1); }

/* ---------------------------------------------------------------------------------------------- the step */

/* Marks a load as of memory that does not change while the kernel runs. */
static CgValue invariant(CgEmit *e, CgValue loaded) {
    unsigned kind = LLVMGetMDKindIDInContext(e->context, "invariant.load", 14);
    LLVMMetadataRef empty = LLVMMDNodeInContext2(e->context, NULL, 0);
    LLVMSetMetadata(loaded, kind, LLVMMetadataAsValue(e->context, empty));
    return loaded;
}

static CgValue arg(CgEmit *e, size_t offset, LLVMTypeRef type, bool widen) {
    size_t slot = offset / 4;
    if (slot >= CG_ARG_SLOTS) SU_BUG("no field of RtArgs at %zu", offset);
    if (e->arg[slot] == NULL) {
        LLVMBasicBlockRef here = open_entry(e, false);
        CgValue value = invariant(e, LLVMBuildLoad2(e->builder, type, cg_at_n(e, e->args, offset), ""));
        e->arg[slot] = widen ? cg_wide(e, value) : value;
        close_entry(e, here);
    }
    return e->arg[slot];
}

CgValue cg_arg_ptr(CgEmit *e, size_t offset) { return arg(e, offset, e->ptr, false); }
CgValue cg_arg_i64(CgEmit *e, size_t offset) { return arg(e, offset, e->i64, false); }
CgValue cg_arg_u32(CgEmit *e, size_t offset) { return arg(e, offset, e->i32, true); }

CgValue cg_rows(CgEmit *e) { return e->kernel->mode == PG_ROW ? cg_i64(e, 1) : cg_arg_u32(e, offsetof(RtArgs, rows)); }

CgValue cg_ld(CgEmit *e) { return e->kernel->mode == PG_ROW ? cg_i64(e, 1) : cg_arg_i64(e, offsetof(RtArgs, ld)); }

CgValue cg_ldp(CgEmit *e) {
    const PgKernel *k = e->kernel;
    if (k->mode == PG_ROW) return cg_i64(e, (uint64_t)k->k);
    CgValue ld = cg_ld(e);
    LLVMBasicBlockRef here = open_entry(e, false);
    CgValue ldp = cg_iadd_n(e, cg_imul_n(e, ld, (uint64_t)k->k), pg_position_pad(k->E, k->k));
    close_entry(e, here);
    return ldp;
}

CgValue cg_stride(CgEmit *e, PgLayout layout) { return layout == PG_POSITIONS ? cg_ldp(e) : cg_ld(e); }

CgValue cg_plane_bytes(CgEmit *e, int64_t elements) {
    return cg_imul_n(e, cg_ld(e), pg_panels(elements) * PG_LANES * sizeof(float));
}

CgSegment cg_segment(CgEmit *e, CgValue index) {
    CgValue segments = cg_arg_ptr(e, offsetof(RtArgs, segments));
    CgValue at = cg_at(e, segments, cg_imul_n(e, index, sizeof(RtSegment)));
    CgSegment s;
    s.state = cg_load_ptr(e, cg_at_n(e, at, offsetof(RtSegment, state)));
    s.position = cg_load_i64(e, cg_at_n(e, at, offsetof(RtSegment, position)));
    s.first_row = cg_wide(e, cg_load_i32(e, cg_at_n(e, at, offsetof(RtSegment, first_row))));
    s.count = cg_wide(e, cg_load_i32(e, cg_at_n(e, at, offsetof(RtSegment, count))));
    return s;
}

/* A field of the phase's operand, read at the current place. */
static CgValue ref_field(CgEmit *e, unsigned slot, size_t field) {
    size_t offset = offsetof(PgPhase, operands) + slot * sizeof(PgRef) + field;
    return invariant(e, LLVMBuildLoad2(e->builder, e->i64, cg_at_n(e, e->phase, offset), ""));
}

CgValue cg_operand(CgEmit *e, unsigned slot) {
    if (e->operand[slot] != NULL) return e->operand[slot];
    CgValue arena = cg_arg_ptr(e, offsetof(RtArgs, arena)), weights = cg_arg_ptr(e, offsetof(RtArgs, weights));
    CgValue ld = cg_ld(e), segments = e->kernel->mode == PG_ROW ? cg_arg_ptr(e, offsetof(RtArgs, segments)) : NULL;
    LLVMBasicBlockRef here = open_entry(e, false);
    CgValue space = ref_field(e, slot, offsetof(PgRef, space)), offset = ref_field(e, slot, offsetof(PgRef, fixed));
    CgValue base = cg_select(e, cg_icmp(e, LLVMIntEQ, space, cg_i64(e, PG_WEIGHTS)), weights, arena);
    if (e->kernel->mode == PG_ROW) {
        CgValue state = cg_load_ptr(e, cg_at_n(e, segments, offsetof(RtSegment, state)));
        base = cg_select(e, cg_icmp(e, LLVMIntEQ, space, cg_i64(e, PG_STATE)), state, base);
    } else {
        offset = cg_iadd(e, offset, cg_imul(e, ref_field(e, slot, offsetof(PgRef, per_row)), ld));
    }
    e->operand[slot] = cg_at(e, base, offset);
    close_entry(e, here);
    return e->operand[slot];
}

CgValue cg_state_operand(CgEmit *e, unsigned slot, const CgSegment *segment) {
    return cg_at(e, segment->state, ref_field(e, slot, offsetof(PgRef, fixed)));
}

CgValue cg_scratch(CgEmit *e, uint64_t bytes) {
    CgValue scratch = cg_arg_ptr(e, offsetof(RtArgs, scratch));
    LLVMBasicBlockRef here = open_entry(e, false);
    CgValue at = cg_at_n(e, scratch, e->scratch);
    close_entry(e, here);
    e->scratch += (bytes + 63) / 64 * 64;
    return at;
}

CgValue cg_group_start(CgEmit *e, CgValue table) {
    (void)e;
    return table;
}

CgValue cg_group_expert_of(CgEmit *e, CgValue table) { return cg_at_n(e, table, ((uint64_t)e->kernel->E + 1) * 4); }

CgValue cg_group_row_of(CgEmit *e, CgValue table) {
    return cg_at(e, cg_group_expert_of(e, table), cg_imul_n(e, cg_udiv_n(e, cg_ldp(e), 8), 4));
}

CgValue cg_group_pos_of(CgEmit *e, CgValue table) { return cg_at(e, cg_group_row_of(e, table), cg_imul_n(e, cg_ldp(e), 4)); }

void cg_nonfinite(CgEmit *e, CgValue row, CgValue condition) {
    CgValue at = cg_at(e, cg_arg_ptr(e, offsetof(RtArgs, nonfinite)), cg_imul_n(e, row, 4));
    CgIf bad = cg_if(e, condition);
    CgValue block = cg_load_i32(e, cg_at_n(e, e->phase, offsetof(PgPhase, block)));
    CgValue old = cg_load_i32(e, at), told = cg_icmp(e, LLVMIntNE, old, cg_i32(e, 0));
    cg_store_i32(e, at, cg_select(e, told, old, cg_iadd(e, block, cg_i32(e, 1))));
    cg_end_if(e, &bad);
}
