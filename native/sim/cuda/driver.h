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

enum sim_mark { MARK_CONTEXT = 0x43545831, MARK_STREAM = 0x53545231, MARK_STREAM_CLOSING = 0x53545230, MARK_EVENT = 0x45564e31, MARK_MODULE = 0x4d4f4431, MARK_FUNCTION = 0x46554e31, MARK_POOL = 0x504f4f31, MARK_GREEN = 0x47524e31, MARK_RESOURCES = 0x52455331 };

/* Device memory of one context or pool; see heap.c. */
struct sim_heap;

struct sim_heap_use {
    uint64_t reserved_bytes, reserved_peak_bytes; /* granules */
    uint64_t used_bytes, used_peak_bytes;         /* in units of SIM_UNIT */
};

/* Nodes of a graph, without repetitions. */
struct sim_nodes {
    CUgraphNode *at;
    size_t count, room;
};

/* What a process sees as a device: a whole one, or a compute instance. */
struct sim_visible {
    struct sim_place place;
    CUuuid uuid;
    char name[SIM_NAME_MAX];
    int account; /* of this process, -1 before the first context */
    CUcontext primary;
    unsigned multiprocessors; /* that this process may use, of `all_multiprocessors` */
    unsigned all_multiprocessors;
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
    unsigned lane;                /* of its kernels */
    struct sim_position position; /* its newest order, and what that was told to wait for */
    unsigned deferred;            /* orders that wait for the host; see gate.c */
    struct sim_capture *capture;  /* that its work goes to, or NULL; see capture.c */
    struct sim_nodes captured;    /* what its next node there comes after */
    CUstream next_captured;       /* of the same capture */
};

struct sim_context {
    uint32_t mark;
    int device; /* index of the visible device */
    bool primary;
    unsigned flags;
    uint64_t id;
    struct sim_stream legacy;
    unsigned multiprocessors;     /* that its kernels may use */
    int part;                     /* the lane of its own, or -1 */
    struct sim_position newest;   /* of all its streams */
    struct sim_position blocking; /* of all streams that the legacy stream waits for */
    unsigned deferred_blocking;   /* orders of these that wait for the host */
    struct sim_heap *heap;
    size_t limits[SIM_LIMITS];
    unsigned cache_config, shared_config;
    CUcontext shares;   /* the primary context, whose memory it has; NULL: it has its own */
    CUgreenCtx green;   /* whose multiprocessors it has, or NULL */
};

struct sim_event {
    uint32_t mark;
    CUcontext context;
    unsigned flags;
    int account;
    bool recorded;
    unsigned deferred; /* records of it that wait for the host */
    struct sim_position position; /* what it waits for */
    uint64_t record_ns; /* when it was recorded */
    uint64_t end_ns;    /* when it happened; 0: not known yet */
    struct sim_event *next, *previous; /* events not known yet */
    uint64_t capture_id;       /* of the capture that it was recorded in last, over or not; 0: in none */
    struct sim_nodes captured; /* what waits for it there comes after these */
};

struct sim_module {
    uint32_t mark;
    CUcontext context; /* NULL: a library */
    CUcontext payer;   /* whose footprint it is part of, or NULL */
    struct sim_module *next;
    char *names;       /* zero-separated entry names, ended by an empty one; NULL: any name is in it */
};

struct sim_function {
    uint32_t mark;
    CUmodule module;
    char *name;
    const struct sim_kernel_rule *rule;
    uint64_t launches;
    int dynamic_shared_max;
    int carveout;
    unsigned block[3], shared_bytes; /* of launches that do not say them */
    struct sim_function *next; /* of the same module */
};

/* --- Every call's first and last ---------------------------------------------------------------------------------------- */

/* CUDA_SUCCESS and the driver lock, or the reason why there is no driver here (not initialised, or forked away). */
CUresult sim_driver_enter(void);
CUresult sim_driver_leave(CUresult result);
/* The lock again, after sim_driver_leave in the middle of a call. */
void sim_driver_relock(void);
extern pthread_mutex_t sim_driver_lock;
/* Whether the driver can be called here, without the lock. */
CUresult sim_driver_ready(void);
#define SIM_ENTER()                                                                                                                        \
    do {                                                                                                                                   \
        CUresult entered = sim_driver_enter();                                                                                             \
        if (entered != CUDA_SUCCESS)                                                                                                       \
            return entered;                                                                                                                \
    } while (0)

/* An object of `size` bytes, marked and zeroed; objects of one mark are recycled among themselves. */
void *sim_object_new(uint32_t mark, size_t size);
void sim_object_free(void *object);

/* --- Suspending: checkpoint.c ------------------------------------------------------------------------------------------- */

/* The thread that others ask to suspend this process. */
void sim_checkpoint_start(void);
/* Guarded by the driver lock: calls wait; a restore or checkpoint went wrong for good. */
extern bool sim_checkpoint_holds, sim_checkpoint_failed;
/* Wait, without the driver lock, while this process is locked. */
void sim_checkpoint_wait(void);
#define sim_checkpoint_pass()                                                                                                              \
    do {                                                                                                                                   \
        if (__builtin_expect(sim_checkpoint_holds, 0))                                                                                     \
            sim_checkpoint_wait();                                                                                                         \
    } while (0)

/* Where contents of device memory are: contents.c. */
/* Whether there is memory that a checkpoint cannot take: managed, or known to other processes. */
bool sim_contents_portable(void);
/* Copy everything into the host's memory and drop it here. False: the host has no room, and all is as before. */
bool sim_contents_take_away(void);
/* And back to where it was. False: the host had no room for that; what was there is lost. */
bool sim_contents_put_back(void);

/* --- Devices and contexts (driver lock held) ----------------------------------------------------------------------------- */

CUresult sim_visible_find(void);
/* Whether this process is a client of MPS, and with what limits (mps.c). */
struct sim_client sim_client_find(void);
unsigned sim_client_multiprocessors(const struct sim_client *client, unsigned all);
uint64_t sim_client_limit_bytes(const struct sim_client *client, int device, const CUuuid *uuid);
int sim_visible_count(void);
struct sim_visible *sim_visible_at(int device); /* NULL when out of range */
const struct sim_description *sim_visible_description(const struct sim_visible *device);
unsigned sim_visible_multiprocessors(const struct sim_visible *device);

/* A context with the primary one's memory, whose kernels run in `lane` on so many multiprocessors; and its end. */
CUresult sim_context_make_part(struct sim_visible *visible, unsigned lane, unsigned multiprocessors, CUcontext *out);
void sim_context_end_part(CUcontext context);
/* Modules that go with a context. */
void sim_modules_drop(CUcontext context);
/* The primary context of a device, made if need be, with one reference more; and one less. */
CUresult sim_primary_retain(int device);
void sim_primary_release(struct sim_visible *visible);
/* End all green contexts of a device: its primary context goes. */
void sim_greens_drop(int device);

CUcontext sim_context_current(void);
/* This thread's current context goes; the one below it is current. */
void sim_context_forget(void);
/* The context that `stream` belongs to (the current one for NULL and the special handles). */
CUresult sim_stream_find(CUstream handle, CUstream *stream);
bool sim_marked(const void *object, uint32_t mark);
int sim_context_account(CUcontext context);
CUcontext sim_context_of_address(CUdeviceptr address);
struct sim_heap *sim_context_heap_of(CUdeviceptr address);
void sim_stream_drop_thread(CUcontext context);

/* --- Memory (driver lock held) -------------------------------------------------------------------------------------------- */

/* A heap on `device`, of a context, or of a pool, which keeps what is freed in it. NULL: out of memory. */
struct sim_heap *sim_heap_new(int device, CUcontext context, CUmemoryPool pool);
/* Give everything back. */
void sim_heap_delete(struct sim_heap *heap);
/* The same as soon as nothing is allocated in it; sim_heap_collect is called after each free. */
void sim_heap_abandon(struct sim_heap *heap);
void sim_heap_collect(struct sim_heap *heap);
CUresult sim_heap_allocate(struct sim_heap *heap, size_t bytes, CUdeviceptr *address);
CUresult sim_heap_free(struct sim_heap *heap, CUdeviceptr address);
/* Start and size of the live allocation around `address`. */
bool sim_heap_range(const struct sim_heap *heap, CUdeviceptr address, CUdeviceptr *start, size_t *bytes);
/* Host memory behind `bytes` at `address`, or NULL when that is not inside one live allocation. */
unsigned char *sim_heap_host(struct sim_heap *heap, CUdeviceptr address, size_t bytes);
struct sim_heap_use *sim_heap_use(struct sim_heap *heap);
/* Any heap of this process (contexts' and pools') around `address`, or NULL. */
struct sim_heap *sim_heap_find(CUdeviceptr address);
CUcontext sim_heap_context(const struct sim_heap *heap); /* NULL: a pool's */
CUmemoryPool sim_heap_pool(const struct sim_heap *heap); /* NULL: a context's */
int sim_heap_device(const struct sim_heap *heap);

/* Host memory for `bytes` at a unified address: device memory's backing or the host pointer itself. NULL: illegal. */
unsigned char *sim_memory_at(uint64_t address, size_t bytes);
/* What is asked for is only planned: memory that a graph will allocate counts as there. */
extern bool sim_memory_is_planned;
bool sim_host_known(uint64_t address);

/* --- Work ------------------------------------------------------------------------------------------------------------------ */

struct sim_kernel {
    CUfunction function;
    unsigned grid[3], block[3];
    unsigned shared_bytes;
    bool cooperative;
    void **parameters, **extra; /* as given; nothing reads what they point at */
};

struct sim_fill {
    CUdeviceptr dst;
    size_t pitch; /* 0 for a single row */
    uint32_t value;
    unsigned element; /* bytes: 1, 2 or 4 */
    size_t width, height;
};

enum sim_work_kind { WORK_EMPTY, WORK_KERNEL, WORK_COPY, WORK_FILL, WORK_HOST, WORK_CALLBACK, WORK_RECORD, WORK_WAIT, WORK_VALUES, WORK_GIVE };

/* What a stream can be given, and what a node of a graph is. */
struct sim_work {
    enum sim_work_kind kind;
    union {
        struct sim_kernel kernel;
        CUDA_MEMCPY3D copy;
        struct sim_fill fill;
        struct {
            CUhostFn function;
            void *data;
        } host;
        struct {
            CUstreamCallback function;
            CUstream stream;
            void *data;
        } callback;
        struct {
            CUevent event;
            bool external; /* a capture takes it for a node */
        } record;
        struct {
            CUevent event;
            bool external;
            CUevent pending; /* its record is deferred itself; else NULL, and it is over when `account` is at `position` */
            int account;
            struct sim_position position;
        } wait;
        struct {
            CUstreamValue *list; /* allocated */
            unsigned count, done;
        } values;
        struct sim_graph_block *give; /* memory of a graph that is over with */
    };
};

/* Whether the work can be done at all in `stream`: its values, handles and addresses. */
CUresult sim_work_check(CUstream stream, const struct sim_work *work);
/* Give the stream work that was checked. The driver lock may be left meanwhile. */
CUresult sim_stream_submit(CUstream stream, const struct sim_work *work);
/* Start it behind `after`; add to `reached` where it ends. No work that has to wait for the host. */
CUresult sim_work_start(CUstream stream, const struct sim_work *work, const struct sim_position *after, struct sim_position *reached);
/* What an order of the stream has to wait for now; `joined` is room for it. */
const struct sim_position *sim_stream_after(const struct sim_stream *stream, struct sim_position *joined);
/* The stream's newest work is at `reached` now. */
void sim_stream_reach(CUstream stream, const struct sim_position *reached);

CUresult sim_values_check(CUstreamValue *values, unsigned count);
CUresult sim_kernel_check(CUstream stream, const struct sim_kernel *kernel);
CUresult sim_kernel_start(CUstream stream, const struct sim_kernel *kernel, const struct sim_position *after, struct sim_position *reached);
CUresult sim_copy_check(const CUDA_MEMCPY3D *copy);
CUresult sim_copy_start(CUstream stream, const CUDA_MEMCPY3D *copy, const struct sim_position *after, struct sim_position *reached);
CUresult sim_fill_check(const struct sim_fill *fill);
CUresult sim_fill_start(CUstream stream, const struct sim_fill *fill, const struct sim_position *after, struct sim_position *reached);
/* Queue an order; waits for room without the driver lock. */
CUresult sim_order(CUcontext context, unsigned lane, uint64_t cost_ns, unsigned multiprocessors, const struct sim_position *after,
                   struct sim_position *reached);
void sim_event_record(CUevent event, const struct sim_position *position);

/* Work that has to wait for the host, and what is behind it (gate.c). */
bool sim_gate_needed(CUstream stream, const struct sim_work *work);
CUresult sim_gate_defer(CUstream stream, const struct sim_work *work);
/* Sleep until what is deferred now in `stream` (NULL: in all of `context`) has been started; the driver lock is left. */
void sim_gate_wait(CUcontext context, CUstream stream);
/* Forget what is deferred in a context that goes. */
void sim_gate_drop(CUcontext context);
/* Let go of the driver lock until something that was deferred has been started. */
void sim_gate_sleep(void);
/* Nothing is deferred anywhere. */
bool sim_gate_is_empty(void);
/* This is the driver's own thread: functions of the host must not call the driver. */
extern _Thread_local bool sim_gate_is_ours __attribute__((tls_model("initial-exec")));

/* --- Captures (capture.c) -------------------------------------------------------------------------------------------------- */

extern unsigned sim_captures; /* that have begun and not ended */
/* Whether the stream may be given work, and waited for: not if that concerns a stream that is capturing, which then is for nothing. */
CUresult sim_capture_permits(CUstream stream, bool to_wait);
/* The same for a whole context. */
CUresult sim_capture_permits_context(CUcontext context);
/* Whether this thread may do what could disturb a capture of its own, or of others. */
CUresult sim_capture_permits_unsafe(void);
/* Work given to a capturing stream. */
CUresult sim_capture_add(CUstream stream, const struct sim_work *work);
/* A wait for an event that was recorded in a capture. */
CUresult sim_capture_wait(CUstream stream, CUevent event);
CUresult sim_capture_alloc(CUstream stream, size_t bytes, CUdeviceptr *address);
CUresult sim_capture_free(CUstream stream, CUdeviceptr address);
/* A stream goes; an event does. */
void sim_capture_leave(CUstream stream);
void sim_capture_forget(CUevent event);

/* As cuMemFree does it with memory that a graph allocated. */
CUresult sim_graph_memory_free(CUdeviceptr address);
CUresult sim_graph_block_give(struct sim_graph_block *block);

CUresult sim_stream_make(CUcontext context, unsigned flags, int priority, CUstream *stream);
/* Give a new stream its lane and its number. */
void sim_stream_place(CUstream stream);
/* Wait for everything before now in `stream`, which sim_stream_find gave. Leaves the driver lock while it waits. */
void sim_stream_finish(CUstream stream);
/* Learn when the event happened, if it has. */
bool sim_event_settle(CUevent event);
struct sim_work sim_event_wait(CUevent event);
void sim_events_settle(int account, const struct sim_position *newest);
/* How many blocks of `threads` threads and `shared_bytes` fit one multiprocessor. */
unsigned sim_blocks_per_multiprocessor(const struct sim_description *description, unsigned threads, size_t shared_bytes);
static inline CUstream sim_per_thread(CUstream stream)
{
    return stream ? stream : CU_STREAM_PER_THREAD;
}

#include "memory.h"

#endif
