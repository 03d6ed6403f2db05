#include "support/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/file.h"

static bool fail(SuDiags *diags, const char *path, const char *what, int error) {
    return su_error(diags, su_file_span(diags, path), NULL, "cannot %s: %s", what, su_file_error(error));
}

/* ---- removal, in a signal handler too */

static _Atomic(const SuDirectory *) being_made;

/* Last things first, so that directories are empty when their turn comes. */
static void remove_all(const SuDirectory *directory) {
    for (size_t i = directory->n_made; i-- > 0;)
        if (unlink(directory->made[i]) != 0) rmdir(directory->made[i]);
    if (directory->temporary) rmdir(directory->temporary);
}

static void remove_unfinished(void) {
    const SuDirectory *directory = being_made;
    if (directory) remove_all(directory);
}

static void forget(SuDirectory *directory) {
    if (directory->lock >= 0) close(directory->lock);
    su_cleanup_done(&directory->cleanup);
    su_out_also_clean(NULL);
    being_made = NULL;
    su_arena_free(&directory->arena);
    *directory = (SuDirectory){0};
}

static void drop(void *object) {
    SuDirectory *directory = object;
    if (directory->lock >= 0) close(directory->lock);
    su_out_also_clean(NULL);
    being_made = NULL;
    remove_all(directory);
}

/* ---- what processes left that were killed: a temporary that nobody has locked */

enum { RANDOM_LETTERS = 6, DEPTH = 16 };
static const char suffix[] = ".mossc-tmp-";

static int open_directory(int parent, const char *name) {
    return openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

static void remove_tree(int parent, const char *name, int depth) {
    if (unlinkat(parent, name, 0) == 0 || depth == 0) return;
    int fd = open_directory(parent, name);
    DIR *open = fd >= 0 ? fdopendir(fd) : NULL;
    if (!open && fd >= 0) close(fd);
    for (struct dirent *d; open && (d = readdir(open));)
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0) remove_tree(fd, d->d_name, depth - 1);
    if (open) closedir(open);
    unlinkat(parent, name, AT_REMOVEDIR);
}

static void remove_if_stale(int parent, const char *name) {
    int fd = open_directory(parent, name);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) remove_tree(parent, name, DEPTH);
    if (fd >= 0) close(fd);
}

static void remove_stale_of(const char *path, SuArena *arena) {
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const size_t size = strlen(base), whole = size + sizeof suffix - 1 + RANDOM_LETTERS;
    DIR *open = opendir(su_printf(arena, "%.*s.", (int)(base - path), path));
    for (struct dirent *d; open && (d = readdir(open));)
        if (strlen(d->d_name) == whole && strncmp(d->d_name, base, size) == 0 &&
            strncmp(d->d_name + size, suffix, sizeof suffix - 1) == 0)
            remove_if_stale(dirfd(open), d->d_name);
    if (open) closedir(open);
}

void su_directory_remove_stale(const char *parent) {
    const size_t end = sizeof suffix - 1 + RANDOM_LETTERS;
    DIR *open = opendir(parent);
    for (struct dirent *d; open && (d = readdir(open));) {
        const size_t size = strlen(d->d_name);
        if (size > end && strncmp(d->d_name + size - end, suffix, sizeof suffix - 1) == 0) remove_if_stale(dirfd(open), d->d_name);
    }
    if (open) closedir(open);
}

/* ---- shared ones */

/* Whether an open directory is still the one of this path. */
static bool is_there(int fd, const char *path) {
    struct stat ours, there;
    return fstat(fd, &ours) == 0 && lstat(path, &there) == 0 && ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

/* Open until the process ends, each with its lock. */
static pthread_mutex_t used_lock = PTHREAD_MUTEX_INITIALIZER;
static int *used; /* [n_used] */
static size_t n_used, used_capacity;

static bool is_used(const char *path) {
    for (size_t i = 0; i < n_used; i++)
        if (is_there(used[i], path)) return true;
    return false;
}

/* Without memory it stays open all the same, and is opened once more the next time. */
static void note_used(int fd) {
    if (n_used == used_capacity) {
        const size_t capacity = used_capacity ? 2 * used_capacity : 8;
        int *grown = su_malloc_with(NULL, 0, capacity * sizeof *used); /* of no guard */
        if (!grown) return;
        if (n_used) memcpy(grown, used, n_used * sizeof *used);
        su_free(used);
        used = grown;
        used_capacity = capacity;
    }
    used[n_used++] = fd;
}

static bool begin_use(const char *path) {
    const int fd = open_directory(AT_FDCWD, path);
    if (fd < 0) return false;
    while (flock(fd, LOCK_SH) != 0 && errno == EINTR) {}
    if (!is_there(fd, path)) {
        close(fd);
        return false;
    }
    note_used(fd);
    return true;
}

bool su_directory_use(const char *path) {
    pthread_mutex_lock(&used_lock);
    const bool ok = is_used(path) || begin_use(path);
    pthread_mutex_unlock(&used_lock);
    return ok;
}

void su_directory_touch(const char *path) { utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW); }

bool su_directory_remove(const char *path) {
    SuArena arena = {0};
    const int fd = open_directory(AT_FDCWD, path);
    char *aside = su_printf(&arena, "%s%sXXXXXX", path, suffix);
    const bool ours = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && is_there(fd, path);
    bool ok = ours && mkdtemp(aside);
    if (ok && rename(path, aside) != 0) {
        rmdir(aside);
        ok = false;
    }
    if (ok) remove_tree(AT_FDCWD, aside, DEPTH);
    if (fd >= 0) close(fd);
    su_arena_free(&arena);
    return ok;
}

/* ---- making */

/* Makes the temporary. Between making and locking it another process may take it for stale and remove it: then there is another. */
static bool make_temporary(SuDirectory *out) {
    for (;;) {
        struct stat st;
        out->temporary = su_printf(&out->arena, "%s%sXXXXXX", out->path, suffix);
        if (!mkdtemp(out->temporary)) return false;
        out->lock = open_directory(AT_FDCWD, out->temporary);
        /* Where there are no locks, nothing is ever taken for stale. */
        const bool ours = out->lock < 0 || flock(out->lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
        if (ours && lstat(out->temporary, &st) == 0) return true;
        if (out->lock >= 0) close(out->lock);
        out->lock = -1;
    }
}

static bool is_free(const char *path, SuDiags *diags) {
    struct stat st;
    if (lstat(path, &st) != 0) return errno == ENOENT || fail(diags, path, "examine path", errno);
    DIR *open = S_ISDIR(st.st_mode) ? opendir(path) : NULL;
    if (!open) return su_error(diags, su_file_span(diags, path), "choose another name", "path exists and is not a directory");
    size_t entries = 0;
    while (readdir(open)) entries++;
    closedir(open);
    return entries <= 2 || /* . and .. */
           su_error(diags, su_file_span(diags, path), "existing files are never overwritten, choose another directory",
                    "directory is not empty");
}

bool su_directory_open(const char *path, SuDirectory *out, SuDiags *diags) {
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') size--;
    *out = (SuDirectory){.lock = -1};
    out->path = su_strndup(&out->arena, path, size);
    if (!is_free(out->path, diags)) {
        su_arena_free(&out->arena);
        return false;
    }
    remove_stale_of(out->path, &out->arena);
    su_cleanup_add(&out->cleanup, drop, out);
    being_made = out; /* before there is a directory, so that no signal falls in between: its letters change in place */
    su_out_also_clean(remove_unfinished);
    if (!make_temporary(out)) {
        fail(diags, out->path, "create directory", errno);
        forget(out);
        return false;
    }
    mode_t mask = umask(0);
    umask(mask);
    chmod(out->temporary, 0777 & ~mask); /* as a plain mkdir would make it */
    return true;
}

/* Notes what is about to be made before it is there. */
static void note(SuDirectory *directory, char *path) {
    if (directory->n_made == SU_DIRECTORY_MOST) SU_BUG("more than %d files in %s", SU_DIRECTORY_MOST, directory->path);
    directory->made[directory->n_made] = path;
    atomic_signal_fence(memory_order_release);
    directory->n_made++;
}

/* The file by the name that it would have had. */
static bool fail_within(const SuDirectory *directory, const char *name, const char *what, SuDiags *diags) {
    int error = errno;
    return fail(diags, su_printf(&diags->arena, "%s/%s", directory->path, name), what, error);
}

const char *su_directory_file(SuDirectory *directory, const char *name, SuDiags *diags) {
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        char *path = su_printf(&directory->arena, "%s/%.*s", directory->temporary, (int)(slash - name), name);
        if (access(path, F_OK) == 0) continue;
        note(directory, path);
        if (mkdir(path, 0777) != 0) {
            fail_within(directory, name, "create the parent directories", diags);
            return NULL;
        }
    }
    char *path = su_printf(&directory->arena, "%s/%s", directory->temporary, name);
    note(directory, path);
    return path;
}

bool su_directory_write(SuDirectory *directory, const char *name, const void *data, size_t size, SuDiags *diags) {
    const char *path = su_directory_file(directory, name, diags);
    FILE *file = path ? fopen(path, "wb") : NULL;
    if (!file) return path && fail_within(directory, name, "create", diags);
    errno = 0;
    bool ok = fwrite(data, 1, size, file) == size;
    int error = errno;
    if (fclose(file) != 0 && ok) {
        ok = false;
        error = errno;
    }
    errno = error ? error : EIO;
    return ok || fail_within(directory, name, "write", diags);
}

void su_directory_forget(SuDirectory *directory, const char *path) {
    for (size_t i = 0; i < directory->n_made; i++) {
        if (directory->made[i] != path) continue;
        unlink(path);
        directory->made[i] = directory->made[--directory->n_made];
        return;
    }
}

/* ---- the end */

static bool sync_path(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0) close(fd);
    errno = error;
    return ok;
}

bool su_directory_commit(SuDirectory *directory, SuDiags *diags) {
    bool ok = true;
    for (size_t i = 0; i < directory->n_made && ok; i++) ok = sync_path(directory->made[i]);
    ok = ok && sync_path(directory->temporary) && rename(directory->temporary, directory->path) == 0;
    ok = ok && (errno = su_sync_directory_of(directory->path)) == 0;
    if (!ok) {
        fail(diags, directory->path, "write", errno);
        remove_all(directory);
    }
    forget(directory);
    return ok;
}

/* `text` with the directory's name in place of its temporary's; the sink's arena. */
static const char *by_its_name(const SuDirectory *directory, const char *text, SuDiags *diags) {
    const char *found = text ? strstr(text, directory->temporary) : NULL;
    if (!found) return text;
    return su_printf(&diags->arena, "%.*s%s%s", (int)(found - text), text, directory->path, found + strlen(directory->temporary));
}

void su_directory_abort(SuDirectory *directory, SuDiags *diags) {
    for (size_t i = 0; i < diags->count; i++) {
        SuDiag *d = &diags->items[i];
        d->message = by_its_name(directory, d->message, diags);
        if (d->span.source && d->span.source->path)
            d->span = su_file_span(diags, by_its_name(directory, d->span.source->path, diags));
    }
    remove_all(directory);
    forget(directory);
}
