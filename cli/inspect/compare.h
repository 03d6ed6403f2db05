/* `mossc explain DIR --point A --point B`. */
#ifndef MOSSC_CLI_COMPARE_H
#define MOSSC_CLI_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

/* Compares two points of the study in `directory` on one of its devices (NULL: the first). The exit status. */
int cli_compare(const char *directory, const uint64_t points[2], const char *device, bool json);

#endif
