/* Token ids as text. */
#ifndef MOSSC_DRIVER_TOKEN_FILE_H
#define MOSSC_DRIVER_TOKEN_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "support/diag.h"

/* Reads ids separated by blanks, commas or line breaks from a file ("-": standard input) into `arena`. At least one is there
 * and each is below `vocab_size`; what is wrong is reported with its place in the file. */
bool dr_read_tokens(SuArena *arena, const char *path, int64_t vocab_size, int32_t **out_tokens, size_t *out_count, SuDiags *diags);

#endif
