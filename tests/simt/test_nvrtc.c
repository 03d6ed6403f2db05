/* NVRTC takes what is printed for a spec, on the architectures named; no kernel spills registers, all fit a block of their threads
 * (of the launch's own number) and the shared memory that every GPU has. Skipped where there is no NVRTC. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/cuda/limits.h"
#include "codegen/cuda/nvrtc.h"
#include "frontend/lower.h"
#include "frontend/spec.h"
#include "schedule/schedule.h"
#include "support/size.h"

enum { SKIPPED = 77, MAX_REGISTERS = 255, MAX_SETTINGS = 4 };

/* What the assembler says of a program's entries. */
typedef struct Usage {
    int entries, registers, shared; /* the last two: the most of an entry */
    int spills;                     /* bytes, of all */
    int serialized;                 /* products of warpgroups that the assembler makes wait for each other */
} Usage;

/* The number before `unit` in a line of the log, as in "8 bytes spill stores"; 0 if it is not there. */
static int number_before(const char *line, size_t size, const char *unit) {
    const char *at = memmem(line, size, unit, strlen(unit));
    if (at == NULL) return 0;
    while (at > line && at[-1] == ' ') at--;
    while (at > line && at[-1] >= '0' && at[-1] <= '9') at--;
    return atoi(at);
}

static int larger(int a, int b) { return a > b ? a : b; }

static Usage usage_of(const char *log) {
    Usage u = {0};
    while (*log != '\0') {
        size_t size = strcspn(log, "\n");
        u.entries += memmem(log, size, "Compiling entry function", 24) != NULL;
        u.spills += number_before(log, size, "bytes spill stores") + number_before(log, size, "bytes spill loads");
        u.serialized += memmem(log, size, "wgmma", 5) != NULL && memmem(log, size, "serialized", 10) != NULL;
        u.registers = larger(u.registers, number_before(log, size, "registers"));
        u.shared = larger(u.shared, number_before(log, size, "bytes smem"));
        log += size + (log[size] == '\n');
    }
    return u;
}

/* Threads of a block of the entry whose name `line` begins with. */
static uint32_t threads_of(const CgCudaPlan *plan, const char *line, size_t size) {
    for (uint32_t i = 0; i < plan->image.n_launches; i++) {
        const RtCudaLaunch *launch = &plan->launches[i];
        if (strlen(launch->entry) == size && memcmp(launch->entry, line, size) == 0) return launch->threads;
    }
    return plan->image.threads;
}

/* Whether a block of each entry has registers for its threads, which take eight at a time. The entry's name stands in quotes in the line
 * that begins what the log says of it. */
static bool registers_suffice(const char *log, const CgCudaPlan *plan) {
    enum { REGISTERS = 64 * 1024, UNIT = 8 };
    static const char begins[] = "Compiling entry function '";
    uint32_t threads = plan->image.threads;
    bool good = true;
    while (*log != '\0') {
        size_t size = strcspn(log, "\n");
        const char *named = memmem(log, size, begins, sizeof begins - 1);
        if (named != NULL) threads = threads_of(plan, named + sizeof begins - 1, strcspn(named + sizeof begins - 1, "'"));
        int registers = number_before(log, size, "registers");
        if (su_round_up((uint64_t)registers, UNIT) * threads > REGISTERS) {
            printf("  %.*s: for %u threads\n", (int)size, log, threads);
            good = false;
        }
        log += size + (log[size] == '\n');
    }
    return good;
}

/* Which functions of the log spill: "Function properties for NAME" stands in front of what they do. */
static void print_spills(const char *log) {
    const char *before = log;
    for (const char *line = log; *line != '\0';) {
        size_t size = strcspn(line, "\n");
        if (number_before(line, size, "bytes spill stores") + number_before(line, size, "bytes spill loads") > 0)
            printf("  %.*s\n", (int)(line + size - before), before);
        before = line;
        line += size + (line[size] == '\n');
    }
}

static bool judge(const char *spec, const CgCudaTarget *target, const CgCudaPlan *plan, const char *log) {
    Usage usage = usage_of(log), *u = &usage;
    int wanted = (int)plan->n_entries;
    u->shared = larger(u->shared, larger((int)plan->image.row_shared, (int)plan->image.few_shared));
    for (uint32_t i = 0; i < plan->image.n_launches; i++) u->shared = larger(u->shared, (int)plan->launches[i].shared);
    bool fits = u->registers > 0 && u->registers <= MAX_REGISTERS && registers_suffice(log, plan);
    bool good = u->entries == wanted && u->spills == 0 && u->serialized == 0 && fits && u->shared <= (int)target->shared;
    printf("%s %s: %d entries, at most %d registers and %d bytes of shared memory, %d bytes spilt%s%s\n", spec, target->name,
           u->entries, u->registers, u->shared, u->spills, u->serialized > 0 ? ", products of warpgroups serialized" : "",
           good ? "" : ": FAILED");
    return good;
}

/* What the options say. */
typedef struct Options {
    bool fast;
    const char *cubin; /* file that the code of the last target is written to, for tests/cuda/sass.py; NULL: none */
} Options;

static bool write_code(const char *path, const SuText *code) {
    FILE *file = fopen(path, "wb");
    bool good = file != NULL && fwrite(code->text, 1, code->size, file) == code->size;
    return file != NULL && fclose(file) == 0 && good;
}

static bool compile(const CgNvrtc *nvrtc, const Options *o, const char *spec, const char *name, const PgProgram *program,
                    SuDiags *diags) {
    CgCudaTarget target;
    SuText text = {0}, code = {0}, log = {0};
    SuArena arena = {0};
    if (!cg_cuda_target_by_name(name, &target, diags)) return false;
    target.fast = o->fast;
    CgCudaPlan plan = cg_cuda_print(&target, program, &arena, &text);
    bool good = cg_nvrtc_compile(nvrtc, &target, text.text, CG_NVRTC_CUBIN, &code, &log, diags);
    good = good && code.size > 4 && memcmp(code.text, "\177ELF", 4) == 0;
    if (good) {
        good = judge(spec, &target, &plan, log.text);
        print_spills(log.text);
    }
    if (code.size > 0 && o->cubin != NULL && !write_code(o->cubin, &code))
        good = su_error(diags, (SuSpan){0}, NULL, "cannot write %s", o->cubin);
    su_text_free(&text);
    su_text_free(&code);
    su_text_free(&log);
    su_arena_free(&arena);
    return good;
}

/* All targets of one spec; arguments with a '=' are settings of it. */
static bool compile_spec(const CgNvrtc *nvrtc, const Options *o, const char *path, char **arguments) {
    const char *set[MAX_SETTINGS];
    size_t n = 0;
    for (; strchr(*arguments, '=') != NULL && n < MAX_SETTINGS; arguments++) set[n++] = *arguments;
    FeSpec spec = {0};
    SuArena arena = {0};
    SuDiags diags = {0};
    PsOptions passes = {.few = &cg_cuda_few};
    const PgProgram *program = NULL;
    bool good = fe_spec_load(path, set, n, &spec, &diags);
    IrGraph *graph = good ? fe_lower(&spec, &arena) : NULL;
    good = good && ps_fuse(graph, &passes, &diags) && sc_program(graph, &passes, &arena, &program, &diags);
    for (; good && *arguments != NULL; arguments++) good = compile(nvrtc, o, path, *arguments, program, &diags);
    if (!good) su_diags_print(&diags, stdout);
    su_arena_free(&arena);
    fe_spec_free(&spec);
    su_diags_free(&diags);
    return good;
}

/* The kernels of `mossc limits`: a spill would be measured in place of what they are for. */
static bool compile_limits(const CgNvrtc *nvrtc, char **targets) {
    SuDiags diags = {0};
    bool good = true;
    for (; good && *targets != NULL; targets++) {
        CgCudaTarget target;
        SuText text = {0}, code = {0}, log = {0};
        good = cg_cuda_target_by_name(*targets, &target, &diags);
        if (good) cg_cuda_print_limits(&target, &text);
        good = good && cg_nvrtc_compile(nvrtc, &target, text.text, CG_NVRTC_CUBIN, &code, &log, &diags);
        Usage usage = usage_of(good ? log.text : "");
        good = good && usage.entries == (target.tensor_cores ? CG_CUDA_LIMIT_KINDS : CG_CUDA_LIMIT_KINDS - 1) && usage.spills == 0;
        printf("limits %s: %d entries, %d bytes spilt%s\n", *targets, usage.entries, usage.spills, good ? "" : ": FAILED");
        su_text_free(&text);
        su_text_free(&code);
        su_text_free(&log);
    }
    su_diags_print(&diags, stdout);
    su_diags_free(&diags);
    return good;
}

/* "limits" in place of a spec: the kernels of `mossc limits`. */
int main(int argc, char **argv) {
    Options o = {0};
    for (int option; (option = getopt(argc, argv, "fo:")) != -1;) {
        if (option == 'f') o.fast = true;
        if (option == 'o') o.cubin = optarg;
        if (option == '?') argc = 0;
    }
    if (argc < optind + 2) {
        fprintf(stderr, "usage: test_nvrtc [-f] [-o CUBIN] SPEC [PATH=VALUE...] TARGET...\n");
        return 2;
    }
    argv += optind;
    CgNvrtc *nvrtc = cg_nvrtc_try();
    if (nvrtc == NULL) {
        printf("skipped: there is no NVRTC library here\n");
        return SKIPPED;
    }
    bool limits = strcmp(argv[0], "limits") == 0;
    bool good = limits ? compile_limits(nvrtc, argv + 1) : compile_spec(nvrtc, &o, argv[0], argv + 1);
    cg_nvrtc_close(nvrtc);
    return good ? 0 : 1;
}
