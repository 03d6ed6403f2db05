/* hopper.h computes what NVIDIA's PTX ISA says and finds what it says it finds: a product of a warpgroup, 64 x 64 x 16, whose words come by
 * a bulk copy, as it should be and with a mistake each. */
#include <stdio.h>
#include <string.h>

#include "library.h"

enum { SKIPPED = 77, THREADS = 128, SHARED = 2 * 8192 + 2048, RIGHT = THREADS };

typedef struct Mistake {
    const char *name, *body;
    const char *finding; /* part of it; NULL: none */
    bool right; /* of no finding: all sums are right */
    unsigned order; /* of the launch: bytes of bulk copies come late (0) or at once (1) */
} Mistake;

/* What every kernel begins with: numbers of either operand, words of 64 rows and 64 k as they lie in memory, and room in shared memory. */
static const char prelude[] =
    "typedef unsigned char u8;\ntypedef unsigned u32;\ntypedef int i32;\ntypedef unsigned long long u64;\n"
    "#include \"codegen/cuda/hopper.cuh\"\n"
    "enum { HELD_BYTES = 0, PIECE = 64 * SWIZZLE_ROW };\n"
    "static float weight(u32 m, u32 k) { return (float)((int)((3 * m + 7 * k) % 11) - 5); }\n"
    "static float number(u32 n, u32 k) { return (float)((int)((5 * n + 3 * k) % 13) - 6); }\n"
    "static u32 weights(u32 m, u32 k) {\nu32 pair;\nPACK_BF16(pair, weight(m, k), weight(m, k + 1));\nreturn pair;\n}\n"
    "alignas(16) static u32 words[2 * PIECE / 4]; /* the second piece is twice the first */\n"
    "static void make_words() {\n"
    "for (u32 n = 0; n < 64; n++) {\nfor (u32 k = 0; k < 64; k += 2) {\n"
    "const u32 at = n * 32 + (((k / 8) ^ (n % 8)) * 8 + k % 8) / 2;\n"
    "PACK_BF16(words[at], number(n, k), number(n, k + 1));\n"
    "PACK_BF16(words[PIECE / 4 + at], 2 * number(n, k), 2 * number(n, k + 1));\n"
    "}\n}\n}\n"
    "static u32 right_sums(const float (&acc)[32], u32 k0, float scale) {\n"
    "for (u32 i = 0; i < 32; i++) {\n"
    "const u32 lane = threadIdx.x % 32, m = threadIdx.x / 32 * 16 + lane / 4 + i % 4 / 2 * 8, n = i / 4 * 8 + lane % 4 * 2 + i % "
    "2;\n"
    "float sum = 0;\nfor (u32 k = 0; k < 16; k++) sum += weight(m, k) * number(n, k0 + k);\n"
    "if (acc[i] != scale * sum) return 0;\n}\nreturn 1;\n}\n";

#define OPERANDS                                                                                                                   \
    "const u32 t = threadIdx.x, m = t / 32 * 16 + t % 32 / 4, k = t % 4 * 2;\n"                                                    \
    "float acc[32] = {};\n"                                                                                                        \
    "uint4 a = {weights(m, k), weights(m + 8, k), weights(m, k + 8), weights(m + 8, k + 8)};\n"                                    \
    "u8 *const place = shared + (SWIZZLE_ATOM - shared_address(shared) % SWIZZLE_ATOM) % SWIZZLE_ATOM;\n"                          \
    "Mbarrier *const barrier = (Mbarrier *)(place + 2 * PIECE);\n"                                                                 \
    "make_words();\n"
#define INIT OPERANDS "if (t == 0) {\nMBARRIER_INIT(barrier, 1);\nFENCE_ASYNC_PROXY();\n}\n__syncthreads();\n"
#define COPY "if (t == 0) {\nMBARRIER_EXPECT(barrier, PIECE);\nBULK_COPY(place, words, PIECE, barrier);\n}\n"
#define ARRIVED "while (!MBARRIER_HAS_PASSED(barrier, 0)) {\n}\n"
#define THERE INIT COPY ARRIVED
#define MULTIPLY "WGMMA_FENCE();\nWGMMA_BF16(64, acc, a, b_of_rows(place));\n"
#define DONE "WGMMA_COMMIT();\nWGMMA_WAIT(0);\n"
#define COUNT "atomicAdd(out, right_sums(acc, 0, 1));\n"

static const Mistake mistakes[] = {
    {"a product whose words come late", THERE MULTIPLY DONE COUNT, NULL, true, 0},
    {"a product whose words come at once", THERE MULTIPLY DONE COUNT, NULL, true, 1},
    {"the next 16 k",
     THERE "WGMMA_FENCE();\nWGMMA_BF16(64, acc, a, b_of_rows(place) + 3 * B_NEXT_K);\n" DONE
           "atomicAdd(out, right_sums(acc, 48, 1));\n",
     NULL, true, 0},
    {"two products, one sum",
     THERE MULTIPLY "WGMMA_BF16(64, acc, a, b_of_rows(place));\n" DONE "atomicAdd(out, right_sums(acc, 0, 2));\n", NULL, true, 0},
    {"a group that may still be on its way", THERE MULTIPLY "WGMMA_COMMIT();\nWGMMA_WAIT(1);\n" COUNT "WGMMA_WAIT(0);\n", NULL,
     false, 0},
    {"sums read before the wait", THERE MULTIPLY "WGMMA_COMMIT();\n" COUNT "WGMMA_WAIT(0);\n", NULL, false, 0},
    {"sums written before the wait", THERE MULTIPLY "acc[5] = 0;\nWGMMA_BF16(64, acc, a, b_of_rows(place));\n" DONE,
     "sums are written before", false, 0},
    {"weights written before the wait", THERE MULTIPLY "a.z = 0;\n" DONE, "weights are written before", false, 0},
    {"no fence", THERE "WGMMA_BF16(64, acc, a, b_of_rows(place));\n" DONE, "without a fence", false, 0},
    {"sums without a fence behind a wait", THERE MULTIPLY DONE "acc[0] = 1;\nWGMMA_BF16(64, acc, a, b_of_rows(place));\n" DONE,
     "without a fence", false, 0},
    {"weights written behind the fence",
     THERE MULTIPLY DONE "WGMMA_FENCE();\na.x = 0;\nWGMMA_BF16(64, acc, a, b_of_rows(place));\n" DONE, "behind the fence", false,
     0},
    {"products that are not committed", THERE MULTIPLY "WGMMA_WAIT(0);\n", "nobody has waited", false, 0},
    {"products that are not waited for", THERE MULTIPLY "WGMMA_COMMIT();\n", "nobody has waited", false, 0},
    {"words that are not waited for", INIT COPY MULTIPLY DONE COUNT ARRIVED, NULL, false, 0},
    {"words that are not expected",
     INIT "if (t == 0) {\nMBARRIER_ARRIVE(barrier);\nBULK_COPY(place, words, PIECE, barrier);\n}\n" ARRIVED MULTIPLY DONE COUNT,
     NULL, false, 0},
    {"words overwritten before the product is done",
     THERE MULTIPLY "WGMMA_COMMIT();\n__syncthreads();\nif (t == 0) {\nMBARRIER_EXPECT(barrier, PIECE);\n"
                    "BULK_COPY(place, words + PIECE / 4, PIECE, barrier);\n}\n__syncthreads();\nWGMMA_WAIT(0);\n" COUNT,
     NULL, false, 1},
    {"the place of another phase",
     THERE
     "__syncthreads();\nif (t == 0) {\nMBARRIER_EXPECT(barrier, PIECE);\nBULK_COPY(place, words + PIECE / 4, PIECE, barrier);\n}\n"
     "while (!MBARRIER_HAS_PASSED(barrier, 1)) {\n}\n" MULTIPLY DONE "atomicAdd(out, right_sums(acc, 0, 2));\n",
     NULL, true, 0},
    {"bytes that never come", INIT "if (t == 0) MBARRIER_EXPECT(barrier, 16);\n" ARRIVED, "is stuck", false, 0},
    {"a barrier that the async proxy does not know",
     OPERANDS "if (t == 0) MBARRIER_INIT(barrier, 1);\n__syncthreads();\n" COPY ARRIVED, "does not know", false, 0},
    {"a barrier that is none", OPERANDS ARRIVED, "no initialised barrier", false, 0},
    {"a barrier twice", INIT "if (t == 0) MBARRIER_INIT(barrier, 1);\n", "again", false, 0},
    {"an arrival that the phase has no room for", INIT "if (t < 2) MBARRIER_EXPECT(barrier, 16);\n", "too often", false, 0},
    {"bytes that are not aligned", INIT "if (t == 0) BULK_COPY(place + 8, words, 64, barrier);\n", "not aligned", false, 0},
    {"half a stride", THERE "WGMMA_FENCE();\nWGMMA_BF16(64, acc, a, b_of_rows(place) - ((u64)32 << 32));\n" DONE COUNT, NULL, false,
     0},
    {"words that are taken for unswizzled",
     THERE "WGMMA_FENCE();\nWGMMA_BF16(64, acc, a, b_of_rows(place) & ~((u64)3 << 62));\n" DONE COUNT, NULL, false, 0},
    {"words swizzled in 64 bytes", THERE "WGMMA_FENCE();\nWGMMA_BF16(64, acc, a, b_of_rows(place) ^ (u64)3 << 62);\n" DONE COUNT,
     NULL, false, 0},
    {"words that begin between atoms",
     INIT "if (t == 0) {\nMBARRIER_EXPECT(barrier, PIECE);\nBULK_COPY(place + SWIZZLE_ROW, words, PIECE, barrier);\n}\n" ARRIVED
          "WGMMA_FENCE();\nWGMMA_BF16(64, acc, a, b_of_rows(place + SWIZZLE_ROW));\n" DONE COUNT,
     NULL, false, 0},
    {"a warp with words of its own", THERE "WGMMA_FENCE();\nWGMMA_BF16(64, acc, a, b_of_rows(place) + (t / 32 == 2));\n" DONE,
     "different products", false, 0},
    {"a warp that does not multiply", THERE "if (t / 32 != 3) {\n" MULTIPLY DONE "}\n", "its warpgroup has", false, 0},
    {"lanes that do not multiply", THERE "if (t % 32 < 16) {\n" MULTIPLY "}\n" DONE, "lanes of a warp have different products",
     false, 0},
    {"a barrier of half of the block",
     OPERANDS "if (t < 64) BARRIER_OF(1, 64);\nif (t >= 64) BARRIER_OF(2, 64);\natomicAdd(out, 1u);\n", NULL, true, 0},
    {"a barrier for more than come", OPERANDS "if (t < 64) BARRIER_OF(1, 96);\n", "64 at a barrier of some", false, 0},
    {"a barrier of two sizes", OPERANDS "if (t < 64) BARRIER_OF(1, 128);\nif (t >= 64) BARRIER_OF(1, 64);\n", "different numbers", false,
     0},
};

enum { MISTAKES = sizeof mistakes / sizeof mistakes[0] };

static void print_text(SuText *out) {
    su_text_add(out, "#include \"simt.h\"\n#define INLINE static inline\n%s", prelude);
    for (int i = 0; i < MISTAKES; i++) {
        su_text_add(
            out,
            "static void k%d(const SimtLaunch *launch) {\nSHARED(shared);\nunsigned *out = (unsigned *)launch->control;\n%s\n}\n",
            i, mistakes[i].body);
    }
    su_text_add(out, "extern \"C\" const SimtProgram simt_programs[] = {\n");
    for (int i = 0; i < MISTAKES; i++) su_text_add(out, "{k%d},\n", i);
    su_text_add(out, "};\n");
}

static bool is_as_said(const SimtLibrary *library, int i) {
    const Mistake *m = &mistakes[i];
    char finding[512] = "";
    uint32_t result = 0;
    unsigned first_block = 0;
    SimtLaunch l = {.run = library->programs[i].many,
                    .control = &result,
                    .blocks = 1,
                    .threads = THREADS,
                    .shared = SHARED,
                    .order = m->order,
                    .finding = finding,
                    .finding_bytes = sizeof finding,
                    .first_block = &first_block};
    library->run(&l);
    bool good = m->finding != NULL ? strstr(finding, m->finding) != NULL : finding[0] == '\0' && (result == RIGHT) == m->right;
    printf("%s: %s%s%s\n", m->name, good ? "ok" : "FAILED", finding[0] != '\0' ? ": " : "", finding);
    return good;
}

int main(int argc, char **argv) {
    SuText text = {0};
    int failures = 0;
    if (argc < 2 || argv[1][0] == '\0') {
        printf("skipped: there is no C++ compiler\n");
        return SKIPPED;
    }
    print_text(&text);
    SimtLibrary library = simt_library(argv[1], &text);
    for (int i = 0; i < MISTAKES && library.handle != NULL; i++) failures += !is_as_said(&library, i);
    failures += library.handle == NULL;
    simt_library_free(&library, false);
    su_text_free(&text);
    return failures == 0 ? 0 : 1;
}
