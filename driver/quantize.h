/* Checkpoints of floats made into checkpoints of q8 and q4 weights: all of `mossc quantize` but options and printing.
 *
 * q4's numbers are searched for the error that matters (ir/quant_search.h): where there is a text, an error of a weight counts as much
 * as the mean square, over the first part of the text, of the input that it is multiplied with, each expert's own. What a model lost is
 * told by a part of the text that calibrates nothing. */
#ifndef MOSSC_DRIVER_QUANTIZE_H
#define MOSSC_DRIVER_QUANTIZE_H

#include "driver/build.h"

typedef struct DrQuantizeOptions {
    const char *output;    /* safetensors file to be written, which is none of the inputs; not standard output: it is read again to be scored */
    const char *text;      /* file, not standard input; NULL: all inputs count the same, and nothing is scored */
    const char *eval;      /* another text to be scored, whole; NULL: the end of `text` */
    uint64_t text_bytes;   /* of `text` that calibrate, at most; of its end a quarter as many are scored */
} DrQuantizeOptions;

/* Tensors of one name and dtype. */
typedef struct DrQuantizeClass {
    const char *map; /* "in_proj"; "embed" */
    IrDtype dtype;   /* IR_Q8 or IR_Q4 */
    uint64_t tensors, weights, bytes; /* bytes: in the file */
    double error;    /* sqrt(Σ (w - w')² / Σ w²) */
    double weighted; /* the same with h: sqrt(Σ h (w - w')² / Σ h w²); without calibration the same as error */
} DrQuantizeClass;

/* How a model predicts the text that is kept apart. */
typedef struct DrQuantizeReport {
    DrQuantizeClass *classes; /* [n_classes], in the order of a checkpoint; the build's arena owns them */
    size_t n_classes;
    size_t calibrated;        /* tokens; 0: none */
    size_t scored_tokens, scored_bytes; /* 0: no text */
    double bits_before, bits_after; /* per byte: of the floats (embed and maps as float32), of what was written */
    double kl;                /* mean over tokens, in nats, of the predictions after from those before */
    uint64_t bytes_before, bytes_after; /* of all tensors' elements, in the checkpoints and in the output */
} DrQuantizeReport;

/* `build` has its spec, from a file, which is read again; it gets the model of the output where that is scored. Needs options->weights, of
 * floats. */
bool dr_quantize(DrBuild *build, const DrBuildOptions *options, const DrQuantizeOptions *quantize, DrQuantizeReport *out);

#endif
