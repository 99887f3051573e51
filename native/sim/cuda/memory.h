/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that is no context's heap: spans of addresses with contents of their own, and the physical memory behind them.
 *
 * All of it is under the driver lock. Included by driver.h.
 */
#ifndef MICA_SIM_CUDA_MEMORY_H
#define MICA_SIM_CUDA_MEMORY_H

#include "driver.h"

enum { MARK_PHYSICAL = 0x50485931, MARK_ARRAY = 0x41525231, MARK_MIPMAP = 0x4d495031, MARK_TEXTURE = 0x54455831, MARK_SURFACE = 0x53554631, MARK_EXTERNAL = 0x45585431 };

/* --- Spans: which addresses are whose ---------------------------------------------------------------------------------- */

/* What is in the engine's table of memory that other processes may map. */
enum sim_share_kind { SHARE_PHYSICAL = 1, SHARE_ALLOCATION, SHARE_POOL, SHARE_POOL_ALLOCATION };

enum sim_span_kind { SPAN_RESERVED, SPAN_GRAPH, SPAN_MANAGED, SPAN_PINNED, SPAN_IMPORTED };

/* Adjacent addresses. Spans never overlap. The contents of start + n are at host + n. */
struct sim_span {
    enum sim_span_kind kind;
    CUdeviceptr start;
    size_t bytes;
    unsigned char *host;
    int device;
    CUcontext context; /* it goes with this context; NULL: it stays */
};

CUresult sim_span_add(struct sim_span *span);
void sim_span_remove(const struct sim_span *span);
size_t sim_span_count(void);
struct sim_span *sim_span_nth(size_t index);
struct sim_span *sim_span_find(CUdeviceptr address);
bool sim_span_overlaps(CUdeviceptr start, size_t bytes);
/* Any span of that context, or NULL. */
struct sim_span *sim_span_of(CUcontext context);

/* Inaccessible host addresses for `bytes` at a multiple of `alignment` (a power of two, at least a page), at `hint` if that
 * is free; 0 when there are none. */
CUdeviceptr sim_addresses_take(size_t bytes, size_t alignment, CUdeviceptr hint);
void sim_addresses_give(CUdeviceptr start, size_t bytes);

/* What is known of an address that is not just the program's own memory. */
struct sim_facts {
    CUdeviceptr start; /* of the allocation, or of the mapping */
    size_t bytes;
    CUdeviceptr range_start; /* likewise, or of the reservation the mapping is in */
    size_t range_bytes;
    CUcontext context; /* NULL: none in particular */
    int device;
    bool managed, mapped, imported;
    bool host;              /* the host may touch it */
    uint32_t handle_types;  /* it can be exported as these */
    uint32_t access;        /* CU_MEM_ACCESS_* of the device */
    CUmemoryPool pool;
    struct sim_physical *physical; /* behind a mapping */
    struct sim_heap *heap;
};
bool sim_facts_find(CUdeviceptr address, struct sim_facts *facts);
/* Whether a copy or fill may name `address` as device memory: it is, or it is host memory that the driver knows. */
bool sim_device_known(CUdeviceptr address);

/* Enter the driver with the context whose memory the current one has. */
CUresult sim_enter_current(CUcontext *context);
#define ENTER_CURRENT(valid)                                                                                                               \
    CUcontext context;                                                                                                                     \
    CUresult entered = sim_enter_current(&context);                                                                                        \
    if (entered != CUDA_SUCCESS)                                                                                                           \
        return entered;                                                                                                                    \
    if (!(valid))                                                                                                                          \
    return sim_driver_leave(CUDA_ERROR_INVALID_VALUE)

/* As cuMemFree and cuMemFreeAsync do it. */
CUresult sim_memory_free(CUdeviceptr address);
/* Everything that goes with a context. */
void sim_memory_drop(CUcontext context);

/* --- What heaps of pools do besides: heap.c and heap_export.c ------------------------------------------------------------------- */

/* Release what is kept and not used, down to `keep_bytes` reserved. */
void sim_heap_trim(struct sim_heap *heap, uint64_t keep_bytes);
/* How much may stay reserved after a synchronisation. */
void sim_heap_keep(struct sim_heap *heap, uint64_t threshold_bytes);
/* Called after every stream, event or context synchronisation: pools keep what their thresholds allow; nothing for `all`. */
void sim_heaps_settle(bool all);
/* The same, for who has left the driver to wait. */
CUresult sim_pools_settle(void);
uint32_t sim_pool_handle_types(const struct sim_pool *pool);

/* An allocation as other processes find it: its granules' slot among the exports, and where in them it is. */
struct sim_exported {
    int slot;
    uint64_t id;
    uint64_t delta;
    size_t bytes;
};
CUresult sim_heap_export(struct sim_heap *heap, CUdeviceptr address, uint32_t kind, struct sim_exported *exported);

/* --- The memory file: contents that others may map; file.c ---------------------------------------------------------------------- */

struct sim_stretch {
    int fd;
    uint64_t offset;
    size_t bytes;
};
/* A stretch that was never used, all zero; and its end. */
bool sim_file_take(size_t bytes, struct sim_stretch *stretch);
void sim_file_give(const struct sim_stretch *stretch);
uint64_t sim_file_inode(int fd);
/* A new descriptor of a memory file that says which share it stands for, or -1; and what such a descriptor says. */
int sim_file_ticket(int fd, int slot, uint64_t id);
bool sim_file_read_ticket(int fd, int *slot, uint64_t *id);
/* The memory file of another process, or -1 when it cannot be had. */
int sim_file_of(int pid, int fd, uint64_t inode);

/* --- Arrays ------------------------------------------------------------------------------------------------------------------ */

/* Where rows of a box in an array begin: `at` and `size` in bytes, rows and slices. False: not an array, or not inside it. */
bool sim_array_box(CUarray array, const size_t at[3], const size_t size[3], unsigned char **first, size_t *pitch, size_t *slice);
bool sim_array_live(CUarray array);
bool sim_mipmap_live(CUmipmappedArray mipmap);
unsigned sim_array_flags(CUarray array);
unsigned sim_texel_bytes(uint32_t format, unsigned channels); /* 0: no such texel */
/* A mip chain in the contents of imported memory, which goes with it; also when this fails. */
CUresult sim_mipmap_over(CUcontext context, const CUDA_ARRAY3D_DESCRIPTOR *descriptor, unsigned levels, struct sim_span *span,
                         CUmipmappedArray *mipmap);
void sim_arrays_drop(CUcontext context);
/* A copy of any box, in copy.c. */
CUresult sim_copy_box(const CUDA_MEMCPY3D *copy, CUstream stream, bool wait);

/* --- Memory of other processes: imported.c ---------------------------------------------------------------------------------- */

struct sim_import {
    enum sim_share_kind kind;
    uint64_t id;
    struct sim_stretch stretch; /* whole granules of the contents */
    uint64_t delta, bytes;      /* the part of them that is meant */
    int device;
    CUcontext context;
    struct sim_physical *physical; /* to hold while it is mapped, or NULL */
};
CUresult sim_imported_map(const struct sim_import *import, CUdeviceptr *address);
void sim_imported_free(struct sim_span *span);
/* Whether cuMemFree ends it, and not cuIpcCloseMemHandle. */
bool sim_imported_freeable(const struct sim_span *span);

/* --- Physical memory: what cuMemCreate makes ------------------------------------------------------------------------------ */

/* Alive while it has handles or mappings, and charged as long as it is alive. */
struct sim_physical {
    uint32_t mark;
    unsigned handles, mappings;
    int device;
    size_t bytes;
    struct sim_stretch stretch; /* its contents */
    bool imported;              /* its descriptor is its own */
    bool shared;                /* it is in the table of shared memory, which pays for it */
    int share;
    uint64_t share_id;
    CUmemAllocationProp properties;
    struct sim_physical *kept_next; /* kept for graphs; see graph_memory.c */
    struct sim_physical *next, *previous; /* all there is, in this process */
};

extern struct sim_physical *sim_physical_first;
CUresult sim_physical_new(int device, size_t bytes, const CUmemAllocationProp *properties, struct sim_physical **physical);
/* What a descriptor stands for, held by this process too. INVALID_VALUE: nothing (any more). */
CUresult sim_physical_import(int fd, struct sim_physical **physical);
/* Frees it when nothing refers to it any more. */
void sim_physical_settle(struct sim_physical *physical);
struct sim_physical *sim_physical_of(CUmemGenericAllocationHandle handle); /* NULL: no such handle */
/* Pay, with what pools keep unused where the device has no more. */
bool sim_vram_charge_patiently(int account, uint64_t requested_bytes, uint64_t granule_bytes);
/* The device of this process at a place, or -1. */
int sim_visible_of(struct sim_place place);
/* The account of `device` in this process, made if need be; negative when there is no room for one. */
int sim_visible_account(struct sim_visible *device);

/* Reservations of addresses, with physical memory mapped into them: SPAN_RESERVED by the program, SPAN_GRAPH for graphs. Sizes are
 * whole granules. INVALID_VALUE: no such reservation, or not in this state. */
CUdeviceptr sim_reservation_make(enum sim_span_kind kind, size_t bytes, size_t alignment, CUdeviceptr hint); /* 0: no room */
CUresult sim_reservation_end(enum sim_span_kind kind, CUdeviceptr address, size_t bytes);
CUresult sim_reservation_map(enum sim_span_kind kind, CUdeviceptr address, size_t bytes, struct sim_physical *physical, uint32_t access);
CUresult sim_reservation_unmap(enum sim_span_kind kind, CUdeviceptr address, size_t bytes);

/* Facts and contents of reservations, and the end of other spans. */
bool sim_reserved_facts(const struct sim_span *span, CUdeviceptr address, struct sim_facts *facts);
bool sim_reserved_accessible(const struct sim_span *span, CUdeviceptr address, size_t bytes);
void sim_managed_free(struct sim_span *span);
void sim_pinned_free(struct sim_span *span);

#endif
