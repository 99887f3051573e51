/* SPDX-License-Identifier: Apache-2.0 */
#include "footprint.h"

#include "../core/fault.h"
#include "../core/live.h"
#include "own_usage.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONTEXT_BYTES "MICA_CONTEXT_BYTES"

/* By slice device: what its contexts in this process are charged. */
static struct {
    unsigned contexts;
    uint64_t bytes;
} held[MICA_DEVICES_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t own_charge(const struct mica_device *device)
{
    return mica_word_bytes(atomic_load_explicit(&device->usage->processes[device->slot].vram_word, memory_order_relaxed));
}

/* --- Around one call of the driver's ----------------------------------------------------------------------------------------- */

typedef bool (*count_function)(const struct mica_device *device, uint64_t *bytes);

static struct footprint begin(struct mica_device *device, uint64_t expected_bytes, count_function count)
{
    struct footprint footprint = {.device = device, .bytes = expected_bytes};
    if (device == NULL) {
        return footprint;
    }
    footprint.charged_bytes = own_charge(device);
    footprint.is_measured = count(device, &footprint.counted_bytes);
    footprint.result = verdict_result(mica_memory_charge(device, MICA_MEMORY_VRAM, expected_bytes));
    if (footprint.result != CUDA_SUCCESS) {
        own_usage_forget_others();
    }
    return footprint;
}

struct footprint footprint_begin(struct mica_device *device, uint64_t expected_bytes)
{
    return begin(device, expected_bytes, own_usage_read);
}

/* What the call took: what is counted more now, less what other threads were charged meanwhile. */
static uint64_t measure(const struct footprint *footprint)
{
    uint64_t counted = 0;
    if (!footprint->is_measured || !own_usage_read(footprint->device, &counted) || counted < footprint->counted_bytes) {
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
    uint64_t taken = 0;
    if (result == CUDA_SUCCESS) {
        taken = measure(footprint);
    } else {
        own_usage_forget_others();
    }
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

static unsigned contexts_on(const struct mica_device *device)
{
    pthread_mutex_lock(&lock);
    unsigned contexts = held[device - mica_attached_slice()->devices].contexts;
    pthread_mutex_unlock(&lock);
    return contexts;
}

/* What a context is said to take: 0 if nothing is, or nothing that can be. That is told once. */
static uint64_t configured_bytes(void)
{
    static _Atomic bool is_said;
    const char *text = getenv(CONTEXT_BYTES);
    char *end = NULL;
    if (text == NULL || text[0] == '\0') {
        return 0;
    }
    errno = 0;
    unsigned long long bytes = strtoull(text, &end, 10);
    if (errno == 0 && end[0] == '\0' && text[0] != '-' && bytes <= MICA_LIVE_BYTES_MAX) {
        return bytes;
    }
    if (!atomic_exchange(&is_said, true)) {
        char why[160];
        snprintf(why, sizeof why, "%s: \"%.40s\" is no number of bytes, 0 to %llu", CONTEXT_BYTES, text, MICA_LIVE_BYTES_MAX);
        mica_fault_say(mica_attached_slice()->id, "a context that cannot be measured is charged nothing", why);
    }
    return 0;
}

/* What a process's first context took when that was last measured in this slice; else what is configured. */
static uint64_t expected_bytes(const struct mica_device *device)
{
    uint64_t learnt = atomic_load_explicit(&device->usage->context_bytes, memory_order_relaxed);
    return learnt != 0 ? learnt : configured_bytes();
}

struct footprint footprint_context_begin(struct mica_device *device)
{
    bool is_first = device != NULL && contexts_on(device) == 0;
    return is_first ? begin(device, expected_bytes(device), own_usage_before_context) : footprint_begin(device, 0);
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
    own_usage_forget();
}
