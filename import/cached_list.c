/* The cache of imported models as a whole: what is there, and what goes. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "import/cached.h"
#include "support/directory.h"

enum { DIGITS = 16 };

/* NAME-0123456789abcdef, as im_cached calls them. */
static bool is_name(const char *text) {
    const size_t size = strlen(text);
    if (size < DIGITS + 2 || text[size - DIGITS - 1] != '-') return false;
    return strspn(text + size - DIGITS, "0123456789abcdef") == DIGITS;
}

static uint64_t bytes_in(const char *path) {
    uint64_t bytes = 0;
    struct stat st;
    DIR *open = opendir(path);
    for (struct dirent *d; open && (d = readdir(open));)
        if (fstatat(dirfd(open), d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) bytes += (uint64_t)st.st_size;
    if (open) closedir(open);
    return bytes;
}

static int by_use(const void *a, const void *b) {
    const struct timespec *x = &((const ImCached *)a)->used, *y = &((const ImCached *)b)->used;
    return x->tv_sec != y->tv_sec ? (x->tv_sec < y->tv_sec ? -1 : 1) : (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

ImCachedList im_cached_list(const char *directory) {
    ImCachedList list = {0};
    su_directory_remove_stale(directory);
    DIR *open = opendir(directory);
    for (struct dirent *d; open && (d = readdir(open));) {
        struct stat st;
        const char *path = su_printf(&list.arena, "%s/%s", directory, d->d_name);
        if (!is_name(d->d_name) || !im_is_imported(path) || lstat(path, &st) != 0 || !S_ISDIR(st.st_mode)) continue;
        list.items = su_grow(&list.arena, list.items, &list.capacity, list.count + 1, sizeof *list.items);
        list.items[list.count++] =
            (ImCached){.name = su_strdup(&list.arena, d->d_name), .bytes = bytes_in(path), .used = st.st_mtim};
        list.bytes += list.items[list.count - 1].bytes;
    }
    if (open) closedir(open);
    if (list.count) qsort(list.items, list.count, sizeof *list.items, by_use);
    return list;
}

void im_cached_free(ImCachedList *list) {
    su_arena_free(&list->arena);
    *list = (ImCachedList){0};
}

size_t im_cached_prune(const char *directory, int64_t before, uint64_t most_bytes) {
    ImCachedList list = im_cached_list(directory);
    uint64_t bytes = list.bytes;
    size_t removed = 0;
    for (size_t i = 0; i < list.count; i++) {
        const ImCached *model = &list.items[i];
        const bool old = (int64_t)model->used.tv_sec<before, over = bytes> most_bytes;
        if ((!old && !over) || !su_directory_remove(su_printf(&list.arena, "%s/%s", directory, model->name))) continue;
        bytes -= model->bytes;
        removed++;
    }
    im_cached_free(&list);
    return removed;
}
