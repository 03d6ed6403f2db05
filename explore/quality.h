/* The quality of points that something else has judged: a file of numbers by the hash of the spec, or a command. */
#ifndef MOSSC_EXPLORE_QUALITY_H
#define MOSSC_EXPLORE_QUALITY_H

#include "explore/cost.h"

/* An ExQuality is only read: any thread may look up. */

/* Reads a CSV file whose header has the columns spec_hash and quality, in any order beside any others. Without memory it ends the guard.
 * NULL: the reason is in diags. */
ExQuality *ex_quality_read(const char *path, SuArena *arena, SuDiags *diags);
/* NaN: the file does not have it. */
double ex_quality_of(const ExQuality *quality, const uint8_t hash[16]);

/* Runs a command of the shell with {spec} replaced by the path of a file that has the spec, and takes the last number of its standard
 * output. false: it failed or printed none; the reason is in diags. */
bool ex_quality_run(const char *command, const FeSpec *spec, double *out, SuDiags *diags);

#endif
