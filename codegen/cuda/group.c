/* PG_GROUP: the positions of a step, (row, slot) pairs, sorted by expert; rows keep their order. A counting sort: positions are cut
 * into chunks, a tile each, which count their experts; then every chunk knows where its positions go from the counts of all. A few
 * rows are one chunk. In a launch of its own that is two launches, with the counts in scratch memory between them.
 *
 * Within a chunk THREADS positions at a time are placed: the rank of one among those of its expert is counted by comparing, since
 * neither order nor result may depend on which thread comes first. */
#include "codegen/cuda/kernels.h"

enum { MANY_CHUNKS = 64 };

static void print_counts(CgCuda *c) {
    cg_cu(c, "for (u32 e = threadIdx.x; e < E; e += THREADS) counts[e] = 0;\n"
             "__syncthreads();\n"
             "for (u32 p = begin + threadIdx.x; p < end; p += THREADS) atomicAdd(&counts[expert_indices[p]], 1);\n"
             "__syncthreads();\n");
}

/* counts[e]: of all chunks; at[e]: of those before this one. */
static void print_totals(CgCuda *c) {
    cg_cu(c, "for (u32 e = threadIdx.x; e < E; e += THREADS) {\n"
             "i32 before = 0, all = 0;\n"
             "#pragma unroll 8\n"
             "for (u32 i = 0; i < CHUNKS; i++) {\n"
             "const i32 n = table[i * E + e];\n"
             "before += i < chunk ? n : 0;\n"
             "all += n;\n"
             "}\n"
             "counts[e] = all;\n"
             "at[e] = before;\n"
             "}\n"
             "__syncthreads();\n");
}

/* Where experts begin, for this chunk and (shared out among the chunks) for all who read the table. */
static void print_starts(CgCuda *c) {
    cg_cu(c, "for (u32 e = threadIdx.x; e <= E; e += THREADS) {\n"
             "i32 start = 0;\n"
             "for (u32 other = 0; other < e; other++) start += (counts[other] + 7) / 8 * 8;\n"
             "if (e < E) at[e] += start;\n"
             "if (chunk == 0) groups.start[e] = start;\n"
             "if (e == E || e %% CHUNKS != chunk) continue;\n"
             "const i32 past = start + counts[e];\n"
             "for (i32 i = past; i %% 8 != 0; i++) groups.row_of[i] = 0; /* padding holds row 0 */\n"
             "for (i32 i = start / 8; i < (past + 7) / 8; i++) groups.expert_of[i] = (i32)e;\n"
             "}\n"
             "__syncthreads();\n");
}

static void print_placing(CgCuda *c) {
    cg_cu(c, "for (u32 p0 = begin; p0 < end; p0 += THREADS) {\n"
             "const u32 p = p0 + threadIdx.x;\n"
             "const i32 mine = p < end ? expert_indices[p] : -1;\n"
             "experts[threadIdx.x] = mine;\n"
             "__syncthreads();\n"
             "if (mine >= 0) {\n"
             "i32 place = at[mine];\n"
             "for (u32 i = 0; i < threadIdx.x; i++) place += experts[i] == mine;\n"
             "groups.pos_of[p] = place;\n"
             "groups.row_of[place] = (i32)(p / k);\n"
             "}\n"
             "__syncthreads();\n"
             "if (mine >= 0) atomicAdd(&at[mine], 1);\n"
             "}\n");
}

void cg_cuda_group(CgCuda *c) {
    const PgKernel *k = c->kernel;
    bool many = c->form == CG_MANY;
    uint64_t chunks = many ? MANY_CHUNKS : 1, list = (uint64_t)k->E * sizeof(int32_t);
    cg_cu(c, "enum { E = %lld, k = %lld, CHUNKS = %llu };\n", (long long)k->E, (long long)k->k, (unsigned long long)chunks);
    cg_cuda_strides(c);
    cg_cu(c, "const i32 *expert_indices = ints(step, phase, %d);\n", PG_GROUP_EXPERTS);
    cg_cuda_groups(c, PG_GROUP_GROUPS);
    cg_cuda_shared(c, "i32", "counts", list);
    cg_cuda_shared(c, "i32", "at", list);
    cg_cuda_shared(c, "i32", "experts", (uint64_t)c->target->threads * sizeof(int32_t));
    if (many) {
        c->parts = 2;
        c->scratch_fixed = chunks * list;
        cg_cu(c, "i32 *table = (i32 *)step->scratch; /* [CHUNKS][E] */\n");
    }
    cg_cuda_tiles(c, chunks);
    cg_cu(c, "const u32 positions = step->rows * k, chunk = tile, size = (positions + CHUNKS - 1) / CHUNKS;\n"
             "const u32 begin = chunk * size < positions ? chunk * size : positions;\n"
             "const u32 end = begin + size < positions ? begin + size : positions;\n");
    if (many && c->part == 0) {
        print_counts(c);
        cg_cu(c, "for (u32 e = threadIdx.x; e < E; e += THREADS) table[chunk * E + e] = counts[e];\n");
    } else {
        if (many) {
            print_totals(c);
        } else {
            print_counts(c);
            cg_cu(c, "for (u32 e = threadIdx.x; e < E; e += THREADS) at[e] = 0;\n__syncthreads();\n");
        }
        print_starts(c);
        print_placing(c);
    }
    cg_cuda_end_tiles(c);
}
