#include "support/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/file.h"

static bool fail(SuDiags *diags, const char *path, const char *what, int error) {
    return su_error(diags, su_file_span(diags, path), NULL, "cannot %s: %s", what, su_file_error(error));
}

/* ---- removal, in a signal handler too */

static _Atomic(const SuFolder *) being_made;

/* Last things first, so that folders are empty when their turn comes. */
static void remove_all(const SuFolder *folder) {
    for (size_t i = folder->n_made; i-- > 0;)
        if (unlink(folder->made[i]) != 0) rmdir(folder->made[i]);
    rmdir(folder->temporary);
}

static void remove_unfinished(void) {
    const SuFolder *folder = being_made;
    if (folder) remove_all(folder);
}

static void forget(SuFolder *folder) {
    su_out_also_clean(NULL);
    being_made = NULL;
    su_arena_free(&folder->arena);
    *folder = (SuFolder){0};
}

/* ---- making */

static bool is_free(const char *path, SuDiags *diags) {
    struct stat st;
    if (lstat(path, &st) != 0) return errno == ENOENT || fail(diags, path, "look at this place", errno);
    DIR *open = S_ISDIR(st.st_mode) ? opendir(path) : NULL;
    if (!open) return su_error(diags, su_file_span(diags, path), "give another name", "exists and is no folder");
    size_t entries = 0;
    while (readdir(open)) entries++;
    closedir(open);
    return entries <= 2 || /* . and .. */
           su_error(diags, su_file_span(diags, path), "remove it or give another name; nothing is written over",
                    "is a folder that holds something");
}

bool su_folder_open(const char *path, SuFolder *out, SuDiags *diags) {
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') size--;
    *out = (SuFolder){0};
    out->path = su_strndup(&out->arena, path, size);
    if (!is_free(out->path, diags)) {
        su_arena_free(&out->arena);
        return false;
    }
    out->temporary = su_printf(&out->arena, "%s.mossc-tmp-XXXXXX", out->path);
    if (!mkdtemp(out->temporary)) {
        fail(diags, out->path, "make this folder", errno);
        su_arena_free(&out->arena);
        return false;
    }
    mode_t mask = umask(0);
    umask(mask);
    chmod(out->temporary, 0777 & ~mask); /* as a plain mkdir would make it */
    being_made = out;
    su_out_also_clean(remove_unfinished);
    return true;
}

/* Notes what is about to be made before it is there. */
static void note(SuFolder *folder, char *path) {
    if (folder->n_made == SU_FOLDER_MOST) SU_BUG("more than %d files in %s", SU_FOLDER_MOST, folder->path);
    folder->made[folder->n_made] = path;
    atomic_signal_fence(memory_order_release);
    folder->n_made++;
}

/* The file by the name that it would have had. */
static bool fail_within(const SuFolder *folder, const char *name, const char *what, SuDiags *diags) {
    int error = errno;
    return fail(diags, su_printf(&diags->arena, "%s/%s", folder->path, name), what, error);
}

const char *su_folder_file(SuFolder *folder, const char *name, SuDiags *diags) {
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        char *path = su_printf(&folder->arena, "%s/%.*s", folder->temporary, (int)(slash - name), name);
        if (access(path, F_OK) == 0) continue;
        note(folder, path);
        if (mkdir(path, 0777) != 0) {
            fail_within(folder, name, "make the folders of this file", diags);
            return NULL;
        }
    }
    char *path = su_printf(&folder->arena, "%s/%s", folder->temporary, name);
    note(folder, path);
    return path;
}

bool su_folder_write(SuFolder *folder, const char *name, const void *data, size_t size, SuDiags *diags) {
    const char *path = su_folder_file(folder, name, diags);
    FILE *file = path ? fopen(path, "wb") : NULL;
    if (!file) return path && fail_within(folder, name, "create", diags);
    errno = 0;
    bool ok = fwrite(data, 1, size, file) == size;
    int error = errno;
    if (fclose(file) != 0 && ok) {
        ok = false;
        error = errno;
    }
    errno = error ? error : EIO;
    return ok || fail_within(folder, name, "write", diags);
}

void su_folder_forget(SuFolder *folder, const char *path) {
    for (size_t i = 0; i < folder->n_made; i++) {
        if (folder->made[i] != path) continue;
        unlink(path);
        folder->made[i] = folder->made[--folder->n_made];
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

bool su_folder_commit(SuFolder *folder, SuDiags *diags) {
    bool ok = true;
    for (size_t i = 0; i < folder->n_made && ok; i++) ok = sync_path(folder->made[i]);
    ok = ok && sync_path(folder->temporary) && rename(folder->temporary, folder->path) == 0;
    if (!ok) {
        fail(diags, folder->path, "write", errno);
        remove_all(folder);
    }
    forget(folder);
    return ok;
}

/* `text` with the folder's name in place of its temporary's; the sink's arena. */
static const char *by_its_name(const SuFolder *folder, const char *text, SuDiags *diags) {
    const char *found = text ? strstr(text, folder->temporary) : NULL;
    if (!found) return text;
    return su_printf(&diags->arena, "%.*s%s%s", (int)(found - text), text, folder->path, found + strlen(folder->temporary));
}

void su_folder_abort(SuFolder *folder, SuDiags *diags) {
    for (size_t i = 0; i < diags->count; i++) {
        SuDiag *d = &diags->items[i];
        d->message = by_its_name(folder, d->message, diags);
        if (d->span.source && d->span.source->path) d->span = su_file_span(diags, by_its_name(folder, d->span.source->path, diags));
    }
    remove_all(folder);
    forget(folder);
}
