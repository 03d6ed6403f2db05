#include "driver/fresh.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/fresh.h"
#include "support/alloc.h"
#include "support/table.h"

static RtFreshTensor fresh_tensor(const FeTensor *tensor) {
    static const RtFreshKind kinds[] = {
        [FE_INIT_UNIFORM_FAN] = RT_FRESH_UNIFORM_FAN,
        [FE_INIT_NORMAL] = RT_FRESH_NORMAL,
        [FE_INIT_ONES] = RT_FRESH_ONES,
        [FE_INIT_ZEROS] = RT_FRESH_ZEROS,
        [FE_INIT_DT_BIAS] = RT_FRESH_DT_BIAS,
        [FE_INIT_A_LOG] = RT_FRESH_A_LOG,
        [FE_INIT_LOG_UNIFORM] = RT_FRESH_LOG_UNIFORM,
    };
    SU_TABLE_FULL(kinds, FE_INIT_LOG_UNIFORM + 1);
    RtFreshTensor fresh = {.tensor = {.name = tensor->name, .rank = tensor->rank},
                           .kind = kinds[tensor->init],
                           .fan = tensor->fan,
                           .scale = tensor->init_scale};
    memcpy(fresh.tensor.shape, tensor->shape, sizeof fresh.tensor.shape);
    return fresh;
}

static RtFreshTensor *fresh_tensors(DrBuild *build, SuArena *arena, size_t *out_count) {
    const FeTensor *tensors = fe_tensors(&build->spec, out_count);
    RtFreshTensor *fresh = SU_NEW_ARRAY(arena, RtFreshTensor, *out_count);
    for (size_t i = 0; i < *out_count; i++) fresh[i] = fresh_tensor(&tensors[i]);
    return fresh;
}

static bool write_fresh_unguarded(DrBuild *build, uint64_t seed, const DrProgress *progress, const char *path) {
    size_t count;
    SuArena arena = {0};
    const RtFreshTensor *fresh = fresh_tensors(build, &arena, &count);
    dr_progress_begin(progress, "drawing weights", "bytes", true);
    bool ok = rt_fresh_write(path, fresh, count, seed, progress->update, progress->context, &build->diags);
    dr_progress_end(progress);
    su_arena_free(&arena);
    return ok;
}

bool dr_write_fresh(DrBuild *build, uint64_t seed, const DrProgress *progress, const char *path) {
    su_arena_settle(&build->arena);
    SuGuard guard;
    if (SU_CAUGHT(&guard, &build->diags, "writing fresh weights")) return false;
    bool result = write_fresh_unguarded(build, seed, progress, path);
    su_guard_end(&guard);
    return result;
}

/* ---------------------------------------------------------------------------------------------- without a file */

typedef struct Drawn {
    const RtFreshTensor *tensors;
    float **elements; /* [count], malloced */
    size_t count;
} Drawn;

static uint64_t elements_of(const RtFreshTensor *tensor) {
    uint64_t n = 1;
    for (int i = 0; i < tensor->tensor.rank; i++) n *= (uint64_t)tensor->tensor.shape[i];
    return n; /* below 2^48: fe_spec_load saw to it */
}

static bool draw(Drawn *drawn, uint64_t seed) {
    for (size_t i = 0; i < drawn->count; i++) {
        uint64_t n = elements_of(&drawn->tensors[i]);
        drawn->elements[i] = su_malloc(n * sizeof(float));
        if (!drawn->elements[i]) return false;
        RtFreshStream stream = rt_fresh_start(&drawn->tensors[i], seed);
        rt_fresh_next(&stream, n, drawn->elements[i]);
    }
    return true;
}

/* A MossTensorLookup. */
static const float *look_up(void *context, const char *name) {
    const Drawn *drawn = context;
    for (size_t i = 0; i < drawn->count; i++)
        if (strcmp(drawn->tensors[i].tensor.name, name) == 0) return drawn->elements[i];
    return NULL;
}

static bool fresh_model_unguarded(DrBuild *build, uint64_t seed, const MossOptions *options, MossModel **out_model) {
    SuArena arena = {0};
    Drawn drawn;
    drawn.tensors = fresh_tensors(build, &arena, &drawn.count);
    drawn.elements = SU_NEW_ARRAY(&arena, float *, drawn.count);
    bool ok = draw(&drawn, seed);
    if (ok)
        ok = dr_take_ok(build, moss_model_from_memory(build->program, dr_codes(build), look_up, &drawn, options, out_model));
    else
        su_out_of_memory(&build->diags, "drawing weights");
    for (size_t i = 0; i < drawn.count; i++) su_free(drawn.elements[i]);
    su_arena_free(&arena);
    return ok;
}

bool dr_fresh_model(DrBuild *build, uint64_t seed, const MossOptions *options, MossModel **out_model) {
    *out_model = NULL;
    su_arena_settle(&build->arena);
    SuGuard guard;
    if (SU_CAUGHT(&guard, &build->diags, "drawing fresh weights")) return false;
    bool result = fresh_model_unguarded(build, seed, options, out_model);
    su_guard_end(&guard);
    return result;
}
