/* /proc/stat has a line for each CPU: "cpu3 user nice system idle iowait irq softirq steal …", in ticks since boot. */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "measure/others.h"
#include "support/clock.h"

enum { LINE = 512, IDLE = 3, IOWAIT = 4, FIELDS = 8 };

/* Ticks that a line says were used; false: it is none of a CPU that this process may use. */
static int used_ticks(const char *line, const cpu_set_t *allowed, double *ticks) {
    unsigned long long n[FIELDS] = {0};
    int cpu;
    if (sscanf(line, "cpu%d %llu %llu %llu %llu %llu %llu %llu %llu", &cpu, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6],
               &n[7]) < 1 + IOWAIT)
        return 0;
    if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, allowed)) return 0;
    for (int i = 0; i < FIELDS; i++)
        if (i != IDLE && i != IOWAIT) *ticks += (double)n[i];
    return 1;
}

static double own_seconds(void) {
    struct timespec t;
    return clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0 ? (double)t.tv_sec + 1e-9 * (double)t.tv_nsec : 0;
}

MsMoment ms_moment(const char *root) {
    char path[LINE], line[LINE];
    double ticks = 0;
    MsMoment moment = {.wall = su_seconds(), .own = own_seconds()};
    cpu_set_t allowed;
    snprintf(path, sizeof path, "%s/proc/stat", root);
    FILE *file = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? fopen(path, "re") : NULL;
    if (!file) return moment;
    while (fgets(line, sizeof line, file) && strncmp(line, "cpu", 3) == 0) moment.cpus += used_ticks(line, &allowed, &ticks);
    fclose(file);
    moment.used = ticks / (double)sysconf(_SC_CLK_TCK);
    return moment;
}

double ms_others(const MsMoment *since, const MsMoment *now) {
    double time = (now->wall - since->wall) * now->cpus;
    if (time <= 0 || now->cpus != since->cpus) return 0;
    double share = ((now->used - since->used) - (now->own - since->own)) / time;
    return share < 0 ? 0 : share > 1 ? 1 : share;
}
