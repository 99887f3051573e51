/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of other processes, mapped here: by CUDA's IPC handles, by pointers of imported pools, by external memory. It is
 * charged to who made it and never here.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "driver.h"

struct imported {
    struct sim_span span;
    enum sim_share_kind kind;
    uint64_t id, delta;
    unsigned references;
    CUdeviceptr addresses; /* all of it, of which the span is a part */
    unsigned char *host;
    size_t bytes;
    struct sim_physical *physical; /* of external memory: held as a mapping */
};

CUresult sim_imported_map(const struct sim_import *import, CUdeviceptr *address)
{
    struct imported *made = calloc(1, sizeof *made);
    CUdeviceptr start = made ? sim_addresses_take(import->stretch.bytes, SIM_GRANULE, 0) : 0;
    void *host = MAP_FAILED;
    if (start)
        host = mmap(NULL, import->stretch.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, import->stretch.fd, (off_t)import->stretch.offset);
    if (host != MAP_FAILED) {
        *made = (struct imported){.kind = import->kind, .id = import->id, .delta = import->delta, .references = 1, .addresses = start,
                                  .host = host, .bytes = import->stretch.bytes, .physical = import->physical};
        made->span = (struct sim_span){SPAN_IMPORTED, start + import->delta, import->bytes, made->host + import->delta, import->device, import->context};
        if (sim_span_add(&made->span) == CUDA_SUCCESS) {
            if (made->physical)
                made->physical->mappings++;
            *address = made->span.start;
            return CUDA_SUCCESS;
        }
        munmap(host, import->stretch.bytes);
    }
    if (start)
        sim_addresses_give(start, import->stretch.bytes);
    free(made);
    return start ? CUDA_ERROR_MAP_FAILED : CUDA_ERROR_OUT_OF_MEMORY;
}

void sim_imported_free(struct sim_span *span)
{
    struct imported *imported = (struct imported *)span;
    sim_span_remove(span);
    munmap(imported->host, imported->bytes);
    sim_addresses_give(imported->addresses, imported->bytes);
    if (imported->physical) {
        imported->physical->mappings--;
        sim_physical_settle(imported->physical);
    }
    free(imported);
}

bool sim_imported_freeable(const struct sim_span *span)
{
    return ((const struct imported *)span)->kind != SHARE_ALLOCATION;
}

/* --- CUDA's IPC handles ---------------------------------------------------------------------------------------------------------- */

#define HANDLE_MAGIC 0x3143504943494d53ULL

struct handle {
    uint64_t magic, id, delta, bytes;
    int32_t slot;
};
_Static_assert(sizeof(struct handle) <= sizeof(CUipcMemHandle), "fits");

CUresult cuIpcGetMemHandle(CUipcMemHandle *out, CUdeviceptr address)
{
    struct sim_exported exported;
    SIM_ENTER();
    struct sim_heap *heap = sim_heap_find(address);
    if (!out || !heap || sim_heap_pool(heap)) /* memory of pools, mapped and managed memory have ways of their own */
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    CUresult result = sim_heap_export(heap, address, SHARE_ALLOCATION, &exported);
    if (result == CUDA_SUCCESS) {
        const struct handle handle = {HANDLE_MAGIC, exported.id, exported.delta, exported.bytes, exported.slot};
        memset(out, 0, sizeof *out);
        memcpy(out, &handle, sizeof handle);
    }
    return sim_driver_leave(result);
}

/* Open in this context already: the handle counts its openings. */
static CUdeviceptr open_again(CUcontext context, const struct handle *handle)
{
    for (size_t i = 0; i < sim_span_count(); i++) {
        struct imported *imported = (struct imported *)sim_span_nth(i);
        if (imported->span.kind != SPAN_IMPORTED || imported->kind != SHARE_ALLOCATION || imported->span.context != context ||
            imported->id != handle->id || imported->delta != handle->delta)
            continue;
        imported->references++;
        return imported->span.start;
    }
    return 0;
}

static CUresult open_handle(CUdeviceptr *address, const struct handle *handle, CUcontext context)
{
    struct sim_share facts;
    if (sim_share_find(handle->slot, handle->id, &facts) || facts.kind != SHARE_ALLOCATION)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!facts.owner_pid) /* as the driver has it: not in the process that made it */
        return CUDA_ERROR_INVALID_CONTEXT;
    if (sim_visible_of((struct sim_place){facts.device, facts.gpu_instance, facts.compute_instance}) != context->device)
        return CUDA_ERROR_INVALID_DEVICE;
    if (handle->delta > facts.bytes || handle->bytes > facts.bytes - handle->delta)
        return CUDA_ERROR_INVALID_VALUE;
    if ((*address = open_again(context, handle)))
        return CUDA_SUCCESS;
    int fd = sim_file_of(facts.owner_pid, facts.fd, facts.file_inode);
    if (fd < 0)
        return CUDA_ERROR_MAP_FAILED;
    const struct sim_import import = {.kind = SHARE_ALLOCATION, .id = handle->id, .stretch = {fd, facts.offset, facts.bytes},
                                      .delta = handle->delta, .bytes = handle->bytes, .device = context->device, .context = context};
    CUresult result = sim_imported_map(&import, address);
    close(fd); /* the mapping holds on to the file */
    return result;
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *address, CUipcMemHandle given, unsigned flags)
{
    struct handle handle;
    memcpy(&handle, &given, sizeof handle);
    ENTER_CURRENT(address && flags <= 1 && handle.magic == HANDLE_MAGIC);
    return sim_driver_leave(open_handle(address, &handle, context));
}
SIM_SAME(cuIpcOpenMemHandle, cuIpcOpenMemHandle_v2);

CUresult cuIpcCloseMemHandle(CUdeviceptr address)
{
    SIM_ENTER();
    struct imported *imported = (struct imported *)sim_span_find(address);
    if (!imported || imported->span.kind != SPAN_IMPORTED || imported->kind != SHARE_ALLOCATION || imported->span.start != address)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (!--imported->references)
        sim_imported_free(&imported->span);
    return sim_driver_leave(CUDA_SUCCESS);
}
