/* What launches need of streams. */
#ifndef MOSSC_TESTS_CUDA_STREAMS_H
#define MOSSC_TESTS_CUDA_STREAMS_H

#include "device.h"

/* Queues an operation, or records it if the stream is captured. NULL is the default stream. */
CuResult stream_add(CuStreamRef stream, const Operation *operation);

#endif
