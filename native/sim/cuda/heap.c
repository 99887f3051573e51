/* SPDX-License-Identifier: Apache-2.0
 *
 * Device memory of one context or pool.
 *
 *   addresses   an arena of reserved, inaccessible host address space: a device pointer is never a valid host pointer.
 *   granules    2 MiB each, charged to the device as a whole. An allocation of 2 MiB or more has its own.
 *   blocks      a granule shared by allocations below 2 MiB, in units of 512 bytes; it goes back with the last of them.
 *   contents    host memory, mapped when it is first touched, private to the process until it is exported.
 *   kept        granules that a pool holds on to after their allocations are gone: any later one may have them.
 *
 * Invariant: granules in use or kept here are charged to the account, and no others.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "block.h"
#include "heap.h"

#define TRIES 8 /* shared blocks looked at before a new one is opened */

static struct sim_heap *heaps[HEAPS_MAX];
static uint64_t kept_everywhere; /* granules */

struct sim_heap *sim_heap_new(int device, CUcontext context, CUmemoryPool pool)
{
    struct sim_visible *visible = sim_visible_at(device);
    uint64_t free_bytes, capacity_bytes;
    int slot = 0, account = sim_visible_account(visible);
    while (slot < HEAPS_MAX && heaps[slot])
        slot++;
    struct sim_heap *heap = slot < HEAPS_MAX && account >= 0 ? calloc(1, sizeof *heap) : NULL;
    if (!heap)
        return NULL;
    sim_vram_info(visible->place, &free_bytes, &capacity_bytes);
    heap->account = account;
    heap->device = device;
    heap->context = context;
    heap->pool = pool;
    heap->keeps = pool != NULL;
    heap->granules = 4 * (capacity_bytes / SIM_GRANULE + 1); /* addresses may fragment; memory does not */
    size_t table_bytes = heap->granules * sizeof *heap->table;
    size_t arena_bytes = (heap->granules + 1) * SIM_GRANULE;
    void *arena = mmap(NULL, arena_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void *table = mmap(NULL, table_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED || table == MAP_FAILED) {
        if (arena != MAP_FAILED)
            munmap(arena, arena_bytes);
        if (table != MAP_FAILED)
            munmap(table, table_bytes);
        free(heap);
        return NULL;
    }
    heap->arena = arena;
    heap->base = ((CUdeviceptr)(uintptr_t)arena + SIM_GRANULE - 1) / SIM_GRANULE * SIM_GRANULE;
    heap->table = table;
    return heaps[slot] = heap;
}

/* --- Paying ------------------------------------------------------------------------------------------------------------------ */

static void note_use(struct sim_heap *heap, int64_t reserved, int64_t used)
{
    struct sim_heap_use *use = &heap->use;
    use->reserved_bytes += (uint64_t)reserved;
    use->used_bytes += (uint64_t)used;
    if (use->reserved_bytes > use->reserved_peak_bytes)
        use->reserved_peak_bytes = use->reserved_bytes;
    if (use->used_bytes > use->used_peak_bytes)
        use->used_peak_bytes = use->used_bytes;
}

void sim_heap_trim(struct sim_heap *heap, uint64_t keep_bytes)
{
    uint64_t spare = heap->use.reserved_bytes > keep_bytes ? (heap->use.reserved_bytes - keep_bytes) / SIM_GRANULE : 0;
    if (spare > heap->kept)
        spare = heap->kept;
    if (!spare)
        return;
    heap->kept -= spare;
    kept_everywhere -= spare;
    sim_vram_refund(heap->account, 0, spare * SIM_GRANULE);
    note_use(heap, -(int64_t)(spare * SIM_GRANULE), 0);
}

void sim_heaps_settle(bool all)
{
    for (int slot = 0; slot < HEAPS_MAX && kept_everywhere; slot++)
        if (heaps[slot])
            sim_heap_trim(heaps[slot], all ? 0 : heaps[slot]->threshold_bytes);
}

void sim_heap_keep(struct sim_heap *heap, uint64_t threshold_bytes)
{
    heap->threshold_bytes = threshold_bytes;
}

bool sim_vram_charge_patiently(int account, uint64_t requested_bytes, uint64_t granule_bytes)
{
    if (granule_bytes && kept_everywhere && !sim_vram_room(account, granule_bytes))
        sim_heaps_settle(true);
    return !sim_vram_charge(account, requested_bytes, granule_bytes);
}

bool sim_heap_charge(struct sim_heap *heap, size_t bytes, uint64_t granules, size_t units_bytes)
{
    uint64_t kept = granules < heap->kept ? granules : heap->kept;
    heap->kept -= kept; /* taken before others' are released */
    kept_everywhere -= kept;
    if (!sim_vram_charge_patiently(heap->account, bytes, (granules - kept) * SIM_GRANULE)) {
        heap->kept += kept;
        kept_everywhere += kept;
        return false;
    }
    note_use(heap, (int64_t)((granules - kept) * SIM_GRANULE), (int64_t)units_bytes);
    return true;
}

void sim_heap_refund(struct sim_heap *heap, size_t bytes, uint64_t granules, size_t units_bytes)
{
    if (heap->keeps) {
        heap->kept += granules;
        kept_everywhere += granules;
        granules = 0;
    }
    sim_vram_refund(heap->account, bytes, granules * SIM_GRANULE);
    note_use(heap, -(int64_t)(granules * SIM_GRANULE), -(int64_t)units_bytes);
}

/* --- Runs of granules ----------------------------------------------------------------------------------------------------- */

/* First of `count` adjacent free granules at or after the cursor, in a circle. */
static bool find_addresses(struct sim_heap *heap, uint64_t count, uint64_t *first)
{
    uint64_t found = 0, at = heap->cursor;
    for (uint64_t looked = 0; looked < 2 * heap->granules;) {
        if (at >= heap->granules) {
            at = found = 0; /* a run does not wrap around */
            looked++;
            continue;
        }
        const struct run *run = heap->table[at];
        uint64_t step = run ? run->first + run->count - at : 1;
        found = run ? 0 : found + 1;
        at += step;
        looked += step;
        if (found == count) {
            *first = at - count;
            heap->cursor = at;
            return true;
        }
    }
    return false;
}

struct run *sim_run_open(struct sim_heap *heap, uint64_t count, size_t bytes)
{
    struct run *run = calloc(1, sizeof *run);
    uint64_t first;
    if (!run || !find_addresses(heap, count, &first)) {
        free(run);
        return NULL;
    }
    *run = (struct run){.first = first, .count = count, .bytes = bytes};
    for (uint64_t i = 0; i < count; i++)
        heap->table[first + i] = run;
    return run;
}

void sim_run_close(struct sim_heap *heap, struct run *run)
{
    for (uint64_t i = 0; i < run->count; i++)
        heap->table[run->first + i] = NULL;
    if (run->host)
        munmap(run->host, run->count * SIM_GRANULE);
    if (run->exported)
        sim_share_drop(run->share);
    if (run->stretch.bytes)
        sim_file_give(&run->stretch);
    sim_block_free(run->block);
    free(run);
}

void sim_heap_abandon(struct sim_heap *heap)
{
    heap->abandoned = true;
    heap->keeps = false;
    heap->pool = NULL;
    sim_heap_trim(heap, 0);
    sim_heap_collect(heap);
}

void sim_heap_collect(struct sim_heap *heap)
{
    if (heap->abandoned && !heap->use.used_bytes)
        sim_heap_delete(heap);
}

/* --- Shared blocks ---------------------------------------------------------------------------------------------------------- */

static void list_block(struct sim_heap *heap, struct run *run)
{
    run->listed = true;
    run->previous = NULL;
    run->next = heap->open;
    if (heap->open)
        heap->open->previous = run;
    heap->open = run;
}

static void unlist_block(struct sim_heap *heap, struct run *run)
{
    if (!run->listed)
        return;
    if (run->previous)
        run->previous->next = run->next;
    else
        heap->open = run->next;
    if (run->next)
        run->next->previous = run->previous;
    run->listed = false;
}

static bool allocate_in_block(struct sim_heap *heap, struct run *run, unsigned units, size_t bytes, CUdeviceptr *address)
{
    int start = sim_block_take(run->block, units, bytes);
    if (!run->block->free_units)
        unlist_block(heap, run);
    if (start >= 0)
        *address = sim_run_address(heap, run, (unsigned)start);
    return start >= 0;
}

static CUresult allocate_small(struct sim_heap *heap, size_t bytes, CUdeviceptr *address)
{
    unsigned units = sim_block_units(bytes);
    struct run *run = heap->open;
    for (int tries = 0; run && tries < TRIES; tries++) {
        struct run *next = run->next;
        if (run->block->free_units >= units && allocate_in_block(heap, run, units, bytes, address)) {
            sim_heap_charge(heap, bytes, 0, units * SIM_UNIT);
            return CUDA_SUCCESS;
        }
        run = next;
    }
    if (!sim_heap_charge(heap, bytes, 1, units * SIM_UNIT))
        return CUDA_ERROR_OUT_OF_MEMORY;
    run = sim_run_open(heap, 1, 0);
    if (run && !(run->block = sim_block_new())) {
        sim_run_close(heap, run);
        run = NULL;
    }
    if (!run) {
        sim_heap_refund(heap, bytes, 1, units * SIM_UNIT);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    list_block(heap, run);
    allocate_in_block(heap, run, units, bytes, address); /* an empty block has room */
    return CUDA_SUCCESS;
}

static CUresult free_in_block(struct sim_heap *heap, struct run *run, CUdeviceptr address)
{
    uint64_t offset = address - sim_run_address(heap, run, 0);
    unsigned unit = (unsigned)(offset / SIM_UNIT);
    if (offset % SIM_UNIT || !run->block->bytes[unit])
        return CUDA_ERROR_INVALID_VALUE;
    size_t bytes = sim_block_give(run->block, unit);
    bool empty = run->block->free_units == UNITS;
    if (empty) {
        unlist_block(heap, run);
        sim_run_close(heap, run);
    } else if (!run->listed) {
        list_block(heap, run);
    }
    sim_heap_refund(heap, bytes, empty, sim_block_units(bytes) * SIM_UNIT);
    return CUDA_SUCCESS;
}

/* --- The heap as a whole ------------------------------------------------------------------------------------------------------ */

CUresult sim_heap_allocate(struct sim_heap *heap, size_t bytes, CUdeviceptr *address)
{
    if (!bytes)
        return CUDA_ERROR_INVALID_VALUE;
    if (bytes < SIM_GRANULE)
        return allocate_small(heap, bytes, address);
    if (bytes > heap->granules * SIM_GRANULE) {
        sim_vram_charge(heap->account, bytes, INT64_MAX / SIM_GRANULE * SIM_GRANULE); /* cannot fit; counted as refused */
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    uint64_t granules = round_up(bytes, SIM_GRANULE) / SIM_GRANULE;
    if (!sim_heap_charge(heap, bytes, granules, round_up(bytes, SIM_UNIT)))
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct run *run = sim_run_open(heap, granules, bytes);
    if (!run) {
        sim_heap_refund(heap, bytes, granules, round_up(bytes, SIM_UNIT));
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *address = sim_run_address(heap, run, 0);
    return CUDA_SUCCESS;
}

CUresult sim_heap_free(struct sim_heap *heap, CUdeviceptr address)
{
    struct run *run = sim_run_at(heap, address);
    if (!run)
        return CUDA_ERROR_INVALID_VALUE;
    if (run->block)
        return free_in_block(heap, run, address);
    if (address != sim_run_address(heap, run, 0))
        return CUDA_ERROR_INVALID_VALUE;
    sim_heap_refund(heap, run->bytes, run->count, round_up(run->bytes, SIM_UNIT));
    sim_run_close(heap, run);
    return CUDA_SUCCESS;
}

static void drain_block(struct sim_heap *heap, struct run *run)
{
    unsigned left = UNITS - run->block->free_units;
    for (unsigned at = 0; left; at++) {
        if (!run->block->bytes[at])
            continue;
        left -= sim_block_units(run->block->bytes[at]); /* the last one takes the block with it */
        free_in_block(heap, run, sim_run_address(heap, run, at));
    }
}

void sim_heap_delete(struct sim_heap *heap)
{
    heap->keeps = false;
    sim_heap_trim(heap, 0);
    for (uint64_t i = 0; i < heap->granules && heap->use.reserved_bytes; i++) {
        struct run *run = heap->table[i];
        if (run && run->block)
            drain_block(heap, run);
        else if (run)
            sim_heap_free(heap, sim_run_address(heap, run, 0));
    }
    for (int slot = 0; slot < HEAPS_MAX; slot++)
        if (heaps[slot] == heap)
            heaps[slot] = NULL;
    munmap(heap->arena, (heap->granules + 1) * SIM_GRANULE);
    munmap(heap->table, heap->granules * sizeof *heap->table);
    free(heap);
}

/* --- What is where ------------------------------------------------------------------------------------------------------------------ */

struct sim_heap *sim_heap_nth(int slot)
{
    return heaps[slot];
}

struct sim_heap_use *sim_heap_use(struct sim_heap *heap)
{
    return &heap->use;
}

CUcontext sim_heap_context(const struct sim_heap *heap)
{
    return heap->context;
}

CUmemoryPool sim_heap_pool(const struct sim_heap *heap)
{
    return heap->pool;
}

int sim_heap_device(const struct sim_heap *heap)
{
    return heap->device;
}

struct sim_heap *sim_heap_find(CUdeviceptr address)
{
    for (int slot = 0; slot < HEAPS_MAX; slot++)
        if (heaps[slot] && address >= heaps[slot]->base && address - heaps[slot]->base < heaps[slot]->granules * SIM_GRANULE)
            return heaps[slot];
    return NULL;
}

bool sim_heap_range(const struct sim_heap *heap, CUdeviceptr address, CUdeviceptr *start, size_t *bytes)
{
    const struct run *run = sim_run_at(heap, address);
    if (!run)
        return false;
    *start = sim_run_address(heap, run, 0);
    *bytes = run->bytes;
    if (!run->block)
        return address - *start < *bytes;
    unsigned unit = (unsigned)((address - *start) / SIM_UNIT);
    while (unit && !run->block->bytes[unit])
        unit--;
    *start = sim_run_address(heap, run, unit);
    *bytes = run->block->bytes[unit];
    return address - *start < sim_block_units(*bytes) * SIM_UNIT;
}

unsigned char *sim_heap_host(struct sim_heap *heap, CUdeviceptr address, size_t bytes)
{
    CUdeviceptr start;
    size_t size;
    if (!sim_heap_range(heap, address, &start, &size) || address - start + bytes > size || address + bytes < address)
        return NULL;
    struct run *run = sim_run_at(heap, address);
    if (!run->host) {
        void *host = mmap(NULL, run->count * SIM_GRANULE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (host == MAP_FAILED)
            return NULL;
        run->host = host;
    }
    return run->host + (address - sim_run_address(heap, run, 0));
}
