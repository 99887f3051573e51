/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "memory.h"

#include "../core/fault.h"
#include "../core/live.h"
#include "../core/memory.h"
#include "devices.h"
#include "parts.h"
#include "work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONTEXT_DEVICES_FEW 64 /* more are asked for into memory of their own */

/* Bit i: the slice's device i. It is the owner of an entry of the live table, which has as many bits as a slice has devices. */
typedef uint16_t mask_t;
_Static_assert(MICA_DEVICES_MAX <= 16, "a bit for each device");

/* What was charged for an object that is being made. */
struct grant {
    cl_int error; /* not CL_SUCCESS: do not ask the target, answer this */
    mask_t mask;  /* 0: nothing */
    uint64_t bytes;
};

static _Atomic bool has_said; /* that a single object is larger than the slice: once is enough */

void memory_forget(void)
{
    mica_live_forget();
    atomic_store(&has_said, false);
}

static void refund(mask_t mask, uint64_t bytes)
{
    for (unsigned i = 0; i < MICA_DEVICES_MAX; i++) {
        if (mask & 1U << i) {
            mica_memory_refund(&mica_attached_slice()->devices[i], MICA_MEMORY_VRAM, bytes);
        }
    }
}

/* A context may have any number of devices: a program makes parts of one as it likes. `error`: there was no memory to ask with. */
static mask_t context_mask(cl_context context, cl_int *error)
{
    cl_device_id few[CONTEXT_DEVICES_FEW];
    size_t bytes = 0;
    mask_t mask = 0;
    if (below.clGetContextInfo(context, CL_CONTEXT_DEVICES, 0, NULL, &bytes) != CL_SUCCESS) {
        return 0; /* not a context: the target says so itself */
    }
    cl_device_id *devices = bytes <= sizeof few ? few : malloc(bytes);
    if (devices == NULL) {
        *error = CL_OUT_OF_HOST_MEMORY;
        return 0;
    }
    if (below.clGetContextInfo(context, CL_CONTEXT_DEVICES, bytes, devices, NULL) == CL_SUCCESS) {
        for (size_t i = 0; i < bytes / sizeof devices[0]; i++) {
            const struct mica_device *device = device_of(devices[i]);
            mask |= device != NULL ? (mask_t)(1U << device_index(device)) : 0;
        }
    }
    if (devices != few) {
        free(devices);
    }
    return mask;
}

/* A request that no slice of this size can meet, however empty, is worth a line. */
static void say_too_large(const struct mica_device *device, uint64_t bytes, uint64_t limit_bytes)
{
    char text[160];
    if (bytes > limit_bytes && !atomic_exchange(&has_said, true)) {
        snprintf(text, sizeof text, "device %s: %llu bytes asked for in one object, the slice has %llu", device->id, (unsigned long long)bytes,
                 (unsigned long long)limit_bytes);
        mica_fault_say(mica_attached_slice()->id, "memory refused", text);
    }
}

static cl_int refusal(struct mica_device *device, enum mica_verdict verdict, uint64_t bytes)
{
    const struct mica_slice_limits *limits = mica_limits_now(device);
    if (verdict != MICA_NO_MEMORY || limits == NULL) {
        return CL_OUT_OF_RESOURCES;
    }
    say_too_large(device, bytes, limits->vram_limit_bytes);
    return bytes > limits->vram_limit_bytes ? CL_INVALID_BUFFER_SIZE : CL_MEM_OBJECT_ALLOCATION_FAILURE;
}

/* Charge `bytes` on each device of the mask, or on none. */
static cl_int charge(mask_t mask, uint64_t bytes)
{
    for (unsigned i = 0; i < MICA_DEVICES_MAX; i++) {
        if ((mask & 1U << i) == 0) {
            continue;
        }
        struct mica_device *device = &mica_attached_slice()->devices[i];
        enum mica_verdict verdict = bytes <= MICA_LIVE_BYTES_MAX ? mica_memory_charge(device, MICA_MEMORY_VRAM, bytes) : MICA_NO_MEMORY;
        if (verdict != MICA_GRANTED) {
            refund(mask & (mask_t)((1U << i) - 1), bytes);
            return refusal(device, verdict, bytes);
        }
    }
    return CL_SUCCESS;
}

static struct grant grant_take(cl_context context, uint64_t bytes)
{
    struct grant grant = {.error = CL_SUCCESS, .bytes = bytes};
    enum door at = door();
    if (at == DOOR_CLOSED) {
        grant.error = CL_OUT_OF_RESOURCES;
    }
    if (at != DOOR_ENFORCE || bytes == 0) {
        return grant;
    }
    grant.mask = context_mask(context, &grant.error);
    if (grant.error == CL_SUCCESS) {
        grant.error = charge(grant.mask, bytes);
    }
    return grant;
}

/* --- Objects ------------------------------------------------------------------------------------------------------------ */

/* The last user of the object is gone. The target frees it when this returns. */
static void on_destroyed(cl_mem memory, void *user)
{
    struct mica_live_entry entry;
    (void)user;
    if (mica_live_remove((uintptr_t)memory, &entry)) {
        refund(entry.owner, entry.bytes);
    }
}

/* What an object takes is the target's to say: charge what it is more than was thought, give back what it is less. */
static cl_int settle(struct grant *grant, cl_mem memory)
{
    size_t actual = 0;
    if (below.clGetMemObjectInfo(memory, CL_MEM_SIZE, sizeof actual, &actual, NULL) != CL_SUCCESS || actual == grant->bytes) {
        return CL_SUCCESS;
    }
    if (actual > grant->bytes) {
        cl_int error = charge(grant->mask, actual - grant->bytes);
        if (error != CL_SUCCESS) {
            return error;
        }
    } else {
        refund(grant->mask, grant->bytes - actual);
    }
    grant->bytes = actual;
    return CL_SUCCESS;
}

/* The target has made the object, or (NULL) not. Returns what the caller gets. */
static cl_mem grant_keep(struct grant *grant, cl_mem memory, cl_int *error)
{
    if (grant->mask == 0) {
        return memory;
    }
    cl_int result = memory != NULL ? settle(grant, memory) : CL_SUCCESS;
    if (memory != NULL && result == CL_SUCCESS && below.clSetMemObjectDestructorCallback == NULL) {
        return memory; /* of OpenCL 1.0: nobody says when it dies, so it is charged until the process ends */
    }
    struct mica_live_entry entry = {.bytes = grant->bytes, .owner = grant->mask};
    if (memory != NULL && result == CL_SUCCESS && mica_live_insert((uintptr_t)memory, entry)) {
        if (below.clSetMemObjectDestructorCallback(memory, on_destroyed, NULL) == CL_SUCCESS) {
            return memory;
        }
        (void)mica_live_remove((uintptr_t)memory, &entry);
        result = CL_OUT_OF_RESOURCES;
    } else if (memory != NULL && result == CL_SUCCESS) {
        result = CL_OUT_OF_HOST_MEMORY;
    }
    refund(grant->mask, grant->bytes);
    if (memory != NULL) {
        (void)below.clReleaseMemObject(memory);
        tell(error, result);
    }
    return NULL;
}

/* A hook that makes an object of `size` bytes in `context`, where that can have such objects. */
#define HOOK_IF(possible, name, params, args, size)                       \
    cl_mem hook_##name params                                             \
    {                                                                     \
        if (!(possible)) {                                                \
            tell(error, CL_INVALID_OPERATION);                            \
            return NULL;                                                  \
        }                                                                 \
        struct grant grant = grant_take(context, (size));                 \
        if (grant.error != CL_SUCCESS) {                                  \
            tell(error, grant.error);                                     \
            return NULL;                                                  \
        }                                                                 \
        return grant_keep(&grant, below.name args, error);                \
    }

#define OBJECT_HOOK(name, params, args, size) HOOK_IF(true, name, params, args, size)

OBJECT_HOOK(clCreateBuffer, (cl_context context, cl_bitfield flags, size_t size, void *host, cl_int *error), (context, flags, size, host, error), size)
OBJECT_HOOK(clCreateBufferWithProperties,
            (cl_context context, const cl_properties *properties, cl_bitfield flags, size_t size, void *host, cl_int *error),
            (context, properties, flags, size, host, error), size)
OBJECT_HOOK(clCreatePipe,
            (cl_context context, cl_bitfield flags, cl_uint packet_bytes, cl_uint packets, const cl_context_properties *properties, cl_int *error),
            (context, flags, packet_bytes, packets, properties, error), (uint64_t)packet_bytes * packets)

/* Bytes of a pixel, at most: from the number of channels that its order names and from their type. */
static uint64_t pixel_bytes(const cl_image_format *format)
{
    static const unsigned char channels[] = {1, 1, 2, 2, 3, 4, 4, 4, 1, 1, 1, 2, 3, 1, 2, 3, 4, 4, 4, 4}; /* from CL_R, 0x10B0 */
    static const unsigned char bytes[] = {1, 2, 1, 2, 0, 0, 0, 1, 2, 4, 1, 2, 4, 2, 4, 4, 0, 4};          /* from CL_SNORM_INT8, 0x10D0; 0: all in one */
    if (format == NULL) {
        return 0;
    }
    cl_uint order = format->order - 0x10B0;
    cl_uint type = format->type - 0x10D0;
    uint64_t count = order < sizeof channels ? channels[order] : 4;
    uint64_t each = type < sizeof bytes ? bytes[type] : 4;
    return each != 0 ? count * each : 4;
}

static uint64_t at_least_one(uint64_t value)
{
    return value > 0 ? value : 1;
}

/* What a kind of image has none of may be anything in its description. */
static uint64_t image_bytes(const cl_image_format *format, const cl_image_desc *desc)
{
    if (desc == NULL || desc->from != NULL) {
        return 0; /* the memory of another object, which is charged */
    }
    bool has_depth = desc->type == CL_MEM_OBJECT_IMAGE3D;
    bool has_height = has_depth || desc->type == CL_MEM_OBJECT_IMAGE2D || desc->type == CL_MEM_OBJECT_IMAGE2D_ARRAY;
    bool has_several = desc->type == CL_MEM_OBJECT_IMAGE2D_ARRAY || desc->type == CL_MEM_OBJECT_IMAGE1D_ARRAY;
    return pixel_bytes(format) * desc->width * at_least_one(has_height ? desc->height : 1) * at_least_one(has_depth ? desc->depth : 1) *
           at_least_one(has_several ? desc->array_size : 1);
}

/* A part may be of a device whose images its driver does not find there (parts.h). */
#define IMAGE_HOOK(name, params, args, size) HOOK_IF(part_has_images(context), name, params, args, size)

IMAGE_HOOK(clCreateImage,
            (cl_context context, cl_bitfield flags, const cl_image_format *format, const cl_image_desc *desc, void *host, cl_int *error),
            (context, flags, format, desc, host, error), image_bytes(format, desc))
IMAGE_HOOK(clCreateImageWithProperties,
            (cl_context context, const cl_properties *properties, cl_bitfield flags, const cl_image_format *format, const cl_image_desc *desc,
             void *host, cl_int *error),
            (context, properties, flags, format, desc, host, error), image_bytes(format, desc))
IMAGE_HOOK(clCreateImage2D,
            (cl_context context, cl_bitfield flags, const cl_image_format *format, size_t width, size_t height, size_t row_pitch, void *host,
             cl_int *error),
            (context, flags, format, width, height, row_pitch, host, error),
            pixel_bytes(format) * width * at_least_one(height))
IMAGE_HOOK(clCreateImage3D,
            (cl_context context, cl_bitfield flags, const cl_image_format *format, size_t width, size_t height, size_t depth, size_t row_pitch,
             size_t slice_pitch, void *host, cl_int *error),
            (context, flags, format, width, height, depth, row_pitch, slice_pitch, host, error),
            pixel_bytes(format) * width * at_least_one(height) * at_least_one(depth))

/* A callback of the program's. */
struct watcher {
    cl_mem_notify notify;
    void *user;
};

static void on_watched(cl_mem memory, void *user)
{
    struct watcher watcher = *(struct watcher *)user;
    free(user);
    bool before = work_callback_enter();
    watcher.notify(memory, watcher.user);
    work_callback_leave(before);
}

cl_int hook_clSetMemObjectDestructorCallback(cl_mem memory, cl_mem_notify notify, void *user)
{
    if (notify == NULL || door() != DOOR_ENFORCE) {
        return below.clSetMemObjectDestructorCallback(memory, notify, user);
    }
    struct watcher *watcher = malloc(sizeof *watcher);
    if (watcher == NULL) {
        return CL_OUT_OF_HOST_MEMORY;
    }
    *watcher = (struct watcher){notify, user};
    cl_int result = below.clSetMemObjectDestructorCallback(memory, on_watched, watcher);
    if (result != CL_SUCCESS) {
        free(watcher);
    }
    return result;
}

/* --- Shared virtual memory ---------------------------------------------------------------------------------------------- */

void *hook_clSVMAlloc(cl_context context, cl_bitfield flags, size_t size, cl_uint alignment)
{
    struct grant grant = grant_take(context, size);
    if (grant.error != CL_SUCCESS) {
        return NULL;
    }
    void *pointer = below.clSVMAlloc(context, flags, size, alignment);
    if (grant.mask == 0) {
        return pointer;
    }
    struct mica_live_entry entry = {.bytes = grant.bytes, .owner = grant.mask};
    if (pointer != NULL && mica_live_insert((uintptr_t)pointer, entry)) {
        return pointer;
    }
    if (pointer != NULL) {
        below.clSVMFree(context, pointer);
    }
    refund(grant.mask, grant.bytes);
    return NULL;
}

void hook_clSVMFree(cl_context context, void *pointer)
{
    struct mica_live_entry entry;
    bool is_charged = pointer != NULL && door() != DOOR_PASS && mica_live_remove((uintptr_t)pointer, &entry);
    below.clSVMFree(context, pointer);
    if (is_charged) {
        refund(entry.owner, entry.bytes);
    }
}

/* What is freed in the order of a queue; given back when it has happened. It is taken out of the table before: afterwards its address may be another's. */
struct svm_free {
    unsigned count;
    struct svm_freed {
        void *pointer;
        struct mica_live_entry entry;
    } freed[];
};

static void on_freed(cl_event event, cl_int status, void *user)
{
    struct svm_free *list = user;
    (void)event;
    (void)status; /* after an error the pointers are nobody's any more either */
    for (unsigned i = 0; i < list->count; i++) {
        refund(list->freed[i].entry.owner, list->freed[i].entry.bytes);
    }
    free(list);
}

static struct svm_free *svm_take(cl_uint count, void *const *pointers)
{
    struct svm_free *list = calloc(1, sizeof *list + count * sizeof list->freed[0]);
    for (cl_uint i = 0; list != NULL && i < count; i++) {
        struct svm_freed *freed = &list->freed[list->count];
        freed->pointer = pointers[i];
        list->count += mica_live_remove((uintptr_t)pointers[i], &freed->entry);
    }
    return list;
}

/* They are not freed after all. An entry that finds no memory to be put back is given back: the driver has it, and nobody counts it. */
static void svm_put_back(struct svm_free *list)
{
    for (unsigned i = 0; i < list->count; i++) {
        if (!mica_live_insert((uintptr_t)list->freed[i].pointer, list->freed[i].entry)) {
            refund(list->freed[i].entry.owner, list->freed[i].entry.bytes);
        }
    }
    free(list);
}

/* What a program frees by a function of its own stays its own: that function calls clSVMFree. */
struct svm_own {
    cl_svm_free_notify notify;
    void *user;
};

static void on_freeing(cl_command_queue queue, cl_uint count, void **pointers, void *user)
{
    struct svm_own own = *(struct svm_own *)user;
    free(user);
    bool before = work_callback_enter();
    own.notify(queue, count, pointers, own.user);
    work_callback_leave(before);
}

static cl_int free_by_own(cl_command_queue queue, cl_uint count, void *pointers[], struct svm_own by, DONE)
{
    struct svm_own *own = malloc(sizeof *own);
    if (own == NULL) {
        return CL_OUT_OF_HOST_MEMORY;
    }
    *own = by;
    cl_int result = below.clEnqueueSVMFree(queue, count, pointers, on_freeing, own, wait_count, waits, event);
    if (result != CL_SUCCESS) {
        free(own);
    }
    return result;
}

cl_int hook_clEnqueueSVMFree(cl_command_queue queue, cl_uint count, void *pointers[], cl_svm_free_notify notify, void *user, cl_uint wait_count,
                             const cl_event *waits, cl_event *event)
{
    if (count == 0 || pointers == NULL || door() == DOOR_PASS) {
        return below.clEnqueueSVMFree(queue, count, pointers, notify, user, wait_count, waits, event);
    }
    if (notify != NULL) {
        return free_by_own(queue, count, pointers, (struct svm_own){notify, user}, wait_count, waits, event);
    }
    cl_event own = NULL;
    cl_event *place = event != NULL ? event : &own;
    struct svm_free *list = svm_take(count, pointers);
    if (list == NULL) {
        return CL_OUT_OF_HOST_MEMORY;
    }
    cl_int result = below.clEnqueueSVMFree(queue, count, pointers, notify, user, wait_count, waits, place);
    if (result != CL_SUCCESS) {
        svm_put_back(list);
    } else if (!call_back(*place, on_freed, list)) {
        on_freed(NULL, CL_COMPLETE, list);
    }
    if (own != NULL) {
        (void)below.clReleaseEvent(own);
    }
    return result;
}
