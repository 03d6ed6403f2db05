/* CPUs of the process: its affinity, and how much time it may take, by its control groups: version 2 (cpu.max) and 1 (cpu.cfs_quota_us, cpu.cfs_period_us).
 * Every group from its own up to the root may set a bound; what cannot be read sets none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support/cpus.h"

enum { PATH = 4096, MOST_CPUS = 1 << 16 };

/* The CPUs that a quota comes to, rounded up; 0: none. */
static int cpus_of(long long quota, long long period) {
    if (quota <= 0 || period <= 0) return 0;
    long long cpus = (quota + period - 1) / period;
    return cpus < MOST_CPUS ? (int)cpus : MOST_CPUS;
}

/* Reads a line of a small file; false: it is not there. */
static bool read_line(const char *directory, const char *name, char *line, int size) {
    char path[PATH + 64];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "re");
    if (!file) return false;
    bool ok = fgets(line, size, file) != NULL;
    fclose(file);
    return ok;
}

/* What one group sets. */
static int quota_of_group(const char *directory) {
    char line[64];
    long long quota, period;
    if (read_line(directory, "cpu.max", line, sizeof line)) /* "max 100000" or "150000 100000" */
        return sscanf(line, "%lld %lld", &quota, &period) == 2 ? cpus_of(quota, period) : 0;
    if (!read_line(directory, "cpu.cfs_quota_us", line, sizeof line)) return 0;
    quota = atoll(line); /* -1: none */
    return read_line(directory, "cpu.cfs_period_us", line, sizeof line) ? cpus_of(quota, atoll(line)) : 0;
}

static int least(int a, int b) { return !a || (b && b < a) ? b : a; }

/* The least of a group and those above it. Within a container the path may be that of the host: parts that are not there set none. */
static int quota_along(const char *root, const char *mount, const char *group) {
    char directory[PATH];
    int bound = 0, top = snprintf(directory, sizeof directory, "%s%s", root, mount);
    int size = snprintf(directory, sizeof directory, "%s%s%s", root, mount, group);
    if (size >= (int)sizeof directory) return 0;
    for (;;) {
        bound = least(bound, quota_of_group(directory));
        char *slash = strrchr(directory, '/');
        if (!slash || slash < directory + top) return bound;
        *slash = '\0';
    }
}

static bool has_word(const char *list, const char *word) {
    size_t size = strlen(word);
    for (; list; list = strchr(list, ','), list = list ? list + 1 : NULL)
        if (strncmp(list, word, size) == 0 && (list[size] == ',' || list[size] == '\0')) return true;
    return false;
}

int su_cpu_quota(const char *root) {
    static const char *const two[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    static const char *const one[] = {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"};
    char path[PATH], line[PATH];
    int bound = 0;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) { /* "0::/group", or in version 1 "4:cpu,cpuacct:/group" */
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        *group++ = '\0';
        bool unified = *++controllers == '\0';
        if (!unified && !has_word(controllers, "cpu")) continue;
        for (int i = 0; i < 2; i++)
            bound = least(bound, quota_along(root, unified ? two[i] : one[i], strcmp(group, "/") ? group : ""));
    }
    if (file) fclose(file);
    return bound;
}

int su_allowed_cpus(void) {
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) != 0) { /* more than CPU_SETSIZE CPUs */
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        return online > 0 ? (int)online : 1;
    }
    return CPU_COUNT(&mask);
}

int su_default_threads(void) {
    const char *text = getenv("MOSSC_THREADS");
    char *end = NULL;
    long asked = text ? strtol(text, &end, 10) : 0;
    if (asked >= 1 && asked <= SU_MOST_THREADS && *end == '\0') return (int)asked;
    int allowed = su_allowed_cpus(), quota = su_cpu_quota("");
    return quota && quota < allowed ? quota : allowed;
}

bool su_may_use_tiles(void) {
#if defined(__x86_64__) && defined(SYS_arch_prctl)
    enum { REQUEST = 0x1023 /* ARCH_REQ_XCOMP_PERM */, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#else
    return false;
#endif
}
