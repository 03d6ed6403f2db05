/* Files that are written whole or not at all: beside their place under a temporary name, then renamed. Where that cannot be done (a
 * directory that may not be written, a file that is mounted) they are written in place; standard output and devices are written as
 * they come. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/alloc.h"
#include "support/digest.h"
#include "support/file.h"
#include "support/str.h"

static const char temporary_suffix[] = ".mossc-tmp-";
enum { RANDOM_LETTERS = 6, LONGEST_NAME = 255 /* bytes, of a name within a directory */ };

static bool fail(SuDiags *diags, const char *path, const char *what, int error) {
    return su_error(diags, su_file_span(diags, path), NULL, "cannot %s: %s", what, su_file_error(error));
}

static const char *base_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* ---- temporaries. A writer holds a lock on its own for as long as it lives, so one that can be locked was left by a process that
 * was killed. */

/* True also where there are no locks: then no temporary is ever taken for stale. */
static bool lock(int fd) { return flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK; }

void su_out_remove_stale(int directory, const char *name, size_t size) {
    const char *rest = name + size;
    if (strncmp(rest, temporary_suffix, sizeof temporary_suffix - 1) != 0 ||
        strlen(rest) != sizeof temporary_suffix - 1 + RANDOM_LETTERS) {
        return;
    }
    int fd = openat(directory, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) unlinkat(directory, name, 0);
    close(fd);
}

/* How temporaries of `target` begin: with its name, or with a digest of it where the name leaves no room for a suffix. */
static void add_stem(SuText *text, const char *target) {
    const char *base = base_of(target);
    size_t size = strlen(base);
    if (size + sizeof temporary_suffix - 1 + RANDOM_LETTERS <= LONGEST_NAME) {
        su_text_append(text, base, size);
        return;
    }
    SuDigest digest = su_digest(base, size);
    const uint8_t *bytes = (const uint8_t *)&digest;
    for (size_t i = 0; i < sizeof digest; i++) su_text_add(text, "%02x", bytes[i]);
}

/* Those that killed processes left when they wrote this very file. */
static void remove_stale_of(const char *target) {
    SuText directory = {0}, stem = {0};
    su_text_add(&directory, "%.*s.", (int)(base_of(target) - target), target);
    add_stem(&stem, target);
    DIR *open = opendir(directory.text);
    for (struct dirent *d; open && (d = readdir(open));)
        if (strncmp(d->d_name, stem.text, stem.size) == 0) su_out_remove_stale(dirfd(open), d->d_name, stem.size);
    if (open) closedir(open);
    su_text_free(&stem);
    su_text_free(&directory);
}

/* The temporary that a signal is to remove: the last one opened. Its text must not be freed while it stands here. */
static _Atomic(const char *) being_written;

/* Makes the temporary beside `target`. Between making and locking it another process may take it for stale and remove it: then there
 * is another. */
static int open_temporary(const char *target, char **out_name) {
    SuText name = {0};
    int fd;
    for (bool ours = false; !ours;) {
        struct stat st;
        name.size = 0;
        su_text_append(&name, target, (size_t)(base_of(target) - target));
        add_stem(&name, target);
        su_text_add(&name, "%sXXXXXX", temporary_suffix);
        *out_name = name.text;
        being_written = name.text; /* before there is a file, so that no signal falls in between: its letters change in place */
        fd = mkostemp(name.text, O_CLOEXEC);
        if (fd < 0) return fd;
        ours = lock(fd) && fstat(fd, &st) == 0 && st.st_nlink > 0;
        if (!ours) close(fd);
    }
    return fd;
}

/* The rights of the file that it is to replace, as far as this process may give them; else those that a plain open would give. */
static void set_rights(int fd, const struct stat *old) {
    if (!old) {
        mode_t mask = umask(0);
        umask(mask);
        fchmod(fd, 0666 & ~mask);
        return;
    }
    bool same_owner = fchown(fd, old->st_uid, old->st_gid) == 0;
    bool same_group = same_owner || fchown(fd, (uid_t)-1, old->st_gid) == 0;
    mode_t mode = old->st_mode & 07777;
    if (!same_owner) mode &= ~(mode_t)(S_ISUID | S_ISGID);
    if (!same_group) mode &= ~(mode_t)S_IRWXG; /* they were another group's */
    fchmod(fd, mode);
}

/* ---- signals */

static _Atomic(SuClean) also_clean;

void su_out_also_clean(SuClean clean) { also_clean = clean; }

static void remove_and_die(int signal_number) {
    static const char shrunk[] = "mossc: error: a file that was being read became shorter, or its device failed (SIGBUS)\n";
    const char *temporary = being_written;
    SuClean clean = also_clean;
    if (temporary) unlink(temporary);
    if (clean) clean();
    if (signal_number == SIGBUS && write(STDERR_FILENO, shrunk, sizeof shrunk - 1) < 0) errno = 0; /* nobody is left to tell */
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

void su_out_clean_on_signals(void) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGBUS};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction old, clean = {.sa_handler = remove_and_die};
        sigemptyset(&clean.sa_mask);
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(signals[i], &clean, NULL);
    }
}

/* ---- where a path leads */

/* The descriptor that a path names: standard output as "-", and what stands in /dev for descriptors. -1: none. */
static int descriptor_of(const char *path) {
    static const char prefix[] = "/dev/fd/";
    if (strcmp(path, "-") == 0 || strcmp(path, "/dev/stdout") == 0) return STDOUT_FILENO;
    if (strcmp(path, "/dev/stderr") == 0) return STDERR_FILENO;
    if (strncmp(path, prefix, sizeof prefix - 1) != 0) return -1;
    const char *digits = path + sizeof prefix - 1;
    size_t size = strlen(digits);
    return size && size < 6 && strspn(digits, "0123456789") == size ? atoi(digits) : -1;
}

/* The file itself, past symbolic links, of which the last may lead to nothing yet. Malloced; NULL and errno. */
static char *follow(const char *path) {
    char whole[PATH_MAX];
    if (realpath(path, whole)) return su_copy(whole);
    SuText here = {0};
    su_text_append(&here, path, strlen(path));
    char link[PATH_MAX];
    for (int links = 0;; links++) {
        ssize_t size = readlink(here.text, link, sizeof link);
        if (size < 0) return here.text;
        if (links == 40 || (size_t)size == sizeof link) break;
        here.size = link[0] == '/' ? 0 : (size_t)(base_of(here.text) - here.text);
        su_text_append(&here, link, (size_t)size);
    }
    su_text_free(&here);
    errno = ELOOP;
    return NULL;
}

/* Whether something is mounted on this very file: then nothing can be renamed over it. */
static bool is_mounted(const char *target) {
#ifdef STATX_ATTR_MOUNT_ROOT
    struct statx st;
    return statx(AT_FDCWD, target, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &st) == 0 &&
           st.stx_attributes & st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT;
#else
    (void)target;
    return false;
#endif
}

/* ---- opening */

static void abort_it(void *out) { su_out_abort(out); }

static void out_free(SuOut *out) {
    su_cleanup_done(&out->cleanup);
    const char *ours = out->temporary;
    if (ours) atomic_compare_exchange_strong(&being_written, &ours, NULL);
    su_free(out->path);
    su_free(out->target);
    su_free(out->temporary);
    *out = (SuOut){0};
}

static void forget_temporary(SuOut *out) {
    const char *ours = out->temporary;
    atomic_compare_exchange_strong(&being_written, &ours, NULL);
    su_free(out->temporary);
    out->temporary = NULL;
}

/* Opens the file itself; the descriptor, or -1 and errno. */
static int open_in_place(SuOut *out, const char *reason, SuDiags *diags) {
    int fd = open(out->target, O_RDWR | O_CLOEXEC);
    if (fd < 0) return fd;
    out->way = SU_OUT_IN_PLACE;
    su_warning(diags, su_file_span(diags, out->path), "an interruption would leave it incomplete",
               "file is written in place because it cannot be replaced: %s", reason);
    return fd;
}

/* A regular file, or one that is not there yet. */
static int open_file(SuOut *out, const struct stat *old, SuDiags *diags) {
    if (old && is_mounted(out->target)) return open_in_place(out, "it is a mount point", diags);
    remove_stale_of(out->target);
    int fd = open_temporary(out->target, &out->temporary);
    if (fd >= 0) {
        set_rights(fd, old);
        return fd;
    }
    int error = errno;
    forget_temporary(out);
    if (old && (error == EACCES || error == EPERM || error == EROFS)) {
        fd = open_in_place(out, "its directory is not writable", diags);
        if (fd >= 0) return fd;
    }
    errno = error;
    return -1;
}

/* Opens what the path leads to. -1: the reason is in diags. */
static int open_out(SuOut *out, SuDiags *diags) {
    struct stat st;
    int descriptor = descriptor_of(out->path), fd;
    if (descriptor >= 0) {
        out->way = SU_OUT_STREAM;
        fd = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    } else if (!(out->target = follow(out->path))) {
        fd = -1;
    } else if (stat(out->target, &st) != 0) {
        fd = open_file(out, NULL, diags);
    } else if (S_ISREG(st.st_mode)) {
        fd = open_file(out, &st, diags);
    } else if (S_ISDIR(st.st_mode)) {
        su_error(diags, su_file_span(diags, out->path), "give a file name", "path is a directory, not a regular file");
        return -1;
    } else {
        out->way = SU_OUT_STREAM;
        fd = open(out->target, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    }
    if (fd < 0) fail(diags, out->path, "create", errno);
    return fd;
}

bool su_out_open(const char *path, SuOut *out, SuDiags *diags) {
    *out = (SuOut){0};
    su_cleanup_add(&out->cleanup, abort_it, out);
    SuText copy = {0};
    su_text_append(&copy, path, strlen(path));
    out->path = copy.text;
    int fd = open_out(out, diags);
    if (fd < 0) {
        out_free(out);
        return false;
    }
    out->file = fdopen(fd, "wb");
    if (!out->file) {
        int error = errno;
        close(fd);
        if (out->temporary) unlink(out->temporary);
        fail(diags, path, "create", error);
        out_free(out);
        return false;
    }
    return true;
}

bool su_out_check(const char *path, SuDiags *diags) {
    struct stat st;
    if (!path) return true;
    if (descriptor_of(path) < 0 && stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return access(path, W_OK) == 0 || fail(diags, path, "write", errno); /* opening a FIFO would wait for its reader */
    SuOut out;
    if (!su_out_open(path, &out, diags)) return false;
    su_out_abort(&out);
    return true;
}

bool su_out_can_map(const SuOut *out) { return out->way != SU_OUT_STREAM; }

/* ---- ending */

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

/* The old file may have been longer. Who wrote through a mapping has set the size. */
static int cut(int fd) {
    off_t end = lseek(fd, 0, SEEK_CUR);
    return end <= 0 || ftruncate(fd, end) == 0 ? 0 : errno;
}

/* Copies the temporary over a file that cannot be renamed over; 0, or why it cannot. */
static int copy_over(const SuOut *out) {
    char chunk[1 << 16];
    int error = 0, from = fileno(out->file), to = open(out->target, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (to < 0) return errno;
    for (off_t at = 0; !error;) {
        ssize_t got = pread(from, chunk, sizeof chunk, at);
        if (got < 0) error = errno;
        if (got <= 0) break;
        for (ssize_t done = 0, n; done < got && !error; done += n > 0 ? n : 0)
            if ((n = write(to, chunk + done, (size_t)(got - done))) < 0 && errno != EINTR) error = errno;
        at += got;
    }
    if (!error && fsync(to) != 0) error = errno;
    close(to);
    return error;
}

/* Gives the temporary the file's name; 0, or why it cannot. */
static int take_place(const SuOut *out) {
    if (rename(out->temporary, out->target) == 0) return 0;
    int error = errno;
    bool cannot_replace = error == EBUSY || error == EXDEV || error == EPERM || error == EACCES;
    if (!cannot_replace || access(out->target, W_OK) != 0) return error;
    error = copy_over(out);
    if (!error) unlink(out->temporary);
    return error;
}

/* Whether a file system says with it that it does not sync directories: then no more can be done. */
static bool cannot_sync(int error) {
    return error == EINVAL || error == EROFS || error == EBADF || error == EOPNOTSUPP || error == ENOSYS || error == EACCES ||
           error == EPERM;
}

int su_sync_directory_of(const char *path) {
    char directory[PATH_MAX]; /* nothing is allocated: the file is there, so nothing may end the guard */
    int size = snprintf(directory, sizeof directory, "%.*s.", (int)(base_of(path) - path), path);
    int fd = size < PATH_MAX ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0) return 0; /* one may write to a directory that one may not read */
    int error = fsync(fd) == 0 || cannot_sync(errno) ? 0 : errno;
    close(fd);
    return error;
}

/* The file is renamed while it is open: its lock keeps it from being taken for a stale temporary. */
static bool commit(SuOut *out, bool sync, SuDiags *diags) {
    int fd = fileno(out->file), error = flush(out->file);
    if (!error && out->way == SU_OUT_IN_PLACE) error = cut(fd);
    if (!error && sync && out->way != SU_OUT_STREAM && fsync(fd) != 0) error = errno;
    if (!error && out->temporary) error = take_place(out);
    if (!error && out->temporary && sync) error = su_sync_directory_of(out->target);
    if (error) {
        if (out->temporary) unlink(out->temporary);
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
        if (out->temporary) unlink(out->temporary);
        if (out->way == SU_OUT_IN_PLACE) {
            __fpurge(out->file); /* what never left the buffer has harmed nothing; else nobody shall take the rest for whole */
            if (lseek(fileno(out->file), 0, SEEK_CUR) > 0 && ftruncate(fileno(out->file), 0) != 0) clearerr(out->file);
        }
        fclose(out->file);
    }
    out_free(out);
}

bool su_out_write(const char *path, const void *data, size_t size, SuDiags *diags) {
    SuOut out;
    if (!su_out_open(path, &out, diags)) return false;
    fwrite(data, 1, size, out.file); /* su_out_commit reports what fails */
    return su_out_commit(&out, diags);
}
