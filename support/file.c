/* Reading whole files. */
#include "support/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/str.h"

const char *su_beside(SuArena *arena, const char *path, const char *file) {
    const char *slash = strrchr(path, '/');
    if (file[0] == '/' || !slash) return su_strdup(arena, file);
    return su_printf(arena, "%.*s%s", (int)(slash - path) + 1, path, file);
}

const char *su_file_error(int error) {
    switch (error) {
    case ENOSPC: return "disk is full";
    case EDQUOT: return "disk quota exceeded";
    case EFBIG: return "file size limit exceeded (ulimit -f, or a limit of the file system)";
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
        su_error(diags, su_file_span(diags, path), NULL, "path is a directory, not a file");
    else if (!S_ISREG(out_stat->st_mode))
        su_error(diags, su_file_span(diags, path), NULL, "path is not a regular file");
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
    return su_error(diags, su_file_span(diags, path), NULL, "file exceeds the limit of %zu bytes", limit);
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
        ok = su_error(diags, su_file_span(diags, path), NULL, "path is a directory, not a file");
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
