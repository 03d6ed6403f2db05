/* What logits say: of a token, and beside other logits. In double. */
#ifndef MOSSC_DRIVER_SCORE_H
#define MOSSC_DRIVER_SCORE_H

#include <stdint.h>

/* -log of the softmax of logits[n] at `token`. */
double dr_token_nats(const float *logits, int64_t n, int32_t token);
/* KL(p ‖ q) of the softmaxes of two rows of logits, in nats. */
double dr_kl_nats(const float *p, const float *q, int64_t n);

#endif
