/* The selective scan of mamba1 for training on CPUs, forward and back (python/mossc/torch/native.py). Of the extension mossc._native alone.
 *
 * Each token t chooses K of E experts, each of which has a state; those of the others stay as they are:
 *
 *     s_e <- exp(dt[t][k] A_e) s_e + (dt[t][k] x[t]) B[t][k]        y[t] = sum over k of gate[t][k] (s_e . C[t][k])
 *
 * All arrays are row-major and float32, and belong to the caller. */
#ifndef MOSSC_PYTHON_SCAN_H
#define MOSSC_PYTHON_SCAN_H

#include "part.h"

typedef struct MosscScan {
    int64_t batch, length, chosen, experts, inner, states; /* B, T, K, E, I, N */
    int64_t tables; /* of A: E, or 1 for all */
    const float *x; /* [B][T][I] */
    const float *dt; /* [B][T][K][I] */
    const float *b, *c; /* [B][T][K][N] */
    const int64_t *index; /* [B][T][K]; NULL: E = K = 1 */
    const float *gate; /* [B][T][K]; NULL: 1 */
    const float *a; /* [tables][I][N] */
    const float *start; /* [B][E][I][N] */
} MosscScan;

/* Where gradients go: x, dt and start are written, the others added to. Those that several parts would add to need memory for each. */
typedef struct MosscScanGradients {
    float *x, *dt, *start;
    float *b, *c, *gate; /* gate may be NULL; parts of the same sequences add */
    float *a; /* all parts add */
} MosscScanGradients;

/* The floats that going forward keeps for going back, of the whole scan. */
int64_t mossc_scan_kept(const MosscScan *scan);
/* y [B][T][I], last [B][E][I][N]; kept: mossc_scan_kept floats of the caller, of which each part writes its own; NULL: nothing is kept.
 * 0: no memory. */
int mossc_scan_forward(const MosscScan *scan, const MosscPart *part, float *y, float *last, float *kept);
/* kept: of going forward; gy [B][T][I], g_last [B][E][I][N]: gradients of the results. 0: no memory. */
int mossc_scan_back(const MosscScan *scan, const MosscPart *part, const float *kept, const float *gy, const float *g_last,
                    const MosscScanGradients *out);

#endif
