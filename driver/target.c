/* Finding targets and devices by name. */
#include "driver/target.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "driver/embedded.h"
#include "frontend/yaml.h"
#include "support/file.h"
#include "support/str.h"

enum { MOST_DEVICES = 64, MOST_CACHES = 8 };

static const char directory[] = "specs/devices/", suffix[] = ".yaml";

/* "specs/devices/NAME.yaml" to NAME. */
static const char *device_name(SuArena *arena, const DrEmbedded *file) {
    size_t around = strlen(directory) + strlen(suffix);
    return su_strndup(arena, file->name + strlen(directory), strlen(file->name) - around);
}

int dr_known_device_count(void) {
    int count = 1;
    for (const DrEmbedded *file = dr_devices; file->name; file++) count++;
    return count;
}

/* KB of a cache of the first CPU; 0: not known. */
static int64_t cache_kb(int name) {
    long bytes = sysconf(name);
    return bytes > 0 ? bytes / 1024 : 0;
}

/* KB of the third cache that the first CPU reaches, as Linux describes it: in virtual machines the C library gives that of a whole
 * processor. */
static int64_t third_cache_kb(void) {
    for (int i = 0; i < MOST_CACHES; i++) {
        char path[96];
        long long level = 0, kb = 0;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
        FILE *file = fopen(path, "r");
        if (!file) break;
        if (fscanf(file, "%lld", &level) != 1) level = 0;
        fclose(file);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        if (level != 3 || !(file = fopen(path, "r"))) continue;
        if (fscanf(file, "%lldK", &kb) != 1) kb = 0;
        fclose(file);
        if (kb > 0) return kb;
    }
    return cache_kb(_SC_LEVEL3_CACHE_SIZE);
}

/* The machine itself. What only a measurement tells (mossc limits) is left open. */
static bool host_device(SuArena *arena, FeDevice *out, SuDiags *diags) {
    CgTarget target;
    if (!cg_target_host(NULL, &target, diags)) return false;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    *out = (FeDevice){.name = "host", .about = "the machine mossc runs on", .target = "host", .source = "this machine"};
    out->l3_kb = third_cache_kb();
    out->n_clusters = 1;
    out->clusters[0] = (FeCluster){.cpu = su_strdup(arena, target.cpu),
                                   .source = "this machine",
                                   .cores = cpus > 0 ? cpus : 0,
                                   .vector_bits = target.vector_lanes * 32,
                                   .l1d_kb = cache_kb(_SC_LEVEL1_DCACHE_SIZE),
                                   .l2_kb = cache_kb(_SC_LEVEL2_CACHE_SIZE)};
    cg_target_free(&target);
    return true;
}

bool dr_known_device(int index, SuArena *arena, FeDevice *out, SuDiags *diags) {
    if (index == 0) return host_device(arena, out, diags);
    const DrEmbedded *file = &dr_devices[index - 1];
    return fe_device_parse(file->name, file->begin, (size_t)(file->end - file->begin), arena, out, diags);
}

static bool read_device(const char *path, SuArena *arena, FeDevice *out, SuDiags *diags) {
    char *text;
    size_t size;
    return su_read_file(arena, path, FE_MAX_INPUT, &text, &size, diags) && fe_device_parse(path, text, size, arena, out, diags);
}

static bool has_suffix(const char *name) {
    size_t size = strlen(name);
    return size > strlen(suffix) && strcmp(name + size - strlen(suffix), suffix) == 0;
}

bool dr_device_of_target(const char *name, SuArena *arena, FeDevice *out, SuDiags *diags) {
    *out = (FeDevice){0};
    if (has_suffix(name)) return read_device(name, arena, out, diags);
    for (int i = 1; i < dr_known_device_count(); i++)
        if (strcmp(device_name(arena, &dr_devices[i - 1]), name) == 0) return dr_known_device(i, arena, out, diags);
    return true;
}

bool dr_find_target(const char *name, SuArena *arena, CgTarget *out, SuDiags *diags) {
    const char *devices[MOST_DEVICES];
    size_t count = 0;
    for (const DrEmbedded *file = dr_devices; file->name && count < MOST_DEVICES; file++)
        devices[count++] = device_name(arena, file);
    const char *near = su_nearest(name, devices, count);
    if (!near) return cg_target_by_name(name, out, diags);
    return su_error(diags, (SuSpan){0}, "run `mossc targets` to list them", "unknown target '%s'; did you mean '%s'?", name, near);
}

bool dr_find_device(const char *name, SuArena *arena, FeDevice *out, SuDiags *diags) {
    const char *names[MOST_DEVICES] = {"host"};
    size_t count = 1;
    if (has_suffix(name)) return read_device(name, arena, out, diags);
    for (const DrEmbedded *file = dr_devices; file->name && count < MOST_DEVICES; file++) names[count++] = device_name(arena, file);
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return dr_known_device((int)i, arena, out, diags);
    const char *near = su_nearest(name, names, count);
    return su_error(diags, (SuSpan){0}, "run `mossc targets` to list them, or give the path of a device file (.yaml)",
                    near ? "unknown device '%s'; did you mean '%s'?" : "unknown device '%s'", name, near);
}
