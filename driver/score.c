#include "driver/score.h"

#include <math.h>

/* log Σ exp(logits) */
static double log_sum(const float *logits, int64_t n) {
    double top = logits[0], sum = 0;
    for (int64_t i = 1; i < n; i++) top = logits[i] > top ? logits[i] : top;
    for (int64_t i = 0; i < n; i++) sum += exp((double)logits[i] - top);
    return top + log(sum);
}

double dr_token_nats(const float *logits, int64_t n, int32_t token) { return log_sum(logits, n) - (double)logits[token]; }

double dr_kl_nats(const float *p, const float *q, int64_t n) {
    double log_p = log_sum(p, n), log_q = log_sum(q, n), sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double log_share = (double)p[i] - log_p;
        sum += exp(log_share) * (log_share - ((double)q[i] - log_q));
    }
    return sum;
}
