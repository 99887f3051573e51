/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the simulated libze_loader: handles.
 *
 * Invariant: a handle is a number that says what it is of, and is never followed; whether that is still there is asked of the
 * engine every time. A virtual function is a device like any other, as it is where the host's driver is bound to it.
 */
#ifndef MICA_SIM_SYSMAN_H
#define MICA_SIM_SYSMAN_H

#include "../engine/engine.h"
#include "abi.h"

#define ZES_API __attribute__((visibility("default"))) ze_result_t

enum zes_kind { ZES_DRIVER = 1, ZES_DEVICE, ZES_MEMORY, ZES_ENGINE, ZES_PORT, ZES_SCHEDULER, ZES_TEMPERATURE, ZES_POWER, ZES_RAS, ZES_VF };

struct zes_handle {
    enum zes_kind kind;
    uint8_t device;   /* the engine's index */
    uint8_t function; /* 0: physical; n: the n-th virtual one */
    uint8_t part;     /* of its kind on that function */
};

/* A valid handle with the engine entered. */
struct zes_view {
    struct zes_handle handle;
    struct sim_state *state;
    const struct sim_description *description;
    struct sim_device *device;
    const struct sim_gpu_instance *instance; /* NULL on a physical function */
    int instance_index;                      /* -1 likewise */
    unsigned tiles;                          /* 1: it has none that are told apart */
};

zes_handle_t zes_handle_make(struct zes_handle handle);
/* Check the handle, reach the device and enter. */
ze_result_t zes_enter(zes_handle_t handle, enum zes_kind kind, struct zes_view *view);
ze_result_t zes_leave(struct zes_view *view, ze_result_t result);
/* The same for what the operating system knows without asking the device. */
ze_result_t zes_enter_quietly(zes_handle_t handle, enum zes_kind kind, struct zes_view *view);
/* Answer a call that lists `there` handles of a kind. */
ze_result_t zes_list(zes_handle_t device, enum zes_kind kind, unsigned there, uint32_t *count, zes_handle_t *handles);

zes_pci_address_t zes_address(const struct sim_description *description, unsigned function);
unsigned zes_tiles(const struct sim_description *description);
/* Virtual functions that are there now. */
unsigned zes_functions(const struct sim_state *state, int device);
const struct sim_profile *zes_profile(const struct zes_view *view);
void zes_uuid(const struct sim_description *description, unsigned function, zes_uuid_t *uuid);
uint64_t zes_capacity(const struct zes_view *view);
/* Memory in use on the function, or on one tile of it (`tile` < 0: on all). */
uint64_t zes_spent(const struct zes_view *view, int tile);
uint64_t zes_now_us(void);

/* Bring the simulated /sys up to date with the engine. */
void zes_sysfs_refresh(void);

#define ENTER(handle, kind, valid)                                                                                                         \
    struct zes_view view;                                                                                                                  \
    ze_result_t entered = (valid) ? zes_enter(handle, kind, &view) : ZE_RESULT_ERROR_INVALID_NULL_POINTER;                                 \
    if (entered != ZE_RESULT_SUCCESS)                                                                                                      \
    return entered
#define LEAVE(result) return zes_leave(&view, result)

#endif
