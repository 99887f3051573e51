/* SPDX-License-Identifier: Apache-2.0
 *
 * Virtual memory: reservations of addresses, and physical memory mapped into them.
 *
 * A reservation has a twin of the same size elsewhere in the host's address space. Mapping physical memory maps its
 * contents into the twin, so that adjacent mappings are adjacent there too and a copy may cross them, while the device's
 * own addresses stay inaccessible to the host.
 *
 * Invariant: a granule of a reservation belongs to one mapping or to none; mappings hold a reference to their memory.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "driver.h"

struct mapping {
    struct sim_physical *physical;
    uint64_t first, count; /* granules of the reservation */
};

struct granule {
    struct mapping *mapping;
    uint32_t access; /* of the reservation's device, CU_MEM_ACCESS_* */
};

struct reservation {
    struct sim_span span;
    struct granule *granules; /* one for each granule of the span */
};

static struct reservation *reservation_at(CUdeviceptr address, enum sim_span_kind kind)
{
    struct sim_span *span = sim_span_find(address);
    return span && span->kind == kind ? (struct reservation *)span : NULL;
}

/* The reservation that `bytes` at `address` lie in, in whole granules, and which ones; NULL when there is none. */
static struct reservation *stretch(CUdeviceptr address, size_t bytes, enum sim_span_kind kind, uint64_t *first, uint64_t *count)
{
    struct reservation *reservation = reservation_at(address, kind);
    if (!reservation || !bytes || address % SIM_GRANULE || bytes % SIM_GRANULE ||
        bytes > reservation->span.bytes - (address - reservation->span.start))
        return NULL;
    *first = (address - reservation->span.start) / SIM_GRANULE;
    *count = bytes / SIM_GRANULE;
    return reservation;
}

/* --- For the program's reservations and for those of graphs ---------------------------------------------------------------------- */

CUdeviceptr sim_reservation_make(enum sim_span_kind kind, size_t bytes, size_t alignment, CUdeviceptr hint)
{
    struct reservation *made = calloc(1, sizeof *made);
    CUdeviceptr start = made ? sim_addresses_take(bytes, alignment > SIM_GRANULE ? alignment : SIM_GRANULE, hint) : 0;
    CUdeviceptr twin = start ? sim_addresses_take(bytes, SIM_GRANULE, 0) : 0;
    if (twin) {
        made->span = (struct sim_span){.kind = kind, .start = start, .bytes = bytes, .host = (unsigned char *)(uintptr_t)twin};
        made->granules = calloc(bytes / SIM_GRANULE, sizeof *made->granules);
    }
    if (!twin || !made->granules || sim_span_add(&made->span) != CUDA_SUCCESS) {
        if (twin)
            sim_addresses_give(twin, bytes);
        if (start)
            sim_addresses_give(start, bytes);
        if (made)
            free(made->granules);
        free(made);
        return 0;
    }
    return start;
}

CUresult sim_reservation_end(enum sim_span_kind kind, CUdeviceptr address, size_t bytes)
{
    struct reservation *reservation = reservation_at(address, kind);
    if (!reservation || reservation->span.start != address || reservation->span.bytes != bytes)
        return CUDA_ERROR_INVALID_VALUE;
    for (uint64_t i = 0; i < bytes / SIM_GRANULE; i++)
        if (reservation->granules[i].mapping)
            return CUDA_ERROR_INVALID_VALUE;
    sim_span_remove(&reservation->span);
    sim_addresses_give(address, bytes);
    sim_addresses_give((uintptr_t)reservation->span.host, bytes);
    free(reservation->granules);
    free(reservation);
    return CUDA_SUCCESS;
}

CUresult sim_reservation_map(enum sim_span_kind kind, CUdeviceptr address, size_t bytes, struct sim_physical *physical, uint32_t access)
{
    uint64_t first, count;
    struct reservation *reservation = stretch(address, bytes, kind, &first, &count);
    if (!reservation || bytes > physical->bytes)
        return CUDA_ERROR_INVALID_VALUE;
    for (uint64_t i = first; i < first + count; i++)
        if (reservation->granules[i].mapping)
            return CUDA_ERROR_INVALID_VALUE;
    struct mapping *mapping = malloc(sizeof *mapping);
    void *host = reservation->span.host + first * SIM_GRANULE;
    if (!mapping ||
        mmap(host, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, physical->stretch.fd, (off_t)physical->stretch.offset) != host) {
        free(mapping);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *mapping = (struct mapping){physical, first, count};
    physical->mappings++;
    for (uint64_t i = first; i < first + count; i++)
        reservation->granules[i] = (struct granule){mapping, access};
    return CUDA_SUCCESS;
}

/* Whether the granules are mapped throughout, and begin and end where mappings do. */
static bool whole_mappings(const struct reservation *reservation, uint64_t first, uint64_t count)
{
    for (uint64_t at = first; at < first + count;) {
        const struct mapping *mapping = reservation->granules[at].mapping;
        if (!mapping || mapping->first != at || mapping->count > first + count - at)
            return false;
        at += mapping->count;
    }
    return true;
}

CUresult sim_reservation_unmap(enum sim_span_kind kind, CUdeviceptr address, size_t bytes)
{
    uint64_t first, count;
    struct reservation *reservation = stretch(address, bytes, kind, &first, &count);
    if (!reservation || !whole_mappings(reservation, first, count))
        return CUDA_ERROR_INVALID_VALUE;
    mmap(reservation->span.host + first * SIM_GRANULE, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    for (uint64_t at = first; at < first + count;) {
        struct mapping *mapping = reservation->granules[at].mapping;
        for (uint64_t i = 0; i < mapping->count; i++)
            reservation->granules[at + i] = (struct granule){NULL, CU_MEM_ACCESS_NONE};
        at += mapping->count;
        mapping->physical->mappings--;
        sim_physical_settle(mapping->physical);
        free(mapping);
    }
    return CUDA_SUCCESS;
}

/* --- The program's ---------------------------------------------------------------------------------------------------------------- */

CUresult cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr hint, unsigned long long flags)
{
    SIM_ENTER();
    if (!address || !bytes || bytes % SIM_GRANULE || flags || alignment & (alignment - 1))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    CUdeviceptr start = sim_reservation_make(SPAN_RESERVED, bytes, alignment, hint);
    if (start)
        *address = start;
    return sim_driver_leave(start ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
}

CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes)
{
    SIM_ENTER();
    return sim_driver_leave(sim_reservation_end(SPAN_RESERVED, address, bytes));
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle, unsigned long long flags)
{
    SIM_ENTER();
    struct sim_physical *physical = sim_physical_of(handle);
    if (!physical || flags || offset)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    return sim_driver_leave(sim_reservation_map(SPAN_RESERVED, address, bytes, physical, CU_MEM_ACCESS_NONE));
}

CUresult cuMemUnmap(CUdeviceptr address, size_t bytes)
{
    SIM_ENTER();
    return sim_driver_leave(sim_reservation_unmap(SPAN_RESERVED, address, bytes));
}

CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *descriptors, size_t n)
{
    uint64_t first, count;
    SIM_ENTER();
    struct reservation *reservation = stretch(address, bytes, SPAN_RESERVED, &first, &count);
    if (!reservation || !descriptors || !n)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    for (uint64_t i = first; i < first + count; i++)
        if (!reservation->granules[i].mapping)
            return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    int device = reservation->granules[first].mapping->physical->device;
    for (size_t i = 0; i < n; i++) {
        const CUmemAccessDesc *wanted = &descriptors[i];
        if (wanted->flags != CU_MEM_ACCESS_NONE && wanted->flags != CU_MEM_ACCESS_READ && wanted->flags != CU_MEM_ACCESS_READWRITE)
            return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
        if (wanted->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
            return sim_driver_leave(CUDA_ERROR_NOT_SUPPORTED);
        if (!sim_visible_at(wanted->location.id))
            return sim_driver_leave(CUDA_ERROR_INVALID_DEVICE);
        if (wanted->location.id != device && wanted->flags != CU_MEM_ACCESS_NONE) /* no peer reaches another's memory here */
            return sim_driver_leave(CUDA_ERROR_NOT_SUPPORTED);
    }
    for (size_t i = 0; i < n; i++)
        for (uint64_t at = first; at < first + count && descriptors[i].location.id == device; at++)
            reservation->granules[at].access = descriptors[i].flags;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location, CUdeviceptr address)
{
    SIM_ENTER();
    struct reservation *reservation = reservation_at(address, SPAN_RESERVED);
    const struct granule *granule = reservation ? &reservation->granules[(address - reservation->span.start) / SIM_GRANULE] : NULL;
    if (!flags || !location || !granule || !granule->mapping || location->type == CU_MEM_LOCATION_TYPE_INVALID)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (location->type == CU_MEM_LOCATION_TYPE_DEVICE && !sim_visible_at(location->id))
        return sim_driver_leave(CUDA_ERROR_INVALID_DEVICE);
    bool own = location->type == CU_MEM_LOCATION_TYPE_DEVICE && location->id == granule->mapping->physical->device;
    *flags = own ? granule->access : CU_MEM_ACCESS_NONE;
    return sim_driver_leave(CUDA_SUCCESS);
}

bool sim_reserved_facts(const struct sim_span *span, CUdeviceptr address, struct sim_facts *facts)
{
    const struct reservation *reservation = (const struct reservation *)span;
    const struct mapping *mapping = reservation->granules[(address - span->start) / SIM_GRANULE].mapping;
    facts->mapped = mapping != NULL;
    if (!mapping)
        return false;
    facts->start = span->start + mapping->first * SIM_GRANULE;
    facts->bytes = mapping->count * SIM_GRANULE;
    facts->device = mapping->physical->device;
    facts->physical = span->kind == SPAN_RESERVED ? mapping->physical : NULL;
    facts->handle_types = mapping->physical->properties.handle_types;
    facts->access = reservation->granules[(address - span->start) / SIM_GRANULE].access;
    return true;
}

bool sim_reserved_accessible(const struct sim_span *span, CUdeviceptr address, size_t bytes)
{
    const struct reservation *reservation = (const struct reservation *)span;
    uint64_t first = (address - span->start) / SIM_GRANULE, last = (address - span->start + (bytes ? bytes - 1 : 0)) / SIM_GRANULE;
    for (uint64_t at = first; at <= last; at++)
        if (!reservation->granules[at].mapping || reservation->granules[at].access == CU_MEM_ACCESS_NONE)
            return false;
    return true;
}
