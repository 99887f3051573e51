/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include "../core/live.h"

#define KIND_SHIFT 61 /* above every address of user space */

static uint64_t key_of(enum handle_kind kind, uint64_t handle)
{
    return handle ^ ((uint64_t)kind << KIND_SHIFT);
}

static struct grant refuse(CUresult result)
{
    return (struct grant){.result = result};
}

static struct grant charge(struct mica_device *device, uint16_t owner, uint64_t bytes)
{
    if (device == NULL) {
        return refuse(CUDA_ERROR_NOT_PERMITTED);
    }
    if (bytes > MICA_LIVE_BYTES_MAX) {
        return refuse(CUDA_ERROR_OUT_OF_MEMORY);
    }
    CUresult result = verdict_result(mica_memory_charge(device, MICA_MEMORY_VRAM, bytes));
    return (struct grant){.result = result, .is_charged = result == CUDA_SUCCESS, .owner = owner, .bytes = bytes};
}

struct grant grant_take(uint64_t bytes)
{
    enum door at = door();
    if (at != DOOR_ENFORCE) {
        return refuse(at == DOOR_PASS ? CUDA_SUCCESS : CUDA_ERROR_NOT_PERMITTED);
    }
    struct context *context = context_current();
    if (context == NULL) {
        return refuse(CUDA_SUCCESS); /* without a context the driver refuses by itself */
    }
    return charge(context->device, context_owner(context), bytes);
}

struct grant grant_take_on(CUdevice ordinal, uint64_t bytes)
{
    enum door at = door();
    if (at != DOOR_ENFORCE) {
        return refuse(at == DOOR_PASS ? CUDA_SUCCESS : CUDA_ERROR_NOT_PERMITTED);
    }
    struct mica_device *device = ordinal_device(ordinal);
    return charge(device, device != NULL ? device_owner(device) : 0, bytes);
}

CUresult grant_keep(const struct grant *grant, CUresult result, enum handle_kind kind, uint64_t handle, void (*undo)(uint64_t handle))
{
    if (!grant->is_charged) {
        return result;
    }
    struct mica_live_entry entry = {.bytes = grant->bytes, .owner = grant->owner};
    if (result == CUDA_SUCCESS && mica_live_insert(key_of(kind, handle), entry)) {
        return CUDA_SUCCESS;
    }
    if (result == CUDA_SUCCESS) {
        undo(handle);
        result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    mica_memory_refund(owner_device(grant->owner), MICA_MEMORY_VRAM, grant->bytes);
    return result;
}

struct held held_take(enum handle_kind kind, uint64_t handle)
{
    struct mica_live_entry entry = {0};
    /* Asking opens the driver and, in a new child, the slice. Giving back is allowed whatever the answer. */
    (void)door();
    bool is_found = mica_live_remove(key_of(kind, handle), &entry);
    return (struct held){.is_found = is_found, .bytes = entry.bytes, .owner = entry.owner};
}

CUresult held_give_back(const struct held *held, CUresult result, enum handle_kind kind, uint64_t handle)
{
    if (!held->is_found) {
        return result;
    }
    struct mica_live_entry entry = {.bytes = held->bytes, .owner = held->owner};
    if (result != CUDA_SUCCESS && mica_live_insert(key_of(kind, handle), entry)) {
        return result;
    }
    mica_memory_refund(owner_device(held->owner), MICA_MEMORY_VRAM, held->bytes);
    return result;
}

/* --- Linear memory -------------------------------------------------------------------------------------------------- */

static void undo_pointer(uint64_t pointer)
{
    (void)below_cuMemFree_v2(pointer);
}

static void undo_pointer_v1(uint64_t pointer)
{
    (void)below_cuMemFree((CUdeviceptr_v1)pointer);
}

static uint64_t value_of(const CUdeviceptr *pointer)
{
    return pointer != NULL ? *pointer : 0;
}

/* Width times height, or more than anybody has if that overflows. */
static uint64_t area(uint64_t width, uint64_t height)
{
    uint64_t bytes = 0;
    return __builtin_mul_overflow(width, height, &bytes) ? UINT64_MAX : bytes;
}

/* A hook that allocates linear memory of `size` bytes on the current context's device. */
#define ALLOCATE_HOOK(name, params, args, size)                                                             \
    EXPORT CUresult name params                                                                             \
    {                                                                                                       \
        struct grant grant = grant_take(size);                                                              \
        if (grant.result != CUDA_SUCCESS) {                                                                 \
            return grant.result;                                                                            \
        }                                                                                                   \
        CUresult result = below_##name args;                                                                \
        return grant_keep(&grant, result, KIND_POINTER, result == CUDA_SUCCESS ? value_of(pointer) : 0, undo_pointer); \
    }

ALLOCATE_HOOK(cuMemAlloc_v2, (CUdeviceptr * pointer, size_t bytes), (pointer, bytes), bytes)
ALLOCATE_HOOK(cuMemAllocPitch_v2, (CUdeviceptr * pointer, size_t *pitch, size_t width, size_t height, unsigned int element),
              (pointer, pitch, width, height, element), area(width, height))
ALLOCATE_HOOK(cuMemAllocManaged, (CUdeviceptr * pointer, size_t bytes, unsigned int flags), (pointer, bytes, flags), bytes)
ALLOCATE_HOOK(cuMemAllocAsync, (CUdeviceptr * pointer, size_t bytes, CUstream stream), (pointer, bytes, stream), bytes)
ALLOCATE_HOOK(cuMemAllocAsync_ptsz, (CUdeviceptr * pointer, size_t bytes, CUstream stream), (pointer, bytes, stream), bytes)
ALLOCATE_HOOK(cuMemAllocFromPoolAsync, (CUdeviceptr * pointer, size_t bytes, CUmemoryPool pool, CUstream stream), (pointer, bytes, pool, stream), bytes)
ALLOCATE_HOOK(cuMemAllocFromPoolAsync_ptsz, (CUdeviceptr * pointer, size_t bytes, CUmemoryPool pool, CUstream stream), (pointer, bytes, pool, stream),
              bytes)

EXPORT CUresult cuMemAlloc(CUdeviceptr_v1 *pointer, unsigned int bytes)
{
    struct grant grant = grant_take(bytes);
    if (grant.result != CUDA_SUCCESS) {
        return grant.result;
    }
    CUresult result = below_cuMemAlloc(pointer, bytes);
    return grant_keep(&grant, result, KIND_POINTER, result == CUDA_SUCCESS ? *pointer : 0, undo_pointer_v1);
}

EXPORT CUresult cuMemAllocPitch(CUdeviceptr_v1 *pointer, unsigned int *pitch, unsigned int width, unsigned int height, unsigned int element)
{
    struct grant grant = grant_take(area(width, height));
    if (grant.result != CUDA_SUCCESS) {
        return grant.result;
    }
    CUresult result = below_cuMemAllocPitch(pointer, pitch, width, height, element);
    return grant_keep(&grant, result, KIND_POINTER, result == CUDA_SUCCESS ? *pointer : 0, undo_pointer_v1);
}

/* A hook that frees `handle`. */
#define FREE_HOOK(name, params, args, kind, handle)                          \
    EXPORT CUresult name params                                              \
    {                                                                        \
        struct held held = held_take(kind, handle);                          \
        return held_give_back(&held, below_##name args, kind, handle);       \
    }

FREE_HOOK(cuMemFree, (CUdeviceptr_v1 pointer), (pointer), KIND_POINTER, pointer)
FREE_HOOK(cuMemFree_v2, (CUdeviceptr pointer), (pointer), KIND_POINTER, pointer)
FREE_HOOK(cuMemFreeAsync, (CUdeviceptr pointer, CUstream stream), (pointer, stream), KIND_POINTER, pointer)
FREE_HOOK(cuMemFreeAsync_ptsz, (CUdeviceptr pointer, CUstream stream), (pointer, stream), KIND_POINTER, pointer)
FREE_HOOK(cuArrayDestroy, (CUarray array), (array), KIND_ARRAY, (uint64_t)(uintptr_t)array)
FREE_HOOK(cuMipmappedArrayDestroy, (CUmipmappedArray array), (array), KIND_ARRAY, (uint64_t)(uintptr_t)array)

/* --- What the slice has ------------------------------------------------------------------------------------------------ */

static CUresult show_info(size_t *free_bytes, size_t *total_bytes)
{
    CUresult result = below_cuMemGetInfo_v2(free_bytes, total_bytes);
    struct context *context = result == CUDA_SUCCESS ? context_current() : NULL;
    if (context == NULL) {
        return result;
    }
    const struct mica_slice_limits *limits = context->device != NULL ? mica_limits_now(context->device) : NULL;
    if (limits == NULL) {
        return CUDA_ERROR_NOT_PERMITTED;
    }
    uint64_t unused = mica_memory_free(context->device, limits);
    *free_bytes = unused < *free_bytes ? unused : *free_bytes;
    *total_bytes = limits->vram_limit_bytes;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    switch (door()) {
    case DOOR_PASS:
        return below_cuMemGetInfo_v2(free_bytes, total_bytes);
    case DOOR_CLOSED:
        return CUDA_ERROR_NOT_PERMITTED;
    default:
        return free_bytes == NULL || total_bytes == NULL ? CUDA_ERROR_INVALID_VALUE : show_info(free_bytes, total_bytes);
    }
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
