/* SPDX-License-Identifier: Apache-2.0 */
#include "context.h"

#include "../core/live.h"
#include "footprint.h"
#include "graph_memory.h"
#include "memory.h"
#include "pool.h"
#include "sample.h"
#include "spatial.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define ORDINALS_MAX 64

static struct context contexts[CONTEXTS_MAX];
static pthread_mutex_t registering = PTHREAD_MUTEX_INITIALIZER; /* for the first sight of a context, never for later ones */
static pthread_mutex_t retaining = PTHREAD_MUTEX_INITIALIZER;  /* for the first retain of a primary context */
static _Atomic uint64_t generation = 1;                         /* moves when a context ends: a new one may get its address */

/* Which context this thread used last. */
static _Thread_local struct {
    CUcontext handle;
    uint64_t generation;
    struct context *context;
} last;

static struct {
    _Atomic uint64_t epoch; /* the attachment that `device` is of; 0: not looked up */
    struct mica_device *device;
    _Atomic(CUcontext) primary; /* the device's primary context, once somebody here has retained it */
    _Atomic bool is_charged;    /* what it takes is charged */
} ordinals[ORDINALS_MAX];

static void uuid_text(const CUuuid *uuid, char text[MICA_ID_TEXT])
{
    const unsigned char *b = uuid->bytes;
    snprintf(text, MICA_ID_TEXT, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4], b[5], b[6],
             b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

struct mica_device *ordinal_device(CUdevice ordinal)
{
    if (ordinal < 0 || ordinal >= ORDINALS_MAX || driver.cuDeviceGetUuid == NULL) {
        return NULL;
    }
    uint64_t epoch = mica_attach_epoch();
    /* Acquire pairs with the release below. Two threads that look the same ordinal up find the same device. */
    if (atomic_load_explicit(&ordinals[ordinal].epoch, memory_order_acquire) == epoch) {
        return ordinals[ordinal].device;
    }
    CUuuid uuid;
    if (driver.cuDeviceGetUuid(&uuid, ordinal) != CUDA_SUCCESS) {
        return NULL;
    }
    char text[MICA_ID_TEXT];
    uuid_text(&uuid, text);
    struct mica_device *device = mica_slice_device(mica_attached_slice(), text);
    ordinals[ordinal].device = device;
    atomic_store_explicit(&ordinals[ordinal].epoch, epoch, memory_order_release);
    return device;
}

static struct context *find(CUcontext handle)
{
    for (unsigned i = 0; i < CONTEXTS_MAX; i++) {
        if (atomic_load_explicit(&contexts[i].handle, memory_order_acquire) == handle) {
            return &contexts[i];
        }
    }
    return NULL;
}

/* Bits of the device ordinals that contexts were seen on. */
static _Atomic uint64_t ordinals_seen;

static void note_ordinal(CUdevice ordinal)
{
    if (ordinal >= 0 && ordinal < ORDINALS_MAX) {
        atomic_fetch_or_explicit(&ordinals_seen, 1ULL << ordinal, memory_order_relaxed);
    }
}

/* Has this process contexts on more than one device? */
static bool is_mixed(void)
{
    uint64_t seen = atomic_load_explicit(&ordinals_seen, memory_order_relaxed);
    return (seen & (seen - 1)) != 0;
}

/* First sight of the current context: find out its device, and make its timing events now, not on the launch path. */
static struct context *add_current(CUcontext handle)
{
    static struct context foreign; /* also stands for the 65th context of a process: what is not known is not served */
    CUdevice ordinal = -1;
    if (driver.cuCtxGetDevice == NULL || driver.cuCtxGetDevice(&ordinal) != CUDA_SUCCESS) {
        return &foreign;
    }
    struct context *context = find(NULL);
    if (context == NULL) {
        return &foreign;
    }
    context->device = ordinal_device(ordinal);
    context->ordinal = ordinal;
    context->index = (unsigned)(context - contexts);
    note_ordinal(ordinal);
    atomic_store_explicit(&context->lacking_read_ns, 0, memory_order_relaxed);
    sample_events_make(context);
    atomic_store_explicit(&context->handle, handle, memory_order_release); /* pairs with the acquire in find */
    return context;
}

/* Apart from context_current, which every call goes through and which is short without it. */
static __attribute__((noinline)) struct context *look_up(CUcontext handle)
{
    uint64_t now = atomic_load_explicit(&generation, memory_order_acquire);
    struct context *context = find(handle);
    if (context == NULL) {
        pthread_mutex_lock(&registering);
        context = find(handle);
        if (context == NULL) {
            context = add_current(handle);
        }
        pthread_mutex_unlock(&registering);
    }
    last.handle = handle;
    last.generation = now;
    last.context = context;
    return context;
}

struct context *context_current(void)
{
    CUcontext handle = NULL;
    if (driver.cuCtxGetCurrent == NULL || driver.cuCtxGetCurrent(&handle) != CUDA_SUCCESS || handle == NULL) {
        return NULL;
    }
    if (handle == last.handle && last.generation == atomic_load_explicit(&generation, memory_order_acquire)) {
        return last.context;
    }
    return look_up(handle);
}

static bool push(CUcontext handle)
{
    return driver.cuCtxPushCurrent_v2 != NULL && driver.cuCtxPopCurrent_v2 != NULL && driver.cuCtxPushCurrent_v2(handle) == CUDA_SUCCESS;
}

bool context_push(const struct context *context)
{
    return push(atomic_load_explicit(&context->handle, memory_order_relaxed));
}

void context_pop(void)
{
    CUcontext popped = NULL;
    (void)driver.cuCtxPopCurrent_v2(&popped);
}

/* One that is seen for the first time is made current for a moment. */
static struct context *from_outside(CUcontext handle)
{
    struct context *context = find(handle);
    if (context == NULL && push(handle)) {
        context = context_current();
        context_pop();
    }
    return context;
}

static __attribute__((noinline)) struct context *ask_stream(CUstream stream, struct context *current)
{
    CUcontext handle = NULL;
    bool is_default = stream == NULL || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD;
    if (is_default || driver.cuStreamGetCtx == NULL || driver.cuStreamGetCtx(stream, &handle) != CUDA_SUCCESS || handle == NULL ||
        (current != NULL && handle == atomic_load_explicit(&current->handle, memory_order_relaxed))) {
        return current;
    }
    struct context *context = from_outside(handle);
    return context != NULL ? context : current;
}

/* Only where the current context may be another device's, or there is none, does the driver have to be asked. */
struct context *context_of_stream(CUstream stream)
{
    struct context *current = context_current();
    return __builtin_expect(current != NULL && !is_mixed(), 1) ? current : ask_stream(stream, current);
}

struct context *context_at(unsigned index)
{
    return &contexts[index];
}

uint16_t device_owner(const struct mica_device *device, enum mica_memory_kind kind)
{
    return owner_make(kind == MICA_MEMORY_PINNED ? OWNER_DEVICE_PINNED : OWNER_DEVICE, (unsigned)(device - mica_attached_slice()->devices));
}

struct mica_device *owner_device(uint16_t owner)
{
    enum owner_class class = owner_class(owner);
    if (class == OWNER_DEVICE || class == OWNER_DEVICE_PINNED) {
        return &mica_attached_slice()->devices[owner_index(owner)];
    }
    return contexts[owner_index(owner)].device;
}

void context_charge_more(struct context *context, uint64_t bytes)
{
    atomic_fetch_add(&context->extra_bytes, bytes);
}

/* The context has ended, and the driver has freed everything that was allocated in it. */
static void ended(struct context *context)
{
    if (context->device != NULL) {
        mica_live_sweep(context_owner(context, MICA_MEMORY_VRAM), entry_give_back);
        mica_live_sweep(context_owner(context, MICA_MEMORY_PINNED), entry_give_back);
        mica_memory_refund(context->device, MICA_MEMORY_VRAM, atomic_exchange(&context->extra_bytes, 0));
    }
    pools_after_context();
    sample_events_forget(context);
    atomic_fetch_add_explicit(&generation, 1, memory_order_release);
    atomic_store_explicit(&context->handle, NULL, memory_order_release);
}

void context_forget_all(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    registering = fresh;
    retaining = fresh;
    memset(contexts, 0, sizeof contexts);
    memset(ordinals, 0, sizeof ordinals);
    atomic_store(&ordinals_seen, 0);
    mica_live_forget();
    pools_forget();
    footprint_forget();
    graph_memory_forget();
    sample_forget_all();
    physical_forget();
    spatial_forget();
    atomic_fetch_add_explicit(&generation, 1, memory_order_release);
}

/* --- Hooks -------------------------------------------------------------------------------------------------------- */

/* The context is made, or it is not: charge what it takes. */
static CUresult made(struct footprint *footprint, CUresult result, const CUcontext *context)
{
    CUresult charged = footprint_end(footprint, result);
    if (footprint->device == NULL || result != CUDA_SUCCESS) {
        return charged;
    }
    struct mica_live_entry entry = {.owner = device_owner(footprint->device, MICA_MEMORY_VRAM)};
    if (charged == CUDA_SUCCESS && !mica_live_insert(key_of(KIND_CONTEXT, (uint64_t)(uintptr_t)*context), entry)) {
        mica_memory_refund(footprint->device, MICA_MEMORY_VRAM, footprint->bytes);
        charged = CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (charged == CUDA_SUCCESS) {
        footprint_context_made(footprint);
    } else {
        (void)below_cuCtxDestroy_v2(*context);
    }
    return charged;
}

static struct footprint making(CUdevice ordinal)
{
    enum door at = door();
    if (at != DOOR_ENFORCE) {
        return (struct footprint){.result = at == DOOR_PASS ? CUDA_SUCCESS : CUDA_ERROR_NOT_PERMITTED};
    }
    note_ordinal(ordinal);
    return footprint_context_begin(ordinal_device(ordinal));
}

#define CREATE_HOOK(name, params, args)                                     \
    EXPORT CUresult name params                                             \
    {                                                                       \
        struct footprint footprint = making(device);                        \
        if (footprint.result != CUDA_SUCCESS) {                             \
            return footprint.result;                                        \
        }                                                                   \
        return made(&footprint, below_##name args, context);                \
    }

CREATE_HOOK(cuCtxCreate, (CUcontext * context, unsigned int flags, CUdevice device), (context, flags, device))
CREATE_HOOK(cuCtxCreate_v2, (CUcontext * context, unsigned int flags, CUdevice device), (context, flags, device))
CREATE_HOOK(cuCtxCreate_v3, (CUcontext * context, void *affinity, int count, unsigned int flags, CUdevice device),
            (context, affinity, count, flags, device))
CREATE_HOOK(cuCtxCreate_v4, (CUcontext * context, void *params, unsigned int flags, CUdevice device), (context, params, flags, device))

static CUresult destroy(CUcontext handle, CUresult (*below)(CUcontext))
{
    struct context *context = door() == DOOR_ENFORCE && handle != NULL ? find(handle) : NULL;
    struct held held = held_take(KIND_CONTEXT, (uint64_t)(uintptr_t)handle);
    sample_hold();
    CUresult result = below(handle);
    if (context != NULL && result == CUDA_SUCCESS) {
        ended(context);
    }
    if (held.is_found && result == CUDA_SUCCESS) {
        footprint_context_ended(owner_device(held.owner));
    }
    sample_let_go();
    return held_give_back(&held, result, KIND_CONTEXT, (uint64_t)(uintptr_t)handle);
}

EXPORT CUresult cuCtxDestroy(CUcontext context)
{
    return destroy(context, below_cuCtxDestroy);
}

EXPORT CUresult cuCtxDestroy_v2(CUcontext context)
{
    return destroy(context, below_cuCtxDestroy_v2);
}

/* A primary context is the one that a device shares among all who retain it; it ends with the last release, or by a reset. */
static CUresult retain(CUcontext *context, CUdevice device)
{
    CUresult result = below_cuDevicePrimaryCtxRetain(context, device);
    if (result == CUDA_SUCCESS && door() == DOOR_ENFORCE) {
        spatial_enter(device, context);
    }
    return result;
}

static CUresult retain_first(CUcontext *context, CUdevice device)
{
    struct footprint footprint = making(device);
    if (footprint.result != CUDA_SUCCESS) {
        return footprint.result;
    }
    CUresult result = retain(context, device);
    CUresult charged = footprint_end(&footprint, result);
    if (charged == CUDA_SUCCESS) {
        footprint_context_made(&footprint);
        atomic_store(&ordinals[device].is_charged, true);
    } else if (result == CUDA_SUCCESS) {
        spatial_leave(device);
        (void)below_cuDevicePrimaryCtxRelease_v2(device);
    }
    return charged;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    enum door at = door();
    if (at == DOOR_CLOSED) {
        return CUDA_ERROR_NOT_PERMITTED;
    }
    if (at == DOOR_PASS || device < 0 || device >= ORDINALS_MAX) {
        return below_cuDevicePrimaryCtxRetain(context, device);
    }
    CUresult result = CUDA_SUCCESS;
    if (atomic_load(&ordinals[device].is_charged)) {
        result = retain(context, device);
    } else {
        pthread_mutex_lock(&retaining);
        result = atomic_load(&ordinals[device].is_charged) ? retain(context, device) : retain_first(context, device);
        pthread_mutex_unlock(&retaining);
    }
    if (result == CUDA_SUCCESS) {
        atomic_store_explicit(&ordinals[device].primary, *context, memory_order_relaxed);
    }
    return result;
}

static void end_primary_if_inactive(CUdevice device)
{
    unsigned int flags = 0;
    int active = 1;
    if (driver.cuDevicePrimaryCtxGetState == NULL || driver.cuDevicePrimaryCtxGetState(device, &flags, &active) != CUDA_SUCCESS || active) {
        return;
    }
    CUcontext handle = atomic_exchange_explicit(&ordinals[device].primary, NULL, memory_order_relaxed);
    struct context *context = handle != NULL ? find(handle) : NULL;
    if (context != NULL) {
        ended(context);
    }
    if (atomic_exchange(&ordinals[device].is_charged, false)) {
        footprint_context_ended(ordinal_device(device));
    }
}

static CUresult drop_primary(CUdevice device, CUresult (*below)(CUdevice), void (*leave)(CUdevice))
{
    enum door at = door();
    if (at == DOOR_ENFORCE) {
        leave(device); /* first: a part of the device holds its primary context too */
    }
    sample_hold();
    CUresult result = below(device);
    if (at == DOOR_ENFORCE && result == CUDA_SUCCESS && device >= 0 && device < ORDINALS_MAX) {
        end_primary_if_inactive(device);
    }
    sample_let_go();
    return result;
}

EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
    return drop_primary(device, below_cuDevicePrimaryCtxRelease, spatial_leave);
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    return drop_primary(device, below_cuDevicePrimaryCtxRelease_v2, spatial_leave);
}

EXPORT CUresult cuDevicePrimaryCtxReset(CUdevice device)
{
    return drop_primary(device, below_cuDevicePrimaryCtxReset, spatial_drop);
}

EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
    return drop_primary(device, below_cuDevicePrimaryCtxReset_v2, spatial_drop);
}
