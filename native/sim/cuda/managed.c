/* SPDX-License-Identifier: Apache-2.0
 *
 * Managed memory. Its addresses are host memory that the program may touch; the contents are there for both sides.
 *
 * Modelled: it is charged to the device in whole granules as long as it exists, as if it were always resident, so it cannot
 * oversubscribe the device. Advice and prefetches are kept for the whole allocation and move nothing.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "driver.h"

struct managed {
    struct sim_span span;
    int account;
    uint64_t charged_bytes, requested_bytes;
    CUmemLocation preferred, prefetched; /* type INVALID: none */
    bool read_mostly;
    uint32_t accessed_by; /* a bit for each device, and CPU_BIT */
};

#define CPU_BIT (1u << 31)

static struct managed *managed_at(CUdeviceptr address, size_t bytes)
{
    struct sim_span *span = sim_span_find(address);
    bool inside = span && span->kind == SPAN_MANAGED && bytes && bytes <= span->bytes - (address - span->start);
    return inside ? (struct managed *)span : NULL;
}

static struct managed *make(CUcontext context, size_t bytes)
{
    uint64_t charged = (bytes + SIM_GRANULE - 1) / SIM_GRANULE * SIM_GRANULE;
    int account = sim_context_account(context);
    if (charged < bytes || !sim_vram_charge_patiently(account, bytes, charged))
        return NULL;
    struct managed *made = calloc(1, sizeof *made);
    CUdeviceptr start = made ? sim_addresses_take(charged, SIM_GRANULE, 0) : 0;
    if (start && !mprotect((void *)(uintptr_t)start, charged, PROT_READ | PROT_WRITE)) {
        made->span = (struct sim_span){SPAN_MANAGED, start, bytes, (unsigned char *)(uintptr_t)start, context->device, context};
        made->account = account;
        made->charged_bytes = charged;
        made->requested_bytes = bytes;
        if (sim_span_add(&made->span) == CUDA_SUCCESS)
            return made;
    }
    if (start)
        sim_addresses_give(start, charged);
    free(made);
    sim_vram_refund(account, bytes, charged);
    return NULL;
}

void sim_managed_free(struct sim_span *span)
{
    struct managed *managed = (struct managed *)span;
    sim_span_remove(span);
    sim_addresses_give(span->start, managed->charged_bytes);
    sim_vram_refund(managed->account, managed->requested_bytes, managed->charged_bytes);
    free(managed);
}

CUresult cuMemAllocManaged(CUdeviceptr *address, size_t bytes, unsigned flags)
{
    ENTER_CURRENT(address && bytes && (flags == CU_MEM_ATTACH_GLOBAL || flags == CU_MEM_ATTACH_HOST));
    CUresult permitted = sim_capture_permits_unsafe();
    if (permitted != CUDA_SUCCESS)
        return sim_driver_leave(permitted);
    const struct managed *made = make(context, bytes);
    if (made)
        *address = made->span.start;
    return sim_driver_leave(made ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
}

/* --- Where it should be --------------------------------------------------------------------------------------------------------- */

/* What the older forms call a device. */
static CUmemLocation location_of(CUdevice device)
{
    if (device == CU_DEVICE_CPU)
        return (CUmemLocation){CU_MEM_LOCATION_TYPE_HOST, 0};
    return (CUmemLocation){CU_MEM_LOCATION_TYPE_DEVICE, device};
}

static CUresult check_location(CUmemLocation location)
{
    if (location.type == CU_MEM_LOCATION_TYPE_INVALID || location.type > CU_MEM_LOCATION_TYPE_LAST)
        return CUDA_ERROR_INVALID_VALUE;
    if (location.type == CU_MEM_LOCATION_TYPE_DEVICE && !sim_visible_at(location.id))
        return CUDA_ERROR_INVALID_DEVICE;
    return CUDA_SUCCESS;
}

static CUresult prefetch(CUdeviceptr address, size_t bytes, CUmemLocation location, unsigned flags, CUstream stream)
{
    CUstream at;
    SIM_ENTER();
    struct managed *managed = managed_at(address, bytes);
    CUresult result = flags || !managed ? CUDA_ERROR_INVALID_VALUE : check_location(location);
    if (result == CUDA_SUCCESS)
        result = sim_stream_find(stream, &at);
    if (result == CUDA_SUCCESS)
        managed->prefetched = location;
    return sim_driver_leave(result);
}

CUresult cuMemPrefetchAsync(CUdeviceptr address, size_t bytes, CUdevice device, CUstream stream)
{
    return prefetch(address, bytes, location_of(device), 0, stream);
}

CUresult cuMemPrefetchAsync_ptsz(CUdeviceptr address, size_t bytes, CUdevice device, CUstream stream)
{
    return prefetch(address, bytes, location_of(device), 0, sim_per_thread(stream));
}

CUresult cuMemPrefetchAsync_v2(CUdeviceptr address, size_t bytes, CUmemLocation location, unsigned flags, CUstream stream)
{
    return prefetch(address, bytes, location, flags, stream);
}

CUresult cuMemPrefetchAsync_v2_ptsz(CUdeviceptr address, size_t bytes, CUmemLocation location, unsigned flags, CUstream stream)
{
    return prefetch(address, bytes, location, flags, sim_per_thread(stream));
}

enum { SET_READ_MOSTLY = 1, UNSET_READ_MOSTLY, SET_PREFERRED, UNSET_PREFERRED, SET_ACCESSED_BY, UNSET_ACCESSED_BY };

static uint32_t bit_of(CUmemLocation location)
{
    return location.type == CU_MEM_LOCATION_TYPE_DEVICE ? 1u << location.id : CPU_BIT;
}

static CUresult advise(CUdeviceptr address, size_t bytes, int advice, CUmemLocation location)
{
    SIM_ENTER();
    struct managed *managed = managed_at(address, bytes);
    if (!managed || advice < SET_READ_MOSTLY || advice > UNSET_ACCESSED_BY)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    bool about_place = advice == SET_PREFERRED || advice >= SET_ACCESSED_BY;
    CUresult checked = about_place ? check_location(location) : CUDA_SUCCESS;
    if (checked != CUDA_SUCCESS)
        return sim_driver_leave(checked);
    if (advice <= UNSET_READ_MOSTLY)
        managed->read_mostly = advice == SET_READ_MOSTLY;
    else if (advice <= UNSET_PREFERRED)
        managed->preferred = advice == SET_PREFERRED ? location : (CUmemLocation){0};
    else if (advice == SET_ACCESSED_BY)
        managed->accessed_by |= bit_of(location);
    else
        managed->accessed_by &= ~bit_of(location);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuMemAdvise(CUdeviceptr address, size_t bytes, int advice, CUdevice device)
{
    return advise(address, bytes, advice, location_of(device));
}

CUresult cuMemAdvise_v2(CUdeviceptr address, size_t bytes, int advice, CUmemLocation location)
{
    return advise(address, bytes, advice, location);
}

/* --- What was asked of it ---------------------------------------------------------------------------------------------------------- */

enum { RANGE_READ_MOSTLY = 1, RANGE_PREFERRED, RANGE_ACCESSED_BY, RANGE_PREFETCHED, RANGE_PREFERRED_TYPE, RANGE_PREFERRED_ID, RANGE_PREFETCHED_TYPE, RANGE_PREFETCHED_ID };

static int32_t device_of(CUmemLocation location)
{
    if (location.type == CU_MEM_LOCATION_TYPE_INVALID)
        return CU_DEVICE_INVALID;
    return location.type == CU_MEM_LOCATION_TYPE_DEVICE ? location.id : CU_DEVICE_CPU;
}

/* The devices in the set, then CU_DEVICE_INVALID to the end. */
static void put_accessed_by(const struct managed *managed, int32_t *out, size_t n)
{
    size_t at = 0;
    for (int device = 0; device < sim_visible_count() && at < n; device++)
        if (managed->accessed_by & 1u << device)
            out[at++] = device;
    if (managed->accessed_by & CPU_BIT && at < n)
        out[at++] = CU_DEVICE_CPU;
    while (at < n)
        out[at++] = CU_DEVICE_INVALID;
}

static CUresult range_attribute(const struct managed *managed, void *data, size_t size, int attribute)
{
    if (!data || attribute < RANGE_READ_MOSTLY || attribute > RANGE_PREFETCHED_ID || !size || size % sizeof(int32_t) ||
        (attribute != RANGE_ACCESSED_BY && size != sizeof(int32_t)))
        return CUDA_ERROR_INVALID_VALUE;
    if (attribute == RANGE_ACCESSED_BY) {
        put_accessed_by(managed, data, size / sizeof(int32_t));
        return CUDA_SUCCESS;
    }
    const int32_t values[] = {[RANGE_READ_MOSTLY] = managed->read_mostly,
                              [RANGE_PREFERRED] = device_of(managed->preferred),
                              [RANGE_PREFETCHED] = device_of(managed->prefetched),
                              [RANGE_PREFERRED_TYPE] = (int32_t)managed->preferred.type,
                              [RANGE_PREFERRED_ID] = managed->preferred.id,
                              [RANGE_PREFETCHED_TYPE] = (int32_t)managed->prefetched.type,
                              [RANGE_PREFETCHED_ID] = managed->prefetched.id};
    memcpy(data, &values[attribute], sizeof values[0]);
    return CUDA_SUCCESS;
}

CUresult cuMemRangeGetAttribute(void *data, size_t size, int attribute, CUdeviceptr address, size_t bytes)
{
    SIM_ENTER();
    const struct managed *managed = managed_at(address, bytes);
    return sim_driver_leave(managed ? range_attribute(managed, data, size, attribute) : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuMemRangeGetAttributes(void **data, size_t *sizes, int *attributes, size_t n, CUdeviceptr address, size_t bytes)
{
    SIM_ENTER();
    const struct managed *managed = managed_at(address, bytes);
    CUresult result = managed && data && sizes && attributes && n ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; result == CUDA_SUCCESS && i < n; i++)
        result = range_attribute(managed, data[i], sizes[i], attributes[i]);
    return sim_driver_leave(result);
}

static CUresult attach(CUstream stream, CUdeviceptr address, size_t bytes, unsigned flags)
{
    CUstream at;
    SIM_ENTER();
    CUresult found = sim_stream_find(stream, &at);
    if (found != CUDA_SUCCESS)
        return sim_driver_leave(found);
    const struct managed *managed = managed_at(address, 1);
    bool sound = managed && address == managed->span.start && (!bytes || bytes == managed->requested_bytes) &&
                 (flags == CU_MEM_ATTACH_GLOBAL || flags == CU_MEM_ATTACH_HOST || flags == CU_MEM_ATTACH_SINGLE);
    return sim_driver_leave(sound ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuStreamAttachMemAsync(CUstream stream, CUdeviceptr address, size_t bytes, unsigned flags)
{
    return attach(stream, address, bytes, flags);
}

CUresult cuStreamAttachMemAsync_ptsz(CUstream stream, CUdeviceptr address, size_t bytes, unsigned flags)
{
    return attach(sim_per_thread(stream), address, bytes, flags);
}
