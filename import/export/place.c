/* Values of a spec as JSON, at the places that keys.def names. */
#include <string.h>

#include "import/export/export.h"

/* The map of the first block of a kind. */
static const cJSON *block_of(const cJSON *json, const char *kind, size_t size) {
    const cJSON *stack = cJSON_GetObjectItemCaseSensitive(json, "stack");
    for (const cJSON *entry = stack ? stack->child : NULL; entry; entry = entry->next)
        for (const cJSON *block = entry->child; block; block = block->next)
            if (strlen(block->string) == size && strncmp(block->string, kind, size) == 0) return block;
    return NULL;
}

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
