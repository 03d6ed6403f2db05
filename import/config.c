#include "import/config.h"

#include <math.h>
#include <string.h>

#include "support/str.h"

static const char *const harmless[] = {
#define IM_HARMLESS(key) #key,
#include "import/harmless.def"
};

struct ImConfigState {
    ImConfig *all; /* newest first */
    bool failed;
};

/* ---- finding */

static ImConfig *make(const cJSON *map, const char *path, const char *place, ImConfigState *state, SuArena *arena, SuDiags *diags) {
    ImConfig *c = SU_NEW(arena, ImConfig);
    size_t count = 0;
    for (const cJSON *item = map ? map->child : NULL; item; item = item->next) count++;
    *c = (ImConfig){.map = map, .path = path, .place = place, .arena = arena, .diags = diags, .state = state, .next = state->all};
    c->seen = SU_NEW_ARRAY(arena, bool, count);
    state->all = c;
    if (!cJSON_IsObject(map) || count > IM_MAX_KEYS) {
        su_error(diags, su_file_span(diags, path), NULL, "%sexpected a JSON object of at most %d keys", place, IM_MAX_KEYS);
        state->failed = true;
        c->map = NULL;
    }
    return c;
}

ImConfig *im_config(const cJSON *map, const char *path, SuArena *arena, SuDiags *diags) {
    return make(map, path, "", SU_NEW(arena, ImConfigState), arena, diags);
}

bool im_config_failed(const ImConfig *c) { return c->state->failed; }

/* The value of a key, marked; NULL where it is missing or null. */
static const cJSON *find(const ImConfig *c, const char *key) {
    size_t i = 0;
    for (const cJSON *item = c->map ? c->map->child : NULL; item; item = item->next, i++) {
        if (strcmp(item->string, key) != 0) continue;
        c->seen[i] = true;
        return cJSON_IsNull(item) ? NULL : item;
    }
    return NULL;
}

bool im_has(const ImConfig *c, const char *key) {
    const cJSON *item = c->map ? cJSON_GetObjectItemCaseSensitive(c->map, key) : NULL;
    return item && !cJSON_IsNull(item);
}

bool im_is_null(const ImConfig *c, const char *key) {
    return c->map && cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(c->map, key));
}

void im_config_error(const ImConfig *c, const char *key, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *text = su_vprintf(&c->diags->arena, format, args);
    va_end(args);
    su_error(c->diags, su_file_span(c->diags, c->path), NULL, "%s%s: %s", c->place, key, text);
    c->state->failed = true;
}

static const cJSON *need(const ImConfig *c, const char *key) {
    const cJSON *item = find(c, key);
    if (!item && c->map) im_config_error(c, key, "the key is missing");
    return item;
}

/* ---- values */

bool im_json_real(const cJSON *item, double *out) {
    const cJSON *word = cJSON_IsObject(item) && item->child && !item->child->next ? item->child : NULL;
    if (word && strcmp(word->string, "__float__") == 0 && cJSON_IsString(word)) {
        bool minus = strcmp(word->valuestring, "-Infinity") == 0;
        *out = minus ? -HUGE_VAL : HUGE_VAL;
        return minus || strcmp(word->valuestring, "Infinity") == 0;
    }
    *out = cJSON_IsNumber(item) ? item->valuedouble : 0;
    return cJSON_IsNumber(item);
}

static int64_t integer(const ImConfig *c, const char *key, const cJSON *item, int64_t least) {
    double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (value >= (double)least && value <= INT32_MAX && value == floor(value)) return (int64_t)value;
    im_config_error(c, key, "expected an integer from %d to %d", (int)least, INT32_MAX);
    return 1;
}

static double real(const ImConfig *c, const char *key, const cJSON *item) {
    double value;
    if (im_json_real(item, &value)) return value;
    im_config_error(c, key, "expected a number");
    return 1;
}

static const char *text(const ImConfig *c, const char *key, const cJSON *item) {
    if (cJSON_IsString(item)) return item->valuestring;
    im_config_error(c, key, "expected a text");
    return "";
}

int64_t im_int(const ImConfig *c, const char *key) {
    const cJSON *item = need(c, key);
    return item ? integer(c, key, item, 1) : 1;
}

double im_real(const ImConfig *c, const char *key) {
    const cJSON *item = need(c, key);
    return item ? real(c, key, item) : 1;
}

const char *im_text(const ImConfig *c, const char *key) {
    const cJSON *item = need(c, key);
    return item ? text(c, key, item) : "";
}

int64_t im_int_or(const ImConfig *c, const char *key, int64_t value) {
    const cJSON *item = find(c, key);
    return item ? integer(c, key, item, 0) : value;
}

double im_real_or(const ImConfig *c, const char *key, double value) {
    const cJSON *item = find(c, key);
    return item ? real(c, key, item) : value;
}

bool im_bool_or(const ImConfig *c, const char *key, bool value) {
    const cJSON *item = find(c, key);
    if (item && !cJSON_IsBool(item)) im_config_error(c, key, "expected true or false");
    return item ? cJSON_IsTrue(item) : value;
}

const char *im_text_or(const ImConfig *c, const char *key, const char *value) {
    const cJSON *item = find(c, key);
    return item ? text(c, key, item) : value;
}

bool im_text_is(const ImConfig *c, const char *key, const char *value) {
    const cJSON *item = c->map ? cJSON_GetObjectItemCaseSensitive(c->map, key) : NULL;
    return cJSON_IsString(item) && strcmp(item->valuestring, value) == 0 && find(c, key);
}

int64_t im_floor(const ImConfig *c, const char *key, double value) {
    if (value >= 1 && value <= INT32_MAX) return (int64_t)value;
    im_config_error(c, key, "makes a width that is not between 1 and %d", INT32_MAX);
    return 1;
}

ImConfig *im_map(const ImConfig *c, const char *key) {
    const cJSON *item = find(c, key);
    if (!item) return NULL;
    if (!cJSON_IsObject(item)) im_config_error(c, key, "expected a map");
    if (!cJSON_IsObject(item)) return NULL;
    for (ImConfig *made = c->state->all; made; made = made->next)
        if (made->map == item) return made;
    return make(item, c->path, su_printf(c->arena, "%s%s.", c->place, key), c->state, c->arena, c->diags);
}

ImConfig *im_map_or_empty(const ImConfig *c, const char *key) {
    static const cJSON empty = {.type = cJSON_Object};
    ImConfig *in = im_map(c, key);
    return in ? in : make(&empty, c->path, su_printf(c->arena, "%s%s.", c->place, key), c->state, c->arena, c->diags);
}

const cJSON *im_list(const ImConfig *c, const char *key, size_t *out_count) {
    const cJSON *item = find(c, key);
    *out_count = 0;
    if (!item) return NULL;
    if (!cJSON_IsArray(item)) {
        im_config_error(c, key, "expected a list");
        return NULL;
    }
    for (const cJSON *at = item->child; at; at = at->next) ++*out_count;
    return item;
}

bool im_reals(const ImConfig *c, const char *key, size_t n, double *out) {
    size_t count;
    const cJSON *list = im_list(c, key, &count), *item = list ? list->child : NULL;
    bool ok = list && count == n;
    for (size_t i = 0; i < n; i++) {
        out[i] = 1;
        ok = ok && im_json_real(item, &out[i]);
        item = ok ? item->next : NULL;
    }
    if (list && !ok) im_config_error(c, key, "expected a list of %zu numbers", n);
    return ok;
}

/* ---- what has no effect, or must not have one */

void im_ignore(const ImConfig *c, const char *keys) {
    while (*keys) {
        size_t size = strcspn(keys, " ");
        find(c, su_strndup(c->arena, keys, size));
        keys += size + strspn(keys + size, " ");
    }
}

void im_expect_bool(const ImConfig *c, const char *key, bool value) {
    if (im_bool_or(c, key, value) != value)
        im_config_error(c, key, "expected %s: the language has nothing else", value ? "true" : "false");
}

void im_expect_text(const ImConfig *c, const char *key, const char *value) {
    const char *given = im_text_or(c, key, value);
    if (strcmp(given, value) != 0) im_config_error(c, key, "expected %s, got '%s': the language has nothing else", value, given);
}

void im_expect_real(const ImConfig *c, const char *key, double value) {
    char expected[SU_REAL], got[SU_REAL];
    double given = im_real_or(c, key, value);
    if (given != value)
        im_config_error(c, key, "expected %s, got %s: the language has nothing else", su_real_text(value, expected),
                        su_real_text(given, got));
}

static bool is_harmless(const char *key) {
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++)
        if (strcmp(key, harmless[i]) == 0) return true;
    return false;
}

static void all_used(const ImConfig *c) {
    size_t i = 0;
    for (const cJSON *item = c->map ? c->map->child : NULL; item; item = item->next, i++)
        if (cJSON_GetObjectItemCaseSensitive(c->map, item->string) != item)
            im_config_error(c, item->string, "the key is there twice");
        else if (!c->seen[i] && !cJSON_IsNull(item) && (c->place[0] || !is_harmless(item->string)))
            im_config_error(c, item->string, "the key is not known for this kind of model, and may change what it computes");
}

void im_config_all_used(const ImConfig *c) {
    for (const ImConfig *one = c->state->all; one; one = one->next) all_used(one);
}
