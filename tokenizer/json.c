#include "tokenizer/json.h"

#include <string.h>

#include "support/content.h"
#include "support/str.h"
#include "support/utf8.h"
#include "tokenizer/bpe.h"

bool tk_fail(const TkReader *r, const char *path, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *message = su_vprintf(&r->diags->arena, format, args);
    va_end(args);
    return su_error(r->diags, r->span, NULL, "%s: %s", path, message);
}

const char *tk_shown(TkReader *r, const char *text) {
    enum { MOST = 48 };
    SuText shown = {0};
    size_t size = strlen(text), at = 0;
    while (at < size && shown.size < MOST) {
        SuUtf8 c = su_utf8_at(text + at, size - at);
        if (!c.whole || c.code < 0x20 || (c.code >= 0x7F && c.code < 0xA0))
            su_text_add(&shown, "\\u%04x", (unsigned)c.code);
        else
            su_text_append(&shown, text + at, c.size);
        at += c.size;
    }
    const char *copy = su_printf(&r->arena, "'%s'%s", shown.text ? shown.text : "", at < size ? "…" : "");
    su_text_free(&shown);
    return copy;
}

/* ---- parsing */

enum { MAX_DEPTH = 16 };

/* What cJSON takes or would choke on: depth, NUL, bytes that are no UTF-8, more values than memory should be spent on. */
static bool scan(TkReader *r, const char *text, size_t size) {
    bool in_string = false;
    int depth = 0;
    size_t values = 0;
    for (size_t i = 0, n; i < size; i += n) {
        SuUtf8 c = su_utf8_at(text + i, size - i);
        n = c.size;
        if (!c.whole || !c.code) return su_error(r->diags, r->span, NULL, "byte %zu is not UTF-8 text", i);
        if (in_string) {
            if (text[i] == '\\' && i + 1 < size) {
                if (size - i >= 6 && !memcmp(text + i, "\\u0000", 6))
                    return su_error(r->diags, r->span, NULL, "NUL character in a text at byte %zu", i);
                n = su_utf8_at(text + i + 1, size - i - 1).code < 0x80 ? 2 : 1;
            } else if (text[i] == '"') {
                in_string = false;
            }
        } else if (text[i] == '"') {
            in_string = true;
        } else if (text[i] == '{' || text[i] == '[') {
            if (++depth > MAX_DEPTH)
                return su_error(r->diags, r->span, NULL, "nested deeper than %d levels at byte %zu", MAX_DEPTH, i);
        } else if (text[i] == '}' || text[i] == ']') {
            depth--;
        }
        values += !in_string && (text[i] == ',' || text[i] == '[' || text[i] == '{');
    }
    return values <= TK_MAX_VALUES ||
           su_error(r->diags, r->span, NULL, "holds more than %d values, the most that is read", TK_MAX_VALUES);
}

cJSON *tk_json_parse(TkReader *r, const char *text, size_t size) {
    if (size > TK_MAX_FILE) {
        su_error(r->diags, r->span, NULL, "is larger than %d bytes, the most that is read here", TK_MAX_FILE);
        return NULL;
    }
    const char *hint, *what = su_content_of(text, size, &hint);
    if (what) {
        su_error(r->diags, r->span, hint, "%s", what);
        return NULL;
    }
    if (!scan(r, text, size)) return NULL;
    const char *end = NULL;
    cJSON *root = cJSON_ParseWithLengthOpts(text, size, &end, false);
    if (!root) {
        size_t at = end && end >= text ? (size_t)(end - text) : 0;
        su_error(r->diags, r->span, NULL, "is not JSON: error near byte %zu", at);
        return NULL;
    }
    size_t at = (size_t)(end - text);
    while (at < size && strchr(" \t\r\n", text[at])) at++;
    if (at < size) {
        su_error(r->diags, r->span, NULL, "has something behind its JSON, at byte %zu", at);
        cJSON_Delete(root);
        return NULL;
    }
    return root;
}

/* ---- maps */

static unsigned type_of(const cJSON *item) {
    switch (item->type & 0xFF) {
    case cJSON_NULL: return TK_NULL;
    case cJSON_False:
    case cJSON_True: return TK_BOOL;
    case cJSON_Number: return TK_NUMBER;
    case cJSON_String: return TK_STRING;
    case cJSON_Array: return TK_LIST;
    default: return TK_MAP;
    }
}

static const char *expected(TkReader *r, unsigned types) {
    static const char *const words[] = {"null", "true or false", "a number", "a text", "a list", "a map"};
    const char *all = NULL;
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (types & 1u << i) all = all ? su_printf(&r->arena, "%s or %s", all, words[i]) : words[i];
    return all;
}

static bool read_field(TkReader *r, const char *path, const cJSON *child, const TkField *fields, size_t count, const cJSON **out) {
    const char *place = *path ? su_printf(&r->arena, "%s.%s", path, tk_shown(r, child->string)) : tk_shown(r, child->string);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(fields[i].name, child->string) != 0) continue;
        place = su_printf(&r->arena, *path ? "%s.%s" : "%s%s", path, child->string);
        if (out[i]) return tk_fail(r, place, "is there twice");
        if (!(fields[i].types & type_of(child))) return tk_fail(r, place, "expected %s", expected(r, fields[i].types));
        out[i] = child;
        return true;
    }
    return tk_fail(r, place, "is not understood");
}

bool tk_fields(TkReader *r, const char *path, const cJSON *item, const TkField *fields, size_t count, const cJSON **out) {
    memset(out, 0, count * sizeof *out);
    if (!cJSON_IsObject(item)) return tk_fail(r, *path ? path : "the file", "expected a map");
    for (const cJSON *child = item->child; child; child = child->next)
        if (!read_field(r, path, child, fields, count, out)) return false;
    for (size_t i = 0; i < count; i++) {
        if (!out[i] && fields[i].types & TK_REQUIRED)
            return tk_fail(r, su_printf(&r->arena, *path ? "%s.%s" : "%s%s", path, fields[i].name), "is missing");
        if (out[i] && cJSON_IsNull(out[i])) out[i] = NULL;
    }
    return true;
}

const char *tk_type(TkReader *r, const char *path, const cJSON *item) {
    if (!cJSON_IsObject(item)) {
        tk_fail(r, path, "expected a map");
        return NULL;
    }
    for (const cJSON *child = item->child; child; child = child->next)
        if (strcmp(child->string, "type") == 0 && cJSON_IsString(child)) return child->valuestring;
    tk_fail(r, su_printf(&r->arena, "%s.type", path), "expected a text");
    return NULL;
}

bool tk_whole(const cJSON *item, int32_t most, int32_t *out) {
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) || item->valuedouble > most) return false;
    *out = (int32_t)item->valuedouble;
    return *out == item->valuedouble;
}
