/* SPDX-License-Identifier: Apache-2.0
 *
 * Contents of device memory, as a checkpoint takes them away and a restore brings them back.
 *
 * Every byte is copied, and what it was copied from is dropped: between the two there is one copy of it, in memory of the host
 * that is no device's. Contents that nothing ever touched are zero, and stay so without a copy. Addresses do not change.
 *
 * Invariant: while something is away, touching its place is a fault.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "heap.h"

#define PAGE 4096UL
#define CHUNK (32UL << 20) /* what there is twice for a moment */
#define GAP (64UL << 10)   /* so much that nothing touched is copied along */

/* Adjacent bytes that are away. */
struct piece {
    unsigned char *at;  /* where they belong; NULL: in a memory file */
    struct sim_stretch stretch;
    size_t bytes;
    void *copy;
    struct piece *next;
};

static struct piece *away;

/* --- One piece ------------------------------------------------------------------------------------------------------------------ */

static unsigned char *map_stretch(const struct sim_stretch *stretch)
{
    return mmap(NULL, stretch->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, stretch->fd, (off_t)stretch->offset);
}

static bool take(unsigned char *at, const struct sim_stretch *stretch, size_t bytes)
{
    struct piece *piece = calloc(1, sizeof *piece);
    void *copy = piece ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
    if (copy == MAP_FAILED) {
        free(piece);
        return false;
    }
    *piece = (struct piece){.at = at, .bytes = bytes, .copy = copy, .next = away};
    madvise(copy, bytes, MADV_HUGEPAGE);
    unsigned char *from = at;
    if (stretch) {
        piece->stretch = *stretch;
        from = map_stretch(stretch);
    }
    if (from != MAP_FAILED)
        memcpy(copy, from, bytes);
    bool dropped = from != MAP_FAILED && (stretch ? (munmap(from, bytes), sim_file_give(stretch), true)
                                                  : mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == at);
    if (dropped) {
        away = piece;
    } else {
        munmap(copy, bytes);
        free(piece);
    }
    return dropped;
}

static bool put_back(const struct piece *piece)
{
    unsigned char *to = piece->at ? mmap(piece->at, piece->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0)
                                  : map_stretch(&piece->stretch);
    if (to == MAP_FAILED)
        return false;
    if (piece->at)
        madvise(to, piece->bytes, MADV_HUGEPAGE);
    memcpy(to, piece->copy, piece->bytes);
    if (!piece->at)
        munmap(to, piece->bytes);
    return true;
}

/* --- Heaps: what was touched is in the kernel's map of pages --------------------------------------------------------------------- */

static bool take_pages(int pagemap, unsigned char *from, size_t bytes)
{
    uint64_t *pages = malloc(bytes / PAGE * sizeof *pages);
    bool known = pages && pagemap >= 0 && pread(pagemap, pages, bytes / PAGE * sizeof *pages, (off_t)((uintptr_t)from / PAGE * sizeof *pages)) ==
                                              (ssize_t)(bytes / PAGE * sizeof *pages);
    bool taken = true;
    for (size_t at = 0, end; taken && at < bytes; at = end) {
        size_t last = at; /* behind the last touched page of this piece */
        for (end = at; end < bytes && end < last + GAP; end += PAGE)
            if (!known || pages[end / PAGE] >> 62) /* present or swapped out */
                last = end + PAGE;
        if (last > at)
            taken = take(from + at, NULL, last - at);
        end = last > at ? last : end;
    }
    free(pages);
    return taken;
}

static bool take_run(int pagemap, const struct run *run)
{
    size_t bytes = run->host ? run->count * SIM_GRANULE : 0;
    for (size_t at = 0; at < bytes; at += CHUNK)
        if (!take_pages(pagemap, run->host + at, bytes - at < CHUNK ? bytes - at : CHUNK))
            return false;
    return true;
}

static bool take_heap(int pagemap, const struct sim_heap *heap)
{
    for (uint64_t at = 0; at < heap->granules;) {
        const struct run *run = heap->table[at];
        if (run && !take_run(pagemap, run))
            return false;
        at = run ? run->first + run->count : at + 1;
    }
    return true;
}

/* --- Physical memory: what was touched is in its file ------------------------------------------------------------------------------ */

static bool take_physical(const struct sim_physical *physical)
{
    off_t at = (off_t)physical->stretch.offset, end = at + (off_t)physical->stretch.bytes;
    while ((at = lseek(physical->stretch.fd, at, SEEK_DATA)) >= 0 && at < end) {
        off_t hole = lseek(physical->stretch.fd, at, SEEK_HOLE);
        off_t stop = hole < 0 || hole > end ? end : hole;
        if (stop - at > (off_t)CHUNK)
            stop = at + (off_t)CHUNK;
        if (!take(NULL, &(struct sim_stretch){physical->stretch.fd, (uint64_t)at, (size_t)(stop - at)}, (size_t)(stop - at)))
            return false;
        at = stop;
    }
    return true;
}

/* --- All of it --------------------------------------------------------------------------------------------------------------------- */

static bool is_private(const struct sim_heap *heap)
{
    for (uint64_t at = 0; at < heap->granules;) {
        const struct run *run = heap->table[at];
        if (run && run->exported)
            return false;
        at = run ? run->first + run->count : at + 1;
    }
    return true;
}

bool sim_contents_portable(void)
{
    for (size_t i = 0; i < sim_span_count(); i++)
        if (sim_span_nth(i)->kind == SPAN_MANAGED || sim_span_nth(i)->kind == SPAN_IMPORTED)
            return false;
    for (const struct sim_physical *physical = sim_physical_first; physical; physical = physical->next)
        if (physical->shared)
            return false;
    for (int slot = 0; slot < HEAPS_MAX; slot++)
        if (sim_heap_nth(slot) && !is_private(sim_heap_nth(slot)))
            return false;
    return true;
}

bool sim_contents_take_away(void)
{
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    bool taken = true;
    for (int slot = 0; taken && slot < HEAPS_MAX; slot++)
        if (sim_heap_nth(slot))
            taken = take_heap(pagemap, sim_heap_nth(slot));
    for (const struct sim_physical *physical = sim_physical_first; taken && physical; physical = physical->next)
        taken = take_physical(physical);
    if (pagemap >= 0)
        close(pagemap);
    if (!taken)
        sim_contents_put_back();
    return taken;
}

bool sim_contents_put_back(void)
{
    bool whole = true;
    for (struct piece *piece = away, *next; piece; piece = next) {
        next = piece->next;
        whole = put_back(piece) && whole;
        munmap(piece->copy, piece->bytes);
        free(piece);
    }
    away = NULL;
    return whole;
}
