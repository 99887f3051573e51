/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the simulated libnvidia-ml: handles.
 *
 * Invariant: a handle is an entry of one static table, so any pointer can be checked; whether the instance behind it
 * still lives is asked of the engine every time.
 */
#ifndef MICA_SIM_NVML_H
#define MICA_SIM_NVML_H

#include "../engine/engine.h"
#include "abi.h"

#define NVML_API __attribute__((visibility("default"))) nvmlReturn_t

enum nvml_kind { HANDLE_DEVICE, HANDLE_MIG, HANDLE_GPU_INSTANCE, HANDLE_COMPUTE_INSTANCE };

struct nvml_handle {
    unsigned char kind;
    unsigned char device, instance, compute;
};

/* A valid handle with the engine entered, and all that belongs to it. */
struct nvml_view {
    struct sim_state *state;
    const struct sim_description *description;
    struct sim_device *device;
    struct sim_gpu_instance *instance;     /* NULL on a whole device */
    const struct sim_profile *profile;     /* likewise */
    struct sim_compute_instance *compute;  /* MIG devices and compute instances */
    int index;                             /* of the device */
    int instance_index, compute_index;     /* -1 when there is none */
};

nvmlDevice_t nvml_device_handle(int device);
nvmlDevice_t nvml_mig_handle(int device, int instance, int compute);
nvmlGpuInstance_t nvml_instance_handle(int device, int instance);
nvmlComputeInstance_t nvml_compute_handle(int device, int instance, int compute);

/* Check the handle, which must be of a kind in `kinds` (bits), and enter. */
nvmlReturn_t nvml_enter(struct nvml_handle *handle, unsigned kinds, struct nvml_view *view);
nvmlReturn_t nvml_leave(struct nvml_view *view, nvmlReturn_t result);
nvmlReturn_t nvml_result(int engine_result);
nvmlReturn_t nvml_initialized(void);
/* Whether the caller may change the device. */
nvmlReturn_t nvml_permitted(const struct nvml_view *view);
nvmlReturn_t nvml_text(char *out, unsigned length, const char *text);

#define KIND(kind) (1u << HANDLE_##kind)
#define ANY_DEVICE (KIND(DEVICE) | KIND(MIG))
#define ENTER(handle, kinds, valid)                                                                                                        \
    struct nvml_view view;                                                                                                                 \
    nvmlReturn_t entered = (valid) ? nvml_enter(handle, kinds, &view) : NVML_ERROR_INVALID_ARGUMENT;                                       \
    if (entered != NVML_SUCCESS)                                                                                                           \
    return entered
#define LEAVE(result) return nvml_leave(&view, result)
#define NVML_SAME(other, symbol) __attribute__((visibility("default"))) __typeof__(symbol) other __attribute__((alias(#symbol)))

#endif
