/* Fitting a device's time model to what was measured on it, and saying how well it then predicts what it was not fitted to.
 *
 * Half of the points that were measured, chosen by their index, give the constants: for each class of kernels weights of
 * what the work of a phase is made of (MsWeights), with the limits that were measured in turns with the point, so that what a shared machine
 * does meanwhile is divided out. The other half gives the errors. */
#ifndef MOSSC_EXPLORE_CALIBRATE_H
#define MOSSC_EXPLORE_CALIBRATE_H

#include <cjson/cJSON.h>

#include "explore/study.h"

typedef enum ExPredicted { EX_PREDICTED_DECODE, EX_PREDICTED_PREFILL, EX_PREDICTED_COUNT } ExPredicted;
typedef enum ExFidelity { EX_MODELLED, EX_CALIBRATED, EX_FIDELITY_COUNT } ExFidelity;

/* Of predictions for points that were held out. Errors are parts of what was measured: 0.05 is 5 %. */
typedef struct ExErrors {
    size_t n;
    double mape, median, within_10; /* mean and median of absolute errors; the part of points with at most 10 % */
    double spearman, kendall;       /* correlations of ranks: 1 if the order is right */
} ExErrors;

typedef struct ExCalibration {
    FeDevice device; /* with rates and kernels; its texts are the study's */
    ExErrors errors[EX_PREDICTED_COUNT][EX_FIDELITY_COUNT];
    size_t n_points, n_fitted;
    size_t n_disturbed; /* measured too, but left out: others took too much of the processor */
} ExCalibration;

const char *ex_predicted_word(ExPredicted predicted); /* "decode_ms" */
const char *ex_fidelity_word(ExFidelity fidelity);    /* "modelled" */

enum { EX_LEAST_MEASURED = 8 };

/* Needs EX_LEAST_MEASURED measured points of the host in all studies together, and the host in each. Writes calibration.json into each:
 * its own points, and the errors of all. */
bool ex_calibrate(ExStudy *studies, size_t n, ExCalibration *out, SuDiags *diags);

/* Adds an object of each metric and fidelity that has errors to a list of JSON. */
void ex_errors_json(const ExCalibration *calibration, cJSON *list);

#endif
