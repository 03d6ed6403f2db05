/* How far positions turn in RoPE (docs/language.md, "attention"): one function for the evaluators, the runtime and the code for GPUs,
 * so that all form the same angles. */
#ifndef MOSSC_IR_ROPE_H
#define MOSSC_IR_ROPE_H

#include <stdint.h>

/* What becomes of `rate`, theta^(-2i/dim) radians a position. factor 1: nothing; high 0: it is divided by factor; else slow ones
 * are, whose wavelength is beyond original/low, fast ones, below original/high, are not, and between them lies a ramp. */
static inline double ir_rope_rate(double rate, double factor, double low, double high, int64_t original) {
    if (high == 0) return rate / factor;
    double turns = (double)original / (6.283185307179586476925 / rate); /* over the original positions: original / wavelength */
    if (turns > high) return rate;
    if (turns < low) return rate / factor;
    double kept = (turns - low) / (high - low);
    return rate * ((1 - kept) / factor + kept);
}

#endif
