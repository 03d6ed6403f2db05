/* Reading whole files, and writing them whole or not at all. */
#include "support/alloc.h"
#include "support/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/str.h"

const char *su_file_error(int error) {
    switch (error) {
    case ENOSPC: return "the disk is full";
    case EDQUOT: return "the disk quota is used up";
    case EFBIG: return "a file may not be that large here (ulimit -f, or a limit of the file system)";
    default: return strerror(error);
    }
}

static bool fail(SuDiags *diags, const char *path, const char *what, int error) {
    return su_error(diags, su_file_span(diags, path), NULL, "cannot %s: %s", what, su_file_error(error));
}

/* Opens for reading and refuses what is not a regular file (a FIFO would block, a directory cannot be read). */
static int open_regular(const char *path, struct stat *out_stat, SuDiags *diags) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        fail(diags, path, "open", errno);
        return -1;
    }
    if (fstat(fd, out_stat) != 0)
        fail(diags, path, "stat", errno);
    else if (S_ISDIR(out_stat->st_mode))
        su_error(diags, su_file_span(diags, path), NULL, "is a directory, not a file");
    else if (!S_ISREG(out_stat->st_mode))
        su_error(diags, su_file_span(diags, path), NULL, "is not a regular file");
    else
        return fd;
    close(fd);
    return -1;
}

bool su_map_open(const char *path, SuMap *out_map, SuDiags *diags) {
    *out_map = (SuMap){0};
    struct stat st;
    int fd = open_regular(path, &st, diags);
    if (fd < 0) return false;
    size_t size = (size_t)st.st_size;
    void *data = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    int error = errno;
    close(fd);
    if (data == MAP_FAILED) return fail(diags, path, "map", error);
    *out_map = (SuMap){.data = data, .size = size};
    return true;
}

void su_map_close(SuMap *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (SuMap){0};
}

static bool too_large(SuDiags *diags, const char *path, size_t limit) {
    return su_error(diags, su_file_span(diags, path), NULL, "is larger than %zu bytes, the most that is read here", limit);
}

/* Reads to the end of `fd` into `text`; stops with an error once there is more than `limit`. */
static bool read_all(int fd, const char *path, size_t limit, SuText *text, SuDiags *diags) {
    char chunk[16384];
    for (;;) {
        ssize_t got = read(fd, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail(diags, path, "read", errno);
        if (got == 0) return true;
        if ((size_t)got > limit - text->size) return too_large(diags, path, limit);
        su_text_append(text, chunk, (size_t)got);
    }
}

/* Standard input, a terminal and pipes such as /dev/stdin are read as they come; of a regular file the size is known first. */
bool su_read_file(SuArena *arena, const char *path, size_t limit, char **out_text, size_t *out_size, SuDiags *diags) {
    bool standard_input = strcmp(path, "-") == 0;
    int fd = standard_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail(diags, path, "open", errno);
    struct stat st;
    SuText text = {0};
    bool ok;
    if (fstat(fd, &st) != 0)
        ok = fail(diags, path, "stat", errno);
    else if (S_ISDIR(st.st_mode))
        ok = su_error(diags, su_file_span(diags, path), NULL, "is a directory, not a file");
    else if (S_ISREG(st.st_mode) && st.st_size > 0 && (uint64_t)st.st_size > limit)
        ok = too_large(diags, path, limit);
    else
        ok = read_all(fd, path, limit, &text, diags);
    if (!standard_input) close(fd);
    if (ok) {
        *out_text = su_strndup(arena, text.text ? text.text : "", text.size);
        *out_size = text.size;
    }
    su_text_free(&text);
    return ok;
}

/* ---- temporaries. A writer holds a lock on its own for as long as it lives, so one that can be locked was left by a process that
 * was killed. */

static const char temporary_suffix[] = ".mossc-tmp-";
enum { RANDOM_LETTERS = 6 };

/* True also where there are no locks: then no temporary is ever taken for stale. */
static bool lock(int fd) { return flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK; }

void su_out_remove_stale(int folder, const char *name, size_t size) {
    const char *rest = name + size;
    if (strncmp(rest, temporary_suffix, sizeof temporary_suffix - 1) != 0 ||
        strlen(rest) != sizeof temporary_suffix - 1 + RANDOM_LETTERS) {
        return;
    }
    int fd = openat(folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) unlinkat(folder, name, 0);
    close(fd);
}

/* Those that killed processes left when they wrote this very file. */
static void remove_stale_of(const char *path) {
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    SuText folder = {0};
    su_text_add(&folder, "%.*s.", (int)(base - path), path);
    DIR *open = opendir(folder.text);
    size_t size = strlen(base);
    for (struct dirent *d; open && (d = readdir(open));)
        if (strncmp(d->d_name, base, size) == 0) su_out_remove_stale(dirfd(open), d->d_name, size);
    if (open) closedir(open);
    su_text_free(&folder);
}

/* The temporary that a signal is to remove: the last one opened. Its text must not be freed while it stands here. */
static _Atomic(const char *) being_written;

/* Makes the temporary beside `path`, with the rights that a plain open would give. Between making and locking it another process
 * may take it for stale and remove it: then there is another. */
static int open_temporary(const char *path, char **out_name) {
    SuText name = {0};
    int fd;
    for (bool ours = false; !ours;) {
        struct stat st;
        name.size = 0;
        su_text_add(&name, "%s%sXXXXXX", path, temporary_suffix);
        *out_name = name.text;
        being_written = name.text; /* before there is a file, so that no signal falls in between: its letters change in place */
        fd = mkostemp(name.text, O_CLOEXEC);
        if (fd < 0) return fd;
        ours = lock(fd) && fstat(fd, &st) == 0 && st.st_nlink > 0;
        if (!ours) close(fd);
    }
    mode_t mask = umask(0);
    umask(mask);
    fchmod(fd, 0666 & ~mask);
    return fd;
}

static _Atomic(SuClean) also_clean;

void su_out_also_clean(SuClean clean) { also_clean = clean; }

static void remove_and_die(int signal_number) {
    const char *temporary = being_written;
    SuClean clean = also_clean;
    if (temporary) unlink(temporary);
    if (clean) clean();
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

void su_out_clean_on_signals(void) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction old, clean = {.sa_handler = remove_and_die};
        sigemptyset(&clean.sa_mask);
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(signals[i], &clean, NULL);
    }
}

static void out_free(SuOut *out) {
    const char *ours = out->temporary;
    if (ours) atomic_compare_exchange_strong(&being_written, &ours, NULL);
    su_free(out->path);
    su_free(out->temporary);
    *out = (SuOut){0};
}

bool su_out_open(const char *path, SuOut *out, SuDiags *diags) {
    *out = (SuOut){0};
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return su_error(diags, su_file_span(diags, path), NULL, "exists and is not a regular file");
    SuText copy = {0};
    su_text_append(&copy, path, strlen(path));
    out->path = copy.text;
    remove_stale_of(path);
    int fd = open_temporary(path, &out->temporary);
    if (fd < 0) {
        int error = errno;
        out_free(out);
        return fail(diags, path, "create", error);
    }
    out->file = fdopen(fd, "wb");
    if (!out->file) {
        int error = errno;
        close(fd);
        unlink(out->temporary);
        out_free(out);
        return fail(diags, path, "create", error);
    }
    return true;
}

/* Writes what is still in the buffer; 0, or why it cannot. */
static int flush(FILE *file) {
    errno = 0;
    bool failed = ferror(file); /* earlier, and nobody kept the reason: what was in the way then is asked again */
    if (failed) {
        clearerr(file);
        fputc(0, file);
    }
    if (fflush(file) == 0 && !failed) return 0;
    return errno ? errno : EIO;
}

/* The file is renamed while it is open: its lock keeps it from being taken for a stale temporary. */
static bool commit(SuOut *out, bool sync, SuDiags *diags) {
    int error = flush(out->file);
    if (!error && sync && fsync(fileno(out->file)) != 0) error = errno;
    if (!error && rename(out->temporary, out->path) != 0) error = errno;
    if (error) {
        unlink(out->temporary);
        fail(diags, out->path, "write", error);
    }
    fclose(out->file);
    out_free(out);
    return !error;
}

bool su_out_commit(SuOut *out, SuDiags *diags) { return commit(out, true, diags); }

bool su_out_commit_unsynced(SuOut *out, SuDiags *diags) { return commit(out, false, diags); }

void su_out_abort(SuOut *out) {
    if (out->file) {
        unlink(out->temporary);
        fclose(out->file);
    }
    out_free(out);
}
