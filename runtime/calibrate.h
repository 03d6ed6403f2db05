/* What the inputs of a model's linear maps are like: sums of the squares of each, over the tokens that are fed to it. `mossc quantize`
 * asks, since an error of a weight counts as much as the square of what it is multiplied with. */
#ifndef MOSSC_RUNTIME_CALIBRATE_H
#define MOSSC_RUNTIME_CALIBRATE_H

#include "runtime/model.h"

/* Of a tensor whose maps have K inputs. Experts have inputs of their own. The calibration owns both arrays: they live until it ends, and
 * say what was fed before rt_calibration_inputs gave them. */
typedef struct RtInputs {
    uint64_t planes, K;
    const double *squares; /* [planes][K] Σ x² */
    const uint64_t *count; /* [planes] inputs */
} RtInputs;

typedef struct RtCalibration RtCalibration;

/* From now on the steps of several rows that the model makes are counted; in a step of one row nothing is. The sums do not depend on
 * threads, steps and CPUs. NULL: no memory. The model runs on CPUs, one calibration at a time, and its q8 and q4 maps do not round
 * their inputs. */
RtCalibration *rt_calibration_begin(MossModel *model);
/* Stops counting. NULL is fine. */
void rt_calibration_end(RtCalibration *calibration);
/* Of the tensor of this name; false: no linear map reads it. */
bool rt_calibration_inputs(const RtCalibration *calibration, const char *tensor, RtInputs *out);

#endif
