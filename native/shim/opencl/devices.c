/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "devices.h"

#include "../core/fault.h"
#include "../core/memory.h"
#include "parts.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KNOWN_MAX 256
#define PLATFORMS_MAX 32
#define DEVICES_MAX 64
#define NAME_BYTES 256
#define PARENTS_MAX 8 /* a part of a part of a device ... */

/* A device of any platform. */
struct known {
    cl_device_id id;
    cl_device_id shown; /* the slice's part of it; else itself */
    char platform_name[NAME_BYTES];
    char name[NAME_BYTES];
    struct mica_device *device; /* NULL: not the slice's */
};

static struct known all[KNOWN_MAX];
static unsigned all_count;
static bool overlaps[MICA_DEVICES_MAX]; /* of the slice's devices, written with the list */
static _Atomic bool is_listed; /* release: the list is whole */
static pthread_mutex_t listing = PTHREAD_MUTEX_INITIALIZER;

void devices_forget(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    listing = fresh;
    atomic_store(&is_listed, false);
    all_count = 0;
}

static void name_id(const struct known *known, char id[MICA_ID_TEXT])
{
    const char *node = getenv("MICA_NODE");
    char ordinal[16];
    unsigned before = 0;
    for (const struct known *other = all; other < known; other++) {
        before += strcmp(other->platform_name, known->platform_name) == 0 && strcmp(other->name, known->name) == 0;
    }
    snprintf(ordinal, sizeof ordinal, "%u", before);
    uint64_t hash = digest(DIGEST_BEGIN, node != NULL ? node : "");
    hash = digest(digest(digest(hash, known->platform_name), known->name), ordinal);
    snprintf(id, MICA_ID_TEXT, "OCL-%016llx", (unsigned long long)hash);
}

static bool uuid_id(cl_device_id device, char id[MICA_ID_TEXT])
{
    unsigned char b[CL_UUID_SIZE_KHR];
    size_t bytes = 0;
    if (below.clGetDeviceInfo(device, CL_DEVICE_UUID_KHR, sizeof b, b, &bytes) != CL_SUCCESS || bytes != sizeof b) {
        return false;
    }
    snprintf(id, MICA_ID_TEXT, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7],
             b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
    return true;
}

/* The slice's device of that id, or of the id that MICA_OPENCL_IDS gives it: "OCL-...=another,...". A vendor's own library may call it by another. */
static struct mica_device *named(const char *id)
{
    struct mica_device *device = mica_slice_device(mica_attached_slice(), id);
    const char *at = getenv("MICA_OPENCL_IDS");
    size_t length = strlen(id);
    for (; device == NULL && at != NULL; at = *at != '\0' ? at + 1 : NULL) {
        size_t entry = strcspn(at, ",");
        if (entry > length && entry - length <= MICA_ID_TEXT && memcmp(at, id, length) == 0 && at[length] == '=') {
            char other[MICA_ID_TEXT] = "";
            memcpy(other, at + length + 1, entry - length - 1);
            device = mica_slice_device(mica_attached_slice(), other);
        }
        at += entry;
    }
    return device;
}

static struct mica_device *find(const struct known *known)
{
    char id[MICA_ID_TEXT];
    struct mica_device *device = uuid_id(known->id, id) ? named(id) : NULL;
    if (device == NULL) {
        name_id(known, id);
        device = named(id);
    }
    return device;
}

/* A platform that does not answer hides devices, and the program only sees that they are not there. */
static void say_failed(cl_platform_id platform, const char *call, cl_int error)
{
    char name[NAME_BYTES] = "";
    char why[NAME_BYTES + 64];
    (void)below.clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof name - 1, name, NULL);
    snprintf(why, sizeof why, "platform %s: %s: error %d, allowed: none", name, call, (int)error);
    mica_fault_say(mica_attached_slice()->id, "devices left out", why);
}

static void list_platform(cl_platform_id platform)
{
    cl_device_id devices[DEVICES_MAX];
    cl_uint count = 0;
    cl_int named = CL_SUCCESS;
    cl_int result = below.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, DEVICES_MAX, devices, &count);
    if (result != CL_SUCCESS) {
        if (result != CL_DEVICE_NOT_FOUND) {
            say_failed(platform, "clGetDeviceIDs", result);
        }
        return;
    }
    for (cl_uint i = 0; i < count && i < DEVICES_MAX && all_count < KNOWN_MAX; i++) {
        struct known *known = &all[all_count++];
        memset(known, 0, sizeof *known);
        known->id = devices[i];
        known->shown = devices[i];
        (void)below.clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof known->platform_name - 1, known->platform_name, NULL);
        result = below.clGetDeviceInfo(devices[i], CL_DEVICE_NAME, sizeof known->name - 1, known->name, NULL);
        named = result != CL_SUCCESS ? result : named;
        known->device = find(known);
        if (known->device != NULL) {
            known->shown = part_make(devices[i], known->device);
            cl_bitfield type = 0;
            (void)below.clGetDeviceInfo(devices[i], CL_DEVICE_TYPE, sizeof type, &type, NULL);
            overlaps[device_index(known->device)] = (type & CL_DEVICE_TYPE_CPU) != 0;
        }
    }
    if (named != CL_SUCCESS) {
        say_failed(platform, "clGetDeviceInfo", named);
    }
}

static void list_all(void)
{
    cl_platform_id platforms[PLATFORMS_MAX];
    cl_uint count = 0;
    pthread_mutex_lock(&listing);
    if (!atomic_load(&is_listed)) {
        all_count = 0;
        if (below.clGetPlatformIDs(PLATFORMS_MAX, platforms, &count) == CL_SUCCESS) {
            for (cl_uint i = 0; i < count && i < PLATFORMS_MAX; i++) {
                list_platform(platforms[i]);
            }
        }
        atomic_store_explicit(&is_listed, true, memory_order_release);
    }
    pthread_mutex_unlock(&listing);
}

static const struct known *known_of(cl_device_id id)
{
    /* Acquire pairs with the release in list_all: the list does not change any more. */
    if (!atomic_load_explicit(&is_listed, memory_order_acquire)) {
        list_all();
    }
    for (unsigned i = 0; i < all_count; i++) {
        if (all[i].id == id || all[i].shown == id) {
            return &all[i];
        }
    }
    return NULL;
}

struct mica_device *device_of(cl_device_id id)
{
    for (unsigned i = 0; i < PARENTS_MAX && id != NULL; i++) {
        const struct known *known = known_of(id);
        if (known != NULL) {
            return known->device;
        }
        cl_device_id parent = NULL;
        if (below.clGetDeviceInfo(id, CL_DEVICE_PARENT_DEVICE, sizeof parent, &parent, NULL) != CL_SUCCESS) {
            return NULL;
        }
        id = parent;
    }
    return NULL;
}

cl_device_id device_shown(cl_device_id id)
{
    const struct known *known = known_of(id);
    return known != NULL ? known->shown : id;
}

bool device_is_shown(cl_device_id id)
{
    return known_of(id) != NULL;
}

bool device_overlaps(const struct mica_device *device)
{
    return overlaps[device_index(device)];
}

unsigned device_index(const struct mica_device *device)
{
    return (unsigned)(device - mica_attached_slice()->devices);
}

/* --- Hooks -------------------------------------------------------------------------------------------------------------- */

/* The slice's devices of a platform, or of one type; all of them where a default is asked for and is none of them. Returns how many. */
static cl_uint visible(cl_platform_id platform, cl_bitfield type, cl_device_id devices[DEVICES_MAX])
{
    cl_device_id found[DEVICES_MAX];
    cl_uint count = 0;
    cl_uint own = 0;
    if (below.clGetDeviceIDs(platform, type, DEVICES_MAX, found, &count) == CL_SUCCESS) {
        for (cl_uint i = 0; i < count && i < DEVICES_MAX; i++) {
            if (device_of(found[i]) != NULL) {
                devices[own++] = device_shown(found[i]);
            }
        }
    }
    if (own == 0 && type == CL_DEVICE_TYPE_DEFAULT) {
        own = visible(platform, CL_DEVICE_TYPE_ALL, devices);
        return own > 1 ? 1 : own;
    }
    return own;
}

cl_int hook_clGetDeviceIDs(cl_platform_id platform, cl_bitfield type, cl_uint room, cl_device_id *devices, cl_uint *count)
{
    cl_device_id own[DEVICES_MAX];
    enum door at = door();
    if (at == DOOR_PASS) {
        return below.clGetDeviceIDs(platform, type, room, devices, count);
    }
    if ((devices == NULL) != (room == 0) || (devices == NULL && count == NULL)) {
        return CL_INVALID_VALUE;
    }
    cl_uint of_any = 0;
    cl_int result = below.clGetDeviceIDs(platform, type, 0, NULL, &of_any);
    if (result != CL_SUCCESS && result != CL_DEVICE_NOT_FOUND) {
        return result; /* the target says what is wrong with the platform or the type */
    }
    cl_uint found = at == DOOR_ENFORCE ? visible(platform, type, own) : 0;
    if (count != NULL) {
        *count = found;
    }
    if (devices != NULL) {
        memcpy(devices, own, (found < room ? found : room) * sizeof *devices);
    }
    return found > 0 ? CL_SUCCESS : CL_DEVICE_NOT_FOUND;
}

static void lower(cl_ulong *value, uint64_t most)
{
    *value = *value < most ? *value : most;
}

static void show_images(struct mica_device *device, void *value)
{
    cl_bool shown = part_lacks_images(device) ? 0 : 1;
    cl_bool has = 0;
    memcpy(&has, value, sizeof has);
    shown &= has;
    memcpy(value, &shown, sizeof shown);
}

static void show_memory(struct mica_device *device, cl_uint what, void *value)
{
    const struct mica_slice_limits *limits = mica_limits_now(device);
    cl_ulong shown = 0;
    if (limits != NULL) {
        memcpy(&shown, value, sizeof shown);
        lower(&shown, what == CL_DEVICE_GLOBAL_FREE_MEMORY_AMD ? mica_memory_free(device, limits) / 1024 : limits->vram_limit_bytes);
        memcpy(value, &shown, sizeof shown);
    }
}

cl_int hook_clGetDeviceInfo(cl_device_id id, cl_uint what, size_t room, void *value, size_t *bytes)
{
    if (door() != DOOR_ENFORCE) {
        return below.clGetDeviceInfo(id, what, room, value, bytes);
    }
    const struct known *known = known_of(id);
    if (known != NULL) {
        bool is_whole = what == CL_DEVICE_PARENT_DEVICE || what == CL_DEVICE_PARTITION_TYPE || what == CL_DEVICE_REFERENCE_COUNT;
        id = is_whole ? known->id : known->shown;
    }
    cl_int result = below.clGetDeviceInfo(id, what, room, value, bytes);
    bool is_memory = what == CL_DEVICE_GLOBAL_MEM_SIZE || what == CL_DEVICE_MAX_MEM_ALLOC_SIZE || what == CL_DEVICE_GLOBAL_FREE_MEMORY_AMD;
    struct mica_device *device = result == CL_SUCCESS && value != NULL && (is_memory || what == CL_DEVICE_IMAGE_SUPPORT) ? device_of(id) : NULL;
    if (device != NULL && is_memory && room >= sizeof(cl_ulong)) {
        show_memory(device, what, value);
    } else if (device != NULL && !is_memory) {
        show_images(device, value);
    }
    return result;
}

cl_context hook_clCreateContext(const cl_context_properties *properties, cl_uint count, const cl_device_id *devices, cl_notify notify, void *user,
                                cl_int *error)
{
    enum door at = door();
    if (at == DOOR_CLOSED) {
        tell(error, CL_OUT_OF_RESOURCES);
        return NULL;
    }
    if (at == DOOR_PASS || devices == NULL) {
        return below.clCreateContext(properties, count, devices, notify, user, error);
    }
    cl_device_id *own = calloc(count > 0 ? count : 1, sizeof *own);
    cl_int refused = own == NULL ? CL_OUT_OF_HOST_MEMORY : CL_SUCCESS;
    for (cl_uint i = 0; own != NULL && i < count; i++) {
        refused = device_of(devices[i]) == NULL ? CL_INVALID_DEVICE : refused;
        own[i] = device_shown(devices[i]);
    }
    cl_context context = refused == CL_SUCCESS ? below.clCreateContext(properties, count, own, notify, user, error) : NULL;
    if (refused != CL_SUCCESS) {
        tell(error, refused);
    }
    free(own);
    return context;
}

static cl_platform_id platform_in(const cl_context_properties *properties)
{
    for (; properties != NULL && properties[0] != 0; properties += 2) {
        if (properties[0] == CL_CONTEXT_PLATFORM) {
            return (cl_platform_id)(uintptr_t)properties[1];
        }
    }
    cl_platform_id first = NULL;
    return below.clGetPlatformIDs(1, &first, NULL) == CL_SUCCESS ? first : NULL;
}

cl_context hook_clCreateContextFromType(const cl_context_properties *properties, cl_bitfield type, cl_notify notify, void *user, cl_int *error)
{
    cl_device_id devices[DEVICES_MAX];
    enum door at = door();
    if (at == DOOR_PASS) {
        return below.clCreateContextFromType(properties, type, notify, user, error);
    }
    cl_uint count = at == DOOR_ENFORCE ? visible(platform_in(properties), type, devices) : 0;
    if (count == 0) {
        tell(error, CL_DEVICE_NOT_FOUND);
        return NULL;
    }
    return below.clCreateContext(properties, count, devices, notify, user, error);
}
