/* The list of all that the emulated driver has handed out. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "device.h"

void *object_new(Kind kind, CuContextRef context, size_t bytes) {
    Object *o = calloc(1, bytes);
    if (o == NULL) abort();
    *o = (Object){device.objects, kind, context};
    device.objects = o;
    return o;
}

void *object_find(Kind kind, const void *handle) {
    for (Object *o = device.objects; o != NULL; o = o->next)
        if (o == handle && o->kind == kind) return o;
    return NULL;
}

void object_remove(Object *object) {
    Object **at = &device.objects;
    while (*at != object) at = &(*at)->next;
    *at = object->next;
    free(object);
}

static bool is_default(const Object *o) { return o->kind == STREAM && o->context->default_stream == (CuStreamRef)o; }

bool objects_report(const struct CuContext *context) {
    static const char *const names[KINDS] = {[MEMORY] = "device memory",
                                             [PINNED] = "pinned memory",
                                             [MODULE] = "a module",
                                             [STREAM] = "a stream",
                                             [EVENT] = "an event",
                                             [GRAPH] = "a graph",
                                             [GRAPH_EXEC] = "an executable graph"};
    bool any = false;
    for (Object *o = device.objects; o != NULL; o = o->next) {
        if (o->kind == GLOBAL || is_default(o) || (context != NULL && o->context != context)) continue;
        any = true;
        if (o->kind == MEMORY || o->kind == PINNED)
            fprintf(stderr, "emulated GPU: leak: %zu bytes of %s\n", ((Memory *)o)->bytes, names[o->kind]);
        else
            fprintf(stderr, "emulated GPU: leak: %s\n", names[o->kind]);
    }
    return any;
}

static void work_of_object_free(Object *o) {
    if (o->kind == STREAM) work_free(&((CuStreamRef)o)->queue);
    if (o->kind == GRAPH) work_free(&((CuGraphRef)o)->work);
    if (o->kind == GRAPH_EXEC) work_free(&((CuGraphExecRef)o)->work);
}

static void module_free(CuModuleRef module) {
    for (Object *o = device.objects, *next; o != NULL; o = next) {
        next = o->next;
        if (o->kind == GLOBAL && o->context == module->object.context && ((Memory *)o)->module == module) memory_free((Memory *)o);
    }
    dlclose(module->library);
    close(module->file);
    free(module->functions);
    object_remove(&module->object);
}

void object_free(Object *o) {
    work_of_object_free(o);
    switch (o->kind) {
    case MEMORY:
        o->context->used -= memory_charge(((Memory *)o)->bytes);
        memory_free((Memory *)o);
        break;
    case PINNED:
    case GLOBAL: memory_free((Memory *)o); break;
    case MODULE: module_free((CuModuleRef)o); break;
    case STREAM:
    case EVENT:
    case GRAPH:
    case GRAPH_EXEC:
    case KINDS: object_remove(o); break;
    }
}
