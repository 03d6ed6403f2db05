#include "explore/quality.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/digest.h"
#include "support/file.h"

enum { MOST_FILE = 1 << 30, MOST_OUTPUT = 1 << 16 };

typedef struct Entry {
    uint8_t hash[16];
    double value;
} Entry;

struct ExQuality {
    Entry *entries; /* [n] by hash */
    size_t n;
};

/* ---------------------------------------------------------------------------------------------- files */

static int by_hash(const void *a, const void *b) { return memcmp(a, b, sizeof((const Entry *)a)->hash); }

static bool read_hash(const char *text, size_t size, uint8_t out[16]) {
    if (size != 32) return false;
    for (int i = 0; i < 16; i++) {
        char pair[3] = {text[2 * i], text[2 * i + 1], '\0'}, *end;
        out[i] = (uint8_t)strtoul(pair, &end, 16);
        if (end != pair + 2) return false;
    }
    return true;
}

/* The number of the column with that name; -1: there is none. */
static int column_of(const char *line, size_t size, const char *name) {
    int column = 0;
    for (size_t at = 0; at <= size; column++) {
        size_t field = 0;
        while (at + field < size && line[at + field] != ',') field++;
        if (field == strlen(name) && strncmp(line + at, name, field) == 0) return column;
        at += field + 1;
    }
    return -1;
}

static const char *field_at(const char *line, size_t size, int column, size_t *out_size) {
    for (size_t at = 0; at <= size; column--) {
        size_t field = 0;
        while (at + field < size && line[at + field] != ',') field++;
        *out_size = field;
        if (column == 0) return line + at;
        at += field + 1;
    }
    return NULL;
}

static bool take_row(ExQuality *q, const char *line, size_t size, int hash, int value) {
    size_t hash_size, value_size;
    const char *hash_text = field_at(line, size, hash, &hash_size), *value_text = field_at(line, size, value, &value_size);
    char number[64], *end;
    if (!hash_text || !value_text || value_size == 0 || value_size >= sizeof number) return false;
    memcpy(number, value_text, value_size);
    number[value_size] = '\0';
    Entry *entry = &q->entries[q->n];
    entry->value = strtod(number, &end);
    if (*end || !isfinite(entry->value) || !read_hash(hash_text, hash_size, entry->hash)) return false;
    q->n++;
    return true;
}

ExQuality *ex_quality_read(const char *path, SuArena *arena, SuDiags *diags) {
    char *text;
    size_t size, lines = 1;
    if (!su_read_file(arena, path, MOST_FILE, &text, &size, diags)) return NULL;
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    ExQuality *q = SU_NEW(arena, ExQuality);
    q->entries = SU_NEW_ARRAY(arena, Entry, lines);
    int hash = -1, value = -1;
    SuSpan span = su_file_span(diags, path);
    for (size_t at = 0; at < size;) {
        size_t length = strcspn(text + at, "\r\n");
        span.line++;
        if (span.line == 1) {
            hash = column_of(text, length, "spec_hash");
            value = column_of(text, length, "quality");
            if (hash < 0 || value < 0) {
                su_error(diags, span, NULL, "the header lacks the column %s", hash < 0 ? "spec_hash" : "quality");
                return NULL;
            }
        } else if (length > 0 && !take_row(q, text + at, length, hash, value)) {
            su_error(diags, span, NULL, "expected a spec hash of 32 hexadecimal digits and a number");
            return NULL;
        }
        at += length;
        at += text[at] == '\r';
        at += text[at] == '\n';
    }
    if (q->n > 1) qsort(q->entries, q->n, sizeof *q->entries, by_hash);
    return q;
}

double ex_quality_of(const ExQuality *q, const uint8_t hash[16]) {
    const Entry *found = q->n ? bsearch(hash, q->entries, q->n, sizeof *q->entries, by_hash) : NULL;
    return found ? found->value : NAN;
}

/* ---------------------------------------------------------------------------------------------- commands */

/* The spec in a temporary file. */
static bool write_spec(const FeSpec *spec, char path[64], SuDiags *diags) {
    SuText text = {0};
    snprintf(path, 64, "/tmp/mossc-spec-XXXXXX.yaml");
    int file = mkstemps(path, 5);
    fe_print_spec(spec, &text);
    bool ok = file >= 0 && write(file, text.text, text.size) == (ssize_t)text.size;
    if (!ok) su_error(diags, su_file_span(diags, path), NULL, "cannot write: %s", su_file_error(errno));
    if (file >= 0) ok = close(file) == 0 && ok;
    su_text_free(&text);
    return ok;
}

static void put_path(const char *command, const char *path, SuText *out) {
    for (const char *at; (at = strstr(command, "{spec}")) != NULL; command = at + strlen("{spec}"))
        su_text_add(out, "%.*s%s", (int)(at - command), command, path);
    su_text_add(out, "%s", command);
}

/* The last number of a text, which stands by itself: not within a word. */
static bool last_number(const char *text, double *out) {
    bool found = false;
    for (const char *at = text; *at;) {
        char *end = NULL;
        bool within = at > text && (isalnum((unsigned char)at[-1]) || strchr("._-", at[-1]));
        double number = isdigit((unsigned char)*at) || strchr("+-.", *at) ? strtod(at, &end) : 0;
        if (!end || end == at) {
            at++;
            continue;
        }
        if (!within && !isalpha((unsigned char)*end) && isfinite(number)) {
            *out = number;
            found = true;
        }
        at = end;
    }
    return found;
}

/* What it prints, the last MOST_OUTPUT bytes of it. */
static bool run(const char *command, char *output, SuDiags *diags) {
    FILE *pipe = popen(command, "re");
    if (!pipe) return su_error(diags, (SuSpan){0}, NULL, "quality: cannot run the command: %s", strerror(errno));
    size_t size = 0, got;
    while ((got = fread(output + size, 1, MOST_OUTPUT - 1 - size, pipe)) > 0) {
        size += got;
        if (size < MOST_OUTPUT - 1) continue;
        memmove(output, output + size / 2, size - size / 2);
        size -= size / 2;
    }
    output[size] = '\0';
    int status = pclose(pipe);
    if (status == 0) return true;
    return su_error(diags, (SuSpan){0}, NULL, "quality: the command ended with status %d",
                    WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

bool ex_quality_run(const char *command, const FeSpec *spec, double *out, SuDiags *diags) {
    char path[64];
    if (!write_spec(spec, path, diags)) return false;
    SuText line = {0};
    char *output = su_malloc(MOST_OUTPUT);
    put_path(command, path, &line);
    bool ok = output ? run(line.text, output, diags) : su_out_of_memory(diags, "for a command's output");
    if (ok && !last_number(output, out)) ok = su_error(diags, (SuSpan){0}, NULL, "quality: the command printed no number");
    su_free(output);
    su_text_free(&line);
    unlink(path);
    return ok;
}
