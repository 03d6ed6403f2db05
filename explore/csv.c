#include "explore/csv.h"

#include <inttypes.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/alloc.h"
#include "support/digest.h"
#include "support/file.h"

/* ---------------------------------------------------------------------------------------------- values */

static void node_into(const FeNode *node, SuText *out) {
    bool map = node->kind == FE_MAPPING;
    if (node->kind == FE_SCALAR || node->kind == FE_POISON) {
        su_text_add(out, "%s", node->kind == FE_SCALAR ? node->text : "");
        return;
    }
    su_text_add(out, map ? "{" : "[");
    for (size_t i = 0; i < node->count; i++) {
        if (i) su_text_add(out, ", ");
        if (map) su_text_add(out, "%s: ", node->pairs[i].key);
        node_into(map ? node->pairs[i].value : node->items[i], out);
    }
    su_text_add(out, map ? "}" : "]");
}

void ex_node_text(const FeNode *node, SuText *out) { node_into(node, out); }

static void add_field(const char *text, size_t size, SuText *out) {
    if (!memchr(text, ',', size) && !memchr(text, '"', size) && !memchr(text, '\n', size) && !memchr(text, '\r', size)) {
        su_text_append(out, text, size);
        return;
    }
    su_text_append(out, "\"", 1);
    for (size_t i = 0; i < size; i++) su_text_append(out, text[i] == '"' ? "\"\"" : text + i, text[i] == '"' ? 2 : 1);
    su_text_append(out, "\"", 1);
}

static void add_node(const FeNode *node, SuText *out) {
    if (node->kind == FE_SCALAR) {
        add_field(node->text, strlen(node->text), out);
        return;
    }
    SuText text = {0};
    ex_node_text(node, &text);
    add_field(text.text, text.size, out);
    su_text_free(&text);
}

static void add_digits(uint64_t value, SuText *out) {
    char digits[20];
    size_t at = sizeof digits;
    do digits[--at] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    su_text_append(out, digits + at, sizeof digits - at);
}

/* Most numbers are whole, or have six decimals at most (times, see sum() in cost.c): those need no search for the shortest text. */
void ex_csv_number(double value, SuText *out) {
    static const double MOST_WHOLE = 9007199254740992.0, MOST_MICROS = 9e9; /* 2^53; below it, six decimals read back the same */
    if (isnan(value)) return;
    if (value >= 0 && value <= MOST_WHOLE && value == floor(value)) {
        add_digits((uint64_t)value, out);
        return;
    }
    double micros = nearbyint(value * 1e6);
    if (value > 0 && value < MOST_MICROS && micros / 1e6 == value) {
        uint64_t all = (uint64_t)micros, fraction = all % 1000000;
        char text[8];
        add_digits(all / 1000000, out);
        int size = snprintf(text, sizeof text, ".%06u", (unsigned)fraction);
        while (text[size - 1] == '0') size--;
        su_text_append(out, text, (size_t)size);
        return;
    }
    char text[SU_REAL];
    su_real_text(value, text);
    su_text_append(out, text, strlen(text));
}

/* ---------------------------------------------------------------------------------------------- rows */

void ex_csv_header(const ExSpace *space, SuText *out) {
    su_text_add(out, "index");
    for (size_t a = 0; a < space->n_axes; a++) {
        su_text_append(out, ",", 1);
        add_field(space->axes[a].name, strlen(space->axes[a].name), out);
    }
    su_text_add(out, ",device,fidelity,spec_hash");
    for (int m = 0; m < EX_METRIC_COUNT; m++) su_text_add(out, ",%s", ex_metric((ExMetric)m)->name);
    su_text_append(out, "\n", 1);
}

void ex_csv_row(const ExSpace *space, uint64_t index, const uint32_t *choices, const char *device, const char *fidelity,
                const uint8_t *hash, const ExCost *cost, size_t device_index, SuText *out) {
    add_digits(index, out);
    for (size_t a = 0; a < space->n_axes; a++) {
        su_text_append(out, ",", 1);
        add_node(space->axes[a].nodes[choices[a]], out);
    }
    su_text_append(out, ",", 1);
    add_field(device, strlen(device), out);
    su_text_append(out, ",", 1);
    su_text_append(out, fidelity, strlen(fidelity));
    su_text_append(out, ",", 1);
    if (hash) {
        char hex[SU_HEX];
        SuDigest digest;
        memcpy(digest.bytes, hash, sizeof digest.bytes);
        su_text_append(out, su_digest_hex(&digest, hex), SU_HEX - 1);
    }
    for (int m = 0; m < EX_METRIC_COUNT; m++) {
        su_text_append(out, ",", 1);
        if (cost) ex_csv_number(ex_value(cost, (ExMetric)m, device_index), out);
    }
    su_text_append(out, "\n", 1);
}

/* ---------------------------------------------------------------------------------------------- rows that are read */

static void keep_line(ExCsvRow *row, const char *line, size_t size) {
    if (row->size + size + 1 > row->capacity) {
        size_t capacity = 2 * (row->size + size + 1);
        char *text = su_realloc(row->text, capacity);
        if (!text) su_no_memory(capacity);
        row->text = text;
        row->capacity = capacity;
    }
    memcpy(row->text + row->size, line, size);
    row->size += size;
}

bool ex_csv_read(FILE *file, ExCsvRow *row) {
    size_t quotes = 0;
    row->size = 0;
    do {
        char *line = NULL;
        size_t capacity = 0;
        ssize_t size = getline(&line, &capacity, file);
        if (size <= 0) {
            free(line);
            return false;
        }
        for (ssize_t i = 0; i < size; i++) quotes += line[i] == '"';
        keep_line(row, line, (size_t)size);
        free(line);
    } while (quotes % 2);
    if (row->text[row->size - 1] == '\n') row->size--;
    row->text[row->size] = '\0';
    return true;
}

const char *ex_csv_field(const ExCsvRow *row, size_t index, size_t *out_size) {
    const char *at = row->text;
    for (;;) {
        size_t size = 0;
        bool quoted = false;
        while (at[size] && (quoted || at[size] != ',')) quoted ^= at[size++] == '"';
        *out_size = size;
        if (index-- == 0) return at;
        if (!at[size]) return NULL;
        at += size + 1;
    }
}

bool ex_csv_is_of(const ExSpace *space, const ExCsvRow *row, const char *device) {
    size_t size;
    const char *field = ex_csv_field(row, ex_csv_device(space), &size);
    return field && size == strlen(device) && strncmp(field, device, size) == 0;
}

double ex_csv_value(const ExSpace *space, const ExCsvRow *row, ExMetric metric) {
    size_t size;
    const char *field = ex_csv_field(row, ex_csv_metric(space, metric), &size);
    return field && size > 0 ? strtod(field, NULL) : NAN;
}

bool ex_csv_each(const ExSpace *space, const char *path, const char *device, bool (*take)(void *context, const ExCsvRow *row),
                 void *context, SuDiags *diags) {
    FILE *file = fopen(path, "r");
    if (!file) return su_error(diags, su_file_span(diags, path), NULL, "cannot open: %s", su_file_error(errno));
    ExCsvRow row = {0};
    bool more = ex_csv_read(file, &row); /* the header */
    while (more && ex_csv_read(file, &row))
        if (ex_csv_is_of(space, &row, device)) more = take(context, &row);
    bool ok = !ferror(file) || su_error(diags, su_file_span(diags, path), NULL, "cannot read: %s", su_file_error(errno));
    fclose(file);
    su_free(row.text);
    return ok;
}
