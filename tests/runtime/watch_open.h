/* For one source file of a test: open() in place of the C library's, which counts how often a path is opened. */
#ifndef TESTS_RUNTIME_WATCH_OPEN_H
#define TESTS_RUNTIME_WATCH_OPEN_H

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *watched; /* NULL: none */
static int times_opened;    /* the path that is watched */

int open(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    times_opened += watched && strcmp(path, watched) == 0;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

#endif
