/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "own_usage.h"

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
#define NOT_AVAILABLE UINT64_MAX

typedef struct nvmlDevice_st *nvmlDevice_t;
struct process_info {
    unsigned int pid;
    unsigned long long used_bytes;
    unsigned int gpu_instance, compute_instance;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for all that follows; contexts and modules are slow to make */

static struct {
    bool is_sought;
    int (*handle_by_uuid)(const char *uuid, nvmlDevice_t *device); /* NULL: there is no library */
    int (*processes)(nvmlDevice_t device, unsigned int *count, struct process_info *infos);
} nvml;

/* The processes of a device, as the library lists them. */
struct list {
    unsigned int count;
    struct process_info processes[PROCESSES_LISTED];
};
static struct list now;
static struct list others;                      /* before this process had a context there */
static const struct mica_device *others_on;     /* of this device; NULL: not noted */
static unsigned int own_pid;                    /* as the library lists this process; 0: not known yet */

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

/* Under `lock`. False: there is no library, or it does not say. */
static bool look(const struct mica_device *device, struct list *list)
{
    nvmlDevice_t handle = NULL;
    if (!nvml.is_sought) {
        seek_library();
    }
    list->count = PROCESSES_LISTED;
    return nvml.handle_by_uuid != NULL && nvml.handle_by_uuid(device->id, &handle) == NVML_SUCCESS &&
           nvml.processes(handle, &list->count, list->processes) == NVML_SUCCESS && list->count <= PROCESSES_LISTED;
}

static bool is_listed(const struct list *list, unsigned int pid)
{
    for (unsigned int i = 0; i < list->count; i++) {
        if (list->processes[i].pid == pid) {
            return true;
        }
    }
    return false;
}

/* Who came since the others were noted: this process under its own pid, else the only newcomer. */
static void find_own_pid(void)
{
    unsigned int newcomer = 0;
    unsigned int newcomers = 0;
    for (unsigned int i = 0; i < now.count; i++) {
        unsigned int pid = now.processes[i].pid;
        if (pid == newcomer || is_listed(&others, pid)) {
            continue;
        }
        if (pid == (unsigned int)getpid()) {
            own_pid = pid;
            return;
        }
        newcomer = pid;
        newcomers++;
    }
    own_pid = newcomers == 1 ? newcomer : 0;
}

/* Several came at the same moment: this process has at least what the least of them has, and a context is most of what a newcomer has. */
static bool least_newcomer(uint64_t *bytes)
{
    *bytes = NOT_AVAILABLE;
    for (unsigned int i = 0; i < now.count; i++) {
        const struct process_info *process = &now.processes[i];
        if (!is_listed(&others, process->pid) && process->used_bytes < *bytes) {
            *bytes = process->used_bytes;
        }
    }
    return *bytes != NOT_AVAILABLE;
}

/* A process may have several entries, one for each instance of a partitioned device. */
static bool sum_own(uint64_t *bytes)
{
    bool is_found = false;
    *bytes = 0;
    for (unsigned int i = 0; i < now.count; i++) {
        const struct process_info *process = &now.processes[i];
        if (process->pid == own_pid && process->used_bytes != NOT_AVAILABLE) {
            *bytes += process->used_bytes;
            is_found = true;
        }
    }
    return is_found;
}

bool own_usage_before_context(const struct mica_device *device, uint64_t *bytes)
{
    *bytes = 0;
    pthread_mutex_lock(&lock);
    bool is_known = true;
    if (own_pid != 0) {
        is_known = look(device, &now);
        (void)(is_known && sum_own(bytes)); /* not listed: nothing */
    } else if (others_on != device) { /* else another thread is making a context there, too */
        is_known = look(device, &others);
        others_on = is_known ? device : NULL;
    }
    pthread_mutex_unlock(&lock);
    return is_known;
}

void own_usage_forget_others(void)
{
    pthread_mutex_lock(&lock);
    others_on = NULL;
    pthread_mutex_unlock(&lock);
}

bool own_usage_read(const struct mica_device *device, uint64_t *bytes)
{
    pthread_mutex_lock(&lock);
    bool is_known = look(device, &now);
    bool is_noted = others_on == device;
    if (is_known && own_pid == 0 && is_noted) {
        find_own_pid();
        others_on = NULL;
    }
    is_known = is_known && (own_pid != 0 ? sum_own(bytes) : is_noted && least_newcomer(bytes));
    pthread_mutex_unlock(&lock);
    return is_known;
}

void own_usage_forget(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    lock = fresh;
    memset(&nvml, 0, sizeof nvml);
    others_on = NULL;
    own_pid = 0;
}
