/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the simulated libamd_smi: sockets, processors, and how a call about one of them begins and ends.
 *
 * Invariant: as in the real library, what there is is found out when the library is initialised: a device is a socket, and each
 * of its partitions a processor of it. The first processor of a socket stays good however the device is laid out later; the
 * others answer AMDSMI_STATUS_NOT_FOUND once their partition is gone, and new ones are seen after the next initialisation.
 */
#ifndef MICA_SIM_AMDSMI_AMDSMI_H
#define MICA_SIM_AMDSMI_AMDSMI_H

#include "../engine/engine.h"
#include "abi.h"

#define AMDSMI_API __attribute__((visibility("default"))) uint32_t

/* A processor with the engine entered, and all that belongs to it. */
struct smi_view {
    struct sim_state *state;
    const struct sim_description *description;
    struct sim_device *device;
    const struct sim_gpu_instance *instance; /* NULL on a whole device */
    const struct sim_profile *profile;       /* likewise */
    int index;                               /* of the device in the engine */
    int instance_index;                      /* -1 when there is none */
    unsigned partition;
};

/* Check the handle, and enter. */
uint32_t smi_enter(void *handle, struct smi_view *view);
uint32_t smi_leave(struct smi_view *view, uint32_t status);
uint32_t smi_status(int engine_result);
/* The engine's index of a processor's device, or -1. */
int smi_device_of(void *handle);
void *smi_first_processor(int device);
bool smi_is_amd(const struct sim_state *state, int device);
/* What there is now is no longer what was found at initialisation. */
void smi_forget(void);
/* Nobody is to be told of events any more. */
void smi_watch_nothing(void);

/* A number of its own for a device or partition, from what the engine calls it. */
uint64_t smi_unique_id(const struct smi_view *view);
uint64_t smi_hive(const struct sim_description *description);
/* Ordinal of the processor among all AMD GPUs that there are now, as KFD counts them. */
unsigned smi_ordinal(const struct smi_view *view);
union amdsmi_bdf_t_ smi_bdf(const struct sim_description *description, unsigned partition);
/* "SPX" and the number after NPS of a layout; a device without one is whole. */
void smi_modes(const char *layout, char compute[8], unsigned *nps);

#define ENTER(handle, valid)                                                                                                               \
    struct smi_view view;                                                                                                                  \
    uint32_t entered = (valid) ? smi_enter(handle, &view) : AMDSMI_STATUS_INVAL;                                                           \
    if (entered != AMDSMI_STATUS_SUCCESS)                                                                                                  \
    return entered
#define LEAVE(status) return smi_leave(&view, status)

#endif
