/* SPDX-License-Identifier: Apache-2.0
 *
 * Green contexts: contexts whose kernels run on some of the device's multiprocessors only. These are split into groups of the smallest size that it
 * offers, in an order that is the same in every process. A slice takes the groups that lie between its offset and its end, so that slices whose parts do
 * not overlap in the record do not overlap on the device either.
 */
#define _GNU_SOURCE
#include "spatial.h"

#include "../core/part.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define ORDINALS_MAX 64
#define GROUPS_MAX 128
#define PPM_OF_PERCENT 10000ULL

static struct {
    unsigned references; /* retained by the tenant */
    CUgreenCtx green;
    CUcontext context; /* the primary one, with the resources of `green` */
} parts[ORDINALS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* contexts are made and ended under it: rare and slow calls */

/* --- MPS ------------------------------------------------------------------------------------------------------------ */

void spatial_prepare(void)
{
    struct mica_slice *slice = mica_attached_slice();
    uint64_t percent = 0;
    for (unsigned i = 0; i < slice->device_count; i++) {
        const struct mica_slice_limits *limits = &slice->devices[i].limits;
        if (limits->spatial_kind == MICA_SPATIAL_MPS) {
            uint64_t own = (limits->spatial_ppm + PPM_OF_PERCENT - 1) / PPM_OF_PERCENT;
            percent = own > percent ? own : percent;
        }
    }
    if (percent == 0) {
        return;
    }
    const char *set = getenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE");
    double asked = set != NULL ? strtod(set, NULL) : 0;
    bool less = asked > 0 && asked <= (double)percent; /* a tenant may ask for less than it has */
    uint64_t part_ppm = less ? (uint64_t)(asked * PPM_OF_PERCENT) : percent * PPM_OF_PERCENT;
    for (unsigned i = 0; i < slice->device_count; i++) {
        atomic_store_explicit(&slice->devices[i].part_ppm, part_ppm, memory_order_relaxed);
    }
    if (less) {
        return;
    }
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)percent);
    (void)setenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", text, 1);
}

/* --- Green contexts ------------------------------------------------------------------------------------------------- */

static bool has_green(void)
{
    return driver.cuDeviceGetDevResource != NULL && driver.cuDevSmResourceSplitByCount != NULL && driver.cuDevResourceGenerateDesc != NULL &&
           driver.cuGreenCtxCreate != NULL && driver.cuGreenCtxDestroy != NULL && driver.cuCtxFromGreenCtx != NULL;
}

/* What failed, or NULL; `*result` is the driver's answer. */
static const char *make_green(CUdevice ordinal, struct mica_device *device, const struct mica_slice_limits *limits, CUresult *result)
{
    static CUdevResource groups[GROUPS_MAX];
    CUdevResource all;
    CUdevResource rest;
    CUdevResourceDesc description = NULL;
    *result = driver.cuDeviceGetDevResource(ordinal, &all, CU_DEV_RESOURCE_TYPE_SM);
    if (*result != CUDA_SUCCESS) {
        return "cuDeviceGetDevResource";
    }
    unsigned count = GROUPS_MAX;
    *result = driver.cuDevSmResourceSplitByCount(groups, &count, &all, &rest, 0, 1); /* 1: rounded up to the smallest group there is */
    if (*result != CUDA_SUCCESS || count == 0) {
        return "cuDevSmResourceSplitByCount";
    }
    unsigned first = 0;
    unsigned chosen = mica_part_units(limits, count < GROUPS_MAX ? count : GROUPS_MAX, &first);
    *result = driver.cuDevResourceGenerateDesc(&description, &groups[first], chosen);
    if (*result != CUDA_SUCCESS) {
        return "cuDevResourceGenerateDesc";
    }
    *result = driver.cuGreenCtxCreate(&parts[ordinal].green, description, ordinal, CU_GREEN_CTX_DEFAULT_STREAM);
    if (*result != CUDA_SUCCESS) {
        parts[ordinal].green = NULL;
        return "cuGreenCtxCreate";
    }
    *result = driver.cuCtxFromGreenCtx(&parts[ordinal].context, parts[ordinal].green);
    if (*result != CUDA_SUCCESS) {
        (void)driver.cuGreenCtxDestroy(parts[ordinal].green);
        parts[ordinal].green = NULL;
        return "cuCtxFromGreenCtx";
    }
    atomic_store_explicit(&device->part_ppm, chosen * MICA_PPM / count, memory_order_relaxed);
    return NULL;
}

static void destroy_green(CUdevice ordinal)
{
    CUgreenCtx green = parts[ordinal].green;
    parts[ordinal].green = NULL;
    parts[ordinal].context = NULL;
    if (green != NULL) {
        (void)driver.cuGreenCtxDestroy(green);
        struct mica_device *device = ordinal_device(ordinal);
        if (device != NULL) {
            atomic_store_explicit(&device->part_ppm, 0, memory_order_relaxed);
        }
    }
}

/* The limits that ask for a green context on this device, or NULL. */
static const struct mica_slice_limits *green_limits(struct mica_device *device)
{
    const struct mica_slice_limits *limits = device != NULL ? mica_limits_now(device) : NULL;
    return limits != NULL && limits->spatial_kind == MICA_SPATIAL_GREEN && limits->spatial_ppm != 0 ? limits : NULL;
}

void spatial_enter(CUdevice ordinal, CUcontext *context)
{
    if (ordinal < 0 || ordinal >= ORDINALS_MAX) {
        return;
    }
    struct mica_device *device = ordinal_device(ordinal);
    const struct mica_slice_limits *limits = green_limits(device);
    pthread_mutex_lock(&lock);
    if (parts[ordinal].references++ == 0 && limits != NULL) {
        CUresult result = CUDA_SUCCESS;
        const char *failed = has_green() ? make_green(ordinal, device, limits, &result) : "the driver's lack of green contexts";
        if (failed != NULL) {
            mica_part_missing(device, failed, result);
        }
    }
    if (parts[ordinal].green != NULL) {
        *context = parts[ordinal].context;
    }
    pthread_mutex_unlock(&lock);
}

void spatial_leave(CUdevice ordinal)
{
    if (ordinal < 0 || ordinal >= ORDINALS_MAX) {
        return;
    }
    pthread_mutex_lock(&lock);
    if (parts[ordinal].references > 0 && --parts[ordinal].references == 0) {
        destroy_green(ordinal);
    }
    pthread_mutex_unlock(&lock);
}

void spatial_drop(CUdevice ordinal)
{
    if (ordinal < 0 || ordinal >= ORDINALS_MAX) {
        return;
    }
    pthread_mutex_lock(&lock);
    parts[ordinal].references = 0;
    destroy_green(ordinal);
    pthread_mutex_unlock(&lock);
}

void spatial_forget(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    lock = fresh;
    for (unsigned i = 0; i < ORDINALS_MAX; i++) {
        parts[i].references = 0;
        parts[i].green = NULL;
        parts[i].context = NULL;
    }
}
