/* SPDX-License-Identifier: Apache-2.0
 *
 * Contents of a heap that other processes may map.
 */
#include <string.h>
#include <sys/mman.h>

#include "heap.h"

#define PAGE 4096

/* Move a run's contents into the memory file. Pages that were never written stay holes there. */
static bool move_contents(struct run *run)
{
    static const unsigned char zeros[PAGE];
    size_t bytes = run->count * SIM_GRANULE;
    if (!sim_file_take(bytes, &run->stretch))
        return false;
    void *host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, run->stretch.fd, (off_t)run->stretch.offset);
    for (size_t at = 0; host != MAP_FAILED && run->host && at < bytes; at += PAGE)
        if (memcmp(run->host + at, zeros, PAGE))
            memcpy((unsigned char *)host + at, run->host + at, PAGE);
    if (host != MAP_FAILED && run->host) /* where it was: arrays know that address */
        host = mremap(host, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, run->host);
    if (host == MAP_FAILED) {
        sim_file_give(&run->stretch);
        run->stretch.bytes = 0;
        return false;
    }
    run->host = host;
    return true;
}

CUresult sim_heap_export(struct sim_heap *heap, CUdeviceptr address, uint32_t kind, struct sim_exported *out)
{
    CUdeviceptr start;
    size_t bytes;
    struct run *run = sim_run_at(heap, address);
    if (!sim_heap_range(heap, address, &start, &bytes) || start != address)
        return CUDA_ERROR_INVALID_VALUE;
    if (!run->exported) {
        if (!run->stretch.bytes && !move_contents(run))
            return CUDA_ERROR_OUT_OF_MEMORY;
        struct sim_share facts = {.kind = kind, .fd = run->stretch.fd, .offset = run->stretch.offset, .bytes = run->stretch.bytes,
                                  .file_inode = sim_file_inode(run->stretch.fd)};
        run->share = sim_share_make(heap->account, false, &facts);
        if (run->share < 0)
            return CUDA_ERROR_OUT_OF_MEMORY;
        run->share_id = facts.id;
        run->exported = true;
    }
    *out = (struct sim_exported){run->share, run->share_id, address - sim_run_address(heap, run, 0), bytes};
    return CUDA_SUCCESS;
}
