/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include "pool.h"

/* Nothing is charged: the call goes on (CUDA_SUCCESS), or is answered with an error. */
static struct grant uncharged(CUresult result)
{
    return (struct grant){.result = result};
}

/* There was no room: pools may hold some that they do not use. */
static __attribute__((noinline)) enum mica_verdict charge_again(struct mica_device *device, enum mica_memory_kind kind, uint64_t bytes)
{
    if (!pools_relieve(device, kind)) {
        return MICA_NO_MEMORY;
    }
    enum mica_verdict verdict = mica_memory_charge(device, kind, bytes);
    if (verdict == MICA_GRANTED) {
        mica_memory_uncount_refusal(device);
    }
    return verdict;
}

static inline struct grant charge(struct mica_device *device, enum mica_memory_kind kind, uint16_t owner, uint64_t bytes)
{
    if (bytes > MICA_LIVE_BYTES_MAX) {
        return uncharged(CUDA_ERROR_OUT_OF_MEMORY);
    }
    enum mica_verdict verdict = mica_memory_charge(device, kind, bytes);
    if (verdict == MICA_NO_MEMORY) {
        verdict = charge_again(device, kind, bytes);
    }
    if (verdict != MICA_GRANTED) {
        return uncharged(verdict_result(verdict));
    }
    return (struct grant){.result = CUDA_SUCCESS, .is_charged = true, .owner = owner, .bytes = bytes};
}

static inline struct grant charge_context(enum mica_memory_kind kind, uint64_t bytes)
{
    enum door at = door();
    if (at != DOOR_ENFORCE) {
        return uncharged(at == DOOR_PASS ? CUDA_SUCCESS : CUDA_ERROR_NOT_PERMITTED);
    }
    struct context *context = context_current();
    if (context == NULL) {
        return uncharged(CUDA_SUCCESS); /* without a context the driver refuses by itself */
    }
    return context->device != NULL ? charge(context->device, kind, context_owner(context, kind), bytes) : uncharged(CUDA_ERROR_NOT_PERMITTED);
}

struct grant grant_take(uint64_t bytes)
{
    return charge_context(MICA_MEMORY_VRAM, bytes);
}

struct grant grant_take_pinned(uint64_t bytes)
{
    return charge_context(MICA_MEMORY_PINNED, bytes);
}

static struct grant charge_device(struct mica_device *device, enum mica_memory_kind kind, uint64_t bytes)
{
    return device != NULL ? charge(device, kind, device_owner(device, kind), bytes) : uncharged(CUDA_ERROR_NOT_PERMITTED);
}

struct grant grant_take_on(CUdevice ordinal, uint64_t bytes)
{
    enum door at = door();
    if (at != DOOR_ENFORCE) {
        return uncharged(at == DOOR_PASS ? CUDA_SUCCESS : CUDA_ERROR_NOT_PERMITTED);
    }
    return charge_device(ordinal_device(ordinal), MICA_MEMORY_VRAM, bytes);
}

struct grant grant_take_on_host(uint64_t bytes)
{
    enum door at = door();
    if (at != DOOR_ENFORCE) {
        return uncharged(at == DOOR_PASS ? CUDA_SUCCESS : CUDA_ERROR_NOT_PERMITTED);
    }
    /* Host memory is no device's: without a context to go by it is charged to the slice's first. */
    struct context *context = context_current();
    return charge_device(context != NULL && context->device != NULL ? context->device : &mica_attached_slice()->devices[0], MICA_MEMORY_PINNED, bytes);
}

void entry_give_back(struct mica_live_entry entry)
{
    if (owner_class(entry.owner) == OWNER_POOL) {
        pool_returned(entry.owner, entry.bytes);
    } else {
        mica_memory_refund(owner_device(entry.owner), owner_kind(entry.owner), entry.bytes);
    }
}

bool pointer_remember(CUdeviceptr pointer, uint64_t bytes, uint16_t owner)
{
    return mica_live_insert(key_of(KIND_POINTER, pointer), (struct mica_live_entry){.bytes = bytes, .owner = owner});
}

void grant_cancel(const struct grant *grant)
{
    if (grant->is_charged) {
        entry_give_back((struct mica_live_entry){.bytes = grant->bytes, .owner = grant->owner});
    }
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
    entry_give_back(entry);
    return result;
}

CUresult grant_settle(struct grant *grant, CUresult result, uint64_t bytes, enum handle_kind kind, uint64_t handle, void (*undo)(uint64_t handle))
{
    if (grant->is_charged && result == CUDA_SUCCESS && bytes != grant->bytes) {
        struct mica_device *device = owner_device(grant->owner);
        bool is_more = bytes > grant->bytes;
        CUresult rest = CUDA_SUCCESS;
        if (is_more) {
            rest = verdict_result(mica_memory_charge(device, owner_kind(grant->owner), bytes - grant->bytes));
        } else {
            mica_memory_refund(device, owner_kind(grant->owner), grant->bytes - bytes);
        }
        if (rest != CUDA_SUCCESS) {
            undo(handle);
            grant_cancel(grant);
            return rest;
        }
        grant->bytes = bytes;
    }
    return grant_keep(grant, result, kind, handle, undo);
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
    entry_give_back(entry);
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
ALLOCATE_HOOK(cuMemAllocManaged, (CUdeviceptr * pointer, size_t bytes, unsigned int flags), (pointer, bytes, flags), bytes)

EXPORT CUresult cuMemAlloc(CUdeviceptr_v1 *pointer, unsigned int bytes)
{
    struct grant grant = grant_take(bytes);
    if (grant.result != CUDA_SUCCESS) {
        return grant.result;
    }
    CUresult result = below_cuMemAlloc(pointer, bytes);
    return grant_keep(&grant, result, KIND_POINTER, result == CUDA_SUCCESS ? *pointer : 0, undo_pointer_v1);
}

/* Rows of `width` bytes, each padded to a pitch that only the driver's answer tells. What is reserved first assumes this one, and that
 * nobody pads further; if somebody does, the rest is charged afterwards. */
#define PITCH_BYTES 512

/* Width times height, or more than anybody has if that overflows. */
static uint64_t area(uint64_t width, uint64_t height)
{
    uint64_t bytes = 0;
    return __builtin_mul_overflow(width, height, &bytes) ? UINT64_MAX : bytes;
}

static uint64_t padded(uint64_t width)
{
    return width > UINT64_MAX - PITCH_BYTES ? UINT64_MAX : (width + PITCH_BYTES - 1) / PITCH_BYTES * PITCH_BYTES;
}

EXPORT CUresult cuMemAllocPitch_v2(CUdeviceptr *pointer, size_t *pitch, size_t width, size_t height, unsigned int element)
{
    struct grant grant = grant_take(area(padded(width), height));
    if (grant.result != CUDA_SUCCESS) {
        return grant.result;
    }
    CUresult result = below_cuMemAllocPitch_v2(pointer, pitch, width, height, element);
    bool is_made = result == CUDA_SUCCESS;
    return grant_settle(&grant, result, is_made ? area(*pitch, height) : 0, KIND_POINTER, is_made ? *pointer : 0, undo_pointer);
}

EXPORT CUresult cuMemAllocPitch(CUdeviceptr_v1 *pointer, unsigned int *pitch, unsigned int width, unsigned int height, unsigned int element)
{
    struct grant grant = grant_take(area(padded(width), height));
    if (grant.result != CUDA_SUCCESS) {
        return grant.result;
    }
    CUresult result = below_cuMemAllocPitch(pointer, pitch, width, height, element);
    bool is_made = result == CUDA_SUCCESS;
    return grant_settle(&grant, result, is_made ? area(*pitch, height) : 0, KIND_POINTER, is_made ? *pointer : 0, undo_pointer_v1);
}

FREE_HOOK(cuMemFree, (CUdeviceptr_v1 pointer), (pointer), KIND_POINTER, pointer)
FREE_HOOK(cuMemFree_v2, (CUdeviceptr pointer), (pointer), KIND_POINTER, pointer)
FREE_HOOK(cuMemFreeAsync, (CUdeviceptr pointer, CUstream stream), (pointer, stream), KIND_POINTER, pointer)
FREE_HOOK(cuMemFreeAsync_ptsz, (CUdeviceptr pointer, CUstream stream), (pointer, stream), KIND_POINTER, pointer)
