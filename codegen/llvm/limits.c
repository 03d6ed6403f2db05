/* The kernels of codegen/limits.h: an emitter for each kind, and their way into this process. */
#include "codegen/limits.h"

#include <stdlib.h>
#include <string.h>

#include "codegen/llvm/emit.h"
#include "codegen/llvm/jit.h"
#include "codegen/llvm/module.h"
#include "support/alloc.h"

enum {
    READS = 8,       /* vectors read in a round of the loop, over all streams: as many sums, so that none waits */
    PANEL_STEPS = 4, /* times 16 inputs: weights and activations take at most half of a first cache of 32 KiB */
    EXPS = 4,        /* vectors of exp side by side */
    EXP_VECTORS = 64,
    MOST_SUMS = 32
};

/* Ways of reading. One stream a core does not keep enough loads under way; several do, with or without prefetch depending on the
 * machine: so its limit is the best of all. */
static const struct {
    unsigned streams, ahead; /* bytes; 0: what the processor prefetches on its own */
} patterns[CG_READ_PATTERNS] = {{1, 0}, {1, 1024}, {2, 0}, {2, 1024}, {4, 0}, {4, 1024}, {8, 0}, {8, 1024}};

/* Stores what nobody reads: else the optimiser would see that nothing is needed. */
static void keep(CgEmit *e, CgValue scratch, const CgValue *sums, unsigned count) {
    for (unsigned i = 0; i < count; i++) cg_store_vec(e, cg_at_n(e, scratch, (uint64_t)i * CG_VEC_BYTES), sums[i]);
}

/* ---------------------------------------------------------------------------------------------- emitters */

/* A tile is as many equal parts as there are streams, walked side by side. */
static void emit_read(CgEmit *e, unsigned streams, unsigned ahead) {
    uint64_t part = CG_READ_TILE / streams, step = READS / streams * CG_VEC_BYTES;
    CgValue data = cg_arg_ptr(e, offsetof(RtArgs, weights)), scratch = cg_scratch(e, READS * CG_VEC_BYTES), sums[READS];
    CgLoop tiles = cg_for_tiles(e);
    CgValue tile = cg_at(e, data, cg_imul_n(e, tiles.index, CG_READ_TILE));
    CgLoop loop = cg_for(e, cg_i64(e, 0), cg_i64(e, part), step);
    for (unsigned i = 0; i < READS; i++) sums[i] = cg_carry(e, &loop, cg_zero(e));
    for (unsigned i = 0; i < READS; i++) {
        uint64_t offset = i % streams * part + i / streams * CG_VEC_BYTES;
        CgValue at = cg_at(e, cg_at_n(e, tile, offset), loop.index);
        if (ahead > 0) cg_prefetch(e, cg_at_n(e, at, ahead));
        cg_next(&loop, sums[i], cg_add(e, sums[i], cg_load_vec(e, at)));
    }
    cg_end_for(e, &loop);
    for (unsigned i = 0; i < READS; i++) sums[i] = cg_after(&loop, sums[i]);
    keep(e, scratch, sums, READS);
    cg_end_for(e, &tiles);
}

/* sums[panel][row] += sixteen inputs at w and x: what linear_microkernel.c does in its loop. */
static void multiply(CgEmit *e, CgValue w, CgValue x, CgValue *sums) {
    unsigned panels = (unsigned)e->target->block_panels, rows = (unsigned)e->target->block_rows;
    for (unsigned k = 0; k < PG_LANES; k++) {
        CgValue weights[MOST_SUMS];
        for (unsigned p = 0; p < panels; p++)
            weights[p] = cg_load_vec(e, cg_at_n(e, w, (p * PANEL_STEPS * PG_LANES + k) * CG_VEC_BYTES));
        for (unsigned r = 0; r < rows; r++) {
            CgValue input = cg_load_splat(e, cg_at_n(e, x, (uint64_t)r * CG_VEC_BYTES + k * 4));
            for (unsigned p = 0; p < panels; p++) sums[p * rows + r] = cg_fma(e, weights[p], input, sums[p * rows + r]);
        }
    }
}

/* Goes through the same inputs again and again; the sums never leave their registers. */
static void emit_panel(CgEmit *e) {
    unsigned rows = (unsigned)e->target->block_rows, count = (unsigned)e->target->block_panels * rows;
    CgValue w = cg_arg_ptr(e, offsetof(RtArgs, weights)), x = cg_arg_ptr(e, offsetof(RtArgs, arena));
    CgValue scratch = cg_scratch(e, (uint64_t)count * CG_VEC_BYTES), carried[MOST_SUMS], sums[MOST_SUMS];
    CgLoop tiles = cg_for_tiles(e);
    for (unsigned i = 0; i < count; i++) sums[i] = carried[i] = cg_carry(e, &tiles, cg_zero(e));
    CgValue step = cg_urem_n(e, tiles.index, PANEL_STEPS);
    multiply(e, cg_opaque(e, cg_at(e, w, cg_imul_n(e, step, PG_LANES * CG_VEC_BYTES))),
             cg_opaque(e, cg_at(e, x, cg_imul_n(e, step, (uint64_t)rows * CG_VEC_BYTES))), sums);
    for (unsigned i = 0; i < count; i++) cg_next(&tiles, carried[i], sums[i]);
    cg_end_for(e, &tiles);
    for (unsigned i = 0; i < count; i++) sums[i] = cg_after(&tiles, carried[i]);
    keep(e, scratch, sums, count);
}

/* Vectors that fill the registers but for a few: AVX-512 has 32 of 16 floats, AVX2 16 of 8, NEON 32 of 4. */
static unsigned fma_chains(const CgTarget *target) {
    switch (target->vector_lanes) {
    case 16: return 24;
    case 8: return 6;
    default: return 5;
    }
}

static void emit_fma(CgEmit *e) {
    unsigned count = fma_chains(e->target);
    CgValue x = cg_arg_ptr(e, offsetof(RtArgs, arena)), a = cg_load_vec(e, x), b = cg_load_vec(e, cg_at_n(e, x, CG_VEC_BYTES));
    CgValue scratch = cg_scratch(e, (uint64_t)count * CG_VEC_BYTES), sums[MOST_SUMS];
    CgLoop tiles = cg_for_tiles(e);
    for (unsigned i = 0; i < count; i++) sums[i] = cg_carry(e, &tiles, cg_vec(e, (float)i));
    for (unsigned i = 0; i < count; i++) cg_next(&tiles, sums[i], cg_fma(e, sums[i], a, b));
    cg_end_for(e, &tiles);
    for (unsigned i = 0; i < count; i++) sums[i] = cg_after(&tiles, sums[i]);
    keep(e, scratch, sums, count);
}

static void emit_exp(CgEmit *e) {
    CgValue x = cg_arg_ptr(e, offsetof(RtArgs, arena)), scratch = cg_scratch(e, EXPS * CG_VEC_BYTES), sums[EXPS];
    CgLoop tiles = cg_for_tiles(e);
    CgLoop loop = cg_for(e, cg_i64(e, 0), cg_i64(e, EXP_VECTORS * CG_VEC_BYTES), EXPS * CG_VEC_BYTES);
    for (unsigned i = 0; i < EXPS; i++) sums[i] = cg_carry(e, &loop, cg_zero(e));
    for (unsigned i = 0; i < EXPS; i++) {
        CgValue at = cg_at_n(e, cg_at(e, x, loop.index), (uint64_t)i * CG_VEC_BYTES);
        cg_next(&loop, sums[i], cg_add(e, sums[i], cg_exp(e, cg_load_vec(e, at))));
    }
    cg_end_for(e, &loop);
    for (unsigned i = 0; i < EXPS; i++) sums[i] = cg_after(&loop, sums[i]);
    keep(e, scratch, sums, EXPS);
    cg_end_for(e, &tiles);
}

/* ---------------------------------------------------------------------------------------------- compiling */

struct CgLimits {
    LLVMOrcLLJITRef jit;
    CgLimitKernel kernels[CG_LIMIT_KERNELS];
};

/* Kind, name and work of kernel `index`. */
static CgLimitKernel describe(const CgTarget *target, unsigned index) {
    CgLimitKernel k = {.kind = CG_LIMIT_READ, .work = CG_READ_TILE};
    if (index < CG_READ_PATTERNS) {
        snprintf(k.name, sizeof k.name, "%u stream%s%s", patterns[index].streams, patterns[index].streams > 1 ? "s" : "",
                 patterns[index].ahead > 0 ? ", prefetch" : "");
        return k;
    }
    k.kind = (CgLimitKind)(index - CG_READ_PATTERNS + CG_LIMIT_PANEL);
    switch (k.kind) {
    case CG_LIMIT_READ: break;
    case CG_LIMIT_PANEL:
        k.work = 2.0 * target->block_panels * target->block_rows * PG_LANES * PG_LANES;
        snprintf(k.name, sizeof k.name, "%d panels x %d rows", target->block_panels, target->block_rows);
        break;
    case CG_LIMIT_FMA:
        k.work = 2.0 * fma_chains(target) * PG_LANES;
        snprintf(k.name, sizeof k.name, "%u chains", fma_chains(target));
        break;
    case CG_LIMIT_EXP:
        k.work = EXP_VECTORS * PG_LANES;
        snprintf(k.name, sizeof k.name, "%d vectors side by side", EXPS);
        break;
    }
    return k;
}

static void emit(CgEmit *e, unsigned index, CgLimitKind kind) {
    switch (kind) {
    case CG_LIMIT_READ: emit_read(e, patterns[index].streams, patterns[index].ahead); return;
    case CG_LIMIT_PANEL: emit_panel(e); return;
    case CG_LIMIT_FMA: emit_fma(e); return;
    case CG_LIMIT_EXP: emit_exp(e); return;
    }
}

static bool failed(SuDiags *diags, const char *name, const char *message) {
    return su_error(diags, (SuSpan){0}, NULL, "LLVM cannot compile kernel %s: %s", name, message != NULL ? message : "no machine");
}

static bool make(CgLimits *limits, const CgTarget *target, LLVMTargetMachineRef machine, unsigned index, SuDiags *diags) {
    static const PgKernel none = {.mode = PG_ROW};
    CgLimitKernel *k = &limits->kernels[index];
    char name[CG_KERNEL_NAME];
    *k = describe(target, index);
    snprintf(name, sizeof name, "limit_%u", index);
    CgEmit e;
    CgModule module = cg_module_begin(target, machine, name, &none, &e);
    emit(&e, index, k->kind);
    cg_module_end(&module, &e);
    CgObject object = {.info = module.info};
    char *message = cg_module_optimise(&module);
    if (message == NULL) message = cg_module_emit(&module, LLVMObjectFile, &object.code);
    cg_module_close(&module);
    PgCode code;
    bool ok = message == NULL ? cg_jit_link(limits->jit, &object, &code, diags) : failed(diags, name, message);
    su_free(message);
    if (!ok) return false;
    k->run = code.run;
    k->scratch = code.scratch;
    return true;
}

bool cg_llvm_limits(const CgTarget *target, CgLimits **out_limits, SuDiags *diags) {
    CgLimits *limits = su_calloc(1, sizeof *limits);
    if (limits == NULL) return su_error(diags, (SuSpan){0}, NULL, "out of memory");
    char *message = NULL;
    LLVMTargetMachineRef machine = cg_machine(target, &message);
    bool ok = machine != NULL || failed(diags, "of the limits", message);
    if (ok) limits->jit = cg_jit_open(CG_NO_DEBUGGER, diags);
    ok = ok && limits->jit != NULL;
    for (unsigned i = 0; ok && i < CG_LIMIT_KERNELS; i++) ok = make(limits, target, machine, i, diags);
    if (machine != NULL) LLVMDisposeTargetMachine(machine);
    LLVMDisposeMessage(message);
    if (!ok) {
        cg_limits_free(limits);
        return false;
    }
    *out_limits = limits;
    return true;
}

const CgLimitKernel *cg_limit_kernels(const CgLimits *limits) { return limits->kernels; }

void cg_limits_free(CgLimits *limits) {
    if (limits == NULL) return;
    cg_jit_close(limits->jit);
    su_free(limits);
}
