/* Random specs on a GPU, the emulated one or a real one, against eval64.
 *
 * Several processes take specs in turn, each from YAML to logits: evaluated in double, printed, compiled by NVRTC and run by the
 * runtime, token by token, in chunks, as one prompt, in batches, from states that were saved and cloned, and picking its own tokens.
 * Then states are saved, loaded and cloned in a loop, and the GPU has as much free memory afterwards. Work that would begin after
 * --seconds is left out, and said so. */
#include <getopt.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "case.h"
#include "runtime/cuda/gpu.h"
#include "support/clock.h"
#include "tests/random/rng.h"

enum { SKIPPED = 77, MAX_PROCESSES = 64, FEW = 16 };

typedef struct Options {
    uint64_t seed;
    int64_t count, cycles;
    int processes, ordinal;
    double seconds;
    bool verbose;
} Options;

typedef enum Outcome { PASSED, FAILED, LEFT_OUT, OUTCOMES } Outcome;

/* What the processes share. */
typedef struct Progress {
    _Atomic int64_t next, by_outcome[OUTCOMES];
    _Atomic uint64_t running[MAX_PROCESSES]; /* seed + 1 of the spec that a process works on */
} Progress;

/* ---------------------------------------------------------------------------------------------- feeding tokens */

typedef struct Lane {
    MossState *state;
    int sequence;
    int64_t at; /* tokens fed */
} Lane;

static bool open_lane(Case *c, MossModel *model, int sequence, Lane *lane) {
    *lane = (Lane){.sequence = sequence};
    return case_ok(c, "a state", moss_state_create(model, &lane->state));
}

/* One step of some lanes, rows[i] each. bits (or NULL) gets the logits of lane 0, [T][V]. */
static bool step_lanes(Case *c, const char *how, MossModel *model, Lane *const *lanes, const int64_t *rows, uint32_t n,
                       float *bits) {
    MossSegment segments[CASE_SEQUENCES] = {0};
    for (uint32_t i = 0; i < n; i++) {
        segments[i] =
            (MossSegment){lanes[i]->state, c->tokens[lanes[i]->sequence] + lanes[i]->at, (uint32_t)rows[i], MOSS_ALL_LOGITS};
    }
    if (!case_ok(c, how, moss_step(model, segments, n))) return false;
    uint32_t row = 0;
    for (uint32_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < rows[i]; j++, row++) {
            const float *logits = moss_logits(model, row);
            if (!case_near(c, how, lanes[i]->sequence, lanes[i]->at + j, logits)) return false;
            if (i == 0 && bits != NULL) memcpy(bits + (lanes[i]->at + j) * c->V, logits, (size_t)c->V * sizeof *bits);
        }
        lanes[i]->at += rows[i];
    }
    return true;
}

static bool feed(Case *c, const char *how, MossModel *model, Lane *lane, int64_t chunk, int64_t end, float *bits) {
    bool good = true;
    while (good && lane->at < end) {
        int64_t rows = end - lane->at < chunk ? end - lane->at : chunk;
        good = step_lanes(c, how, model, &lane, &rows, 1, bits);
    }
    return good;
}

/* The same steps give the same bits. */
static bool run_chunks(Case *c, const char *how, MossModel *model, int64_t chunk, int64_t end) {
    float *bits[2];
    bool good = true;
    for (int i = 0; i < 2; i++) bits[i] = calloc((size_t)(end * c->V), sizeof(float));
    for (int i = 0; i < 2 && good; i++) {
        Lane lane;
        good = open_lane(c, model, 0, &lane) && feed(c, how, model, &lane, chunk, end, bits[i]);
        moss_state_free(lane.state);
    }
    if (good && memcmp(bits[0], bits[1], (size_t)(end * c->V) * sizeof(float)) != 0)
        good = case_fail(c, "%s: other bits the second time", how);
    free(bits[0]);
    free(bits[1]);
    return good;
}

/* Two sequences in steps that mix pieces of prompts, single tokens, and a sequence that pauses. */
static bool run_batch(Case *c, MossModel *model, const char *path) {
    Rng rng = {c->seed + 99};
    (void)path;
    Lane lane[CASE_SEQUENCES] = {0};
    bool good = true;
    for (int i = 0; i < CASE_SEQUENCES && good; i++) good = open_lane(c, model, i, &lane[i]);
    while (good && (lane[0].at < c->T || lane[1].at < c->T)) {
        Lane *some[CASE_SEQUENCES];
        int64_t rows[CASE_SEQUENCES];
        uint32_t n = 0;
        for (int i = 0; i < CASE_SEQUENCES; i++) {
            int64_t left = c->T - lane[i].at, wanted = rng_chance(&rng, 40) ? 1 : rng_between(&rng, 1, 40);
            if (left == 0 || rng_chance(&rng, 15)) continue;
            some[n] = &lane[i];
            rows[n++] = wanted < left ? wanted : left;
        }
        if (n > 0) good = step_lanes(c, "batch", model, some, rows, n, NULL);
    }
    for (int i = 0; i < CASE_SEQUENCES; i++) moss_state_free(lane[i].state);
    return good;
}

/* ---------------------------------------------------------------------------------------------- states */

static bool replace(Case *c, const char *how, MossState **state, MossError error, MossState *other) {
    if (!case_ok(c, how, error)) return false;
    moss_state_free(*state);
    *state = other;
    return true;
}

/* In place of the state a copy of it, or what a file of it holds. */
static bool clone_state(Case *c, MossState **state) {
    MossState *other = NULL;
    MossError error = moss_state_clone(*state, &other);
    return replace(c, "a clone", state, error, other);
}

static bool reload_state(Case *c, MossModel *model, MossState **state, const char *path) {
    MossState *other = NULL;
    if (!case_ok(c, "saving", moss_state_save(*state, path))) return false;
    MossError error = moss_state_load(model, path, &other);
    return replace(c, "loading", state, error, other);
}

static bool run_states(Case *c, MossModel *model, const char *path) {
    int64_t third = c->T / 3, end = c->T < 3 * FEW ? c->T : 3 * FEW;
    Lane lane;
    if (third == 0 || end < third + 4) return true;
    bool good = open_lane(c, model, 0, &lane) && feed(c, "before a clone", model, &lane, third, third, NULL) &&
                clone_state(c, &lane.state) && feed(c, "after a clone", model, &lane, 1, third + 2, NULL) &&
                reload_state(c, model, &lane.state, path) && feed(c, "after loading", model, &lane, 5, end - 1, NULL) &&
                case_ok(c, "a checkpoint", moss_state_checkpoint(lane.state)) &&
                feed(c, "after a checkpoint", model, &lane, 1, end, NULL) &&
                case_ok(c, "going back", moss_state_rewind(lane.state, 1));
    lane.at = end - 1;
    good = good && feed(c, "after going back", model, &lane, 1, end, NULL);
    moss_state_free(lane.state);
    return good;
}

/* Tokens that the GPU picks are those that are picked from its logits. */
static bool run_generate(Case *c, MossModel *model, MossSampler sampler) {
    enum { N = 6 };
    MossVocabulary vocabulary = {.limit = c->V, .eos = -1};
    int32_t picked[N];
    uint32_t done = 0;
    int64_t prompt = c->T < 4 ? 1 : 3;
    Lane lane, one;
    bool good =
        open_lane(c, model, 0, &lane) && open_lane(c, model, 0, &one) && feed(c, "a prompt", model, &lane, prompt, prompt, NULL);
    MossSampler mine = sampler;
    MossSequence sequence = {.state = lane.state, .sampler = &mine, .tokens = picked};
    int64_t room = c->program->max_positions > 0 ? c->program->max_positions - prompt : N;
    uint32_t count = room < N ? (uint32_t)room : N;
    good = good && case_ok(c, "generating", moss_generate(model, &vocabulary, &sequence, 1, count, &done));
    if (good && done != count) good = case_fail(c, "%u tokens were picked in place of %u", done, count);
    good = good && feed(c, "a prompt", model, &one, prompt, prompt, NULL);
    for (uint32_t i = 0; i < count && good; i++) {
        int32_t token = moss_sample(&sampler, moss_state_logits(one.state), c->V, c->V);
        if (token != picked[i]) good = case_fail(c, "the GPU picked %d as token %u, the CPU %d", picked[i], i, token);
        good = good && case_ok(c, "feeding", moss_feed(model, one.state, &token, 1, 0));
    }
    moss_state_free(lane.state);
    moss_state_free(one.state);
    return good;
}

static bool run_token_by_token(Case *c, MossModel *model, const char *path) {
    (void)path;
    return run_chunks(c, "token by token", model, 1, c->T < FEW ? c->T : FEW);
}
static bool run_few_rows(Case *c, MossModel *model, const char *path) {
    (void)path;
    return run_chunks(c, "chunks of 11", model, 11, c->T < 2 * FEW ? c->T : 2 * FEW);
}
static bool run_many_rows(Case *c, MossModel *model, const char *path) {
    int64_t most = c->program->max_rows;
    (void)path;
    return run_chunks(c, "chunks of 70", model, most < 70 ? most : 70, c->T) && run_chunks(c, "one prompt", model, most, c->T);
}
static bool run_generation(Case *c, MossModel *model, const char *path) {
    (void)path;
    return run_generate(c, model, (MossSampler){.top_p = 1, .state = c->seed}) &&
           run_generate(c, model, (MossSampler){.temperature = 0.9f, .top_k = 20, .top_p = 0.9f, .state = c->seed});
}

static bool is_late(const Options *o, double start) { return o->seconds > 0 && su_seconds() - start > o->seconds; }

static Outcome run_case(Case *c, MossDevice *device, const Options *o, const char *path, double start) {
    static bool (*const parts[])(Case *, MossModel *, const char *) = {run_token_by_token, run_few_rows, run_many_rows,
                                                                       run_batch,          run_states,   run_generation};
    MossModel *model = NULL;
    bool good = case_load(c, device, &model), late = false;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && good && !late; i++) {
        late = is_late(o, start);
        good = late || parts[i](c, model, path);
    }
    if (model != NULL) moss_model_free(model);
    return !good ? FAILED : late ? LEFT_OUT : PASSED;
}

/* ---------------------------------------------------------------------------------------------- many specs */

/* A process's share, as it comes. */
static void work(const Options *o, Progress *progress, int me, const char *directory, double start) {
    MossDevice *device = NULL;
    char path[512];
    snprintf(path, sizeof path, "%s/%d.state", directory, me);
    MossError error = moss_cuda_open(o->ordinal, &device);
    if (error.code != MOSS_OK) {
        printf("FAILED: %s\n", error.text);
        exit(1);
    }
    for (int64_t i; (i = progress->next++) < o->count;) {
        static const char *const words[OUTCOMES] = {"ok", "FAILED", "left out"};
        Case c = {0};
        Outcome outcome = LEFT_OUT;
        progress->running[me] = o->seed + (uint64_t)i + 1;
        if (!is_late(o, start))
            outcome = case_make(&c, &(CaseWants){.seed = o->seed + (uint64_t)i}) ? run_case(&c, device, o, path, start) : FAILED;
        progress->running[me] = 0;
        progress->by_outcome[outcome]++;
        if (o->verbose) {
            printf("%llu: %s, off by %.2g of the rms, after %.1f s\n", (unsigned long long)c.seed, words[outcome], c.worst,
                   su_seconds() - start);
        }
        fflush(stdout);
        case_free(&c);
    }
    unlink(path);
    moss_device_free(device);
}

/* Whether all processes ended well; each has a context of its own, so that one that dies takes no other with it. */
static bool run_specs(const Options *o, const char *directory, double start) {
    Progress *progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t children[MAX_PROCESSES];
    if (progress == MAP_FAILED) return false;
    fflush(stdout);
    for (int i = 0; i < o->processes; i++) {
        children[i] = fork();
        if (children[i] != 0) continue;
        work(o, progress, i, directory, start);
        exit(0); /* the emulated driver looks for leaks */
    }
    for (int i = 0; i < o->processes; i++) {
        int status = 0;
        waitpid(children[i], &status, 0);
        if (status == 0) continue;
        unsigned long long running = progress->running[i];
        printf("FAILED: a process ended with status %#x", status);
        printf(running > 0 ? " at --seed %llu --count 1\n" : "\n", running - 1);
        progress->by_outcome[FAILED]++;
    }
    printf("%lld specs as eval64 has them, %lld failed, %lld left out for want of time; %.0f s in %d processes\n",
           (long long)progress->by_outcome[PASSED], (long long)progress->by_outcome[FAILED],
           (long long)progress->by_outcome[LEFT_OUT], su_seconds() - start, o->processes);
    bool good = progress->by_outcome[FAILED] == 0 && progress->by_outcome[PASSED] > 0;
    munmap(progress, sizeof *progress);
    return good;
}

/* ---------------------------------------------------------------------------------------------- nothing is lost */

static uint64_t free_memory(MossDevice *device) {
    RtCuda *gpu = rt_cuda_of(device);
    size_t available = 0, whole = 0;
    gpu->driver.memory_info(&available, &whole);
    return available;
}

static bool cycle(Case *c, MossModel *model, MossState **state, const char *path) {
    int32_t token = c->tokens[0][0];
    return reload_state(c, model, state, path) && clone_state(c, state) &&
           case_ok(c, "a token", moss_feed(model, *state, &token, 1, 0)) &&
           case_ok(c, "a checkpoint", moss_state_checkpoint(*state)) && case_ok(c, "going back", moss_state_rewind(*state, 0));
}

static bool run_cycles(const Options *o, const char *directory, double start) {
    static const char yaml[] = "mossc: 1\nname: cycles\nvocab_size: 64\nd_model: 32\ndefaults: {ssm: {d_state: 4}}\n"
                               "stack:\n  - ssm: {}\n  - mlp: {d_ff: 48}\n";
    MossDevice *device = NULL;
    MossModel *model = NULL;
    MossState *state = NULL;
    Case c = {0};
    char path[512];
    int64_t done = 0;
    snprintf(path, sizeof path, "%s/cycles.state", directory);
    bool good = case_make(&c, &(CaseWants){.seed = 1, .yaml = yaml, .T = 8}) &&
                case_ok(&c, "the GPU", moss_cuda_open(o->ordinal, &device)) && case_load(&c, device, &model) &&
                case_ok(&c, "a state", moss_state_create(model, &state)) && cycle(&c, model, &state, path);
    uint64_t before = good ? free_memory(device) : 0;
    while (good && done < o->cycles && !is_late(o, start)) {
        good = cycle(&c, model, &state, path);
        done++;
    }
    if (good && done == 0) good = case_fail(&c, "there was no time for a single cycle");
    uint64_t after = good ? free_memory(device) : 0;
    if (good && before != after)
        good = case_fail(&c, "%llu bytes were free, then %llu", (unsigned long long)before, (unsigned long long)after);
    printf("%lld of %lld cycles of save, load, clone and checkpoint: free memory %s\n", (long long)done, (long long)o->cycles,
           good ? "as before" : "FAILED");
    moss_state_free(state);
    if (model != NULL) moss_model_free(model);
    moss_device_free(device);
    case_free(&c);
    unlink(path);
    return good;
}

/* ---------------------------------------------------------------------------------------------- all of it */

static Options parse(int argc, char **argv) {
    static const struct option names[] = {{"seed", required_argument, 0, 's'},    {"count", required_argument, 0, 'n'},
                                          {"cycles", required_argument, 0, 'y'},  {"processes", required_argument, 0, 'p'},
                                          {"ordinal", required_argument, 0, 'o'}, {"seconds", required_argument, 0, 't'},
                                          {"verbose", no_argument, 0, 'v'},       {0, 0, 0, 0}};
    Options o = {.seed = 1, .count = 4, .processes = 1};
    for (int letter; (letter = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (letter) {
        case 's': o.seed = strtoull(optarg, NULL, 10); break;
        case 'n': o.count = strtoll(optarg, NULL, 10); break;
        case 'y': o.cycles = strtoll(optarg, NULL, 10); break;
        case 'p': o.processes = atoi(optarg); break;
        case 'o': o.ordinal = atoi(optarg); break;
        case 't': o.seconds = atof(optarg); break;
        case 'v': o.verbose = true; break;
        default:
            fprintf(stderr, "usage: test_device [--seed S] [--count N] [--cycles N] [--processes N] [--ordinal N] [--seconds T] "
                            "[--verbose]\n");
            exit(2);
        }
    }
    if (o.processes < 1 || o.processes > MAX_PROCESSES) o.processes = MAX_PROCESSES;
    return o;
}

int main(int argc, char **argv) {
    Options o = parse(argc, argv);
    double start = su_seconds();
    char directory[256];
    const char *compiler = getenv("MOSSC_CXX"), *parent = getenv("TMPDIR");
    if (compiler != NULL && compiler[0] == '\0') {
        printf("skipped: there is no C++ compiler for the emulated GPU\n");
        return SKIPPED;
    }
    snprintf(directory, sizeof directory, "%s/mossc-device-XXXXXX", parent != NULL ? parent : "/tmp");
    if (mkdtemp(directory) == NULL) {
        perror(directory);
        return 1;
    }
    bool good = o.count == 0 || run_specs(&o, directory, start);
    good = (o.cycles == 0 || run_cycles(&o, directory, start)) && good;
    rmdir(directory);
    return good ? 0 : 1;
}
