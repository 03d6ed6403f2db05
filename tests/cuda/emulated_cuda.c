/* libmossc_emulated_cuda.so: the functions of NVIDIA's driver that runtime/cuda/driver.h lists, for a GPU that is none. What a driver
 * would refuse is refused here, with the same code; what it would let pass and do wrong (a kernel that reads past its memory, a host
 * that follows a device pointer or does not wait for a copy) ends the launch or the process, or is found not to have happened. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "calls.h"

static const char *const symbols[CALLS] = {
#define SYMBOL(name, symbol, params) [CALL_##name] = #symbol,
    RT_CUDA_SYMBOLS(SYMBOL)
#undef SYMBOL
};

Device device;
static uint64_t calls[CALLS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
_Thread_local CuContextRef emulated_current;

/* ---------------------------------------------------------------------------------------------- the frame of a call */

/* Refuses what a capture does not allow, which also spoils it. */
static CuResult spoil_captures(void) {
    CuResult result = CU_OK;
    for (Object *o = device.objects; o != NULL; o = o->next) {
        CuStreamRef stream = (CuStreamRef)o;
        if (o->kind != STREAM || stream->capture == NULL || stream->relaxed || !pthread_equal(stream->capturing, pthread_self()))
            continue;
        stream->broken = true;
        result = CU_CAPTURE_UNSUPPORTED;
    }
    return result;
}

static bool must_fail(Call call) {
    const FailingCall *f = &device.settings.fail;
    return strcmp(f->name, symbols[call]) == 0 && f->number == calls[call];
}

CuResult begin(Call call, int needs) {
    pthread_mutex_lock(&lock);
    calls[call]++;
    if (must_fail(call)) {
        CuResult code = device.settings.fail.code;
        if (emulated_current != NULL && (code == CU_ILLEGAL_ADDRESS || code == CU_LAUNCH_FAILED)) emulated_current->dead = code;
        return code;
    }
    if (!device.ready && !(needs & EVER)) return CU_NOT_INITIALIZED;
    if (needs & CONTEXT && (emulated_current == NULL || emulated_current->users == 0)) return CU_INVALID_CONTEXT;
    if (needs & CONTEXT && emulated_current->dead) return emulated_current->dead;
    return needs & QUIET ? spoil_captures() : CU_OK;
}

CuResult finish(CuResult result) {
    pthread_mutex_unlock(&lock);
    return result;
}

__attribute__((constructor)) static void load(void) { device.settings = settings_read(); }

__attribute__((destructor)) static void unload(void) {
    for (int i = 0; i < CALLS && device.settings.calls; i++)
        fprintf(stderr, "emulated GPU: calls: %s %llu\n", symbols[i], (unsigned long long)calls[i]);
    if (!device.settings.leaks) return;
    for (int i = 0; i < MAX_DEVICES; i++) {
        if (device.contexts[i].users == 0) continue;
        fprintf(stderr, "emulated GPU: leak: context of device %d, retained %d times\n", i, device.contexts[i].users);
        device.leaked = true;
    }
    device.leaked = objects_report(NULL) || device.leaked;
    if (device.leaked) _exit(LEAKED);
}

/* ---------------------------------------------------------------------------------------------- devices and contexts */

CuResult emulated_init(unsigned flags) {
    CuResult result = begin(CALL_init, EVER);
    if (result == CU_OK && flags != 0) result = CU_INVALID_VALUE;
    if (result == CU_OK && device.settings.devices == 0) result = CU_NO_DEVICE;
    device.ready = device.ready || result == CU_OK;
    return finish(result);
}

CuResult emulated_driver_version(int *version) {
    CuResult result = begin(CALL_driver_version, EVER);
    *version = device.settings.driver;
    return finish(result);
}

static const struct {
    CuResult code;
    const char *name, *text;
} errors[] = {
    {CU_OK, "CUDA_SUCCESS", "no error"},
    {CU_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CU_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CU_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CU_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CU_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CU_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CU_UNSUPPORTED_PTX_VERSION, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
     "the provided PTX was compiled with an unsupported toolchain."},
    {CU_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CU_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {CU_INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {CU_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CU_ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {CU_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CU_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CU_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CU_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {CU_MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {CU_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CU_COOPERATIVE_LAUNCH_TOO_LARGE, "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE", "too many blocks in cooperative launch"},
    {CU_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CU_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {CU_CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", "the capture was begun by another thread"},
    {CU_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"}};

static int error_index(CuResult code) {
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code) return (int)i;
    return -1;
}

CuResult emulated_error_name(CuResult code, const char **out) {
    CuResult result = begin(CALL_error_name, EVER);
    int i = error_index(code);
    if (result == CU_OK) *out = i < 0 ? NULL : errors[i].name;
    return finish(result == CU_OK && i < 0 ? CU_INVALID_VALUE : result);
}

CuResult emulated_error_text(CuResult code, const char **out) {
    CuResult result = begin(CALL_error_text, EVER);
    int i = error_index(code);
    if (result == CU_OK) *out = i < 0 ? NULL : errors[i].text;
    return finish(result == CU_OK && i < 0 ? CU_INVALID_VALUE : result);
}

CuResult emulated_device_count(int *count) {
    CuResult result = begin(CALL_device_count, NOTHING);
    if (result == CU_OK) *count = device.settings.devices;
    return finish(result);
}

static bool is_device(int ordinal) { return ordinal >= 0 && ordinal < device.settings.devices && ordinal < MAX_DEVICES; }

CuResult emulated_device_get(CuDevice *out, int ordinal) {
    CuResult result = begin(CALL_device_get, NOTHING);
    if (result == CU_OK && !is_device(ordinal)) result = CU_INVALID_DEVICE;
    if (result == CU_OK) *out = ordinal;
    return finish(result);
}

CuResult emulated_device_name(char *name, int size, CuDevice ordinal) {
    CuResult result = begin(CALL_device_name, NOTHING);
    if (result == CU_OK && !is_device(ordinal)) result = CU_INVALID_DEVICE;
    if (result == CU_OK) snprintf(name, (size_t)size, "%s", device.settings.name);
    return finish(result);
}

int device_most_shared(void) {
    switch (device.settings.architecture) {
    case 75: return 64 << 10;
    case 80:
    case 87: return 163 << 10;
    case 86:
    case 89:
    case 120:
    case 121: return 99 << 10;
    default: return 227 << 10;
    }
}

CuResult emulated_device_attribute(int *value, CuAttribute attribute, CuDevice ordinal) {
    CuResult result = begin(CALL_device_attribute, NOTHING);
    if (result == CU_OK && !is_device(ordinal)) result = CU_INVALID_DEVICE;
    if (result != CU_OK) return finish(result);
    switch (attribute) {
    case CU_ATTRIBUTE_MULTIPROCESSORS: *value = device.settings.multiprocessors; break;
    case CU_ATTRIBUTE_INTEGRATED: *value = device.settings.integrated; break;
    case CU_ATTRIBUTE_MAJOR: *value = device.settings.architecture / 10; break;
    case CU_ATTRIBUTE_MINOR: *value = device.settings.architecture % 10; break;
    case CU_ATTRIBUTE_COOPERATIVE_LAUNCH: *value = 1; break;
    case CU_ATTRIBUTE_SHARED_OPTIN: *value = device_most_shared(); break;
    default: result = CU_INVALID_VALUE;
    }
    return finish(result);
}

CuResult emulated_context_retain(CuContextRef *out, CuDevice ordinal) {
    CuResult result = begin(CALL_context_retain, NOTHING);
    if (result == CU_OK && !is_device(ordinal)) result = CU_INVALID_DEVICE;
    if (result != CU_OK) return finish(result);
    *out = &device.contexts[ordinal];
    if ((*out)->users++ == 0) **out = (struct CuContext){.device = ordinal, .users = 1};
    return finish(CU_OK);
}

/* What a context still has goes with it. */
static void context_end(CuContextRef context) {
    flush_all(context);
    if (device.settings.leaks && objects_report(context)) device.leaked = true;
    for (bool again = true; again;) {
        again = false;
        for (Object *o = device.objects; o != NULL && !again; o = o->next) {
            again = o->context == context;
            if (again) object_free(o);
        }
    }
}

CuResult emulated_context_release(CuDevice ordinal) {
    CuResult result = begin(CALL_context_release, NOTHING);
    if (!is_device(ordinal) || device.contexts[ordinal].users == 0) return finish(CU_INVALID_CONTEXT);
    if (device.contexts[ordinal].users == 1) context_end(&device.contexts[ordinal]);
    device.contexts[ordinal].users--;
    return finish(result);
}

CuResult emulated_context_set(CuContextRef context) {
    CuResult result = begin(CALL_context_set, NOTHING);
    if (result == CU_OK && context != NULL && context->users == 0) result = CU_INVALID_CONTEXT;
    if (result == CU_OK) emulated_current = context;
    return finish(result);
}
