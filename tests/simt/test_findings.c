/* simt.h finds what it says it finds: kernels with a mistake each. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guarded.h"
#include "library.h"

enum { SKIPPED = 77, THREADS = 256 };

typedef struct Mistake {
    const char *name, *body;
    const char *finding; /* part of it; NULL: none, but the result depends on the order, or the process ends */
} Mistake;

static const char right[] = "", wrong[] = "a wrong result"; /* of no finding: the sum of 0 … 255, or another number */

/* The block's sum of what each thread put into x[threadIdx.x]. */
#define SUM                                                                                                                        \
    "__syncthreads();\nif (threadIdx.x == 0) {\nunsigned sum = 0;\nfor (int i = 0; i < 256; i++) sum += x[i];\n*out = sum;\n}\n"
/* Each quarter of the threads copies the numbers from 0 to 255. */
#define COPY                                                                                                                       \
    "alignas(16) static unsigned numbers[256];\nfor (unsigned i = 0; i < 256; i++) numbers[i] = i;\n"                              \
    "const unsigned at = threadIdx.x % 64 * 4;\nCP_ASYNC_16(x + at, numbers + at, 16);\nCP_ASYNC_COMMIT();\n"
/* All sums are 16: ones times ones. */
#define ONES "float4 acc = {};\nconst unsigned one = 0x3f803f80;\n"
#define TIMES "MMA_BF16(acc, one, one, one, one, one, one);\n"
#define IS_16 "x[threadIdx.x] = acc.x == 16 && acc.y == 16 && acc.z == 16 && acc.w == 16 ? threadIdx.x : 0;\n"

static const Mistake mistakes[] = {
    {"a sum over the block is right", "x[threadIdx.x] = threadIdx.x;\n" SUM, right},
    {"two barriers", "if (threadIdx.x < 32) {\n__syncthreads();\n} else {\n__syncthreads();\n}", "different barriers"},
    {"a barrier for half of the block", "if (threadIdx.x < 128) __syncthreads();", "is stuck: 128 threads at a barrier"},
    {"a shuffle for half of a warp", "if (threadIdx.x % 32 < 16) *out = __shfl_xor_sync(0xffffffffu, 1u, 8);", "128 at a shuffle"},
    {"two shuffles",
     "if (threadIdx.x % 32 < 16) {\n*out = __shfl_xor_sync(0xffffffffu, 1u, 8);\n} else {\n"
     "*out = __shfl_xor_sync(0xffffffffu, 1u, 8);\n}",
     "different shuffles"},
    {"waiting in vain", "while (threadIdx.x == 0 && *(volatile unsigned *)out == 0) SPIN();", "1 wait for other blocks"},
    {"copies that are waited for", COPY "CP_ASYNC_WAIT(0);\n" SUM, right},
    {"a copy that may still be on its way", COPY "CP_ASYNC_WAIT(1);\n" SUM "CP_ASYNC_WAIT(0);\n", wrong},
    {"a copy that nobody waits for", COPY SUM, "nobody has waited for 1 of its copies"},
    {"the last bytes of a copy are zero",
     "alignas(16) static const unsigned ones[4] = {1, 1, 1, 1};\nCP_ASYNC_16(x + threadIdx.x / 4 * 4, ones, 12);\n"
     "CP_ASYNC_COMMIT();\nCP_ASYNC_WAIT(0);\n__syncthreads();\nx[threadIdx.x] = threadIdx.x * (x[threadIdx.x] == (threadIdx.x % 4 "
     "< 3));\n" SUM,
     right},
    {"a product", ONES TIMES "MMA_DONE();\n" IS_16 SUM, right},
    {"sums are cut off", /* 2^24 + 27: the next numbers are 26 and 28, the nearest by evenness the latter */
     "float4 acc = {16777216, 16777216, -16777216, 16777216};\nconst unsigned one = 0x3f803f80, b = 0x3fd83fd8;\n"
     "MMA_BF16(acc, one, one, one, one, b, b);\nMMA_DONE();\n"
     "x[threadIdx.x] = acc.x == 16777242 && acc.z == -16777189 ? threadIdx.x : 0;\n" SUM,
     right},
    {"a product that is read before it is done", ONES TIMES IS_16 SUM "MMA_DONE();\n", wrong},
    {"a product that is never done", ONES TIMES, "products that are not done"},
    {"a product for half of a warp", ONES "if (threadIdx.x % 32 < 16) {\n" TIMES "MMA_DONE();\n}\n", "128 at a shuffle"},
    {"two products in a warp", ONES "if (threadIdx.x % 32 < 16) {\n" TIMES "} else {\n" TIMES "}\nMMA_DONE();\n",
     "at different products"},
    {"a product that some lanes leave out", ONES "if (threadIdx.x % 32 < 16) {\n" TIMES "}\nMMA_DONE();\n",
     "have 1 and 0 products"},
    {"a copy of what is not aligned", "CP_ASYNC_16(x, (char *)launch->step + 8, 16);\nCP_ASYNC_COMMIT();\nCP_ASYNC_WAIT(0);",
     "not aligned"},
    {"a copy inside of shared memory", "CP_ASYNC_16(x, x + 4, 16);\nCP_ASYNC_COMMIT();\nCP_ASYNC_WAIT(0);", "from shared memory"},
    {"shared memory taken for global memory", "ASSUME_GLOBAL(x);", "no global memory"},
    {"a variable taken for global memory", "unsigned own = 1;\nASSUME_GLOBAL(&own);\n*out = own;", "no global memory"},
    {"no barrier",
     "x[threadIdx.x] = threadIdx.x;\nconst unsigned next = x[(threadIdx.x + 1) % 256];\n__syncthreads();\n"
     "if (threadIdx.x == 7) *out = next;",
     NULL},
    {"past shared memory", "if (threadIdx.x == 3) x[256] = 1;", NULL},
    {"four floats that are not aligned", "if (threadIdx.x == 3) *out = ((const uint4 *)(x + 2))->y;", NULL},
};

enum { COUNT = sizeof mistakes / sizeof mistakes[0], NO_BARRIER = COUNT - 3 /* all behind it end the process */ };

/* Of two blocks that are resident together, and with races.h: what each thread writes to g the other block's threads read. */
#define WRITE "unsigned *g = (unsigned *)launch->step;\nconst unsigned t = threadIdx.x, b = blockIdx.x;\ng[b * 256 + t] = t;\n"
#define ARRIVE "__syncthreads();\nif (t == 0) ADD_RELEASE(out, 1u);\n"
#define WAIT "if (t == 0) {\nwhile (LOAD_RELAXED(out) < 2) SPIN();\nLOAD_ACQUIRE(out);\n}\n__syncthreads();\n"
#define READ "x[t] = g[(1 - b) * 256 + t];\n"
#define COPY_OWN "if (t % 4 == 0) CP_ASYNC_16(x + t, g + b * 256 + t, 16);\nCP_ASYNC_COMMIT();\nCP_ASYNC_WAIT(0);\n"
#define BULK                                                                                                                       \
    "Mbarrier *const barrier = (Mbarrier *)(shared + 1024);\n"                                                                     \
    "if (t == 0) {\nMBARRIER_INIT(barrier, 1);\nFENCE_ASYNC_PROXY();\nMBARRIER_EXPECT(barrier, 64);\n"                             \
    "BULK_COPY(x, g + b * 256 + 64, 64, barrier);\n}\n__syncthreads();\nwhile (!MBARRIER_HAS_PASSED(barrier, 0)) {\n}\n"
static const Mistake races[] = {
    {"a bulk copy of what is in order", WRITE "__syncthreads();\n" BULK, right},
    {"a bulk copy of what another thread has written", WRITE BULK, "nothing orders"},
    {"two blocks in order", WRITE ARRIVE WAIT READ, right},
    {"an arrival that releases nothing", WRITE "__syncthreads();\nif (t == 0) atomicAdd(out, 1u);\n" WAIT READ, "nothing orders"},
    {"an arrival before the block's barrier", WRITE "if (t == 0) ADD_RELEASE(out, 1u);\n" WAIT READ, "nothing orders"},
    {"a wait that acquires nothing",
     WRITE ARRIVE "if (t == 0) {\nwhile (LOAD_RELAXED(out) < 2) SPIN();\n}\n__syncthreads();\n" READ, "nothing orders"},
    {"a wait of one thread", WRITE ARRIVE "if (t == 0) {\nwhile (LOAD_RELAXED(out) < 2) SPIN();\nLOAD_ACQUIRE(out);\n}\n" READ,
     "nothing orders"},
    {"a block without a barrier, in order by luck", WRITE "x[t] = t;\nif (t > 0) g[b * 256 + t] = x[t - 1];\n", "nothing orders"},
    {"a warp in order", WRITE "x[t] = t;\n__syncwarp();\ng[b * 256 + t] = x[t ^ 1];\n", right},
    {"a warp by a shuffle alone", WRITE "x[t] = t;\n(void)__shfl_xor_sync(0xffffffffu, t, 1);\ng[b * 256 + t] = x[t ^ 1];\n",
     "nothing orders"},
    {"additions", WRITE "atomicAdd(g + 512, t);\n", right},
    {"a constant that is none", WRITE ARRIVE WAIT "x[t] = __ldg(g + (1 - b) * 256 + t);\n", "__ldg"},
    {"copies that others read behind a barrier", WRITE "__syncthreads();\n" COPY_OWN "__syncthreads();\nif (x[t] != t) g[0] = 1;\n",
     right},
    {"copies that others read at once", WRITE "__syncthreads();\n" COPY_OWN "if (x[t] != t) g[0] = 1;\n", "nothing orders"},
};

static void print_text(const Mistake *list, int count, SuText *out) {
    su_text_add(out, "#include \"simt.h\"\ntypedef unsigned char u8;\ntypedef unsigned u32;\ntypedef int i32;\n"
                     "typedef unsigned long long u64;\n#include \"codegen/cuda/hopper.cuh\"\n");
    for (int i = 0; i < count; i++) {
        su_text_add(out,
                    "static void k%d(const SimtLaunch *launch) {\nenum { HELD_BYTES = 0 };\nSHARED(shared);\nunsigned *x = "
                    "(unsigned *)shared;\n"
                    "unsigned *out = (unsigned *)launch->control;\n%s\n}\n",
                    i, list[i].body);
    }
    su_text_add(out, "extern \"C\" const SimtProgram simt_programs[] = {\n");
    for (int i = 0; i < count; i++) su_text_add(out, "{k%d},\n", i);
    su_text_add(out, "};\n");
}

/* What the kernel wrote; `finding` is empty if there was none. */
static uint32_t launch(const SimtLibrary *library, int i, unsigned order, char finding[512]) {
    _Alignas(16) uint8_t global[32] = {0};
    uint32_t result = 0;
    unsigned first_block = 0;
    SimtLaunch l = {
        .run = library->programs[i].many, .control = &result, .blocks = 1, .shared = 1024, .threads = THREADS, .order = order};
    l.step = global;
    l.finding = finding;
    l.finding_bytes = 512;
    l.first_block = &first_block;
    finding[0] = '\0';
    library->run(&l);
    return result;
}

static bool ends_with_a_message(const SimtLibrary *library, int i) {
    char finding[512];
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        guarded_report();
        guarded_say("a kernel that is wrong");
        launch(library, i, 0, finding);
        _exit(0);
    }
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

static bool is_found(const SimtLibrary *library, int i) {
    char finding[512];
    if (i > NO_BARRIER) return ends_with_a_message(library, i);
    uint32_t rising = launch(library, i, 0, finding);
    if (i == NO_BARRIER) return launch(library, i, 1, finding) != rising;
    if (mistakes[i].finding == right || mistakes[i].finding == wrong)
        return finding[0] == '\0' && (rising == 256 * 255 / 2) == (mistakes[i].finding == right);
    printf("  %s\n", finding);
    return strstr(finding, mistakes[i].finding) != NULL;
}

/* Number of races that are not found, or are where none is. */
static int find_races(const char *compiler) {
    enum { RACES = sizeof races / sizeof races[0] };
    SuText text = {0};
    int failures = 0;
    print_text(races, RACES, &text);
    SimtLibrary library = simt_library_that_watches(compiler, &text);
    for (int i = 0; i < RACES && library.handle != NULL; i++) {
        _Alignas(64) static uint32_t global[1024];
        uint32_t counter = 0;
        unsigned first_block = 0;
        char finding[512] = "";
        SimtMemory watched = {"global memory", global, sizeof global};
        SimtLaunch l = {.run = library.programs[i].many, .step = global, .control = &counter, .blocks = 2, .shared = 2048};
        l.threads = THREADS;
        l.cooperative = true;
        l.finding = finding;
        l.finding_bytes = sizeof finding;
        l.first_block = &first_block;
        l.watched = &watched;
        l.n_watched = 1;
        library.run(&l);
        bool good = races[i].finding == right ? finding[0] == '\0' : strstr(finding, races[i].finding) != NULL;
        printf("  %s\n%s: %s\n", finding, races[i].name, good ? "ok" : "FAILED");
        failures += !good;
    }
    failures += library.handle == NULL;
    simt_library_free(&library, false);
    su_text_free(&text);
    return failures;
}

int main(int argc, char **argv) {
    SuText text = {0};
    int failures = 0;
    if (argc < 2 || argv[1][0] == '\0') {
        printf("skipped: there is no C++ compiler\n");
        return SKIPPED;
    }
    print_text(mistakes, COUNT, &text);
    SimtLibrary library = simt_library(argv[1], &text);
    for (int i = 0; i < COUNT && library.handle != NULL; i++) {
        bool good = is_found(&library, i);
        printf("%s: %s\n", mistakes[i].name, good ? "ok" : "FAILED");
        failures += !good;
    }
    failures += library.handle == NULL;
    simt_library_free(&library, false);
    su_text_free(&text);
    failures += find_races(argv[1]);
    return failures == 0 ? 0 : 1;
}
