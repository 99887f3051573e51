/* SPDX-License-Identifier: Apache-2.0
 *
 * What the slice has, shown as if it were the whole device. Programs size their caches by what the driver says is free: a device of which most is
 * refused later is of no use to them.
 */
#define _GNU_SOURCE
#include "context.h"

#include <time.h>

/* How long the device's own figure is good for. */
#define DEVICE_FIGURE_NS 4000000

/* The kernel's clock as of its last tick: a third of the price of the exact one. */
static uint64_t tick_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

/* The slice's own free memory is exact at every call. A device has less only where its slices were given more than it has, and then what it lacks changes
 * little between two calls: that difference is what is kept, so that the slice's own allocations show at once. */
static CUresult read_device(struct context *context, uint64_t unused_bytes, uint64_t now_ns)
{
    size_t device_free = 0;
    size_t device_total = 0;
    CUresult result = below_cuMemGetInfo_v2(&device_free, &device_total);
    if (result == CUDA_SUCCESS) {
        /* Relaxed: two figures of one statistic; a thread that mixes an old one with a new one is a few milliseconds behind. */
        atomic_store_explicit(&context->lacking_bytes, unused_bytes > device_free ? unused_bytes - device_free : 0, memory_order_relaxed);
        atomic_store_explicit(&context->lacking_read_ns, now_ns, memory_order_relaxed);
    }
    return result;
}

static CUresult show_info(size_t *free_bytes, size_t *total_bytes)
{
    struct context *context = context_current();
    if (context == NULL || (free_bytes == NULL && total_bytes == NULL)) {
        return below_cuMemGetInfo_v2(free_bytes, total_bytes); /* which refuses by itself */
    }
    const struct mica_slice_limits *limits = context->device != NULL ? mica_limits_now(context->device) : NULL;
    if (limits == NULL) {
        return CUDA_ERROR_NOT_PERMITTED;
    }
    uint64_t unused = mica_memory_free(context->device, limits);
    uint64_t now_ns = tick_ns();
    if (now_ns - atomic_load_explicit(&context->lacking_read_ns, memory_order_relaxed) > DEVICE_FIGURE_NS) {
        CUresult result = read_device(context, unused, now_ns);
        if (result != CUDA_SUCCESS) {
            return result;
        }
    }
    uint64_t lacking = atomic_load_explicit(&context->lacking_bytes, memory_order_relaxed);
    if (free_bytes != NULL) {
        *free_bytes = lacking < unused ? unused - lacking : 0;
    }
    if (total_bytes != NULL) {
        *total_bytes = limits->vram_limit_bytes;
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    enum door at = door();
    if (at != DOOR_ENFORCE) {
        return at == DOOR_PASS ? below_cuMemGetInfo_v2(free_bytes, total_bytes) : CUDA_ERROR_NOT_PERMITTED;
    }
    return show_info(free_bytes, total_bytes);
}

/* Sizes of the 32-bit entry points end at 4 GiB. */
static unsigned int clamped(size_t bytes)
{
    return bytes > UINT32_MAX ? UINT32_MAX : (unsigned int)bytes;
}

EXPORT CUresult cuMemGetInfo(unsigned int *free_bytes, unsigned int *total_bytes)
{
    size_t free_wide = 0;
    size_t total_wide = 0;
    if (door() == DOOR_PASS) {
        return below_cuMemGetInfo(free_bytes, total_bytes);
    }
    CUresult result = free_bytes == NULL || total_bytes == NULL ? CUDA_ERROR_INVALID_VALUE : cuMemGetInfo_v2(&free_wide, &total_wide);
    if (result == CUDA_SUCCESS) {
        *free_bytes = clamped(free_wide);
        *total_bytes = clamped(total_wide);
    }
    return result;
}

EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice ordinal)
{
    enum door at = door();
    if (at != DOOR_ENFORCE) {
        return at == DOOR_PASS ? below_cuDeviceTotalMem_v2(bytes, ordinal) : CUDA_ERROR_NOT_PERMITTED;
    }
    CUresult result = below_cuDeviceTotalMem_v2(bytes, ordinal);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    struct mica_device *device = ordinal_device(ordinal);
    const struct mica_slice_limits *limits = device != NULL ? mica_limits_now(device) : NULL;
    if (limits == NULL) {
        return CUDA_ERROR_NOT_PERMITTED;
    }
    *bytes = limits->vram_limit_bytes < *bytes ? limits->vram_limit_bytes : *bytes;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice ordinal)
{
    size_t wide = 0;
    if (door() == DOOR_PASS) {
        return below_cuDeviceTotalMem(bytes, ordinal);
    }
    CUresult result = bytes == NULL ? CUDA_ERROR_INVALID_VALUE : cuDeviceTotalMem_v2(&wide, ordinal);
    if (result == CUDA_SUCCESS) {
        *bytes = clamped(wide);
    }
    return result;
}
