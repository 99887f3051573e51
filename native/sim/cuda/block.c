/* SPDX-License-Identifier: Apache-2.0
 *
 * A granule shared by small allocations: a bit map of its units.
 */
#include <sys/mman.h>

#include "block.h"

#define SLAB 64

/* Blocks not in use: all their units are free. New ones come from a slab of untouched pages; none is ever given back. */
static struct block *spare_blocks, *slab;
static unsigned slab_left;

struct block *sim_block_new(void)
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
    return block;
}

void sim_block_free(struct block *block)
{
    if (!block)
        return;
    block->spare = spare_blocks;
    spare_blocks = block;
}

unsigned sim_block_units(size_t bytes)
{
    return (unsigned)((bytes + SIM_UNIT - 1) / SIM_UNIT);
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

int sim_block_take(struct block *block, unsigned units, size_t bytes)
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

size_t sim_block_give(struct block *block, unsigned unit)
{
    size_t bytes = block->bytes[unit];
    unsigned units = sim_block_units(bytes);
    mark_units(block, unit, units, false);
    block->free_units += units;
    block->bytes[unit] = 0;
    if (unit < block->cursor)
        block->cursor = unit;
    return bytes;
}
