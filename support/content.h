/* What a file is that was given in another's place, by how it begins. */
#ifndef MOSSC_SUPPORT_CONTENT_H
#define MOSSC_SUPPORT_CONTENT_H

#include <stdbool.h>
#include <stddef.h>

/* NULL: nothing known. Else what to say ("file is a Git LFS pointer, not the file itself"), and in *out_hint what to do about it. */
const char *su_content_of(const void *data, size_t size, const char **out_hint);

/* Whether a file begins as a JSON object does; one of safetensors has zeros among its first eight bytes. */
bool su_begins_as_json(const void *data, size_t size);

#endif
