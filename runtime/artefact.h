/* What main.c of an artefact (`mossc compile`) includes besides the model's header. */
#ifndef MOSSC_RUNTIME_ARTEFACT_H
#define MOSSC_RUNTIME_ARTEFACT_H

#include "mossc/moss.h"
#include "runtime/tokenizer.h"

#endif
