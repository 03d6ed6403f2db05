/* Files that are carried in the library itself. */
#ifndef MOSSC_DRIVER_EMBEDDED_H
#define MOSSC_DRIVER_EMBEDDED_H

#include <stddef.h>

typedef struct DrEmbedded {
    const char *name; /* "specs/devices/graviton3.yaml" */
    const char *begin, *end;
} DrEmbedded;

/* Device files: "specs/devices/graviton3.yaml". The last one's name is NULL. */
extern const DrEmbedded dr_devices[];

#endif
