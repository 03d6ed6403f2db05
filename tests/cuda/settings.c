#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn static void refuse(const char *item) {
    fprintf(stderr, "emulated GPU: what is MOSSC_EMULATED_GPU's '%s'?\n", item);
    exit(2);
}

static void set_text(char out[SETTING_TEXT], const char *value) { snprintf(out, SETTING_TEXT, "%s", value); }

static FailingCall failing_call(const char *value) {
    FailingCall f = {.number = 1, .code = 999};
    const char *colon = strchr(value, ':');
    if (colon == NULL) {
        set_text(f.name, value);
        return f;
    }
    snprintf(f.name, sizeof f.name, "%.*s", (int)(colon - value), value);
    char *end;
    f.number = strtoull(colon + 1, &end, 10);
    if (*end == ':') f.code = atoi(end + 1);
    return f;
}

static void set(Settings *s, const char *item, const char *key, const char *value) {
    struct {
        const char *key;
        int *number;
    } numbers[] = {{"devices", &s->devices},
                   {"architecture", &s->architecture},
                   {"multiprocessors", &s->multiprocessors},
                   {"blocks", &s->blocks},
                   {"driver", &s->driver},
                   {"newest", &s->newest},
                   {"absent", &s->absent},
                   {"places", &s->places}};
    struct {
        const char *key;
        bool *is;
    } switches[] = {{"integrated", &s->integrated}, {"lazy", &s->lazy}, {"leaks", &s->leaks}, {"calls", &s->calls}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (strcmp(key, numbers[i].key) == 0) {
            *numbers[i].number = atoi(value);
            return;
        }
    }
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        if (strcmp(key, switches[i].key) == 0) {
            *switches[i].is = atoi(value) != 0;
            return;
        }
    }
    if (strcmp(key, "name") == 0) {
        set_text(s->name, value);
        return;
    }
    if (strcmp(key, "memory") == 0) {
        s->memory = strtoull(value, NULL, 10);
        return;
    }
    if (strcmp(key, "order") == 0) {
        s->order = (unsigned)strtoul(value, NULL, 10);
        return;
    }
    if (strcmp(key, "fail") == 0) {
        s->fail = failing_call(value);
        return;
    }
    refuse(item);
}

Settings settings_read(void) {
    Settings s = {.devices = 1,
                  .name = "Emulated",
                  .architecture = 90,
                  .multiprocessors = 2,
                  .blocks = 1,
                  .memory = 256u << 20,
                  .driver = 13000,
                  .newest = 121,
                  .lazy = true};
    const char *text = getenv("MOSSC_EMULATED_GPU");
    char *copy = strdup(text != NULL ? text : ""), *rest = NULL;
    for (char *item = strtok_r(copy, ",", &rest); item != NULL; item = strtok_r(NULL, ",", &rest)) {
        char key[SETTING_TEXT];
        const char *equals = strchr(item, '=');
        if (equals == NULL || equals - item >= SETTING_TEXT) refuse(item);
        snprintf(key, sizeof key, "%.*s", (int)(equals - item), item);
        set(&s, item, key, equals + 1);
    }
    free(copy);
    return s;
}
