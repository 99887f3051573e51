/* SPDX-License-Identifier: Apache-2.0
 *
 * Physical memory: cuMemCreate and its handles. It needs no context; the process's account on the device pays for it, in
 * granules, until its last handle is released and its last mapping gone.
 * Once it is exported it is in the engine's table of shared memory, and lives until no process holds it.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"

struct sim_physical *sim_physical_first;

static void list_physical(struct sim_physical *physical)
{
    physical->previous = NULL;
    physical->next = sim_physical_first;
    if (sim_physical_first)
        sim_physical_first->previous = physical;
    sim_physical_first = physical;
}

static void unlist_physical(struct sim_physical *physical)
{
    if (physical->previous)
        physical->previous->next = physical->next;
    else
        sim_physical_first = physical->next;
    if (physical->next)
        physical->next->previous = physical->previous;
}

CUresult sim_physical_new(int device, size_t bytes, const CUmemAllocationProp *properties, struct sim_physical **out)
{
    int account = sim_visible_account(sim_visible_at(device));
    if (account < 0 || !sim_vram_charge_patiently(account, bytes, bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct sim_physical *physical = sim_object_new(MARK_PHYSICAL, sizeof *physical);
    if (!physical || !sim_file_take(bytes, &physical->stretch)) {
        if (physical)
            sim_object_free(physical);
        sim_vram_refund(account, bytes, bytes);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    physical->device = device;
    physical->bytes = bytes;
    physical->properties = *properties;
    list_physical(physical);
    *out = physical;
    return CUDA_SUCCESS;
}

void sim_physical_settle(struct sim_physical *physical)
{
    if (physical->handles || physical->mappings)
        return;
    bool last = physical->shared ? sim_share_drop(physical->share) : true;
    if (last)
        sim_file_give(&physical->stretch);
    if (!physical->shared)
        sim_vram_refund(sim_visible_at(physical->device)->account, physical->bytes, physical->bytes);
    if (physical->imported)
        close(physical->stretch.fd);
    unlist_physical(physical);
    sim_object_free(physical);
}

/* --- Between processes --------------------------------------------------------------------------------------------------------- */

/* In the table of shared memory, from its first export on. */
static bool share(struct sim_physical *physical)
{
    struct sim_share facts = {.kind = SHARE_PHYSICAL, .fd = physical->stretch.fd, .offset = physical->stretch.offset,
                              .bytes = physical->bytes, .file_inode = sim_file_inode(physical->stretch.fd),
                              .requested_bytes = physical->bytes, .granule_bytes = physical->bytes};
    if (physical->shared)
        return true;
    physical->share = sim_share_make(sim_visible_at(physical->device)->account, true, &facts);
    physical->share_id = facts.id;
    physical->shared = physical->share >= 0;
    return physical->shared;
}

CUresult sim_physical_import(int fd, struct sim_physical **out)
{
    struct sim_share facts;
    int slot;
    uint64_t id;
    if (!sim_file_read_ticket(fd, &slot, &id) || sim_share_find(slot, id, &facts) || facts.kind != SHARE_PHYSICAL ||
        sim_file_inode(fd) != facts.file_inode)
        return CUDA_ERROR_INVALID_VALUE;
    int device = sim_visible_of((struct sim_place){facts.device, facts.gpu_instance, facts.compute_instance});
    if (device < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    int own = sim_visible_account(sim_visible_at(device)) < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    struct sim_physical *physical = own < 0 ? NULL : sim_object_new(MARK_PHYSICAL, sizeof *physical);
    if (!physical || sim_share_hold(slot, id)) {
        if (physical)
            sim_object_free(physical);
        if (own >= 0)
            close(own);
        return physical ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY;
    }
    physical->device = device;
    physical->bytes = facts.bytes;
    physical->stretch = (struct sim_stretch){own, facts.offset, facts.bytes};
    physical->imported = physical->shared = true;
    physical->share = slot;
    physical->share_id = id;
    physical->properties = (CUmemAllocationProp){.type = CU_MEM_ALLOCATION_TYPE_PINNED, .handle_types = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                                 .location = {CU_MEM_LOCATION_TYPE_DEVICE, device}};
    list_physical(physical);
    *out = physical;
    return CUDA_SUCCESS;
}

CUresult cuMemExportToShareableHandle(void *shareable, CUmemGenericAllocationHandle handle, int type, unsigned long long flags)
{
    SIM_ENTER();
    struct sim_physical *physical = sim_physical_of(handle);
    if (!shareable || !physical || flags || !(physical->properties.handle_types & (unsigned)type))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    int fd = share(physical) ? sim_file_ticket(physical->stretch.fd, physical->share, physical->share_id) : -1;
    if (fd >= 0)
        memcpy(shareable, &fd, sizeof fd);
    return sim_driver_leave(fd >= 0 ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *shareable, int type)
{
    struct sim_physical *physical;
    SIM_ENTER();
    if (!handle || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return sim_driver_leave(handle && (type == 2 || type == 4 || type == 8) ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE);
    CUresult result = sim_physical_import((int)(uintptr_t)shareable, &physical);
    if (result == CUDA_SUCCESS) {
        physical->handles = 1;
        *handle = (uintptr_t)physical;
    }
    return sim_driver_leave(result);
}

/* --- Handles -------------------------------------------------------------------------------------------------------------------------- */

struct sim_physical *sim_physical_of(CUmemGenericAllocationHandle handle)
{
    struct sim_physical *physical = (struct sim_physical *)(uintptr_t)handle;
    return sim_marked(physical, MARK_PHYSICAL) && physical->handles ? physical : NULL;
}

/* What is asked must be memory of a device here; host memory by NUMA node, compression and other handles are not there. */
static CUresult check(const CUmemAllocationProp *properties)
{
    if (!properties || properties->type != CU_MEM_ALLOCATION_TYPE_PINNED || properties->location.type == CU_MEM_LOCATION_TYPE_INVALID ||
        properties->location.type > CU_MEM_LOCATION_TYPE_LAST || properties->handle_types & ~(unsigned)CU_MEM_HANDLE_TYPES)
        return CUDA_ERROR_INVALID_VALUE;
    if (properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE || properties->compression ||
        properties->handle_types & ~(unsigned)CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return CUDA_ERROR_NOT_SUPPORTED;
    return sim_visible_at(properties->location.id) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *properties, int option)
{
    SIM_ENTER();
    if (!bytes || option < 0 || option > 1)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    CUresult checked = check(properties);
    if (checked == CUDA_SUCCESS)
        *bytes = SIM_GRANULE;
    return sim_driver_leave(checked);
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *properties, unsigned long long flags)
{
    struct sim_physical *physical;
    SIM_ENTER();
    if (!handle || !bytes || bytes % SIM_GRANULE || flags)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    CUresult result = check(properties);
    if (result == CUDA_SUCCESS)
        result = sim_physical_new(properties->location.id, bytes, properties, &physical);
    if (result == CUDA_SUCCESS) {
        physical->handles = 1;
        *handle = (uintptr_t)physical;
    }
    return sim_driver_leave(result);
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
    SIM_ENTER();
    struct sim_physical *physical = sim_physical_of(handle);
    if (!physical)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    physical->handles--;
    sim_physical_settle(physical);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *properties, CUmemGenericAllocationHandle handle)
{
    SIM_ENTER();
    const struct sim_physical *physical = properties ? sim_physical_of(handle) : NULL;
    if (physical)
        *properties = physical->properties;
    return sim_driver_leave(physical ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address)
{
    struct sim_facts facts;
    SIM_ENTER();
    if (!handle || !sim_facts_find((uintptr_t)address, &facts) || !facts.physical)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    facts.physical->handles++;
    *handle = (uintptr_t)facts.physical;
    return sim_driver_leave(CUDA_SUCCESS);
}
