#include "driver/device.h"
#include "driver/target.h"

#include <stdlib.h>
#include <string.h>

static const DrDeviceKind *const kinds[] = {&dr_cpu, &dr_cuda};
enum { N_KINDS = sizeof kinds / sizeof kinds[0], MOST_ORDINAL = 1023 };

const DrDeviceKind *dr_device_kind(int index) { return index < N_KINDS ? kinds[index] : NULL; }

/* "NAME" or "NAME:N" of this kind, or with ":CODE" behind it. */
static bool is_named(const DrDeviceKind *kind, const char *device, int *out_ordinal) {
    size_t size = strlen(kind->name);
    *out_ordinal = 0;
    if (strncmp(device, kind->name, size) != 0) return false;
    if (!device[size]) return true;
    if (!kind->numbered || device[size] != ':') return false;
    char *end;
    const char *digits = device + size + 1;
    if (kind->is_code && kind->is_code(digits)) return true;
    long n = strtol(digits, &end, 10);
    *out_ordinal = (int)n;
    bool whole = *end == '\0' || (*end == ':' && kind->is_code && kind->is_code(end + 1));
    return end != digits && whole && n >= 0 && n <= MOST_ORDINAL;
}

static const DrDeviceKind *find_kind(const char *device, int *out_ordinal) {
    *out_ordinal = 0;
    if (!device) return &dr_cpu;
    for (int i = 0; i < N_KINDS; i++)
        if (is_named(kinds[i], device, out_ordinal)) return kinds[i];
    return NULL;
}

static bool check_options(DrBuild *build, const DrDeviceKind *kind, const DrBuildOptions *options) {
    const char *refused = options->isa && !(kind->takes & DR_ISA)             ? "--isa"
                          : options->debugger && !(kind->takes & DR_DEBUGGER) ? "--debug-info"
                                                                              : NULL;
    if (refused) {
        return su_error(&build->diags, (SuSpan){0}, NULL, "%s is for CPUs and cannot be combined with --device %s", refused,
                        options->device);
    }
    return !options->fast || !kind->check_fast || kind->check_fast(build, options, NULL);
}

const DrDeviceKind *dr_kind_of_device(const char *name) {
    int ordinal;
    return find_kind(name, &ordinal);
}

static bool build_device_unguarded(DrBuild *build, const DrBuildOptions *options) {
    int ordinal;
    const DrDeviceKind *kind = find_kind(options->device, &ordinal);
    if (!kind) {
        return su_error(&build->diags, (SuSpan){0},
                        "use cpu, cuda, cuda:N with the GPU's number from 0, or cuda:sm_90a for its code", "unknown device '%s'",
                        options->device);
    }
    if (!check_options(build, kind, options)) return false;
    build->kind = kind;
    return !kind->open || build->device || kind->open(build, ordinal, options);
}

bool dr_build_device(DrBuild *build, const DrBuildOptions *options) {
    su_arena_settle(&build->arena);
    SuGuard guard;
    if (SU_CAUGHT(&guard, &build->diags, "opening the device")) return false;
    bool result = build_device_unguarded(build, options);
    su_guard_end(&guard);
    return result;
}

/* Of a target that is no device. */
static const DrDeviceKind *kind_of_code(const char *name) {
    for (int i = 1; i < N_KINDS; i++)
        if (kinds[i]->is_target(name)) return kinds[i];
    return &dr_cpu;
}

const DrDeviceKind *dr_kind_of_target(const char *name) {
    SuArena arena = {0};
    SuDiags diags = {0};
    FeDevice device;
    bool found = dr_device_of_target(name, &arena, &device, &diags) && device.name;
    const DrDeviceKind *kind = kind_of_code(found ? device.target : name);
    su_diags_free(&diags);
    su_arena_free(&arena);
    return kind;
}

static bool build_target_unguarded(DrBuild *build, const char *name, bool fast, FeDevice *out_device) {
    FeDevice device;
    if (!dr_device_of_target(name, &build->arena, &device, &build->diags)) return false;
    const char *code = device.name ? device.target : name;
    if (out_device) *out_device = device;
    build->kind = kind_of_code(code);
    if (!build->kind->find_target(build, code, fast)) return false;
    if (device.name && build->has_target) snprintf(build->target.name, sizeof build->target.name, "%s", device.name);
    return true;
}

bool dr_build_target(DrBuild *build, const char *name, bool fast, FeDevice *out_device) {
    su_arena_settle(&build->arena);
    SuGuard guard;
    if (SU_CAUGHT(&guard, &build->diags, "finding the target")) return false;
    bool result = build_target_unguarded(build, name, fast, out_device);
    su_guard_end(&guard);
    return result;
}
