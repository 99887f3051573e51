/* SPDX-License-Identifier: Apache-2.0
 *
 * Physical memory: cuMemCreate and its handles. It needs no context; the process's account on the device pays for it, in
 * granules, until its last handle is released and its last mapping gone.
 *
 *   contents   a stretch of one memory file of the process, so that it can be mapped at several addresses and by other
 *              processes; stretches are never given out twice, and their pages go when the memory does
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "driver.h"

static int file = -1;
static uint64_t file_bytes;

/* A stretch of the process's memory file. */
static bool take_stretch(size_t bytes, uint64_t *offset)
{
    if (file < 0 && (file = memfd_create("mica-sim-device-memory", MFD_CLOEXEC)) < 0)
        return false;
    if (ftruncate(file, (off_t)(file_bytes + bytes)))
        return false;
    *offset = file_bytes;
    file_bytes += bytes;
    return true;
}

int sim_visible_account(struct sim_visible *device)
{
    if (device->account < 0)
        device->account = sim_account_open(device->place);
    return device->account;
}

CUresult sim_physical_new(int device, size_t bytes, const CUmemAllocationProp *properties, struct sim_physical **out)
{
    int account = sim_visible_account(sim_visible_at(device));
    if (account < 0 || sim_vram_charge(account, bytes, bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct sim_physical *physical = sim_object_new(MARK_PHYSICAL, sizeof *physical);
    if (!physical || !take_stretch(bytes, &physical->offset)) {
        if (physical)
            sim_object_free(physical);
        sim_vram_refund(account, bytes, bytes);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    physical->device = device;
    physical->bytes = bytes;
    physical->fd = file;
    physical->properties = *properties;
    *out = physical;
    return CUDA_SUCCESS;
}

void sim_physical_settle(struct sim_physical *physical)
{
    if (physical->handles || physical->mappings)
        return;
    fallocate(physical->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)physical->offset, (off_t)physical->bytes);
    sim_vram_refund(sim_visible_at(physical->device)->account, physical->bytes, physical->bytes);
    sim_object_free(physical);
}

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
