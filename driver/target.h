/* Targets as the command line names them: what codegen knows, and devices. */
#ifndef MOSSC_DRIVER_TARGET_H
#define MOSSC_DRIVER_TARGET_H

#include "codegen/target.h"
#include "frontend/device.h"

/* What --target says: "host", "aarch64+dotprod", "cortex-x4", a device that mossc carries (specs/devices), or the path of a device
 * file, which ends in .yaml. out_device (may be NULL) becomes the device, or one without a name; its texts lie in `arena`. */
bool dr_find_target(const char *name, SuArena *arena, CgTarget *out_target, FeDevice *out_device, SuDiags *diags);

/* A device as a description: "host", one that mossc carries, or the path of a device file, which ends in .yaml. */
bool dr_find_device(const char *name, SuArena *arena, FeDevice *out, SuDiags *diags);

/* Devices that mossc carries, in the order of their names; device 0 is the machine itself, as it describes itself. */
int dr_known_device_count(void);
bool dr_known_device(int index, SuArena *arena, FeDevice *out, SuDiags *diags);

#endif
