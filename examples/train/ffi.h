/* The seam between XLA and the kernels of this directory: a handler reads its
 * arguments and results as plain buffers and leaves. */
#ifndef MOSS_TRAIN_FFI_H
#define MOSS_TRAIN_FFI_H

#include <stdint.h>
#include "xla/ffi/api/c_api.h"

static inline const XLA_FFI_Buffer *arg(const XLA_FFI_CallFrame *call, int i) { return call->args.args[i]; }

static inline const XLA_FFI_Buffer *result(const XLA_FFI_CallFrame *call, int i) { return call->rets.rets[i]; }

/* XLA first asks every handler which version of the interface it speaks. True:
 * this call was that question and is answered. */
static inline int only_metadata(XLA_FFI_CallFrame *call) {
    XLA_FFI_Extension_Base *ext = call->extension_start;
    if (ext && ext->type == XLA_FFI_Extension_Metadata) {
        XLA_FFI_Metadata *m = ((XLA_FFI_Metadata_Extension *)ext)->metadata;
        m->api_version.major_version = XLA_FFI_API_MAJOR;
        m->api_version.minor_version = XLA_FFI_API_MINOR;
        return 1;
    }
    return call->stage != XLA_FFI_ExecutionStage_EXECUTE;
}

#endif
