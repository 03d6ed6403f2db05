/* The emulated driver's modules, functions and launches. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "calls.h"
#include "streams.h"

/* ---------------------------------------------------------------------------------------------- modules */

/* *out_file stays open as long as the library: dlopen tells libraries apart by their names. */
static void *load_code(const Image *image, int *out_file) {
    char path[64];
    int file = memfd_create("module", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    bool written = file >= 0 && write(file, image->code, image->bytes) == (ssize_t)image->bytes;
    void *library = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (file >= 0 && library == NULL) close(file);
    *out_file = file;
    return library;
}

/* Constants are copied to where device memory lies. */
static void place_globals(CuModuleRef m) {
    for (const EmulatedGlobal *g = m->globals; g->name != NULL; g++) {
        Memory *memory = memory_new(GLOBAL, m->object.context, g->bytes);
        if (memory == NULL) abort();
        memory->module = m;
        memory->global = g;
        memory_open(memory);
        memcpy(memory->data, g->data, g->bytes);
        memory_close(memory);
    }
}

static CuModuleRef module_new(void *library, int file) {
    CuModuleRef m = object_new(MODULE, emulated_current, sizeof *m);
    size_t n = 0;
    m->library = library;
    m->file = file;
    *(void **)&m->run = dlsym(library, "simt_run");
    m->entries = dlsym(library, "emulated_entries");
    m->globals = dlsym(library, "emulated_globals");
    while (m->entries[n].name != NULL) n++;
    m->functions = calloc(n + 1, sizeof *m->functions);
    for (size_t i = 0; i < n; i++) m->functions[i] = (struct CuFunction){m, &m->entries[i], 48 << 10};
    place_globals(m);
    return m;
}

/* What keeps an image from this GPU. */
static CuResult misfit(const Image *image) {
    int has = device.settings.architecture;
    if (image->form == IMAGE_PTX) return image->architecture <= has ? CU_OK : CU_INVALID_PTX;
    return image->architecture == has ? CU_OK : CU_NO_BINARY_FOR_GPU;
}

/* What a JIT compiler has to say, where the caller wants it. */
static void write_log(const char *text, unsigned n, const CuJitOption *options, void *const *values) {
    char *log = NULL;
    size_t bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        if (options[i] == CU_JIT_ERROR_LOG) log = values[i];
        if (options[i] == CU_JIT_ERROR_LOG_BYTES) bytes = (size_t)(uintptr_t)values[i];
    }
    if (log != NULL && bytes > 0) snprintf(log, bytes, "%s", text);
}

CuResult emulated_module_load(CuModuleRef *out, const void *data, unsigned n, CuJitOption *options, void **values) {
    CuResult result = begin(CALL_module_load, CONTEXT | QUIET);
    if (result != CU_OK) return finish(result);
    Image image = image_read(data);
    void *library = NULL;
    int file;
    write_log("", n, options, values);
    if (image.code == NULL) {
        write_log("ptxas fatal   : the image is damaged, or none for this GPU", n, options, values);
        result = CU_INVALID_IMAGE;
    } else if ((result = misfit(&image)) != CU_OK) {
        if (result == CU_INVALID_PTX)
            write_log("ptxas application ptx input, line 5; fatal   : .target is higher than this GPU", n, options, values);
    } else if ((library = load_code(&image, &file)) == NULL) {
        fprintf(stderr, "emulated GPU: %s\n", dlerror());
        result = CU_INVALID_IMAGE;
    } else {
        *out = module_new(library, file);
    }
    free(image.code);
    return finish(result);
}

CuResult emulated_module_unload(CuModuleRef module) {
    CuResult result = begin(CALL_module_unload, CONTEXT | QUIET);
    if (result == CU_CAPTURE_UNSUPPORTED) return finish(result);
    if (object_find(MODULE, module) == NULL) return finish(result == CU_OK ? CU_INVALID_HANDLE : result);
    flush_all(module->object.context);
    object_free(&module->object);
    return finish(result);
}

CuResult emulated_module_function(CuFunctionRef *out, CuModuleRef module, const char *name) {
    CuResult result = begin(CALL_module_function, CONTEXT);
    if (result == CU_OK && object_find(MODULE, module) == NULL) result = CU_INVALID_HANDLE;
    if (result != CU_OK) return finish(result);
    for (CuFunctionRef f = module->functions; f->entry != NULL; f++) {
        if (strcmp(f->entry->name, name) != 0) continue;
        *out = f;
        return finish(CU_OK);
    }
    return finish(CU_NOT_FOUND);
}

CuResult emulated_module_global(CuPointer *out, size_t *bytes, CuModuleRef module, const char *name) {
    CuResult result = begin(CALL_module_global, CONTEXT);
    if (result == CU_OK && object_find(MODULE, module) == NULL) result = CU_INVALID_HANDLE;
    for (Object *o = device.objects; result == CU_OK && o != NULL; o = o->next) {
        const Memory *memory = (Memory *)o;
        if (o->kind != GLOBAL || memory->module != module || strcmp(memory->global->name, name) != 0) continue;
        if (out != NULL) *out = (CuPointer)(uintptr_t)memory->data;
        if (bytes != NULL) *bytes = memory->bytes;
        return finish(CU_OK);
    }
    return finish(result == CU_OK ? CU_NOT_FOUND : result);
}

/* ---------------------------------------------------------------------------------------------- functions */

static bool is_function(CuFunctionRef function) {
    for (Object *o = device.objects; o != NULL; o = o->next) {
        CuModuleRef m = (CuModuleRef)o;
        if (o->kind != MODULE) continue;
        for (CuFunctionRef f = m->functions; f->entry != NULL; f++)
            if (f == function) return true;
    }
    return false;
}

CuResult emulated_function_set(CuFunctionRef function, CuFunctionAttribute attribute, int value) {
    CuResult result = begin(CALL_function_set, CONTEXT);
    if (result == CU_OK && !is_function(function)) result = CU_INVALID_HANDLE;
    if (result == CU_OK && (attribute != CU_FUNC_MAX_DYNAMIC_SHARED || value < 0 || value > device_most_shared()))
        result = CU_INVALID_VALUE;
    if (result == CU_OK) function->most_shared = (uint32_t)value;
    return finish(result);
}

/* Blocks that a multiprocessor holds at once: its shared memory is a block's and a KiB more, of which each block takes one. */
static unsigned resident_blocks(const struct CuFunction *f, unsigned threads, size_t shared) {
    size_t room = (size_t)device_most_shared() + 1024, most = room / (shared + 1024);
    if (shared > f->most_shared || threads > f->entry->threads || threads == 0) return 0;
    return most < (size_t)device.settings.blocks ? (unsigned)most : (unsigned)device.settings.blocks;
}

CuResult emulated_occupancy(int *blocks, CuFunctionRef function, int threads, size_t shared) {
    CuResult result = begin(CALL_occupancy, CONTEXT);
    if (result == CU_OK && !is_function(function)) result = CU_INVALID_HANDLE;
    if (result == CU_OK) *blocks = (int)resident_blocks(function, (unsigned)threads, shared);
    return finish(result);
}

/* ---------------------------------------------------------------------------------------------- launches */

static CuResult check_launch(const Operation *o, const unsigned others[4]) {
    if (!is_function(o->function)) return CU_INVALID_HANDLE;
    for (int i = 0; i < 4; i++) {
        if (others[i] == 1) continue;
        fprintf(stderr, "emulated GPU: %s: grids and blocks have one dimension here\n", o->function->entry->name);
        return CU_INVALID_VALUE;
    }
    if (o->blocks == 0 || o->threads == 0 || o->threads % 32 != 0 || o->shared > o->function->most_shared) return CU_INVALID_VALUE;
    unsigned resident = resident_blocks(o->function, o->threads, o->shared);
    if (resident == 0) return CU_OUT_OF_RESOURCES;
    unsigned places =
        device.settings.places > 0 ? (unsigned)device.settings.places : resident * (unsigned)device.settings.multiprocessors;
    if (o->together && o->blocks > places) return CU_COOPERATIVE_LAUNCH_TOO_LARGE;
    return CU_OK;
}

static CuResult enqueue_launch(Operation *o, const unsigned others[4], CuStreamRef stream, void **params) {
    CuResult result = check_launch(o, others);
    if (result != CU_OK) return result;
    const EmulatedEntry *entry = o->function->entry;
    for (unsigned i = 0; i < entry->n_params; i++) memcpy(o->params + i * ENTRY_PARAM_BYTES, params[i], entry->sizes[i]);
    return stream_add(stream, o);
}

CuResult emulated_launch(CuFunctionRef f, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                         unsigned block_z, unsigned shared, CuStreamRef stream, void **params, void **extra) {
    CuResult result = begin(CALL_launch, CONTEXT);
    Operation o = {.action = RUN, .function = f, .blocks = grid_x, .threads = block_x, .shared = shared};
    if (result == CU_OK && extra != NULL) result = CU_INVALID_VALUE;
    if (result == CU_OK) result = enqueue_launch(&o, (const unsigned[4]){grid_y, grid_z, block_y, block_z}, stream, params);
    return finish(result);
}

CuResult emulated_launch_together(CuFunctionRef f, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                  unsigned block_y, unsigned block_z, unsigned shared, CuStreamRef stream, void **params) {
    CuResult result = begin(CALL_launch_together, CONTEXT);
    Operation o = {.action = RUN, .function = f, .blocks = grid_x, .threads = block_x, .shared = shared, .together = true};
    if (result == CU_OK) result = enqueue_launch(&o, (const unsigned[4]){grid_y, grid_z, block_y, block_z}, stream, params);
    return finish(result);
}
