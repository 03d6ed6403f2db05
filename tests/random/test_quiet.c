/* Decoding allocates nothing and touches no file: after a warm-up the process forbids itself (by seccomp) every system call but
 * waiting, the clock and its threads' CPUs, so that neither memory can grow nor a file be read, and counts the calls of malloc
 * and its kin, which might do without the system. Then it decodes and samples. For specs of every kind, each in a process of its
 * own. Exits with 77 where filters are not allowed. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "codegen/target.h"
#include "draw.h"
#include "frontend/lower.h"
#include "schedule/schedule.h"
#include "rng.h"
#include "ir/program.h"
#include "mossc/moss.h"
#include "weights.h"

enum { SPECS = 4, WARM_UP = 3, TOKENS = 64, SKIPPED = 77 };

/* ------------------------------------------------------------------------------------------ counting allocations (--wrap) */

static atomic_bool counting;
static atomic_int allocations;

static void count(void) {
    if (atomic_load(&counting)) atomic_fetch_add(&allocations, 1);
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

void *__wrap_malloc(size_t size) {
    count();
    return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
    count();
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size) {
    count();
    return __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    count();
    return __real_aligned_alloc(alignment, size);
}

/* ------------------------------------------------------------------------------------------ forbidding system calls */

static void say(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) _exit(2);
}

static void on_forbidden(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number, (void)context;
    char text[80];
    snprintf(text, sizeof text, "decoding made the system call %d\n", info->si_syscall);
    say(text);
    _exit(1);
}

/* For all threads. false: not allowed here. */
static bool forbid_system_calls(void) {
#define LOOK_AT(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    struct sock_filter rules[] = {
        LOOK_AT(nr),
        ALLOW(futex),                                        /* workers wait for each other */
        ALLOW(sched_getaffinity),
        ALLOW(sched_setaffinity),  /* the caller's thread is pinned for the time of a step */
        ALLOW(clock_gettime),                                /* where it is a call at all */
        ALLOW(write),
        ALLOW(exit_group),
        ALLOW(rt_sigreturn), /* the test's own */
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {.len = sizeof rules / sizeof *rules, .filter = rules};
    struct sigaction action = {.sa_sigaction = on_forbidden, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &action, NULL);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

/* ------------------------------------------------------------------------------------------ decoding */

static bool moss_ok(MossError error) {
    if (error.code == MOSS_OK) return true;
    fprintf(stderr, "%s\n", error.text);
    return false;
}

/* Samples from the last logits and feeds what was sampled, n times. */
static bool decode(MossModel *model, MossState *state, MossSampler *sampler, int n) {
    int64_t V = moss_program_vocab_size(moss_model_program(model));
    MossError error = {.code = MOSS_OK};
    for (int i = 0; i < n && error.code == MOSS_OK; i++) {
        int32_t token = moss_sample(sampler, moss_state_logits(state), V, V);
        MossSegment segment = {.state = state, .tokens = &token, .count = 1, .logits = MOSS_LAST_LOGITS};
        error = moss_step(model, &segment, 1);
    }
    if (error.code != MOSS_OK) say(error.text);
    return error.code == MOSS_OK;
}

static int decode_quietly(MossModel *model, MossState *state, int32_t token) {
    MossSampler sampler = {.temperature = 1, .top_k = 5, .top_p = 0.9f};
    if (!moss_ok(moss_feed(model, state, &token, 1, 0)) || !decode(model, state, &sampler, WARM_UP)) return 1;
    if (!forbid_system_calls()) {
        fprintf(stderr, "skipped: system calls cannot be filtered here: %s\n", strerror(errno));
        return SKIPPED;
    }
    atomic_store(&counting, true);
    bool good = decode(model, state, &sampler, TOKENS);
    if (atomic_load(&allocations) != 0) say("decoding allocated memory\n");
    return good && atomic_load(&allocations) == 0 ? 0 : 1;
}

static bool compile(const char *yaml, size_t size, FeSpec *spec, SuArena *arena, const PgProgram **out_program,
                    CgCompiled **out_compiled, SuDiags *diags) {
    static const char *const sets[] = {"max_positions=300"};
    PsOptions passes = {.check = false};
    CgTarget target = {0};
    if (!fe_spec_parse("random.yaml", yaml, size, sets, 1, spec, diags)) return false;
    IrGraph *graph = fe_lower(spec, arena);
    return ps_fuse(graph, &passes, diags) && sc_program(graph, &passes, arena, out_program, diags) &&
           cg_target_host(NULL, &target, diags) && cg_llvm_compile(&target, *out_program, &(CgOptions){0}, out_compiled, diags);
}

/* In a process of its own, which ends with what this returns: nothing is freed, since that may be a system call. */
static int run_seed(uint64_t seed, int threads) {
    static FeSpec spec;
    static SuArena arena;
    static Weights weights;
    SuDiags diags = {0};
    SuText yaml = {0};
    const PgProgram *program = NULL;
    CgCompiled *compiled = NULL;
    MossModel *model = NULL;
    MossState *state = NULL;
    draw_spec(seed, DRAW_FLOATS, &yaml);
    if (!compile(yaml.text, yaml.size, &spec, &arena, &program, &compiled, &diags)) {
        su_diags_print(&diags, stderr);
        return 1;
    }
    weights_draw(&spec, seed, &weights);
    MossOptions options = {.size = sizeof options, .threads = threads};
    if (!moss_ok(moss_model_from_memory(program, cg_codes(compiled), weights_drawn, &weights, &options, &model)) ||
        !moss_ok(moss_state_create(model, &state))) {
        return 1;
    }
    return decode_quietly(model, state, 1);
}

static int run_in_child(uint64_t seed, int threads) {
    pid_t child = fork();
    if (child == 0) _exit(run_seed(seed, threads));
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(void) {
    int failed = 0;
    for (uint64_t seed = 1; seed <= SPECS; seed++) {
        int result = run_in_child(seed, seed % 2 ? 2 : 1);
        if (result == SKIPPED) return SKIPPED;
        if (result != 0) fprintf(stderr, "FAILED: the spec of seed %d\n", (int)seed);
        failed += result != 0;
    }
    printf("%d specs, %d failed\n", SPECS, failed);
    return failed ? 1 : 0;
}
