/* The memory of a sequence: this process's, or its model's device's. */
#include <stdlib.h>
#include <string.h>

#include "runtime/device.h"
#include "runtime/model.h"
#include "runtime/state_file.h"
#include "support/alloc.h"
#include "support/size.h"

enum { LARGE = 1 << 20 }; /* bytes from which a state gets pages: long attention caches are then not touched before use */

static MossError no_memory(const MossModel *model) {
    return rt_error(MOSS_NO_MEMORY, "no memory for the %llu bytes of a state", (unsigned long long)model->program->state_bytes);
}

static bool make_here(RtStateMemory *memory, uint64_t bytes) {
    if (bytes >= LARGE) {
        memory->pages = rt_pages_alloc(bytes);
        memory->data = memory->pages.data;
    } else if ((memory->data = su_aligned(RT_CACHE_LINE, bytes))) {
        memset(memory->data, 0, bytes);
    }
    return memory->data != NULL;
}

MossError rt_state_memory_make(const MossModel *model, RtStateMemory *memory) {
    uint64_t state_bytes = model->program->state_bytes, bytes = su_round_up(state_bytes ? state_bytes : 1, RT_CACHE_LINE);
    *memory = (RtStateMemory){0};
    MossError error = rt_model_after_fork(model);
    if (error.code != MOSS_OK) return error;
    if (model->device) return model->device->kind->alloc(model->device, bytes, &memory->address);
    return make_here(memory, bytes) ? (MossError){.code = MOSS_OK} : no_memory(model);
}

void rt_state_memory_free(const MossModel *model, RtStateMemory *memory) {
    if (memory->address)
        model->device->kind->release(model->device, memory->address);
    else if (memory->pages.data)
        rt_pages_free(&memory->pages);
    else if (!memory->borrowed)
        su_free(memory->data);
    *memory = (RtStateMemory){0};
}

MossError rt_state_memory_clear(const MossModel *model, const RtStateMemory *memory) {
    if (memory->address) return model->device->kind->clear(model->device, memory->address, model->program->state_bytes);
    if (memory->pages.data)
        rt_pages_clear(&memory->pages);
    else
        memset(memory->data, 0, model->program->state_bytes);
    return (MossError){.code = MOSS_OK};
}

MossError rt_state_memory_copy(const MossModel *model, const RtStateMemory *to, const RtStateMemory *from) {
    uint64_t bytes = model->program->state_bytes;
    if (to->address) return model->device->kind->copy(model->device, to->address, from->address, bytes);
    rt_state_copy(to->data, from->data, bytes);
    return (MossError){.code = MOSS_OK};
}

/* ---- as files want it: in this process */

MossError rt_state_memory_here(const MossModel *model, const RtStateMemory *memory, RtStateMemory *out_here) {
    uint64_t bytes = model->program->state_bytes;
    *out_here = (RtStateMemory){.data = memory->data, .borrowed = true};
    if (!memory->address) return (MossError){.code = MOSS_OK};
    *out_here = (RtStateMemory){0};
    if (!make_here(out_here, su_round_up(bytes ? bytes : 1, RT_CACHE_LINE))) return no_memory(model);
    MossError error = model->device->kind->get(model->device, out_here->data, memory->address, bytes);
    if (error.code != MOSS_OK) rt_state_memory_free(model, out_here);
    return error;
}

MossError rt_state_memory_back(const MossModel *model, const RtStateMemory *memory, RtStateMemory *here) {
    MossError error = {.code = MOSS_OK};
    if (memory->address) error = model->device->kind->put(model->device, memory->address, here->data, model->program->state_bytes);
    rt_state_memory_free(model, here);
    return error;
}
