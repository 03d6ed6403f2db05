/* Which build of a library made something: what a key of the cache says of its maker. */
#ifndef MOSSC_CODEGEN_BUILD_ID_H
#define MOSSC_CODEGEN_BUILD_ID_H

#include "support/digest.h"

/* Adds the build id of the loaded file that holds `address` (a function of it). The linker makes it from contents, where it is asked
 * to; a file without one adds nothing. */
void cg_add_build_id(SuDigestStream *stream, const void *address);

#endif
