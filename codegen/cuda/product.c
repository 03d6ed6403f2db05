/* W · x: the loop that all linear layers and routers share. */
#include "codegen/cuda/product.h"

enum {
    SHARED_BYTES = 16 * 1024, /* of x at a time */
    LEAST_STEPS = 4           /* steps of eight k that a warp takes at least before a panel is split further */
};

static int split_of(const CgCuda *c, uint64_t panels, int64_t K) {
    int warps = c->target->threads / 32, split = 1;
    bool one_row = c->kernel->mode == PG_ROW;
    while (split < warps) {
        bool idle_warps = (uint64_t)(warps / split) > panels;
        bool idle_blocks = one_row && panels * (uint64_t)split < (uint64_t)(warps * c->target->multiprocessors);
        bool work_enough = K >= 2 * split * 8 * LEAST_STEPS;
        if (!idle_warps && !(idle_blocks && work_enough)) break;
        split *= 2;
    }
    return split;
}

static CgProduct product_of_rows(CgCuda *c, int64_t O, int64_t K, const char *stride, int rows) {
    CgProduct p = {.c = c, .K = (uint64_t)K, .panels = pg_panels(O), .stride = stride, .normed = c->kernel->norm != PG_NO_NORM};
    uint64_t padded = pg_panels(K) * PG_LANES;
    p.rows = rows;
    p.split = split_of(c, p.panels, K);
    p.side = c->target->threads / 32 / p.split;
    p.groups = (p.panels + (uint64_t)p.side - 1) / (uint64_t)p.side;
    p.chunk = SHARED_BYTES / sizeof(float) / (uint64_t)p.rows;
    if (p.chunk > padded) p.chunk = padded;
    return p;
}

CgProduct cg_product(CgCuda *c, int64_t O, int64_t K, const char *stride) {
    return product_of_rows(c, O, K, stride, c->kernel->mode == PG_ROW ? 1 : PG_ROW_BLOCK);
}

CgProduct cg_product_of_one_row(CgCuda *c, int64_t O, int64_t K, const char *stride) { return product_of_rows(c, O, K, stride, 1); }

void cg_product_begin(const CgProduct *p) {
    CgCuda *c = p->c;
    cg_cu(c, "enum { K = %llu, CHUNK = %llu, PANELS = %llu, GROUPS = %llu, SIDE = %d, SPLIT = %d };\n", (unsigned long long)p->K,
          (unsigned long long)p->chunk, (unsigned long long)p->panels, (unsigned long long)p->groups, p->side, p->split);
    cg_cuda_shared(c, "float", "xs", p->chunk * (uint64_t)p->rows * sizeof(float));
    if (p->split > 1) cg_cuda_shared(c, "float4", "parts", (uint64_t)c->target->threads * 16 * (p->dual ? 2 : 1));
    if (p->normed) cg_cuda_shared(c, "float", "norm_parts", (uint64_t)c->target->threads / 32 * sizeof(float));
    cg_cu(c, "const u32 lane = threadIdx.x %% 32, q = lane %% 4, part = threadIdx.x / 32 %% SPLIT;\n");
}

/* `spread` of a row that goes through the norm. */
static void print_spread(const CgProduct *p, const char *x, const char *row) {
    const PgKernel *k = p->c->kernel;
    char eps[48];
    if (!p->normed) return;
    cg_cu(p->c, "const Spread spread = block_spread(%s, %s, %s, K, %s, %s, norm_parts);\n", x, p->stride, row,
          k->norm == PG_LAYER ? "true" : "false", cg_cuda_float(k->eps, eps));
}

static void load_row(const CgProduct *p, const char *x, const char *row) {
    CgCuda *c = p->c;
    cg_cu(c,
          "for (u32 i = threadIdx.x; i < CHUNK; i += THREADS) {\n"
          "const u32 k = k0 + i;\n"
          "float v = k < K ? %s[element(%s, %s, k)] : 0;\n",
          x, p->stride, row);
    if (p->normed) {
        cg_cu(c, "if (k < K) v = (v - spread.mean) * spread.scale * norm_w[k]%s;\n",
              c->kernel->norm == PG_LAYER ? " + norm_b[k]" : "");
    }
    cg_cu(c, "xs[i] = v;\n}\n");
    if (c->kernel->rounds) cg_cu(c, "__syncthreads();\nround_in_place(xs, least(K - k0, CHUNK));\n");
}

/* A panel of eight rows is 512 bytes in a row. */
static void load_8_rows(const CgProduct *p, const char *x, const char *row) {
    cg_cu(p->c, "for (u32 i = threadIdx.x; i < CHUNK * 8; i += THREADS) {\n"
                "const u32 r = i / 16 %% 8, at = i / 128 * 16 + i %% 16, k = k0 + at;\n");
    if (p->c->kernel->rounds)
        cg_cu(p->c, "xs[at * 8 + r] = k < K ? rounded_number(%s, %s, %s, k, K) : 0;\n", x, p->stride, row);
    else
        cg_cu(p->c, "xs[at * 8 + r] = k < K ? %s[element(%s, %s, k)] : 0;\n", x, p->stride, row);
    cg_cu(p->c, "}\n");
}

void cg_product_hoist(const CgProduct *p, const char *x) {
    cg_cu(p->c, "__syncthreads();\nconst u32 k0 = 0;\n");
    print_spread(p, x, "0");
    load_row(p, x, "0");
}

/* acc += W · xs over the chunk, for one of the matrices. */
static void print_loop(const CgProduct *p, const char *w, const char *acc) {
    CgCuda *c = p->c;
    IrDtype dtype = c->kernel->dtype;
    const char *panel = p->expert ? "(expert * PANELS + panel)" : "panel", *add = p->rows == 1 ? "add_row" : "add_8_rows";
    if (ir_dtype(dtype)->group > 1) {
        cg_cu(c,
              "const uint4 *%s_panel = panel_at<%s>(%s, %s, K);\n"
              "for (u32 fourth = lane / 4 + 8 * part; 4 * fourth < n; fourth += 8 * SPLIT) { /* four k */\n"
              "float4 four[4];\n"
              "%s::four_of_panel(%s_panel, K, k0 / 4 + fourth, q, four);\n"
              "for (u32 k = 0; k < 4; k++) %s(%s, four[k], xs + (4 * fourth + k) * %d);\n"
              "}\n",
              w, cg_cuda_type(dtype), w, panel, cg_cuda_type(dtype), w, add, acc, p->rows);
        return;
    }
    cg_cu(c,
          "const float4 *%s_at = (const float4 *)%s + (%s * K + k0) * 4 + q;\n"
          "#pragma unroll 4\n"
          "for (u32 k = lane / 4 + 8 * part; k < n; k += 8 * SPLIT) {\n"
          "%s(%s, __ldg(%s_at + 4 * k), xs + k * %d);\n"
          "}\n",
          w, w, panel, add, acc, w, p->rows);
}

/* The parts of a panel's warps are added in the first of them. */
static void print_join(const CgProduct *p) {
    CgCuda *c = p->c;
    cg_cu(c, "__syncthreads();\nparts[threadIdx.x] = sum;\n");
    if (p->dual) cg_cu(c, "parts[THREADS + threadIdx.x] = sum2;\n");
    cg_cu(c, "__syncthreads();\nfor (u32 s = 1; part == 0 && s < SPLIT; s++) {\n"
             "sum = add4(sum, parts[threadIdx.x + 32 * s]);\n");
    if (p->dual) cg_cu(c, "sum2 = add4(sum2, parts[THREADS + threadIdx.x + 32 * s]);\n");
    cg_cu(c, "}\n");
}

static void open_chunk(const CgProduct *p, const char *x, const char *row) {
    CgCuda *c = p->c;
    print_spread(p, x, row);
    cg_cu(c, "for (u32 k0 = 0; k0 < K; k0 += CHUNK) {\n__syncthreads();\n");
    if (p->rows == 1)
        load_row(p, x, row);
    else
        load_8_rows(p, x, row);
    cg_cu(c, "__syncthreads();\n");
}

void cg_product_sums(const CgProduct *p, const char *x, const char *row) {
    CgCuda *c = p->c;
    const char *sum = p->rows == 1 ? "sum_row" : "sum_8_rows";
    cg_cu(c, "float4 acc[%d] = {};\n", p->rows);
    if (p->dual) cg_cu(c, "float4 acc2[%d] = {};\n", p->rows);
    if (x != NULL) open_chunk(p, x, row);
    cg_cu(c, "const u32 n = K - k0 < CHUNK ? K - k0 : CHUNK;\nif (panel < PANELS) {\n");
    print_loop(p, "w", "acc");
    if (p->dual) print_loop(p, "w2", "acc2");
    cg_cu(c, "}\n%sfloat4 sum = %s(acc);\n", x != NULL ? "}\n" : "", sum);
    if (p->dual) cg_cu(c, "float4 sum2 = %s(acc2);\n", sum);
    if (p->split > 1) print_join(p);
}
