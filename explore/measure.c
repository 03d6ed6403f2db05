#include "explore/measure.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/device.h"
#include "explore/lock.h"
#include "explore/measured.h"
#include "explore/quality.h"
#include "measure/explain.h"
#include "measure/speed.h"
#include "support/clock.h"
#include "support/digest.h"
#include "support/file.h"

enum { MOST_ATTEMPTS = 3, MOST_REASON = 1000 };

typedef struct Session {
    ExStudy *study;
    const ExDevice *device;
    const ExMeasureOptions *options;
    SuDiags *diags;
    SuArena arena;
    int lines, lock, study_lock; /* descriptors; -1: closed */
    uint64_t *done; /* [n_done] points that have a line, rising */
    size_t n_done, done_capacity;
    size_t measured, failed;
} Session;

static const char *path_of(Session *s, const char *name) { return su_printf(&s->arena, "%s/%s", s->study->directory, name); }

static bool fail(Session *s, const char *path, const char *what) {
    return su_error(s->diags, su_file_span(s->diags, path), NULL, "%s: %s", what, su_file_error(errno));
}

/* ---------------------------------------------------------------------------------------------- one at a time on a machine */

static const char *lock_path(SuArena *arena) {
    const char *directory = getenv("MOSSC_LOCK_DIR");
    return su_printf(arena, "%s/mossc-measure.lock", directory ? directory : "/tmp");
}

/* Waits, if another process measures. */
static bool take_lock(Session *s) {
    s->lock = ex_lock(lock_path(&s->arena), "waiting for another measurement on this machine", &s->options->progress, s->diags);
    return s->lock >= 0;
}

/* And if another process, of this machine or not, writes lines of this study. */
static bool take_study(Session *s) {
    s->study_lock = ex_lock_study(s->study->directory, &s->options->progress, s->diags);
    return s->study_lock >= 0;
}

/* ---------------------------------------------------------------------------------------------- lines */

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool is_done(const Session *s, uint64_t index) {
    return s->n_done > 0 && bsearch(&index, s->done, s->n_done, sizeof *s->done, by_value);
}

/* In its place: points come in any order. */
static void note_done(Session *s, uint64_t index) {
    s->done = su_grow(&s->arena, s->done, &s->done_capacity, s->n_done + 1, sizeof *s->done);
    size_t at = s->n_done++;
    for (; at > 0 && s->done[at - 1] > index; at--) s->done[at] = s->done[at - 1];
    s->done[at] = index;
}

/* For ex_measured_read; context is the session. */
static bool take_line(void *context, const cJSON *line, SuSpan span) {
    Session *s = context;
    uint64_t index;
    if (!ex_line_index(line, span, &index, s->diags)) return false;
    if (is_done(s, index)) return true;
    note_done(s, index);
    *(cJSON_HasObjectItem(line, "error") ? &s->failed : &s->measured) += 1;
    return true;
}

/* What earlier runs wrote. A last line without its end was being written when the process was killed: it is cut off. */
static bool read_lines(Session *s, const char *path) {
    size_t size;
    if (!ex_measured_read(s->study->directory, take_line, s, &size, s->diags)) return false;
    return ftruncate(s->lines, (off_t)size) == 0 || fail(s, path, "cannot cut off an unfinished line");
}

/* Appends a line and syncs it; a line that could not be written whole is taken back. */
static bool write_line(Session *s, const char *path, cJSON *line) {
    char *text = cJSON_PrintUnformatted(line);
    cJSON_Delete(line);
    if (!text) return su_out_of_memory(s->diags, "for a measurement");
    size_t size = strlen(text), written = 0;
    text[size++] = '\n'; /* in place of its NUL */
    off_t begin = lseek(s->lines, 0, SEEK_END);
    bool ok = begin >= 0;
    while (ok && written < size) {
        ssize_t n = write(s->lines, text + written, size - written);
        ok = n > 0 || (n < 0 && errno == EINTR);
        if (n > 0) written += (size_t)n;
    }
    ok = ok && fsync(s->lines) == 0;
    int error = errno;
    cJSON_free(text);
    if (ok) return true;
    if (begin >= 0 && ftruncate(s->lines, begin) != 0)
        su_note(s->diags, su_file_span(s->diags, path), NULL, "its last line is cut");
    errno = error;
    return fail(s, path, "cannot write a measurement");
}

/* ---------------------------------------------------------------------------------------------- attempts */

/* The file "measuring" names the point that is at work and how often it was begun: after kill -9 it is still there. */
static bool begin_attempt(Session *s, uint64_t index, int *out_attempt) {
    const char *path = path_of(s, "measuring");
    char *text;
    size_t size;
    uint64_t last;
    int attempts = 0;
    *out_attempt = 1;
    if (access(path, F_OK) == 0 && su_read_file(&s->arena, path, 256, &text, &size, s->diags) &&
        sscanf(text, "%" SCNu64 " %d", &last, &attempts) == 2 && last == index)
        *out_attempt = attempts + 1;
    SuOut out;
    if (!su_out_open(path, &out, s->diags)) return false;
    fprintf(out.file, "%" PRIu64 " %d\n", index, *out_attempt);
    return su_out_commit(&out, s->diags);
}

static void end_attempts(Session *s) { unlink(path_of(s, "measuring")); }

/* ---------------------------------------------------------------------------------------------- a point */

/* Phases that are alike, for calibration: the numbers of one of them, the seconds of all. */
static cJSON *line_json(const MsExplained *x, const MsLine *line) {
    const PgPhase *phase = &x->program->steps[x->list].phases[line->phase];
    const PgKernel *kernel = &x->program->kernels[phase->kernel];
    PgCost cost = pg_phase_cost(x->program, phase, &x->work);
    MsPhaseWork one = ms_phase_work(phase, kernel, &cost, &x->work, pg_mode_of(x->list), NULL, x->threads);
    cJSON *item = cJSON_CreateObject();
    cJSON_AddStringToObject(item, "kernel", pg_kind_word(kernel->kind));
    cJSON_AddStringToObject(item, "weights", ir_dtype_word((IrDtype)one.class.dtype));
    cJSON_AddStringToObject(item, "experts", ms_experts_word((PgSelect)one.class.experts));
    cJSON_AddStringToObject(item, "name", line->name);
    cJSON_AddNumberToObject(item, "phases", (double)line->times);
    cJSON_AddNumberToObject(item, "stages", (double)line->stages);
    cJSON_AddNumberToObject(item, "seconds", line->working + line->waiting);
#define MS_NUMBER(name) cJSON_AddNumberToObject(item, #name, (double)one.name);
#include "measure/phase_numbers.def"
    return item;
}

static cJSON *step_json(const MsExplained *x) {
    cJSON *item = cJSON_CreateObject();
    cJSON_AddStringToObject(item, "mode", ms_step_word(pg_mode_of(x->list)));
    cJSON_AddNumberToObject(item, "rows", (double)x->work.rows);
    cJSON_AddNumberToObject(item, "position", (double)x->work.position);
    cJSON_AddNumberToObject(item, "seconds", x->step_seconds);
    cJSON_AddNumberToObject(item, "profiled_seconds", x->profiled_seconds);
    cJSON_AddNumberToObject(item, "others", x->others);
    cJSON_AddNumberToObject(item, "read_bytes", (double)x->read_bytes);
    cJSON *limits = cJSON_AddObjectToObject(item, "limits"), *lines = cJSON_AddArrayToObject(item, "lines");
    cJSON_AddNumberToObject(limits, "read_gb_s", x->limits.read_gb_s);
    cJSON_AddNumberToObject(limits, "panel_gflop_s", x->limits.panel_gflop_s);
    cJSON_AddNumberToObject(limits, "exp_g_s", x->limits.exp_g_s);
    for (size_t p = 0; p < x->n_parts; p++)
        for (size_t l = 0; l < x->parts[p].n_lines; l++) cJSON_AddItemToArray(lines, line_json(x, &x->parts[p].lines[l]));
    return item;
}

/* The steps that are measured: those of the workload where one step is a prompt, else what ms_measure_steps can do, beside
 * speeds. */
static size_t explained_steps(const DrBuild *build, const ExWorkload *w, SuArena *arena, MsExplained out[2]) {
    int64_t rows = w->prefill < build->program->max_rows ? w->prefill : build->program->max_rows;
    PgWork token = ms_decode_work(1, w->prefill + w->decode / 2), prompt = ms_prompt_work(rows, 1, rows, 0);
    out[0] = ms_explain_step(&build->spec, build->program, PG_ROW, token, arena);
    if (rows > 1) out[1] = ms_explain_step(&build->spec, build->program, PG_BLOCK, prompt, arena);
    return rows > 1 ? 2 : 1;
}

/* Sequences that share steps, or prompts of several steps: measured as a whole, too. */
static bool measure_speed(DrBuild *build, const ExWorkload *w, int64_t rounds, cJSON *out) {
    MsPlan plan = {.prefill = w->prefill, .decode = w->decode, .batch = w->batch, .repeat = rounds};
    MsSpeed speed;
    if (!ms_fits(build, &plan) || !ms_measure_speed(build, &plan, &speed)) return false;
    double tokens = (double)(w->batch * w->prefill);
    if (w->prefill > 0) cJSON_AddNumberToObject(out, "prefill_ms", 1e3 * tokens / speed.prefill_tok_s.max);
    cJSON_AddNumberToObject(out, "decode_ms", 1e3 * (double)w->batch / speed.decode_tok_s.max);
    return true;
}

static bool measure_build(Session *s, DrBuild *build, cJSON *out) {
    const ExWorkload *w = &s->study->space.workload;
    DrTexts none = {0};
    DrBuildOptions options = {.spec = s->study->base.source->path,
                              .weights = &none,
                              .threads = s->device->model.threads,
                              .no_tune = true}; /* points are compared, and some kernels may be tuned, others not */
    MsExplained steps[2];
    if (!dr_build_device(build, &options) || !dr_build_graph(build) || !dr_build_program(build, &options)) return false;
    double start = su_seconds();
    if (!dr_build_code(build, &options)) return false;
    if (build->kernels_found == 0) cJSON_AddNumberToObject(out, "compile_ms", 1e3 * (su_seconds() - start));
    cJSON_AddNumberToObject(out, "code_bytes", (double)cg_code_bytes(build->compiled));
    size_t n = explained_steps(build, w, &build->arena, steps);
    if (!ms_measure_steps(build, &options, s->options->rounds, steps, n)) return false;
    bool whole = w->batch > 1 || w->prefill > build->program->max_rows;
    if (whole && !measure_speed(build, w, s->options->rounds, out)) return false;
    if (!whole && w->prefill > 0) cJSON_AddNumberToObject(out, "prefill_ms", 1e3 * steps[n - 1].step_seconds);
    if (!whole) cJSON_AddNumberToObject(out, "decode_ms", 1e3 * steps[0].step_seconds);
    cJSON *list = cJSON_AddArrayToObject(out, "steps");
    for (size_t i = 0; i < n; i++) cJSON_AddItemToArray(list, step_json(&steps[i]));
    return true;
}

/* What the space's command says of the spec, if there is one. */
static bool judge(const Session *s, DrBuild *build, cJSON *out) {
    const char *command = s->study->space.quality_command;
    double quality;
    if (!command) return true;
    if (!ex_quality_run(command, &build->spec, &quality, &build->diags)) return false;
    cJSON_AddNumberToObject(out, "quality", quality);
    return true;
}

/* Why it failed, in one line. */
static void add_error(cJSON *line, const SuDiags *diags) {
    const char *what = diags->failure.code ? diags->failure.text : "failed without a message";
    for (size_t i = 0; i < diags->count && !diags->failure.code; i++) {
        if (diags->items[i].severity != SU_ERROR) continue;
        what = diags->items[i].message;
        break;
    }
    char text[MOST_REASON];
    snprintf(text, sizeof text, "%s", what);
    cJSON_AddStringToObject(line, "error", text);
}

/* The line of a point, measured or failed. times, quality: what is asked for. */
static cJSON *measure_point(Session *s, uint64_t index, bool times, bool quality) {
    DrBuild build = {.has_spec = true};
    cJSON *line = cJSON_CreateObject();
    cJSON_AddNumberToObject(line, "index", (double)index);
    bool ok = ex_study_spec(s->study, index, &build.spec, &build.diags);
    if (ok) {
        char hex[SU_HEX];
        SuDigest digest;
        memcpy(digest.bytes, build.spec.hash, sizeof digest.bytes);
        cJSON_AddStringToObject(line, "spec_hash", su_digest_hex(&digest, hex));
        if (times) {
            cJSON_AddStringToObject(line, "device", s->device->name);
            cJSON_AddNumberToObject(line, "threads", (double)s->device->model.threads);
        }
        ok = (!times || measure_build(s, &build, line)) && (!quality || judge(s, &build, line));
    }
    if (!ok) add_error(line, &build.diags);
    *(ok ? &s->measured : &s->failed) += 1;
    dr_build_free(&build);
    return line;
}

static cJSON *gave_up(Session *s, uint64_t index) {
    cJSON *line = cJSON_CreateObject();
    cJSON_AddNumberToObject(line, "index", (double)index);
    cJSON_AddStringToObject(line, "error", "the process was killed three times while it measured this point");
    s->failed++;
    return line;
}

/* ---------------------------------------------------------------------------------------------- the whole */

static bool measure_all(Session *s, const char *path, const uint64_t *points, size_t n) {
    size_t left = s->options->points > s->n_done ? (size_t)s->options->points - s->n_done : 0, done = 0;
    dr_progress_begin(&s->options->progress, "measuring", "points", true);
    bool ok = true;
    for (size_t i = 0; i < n && done < left && ok; i++) {
        int attempt;
        if (is_done(s, points[i])) continue;
        ok = begin_attempt(s, points[i], &attempt);
        cJSON *line = !ok ? NULL : attempt > MOST_ATTEMPTS ? gave_up(s, points[i]) : measure_point(s, points[i], true, true);
        ok = ok && write_line(s, path, line);
        if (ok) note_done(s, points[i]);
        dr_progress_update(&s->options->progress, ++done, left);
    }
    if (ok) end_attempts(s);
    dr_progress_end(&s->options->progress);
    return ok;
}

static bool measure_unguarded(Session *s) {
    const char *path = path_of(s, "measurements.jsonl");
    uint64_t *points;
    size_t n;
    if (!ex_candidates(s->study, (size_t)(s->device - s->study->devices), s->options, &s->arena, &points, &n, s->diags))
        return false;
    if (!take_lock(s) || !take_study(s)) return false;
    s->lines = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (s->lines < 0) return fail(s, path, "cannot open");
    return read_lines(s, path) && measure_all(s, path, points, n);
}

static Session begin_session(ExStudy *study, size_t device, const ExMeasureOptions *options, SuDiags *diags) {
    return (Session){.study = study,
                     .device = device < study->n_devices ? &study->devices[device] : NULL,
                     .options = options,
                     .diags = diags,
                     .arena = SU_ARENA_FREE,
                     .lines = -1,
                     .lock = -1,
                     .study_lock = -1};
}

static void end_session(Session *s) {
    if (s->lines >= 0) close(s->lines);
    if (s->study_lock >= 0) close(s->study_lock);
    if (s->lock >= 0) close(s->lock);
    su_arena_free(&s->arena);
}

bool ex_measure_point(ExStudy *study, size_t device, uint64_t index, bool times, bool quality, const ExMeasureOptions *options,
                      cJSON **out_line, SuDiags *diags) {
    Session s = begin_session(study, device, options, diags);
    SuGuard guard;
    volatile bool ok = false;
    *out_line = NULL;
    if (!SU_CAUGHT(&guard, diags, "measuring")) {
        ok = !times || take_lock(&s);
        if (ok) *out_line = measure_point(&s, index, times, quality);
        su_guard_end(&guard);
    }
    end_session(&s);
    return ok;
}

bool ex_measure(ExStudy *study, size_t device, const ExMeasureOptions *options, size_t *out_measured, size_t *out_failed,
                SuDiags *diags) {
    Session s = begin_session(study, device, options, diags);
    SuGuard guard;
    volatile bool ok = false;
    if (!SU_CAUGHT(&guard, diags, "measuring")) {
        ok = measure_unguarded(&s);
        su_guard_end(&guard);
    }
    *out_measured = s.measured;
    *out_failed = s.failed;
    end_session(&s);
    return ok;
}
