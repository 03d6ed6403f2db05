/* NumPy's .npy files, version 1.0: float32, C order, two dimensions. */
#ifndef MOSSC_CLI_NPY_H
#define MOSSC_CLI_NPY_H

#include <stdint.h>
#include <stdio.h>

/* The header of float32 [rows, columns]; the elements follow, row after row, little endian. */
void cli_npy_header(FILE *out, uint64_t rows, uint64_t columns);

#endif
