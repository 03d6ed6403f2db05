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

static const SuJsonRules rules = {.depth = 16, .values = TK_MAX_VALUES};

bool tk_json_parse(TkReader *r, const char *text, size_t size, SuJson *out) {
    if (size > TK_MAX_FILE) return su_error(r->diags, r->span, NULL, "file exceeds the limit of %d bytes", TK_MAX_FILE);
    const char *hint, *what = su_content_of(text, size, &hint);
    if (what) return su_error(r->diags, r->span, hint, "%s", what);
    return su_json_parse(text, size, &rules, r->span, out, r->diags);
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
        if (out[i]) return tk_fail(r, place, "is duplicated");
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
