/* What the header of an artefact (`mossc compile`) is made of: models and tokenizers from the files of its directory. */
#ifndef MOSSC_RUNTIME_ARTEFACT_H
#define MOSSC_RUNTIME_ARTEFACT_H

#include "mossc/moss.h"
#include "runtime/tokenizer.h"

/* moss_model_open of DIRECTORY/NAME.weights, with the program's name. */
MossError moss_artefact_open(const MossProgram *program, const MossKernels *codes, const char *directory,
                             const MossOptions *options, MossModel **out_model);
/* The tokenizer `bytes` (rt_tokenizer_bytes). */
MossError moss_artefact_bytes(int64_t vocab_size, int32_t bos, int32_t eos, RtTokenizer **out_tokenizer);

/* The ids that a model is fed for a text: bos, if there is one, and rt_tokenizer_encode's. */
MossError moss_encode(const RtTokenizer *tokenizer, const char *text, size_t size, RtTokens *out);

#endif
