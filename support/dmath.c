/* exp, log, sin, cos, pow in double.
 *
 * All are the same three steps: reduce the argument with an exact or double-double remainder, evaluate a Taylor polynomial long
 * enough that its truncation lies below 2^-58, and add the leading terms last so that only their sum rounds. A Taylor
 * polynomial costs a few terms more than a minimax one and needs no derivation: its coefficients are 1/n! or 2/(2n+1).
 *
 * A double-double is an unevaluated sum hi + lo with |lo| ≤ ulp(hi)/2. */
#include "support/dmath.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct Pair {
    double hi, lo;
} Pair;

/* Constants as sums of doubles, each the nearest double to what the ones before leave over. */
static const double ln2_hi = 0x1.62e42fefa39efp-1, ln2_lo = 0x1.abc9e3b39803fp-56;
static const double log2_e = 0x1.71547652b82fep+0;
static const double half_pi_hi = 0x1.921fb54442d18p+0, half_pi_mid = 0x1.1a62633145c07p-54, half_pi_lo = -0x1.f1976b7ed8fbcp-110;
static const double two_over_pi = 0x1.45f306dc9c883p-1;
static const double two_thirds_hi = 0x1.5555555555555p-1, two_thirds_lo = 0x1.5555555555555p-55;

static uint64_t bits_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double from_bits(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* 2^e for a normal result, e in [-1022, 1023]. */
static double power_of_two(int e) { return from_bits((uint64_t)(e + 1023) << 52); }

/* a + b exactly, for any a and b (Knuth). */
static Pair two_sum(double a, double b) {
    double s = a + b, t = s - a;
    return (Pair){s, (a - (s - t)) + (b - t)};
}

/* a * b exactly (no underflow). */
static Pair two_product(double a, double b) {
    double p = a * b;
    return (Pair){p, fma(a, b, -p)};
}

/* Sum of two pairs, relative error about 2^-104 where they do not cancel. */
static Pair add_pairs(Pair a, Pair b) {
    Pair s = two_sum(a.hi, b.hi);
    return two_sum(s.hi, s.lo + (a.lo + b.lo));
}

static Pair multiply_pairs(Pair a, Pair b) {
    Pair p = two_product(a.hi, b.hi);
    return two_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

/* ---- exp */

/* e^(x.hi + x.lo) for finite x. With k = rint(x / ln 2), r = x − k ln 2, |r| ≤ 0.347: 2^k · (1 + r + r²/2! + … + r^14/14!);
 * the term left out is below 2^-62. */
static double exp_pair(Pair x) {
    if (x.hi > 709.8) return INFINITY;
    if (x.hi < -745.2) return 0;
    double k = rint(x.hi * log2_e);
    double high = fma(-k, ln2_hi, x.hi); /* off by one rounding, which `error` holds */
    Pair product = two_product(k, ln2_hi);
    double error = ((x.hi - product.hi) - high) - product.lo;
    double low = (error + x.lo) - k * ln2_lo;
    double r = high + low;
    static const double term[] = {1.0 / 2,         1.0 / 6,          1.0 / 24,         1.0 / 120,     1.0 / 720,
                                  1.0 / 5040,      1.0 / 40320,      1.0 / 362880,     1.0 / 3628800, 1.0 / 39916800,
                                  1.0 / 479001600, 1.0 / 6227020800, 1.0 / 87178291200};
    int last = (int)(sizeof term / sizeof *term) - 1;
    double sum = term[last];
    for (int i = last - 1; i >= 0; i--) sum = fma(sum, r, term[i]);
    double tail = fma(r * r, sum, (high - r) + low);
    double value = 1 + (r + tail);
    int e = (int)k, half = e / 2; /* two exact steps reach the largest and, with one rounding, the subnormal results */
    return value * power_of_two(half) * power_of_two(e - half);
}

double su_dexp(double x) {
    if (isnan(x)) return x;
    return exp_pair((Pair){x, 0});
}

/* ---- log */

/* log x for finite x > 0, relative error about 2^-64. x = 2^k m with m in [√½, √2): log m = 2 artanh s = 2 s + 2/3 s³ + …
 * + 2/25 s^25 where s = (m − 1)/(m + 1), |s| ≤ 0.172; the term left out is below 2^-66 of the first. The first two terms are
 * added in double-double. */
static Pair log_pair(double x) {
    int k = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        k = -54;
    }
    uint64_t bits = bits_of(x);
    k += (int)(bits >> 52) - 1023;
    double m = from_bits((bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000);
    if (m > 0x1.6a09e667f3bcdp+0) {
        m *= 0.5;
        k++;
    }
    double f = m - 1; /* exact */
    Pair d = two_sum(m, 1);
    Pair s = {f / d.hi, 0};
    s.lo = (fma(-s.hi, d.hi, f) - s.hi * d.lo) / d.hi;
    Pair z = multiply_pairs(s, s);
    static const double term[] = {2.0 / 5,  2.0 / 7,  2.0 / 9,  2.0 / 11, 2.0 / 13, 2.0 / 15,
                                  2.0 / 17, 2.0 / 19, 2.0 / 21, 2.0 / 23, 2.0 / 25};
    int last = (int)(sizeof term / sizeof *term) - 1;
    double sum = term[last];
    for (int i = last - 1; i >= 0; i--) sum = fma(sum, z.hi, term[i]);
    /* s · (2 + z · (2/3 + z · sum)) */
    Pair inner = add_pairs((Pair){two_thirds_hi, two_thirds_lo}, (Pair){z.hi * sum, 0});
    Pair log_m = multiply_pairs(s, add_pairs((Pair){2, 0}, multiply_pairs(z, inner)));
    Pair log_2k = multiply_pairs((Pair){k, 0}, (Pair){ln2_hi, ln2_lo});
    return add_pairs(log_2k, log_m);
}

double su_dlog(double x) {
    if (isnan(x) || x == INFINITY) return x;
    if (x < 0) return NAN;
    if (x == 0) return -INFINITY;
    Pair r = log_pair(x);
    return r.hi + r.lo;
}

/* ---- pow */

double su_dpow(double base, double exponent) {
    if (!(base > 0) || isnan(exponent)) return NAN;
    if (exponent == 0 || base == 1) return 1;
    if (isinf(base) || isinf(exponent)) return (base > 1) == (exponent > 0) ? INFINITY : 0;
    Pair l = log_pair(base);
    double rough = l.hi * exponent;
    if (fabs(rough) > 1000) /* overflow or underflow; and no infinity enters the pair */
        return rough > 0 ? INFINITY : 0;
    return exp_pair(multiply_pairs(l, (Pair){exponent, 0}));
}

/* ---- sin, cos */

/* x = n π/2 + r with |r| ≤ π/4 + a little; gives n mod 4. For 1 ≤ |x| ≤ 2^31, x and n·half_pi_hi are multiples of 2^-52 and
 * their difference is below 1, so the first fma is exact (and a bit finer below 1); what the first part of π/2 leaves over is
 * subtracted in double-double. The three parts hold 160 bits of π/2: r is good to 2^-104 even where x is nearest to n π/2. */
static int reduce(double x, Pair *out_r) {
    double n = rint(x * two_over_pi);
    double first = fma(-n, half_pi_hi, x);
    Pair second = two_product(-n, half_pi_mid);
    Pair r = two_sum(first, second.hi);
    *out_r = two_sum(r.hi, (r.lo + second.lo) - n * half_pi_lo);
    return (int)((int64_t)n & 3);
}

/* sin r = r − r³/3! + … + r^17/17!; the term left out is below 2^-63. r.lo enters through the derivative, cos r ≈ 1 − r²/2. */
static double sin_near_0(Pair r) {
    static const double term[] = {-1.0 / 6,        1.0 / 120,        -1.0 / 5040,          1.0 / 362880,
                                  -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000, 1.0 / 355687428096000};
    int last = (int)(sizeof term / sizeof *term) - 1;
    double z = r.hi * r.hi, sum = term[last];
    for (int i = last - 1; i >= 0; i--) sum = fma(sum, z, term[i]);
    return r.hi + fma(r.hi * z, sum, r.lo * (1 - 0.5 * z));
}

/* cos r = 1 − r²/2! + r⁴/4! − … − r^18/18!; the term left out is below 2^-68. */
static double cos_near_0(Pair r) {
    static const double term[] = {1.0 / 24,        -1.0 / 720,         1.0 / 40320,          -1.0 / 3628800,
                                  1.0 / 479001600, -1.0 / 87178291200, 1.0 / 20922789888000, -1.0 / 6402373705728000};
    int last = (int)(sizeof term / sizeof *term) - 1;
    double z = r.hi * r.hi, sum = term[last];
    for (int i = last - 1; i >= 0; i--) sum = fma(sum, z, term[i]);
    double half = 0.5 * z, most = 1 - half;
    double error = (1 - most) - half + -0.5 * fma(r.hi, r.hi, -z); /* of `most`, and of z itself */
    return most + (error + fma(z * z, sum, -r.hi * r.lo));
}

double su_dsin(double x) {
    if (!(fabs(x) <= 0x1p31)) return NAN;
    if (x == 0) return x; /* keeps the sign of zero */
    Pair r;
    int quarter = reduce(x, &r);
    double value = quarter & 1 ? cos_near_0(r) : sin_near_0(r);
    return quarter & 2 ? -value : value;
}

double su_dcos(double x) {
    if (!(fabs(x) <= 0x1p31)) return NAN;
    Pair r;
    int quarter = reduce(x, &r);
    double value = quarter & 1 ? sin_near_0(r) : cos_near_0(r);
    return (quarter + 1) & 2 ? -value : value;
}
