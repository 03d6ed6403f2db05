/* Double-precision exp, log, sin, cos and pow of our own: the same bits on every machine.
 *
 * C libraries differ in the last bits of these; what depends on them (RoPE's tables, fresh weights, sampling) must not. Only IEEE
 * + − × ÷, fma and rint in round-to-nearest, and bit operations are used. Errors stay below 1 ulp (tests/runtime/test_dmath.c holds
 * them to that); special values are those of C's Annex F, and no floating-point flag or errno is promised. */
#ifndef MOSSC_SUPPORT_DMATH_H
#define MOSSC_SUPPORT_DMATH_H

double su_dexp(double x);
double su_dlog(double x);
/* For |x| ≤ 2^31 (angles of RoPE); NaN beyond. */
double su_dsin(double x);
double su_dcos(double x);
/* base^exponent for base > 0; NaN for base ≤ 0 or NaN. */
double su_dpow(double base, double exponent);

#endif
