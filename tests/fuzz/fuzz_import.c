/* libFuzzer target: a config.json of any text, and tensors of any names and shapes, are planned, held against the spec that comes of them and
 * written, or refused with a reason. An input is the config up to its first NUL, and behind it a line a tensor: NAME D0 D1 … */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/folder.h"
#include "import/model.h"
#include "import/write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 1 << 16, LINE = 256 }; /* numbers of a tensor */

enum { MOST_TENSORS = 4096 };

/* Exactly the numbers of each tensor, so that a read beyond them is seen. */
static float *tensors[MOST_TENSORS];
static int n_tensors;

static const uint8_t *numbers(long long count) {
    float *own = n_tensors < MOST_TENSORS ? malloc((size_t)count * sizeof *own) : NULL;
    if (!own) return NULL;
    for (long long i = 0; i < count; i++) own[i] = 1 + (float)i * 0x1p-16f;
    tensors[n_tensors++] = own;
    return (const uint8_t *)own;
}

static void free_numbers(void) {
    while (n_tensors) free(tensors[--n_tensors]);
}

/* A line of the table; what is none adds nothing. */
static void add_tensor(ImSource *source, const char *line, SuDiags *diags) {
    char name[LINE];
    int at = 0, rank = 0;
    long long shape[4], all = 1;
    if (sscanf(line, "%200s%n", name, &at) != 1) return;
    for (int n; rank < 4 && sscanf(line + at, "%5lld%n", &shape[rank], &n) == 1; at += n) {
        if (shape[rank] < 1 || (all *= shape[rank]) > MOST) return;
        rank++;
    }
    int64_t out[4];
    for (int i = 0; i < rank; i++) out[i] = shape[i];
    const uint8_t *data = numbers(all);
    if (data) im_source_add(source, name, "input", NULL, IM_F32, out, rank, data, diags);
}

static void add_tensors(ImSource *source, const char *text, const char *end, SuDiags *diags) {
    while (text < end) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t size = (size_t)((stop ? stop : end) - text);
        char line[LINE];
        snprintf(line, sizeof line, "%.*s", (int)(size < LINE ? size : LINE - 1), text);
        add_tensor(source, line, diags);
        text += size + 1;
    }
}

static uint64_t size_of(FeSpec *spec) {
    size_t count;
    const FeTensor *tensors = fe_tensors(spec, &count);
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t n = 1;
        for (int d = 0; d < tensors[i].rank; d++) n *= (uint64_t)tensors[i].shape[d];
        sum += n;
    }
    return sum;
}

static void make(ImCheckpoint *checkpoint, const ImOptions *options, SuDiags *diags) {
    static RtWorkers *workers;
    static const DrProgress silent;
    ImModel model;
    if (!workers) workers = rt_workers_create(1, true);
    if (im_model_make(checkpoint, options, &model, diags)) {
        ImClasses classes = {0};
        if (size_of(&model.spec) < 1 << 20)
            im_write_weights(&model.plan, &model.spec, "/dev/null", workers, &silent, &classes, diags);
        su_arena_free(&classes.arena);
    } else if (!diags->errors) {
        abort(); /* every refusal has a reason */
    }
    su_diags_keep(diags);
    im_model_free(&model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t text_size = nul ? (size_t)(nul - data) : size;
    ImOptions options = {.input = "input", .a_activation = "softplus", .dtype = (ImDtype)(size % 5), .exact = size % 2};
    ImCheckpoint checkpoint = {.what = "folder", .texts = {.bos = -1}};
    SuDiags diags = {0};
    SuJson json;
    checkpoint.source.path = "input";
    char *text = su_strndup(&checkpoint.arena, size ? (const char *)data : "", text_size);
    if (nul) add_tensors(&checkpoint.source, (const char *)nul + 1, (const char *)data + size, &diags);
    if (im_source_settle(&checkpoint.source, &diags) && im_json_parse(text, text_size, "input", &json, &diags)) {
        SuGuard guard;
        checkpoint.config = im_config(json.root, "input", &checkpoint.arena, &diags);
        if (SU_CAUGHT(&guard, &diags, "importing")) { /* a bug, or memory without end */
            fprintf(stderr, "%s\n", guard.failure.text);
            abort();
        }
        make(&checkpoint, &options, &diags);
        su_guard_end(&guard);
        su_json_free(&json);
    } else if (!diags.errors) {
        abort();
    }
    su_arena_free(&checkpoint.source.arena);
    su_arena_free(&checkpoint.arena);
    su_diags_free(&diags);
    free_numbers();
    return 0;
}
