/* NAME.so: an artefact's object for dlopen, where a linker for its target is found. */
#ifndef MOSSC_DRIVER_ARTEFACT_LINK_H
#define MOSSC_DRIVER_ARTEFACT_LINK_H

#include "codegen/target.h"

/* Links the object into a shared one; the name of the linker, or NULL when none that knows the target is there. */
const char *dr_artefact_link(const CgTarget *target, const char *object, const char *out);

#endif
