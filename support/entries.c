#include "support/entries.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/file.h"

/* Reads a file's name; *out_rest is what follows the digest and the suffix. false: no name of ours. */
static bool read_name(const char *text, const char *suffix, SuDigest *out, const char **out_rest) {
    for (size_t i = 0; i < 2 * sizeof out->bytes; i++) {
        const char *digits = "0123456789abcdef", *at = text[i] ? strchr(digits, text[i]) : NULL;
        if (!at) return false;
        uint8_t digit = (uint8_t)(at - digits);
        out->bytes[i / 2] = (uint8_t)(i % 2 ? out->bytes[i / 2] | digit : digit << 4);
    }
    size_t size = strlen(suffix);
    *out_rest = text + SU_HEX - 1 + size;
    return strncmp(text + SU_HEX - 1, suffix, size) == 0;
}

SuEntries su_entries_list(const char *directory, const char *suffix) {
    SuEntries entries = {0};
    DIR *open = opendir(directory);
    for (struct dirent *d; open && (d = readdir(open));) {
        SuEntry entry = {.bytes = 0};
        struct stat st;
        const char *rest;
        if (!read_name(d->d_name, suffix, &entry.name, &rest) || fstatat(dirfd(open), d->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(st.st_mode)) {
            continue;
        }
        if (*rest) {
            su_out_remove_stale(dirfd(open), d->d_name, (size_t)(rest - d->d_name));
            continue;
        }
        entry.used = st.st_mtim;
        entry.bytes = (uint64_t)st.st_size;
        entries.bytes += entry.bytes;
        entries.items = su_grow(&entries.arena, entries.items, &entries.capacity, entries.count + 1, sizeof entry);
        entries.items[entries.count++] = entry;
    }
    if (open) closedir(open);
    return entries;
}

void su_entries_free(SuEntries *entries) {
    su_arena_free(&entries->arena);
    *entries = (SuEntries){0};
}

static int by_name(const void *a, const void *b) {
    return memcmp(&((const SuEntry *)a)->name, &((const SuEntry *)b)->name, sizeof(SuDigest));
}

static int by_use(const void *a, const void *b) {
    const struct timespec *x = &((const SuEntry *)a)->used, *y = &((const SuEntry *)b)->used;
    return x->tv_sec != y->tv_sec ? (x->tv_sec < y->tv_sec ? -1 : 1) : (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

void su_entries_sort_by_name(SuEntries *entries) {
    if (entries->count) qsort(entries->items, entries->count, sizeof *entries->items, by_name);
}

const SuEntry *su_entries_find(const SuEntries *sorted, const SuDigest *name) {
    SuEntry key = {.name = *name};
    return sorted->count ? bsearch(&key, sorted->items, sorted->count, sizeof key, by_name) : NULL;
}

size_t su_entries_make_room(const char *directory, const char *suffix, uint64_t most_bytes) {
    SuEntries entries = su_entries_list(directory, suffix);
    uint64_t bytes = entries.bytes;
    size_t removed = 0;
    if (bytes > most_bytes) qsort(entries.items, entries.count, sizeof *entries.items, by_use);
    for (size_t i = 0; i < entries.count && (bytes > most_bytes || most_bytes == 0); i++) {
        removed += unlink(su_entry_path(&entries.arena, directory, &entries.items[i].name, suffix)) == 0;
        bytes -= entries.items[i].bytes;
    }
    su_entries_free(&entries);
    return removed;
}

const char *su_entry_path(SuArena *arena, const char *directory, const SuDigest *name, const char *suffix) {
    char hex[SU_HEX];
    return su_printf(arena, "%s/%s%s", directory, su_digest_hex(name, hex), suffix);
}

bool su_entry_touch(const char *path) { return utimensat(AT_FDCWD, path, NULL, 0) == 0; }
