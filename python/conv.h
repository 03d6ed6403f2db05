/* The causal convolution of a block of kind ssm with silu behind it, for training on CPUs, forward and back
 * (python/mossc/torch/native.py). Of the extension mossc._native alone.
 *
 *     p[t] = bias + sum over j of weight[j] seen[t + j]        y[t] = p[t] / (1 + exp(-p[t]))        for each channel
 *
 * where seen is past and then x. All arrays are row-major and float32, and belong to the caller. */
#ifndef MOSSC_PYTHON_CONV_H
#define MOSSC_PYTHON_CONV_H

#include "part.h"

typedef struct MosscConv {
    int64_t batch, length, inner, width; /* B, T, I, W */
    const float *x; /* [B][T][I] */
    const float *past; /* [B][W - 1][I] */
    const float *weight; /* [W][I] */
    const float *bias; /* [I]; NULL: 0 */
} MosscConv;

/* Where gradients go: x and past are written, the others added to; parts of the same channels need memory of their own for those. */
typedef struct MosscConvGradients {
    float *x, *past;
    float *weight, *bias; /* bias may be NULL */
} MosscConvGradients;

/* y [B][T][I]. */
void mossc_conv_forward(const MosscConv *conv, const MosscPart *part, float *y);
/* gy [B][T][I]. 0: no memory. */
int mossc_conv_back(const MosscConv *conv, const MosscPart *part, const float *gy, const MosscConvGradients *out);

#endif
