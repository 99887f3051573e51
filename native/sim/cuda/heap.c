/* SPDX-License-Identifier: Apache-2.0
 *
 * Device memory of one context or pool.
 *
 *   addresses   an arena of reserved, inaccessible host address space: a device pointer is never a valid host pointer.
 *   granules    2 MiB each, charged to the device as a whole. An allocation of 2 MiB or more has its own.
 *   blocks      a granule shared by allocations below 2 MiB, in units of 512 bytes; it goes back with the last of them.
 *   contents    host memory, mapped when it is first touched, private to the process.
 *
 * Invariant: granules in use here are charged to the account, and no others.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "driver.h"

#define UNITS (SIM_GRANULE / SIM_UNIT)
#define TRIES 8 /* shared blocks looked at before a new one is opened */
#define HEAPS_MAX 64
#define SLAB 64

/* Shared granule. */
struct block {
    unsigned free_units;
    unsigned cursor;
    bool listed;
    struct run *next, *previous; /* blocks that may have room */
    struct block *spare;
    uint64_t used[UNITS / 64]; /* a bit for each unit */
    uint32_t bytes[UNITS]; /* where an allocation starts: its size */
};

/* Adjacent granules that are one allocation or one block. */
struct run {
    uint64_t first, count;
    size_t bytes; /* of the allocation; 0 for a block */
    unsigned char *host;
    struct block *block;
};

struct sim_heap {
    int account;
    CUcontext context;
    void *arena;
    CUdeviceptr base; /* in it, at a granule's boundary */
    uint64_t granules;
    uint64_t cursor;
    struct run **table; /* granule -> run */
    struct run *open;   /* blocks that may have room */
    struct sim_heap_use use;
};

static struct sim_heap *heaps[HEAPS_MAX];

/* Blocks not in use: all their units are free. New ones come from a slab of untouched pages; none is ever given back. */
static struct block *spare_blocks, *slab;
static unsigned slab_left;

static struct block *block_new(void)
{
    struct block *block = spare_blocks;
    if (block) {
        spare_blocks = block->spare;
    } else {
        if (!slab_left) {
            void *pages = mmap(NULL, SLAB * sizeof *slab, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (pages == MAP_FAILED)
                return NULL;
            slab = pages;
            slab_left = SLAB;
        }
        block = &slab[--slab_left];
    }
    block->free_units = UNITS;
    block->cursor = 0;
    block->listed = false;
    return block;
}

static void block_free(struct block *block)
{
    if (!block)
        return;
    block->spare = spare_blocks;
    spare_blocks = block;
}

struct sim_heap *sim_heap_new(int account, uint64_t capacity_bytes)
{
    int slot = 0;
    while (slot < HEAPS_MAX && heaps[slot])
        slot++;
    struct sim_heap *heap = slot < HEAPS_MAX ? calloc(1, sizeof *heap) : NULL;
    if (!heap)
        return NULL;
    heap->account = account;
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

static uint64_t round_up(uint64_t bytes, uint64_t step)
{
    return (bytes + step - 1) / step * step;
}

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

/* The caller has charged the granules. */
static struct run *open_run(struct sim_heap *heap, uint64_t count, size_t bytes)
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

static void close_run(struct sim_heap *heap, struct run *run)
{
    for (uint64_t i = 0; i < run->count; i++)
        heap->table[run->first + i] = NULL;
    if (run->host)
        munmap(run->host, run->count * SIM_GRANULE);
    block_free(run->block);
    free(run);
}

static struct run *run_at(const struct sim_heap *heap, CUdeviceptr address)
{
    if (address < heap->base || address - heap->base >= heap->granules * SIM_GRANULE)
        return NULL;
    return heap->table[(address - heap->base) / SIM_GRANULE];
}

/* --- Shared blocks ---------------------------------------------------------------------------------------------------------- */

static void list_block(struct sim_heap *heap, struct run *run)
{
    run->block->listed = true;
    run->block->previous = NULL;
    run->block->next = heap->open;
    if (heap->open)
        heap->open->block->previous = run;
    heap->open = run;
}

static void unlist_block(struct sim_heap *heap, struct run *run)
{
    struct block *block = run->block;
    if (!block->listed)
        return;
    if (block->previous)
        block->previous->block->next = block->next;
    else
        heap->open = block->next;
    if (block->next)
        block->next->block->previous = block->previous;
    block->listed = false;
}

static unsigned units_of(size_t bytes)
{
    return (unsigned)(round_up(bytes, SIM_UNIT) / SIM_UNIT);
}

/* First unit at or after `from` that is used (or is not), UNITS if there is none. */
static unsigned next_unit(const struct block *block, unsigned from, bool used)
{
    for (unsigned word = from / 64; word < UNITS / 64; word++) {
        uint64_t bits = used ? block->used[word] : ~block->used[word];
        if (word == from / 64)
            bits &= ~0ULL << from % 64;
        if (bits)
            return word * 64 + (unsigned)__builtin_ctzll(bits);
    }
    return UNITS;
}

static void mark_units(struct block *block, unsigned from, unsigned count, bool used)
{
    while (count) {
        unsigned bit = from % 64, here = 64 - bit < count ? 64 - bit : count;
        uint64_t mask = (here == 64 ? ~0ULL : (1ULL << here) - 1) << bit;
        block->used[from / 64] = used ? block->used[from / 64] | mask : block->used[from / 64] & ~mask;
        from += here;
        count -= here;
    }
}

/* A hole of `units` at or after `from`, or -1. */
static int hole_after(const struct block *block, unsigned from, unsigned units)
{
    for (unsigned start = next_unit(block, from, false); start + units <= UNITS;) {
        unsigned end = next_unit(block, start, true);
        if (end - start >= units)
            return (int)start;
        start = next_unit(block, end, false);
    }
    return -1;
}

static int take(struct block *block, unsigned units, size_t bytes)
{
    if (block->free_units < units)
        return -1;
    int start = hole_after(block, block->cursor, units);
    if (start < 0)
        start = hole_after(block, 0, units);
    if (start < 0)
        return -1;
    mark_units(block, (unsigned)start, units, true);
    block->bytes[start] = (uint32_t)bytes;
    block->free_units -= units;
    block->cursor = (unsigned)start + units;
    return start;
}

static CUdeviceptr address_of(const struct sim_heap *heap, const struct run *run, unsigned unit)
{
    return heap->base + run->first * SIM_GRANULE + unit * SIM_UNIT;
}

static CUresult allocate_in_block(struct sim_heap *heap, struct run *run, unsigned units, size_t bytes, CUdeviceptr *address)
{
    int start = take(run->block, units, bytes);
    if (!run->block->free_units)
        unlist_block(heap, run);
    *address = start < 0 ? 0 : address_of(heap, run, (unsigned)start);
    return start < 0 ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS;
}

static CUresult allocate_small(struct sim_heap *heap, size_t bytes, CUdeviceptr *address)
{
    unsigned units = units_of(bytes);
    struct run *run = heap->open;
    for (int tries = 0; run && tries < TRIES; tries++) {
        struct run *next = run->block->next;
        if (run->block->free_units >= units && allocate_in_block(heap, run, units, bytes, address) == CUDA_SUCCESS) {
            sim_vram_charge(heap->account, bytes, 0);
            note_use(heap, 0, (int64_t)(units * SIM_UNIT));
            return CUDA_SUCCESS;
        }
        run = next;
    }
    if (sim_vram_charge(heap->account, bytes, SIM_GRANULE))
        return CUDA_ERROR_OUT_OF_MEMORY;
    run = open_run(heap, 1, 0);
    if (run && !(run->block = block_new())) {
        close_run(heap, run);
        run = NULL;
    }
    if (!run) {
        sim_vram_refund(heap->account, bytes, SIM_GRANULE);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    list_block(heap, run);
    note_use(heap, SIM_GRANULE, (int64_t)(units * SIM_UNIT));
    return allocate_in_block(heap, run, units, bytes, address);
}

static CUresult free_in_block(struct sim_heap *heap, struct run *run, CUdeviceptr address)
{
    struct block *block = run->block;
    uint64_t offset = address - address_of(heap, run, 0);
    unsigned unit = (unsigned)(offset / SIM_UNIT);
    if (offset % SIM_UNIT || !block->bytes[unit])
        return CUDA_ERROR_INVALID_VALUE;
    size_t bytes = block->bytes[unit];
    unsigned units = units_of(bytes);
    mark_units(block, unit, units, false);
    block->free_units += units;
    block->bytes[unit] = 0;
    if (unit < block->cursor)
        block->cursor = unit;
    bool empty = block->free_units == UNITS;
    if (empty) {
        unlist_block(heap, run);
        close_run(heap, run);
    } else if (!block->listed) {
        list_block(heap, run);
    }
    sim_vram_refund(heap->account, bytes, empty ? SIM_GRANULE : 0);
    note_use(heap, empty ? -(int64_t)SIM_GRANULE : 0, -(int64_t)(units * SIM_UNIT));
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
    uint64_t spent = round_up(bytes, SIM_GRANULE);
    if (sim_vram_charge(heap->account, bytes, spent))
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct run *run = open_run(heap, spent / SIM_GRANULE, bytes);
    if (!run) {
        sim_vram_refund(heap->account, bytes, spent);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    note_use(heap, (int64_t)spent, (int64_t)round_up(bytes, SIM_UNIT));
    *address = address_of(heap, run, 0);
    return CUDA_SUCCESS;
}

CUresult sim_heap_free(struct sim_heap *heap, CUdeviceptr address)
{
    struct run *run = run_at(heap, address);
    if (!run)
        return CUDA_ERROR_INVALID_VALUE;
    if (run->block)
        return free_in_block(heap, run, address);
    if (address != address_of(heap, run, 0))
        return CUDA_ERROR_INVALID_VALUE;
    uint64_t spent = run->count * SIM_GRANULE;
    sim_vram_refund(heap->account, run->bytes, spent);
    note_use(heap, -(int64_t)spent, -(int64_t)round_up(run->bytes, SIM_UNIT));
    close_run(heap, run);
    return CUDA_SUCCESS;
}

static void drain_block(struct sim_heap *heap, struct run *run)
{
    unsigned left = UNITS - run->block->free_units;
    for (unsigned at = 0; left; at++) {
        if (!run->block->bytes[at])
            continue;
        left -= units_of(run->block->bytes[at]); /* the last one takes the block with it */
        free_in_block(heap, run, address_of(heap, run, at));
    }
}

void sim_heap_delete(struct sim_heap *heap)
{
    for (uint64_t i = 0; i < heap->granules && heap->use.reserved_bytes; i++) {
        struct run *run = heap->table[i];
        if (run && run->block)
            drain_block(heap, run);
        else if (run)
            sim_heap_free(heap, address_of(heap, run, 0));
    }
    for (int slot = 0; slot < HEAPS_MAX; slot++)
        if (heaps[slot] == heap)
            heaps[slot] = NULL;
    munmap(heap->arena, (heap->granules + 1) * SIM_GRANULE);
    munmap(heap->table, heap->granules * sizeof *heap->table);
    free(heap);
}

struct sim_heap_use *sim_heap_use(struct sim_heap *heap)
{
    return &heap->use;
}

CUcontext sim_heap_context(const struct sim_heap *heap)
{
    return heap->context;
}

void sim_heap_set_context(struct sim_heap *heap, CUcontext context)
{
    heap->context = context;
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
    const struct run *run = run_at(heap, address);
    if (!run)
        return false;
    *start = address_of(heap, run, 0);
    *bytes = run->bytes;
    if (!run->block)
        return address - *start < *bytes;
    unsigned unit = (unsigned)((address - *start) / SIM_UNIT);
    while (unit && !run->block->bytes[unit])
        unit--;
    *start = address_of(heap, run, unit);
    *bytes = run->block->bytes[unit];
    return address - *start < units_of(*bytes) * SIM_UNIT;
}

unsigned char *sim_heap_host(struct sim_heap *heap, CUdeviceptr address, size_t bytes)
{
    CUdeviceptr start;
    size_t size;
    if (!sim_heap_range(heap, address, &start, &size) || address - start + bytes > size || address + bytes < address)
        return NULL;
    struct run *run = run_at(heap, address);
    if (!run->host) {
        void *host = mmap(NULL, run->count * SIM_GRANULE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (host == MAP_FAILED)
            return NULL;
        run->host = host;
    }
    return run->host + (address - address_of(heap, run, 0));
}
