/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "footprint.h"

#include "../core/below.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROCESSES_LISTED 256
#define PATH_BYTES 4096
#define NVML_SUCCESS 0

typedef struct nvmlDevice_st *nvmlDevice_t;
struct process_info {
    unsigned int pid;
    unsigned long long used_bytes;
    unsigned int gpu_instance, compute_instance;
};

static struct {
    bool is_sought;
    int (*handle_by_uuid)(const char *uuid, nvmlDevice_t *device); /* NULL: there is no library */
    int (*processes)(nvmlDevice_t device, unsigned int *count, struct process_info *infos);
} nvml;

/* By slice device: what its contexts in this process are charged. */
static struct {
    unsigned contexts;
    uint64_t bytes;
} held[MICA_DEVICES_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* --- What the vendor's library counts ------------------------------------------------------------------------------------- */

/* The management library is installed beside the driver. Its absolute path is needed: by name the slice's view of it would be found. */
static void *open_library(void)
{
    const char *configured = getenv("MICA_NVML_DRIVER");
    if (configured != NULL && configured[0] == '/') {
        return dlopen(configured, RTLD_LAZY | RTLD_LOCAL);
    }
    Dl_info info;
    const void *function = mica_below_symbol("cuInit");
    char path[PATH_BYTES];
    const char *end = function != NULL && dladdr(function, &info) != 0 ? strrchr(info.dli_fname, '/') : NULL;
    if (end == NULL || end - info.dli_fname > PATH_BYTES / 2) {
        return NULL;
    }
    snprintf(path, sizeof path, "%.*s/libnvidia-ml.so.1", (int)(end - info.dli_fname), info.dli_fname);
    return dlopen(path, RTLD_LAZY | RTLD_LOCAL);
}

static void seek_library(void)
{
    int (*init)(void) = NULL;
    nvml.is_sought = true;
    void *library = open_library();
    void *found = library != NULL ? dlsym(library, "nvmlInit_v2") : NULL;
    memcpy(&init, &found, sizeof found);
    if (init == NULL || init() != NVML_SUCCESS) {
        return;
    }
    found = dlsym(library, "nvmlDeviceGetComputeRunningProcesses_v3");
    memcpy(&nvml.processes, &found, sizeof found);
    found = nvml.processes != NULL ? dlsym(library, "nvmlDeviceGetHandleByUUID") : NULL;
    memcpy(&nvml.handle_by_uuid, &found, sizeof found);
}

/* What the library counts for this process. False: it does not know. A process without a context is not in its list, and has nothing. */
static bool count_own(const struct mica_device *device, bool must_be_listed, uint64_t *bytes)
{
    static struct process_info infos[PROCESSES_LISTED]; /* under `lock` */
    unsigned int count = PROCESSES_LISTED;
    nvmlDevice_t handle = NULL;
    bool is_listed = false;
    *bytes = 0;
    pthread_mutex_lock(&lock);
    if (!nvml.is_sought) {
        seek_library();
    }
    bool is_known = nvml.handle_by_uuid != NULL && nvml.handle_by_uuid(device->id, &handle) == NVML_SUCCESS &&
                    nvml.processes(handle, &count, infos) == NVML_SUCCESS;
    for (unsigned int i = 0; is_known && i < count && i < PROCESSES_LISTED; i++) {
        if (infos[i].pid == (unsigned int)getpid() && infos[i].used_bytes != UINT64_MAX) {
            *bytes += infos[i].used_bytes;
            is_listed = true;
        }
    }
    pthread_mutex_unlock(&lock);
    return is_known && (is_listed || !must_be_listed);
}

static uint64_t own_charge(const struct mica_device *device)
{
    return mica_word_bytes(atomic_load_explicit(&device->usage->processes[device->slot].vram_word, memory_order_relaxed));
}

/* --- Around one call of the driver's ----------------------------------------------------------------------------------------- */

static unsigned contexts_on(const struct mica_device *device)
{
    pthread_mutex_lock(&lock);
    unsigned contexts = held[device - mica_attached_slice()->devices].contexts;
    pthread_mutex_unlock(&lock);
    return contexts;
}

struct footprint footprint_begin(struct mica_device *device, uint64_t expected_bytes)
{
    struct footprint footprint = {.device = device, .bytes = expected_bytes};
    if (device == NULL) {
        return footprint;
    }
    footprint.charged_bytes = own_charge(device);
    footprint.is_measured = count_own(device, contexts_on(device) != 0, &footprint.counted_bytes);
    footprint.result = verdict_result(mica_memory_charge(device, MICA_MEMORY_VRAM, expected_bytes));
    return footprint;
}

/* What the call took: what is counted more now, less what other threads were charged meanwhile. */
static uint64_t measure(const struct footprint *footprint)
{
    uint64_t counted = 0;
    if (!footprint->is_measured || !count_own(footprint->device, true, &counted) || counted < footprint->counted_bytes) {
        return footprint->bytes;
    }
    uint64_t more = counted - footprint->counted_bytes;
    uint64_t charged = own_charge(footprint->device) - footprint->bytes;
    uint64_t meanwhile = charged > footprint->charged_bytes ? charged - footprint->charged_bytes : 0;
    return more > meanwhile ? more - meanwhile : 0;
}

CUresult footprint_end(struct footprint *footprint, CUresult result)
{
    struct mica_device *device = footprint->device;
    if (device == NULL) {
        return result;
    }
    uint64_t taken = result == CUDA_SUCCESS ? measure(footprint) : 0;
    if (taken > footprint->bytes) {
        CUresult rest = verdict_result(mica_memory_charge(device, MICA_MEMORY_VRAM, taken - footprint->bytes));
        result = rest;
        taken = rest == CUDA_SUCCESS ? taken : 0;
    }
    if (taken < footprint->bytes) {
        mica_memory_refund(device, MICA_MEMORY_VRAM, footprint->bytes - taken);
    }
    footprint->bytes = taken;
    return result;
}

/* --- Contexts ------------------------------------------------------------------------------------------------------------------ */

/* What a process's first context took when that was last measured in this slice; else what is configured. */
static uint64_t expected_bytes(const struct mica_device *device)
{
    uint64_t learnt = atomic_load_explicit(&device->usage->context_bytes, memory_order_relaxed);
    const char *configured = getenv("MICA_CONTEXT_BYTES");
    return learnt != 0 || configured == NULL ? learnt : strtoull(configured, NULL, 10);
}

struct footprint footprint_context_begin(struct mica_device *device)
{
    return footprint_begin(device, device != NULL && contexts_on(device) == 0 ? expected_bytes(device) : 0);
}

void footprint_context_made(const struct footprint *footprint)
{
    const struct mica_device *device = footprint->device;
    if (device == NULL) {
        return;
    }
    unsigned index = (unsigned)(device - mica_attached_slice()->devices);
    pthread_mutex_lock(&lock);
    if (held[index].contexts++ == 0 && footprint->is_measured) {
        atomic_store_explicit(&device->usage->context_bytes, footprint->bytes, memory_order_relaxed); /* a statistic; the newest is as good as any */
    }
    held[index].bytes += footprint->bytes;
    pthread_mutex_unlock(&lock);
}

void footprint_context_ended(const struct mica_device *device)
{
    if (device == NULL) {
        return;
    }
    unsigned index = (unsigned)(device - mica_attached_slice()->devices);
    pthread_mutex_lock(&lock);
    if (held[index].contexts != 0 && --held[index].contexts == 0) {
        mica_memory_refund(&mica_attached_slice()->devices[index], MICA_MEMORY_VRAM, held[index].bytes);
        held[index].bytes = 0;
    }
    pthread_mutex_unlock(&lock);
}

void footprint_forget(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    lock = fresh;
    memset(held, 0, sizeof held);
    memset(&nvml, 0, sizeof nvml);
}
