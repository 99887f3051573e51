/* SPDX-License-Identifier: Apache-2.0
 *
 * Allocation calls: device memory of the current context, pinned host memory, and what a pointer is.
 */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

/* Pinned or registered host memory. */
struct pinned {
    unsigned char *start;
    size_t bytes;
    unsigned flags;
    bool ours; /* allocated, not just registered */
    struct pinned *next;
};

static struct pinned *pinned_list;

/* Enter with a current context. */
static CUresult enter_current(CUcontext *context)
{
    SIM_ENTER();
    *context = sim_context_current();
    if (!*context)
        return sim_driver_leave(CUDA_ERROR_INVALID_CONTEXT);
    if (!sim_marked(*context, MARK_CONTEXT))
        return sim_driver_leave(CUDA_ERROR_CONTEXT_IS_DESTROYED);
    return CUDA_SUCCESS;
}
#define ENTER_CURRENT(valid)                                                                                                               \
    CUcontext context;                                                                                                                     \
    CUresult entered = enter_current(&context);                                                                                            \
    if (entered != CUDA_SUCCESS)                                                                                                           \
        return entered;                                                                                                                    \
    if (!(valid))                                                                                                                          \
    return sim_driver_leave(CUDA_ERROR_INVALID_VALUE)

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
    return sim_driver_leave(sim_heap_allocate(context->heap, bytes, address));
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *address, size_t *pitch, size_t width, size_t height, unsigned element)
{
    size_t row = (width + SIM_UNIT - 1) / SIM_UNIT * SIM_UNIT, bytes = 0;
    ENTER_CURRENT(address && pitch && width && height && (element == 4 || element == 8 || element == 16));
    if (row < width || __builtin_mul_overflow(row, height, &bytes))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    CUresult result = sim_heap_allocate(context->heap, bytes, address);
    if (result == CUDA_SUCCESS)
        *pitch = row;
    return sim_driver_leave(result);
}

CUresult cuMemFree_v2(CUdeviceptr address)
{
    SIM_ENTER();
    if (!address)
        return sim_driver_leave(CUDA_SUCCESS);
    struct sim_heap *heap = sim_heap_find(address);
    return sim_driver_leave(heap ? sim_heap_free(heap, address) : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr address)
{
    CUdeviceptr start;
    size_t size;
    ENTER_CURRENT(true);
    struct sim_heap *heap = sim_heap_find(address);
    if (!heap || !sim_heap_range(heap, address, &start, &size))
        return sim_driver_leave(CUDA_ERROR_NOT_FOUND);
    if (base)
        *base = start;
    if (bytes)
        *bytes = size;
    return sim_driver_leave(CUDA_SUCCESS);
}

/* --- Host memory ------------------------------------------------------------------------------------------------------------- */

static struct pinned *pinned_around(uint64_t address)
{
    for (struct pinned *at = pinned_list; at; at = at->next)
        if (address >= (uintptr_t)at->start && address - (uintptr_t)at->start < at->bytes)
            return at;
    return NULL;
}

bool sim_host_known(uint64_t address)
{
    return pinned_around(address) != NULL;
}

static CUresult pin(void *start, size_t bytes, unsigned flags, bool ours)
{
    struct pinned *entry = malloc(sizeof *entry);
    if (!entry)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *entry = (struct pinned){start, bytes, flags, ours, pinned_list};
    pinned_list = entry;
    return CUDA_SUCCESS;
}

static CUresult unpin(void *start, bool ours)
{
    for (struct pinned **at = &pinned_list; *at; at = &(*at)->next)
        if ((*at)->start == start && (*at)->ours == ours) {
            struct pinned *entry = *at;
            *at = entry->next;
            if (ours)
                free(entry->start);
            free(entry);
            return CUDA_SUCCESS;
        }
    return ours ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
}

CUresult cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags)
{
    ENTER_CURRENT(pointer && bytes && !(flags & ~CU_MEMHOSTALLOC_ALL));
    void *memory = NULL;
    if (bytes > SIZE_MAX / 2 || posix_memalign(&memory, 4096, bytes))
        return sim_driver_leave(CUDA_ERROR_OUT_OF_MEMORY);
    CUresult result = pin(memory, bytes, flags, true);
    if (result == CUDA_SUCCESS)
        *pointer = memory;
    else
        free(memory);
    return sim_driver_leave(result);
}

CUresult cuMemAllocHost_v2(void **pointer, size_t bytes)
{
    return cuMemHostAlloc(pointer, bytes, 0);
}

CUresult cuMemFreeHost(void *pointer)
{
    SIM_ENTER();
    return sim_driver_leave(unpin(pointer, true));
}

CUresult cuMemHostRegister_v2(void *pointer, size_t bytes, unsigned flags)
{
    ENTER_CURRENT(pointer && bytes);
    if (pinned_around((uintptr_t)pointer))
        return sim_driver_leave(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    return sim_driver_leave(pin(pointer, bytes, flags, false));
}

CUresult cuMemHostUnregister(void *pointer)
{
    SIM_ENTER();
    return sim_driver_leave(unpin(pointer, false));
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *address, void *pointer, unsigned flags)
{
    SIM_ENTER();
    bool known = address && !flags && sim_host_known((uintptr_t)pointer);
    if (known)
        *address = (uintptr_t)pointer;
    return sim_driver_leave(known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuMemHostGetFlags(unsigned *flags, void *pointer)
{
    SIM_ENTER();
    const struct pinned *entry = flags ? pinned_around((uintptr_t)pointer) : NULL;
    if (entry)
        *flags = entry->flags;
    return sim_driver_leave(entry ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

/* --- What a pointer is -------------------------------------------------------------------------------------------------------- */

struct pointer_facts {
    CUdeviceptr address, start;
    size_t bytes;
    CUcontext context;
    bool device;
};

static bool know_pointer(CUdeviceptr address, struct pointer_facts *facts)
{
    struct sim_heap *heap = sim_heap_find(address);
    *facts = (struct pointer_facts){.address = address};
    if (heap && sim_heap_range(heap, address, &facts->start, &facts->bytes)) {
        facts->device = true;
        facts->context = sim_heap_context(heap);
        return true;
    }
    const struct pinned *entry = pinned_around(address);
    if (!entry)
        return false;
    facts->start = (uintptr_t)entry->start;
    facts->bytes = entry->bytes;
    facts->context = sim_context_current();
    return true;
}

#define PUT(type, value)                                                                                                                   \
    do {                                                                                                                                   \
        type put_value = (type)(value);                                                                                                    \
        memcpy(data, &put_value, sizeof put_value);                                                                                        \
        return CUDA_SUCCESS;                                                                                                               \
    } while (0)

static CUresult pointer_attribute(const struct pointer_facts *facts, int attribute, void *data)
{
    switch (attribute) {
    case 1: /* context */
        PUT(CUcontext, facts->context);
    case 2: /* memory type */
        PUT(uint32_t, facts->device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST);
    case 3: /* device pointer */
        PUT(CUdeviceptr, facts->address);
    case 4: /* host pointer */
        if (facts->device)
            return CUDA_ERROR_INVALID_VALUE;
        PUT(CUdeviceptr, facts->address);
    case 6: /* sync memops */
        PUT(uint32_t, 0);
    case 7: /* buffer id: unique while it lives, as its start is */
        PUT(uint64_t, facts->start);
    case 8: /* managed */
        PUT(unsigned char, 0);
    case 9: /* device ordinal */
        PUT(int32_t, facts->context ? facts->context->device : 0);
    case 11:
    case 19:
        PUT(CUdeviceptr, facts->start);
    case 12:
    case 18:
        PUT(size_t, facts->bytes);
    case 13: /* mapped */
        PUT(unsigned char, 1);
    case 16: /* access flags: read and write */
        PUT(int32_t, 3);
    case 17: /* not asked for by pool here */
        PUT(void *, NULL);
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
}

CUresult cuPointerGetAttribute(void *data, int attribute, CUdeviceptr address)
{
    struct pointer_facts facts;
    SIM_ENTER();
    if (!data || !know_pointer(address, &facts))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    return sim_driver_leave(pointer_attribute(&facts, attribute, data));
}

/* Unlike the single query, an unknown pointer is no error here: its attributes are zero. */
CUresult cuPointerGetAttributes(unsigned n, int *attributes, void **data, CUdeviceptr address)
{
    struct pointer_facts facts;
    SIM_ENTER();
    if (!attributes || !data)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    bool known = know_pointer(address, &facts);
    for (unsigned i = 0; i < n; i++) {
        if (!known)
            memset(data[i], 0, attributes[i] == 8 || attributes[i] == 13 ? 1 : 4);
        else
            pointer_attribute(&facts, attributes[i], data[i]);
    }
    return sim_driver_leave(CUDA_SUCCESS);
}

unsigned char *sim_memory_at(uint64_t address, size_t bytes)
{
    struct sim_heap *heap = sim_heap_find(address);
    return heap ? sim_heap_host(heap, address, bytes) : (unsigned char *)(uintptr_t)address;
}
