/* What the emitters print with. */
#include "codegen/cuda/emit.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void cg_cu(CgCuda *c, const char *format, ...) {
    char text[4096];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (size < 0 || (size_t)size >= sizeof text) SU_BUG("a piece of CUDA C is longer than %zu bytes", sizeof text);
    su_text_append(c->out, text, (size_t)size);
}

void cg_cuda_shared(CgCuda *c, const char *type, const char *name, uint64_t bytes) {
    cg_cu(c, "%s *%s = (%s *)(shared + %llu);\n", type, name, type, (unsigned long long)c->shared);
    c->shared += (bytes + 15) / 16 * 16;
}

void cg_cuda_strides(CgCuda *c) {
    const PgKernel *k = c->kernel;
    bool positions = k->k > 0;
    if (k->mode == PG_ROW) {
        cg_cu(c, "const u64 ld = 1;\n");
        if (positions) cg_cu(c, "const u64 ldp = %lld;\n", (long long)k->k);
        return;
    }
    cg_cu(c, "const u64 ld = step->ld;\n");
    if (positions)
        cg_cu(c, "const u64 ldp = %lld * ld + %llu;\n", (long long)k->k, (unsigned long long)pg_position_pad(k->E, k->k));
}

void cg_cuda_count_tiles(CgCuda *c, uint64_t per_tile, uint64_t groups, uint64_t surplus) {
    c->per_tile = per_tile;
    c->groups = groups;
    c->surplus = surplus;
    if (per_tile > 1) {
        cg_cu(c, "const u32 tiles = (count_of(step, phase) + %llu) / %llu * phase->fixed", (unsigned long long)per_tile - 1,
              (unsigned long long)per_tile);
    } else {
        cg_cu(c, "const u32 tiles = count_of(step, phase) * phase->fixed");
    }
    if (groups > 1) cg_cu(c, " * %llu", (unsigned long long)groups);
    if (surplus > 0) cg_cu(c, " + %llu", (unsigned long long)surplus);
    cg_cu(c, ";\n");
}

void cg_cuda_tile_loop(CgCuda *c) {
    cg_cu(c, "for (u32 tile = first; tile < tiles; tile += gridDim.x) {\n"
             "__syncthreads(); /* shared memory is free */\n");
}

void cg_cuda_tiles_of(CgCuda *c, uint64_t per_tile, uint64_t groups, uint64_t surplus) {
    cg_cuda_count_tiles(c, per_tile, groups, surplus);
    cg_cuda_tile_loop(c);
}

void cg_cuda_tiles(CgCuda *c, uint64_t groups) { cg_cuda_tiles_of(c, 1, groups, 0); }

void cg_cuda_end_tiles(CgCuda *c) { cg_cu(c, "}\nreturn tiles;\n"); }

void cg_cuda_groups(CgCuda *c, int operand) {
    cg_cu(c, "const Groups groups = groups_at(ints(step, phase, %d), %lld, ldp);\n", operand, (long long)c->kernel->E);
}

uint32_t cg_cuda_few_bytes(const CgCudaTarget *target) {
    enum { LARGE = 128 * 1024, SMALL = 64 * 1024 };
    uint32_t squares = (uint32_t)target->threads * sizeof(float); /* of a norm: gemm.c */
    return CG_CUDA_HELD + LARGE + squares <= target->shared ? LARGE : SMALL;
}

void cg_cuda_words(CgCuda *c) {
    if (c->y_words != CG_NO_WORDS) cg_cu(c, "float *words = words_of(step, phase);\n");
}

static const char *words_type(const CgCuda *c) { return cg_cuda_type(c->words_of); }

void cg_cuda_put(CgCuda *c, const char *base, const char *stride, const char *at, const char *row, const char *i, const char *v) {
    cg_cuda_put_to(c, "y", base, stride, at, row, i, v);
}

void cg_cuda_put_to(CgCuda *c, const char *y, const char *base, const char *stride, const char *at, const char *row, const char *i,
                    const char *v) {
    if (c->y_words != CG_WORDS_ALONE) cg_cu(c, "%s[%s%s%s] = %s;\n", y, base, base[0] != '\0' ? " + " : "", at, v);
    if (c->y_words == CG_NO_WORDS) return;
    if (c->words_panels > 0) SU_BUG("words of the first panels, by number");
    cg_cu(c, "put_number<%s, %s>(words%s%s, %s, %s, %s, %s);\n", words_type(c), cg_cuda_truth(c->target->fast),
          base[0] != '\0' ? " + " : "", base, stride, row, i, v);
}

void cg_cuda_put_quad(CgCuda *c, const char *base, const char *stride, const char *at, const char *row, const char *panel,
                      const char *v) {
    cg_cuda_put_quad_to(c, "y", base, stride, at, row, panel, v);
}

void cg_cuda_norm_behind(CgCuda *c) {
    PgNormSlots slots = pg_norm_slots(c->kernel->kind);
    cg_cu(c, "const float *norm_w = floats(step, phase, %d);\nfloat *squares = floats(step, phase, %d);\n", slots.norm_w,
          slots.squares);
    if (c->y_words != CG_WORDS_ALONE) cg_cu(c, "float *scaled = floats(step, phase, %d);\n", slots.scaled);
}

void cg_cuda_put_quad_to(CgCuda *c, const char *y, const char *base, const char *stride, const char *at, const char *row,
                         const char *panel, const char *v) {
    const char *plus = base[0] != '\0' ? " + " : "";
    if (c->y_words != CG_WORDS_ALONE) cg_cu(c, "*quad(%s%s%s + %s) = %s;\n", y, plus, base, at, v);
    if (c->y_words == CG_NO_WORDS) return;
    if (c->words_panels > 0) cg_cu(c, "if (%s < %llu) ", panel, (unsigned long long)c->words_panels);
    cg_cu(c, "put_quad<%s, %s>(words%s%s, %s, %s, %s, q, %s);\n", words_type(c), cg_cuda_truth(c->target->fast), plus, base, stride,
          row, panel, v);
}

const char *cg_cuda_type(IrDtype dtype) {
    static const char *const types[IR_STORED_DTYPES] = {
#define IR_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most) [IR_##NAME] = #NAME,
#include "ir/dtype.def"
    };
    return types[dtype];
}

/* What weights.cuh calls a line is a group; product.c and route_rows.c print loops over lines of one and of two k. */
#define IR_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most)                                         \
    _Static_assert((group) <= 2 && (group_bytes) == 64 && (over) == 0, "a line of " #name " is not four quads of one or two k");
#define IR_BLOCK_DTYPE(...) /* below */
#include "ir/dtype.def"
/* And blocks.cuh knows these sizes. */
#define IR_DTYPE(...)
#define IR_BLOCK_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most)                                   \
    _Static_assert((group) == 32 && ((group_bytes) == 544 || (group_bytes) == 288), "blocks.cuh has no groups of " #name);         \
    _Static_assert((over) == 0 || ((over) == 8 && (over_bytes) == 64), "blocks.cuh has no scales of " #name);
#include "ir/dtype.def"

const char *cg_cuda_stride(PgLayout layout) { return layout == PG_POSITIONS ? "ldp" : "ld"; }

const char *cg_cuda_act(PgActivation act) {
    static const char *const names[PG_ACTIVATIONS] = {
        [PG_NO_ACT] = "",
#define IR_ACTIVATION(name, NAME, flops, exps, exact) [PG_##NAME] = "vm_" #name,
#include "ir/activation.def"
    };
    return names[act];
}

const char *cg_cuda_truth(bool condition) { return condition ? "true" : "false"; }

const char *cg_cuda_float(double x, char out[48]) {
    snprintf(out, 48, "%.9g", (double)(float)x);
    if (!strpbrk(out, ".e")) strcat(out, ".0");
    strcat(out, "f");
    return out;
}

void cg_cuda_held(CgCuda *c, const char *x) {
    char low[48], high[48];
    bool above = isinf((float)c->kernel->high);
    cg_cu(c, above ? "raised(%s, %s)" : "lowered(raised(%s, %s), ", x, cg_cuda_float(c->kernel->low, low));
    if (!above) cg_cu(c, "%s)", cg_cuda_float(c->kernel->high, high));
}

CgCudaPlace cg_cuda_index(PgLayout layout, uint64_t panels, uint64_t N, const char *panel, const char *n, const char *lane) {
    CgCudaPlace at;
    char whole[96], channel[64];
    const char *index = layout == PG_POSITIONS ? "position" : "row";
    snprintf(whole, sizeof whole, "%s", panel);
    if (layout == PG_PLANES) snprintf(whole, sizeof whole, "(expert * %llu + %s)", (unsigned long long)panels, panel);
    snprintf(channel, sizeof channel, ") * 16 + %s", lane);
    if (N > 1) snprintf(channel, sizeof channel, ") * %llu + %s) * 16 + %s", (unsigned long long)N, n, lane);
    snprintf(at.text, sizeof at.text, "%s%s * %s + %s%s", N > 1 ? "((" : "(", whole, cg_cuda_stride(layout), index, channel);
    return at;
}
