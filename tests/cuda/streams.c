/* The emulated driver's memory, copies, streams, events and graphs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "streams.h"

/* ---------------------------------------------------------------------------------------------- memory */

CuResult emulated_memory_info(size_t *available, size_t *whole) {
    CuResult result = begin(CALL_memory_info, CONTEXT);
    if (result == CU_OK) {
        *whole = device.settings.memory;
        *available = device.settings.integrated ? 4096 : device.settings.memory - emulated_current->used;
    }
    return finish(result);
}

CuResult emulated_memory_alloc(CuPointer *out, size_t bytes) {
    CuResult result = begin(CALL_memory_alloc, CONTEXT | QUIET);
    if (result == CU_OK && bytes == 0) result = CU_INVALID_VALUE;
    if (result == CU_OK &&
        (bytes > device.settings.memory || emulated_current->used + memory_charge(bytes) > device.settings.memory)) {
        result = CU_OUT_OF_MEMORY;
    }
    if (result != CU_OK) return finish(result);
    Memory *m = memory_new(MEMORY, emulated_current, bytes);
    if (m == NULL) return finish(CU_OUT_OF_MEMORY);
    emulated_current->used += memory_charge(bytes);
    *out = (CuPointer)(uintptr_t)m->data;
    return finish(CU_OK);
}

static Memory *at_its_beginning(Kind kind, const void *data) {
    for (Object *o = device.objects; o != NULL; o = o->next)
        if (o->kind == kind && ((Memory *)o)->data == data) return (Memory *)o;
    return NULL;
}

/* Frees wait for all work, as the driver's do. A call that is told to fail, or comes after the context's death, frees all the same. */
static CuResult give_back(Kind kind, const void *data, CuResult result) {
    if (result == CU_CAPTURE_UNSUPPORTED) return result;
    Memory *m = at_its_beginning(kind, data);
    if (m == NULL) return result == CU_OK ? CU_INVALID_VALUE : result;
    flush_all(m->object.context);
    object_free(&m->object);
    return result;
}

CuResult emulated_memory_free(CuPointer data) {
    CuResult result = begin(CALL_memory_free, CONTEXT | QUIET);
    if (data == 0) return finish(result);
    return finish(give_back(MEMORY, (const void *)(uintptr_t)data, result));
}

CuResult emulated_host_alloc(void **out, size_t bytes, unsigned flags) {
    CuResult result = begin(CALL_host_alloc, CONTEXT | QUIET);
    if (result == CU_OK && (bytes == 0 || flags > 7)) result = CU_INVALID_VALUE;
    if (result != CU_OK) return finish(result);
    Memory *m = memory_new(PINNED, emulated_current, bytes);
    if (m == NULL) return finish(CU_OUT_OF_MEMORY);
    *out = m->data;
    return finish(CU_OK);
}

CuResult emulated_host_free(void *data) {
    CuResult result = begin(CALL_host_free, CONTEXT | QUIET);
    return finish(give_back(PINNED, data, result));
}

/* ---------------------------------------------------------------------------------------------- streams */

static CuStreamRef default_stream(void) {
    CuStreamRef stream = emulated_current->default_stream;
    if (stream == NULL) {
        stream = object_new(STREAM, emulated_current, sizeof *stream);
        emulated_current->default_stream = stream;
    }
    return stream;
}

/* NULL if it is none of this context. */
static CuStreamRef stream_of(CuStreamRef stream) {
    if (stream == NULL) return default_stream();
    return object_find(STREAM, stream) != NULL && stream->object.context == emulated_current ? stream : NULL;
}

CuResult stream_add(CuStreamRef handle, const Operation *o) {
    CuStreamRef stream = stream_of(handle);
    if (stream == NULL) return CU_INVALID_HANDLE;
    if (stream->broken) return CU_CAPTURE_INVALIDATED;
    if (stream->capture != NULL) {
        work_add(&stream->capture->work, o);
        return CU_OK;
    }
    work_add(&stream->queue, o);
    return device.settings.lazy ? CU_OK : stream_flush(stream, NULL);
}

/* Copies from and to memory that is not pinned are done when the call returns, with all that went before. */
static CuResult add_copy(CuStreamRef handle, const Operation *o, const void *host) {
    CuResult result = stream_add(handle, o);
    CuStreamRef stream = stream_of(handle);
    if (result != CU_OK || stream->capture != NULL || memory_is_pinned(host, o->bytes)) return result;
    return stream_flush(stream, NULL);
}

static bool is_device_memory(CuPointer at, size_t bytes, const char *what) {
    return memory_holding(MEMORY, (const void *)(uintptr_t)at, bytes, what) != NULL;
}

CuResult emulated_put(CuPointer to, const void *from, size_t bytes, CuStreamRef stream) {
    CuResult result = begin(CALL_put, CONTEXT);
    Operation o = {.action = PUT, .to = (uint8_t *)(uintptr_t)to, .from = from, .bytes = bytes};
    if (result == CU_OK && !is_device_memory(to, bytes, "a copy to the device")) result = CU_INVALID_VALUE;
    return finish(result == CU_OK ? add_copy(stream, &o, from) : result);
}

CuResult emulated_get(void *to, CuPointer from, size_t bytes, CuStreamRef stream) {
    CuResult result = begin(CALL_get, CONTEXT);
    Operation o = {.action = GET, .to = to, .from = (const uint8_t *)(uintptr_t)from, .bytes = bytes};
    if (result == CU_OK && !is_device_memory(from, bytes, "a copy from the device")) result = CU_INVALID_VALUE;
    return finish(result == CU_OK ? add_copy(stream, &o, to) : result);
}

CuResult emulated_copy(CuPointer to, CuPointer from, size_t bytes, CuStreamRef stream) {
    CuResult result = begin(CALL_copy, CONTEXT);
    Operation o = {.action = COPY, .to = (uint8_t *)(uintptr_t)to, .from = (const uint8_t *)(uintptr_t)from, .bytes = bytes};
    bool known = result != CU_OK ||
                 (is_device_memory(to, bytes, "a copy on the device") && is_device_memory(from, bytes, "a copy on the device"));
    if (!known) result = CU_INVALID_VALUE;
    return finish(result == CU_OK ? stream_add(stream, &o) : result);
}

CuResult emulated_fill(CuPointer to, unsigned char value, size_t bytes, CuStreamRef stream) {
    CuResult result = begin(CALL_fill, CONTEXT);
    Operation o = {.action = FILL, .to = (uint8_t *)(uintptr_t)to, .bytes = bytes, .value = value};
    if (result == CU_OK && !is_device_memory(to, bytes, "a fill")) result = CU_INVALID_VALUE;
    return finish(result == CU_OK ? stream_add(stream, &o) : result);
}

CuResult emulated_stream_create(CuStreamRef *out, unsigned flags) {
    CuResult result = begin(CALL_stream_create, CONTEXT);
    if (result == CU_OK && flags > CU_STREAM_NON_BLOCKING) result = CU_INVALID_VALUE;
    if (result == CU_OK) *out = object_new(STREAM, emulated_current, sizeof **out);
    return finish(result);
}

CuResult emulated_stream_destroy(CuStreamRef stream) {
    CuResult result = begin(CALL_stream_destroy, CONTEXT);
    if (object_find(STREAM, stream) == NULL) return finish(result == CU_OK ? CU_INVALID_HANDLE : result);
    stream_flush(stream, NULL);
    if (stream->capture != NULL) object_free(&stream->capture->object);
    object_free(&stream->object);
    return finish(result);
}

CuResult emulated_stream_wait(CuStreamRef handle) {
    CuResult result = begin(CALL_stream_wait, CONTEXT);
    CuStreamRef stream = result == CU_OK ? stream_of(handle) : NULL;
    if (result == CU_OK && stream == NULL) result = CU_INVALID_HANDLE;
    if (result != CU_OK) return finish(result);
    if (stream->capture != NULL) {
        stream->broken = true;
        return finish(CU_CAPTURE_UNSUPPORTED);
    }
    return finish(stream_flush(stream, NULL));
}

/* ---------------------------------------------------------------------------------------------- events */

enum { EVENT_DISABLE_TIMING = 2 };

CuResult emulated_event_create(CuEventRef *out, unsigned flags) {
    CuResult result = begin(CALL_event_create, CONTEXT);
    if (result == CU_OK && flags > 3) result = CU_INVALID_VALUE;
    if (result != CU_OK) return finish(result);
    *out = object_new(EVENT, emulated_current, sizeof **out);
    (*out)->flags = flags;
    return finish(CU_OK);
}

CuResult emulated_event_destroy(CuEventRef event) {
    CuResult result = begin(CALL_event_destroy, CONTEXT);
    if (object_find(EVENT, event) == NULL) return finish(result == CU_OK ? CU_INVALID_HANDLE : result);
    flush_all(event->object.context);
    object_free(&event->object);
    return finish(result);
}

CuResult emulated_event_record(CuEventRef event, CuStreamRef stream) {
    CuResult result = begin(CALL_event_record, CONTEXT);
    if (result == CU_OK && object_find(EVENT, event) == NULL) result = CU_INVALID_HANDLE;
    if (result != CU_OK) return finish(result);
    event->stream = stream_of(stream);
    event->stamped = false;
    return finish(stream_add(stream, &(Operation){.action = STAMP, .event = event}));
}

CuResult emulated_event_wait(CuEventRef event) {
    CuResult result = begin(CALL_event_wait, CONTEXT);
    if (result == CU_OK && object_find(EVENT, event) == NULL) result = CU_INVALID_HANDLE;
    if (result != CU_OK || event->stream == NULL) return finish(result);
    if (event->stream->capture != NULL) {
        event->stream->broken = true;
        return finish(CU_CAPTURE_UNSUPPORTED);
    }
    return finish(stream_flush(event->stream, event));
}

CuResult emulated_event_elapsed(float *milliseconds, CuEventRef from, CuEventRef to) {
    CuResult result = begin(CALL_event_elapsed, CONTEXT);
    bool known = object_find(EVENT, from) != NULL && object_find(EVENT, to) != NULL;
    if (result == CU_OK && (!known || (from->flags | to->flags) & EVENT_DISABLE_TIMING)) result = CU_INVALID_HANDLE;
    if (result != CU_OK) return finish(result);
    if (!from->stamped || !to->stamped) {
        bool waiting = (from->stamped || from->stream != NULL) && (to->stamped || to->stream != NULL);
        return finish(waiting ? CU_NOT_READY : CU_INVALID_HANDLE);
    }
    *milliseconds = (float)(1e3 * (to->seconds - from->seconds));
    return finish(CU_OK);
}

/* ---------------------------------------------------------------------------------------------- graphs */

enum { CAPTURE_RELAXED = 2 };

CuResult emulated_capture_begin(CuStreamRef stream, CuCaptureMode mode) {
    CuResult result = begin(CALL_capture_begin, CONTEXT);
    if (result == CU_OK && stream == NULL) result = CU_CAPTURE_UNSUPPORTED;
    if (result == CU_OK && stream_of(stream) == NULL) result = CU_INVALID_HANDLE;
    if (result == CU_OK && (stream->capture != NULL || mode > CAPTURE_RELAXED)) result = CU_ILLEGAL_STATE;
    if (result != CU_OK) return finish(result);
    stream->capture = object_new(GRAPH, emulated_current, sizeof *stream->capture);
    stream->broken = false;
    stream->relaxed = mode == CAPTURE_RELAXED;
    stream->capturing = pthread_self();
    return finish(CU_OK);
}

CuResult emulated_capture_end(CuStreamRef stream, CuGraphRef *out) {
    CuResult result = begin(CALL_capture_end, CONTEXT);
    if (object_find(STREAM, stream) == NULL || stream->capture == NULL) return finish(result == CU_OK ? CU_ILLEGAL_STATE : result);
    if (result == CU_OK && !stream->relaxed && !pthread_equal(stream->capturing, pthread_self()))
        return finish(CU_CAPTURE_WRONG_THREAD);
    if (result == CU_OK && stream->broken) result = CU_CAPTURE_INVALIDATED;
    *out = stream->capture;
    stream->capture = NULL;
    stream->broken = false;
    if (result != CU_OK) {
        object_free(&(*out)->object);
        *out = NULL;
    }
    return finish(result);
}

CuResult emulated_graph_make(CuGraphExecRef *out, CuGraphRef graph, unsigned long long flags) {
    CuResult result = begin(CALL_graph_make, CONTEXT);
    if (result == CU_OK && object_find(GRAPH, graph) == NULL) result = CU_INVALID_HANDLE;
    if (result == CU_OK && flags != 0) result = CU_INVALID_VALUE;
    if (result != CU_OK) return finish(result);
    *out = object_new(GRAPH_EXEC, emulated_current, sizeof **out);
    for (size_t i = 0; i < graph->work.count; i++) work_add(&(*out)->work, &graph->work.operations[i]);
    return finish(CU_OK);
}

CuResult emulated_graph_launch(CuGraphExecRef exec, CuStreamRef stream) {
    CuResult result = begin(CALL_graph_launch, CONTEXT);
    if (result == CU_OK && object_find(GRAPH_EXEC, exec) == NULL) result = CU_INVALID_HANDLE;
    if (result == CU_OK && stream_of(stream) == NULL) result = CU_INVALID_HANDLE;
    if (result == CU_OK && stream_of(stream)->capture != NULL) result = CU_CAPTURE_UNSUPPORTED;
    for (size_t i = 0; result == CU_OK && i < exec->work.count; i++) result = stream_add(stream, &exec->work.operations[i]);
    return finish(result);
}

CuResult emulated_graph_destroy(CuGraphRef graph) {
    CuResult result = begin(CALL_graph_destroy, CONTEXT);
    if (object_find(GRAPH, graph) == NULL) return finish(result == CU_OK ? CU_INVALID_HANDLE : result);
    object_free(&graph->object);
    return finish(result);
}

CuResult emulated_graph_exec_destroy(CuGraphExecRef exec) {
    CuResult result = begin(CALL_graph_exec_destroy, CONTEXT);
    if (object_find(GRAPH_EXEC, exec) == NULL) return finish(result == CU_OK ? CU_INVALID_HANDLE : result);
    object_free(&exec->object);
    return finish(result);
}
