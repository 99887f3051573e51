/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the simulated libcuda: its objects and who guards them.
 *
 * Invariant: objects are made and changed under the driver lock, which is never held while waiting for the device. A
 * destroyed object keeps its memory (only its mark goes), so that a stale handle is an error and no crash.
 */
#ifndef MICA_SIM_CUDA_DRIVER_H
#define MICA_SIM_CUDA_DRIVER_H

#include <pthread.h>
#include <stdbool.h>

#include "../engine/engine.h"
#include "abi.h"
#include "symbols.h"

#define SIM_UNIT 512ULL /* addresses are multiples of it */
#define SIM_LIMITS 10

enum sim_mark { MARK_CONTEXT = 0x43545831, MARK_STREAM = 0x53545231, MARK_EVENT = 0x45564e31, MARK_MODULE = 0x4d4f4431, MARK_FUNCTION = 0x46554e31, MARK_POOL = 0x504f4f31 };

/* Device memory of one context or pool; see heap.c. */
struct sim_heap;

struct sim_heap_use {
    uint64_t reserved_bytes, reserved_peak_bytes; /* granules */
    uint64_t used_bytes, used_peak_bytes;         /* in units of SIM_UNIT */
};

/* What a process sees as a device: a whole one, or a compute instance. */
struct sim_visible {
    struct sim_place place;
    CUuuid uuid;
    char name[SIM_NAME_MAX];
    int account; /* of this process, -1 before the first context */
    CUcontext primary;
    unsigned primary_references;
    unsigned primary_flags;
    CUmemoryPool default_pool;
    CUmemoryPool current_pool;
};

struct sim_stream {
    uint32_t mark;
    CUcontext context;
    unsigned flags;
    int priority;
    uint64_t id;
    uint64_t last; /* number of its newest launch */
};

struct sim_context {
    uint32_t mark;
    int device; /* index of the visible device */
    bool primary;
    unsigned flags;
    uint64_t id;
    struct sim_stream legacy;
    uint64_t newest;          /* launch of any stream */
    uint64_t newest_blocking; /* launch of any stream that the legacy stream waits for */
    struct sim_heap *heap;
    size_t limits[SIM_LIMITS];
    unsigned cache_config, shared_config;
};

struct sim_event {
    uint32_t mark;
    CUcontext context;
    unsigned flags;
    int account;
    bool recorded;
    uint64_t after;     /* number of the launch it waits for */
    uint64_t record_ns; /* when it was recorded */
    uint64_t end_ns;    /* when it happened; 0: not known yet */
    struct sim_event *next, *previous; /* events not known yet */
};

struct sim_module {
    uint32_t mark;
    CUcontext context; /* NULL: a library */
    char *names;       /* zero-separated entry names, ended by an empty one; NULL: any name is in it */
};

struct sim_function {
    uint32_t mark;
    CUmodule module;
    char *name;
    uint64_t block_ns;
    int dynamic_shared_max;
    int carveout;
    struct sim_function *next; /* of the same module */
};

/* --- Every call's first and last ---------------------------------------------------------------------------------------- */

/* CUDA_SUCCESS and the driver lock, or the reason why there is no driver here (not initialised, or forked away). */
CUresult sim_driver_enter(void);
CUresult sim_driver_leave(CUresult result);
#define SIM_ENTER()                                                                                                                        \
    do {                                                                                                                                   \
        CUresult entered = sim_driver_enter();                                                                                             \
        if (entered != CUDA_SUCCESS)                                                                                                       \
            return entered;                                                                                                                \
    } while (0)

/* An object of `size` bytes, marked and zeroed; objects of one mark are recycled among themselves. */
void *sim_object_new(uint32_t mark, size_t size);
void sim_object_free(void *object);

/* --- Devices and contexts (driver lock held) ----------------------------------------------------------------------------- */

CUresult sim_visible_find(void);
int sim_visible_count(void);
struct sim_visible *sim_visible_at(int device); /* NULL when out of range */
const struct sim_description *sim_visible_description(const struct sim_visible *device);
unsigned sim_visible_multiprocessors(const struct sim_visible *device);

CUcontext sim_context_current(void);
/* The context that `stream` belongs to (the current one for NULL and the special handles). */
CUresult sim_stream_find(CUstream handle, CUstream *stream);
bool sim_marked(const void *object, uint32_t mark);
int sim_context_account(CUcontext context);
CUcontext sim_context_of_address(CUdeviceptr address);
struct sim_heap *sim_context_heap_of(CUdeviceptr address);
void sim_stream_drop_thread(CUcontext context);

/* --- Memory (driver lock held) -------------------------------------------------------------------------------------------- */

struct sim_heap *sim_heap_new(int account, uint64_t capacity_bytes);
/* Give everything back. */
void sim_heap_delete(struct sim_heap *heap);
CUresult sim_heap_allocate(struct sim_heap *heap, size_t bytes, CUdeviceptr *address);
CUresult sim_heap_free(struct sim_heap *heap, CUdeviceptr address);
bool sim_heap_contains(const struct sim_heap *heap, CUdeviceptr address);
/* Start and size of the live allocation around `address`. */
bool sim_heap_range(const struct sim_heap *heap, CUdeviceptr address, CUdeviceptr *start, size_t *bytes);
/* Host memory behind `bytes` at `address`, or NULL when that is not inside one live allocation. */
unsigned char *sim_heap_host(struct sim_heap *heap, CUdeviceptr address, size_t bytes);
struct sim_heap_use *sim_heap_use(struct sim_heap *heap);

/* Any heap of this process (contexts' and pools') around `address`, or NULL. */
struct sim_heap *sim_heap_find(CUdeviceptr address);
CUcontext sim_heap_context(const struct sim_heap *heap);
void sim_heap_set_context(struct sim_heap *heap, CUcontext context);

/* Host memory for `bytes` at a unified address: device memory's backing or the host pointer itself. NULL: illegal. */
unsigned char *sim_memory_at(uint64_t address, size_t bytes);
bool sim_host_known(uint64_t address);

/* --- Work ------------------------------------------------------------------------------------------------------------------ */

/* Wait for everything before now in `stream`, which sim_stream_find gave. Leaves the driver lock while it waits. */
void sim_stream_finish(CUstream stream);
void sim_event_settle(int account, uint64_t newest);
/* How many blocks of `threads` threads and `shared_bytes` fit one multiprocessor. */
unsigned sim_blocks_per_multiprocessor(const struct sim_description *description, unsigned threads, size_t shared_bytes);
static inline CUstream sim_per_thread(CUstream stream)
{
    return stream ? stream : CU_STREAM_PER_THREAD;
}

#include "memory.h"

#endif
