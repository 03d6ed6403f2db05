#include "explore/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "support/file.h"

static int wait_for(int fd, const char *waiting, const DrProgress *progress) {
    int status;
    dr_progress_begin(progress, waiting, "", false);
    do status = flock(fd, LOCK_EX);
    while (status != 0 && errno == EINTR);
    dr_progress_end(progress);
    return status;
}

int ex_lock(const char *path, const char *waiting, const DrProgress *progress, SuDiags *diags) {
    const SuSpan span = su_file_span(diags, path);
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) {
        su_error(diags, span, NULL, "cannot open the lock: %s", su_file_error(errno));
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
    const bool taken = errno == EWOULDBLOCK;
    if (taken && progress && wait_for(fd, waiting, progress) == 0) return fd;
    if (taken && !progress)
        su_error(diags, span, "run it again when that has ended", "%s", waiting);
    else
        su_error(diags, span, NULL, "cannot take the lock: %s", su_file_error(errno));
    close(fd);
    return -1;
}

int ex_lock_study(const char *directory, const DrProgress *progress, SuDiags *diags) {
    SuArena arena = {0};
    const char *waiting = progress ? "waiting for another process that writes measurements of this study"
                                   : "another process writes measurements of this study";
    const int fd = ex_lock(su_printf(&arena, "%s/lock", directory), waiting, progress, diags);
    su_diags_keep(diags);
    su_arena_free(&arena);
    return fd;
}
