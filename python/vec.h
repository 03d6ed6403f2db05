/* Vectors of eight floats, for the kernels of training on CPUs. */
#ifndef MOSSC_PYTHON_VEC_H
#define MOSSC_PYTHON_VEC_H

#include <stdint.h>
#include <string.h>

enum { WIDTH = 8 };

#define LOG2_E 1.44269504f
#define LN_2 0.693147181f

typedef float vec __attribute__((vector_size(WIDTH * 4)));
typedef int32_t ivec __attribute__((vector_size(WIDTH * 4)));

#define INLINE static inline __attribute__((always_inline))

/* The same code for what processors have; the loader picks one. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

INLINE vec all(float x) { return x - (vec){0}; }

INLINE vec at(const float *p, int v) {
    vec out;
    memcpy(&out, p + v * WIDTH, sizeof out);
    return out;
}

INLINE void put(float *p, int v, vec x) { memcpy(p + v * WIDTH, &x, sizeof x); }

/* 2^x for x ≤ 0; 0 below 2^-126. The polynomial is the best of its degree in relative error on |r| ≤ 1/2, and exact at 0, so that what
 * decays slowly keeps its pace; the error is about 1e-7 in all. Adding 3·2^22 rounds, and leaves the integer in the low bits. */
INLINE vec exp2_of(vec x) {
    vec shifted = x + 12582912.0f, r = x - (shifted - 12582912.0f);
    vec p = all(0.000153458120f);
    p = p * r + 0.001339993122f;
    p = p * r + 0.009618488957f;
    p = p * r + 0.055503287770f;
    p = p * r + 0.240226468906f;
    p = p * r + 0.693147205737f;
    p = p * r + 1.0f;
    return (vec)(((ivec)p + ((ivec)shifted << 23)) & (x > all(-126.0f)));
}

/* The first `width` of n vectors' floats; zeros for the others. */
INLINE void load_some(vec *out, int n, const float *from, int64_t width) {
    if (width >= n * WIDTH) {
        for (int v = 0; v < n; v++) out[v] = at(from, v);
        return;
    }
    float rest[64] = {0};
    memcpy(rest, from, (size_t)width * 4);
    for (int v = 0; v < n; v++) out[v] = at(rest, v);
}

INLINE void store_some(float *to, const vec *x, int n, int64_t width) {
    if (width >= n * WIDTH) {
        for (int v = 0; v < n; v++) put(to, v, x[v]);
        return;
    }
    float whole[64];
    for (int v = 0; v < n; v++) put(whole, v, x[v]);
    memcpy(to, whole, (size_t)width * 4);
}

#endif
