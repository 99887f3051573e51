/* SPDX-License-Identifier: Apache-2.0
 *
 * Which addresses are whose: heaps first, then the spans kept here, then the host's own memory.
 *
 * Invariant: the spans are sorted by address and do not overlap.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "driver.h"

static struct sim_span **spans;
static size_t count, room;
bool sim_memory_is_planned;

/* Index of the first span that starts above `address`. */
static size_t above(CUdeviceptr address)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (spans[middle]->start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

CUresult sim_span_add(struct sim_span *span)
{
    if (count == room) {
        size_t more = room ? 2 * room : 64;
        struct sim_span **grown = realloc(spans, more * sizeof(struct sim_span *));
        if (!grown)
            return CUDA_ERROR_OUT_OF_MEMORY;
        spans = grown;
        room = more;
    }
    size_t at = above(span->start);
    memmove(spans + at + 1, spans + at, (count - at) * sizeof(struct sim_span *));
    spans[at] = span;
    count++;
    return CUDA_SUCCESS;
}

void sim_span_remove(const struct sim_span *span)
{
    size_t at = above(span->start) - 1;
    count--;
    memmove(spans + at, spans + at + 1, (count - at) * sizeof(struct sim_span *));
}

struct sim_span *sim_span_find(CUdeviceptr address)
{
    size_t at = above(address);
    return at && address - spans[at - 1]->start < spans[at - 1]->bytes ? spans[at - 1] : NULL;
}

size_t sim_span_count(void)
{
    return count;
}

struct sim_span *sim_span_nth(size_t index)
{
    return spans[index];
}

bool sim_span_overlaps(CUdeviceptr start, size_t bytes)
{
    size_t at = above(start);
    return sim_span_find(start) || (at < count && spans[at]->start - start < bytes);
}

struct sim_span *sim_span_of(CUcontext context)
{
    for (size_t i = 0; i < count; i++)
        if (spans[i]->context == context)
            return spans[i];
    return NULL;
}

CUdeviceptr sim_addresses_take(size_t bytes, size_t alignment, CUdeviceptr hint)
{
    if (hint && hint % alignment == 0) {
        void *wanted = mmap((void *)(uintptr_t)hint, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (wanted == (void *)(uintptr_t)hint)
            return hint;
        if (wanted != MAP_FAILED)
            munmap(wanted, bytes);
    }
    size_t padded;
    if (__builtin_add_overflow(bytes, alignment, &padded))
        return 0;
    void *found = mmap(NULL, padded, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED)
        return 0;
    CUdeviceptr first = (uintptr_t)found, start = (first + alignment - 1) / alignment * alignment;
    if (start > first)
        munmap(found, start - first);
    if (start + bytes < first + padded)
        munmap((void *)(uintptr_t)(start + bytes), first + padded - start - bytes);
    return start;
}

void sim_addresses_give(CUdeviceptr start, size_t bytes)
{
    munmap((void *)(uintptr_t)start, bytes);
}

/* --- What lies at an address ------------------------------------------------------------------------------------------------ */

bool sim_facts_find(CUdeviceptr address, struct sim_facts *facts)
{
    struct sim_heap *heap = sim_heap_find(address);
    *facts = (struct sim_facts){.mapped = true, .access = CU_MEM_ACCESS_READWRITE};
    if (heap) {
        facts->heap = heap;
        facts->context = sim_heap_context(heap);
        facts->device = sim_heap_device(heap);
        facts->pool = sim_heap_pool(heap);
        facts->handle_types = facts->pool ? sim_pool_handle_types(facts->pool) : 0;
        bool live = sim_heap_range(heap, address, &facts->start, &facts->bytes);
        facts->range_start = facts->start;
        facts->range_bytes = facts->bytes;
        return live;
    }
    const struct sim_span *span = sim_span_find(address);
    if (!span)
        return false;
    facts->start = facts->range_start = span->start;
    facts->bytes = facts->range_bytes = span->bytes;
    facts->context = span->context;
    facts->device = span->device;
    facts->managed = span->kind == SPAN_MANAGED;
    facts->imported = span->kind == SPAN_IMPORTED;
    facts->host = span->kind == SPAN_MANAGED || span->kind == SPAN_PINNED;
    return span->kind <= SPAN_GRAPH ? sim_reserved_facts(span, address, facts) : true;
}

bool sim_device_known(CUdeviceptr address)
{
    return sim_heap_find(address) || sim_span_find(address);
}

unsigned char *sim_memory_at(uint64_t address, size_t bytes)
{
    struct sim_heap *heap = sim_heap_find(address);
    if (heap)
        return sim_heap_host(heap, address, bytes);
    const struct sim_span *span = sim_span_find(address);
    if (!span)
        return (unsigned char *)(uintptr_t)address;
    if (bytes > span->bytes - (address - span->start))
        return NULL;
    if (span->kind == SPAN_GRAPH && sim_memory_is_planned)
        return span->host + (address - span->start);
    if (span->kind <= SPAN_GRAPH && !sim_reserved_accessible(span, address, bytes))
        return NULL;
    return span->host + (address - span->start);
}

void sim_memory_drop(CUcontext context)
{
    sim_arrays_drop(context);
    for (struct sim_span *span; (span = sim_span_of(context));) {
        if (span->kind == SPAN_MANAGED)
            sim_managed_free(span);
        else if (span->kind == SPAN_PINNED)
            sim_pinned_free(span);
        else
            sim_imported_free(span);
    }
}
