/* SPDX-License-Identifier: Apache-2.0
 *
 * External memory: what another programming interface would hand over as a descriptor. There is none here but this driver's
 * own cuMemExportToShareableHandle, so its descriptors are what can be imported; they stay charged to who made them.
 */
#include <string.h>
#include <unistd.h>

#include "driver.h"

struct sim_external {
    uint32_t mark;
    CUcontext context;
    struct sim_physical *physical; /* held by a handle */
    uint64_t bytes;
};

enum { EXTERNAL_OPAQUE_FD = 1, EXTERNAL_LAST = 9, EXTERNAL_DEDICATED = 1 };

CUresult cuImportExternalMemory(CUexternalMemory *out, const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *descriptor)
{
    struct sim_physical *physical = NULL;
    ENTER_CURRENT(out && descriptor && descriptor->size && descriptor->type >= EXTERNAL_OPAQUE_FD && descriptor->type <= EXTERNAL_LAST &&
                  descriptor->flags <= EXTERNAL_DEDICATED);
    if (descriptor->type != EXTERNAL_OPAQUE_FD)
        return sim_driver_leave(CUDA_ERROR_NOT_SUPPORTED);
    CUresult result = sim_physical_import(descriptor->handle.fd, &physical);
    if (result != CUDA_SUCCESS)
        return sim_driver_leave(result);
    physical->handles = 1;
    CUexternalMemory made = descriptor->size <= physical->bytes && physical->device == context->device ? sim_object_new(MARK_EXTERNAL, sizeof *made) : NULL;
    if (!made) {
        result = descriptor->size > physical->bytes ? CUDA_ERROR_INVALID_VALUE
                 : physical->device != context->device ? CUDA_ERROR_INVALID_DEVICE : CUDA_ERROR_OUT_OF_MEMORY;
        physical->handles = 0;
        sim_physical_settle(physical);
        return sim_driver_leave(result);
    }
    made->context = context;
    made->physical = physical;
    made->bytes = descriptor->size;
    *out = made;
    close(descriptor->handle.fd); /* it is the driver's from now on */
    return sim_driver_leave(CUDA_SUCCESS);
}

static bool live(CUexternalMemory external)
{
    return sim_marked(external, MARK_EXTERNAL);
}

CUresult cuExternalMemoryGetMappedBuffer(CUdeviceptr *address, CUexternalMemory external, const CUDA_EXTERNAL_MEMORY_BUFFER_DESC *buffer)
{
    ENTER_CURRENT(address && buffer && !buffer->flags && buffer->size);
    if (!live(external))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    if (buffer->offset > external->bytes || buffer->size > external->bytes - buffer->offset)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    const struct sim_import import = {.kind = SHARE_PHYSICAL, .stretch = external->physical->stretch, .delta = buffer->offset,
                                      .bytes = buffer->size, .device = context->device, .context = context, .physical = external->physical};
    return sim_driver_leave(sim_imported_map(&import, address));
}

CUresult cuExternalMemoryGetMappedMipmappedArray(CUmipmappedArray *mipmap, CUexternalMemory external,
                                                 const CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC *descriptor)
{
    CUdeviceptr address;
    ENTER_CURRENT(mipmap && descriptor && descriptor->levels);
    if (!live(external))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    if (descriptor->offset >= external->bytes)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    const struct sim_import import = {.kind = SHARE_PHYSICAL, .stretch = external->physical->stretch, .delta = descriptor->offset,
                                      .bytes = external->bytes - descriptor->offset, .device = context->device, .context = context,
                                      .physical = external->physical};
    CUresult result = sim_imported_map(&import, &address);
    if (result == CUDA_SUCCESS)
        result = sim_mipmap_over(context, &descriptor->array, descriptor->levels, sim_span_find(address), mipmap);
    return sim_driver_leave(result);
}

CUresult cuDestroyExternalMemory(CUexternalMemory external)
{
    SIM_ENTER();
    if (!live(external))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    external->physical->handles--;
    sim_physical_settle(external->physical); /* what is mapped of it stays until it is freed */
    sim_object_free(external);
    return sim_driver_leave(CUDA_SUCCESS);
}
