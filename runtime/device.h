/* Devices: what model.c, state.c, step.c and generate.c ask for when a model's weights, states and steps are not this process's own.
 * One struct of functions a kind; runtime/cuda/ has the one that there is, and a program that opens no device links none.
 *
 * Memory of a device is named by its address there. Every function returns when its work is done. */
#ifndef MOSSC_RUNTIME_DEVICE_H
#define MOSSC_RUNTIME_DEVICE_H

#include "runtime/model.h"

/* A step as step.c describes it; the states of the segments are addresses of the device. */
typedef struct RtDeviceStep {
    PgMode mode;
    uint32_t rows, n_segments, n_out_rows;
    uint64_t ld;
    const RtSegment *segments;
    const int32_t *tokens, *row_segment, *out_rows;
    const int64_t *row_position;
    int32_t *nonfinite; /* [rows] out, zero before */
    float *logits; /* [n_out_rows][out_stride] out */
    MossPhaseTime *times; /* [n_phases] to be added to, or NULL */
} RtDeviceStep;

enum { RT_DEVICE_STEPS = 64 }; /* that `generate` is asked for at once: displays want their GPU back, too */

/* Steps of one row a segment whose tokens are picked on the device. */
typedef struct RtDevicePicks {
    const MossVocabulary *vocabulary;
    MossSequence *sequences; /* [n_segments] samplers, tokens, ended */
    const uint32_t *from; /* [n_segments] rows of the last step's logits; NULL: step.logits has them, in order */
    uint32_t first, count; /* steps at most, whose tokens go to MossSequence.tokens from `first` on */
    uint32_t done; /* out: steps taken */
    int64_t no_number; /* out: a sequence whose logits are no numbers; -1: none */
} RtDevicePicks;

typedef struct RtDeviceKind {
    const char *name; /* as in --device */
    void (*free)(MossDevice *device);
    /* Room for weights and all that a step of one row needs; refused (MOSS_NO_MEMORY) before anything is taken. */
    MossError (*take_model)(MossDevice *device, const PgProgram *program);
    void (*leave_model)(MossDevice *device);
    MossError (*put_weights)(MossDevice *device, const uint8_t *blob, MossProgress progress, void *context);
    MossError (*get_weights)(MossDevice *device, uint8_t *blob);
    MossError (*alloc)(MossDevice *device, uint64_t bytes, uint64_t *out_address); /* zero */
    void (*release)(MossDevice *device, uint64_t address);
    MossError (*clear)(MossDevice *device, uint64_t address, uint64_t bytes);
    MossError (*copy)(MossDevice *device, uint64_t to, uint64_t from, uint64_t bytes);
    MossError (*get)(MossDevice *device, void *to, uint64_t from, uint64_t bytes);
    MossError (*put)(MossDevice *device, uint64_t to, const void *from, uint64_t bytes);
    MossError (*step)(MossDevice *device, const RtDeviceStep *step);
    uint32_t (*most_picks)(const MossDevice *device); /* sequences that `generate` takes together */
    MossError (*generate)(MossDevice *device, const RtDeviceStep *step, RtDevicePicks *picks);
} RtDeviceKind;

/* The step that rt_step_begin described. */
RtDeviceStep rt_step_of_device(const RtRunning *running);

/* What every device begins with. */
struct MossDevice {
    const RtDeviceKind *kind;
    MossModel *model; /* that it serves, or NULL */
};

#endif
