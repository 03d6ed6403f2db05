#include "driver/cache_directory.h"

#include <errno.h>
#include <stdlib.h>

/* The default is room for the kernels of several hundred models, few enough to be listed in no time when one is stored; that of
 * models is room for a few of the largest that a machine of today runs. */
enum { DEFAULT_MIB = 64, MODELS_MIB = 64 << 10, MOST_MIB = 16 << 20 };

/* `within`: what follows the directory that $MOSSC_CACHE_DIR names; `shared`: what follows the one for all programs. */
static const char *directory_of(SuArena *arena, const char *within, const char *shared) {
    const char *own = getenv("MOSSC_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (own && *own) return su_printf(arena, "%s%s", own, within);
    if (xdg && *xdg == '/') return su_printf(arena, "%s/mossc/%s", xdg, shared); /* a relative one is to be ignored */
    if (home && *home) return su_printf(arena, "%s/.cache/mossc/%s", home, shared);
    return NULL;
}

const char *dr_cache_directory(SuArena *arena) { return directory_of(arena, "", "kernels"); }

const char *dr_model_directory(SuArena *arena) { return directory_of(arena, "/models", "models"); }

static uint64_t most_bytes_of(const char *name, uint64_t otherwise, SuDiags *diags) {
    const char *text = getenv(name);
    if (!text || !*text) return otherwise << 20;
    char *end;
    errno = 0;
    unsigned long long mib = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && errno == 0 && mib <= MOST_MIB) return (uint64_t)mib << 20;
    su_warning(diags, (SuSpan){0}, NULL, "%s: expected a number of MiB from 0 to %d, got '%s'; using %d", name, MOST_MIB, text,
               (int)otherwise);
    return otherwise << 20;
}

uint64_t dr_cache_most_bytes(SuDiags *diags) { return most_bytes_of("MOSSC_CACHE_SIZE", DEFAULT_MIB, diags); }

uint64_t dr_models_most_bytes(SuDiags *diags) { return most_bytes_of("MOSSC_MODELS_SIZE", MODELS_MIB, diags); }

bool dr_no_cache_directory(SuDiags *diags) {
    return su_error(diags, (SuSpan){0}, "set MOSSC_CACHE_DIR to a directory", "kernel cache has no directory: HOME is not set");
}
