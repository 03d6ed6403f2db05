/* The emulated driver and compiler do as NVIDIA's where mossc relies on it, and find what theirs would not say. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emulated.h"

enum { SKIPPED = 77, LEAKED = 96, THREADS = 64, N = 1000 };

static const char *nvrtc_path, *driver_path;
static char *cubin, *ptx; /* of `text`, for sm_90 and compute_80 */

static const char text[] = "enum { THREADS = 64, HELD_BYTES = 0 };\n"
                           "typedef unsigned u32;\n"
                           "EXPORTED u32 numbers[] = {7, 8, 9};\n"
                           "ENTRY(add)(u32 *x, u32 n, u32 value) {\n"
                           "    for (u32 i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) x[i] += value;\n"
                           "}\n"
                           "ENTRY(write_at)(u32 *x, unsigned long i) { if (threadIdx.x == 0) x[i] = 1; }\n"
                           "ENTRY(four_at)(u32 *x, unsigned long i) { if (threadIdx.x == 0) x[0] = ((uint4 *)(x + i))->y; }\n"
                           "ENTRY(divide)(u32 *x, u32 zero) { x[0] = 7 / zero; }\n"
                           "ENTRY(diverge)() { if (threadIdx.x < 32) __syncthreads(); }\n"
                           "ENTRY(all_arrive)(u32 *arrived) {\n"
                           "    if (threadIdx.x == 0) {\n"
                           "        atomicAdd(arrived, 1u);\n"
                           "        while (*(volatile u32 *)arrived < gridDim.x) SPIN();\n"
                           "    }\n"
                           "}\n"
                           "ENTRY(in_order)(u32 *out) {\n"
                           "    SHARED(shared);\n"
                           "    u32 *first = (u32 *)shared;\n"
                           "    if (threadIdx.x % 63 == 0) *first = threadIdx.x;\n"
                           "    __syncthreads();\n"
                           "    *out = *first;\n"
                           "}\n";

/* ---------------------------------------------------------------------------------------------- a GPU in use */

typedef struct Gpu {
    RtCudaDriver d;
    CuContextRef context;
    CuModuleRef module;
    CuStreamRef stream;
} Gpu;

static Gpu gpu_open(const char *settings) {
    Gpu g = {.d = emulated_driver(driver_path, settings)};
    assert_int_equal(g.d.init(0), CU_OK);
    assert_int_equal(g.d.context_retain(&g.context, 0), CU_OK);
    assert_int_equal(g.d.context_set(g.context), CU_OK);
    assert_int_equal(g.d.module_load(&g.module, cubin, 0, NULL, NULL), CU_OK);
    assert_int_equal(g.d.stream_create(&g.stream, CU_STREAM_NON_BLOCKING), CU_OK);
    return g;
}

static void gpu_close(Gpu *g) {
    g->d.stream_destroy(g->stream);
    g->d.module_unload(g->module);
    g->d.context_release(0);
    dlclose(g->d.handle);
}

static CuFunctionRef function(Gpu *g, const char *name) {
    CuFunctionRef f;
    assert_int_equal(g->d.module_function(&f, g->module, name), CU_OK);
    return f;
}

static CuPointer zeros(Gpu *g, size_t bytes) {
    CuPointer at;
    assert_int_equal(g->d.memory_alloc(&at, bytes), CU_OK);
    assert_int_equal(g->d.fill(at, 0, bytes, g->stream), CU_OK);
    return at;
}

static CuResult add(Gpu *g, CuPointer at, uint32_t n, uint32_t value, unsigned blocks) {
    return g->d.launch(function(g, "add"), blocks, 1, 1, THREADS, 1, 1, 0, g->stream, (void *[]){&at, &n, &value}, NULL);
}

static uint32_t word_at(Gpu *g, CuPointer at) {
    uint32_t word = 0;
    assert_int_equal(g->d.get(&word, at, sizeof word, g->stream), CU_OK);
    return word;
}

/* ---------------------------------------------------------------------------------------------- what works */

static void test_a_launch_takes_its_parameters_and_waits_for_its_turn(void **unused) {
    (void)unused;
    for (int order = 0; order < 4; order++) {
        char settings[64];
        uint32_t *host;
        snprintf(settings, sizeof settings, "order=%d,leaks=1", order);
        Gpu g = gpu_open(settings);
        CuPointer at = zeros(&g, N * sizeof(uint32_t));
        assert_int_equal(g.d.host_alloc((void **)&host, N * sizeof *host, 0), CU_OK);
        for (uint32_t i = 0; i < N; i++) host[i] = i;
        assert_int_equal(g.d.put(at, host, N * sizeof *host, g.stream), CU_OK);
        assert_int_equal(add(&g, at, N, 5, 3), CU_OK);
        assert_int_equal(g.d.get(host, at, N * sizeof *host, g.stream), CU_OK);
        assert_int_equal(host[9], 9); /* nobody waited yet */
        assert_int_equal(g.d.stream_wait(g.stream), CU_OK);
        for (uint32_t i = 0; i < N; i++) assert_int_equal(host[i], i + 5);
        g.d.host_free(host);
        g.d.memory_free(at);
        gpu_close(&g);
    }
}

static void test_the_order_of_threads_shows_a_race(void **unused) {
    (void)unused;
    uint32_t last[2];
    for (int order = 0; order < 2; order++) {
        Gpu g = gpu_open(order == 0 ? "order=0" : "order=1");
        CuPointer at = zeros(&g, 4);
        CuFunctionRef f = function(&g, "in_order");
        assert_int_equal(g.d.launch(f, 1, 1, 1, THREADS, 1, 1, 64, g.stream, (void *[]){&at}, NULL), CU_OK);
        last[order] = word_at(&g, at);
        gpu_close(&g);
    }
    assert_int_equal(last[0], 63);
    assert_int_equal(last[1], 0);
}

static void test_constants_of_a_module_can_be_read(void **unused) {
    (void)unused;
    Gpu g = gpu_open("");
    CuPointer at;
    size_t bytes;
    assert_int_equal(g.d.module_global(&at, &bytes, g.module, "numbers"), CU_OK);
    assert_int_equal(bytes, 12);
    assert_int_equal(word_at(&g, at + 8), 9);
    assert_int_equal(g.d.module_global(&at, &bytes, g.module, "letters"), 500);
    gpu_close(&g);
}

static void test_memory_is_counted(void **unused) {
    (void)unused;
    Gpu g = gpu_open("memory=1000000");
    size_t before, after, whole;
    CuPointer at, other;
    assert_int_equal(g.d.memory_info(&before, &whole), CU_OK);
    assert_int_equal(whole, 1000000);
    assert_int_equal(g.d.memory_alloc(&at, 700001), CU_OK);
    assert_int_equal(g.d.memory_alloc(&other, 300000), CU_OUT_OF_MEMORY);
    assert_int_equal(g.d.memory_info(&after, &whole), CU_OK);
    assert_int_equal(before - after, 700416);
    assert_int_equal(g.d.memory_free(at), CU_OK);
    assert_int_equal(g.d.memory_free(at), 1);
    assert_int_equal(g.d.memory_info(&after, &whole), CU_OK);
    assert_int_equal(before, after);
    gpu_close(&g);
}

static void test_events_are_stamped_when_their_turn_comes(void **unused) {
    (void)unused;
    Gpu g = gpu_open("leaks=1");
    CuEventRef from, to;
    float ms = -1;
    CuPointer at = zeros(&g, 4 * N), after = zeros(&g, 4);
    uint32_t *host;
    g.d.host_alloc((void **)&host, 4, 0);
    *host = 77;
    assert_int_equal(g.d.event_create(&from, CU_EVENT_DEFAULT), CU_OK);
    assert_int_equal(g.d.event_create(&to, CU_EVENT_DEFAULT), CU_OK);
    g.d.event_record(from, g.stream);
    add(&g, at, N, 1, 1);
    g.d.event_record(to, g.stream);
    g.d.get(host, after, 4, g.stream);
    assert_int_equal(g.d.event_elapsed(&ms, from, to), 600);
    assert_int_equal(g.d.event_wait(to), CU_OK);
    assert_int_equal(g.d.event_elapsed(&ms, from, to), CU_OK);
    assert_true(ms > 0);
    assert_int_equal(*host, 77); /* comes after the event */
    assert_int_equal(g.d.stream_wait(g.stream), CU_OK);
    assert_int_equal(*host, 0);
    g.d.event_destroy(from);
    g.d.event_destroy(to);
    g.d.host_free(host);
    g.d.memory_free(at);
    g.d.memory_free(after);
    gpu_close(&g);
}

static void test_a_graph_replays_what_was_captured(void **unused) {
    (void)unused;
    Gpu g = gpu_open("leaks=1");
    CuGraphRef graph;
    CuGraphExecRef exec;
    CuPointer at = zeros(&g, 4), other = zeros(&g, 4);
    assert_int_equal(g.d.capture_begin(g.stream, CU_CAPTURE_THREAD_LOCAL), CU_OK);
    assert_int_equal(add(&g, at, 1, 3, 1), CU_OK);
    assert_int_equal(g.d.copy(other, at, 4, g.stream), CU_OK);
    assert_int_equal(g.d.capture_end(g.stream, &graph), CU_OK);
    assert_int_equal(word_at(&g, at), 0); /* capturing runs nothing */
    assert_int_equal(g.d.graph_make(&exec, graph, 0), CU_OK);
    assert_int_equal(g.d.graph_destroy(graph), CU_OK);
    for (int i = 0; i < 4; i++) assert_int_equal(g.d.graph_launch(exec, g.stream), CU_OK);
    assert_int_equal(word_at(&g, at), 12);
    assert_int_equal(word_at(&g, other), 12);
    assert_int_equal(g.d.graph_exec_destroy(exec), CU_OK);
    g.d.memory_free(at);
    g.d.memory_free(other);
    gpu_close(&g);
}

/* ---------------------------------------------------------------------------------------------- what is refused */

static void test_a_capture_allows_no_waiting_and_no_memory(void **unused) {
    (void)unused;
    for (int kind = 0; kind < 3; kind++) {
        Gpu g = gpu_open("leaks=1");
        CuGraphRef graph;
        CuPointer at = 0, from = zeros(&g, 4);
        uint32_t word;
        assert_int_equal(g.d.capture_begin(g.stream, CU_CAPTURE_THREAD_LOCAL), CU_OK);
        CuResult result = kind == 0 ? g.d.stream_wait(g.stream) : kind == 1 ? g.d.memory_alloc(&at, 8) : g.d.memory_free(from);
        assert_int_equal(result, 900);
        assert_int_equal(g.d.get(&word, from, 4, g.stream), 901);
        assert_int_equal(g.d.capture_end(g.stream, &graph), 901);
        assert_int_equal(word_at(&g, from), 0); /* all works again, and what was refused was not done */
        assert_int_equal(g.d.memory_free(from), CU_OK);
        gpu_close(&g);
    }
}

static void test_a_cooperative_launch_must_be_resident(void **unused) {
    (void)unused;
    Gpu g = gpu_open("multiprocessors=3,blocks=2");
    CuFunctionRef f = function(&g, "all_arrive");
    CuPointer at = zeros(&g, 4);
    int blocks = 0;
    void *params[] = {&at};
    assert_int_equal(g.d.occupancy(&blocks, f, THREADS, 1000), CU_OK);
    assert_int_equal(blocks, 2);
    assert_int_equal(g.d.launch_together(f, 7, 1, 1, THREADS, 1, 1, 1000, g.stream, params), CU_COOPERATIVE_LAUNCH_TOO_LARGE);
    assert_int_equal(g.d.launch_together(f, 6, 1, 1, THREADS, 1, 1, 1000, g.stream, params), CU_OK);
    assert_int_equal(word_at(&g, at), 6);
    gpu_close(&g);
}

static void test_much_shared_memory_must_be_asked_for(void **unused) {
    (void)unused;
    Gpu g = gpu_open("blocks=2");
    CuFunctionRef f = function(&g, "in_order");
    CuPointer at = zeros(&g, 4);
    int blocks = 0, most = 0;
    void *params[] = {&at};
    assert_int_equal(g.d.device_attribute(&most, CU_ATTRIBUTE_SHARED_OPTIN, 0), CU_OK);
    assert_int_equal(g.d.launch(f, 1, 1, 1, THREADS, 1, 1, 49153, g.stream, params, NULL), 1);
    assert_int_equal(g.d.function_set(f, CU_FUNC_MAX_DYNAMIC_SHARED, most + 1), 1);
    assert_int_equal(g.d.function_set(f, CU_FUNC_MAX_DYNAMIC_SHARED, most), CU_OK);
    assert_int_equal(g.d.launch(f, 1, 1, 1, THREADS, 1, 1, (unsigned)most, g.stream, params, NULL), CU_OK);
    assert_int_equal(g.d.occupancy(&blocks, f, THREADS, (size_t)most), CU_OK);
    assert_int_equal(blocks, 1);
    assert_int_equal(g.d.launch(f, 1, 1, 1, 2 * THREADS, 1, 1, 0, g.stream, params, NULL), 701); /* launch bounds */
    gpu_close(&g);
}

static void test_an_image_must_be_for_this_gpu(void **unused) {
    (void)unused;
    CuModuleRef module;
    char log[256] = "";
    CuJitOption options[] = {CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BYTES};
    void *values[] = {log, (void *)sizeof log};
    char *damaged = malloc(65536);
    memcpy(damaged, cubin, 65536);
    damaged[5000] ^= 1;
    Gpu g = gpu_open("");
    assert_int_equal(g.d.module_load(&module, "no image at all, but some text that is long enough", 2, options, values), 200);
    assert_non_null(strstr(log, "damaged"));
    assert_int_equal(g.d.module_load(&module, ptx, 2, options, values), CU_OK);
    assert_int_equal(g.d.module_unload(module), CU_OK);
    gpu_close(&g);
    RtCudaDriver other = emulated_driver(driver_path, "architecture=75");
    CuContextRef context;
    other.init(0), other.context_retain(&context, 0), other.context_set(context);
    assert_int_equal(other.module_load(&module, cubin, 0, NULL, NULL), CU_NO_BINARY_FOR_GPU);
    assert_int_equal(other.module_load(&module, ptx, 0, NULL, NULL), CU_INVALID_PTX);
    other.context_release(0);
    dlclose(other.handle);
    free(damaged);
}

static void test_copies_stay_inside_of_what_was_allocated(void **unused) {
    (void)unused;
    Gpu g = gpu_open("");
    uint8_t host[128] = {0};
    CuPointer at = zeros(&g, 100);
    assert_int_equal(g.d.put(at, host, 101, g.stream), 1);
    assert_int_equal(g.d.put(at + 99, host, 1, g.stream), CU_OK);
    assert_int_equal(g.d.get(host, at - 1, 1, g.stream), 1);
    assert_int_equal(g.d.get(host, (CuPointer)(uintptr_t)host, 1, g.stream), 1);
    assert_int_equal(g.d.fill(at + 64, 1, 37, g.stream), 1);
    assert_int_equal(g.d.copy(at, at + 90, 11, g.stream), 1);
    gpu_close(&g);
}

/* ---------------------------------------------------------------------------------------------- what is found */

static void expect_death(const char *name, uint64_t number, CuResult code) {
    Gpu g = gpu_open("");
    CuPointer at = zeros(&g, 256);
    int value;
    void *params[] = {&at, &number};
    assert_int_equal(g.d.stream_wait(g.stream), CU_OK);
    assert_int_equal(g.d.launch(function(&g, name), 1, 1, 1, THREADS, 1, 1, 0, g.stream, params, NULL), CU_OK);
    assert_int_equal(g.d.stream_wait(g.stream), code);
    assert_int_equal(g.d.memory_alloc(&at, 4), code); /* and nothing works any more */
    assert_int_equal(g.d.device_attribute(&value, CU_ATTRIBUTE_MAJOR, 0), CU_OK);
    gpu_close(&g);
}

static void test_a_kernel_that_goes_wrong_kills_the_context(void **unused) {
    (void)unused;
    expect_death("write_at", 64, 700);
    expect_death("write_at", 1ull << 44, 700);
    expect_death("four_at", 5, 716);
    expect_death("divide", 0, 719);
    expect_death("diverge", 0, 719);
}

static void test_a_context_works_again_after_it_was_given_back(void **unused) {
    (void)unused;
    expect_death("write_at", 64, 700);
    Gpu g = gpu_open("");
    assert_int_equal(word_at(&g, zeros(&g, 4)), 0);
    gpu_close(&g);
}

/* The status of a child that opens a GPU with these settings and does one thing with it. */
static int status_of(const char *settings, void (*act)(Gpu *)) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* cmocka has a handler */
        Gpu g = gpu_open(settings);
        act(&g);
        gpu_close(&g);
        _exit(0);
    }
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void touch_from_host(Gpu *g) { *(volatile uint32_t *)(uintptr_t)zeros(g, 4) = 1; }
static void forget_memory(Gpu *g) { zeros(g, 4); }
static void forget_an_event(Gpu *g) {
    CuEventRef event;
    g->d.event_create(&event, 0);
}
static void forget_nothing(Gpu *g) { g->d.memory_free(zeros(g, 4)); }

static void test_a_host_cannot_touch_the_memory_of_a_gpu(void **unused) {
    (void)unused;
    assert_int_equal(status_of("", touch_from_host), -11);
}

static void test_leaks_are_told(void **unused) {
    (void)unused;
    assert_int_equal(status_of("leaks=1", forget_memory), LEAKED);
    assert_int_equal(status_of("leaks=1", forget_an_event), LEAKED);
    assert_int_equal(status_of("leaks=1", forget_nothing), 0);
}

static void test_a_call_fails_when_it_is_told_to(void **unused) {
    (void)unused;
    Gpu g = gpu_open("fail=cuMemAlloc_v2:2:2");
    CuPointer at;
    assert_int_equal(g.d.memory_alloc(&at, 4), CU_OK);
    assert_int_equal(g.d.memory_alloc(&at, 4), 2);
    assert_int_equal(g.d.memory_alloc(&at, 4), CU_OK);
    gpu_close(&g);
    g = gpu_open("fail=cuStreamSynchronize:1:719");
    assert_int_equal(g.d.stream_wait(g.stream), 719);
    assert_int_equal(g.d.memory_alloc(&at, 4), 719);
    gpu_close(&g);
}

static void test_a_call_needs_a_context(void **unused) {
    (void)unused;
    RtCudaDriver d = emulated_driver(driver_path, "devices=2");
    CuPointer at;
    CuDevice other;
    CuContextRef context;
    int n = 0;
    assert_int_equal(d.device_count(&n), 3);
    assert_int_equal(d.init(0), CU_OK);
    assert_int_equal(d.device_count(&n), CU_OK);
    assert_int_equal(n, 2);
    assert_int_equal(d.device_get(&other, 2), 101);
    assert_int_equal(d.memory_alloc(&at, 4), 201);
    assert_int_equal(d.context_retain(&context, 1), CU_OK);
    assert_int_equal(d.memory_alloc(&at, 4), 201);
    assert_int_equal(d.context_set(context), CU_OK);
    assert_int_equal(d.memory_alloc(&at, 4), CU_OK);
    assert_int_equal(d.context_release(1), CU_OK);
    assert_int_equal(d.memory_alloc(&at, 4), 201);
    dlclose(d.handle);
}

/* ---------------------------------------------------------------------------------------------- the compiler */

static void test_a_text_that_is_refused_has_nvrtcs_message(void **unused) {
    (void)unused;
    char *log;
    static const char wrong[] = "enum { THREADS = 64 };\n\nENTRY(f)(int *x) {\n    *x = nothing;\n}\n";
    assert_null(emulated_compile(nvrtc_path, wrong, "sm_90", &log));
    assert_non_null(strstr(log, "program.cu(4): error: "));
    assert_non_null(strstr(log, "nothing"));
    free(log);
    assert_null(emulated_compile(nvrtc_path, text, "sm_70", &log));
    assert_non_null(strstr(log, "invalid value"));
    free(log);
}

int main(int argc, char **argv) {
    char *log;
    if (argc < 4 || argv[1][0] == '\0') {
        printf("skipped: there is no C++ compiler\n");
        return SKIPPED;
    }
    driver_path = argv[2];
    nvrtc_path = argv[3];
    cubin = emulated_compile(nvrtc_path, text, "sm_90", &log);
    if (cubin == NULL) {
        printf("FAILED: %s\n", log);
        return 1;
    }
    free(log);
    ptx = emulated_compile(nvrtc_path, text, "compute_80", &log);
    free(log);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_launch_takes_its_parameters_and_waits_for_its_turn),
        cmocka_unit_test(test_the_order_of_threads_shows_a_race),
        cmocka_unit_test(test_constants_of_a_module_can_be_read),
        cmocka_unit_test(test_memory_is_counted),
        cmocka_unit_test(test_events_are_stamped_when_their_turn_comes),
        cmocka_unit_test(test_a_graph_replays_what_was_captured),
        cmocka_unit_test(test_a_capture_allows_no_waiting_and_no_memory),
        cmocka_unit_test(test_a_cooperative_launch_must_be_resident),
        cmocka_unit_test(test_much_shared_memory_must_be_asked_for),
        cmocka_unit_test(test_an_image_must_be_for_this_gpu),
        cmocka_unit_test(test_copies_stay_inside_of_what_was_allocated),
        cmocka_unit_test(test_a_kernel_that_goes_wrong_kills_the_context),
        cmocka_unit_test(test_a_context_works_again_after_it_was_given_back),
        cmocka_unit_test(test_a_host_cannot_touch_the_memory_of_a_gpu),
        cmocka_unit_test(test_leaks_are_told),
        cmocka_unit_test(test_a_call_fails_when_it_is_told_to),
        cmocka_unit_test(test_a_call_needs_a_context),
        cmocka_unit_test(test_a_text_that_is_refused_has_nvrtcs_message),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(cubin);
    free(ptx);
    return failed;
}
