/* SPDX-License-Identifier: Apache-2.0
 *
 * Pools between processes: the pool as a descriptor, then its allocations one by one. The owner is charged; an importer maps.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "pool.h"

#define POINTER_MAGIC 0x314c4f4f504d4953ULL

struct pointer {
    uint64_t magic, id, delta, bytes;
    int32_t slot;
};
_Static_assert(sizeof(struct pointer) <= sizeof(CUmemPoolPtrExportData), "fits");

void sim_pool_unshare(CUmemoryPool pool)
{
    if (pool->exported)
        sim_share_drop(pool->share);
    if (pool->imported)
        close(pool->fd);
}

static CUresult export_pool(CUmemoryPool pool, int *fd)
{
    struct sim_stretch file;
    if (!sim_file_take(0, &file))
        return CUDA_ERROR_OPERATING_SYSTEM;
    if (!pool->exported) {
        struct sim_share facts = {.kind = SHARE_POOL, .fd = file.fd, .file_inode = sim_file_inode(file.fd)};
        int account = sim_visible_account(sim_visible_at(pool->device));
        pool->share = account < 0 ? -1 : sim_share_make(account, false, &facts);
        if (pool->share < 0)
            return CUDA_ERROR_OUT_OF_MEMORY;
        pool->share_id = facts.id;
        pool->exported = true;
    }
    *fd = sim_file_ticket(file.fd, pool->share, pool->share_id);
    return *fd < 0 ? CUDA_ERROR_OPERATING_SYSTEM : CUDA_SUCCESS;
}

CUresult cuMemPoolExportToShareableHandle(void *shareable, CUmemoryPool pool, int type, unsigned long long flags)
{
    int fd;
    SIM_ENTER();
    if (!shareable || flags || !sim_marked(pool, MARK_POOL) || pool->imported || !(pool->handle_types & (unsigned)type))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    CUresult result = export_pool(pool, &fd);
    if (result == CUDA_SUCCESS)
        memcpy(shareable, &fd, sizeof fd);
    return sim_driver_leave(result);
}

static CUresult import_pool(CUmemoryPool *out, int fd)
{
    struct sim_share facts;
    int slot;
    uint64_t id;
    if (!sim_file_read_ticket(fd, &slot, &id) || sim_share_find(slot, id, &facts) || facts.kind != SHARE_POOL || sim_file_inode(fd) != facts.file_inode)
        return CUDA_ERROR_INVALID_VALUE;
    int device = sim_visible_of((struct sim_place){facts.device, facts.gpu_instance, facts.compute_instance});
    if (device < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    CUmemoryPool pool = own < 0 ? NULL : sim_object_new(MARK_POOL, sizeof *pool);
    if (!pool) {
        if (own >= 0)
            close(own);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    pool->device = device;
    pool->imported = true;
    pool->handle_types = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    pool->fd = own;
    *out = pool;
    return CUDA_SUCCESS;
}

CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool, void *shareable, int type, unsigned long long flags)
{
    SIM_ENTER();
    if (!pool || flags || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    return sim_driver_leave(import_pool(pool, (int)(uintptr_t)shareable));
}

CUresult cuMemPoolExportPointer(CUmemPoolPtrExportData *data, CUdeviceptr address)
{
    struct sim_exported exported;
    SIM_ENTER();
    struct sim_heap *heap = sim_heap_find(address);
    CUmemoryPool pool = heap ? sim_heap_pool(heap) : NULL;
    if (!data || !pool || !(pool->handle_types & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    CUresult result = sim_heap_export(heap, address, SHARE_POOL_ALLOCATION, &exported);
    if (result == CUDA_SUCCESS) {
        const struct pointer pointer = {POINTER_MAGIC, exported.id, exported.delta, exported.bytes, exported.slot};
        memset(data, 0, sizeof *data);
        memcpy(data, &pointer, sizeof pointer);
    }
    return sim_driver_leave(result);
}

CUresult cuMemPoolImportPointer(CUdeviceptr *address, CUmemoryPool pool, CUmemPoolPtrExportData *data)
{
    struct pointer pointer;
    struct sim_share facts;
    SIM_ENTER();
    if (!address || !data || !sim_marked(pool, MARK_POOL) || !pool->imported)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    memcpy(&pointer, data, sizeof pointer);
    if (pointer.magic != POINTER_MAGIC || sim_share_find(pointer.slot, pointer.id, &facts) || facts.kind != SHARE_POOL_ALLOCATION ||
        facts.file_inode != sim_file_inode(pool->fd) || pointer.delta > facts.bytes || pointer.bytes > facts.bytes - pointer.delta)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    const struct sim_import import = {.kind = SHARE_POOL_ALLOCATION, .id = pointer.id, .stretch = {pool->fd, facts.offset, facts.bytes},
                                      .delta = pointer.delta, .bytes = pointer.bytes, .device = pool->device};
    return sim_driver_leave(sim_imported_map(&import, address));
}
