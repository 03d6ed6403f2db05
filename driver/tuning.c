#include "driver/tuning.h"

#include "driver/cache_directory.h"

static const char *find_directory(DrBuild *build, const DrBuildOptions *options) {
    return options->cache_directory ? options->cache_directory : dr_cache_directory(&build->arena);
}

const char *dr_tuning_directory(DrBuild *build, const DrBuildOptions *options) {
    const char *directory = find_directory(build, options);
    if (!directory) dr_no_cache_directory(&build->diags);
    return directory;
}

void dr_tell_damaged(DrBuild *build, const CgCache *tuning) {
    uint32_t damaged = cg_cache_stats(tuning).damaged;
    if (!damaged) return;
    su_warning(&build->diags, (SuSpan){0}, "run `mossc tune` again, or `mossc cache --clear`",
               "%u stored schedule%s damaged or written by somebody else and ignored", damaged, damaged > 1 ? "s are" : " is");
}

bool dr_build_schedules(DrBuild *build, const DrBuildOptions *options) {
    if (build->schedules) return true;
    if (!build->has_target && !cg_target_host(options->isa, &build->target, &build->diags)) return false;
    build->has_target = true;
    const PgProgram *program = build->program;
    CgSchedule *schedules = SU_NEW_ARRAY(&build->arena, CgSchedule, program->n_kernels + 1);
    const char *directory = options->no_tune || !build->target.native ? NULL : find_directory(build, options);
    build->schedules = schedules;
    if (!directory) {
        for (uint32_t i = 0; i < program->n_kernels; i++) schedules[i] = cg_schedule_default(&build->target, &program->kernels[i]);
        return true;
    }
    CgCache *tuning = cg_tuning_open(directory);
    build->kernels_tuned = cg_tuned_schedules(tuning, &build->target, program, schedules);
    dr_tell_damaged(build, tuning);
    cg_cache_close(tuning);
    return true;
}
