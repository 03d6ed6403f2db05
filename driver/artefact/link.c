#include "driver/artefact/link.h"

#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* True when it ran and all went well. What it says is nobody's concern: another one may do. */
static bool run(const char *const *argv) {
    posix_spawn_file_actions_t files;
    pid_t child;
    int status;
    if (posix_spawn_file_actions_init(&files) != 0) return false;
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    bool started = posix_spawnp(&child, argv[0], &files, NULL, (char *const *)(uintptr_t)argv, environ) == 0;
    posix_spawn_file_actions_destroy(&files);
    return started && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

const char *dr_artefact_link(const CgTarget *target, const char *object, const char *out) {
    static const char *const any[] = {"ld.lld", "ld.lld-22", "ld.lld-21", "ld.lld-20", "ld.lld-19", "aarch64-linux-gnu-ld", "ld"};
    bool arm = strncmp(target->triple, "aarch64", 7) == 0;
    for (size_t i = 0; i < sizeof any / sizeof *any; i++) {
        bool of_arm = strncmp(any[i], "aarch64", 7) == 0, of_host = strcmp(any[i], "ld") == 0;
        if ((of_arm && !arm) || (of_host && arm && !target->native)) continue;
        const char *const argv[] = {any[i], "-shared", "-o", out, object, NULL};
        if (run(argv)) return any[i];
        unlink(out);
    }
    return NULL;
}
