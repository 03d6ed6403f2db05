/* What the header of an artefact for CUDA (`mossc compile --target cuda:…`) is made of, besides runtime/artefact.h. */
#ifndef MOSSC_RUNTIME_CUDA_ARTEFACT_H
#define MOSSC_RUNTIME_CUDA_ARTEFACT_H

#include "runtime/artefact.h"
#include "runtime/cuda/moss_cuda.h"

/* Puts the code in DIRECTORY/NAME.cubin into options->device, which must be there; DIRECTORY/NAME.ptx where that is code for another GPU. Then
 * moss_artefact_open. */
MossError moss_cuda_artefact_open(const MossProgram *program, const char *directory, const MossOptions *options,
                                  MossModel **out_model);

#endif
