/* What one thread computes of a kernel of training. */
#ifndef MOSSC_PYTHON_PART_H
#define MOSSC_PYTHON_PART_H

#include <stdint.h>

/* Some sequences, some channels. */
typedef struct MosscPart {
    int64_t first_sequence, end_sequence, first_channel, end_channel; /* channels: first is a multiple of 32, end too or I */
} MosscPart;

#endif
