/* SPDX-License-Identifier: Apache-2.0
 *
 * Allocation calls: device memory of the current context.
 */
#include "driver.h"

CUresult sim_enter_current(CUcontext *context)
{
    SIM_ENTER();
    *context = sim_context_current();
    if (!*context)
        return sim_driver_leave(CUDA_ERROR_INVALID_CONTEXT);
    if (!sim_marked(*context, MARK_CONTEXT))
        return sim_driver_leave(CUDA_ERROR_CONTEXT_IS_DESTROYED);
    if ((*context)->shares)
        *context = (*context)->shares;
    return CUDA_SUCCESS;
}
CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    ENTER_CURRENT(free_bytes || total_bytes);
    uint64_t unused, total;
    sim_vram_info(sim_visible_at(context->device)->place, &unused, &total);
    if (free_bytes)
        *free_bytes = unused;
    if (total_bytes)
        *total_bytes = total;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes)
{
    ENTER_CURRENT(address && bytes);
    CUresult permitted = sim_capture_permits_unsafe();
    return sim_driver_leave(permitted == CUDA_SUCCESS ? sim_heap_allocate(context->heap, bytes, address) : permitted);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *address, size_t *pitch, size_t width, size_t height, unsigned element)
{
    size_t row = (width + SIM_UNIT - 1) / SIM_UNIT * SIM_UNIT, bytes = 0;
    ENTER_CURRENT(address && pitch && width && height && (element == 4 || element == 8 || element == 16));
    if (row < width || __builtin_mul_overflow(row, height, &bytes))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    CUresult result = sim_capture_permits_unsafe();
    if (result == CUDA_SUCCESS)
        result = sim_heap_allocate(context->heap, bytes, address);
    if (result == CUDA_SUCCESS)
        *pitch = row;
    return sim_driver_leave(result);
}

CUresult sim_memory_free(CUdeviceptr address)
{
    struct sim_heap *heap = sim_heap_find(address);
    struct sim_span *span = heap ? NULL : sim_span_find(address);
    if (heap) {
        CUresult result = sim_heap_free(heap, address);
        sim_heap_collect(heap);
        return result;
    }
    if (!span || span->start != address)
        return CUDA_ERROR_INVALID_VALUE;
    if (span->kind == SPAN_GRAPH)
        return sim_graph_memory_free(address);
    if (span->kind == SPAN_MANAGED)
        sim_managed_free(span);
    else if (span->kind == SPAN_IMPORTED && sim_imported_freeable(span))
        sim_imported_free(span);
    else
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr address)
{
    SIM_ENTER();
    if (!address)
        return sim_driver_leave(CUDA_SUCCESS);
    CUresult permitted = sim_capture_permits_unsafe();
    return sim_driver_leave(permitted == CUDA_SUCCESS ? sim_memory_free(address) : permitted);
}
