/* Values of a spec as JSON, at the places that keys.def names. */
#include <math.h>
#include <string.h>

#include "import/export/export.h"
#include "import/export/place.h"

/* ---- blocks */

const cJSON *xp_blocks(const cJSON *json) {
    const cJSON *stack = cJSON_GetObjectItemCaseSensitive(json, "stack");
    return stack ? stack->child : NULL;
}

const cJSON *xp_kind(const cJSON *entry) {
    const cJSON *block = entry->child;
    while (block && strcmp(block->string, "name") == 0) block = block->next;
    return block;
}

static bool has_experts(const cJSON *block) { return cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(block, "experts")); }

static bool is_kind(const cJSON *block, const char *kind, size_t size) {
    const bool moe = size == 3 && strncmp(kind, "moe", 3) == 0, dense = size == 5 && strncmp(kind, "dense", 5) == 0;
    if (moe || dense) return strcmp(block->string, "mlp") == 0 && has_experts(block) == moe;
    return strlen(block->string) == size && strncmp(block->string, kind, size) == 0;
}

const cJSON *xp_block_in(const cJSON *entry, const char *kind, size_t size) {
    const cJSON *block = xp_kind(entry), *found = NULL;
    if (!block || is_kind(block, kind, size)) return block;
    if (strcmp(block->string, "parallel") != 0) return NULL;
    for (const cJSON *branch = block->child; branch && !found; branch = branch->next) found = xp_block_in(branch, kind, size);
    return found;
}

static const cJSON *block_of(const cJSON *json, const char *kind, size_t size) {
    const cJSON *found = NULL;
    for (const cJSON *entry = xp_blocks(json); entry && !found; entry = entry->next) found = xp_block_in(entry, kind, size);
    return found;
}

/* ---- values */

static const cJSON *member(const cJSON *map, const char *name, size_t size) {
    for (const cJSON *item = cJSON_IsObject(map) ? map->child : NULL; item; item = item->next)
        if (strlen(item->string) == size && strncmp(item->string, name, size) == 0) return item;
    return NULL;
}

const cJSON *xp_value_at(const cJSON *json, const char *place) {
    size_t size = strcspn(place, ".");
    const cJSON *at = member(json, place, size);
    if (!at) at = block_of(json, place, size);
    while (at && place[size]) {
        place += size + 1;
        size = strcspn(place, ".");
        at = member(at, place, size);
    }
    return at;
}

bool xp_is_text(const cJSON *item, const char *text) { return cJSON_IsString(item) && strcmp(item->valuestring, text) == 0; }

double xp_number_at(const cJSON *json, const char *place) {
    const cJSON *item = xp_value_at(json, place);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

void xp_add_scales(cJSON *json) {
    const cJSON *size = cJSON_GetObjectItemCaseSensitive(json, "head_dim");
    const bool looks = json->string && strcmp(json->string, "attention") == 0 && cJSON_IsNumber(size);
    if (looks && !cJSON_GetObjectItemCaseSensitive(json, "scale"))
        cJSON_AddNumberToObject(json, "scale", 1 / sqrt(size->valuedouble));
    for (cJSON *item = json->child; item; item = item->next) xp_add_scales(item);
}
