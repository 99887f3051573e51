/* SPDX-License-Identifier: Apache-2.0
 *
 * The slice that this process runs in, as its regions show it: which devices, what limits, what is used.
 *
 * Invariant: a device of an open slice has both its regions mapped and checked for as long as the slice is open.
 */
#ifndef MICA_SHIM_SLICE_H
#define MICA_SHIM_SLICE_H

#include "../../region/region.h"

#define MICA_DEVICES_MAX 16
#define MICA_ID_TEXT 65
#define MICA_FAULT_TEXT 512

/* One device of the slice. All but `record` is written before the process is attached. */
struct mica_device {
    char id[MICA_ID_TEXT];
    uint64_t id_words[MICA_ID_WORDS];
    const struct mica_quota_region *quota;
    struct mica_usage_region *usage;
    struct mica_token_region *token; /* NULL: none, or not usable; then the slice is held by its rate alone */
    unsigned slot;                   /* of this process in `usage`; MICA_PROCESSES_MAX: none */
    _Atomic unsigned record;         /* of the slice in `quota`; changes only if the enforcer moves the slice */
    struct mica_slice_limits limits; /* as they were when the slice was opened */
    uint64_t deadline_ns;            /* within which this process's launches should be done; 0: no matter when */
    _Atomic uint64_t part_ppm;       /* what this process's work has of the device to itself by a mechanism of the driver's; 0: no such part */
};

struct mica_slice {
    char id[MICA_ID_TEXT];
    uint64_t id_words[MICA_ID_WORDS];
    unsigned device_count;
    struct mica_device devices[MICA_DEVICES_MAX];
};

/* Why a slice could not be opened: one line, without a line feed. */
struct mica_fault {
    char text[MICA_FAULT_TEXT];
};

/* The slice named by the environment: NULL when this process is in none. */
const char *mica_slice_name(void);
const char *mica_runtime_dir(void);

/* Map the quota and usage regions of every device of slice `name` and find its records. The usage regions are mapped
 * writable only if asked. 0, or -1 with the reason in `*fault` and nothing left mapped. */
int mica_slice_open(const char *name, bool writable, struct mica_slice *slice, struct mica_fault *fault);
void mica_slice_close(struct mica_slice *slice);

/* The device with this id, or NULL when the slice does not have it. */
struct mica_device *mica_slice_device(struct mica_slice *slice, const char *device_id);

#endif
