/* Targets as the command line names them: what codegen knows, and devices. */
#ifndef MOSSC_DRIVER_TARGET_H
#define MOSSC_DRIVER_TARGET_H

#include "codegen/target.h"
#include "frontend/device.h"

/* The device that --target names: one that mossc carries (specs/devices), or the path of a device file, which ends in .yaml. It becomes
 * one without a name where `name` is no device's ("host", "cortex-x4"). Its texts lie in `arena`. false: the file is wrong. */
bool dr_device_of_target(const char *name, SuArena *arena, FeDevice *out, SuDiags *diags);
/* A target of CPUs: "host", "aarch64+dotprod", "cortex-x4". Of an unknown one the error names a device too, where one is near. */
bool dr_find_target(const char *name, SuArena *arena, CgTarget *out, SuDiags *diags);

/* A device as a description: "host", one that mossc carries, or the path of a device file, which ends in .yaml. */
bool dr_find_device(const char *name, SuArena *arena, FeDevice *out, SuDiags *diags);

/* Devices that mossc carries, in the order of their names; device 0 is the machine itself, as it describes itself. */
int dr_known_device_count(void);
bool dr_known_device(int index, SuArena *arena, FeDevice *out, SuDiags *diags);

#endif
