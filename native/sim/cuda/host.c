/* SPDX-License-Identifier: Apache-2.0
 *
 * Pinned and registered host memory: spans whose contents are the host memory itself. It costs the device nothing, and goes
 * with the context it was made in.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "driver.h"

enum { REGISTER_PORTABLE = 1, REGISTER_DEVICEMAP = 2, REGISTER_IOMEMORY = 4, REGISTER_READ_ONLY = 8 };
enum { HOSTALLOC_DEVICEMAP = 2 };
#define PAGE 4096u

struct pinned {
    struct sim_span span;
    unsigned flags;
    bool ours; /* allocated, not just registered */
};

static struct pinned *pinned_at(uint64_t address)
{
    struct sim_span *span = sim_span_find(address);
    return span && span->kind == SPAN_PINNED ? (struct pinned *)span : NULL;
}

bool sim_host_known(uint64_t address)
{
    return pinned_at(address) != NULL;
}

static CUresult pin(void *start, size_t bytes, unsigned flags, bool ours, CUcontext context)
{
    struct pinned *entry = malloc(sizeof *entry);
    if (!entry)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *entry = (struct pinned){{SPAN_PINNED, (uintptr_t)start, bytes, start, context->device, context}, flags, ours};
    CUresult added = sim_span_add(&entry->span);
    if (added != CUDA_SUCCESS)
        free(entry);
    return added;
}

static size_t whole_pages(size_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

void sim_pinned_free(struct sim_span *span)
{
    struct pinned *entry = (struct pinned *)span;
    sim_span_remove(span);
    if (entry->ours)
        munmap(span->host, whole_pages(span->bytes));
    free(entry);
}

CUresult cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags)
{
    ENTER_CURRENT(pointer && bytes && !(flags & ~CU_MEMHOSTALLOC_ALL));
    CUresult permitted = sim_capture_permits_unsafe();
    if (permitted != CUDA_SUCCESS)
        return sim_driver_leave(permitted);
    if (bytes > SIZE_MAX / 2)
        return sim_driver_leave(CUDA_ERROR_OUT_OF_MEMORY);
    void *memory = mmap(NULL, whole_pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return sim_driver_leave(CUDA_ERROR_OUT_OF_MEMORY);
    CUresult result = pin(memory, bytes, flags | HOSTALLOC_DEVICEMAP, true, context); /* unified addressing maps all of it */
    if (result == CUDA_SUCCESS)
        *pointer = memory;
    else
        munmap(memory, whole_pages(bytes));
    return sim_driver_leave(result);
}

CUresult cuMemAllocHost_v2(void **pointer, size_t bytes)
{
    return cuMemHostAlloc(pointer, bytes, 0);
}

CUresult cuMemFreeHost(void *pointer)
{
    SIM_ENTER();
    struct pinned *entry = pinned_at((uintptr_t)pointer);
    if (!entry || !entry->ours || entry->span.host != pointer)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    sim_pinned_free(&entry->span);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuMemHostRegister_v2(void *pointer, size_t bytes, unsigned flags)
{
    ENTER_CURRENT(pointer && bytes && bytes <= UINTPTR_MAX - (uintptr_t)pointer && flags < 2 * REGISTER_READ_ONLY);
    if (flags & (REGISTER_IOMEMORY | REGISTER_READ_ONLY))
        return sim_driver_leave(CUDA_ERROR_NOT_SUPPORTED);
    if (sim_span_overlaps((uintptr_t)pointer, bytes))
        return sim_driver_leave(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    return sim_driver_leave(pin(pointer, bytes, flags | HOSTALLOC_DEVICEMAP, false, context));
}

CUresult cuMemHostUnregister(void *pointer)
{
    SIM_ENTER();
    struct pinned *entry = pinned_at((uintptr_t)pointer);
    if (!entry || entry->ours || entry->span.host != pointer)
        return sim_driver_leave(pointer ? CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED : CUDA_ERROR_INVALID_VALUE);
    sim_pinned_free(&entry->span);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *address, void *pointer, unsigned flags)
{
    SIM_ENTER();
    bool known = address && !flags && pinned_at((uintptr_t)pointer);
    if (known)
        *address = (uintptr_t)pointer;
    return sim_driver_leave(known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuMemHostGetFlags(unsigned *flags, void *pointer)
{
    SIM_ENTER();
    const struct pinned *entry = flags ? pinned_at((uintptr_t)pointer) : NULL;
    if (entry)
        *flags = entry->flags;
    return sim_driver_leave(entry ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}
