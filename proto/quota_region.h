/* SPDX-License-Identifier: Apache-2.0
 *
 * The shared memory between mica's enforcer and the shims in tenants' processes: the ABI.
 *
 * Three kinds of file, all on a tmpfs, all little-endian, all made of naturally aligned 64-bit words:
 *
 *   quota region   one per device; written by the enforcer alone, mapped read-only by shims.
 *   usage region   one per slice and device; written by that slice's processes, read by services with pread.
 *   token region   one per device; written by the device's slices: whose work is on the device.
 *
 * Everything that more than one process touches is an atomic word of fixed width and lock-free, so that a process that
 * is killed between any two instructions blocks nobody. Live files are never renamed, truncated or unlinked while
 * a shim may map them.
 *
 * This header is the only description of the layout. The Python binding is compiled from it (MICA_CFFI strips what
 * a declaration parser cannot read), and offsets are asserted below.
 */
#ifndef MICA_QUOTA_REGION_H
#define MICA_QUOTA_REGION_H

#ifdef MICA_CFFI
#define MICA_ATOMIC_U64 uint64_t
#else
#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#define MICA_ATOMIC_U64 _Atomic uint64_t
#endif

#define MICA_REGION_MAGIC 0x314143494d0a0d00ULL /* "\0\r\nMICA1": catches text-mode damage */
#define MICA_LAYOUT_VERSION 4

#define MICA_SLICES_MAX 128   /* records in a quota region: slices on one device */
#define MICA_PROCESSES_MAX 64 /* slots in a usage region: processes of one slice on one device */
#define MICA_ID_WORDS 8       /* an id is up to 64 bytes of ASCII, zero-padded, not terminated */
#define MICA_PPM 1000000ULL

enum mica_region_kind { MICA_REGION_QUOTA = 1, MICA_REGION_USAGE = 2, MICA_REGION_TOKEN = 3 };

/* A record's state. Values 0 and up are stored; a reader that finds FREE has no slice. */
enum mica_slice_state { MICA_SLICE_FREE = 0, MICA_SLICE_LIVE = 1, MICA_SLICE_DRAINING = 2 };

enum mica_slice_tier { MICA_TIER_GUARANTEED = 0, MICA_TIER_BURST = 1, MICA_TIER_SPOT = 2 };

/* The control word: what the slice's processes may do now. DRAIN refuses new memory and new attaches and lets what runs
 * go on; KILL makes every further call fail. SUSPEND has launches and requests for memory wait: the slice's memory is, or is about to be, on the host. */
enum mica_control {
    MICA_CONTROL_RUN = 0,
    MICA_CONTROL_THROTTLE = 1,
    MICA_CONTROL_PAUSE = 2,
    MICA_CONTROL_DRAIN = 3,
    MICA_CONTROL_KILL = 4,
    MICA_CONTROL_SUSPEND = 5
};

/* The part of a device's compute that a slice has to itself, by a mechanism of the driver's own. The rate guards what is left. */
enum mica_spatial_kind {
    MICA_SPATIAL_NONE = 0,
    MICA_SPATIAL_MPS = 1,   /* CUDA_MPS_ACTIVE_THREAD_PERCENTAGE of an MPS client */
    MICA_SPATIAL_GREEN = 2, /* a green context */
    MICA_SPATIAL_SUBDEVICE = 3 /* an OpenCL sub-device */
};

/* First 256 bytes of every region. All but the heartbeat and its wall time is written once, before the file gets its final name. */
struct mica_region_header {
    uint64_t magic;
    uint64_t layout_version;
    uint64_t kind;       /* enum mica_region_kind */
    uint64_t size_bytes; /* of the whole file */
    uint64_t device_id[MICA_ID_WORDS];
    uint64_t slice_id[MICA_ID_WORDS]; /* usage regions only, else zero */
    uint64_t boot_id[5];              /* the kernel's boot id, 36 characters, zero-padded */
    MICA_ATOMIC_U64 heartbeat_ns;     /* quota regions: CLOCK_MONOTONIC of the enforcer's last heartbeat */
    MICA_ATOMIC_U64 wall_ahead_ns;    /* quota regions: CLOCK_REALTIME - CLOCK_MONOTONIC at that heartbeat; 0: not known */
    uint64_t reserved[5];
};

/* The limits of one slice on one device: one list, from which both the shared record and the reader's copy are made. */
#define MICA_SLICE_FIELDS(X)                                                                                                               \
    X(state)              /* enum mica_slice_state */                                                                                      \
    X(generation)         /* of the slice; grows with every change */                                                                      \
    X(tier)               /* enum mica_slice_tier */                                                                                       \
    X(control)            /* enum mica_control */                                                                                          \
    X(priority)           /* 0..100, higher first */                                                                                       \
    X(vram_limit_bytes)   /* device memory, all processes together */                                                                      \
    X(pinned_limit_bytes) /* pinned host memory; 0: no limit */                                                                            \
    X(share_ppm)          /* guaranteed part of the device's compute */                                                                    \
    X(ceiling_ppm)        /* what it may use now, >= share_ppm; raised while neighbours are idle */                                        \
    X(burst_ns)           /* how far the virtual time may run ahead of the clock */                                                        \
    X(window_offset_ns)   /* time slices: launches only in [offset, offset + length) of every period */                                    \
    X(window_length_ns)                                                                                                                    \
    X(window_period_ns)   /* of CLOCK_MONOTONIC; 0: no window */                                                                           \
    X(launch_rate_hz)     /* 0: no limit */                                                                                                \
    X(inflight_max)       /* launches submitted and not finished; 0: no limit */                                                           \
    X(copy_bytes_per_s)   /* 0: no limit */                                                                                                \
    X(quantum_ns)         /* longest turn on the device while others wait; 0: no device token, see struct mica_token_region */             \
    X(spatial_kind)       /* enum mica_spatial_kind */                                                                                     \
    X(spatial_ppm)        /* the part of the device that the mechanism gives; 0 with MICA_SPATIAL_NONE */                                  \
    X(spatial_offset_ppm) /* where that part begins, for mechanisms that give certain units: no two slices' parts overlap */               \
    X(borrows)            /* time slices: 1: may also launch in windows that their owners leave idle, and in no one's time */

#define MICA_FIELD_SHARED(name) MICA_ATOMIC_U64 name;
#define MICA_FIELD_PLAIN(name) uint64_t name;

/* A record of the quota region: a sequence lock with one writer. `sequence` is odd while the record changes. */
struct mica_slice_record {
    MICA_ATOMIC_U64 sequence;
    MICA_ATOMIC_U64 slice_id[MICA_ID_WORDS];
    MICA_SLICE_FIELDS(MICA_FIELD_SHARED)
    uint64_t reserved[2];
};

/* What a reader gets: one consistent copy of a record. */
struct mica_slice_limits {
    uint64_t slice_id[MICA_ID_WORDS];
    MICA_SLICE_FIELDS(MICA_FIELD_PLAIN)
};

struct mica_quota_region {
    struct mica_region_header header;
    struct mica_slice_record records[MICA_SLICES_MAX];
};

/* The owner word of a process slot: who holds it, in one compare-and-set.
 *
 *   63..56  1: held, 0: free     (its own byte: the enforcer frees a dead owner's slot by writing this one byte)
 *   55..22  start time of the process, clock ticks since boot, modulo 2^34
 *   21..0   process id as the process itself sees it
 *
 * Pids repeat across namespaces and in time; pid, start time and a mapping of this very file together do not. */
#define MICA_OWNER_PID_BITS 22
#define MICA_OWNER_START_BITS 34
#define MICA_OWNER_HELD (1ULL << 56)

/* A memory word of a process slot: device memory, or pinned host memory. The sum of its bytes over the held slots is the only total
 * there is.
 *
 *   63..54  version: one more with every change, modulo 2^10, so that two equal readings mean that nothing happened between
 *   53      shared: another slot was held at some time since this one was claimed, so that this word alone may not be the sum
 *   52..48  pending: how many charges are included that are not decided yet; each will be settled or rolled back
 *   47..0   bytes reserved or held, pending ones included
 *
 * Read it with mica_memory_bytes(). */
#define MICA_MEMORY_BYTES_BITS 48
#define MICA_MEMORY_PENDING_BITS 5
#define MICA_MEMORY_SHARED (1ULL << (MICA_MEMORY_BYTES_BITS + MICA_MEMORY_PENDING_BITS))
#define MICA_MEMORY_BYTES_MAX ((1ULL << MICA_MEMORY_BYTES_BITS) - 1)

/* A process's part of its slice's compute, relative to the slice's other processes. */
#define MICA_WEIGHT_DEFAULT 100

/* One process of the slice. Written by that process; freed by it at exit, or by the enforcer when it is really gone. The first cache line
 * is what every allocation of every process of the slice reads, the second what the process's own launches write. */
struct mica_process_slot {
    MICA_ATOMIC_U64 owner;
    MICA_ATOMIC_U64 vram_word;
    MICA_ATOMIC_U64 pinned_word;
    MICA_ATOMIC_U64 vram_peak_bytes; /* of this process */
    MICA_ATOMIC_U64 last_seen_ns;    /* CLOCK_MONOTONIC of its last sampled call */
    MICA_ATOMIC_U64 others_bytes;    /* device memory of the slice's other processes when this one last added up: a guess */
    MICA_ATOMIC_U64 deadline_ns; /* CLOCK_MONOTONIC by which its launch that waits should be done; 0: it has no deadlines */
    MICA_ATOMIC_U64 stuck_ns;    /* CLOCK_MONOTONIC when work was submitted that should have ended and is seen not to have; 0: none is */

    MICA_ATOMIC_U64 virtual_time_ns; /* the process's own, within the slice: work of cost c adds c * 100 / weight */
    MICA_ATOMIC_U64 weight;          /* MICA_WEIGHT_DEFAULT unless the process asked for another */
    MICA_ATOMIC_U64 waiting_ns;      /* CLOCK_MONOTONIC when it last said that it waits to launch; 0: it does not */
    MICA_ATOMIC_U64 gpu_ns;          /* device time of this process's work */
    MICA_ATOMIC_U64 launches;
    MICA_ATOMIC_U64 inflight; /* launches submitted and not known to be finished */
    MICA_ATOMIC_U64 throttled_ns;
    MICA_ATOMIC_U64 copied_bytes;
};

struct mica_usage_region {
    struct mica_region_header header;
    /* CLOCK_MONOTONIC + debt: a launch of cost c adds c * 1e6 / ceiling_ppm; the slice may launch while it is at most
     * burst_ns ahead of the clock. */
    MICA_ATOMIC_U64 virtual_time_ns;
    MICA_ATOMIC_U64 launch_time_ns; /* the same for launch_rate_hz: a launch adds 1e9 / launch_rate_hz */
    MICA_ATOMIC_U64 copy_time_ns;   /* the same for copy_bytes_per_s: a byte adds 1e9 / copy_bytes_per_s */
    MICA_ATOMIC_U64 gpu_ns;         /* cumulative, processes that are gone included */
    MICA_ATOMIC_U64 throttled_ns;   /* time that launches were held back */
    MICA_ATOMIC_U64 launches;       /* cumulative */
    MICA_ATOMIC_U64 copied_bytes;   /* cumulative */
    MICA_ATOMIC_U64 refusals;       /* allocations refused, cumulative */
    MICA_ATOMIC_U64 vram_peak_bytes; /* of the slice */
    MICA_ATOMIC_U64 generation_seen; /* newest generation of limits that a process of this slice acted on */
    MICA_ATOMIC_U64 slots_high;      /* every held slot's index is below it; it only grows while the file lives */
    /* Order on the device: start-time fair queueing. The start tag of the slice's next work, in ns of device time per share. */
    MICA_ATOMIC_U64 order_time_ns;
    MICA_ATOMIC_U64 active_until_ns; /* CLOCK_MONOTONIC when, by estimate, the slice's last work ends */
    MICA_ATOMIC_U64 rate_basis;      /* ceiling_ppm << 32 | share_ppm, by which the times above were advanced */
    MICA_ATOMIC_U64 process_floor_ns; /* the same floor as the token region's, among the slice's processes */
    MICA_ATOMIC_U64 context_bytes; /* device memory that a process's first context took when that was last measured; 0: not yet */
    MICA_ATOMIC_U64 return_ns; /* how soon its program comes back, as a rule, when its work has ended; 0: not soon */
    /* Windows of time-sliced devices; all of device time. */
    MICA_ATOMIC_U64 window_seen_ns; /* when the window opened in which the slice last asked to launch */
    MICA_ATOMIC_U64 window_debt_ns; /* what it took beyond its windows, and gives back from the next ones */
    MICA_ATOMIC_U64 window_paid_ns; /* so long that window stays shut for it */
    MICA_ATOMIC_U64 window_owed_ns; /* what others took from its windows: it may have that back from time that nobody uses */
    MICA_ATOMIC_U64 window_lost_ns; /* how much later than it could have its first work began there */
    MICA_ATOMIC_U64 reserved[10];
    struct mica_process_slot processes[MICA_PROCESSES_MAX];
};

/* Where a slice's work waits for the device, by the slice's record index. A process that waits writes its slice's order tag and renews `seen_ns`; an entry
 * that is not renewed for MICA_WAITER_STALE_NS is of a process that is gone or stopped, and holds nobody up. */
#define MICA_WAITER_STALE_NS 10000000ULL
struct mica_token_waiter {
    MICA_ATOMIC_U64 order_tag_ns;
    MICA_ATOMIC_U64 seen_ns; /* CLOCK_MONOTONIC; 0: nobody waits */
    MICA_ATOMIC_U64 prompt;  /* 1: its program had nothing to do for a while: others' turns end for it, if it comes first */
    MICA_ATOMIC_U64 bell;    /* one more when it is worth while to ask again; a futex on its low half */
};

/* The hold: on a device that would run several slices' work at once (a processor), whose work may be there. One word, so that taking and letting go are one
 * compare-and-set:
 *
 *   63..53  version: one more with every change, modulo 2^11
 *   52..8   until, microseconds of CLOCK_MONOTONIC: later it holds nothing
 *   7..0    1 + record index of the slice that took it last; 0: nobody yet
 *
 * A slice that lives renews it while its work is there, and lets go when it has seen that the last of it ended; of one that is killed or stopped it runs out. */
#define MICA_HOLD_UNTIL_BITS 45
#define MICA_HOLD_OWNER_BITS 8
#define MICA_HOLD_NS 25000000ULL
#define MICA_HOLD_RENEW_NS 5000000ULL

/* The device token: whose work goes to the device next. It has no holder that could die with it: it is a clock.
 *
 *        now            busy_until
 *   ------|------------------|----------> CLOCK_MONOTONIC
 *         '---- backlog -----'   submitted by all slices together, and by estimate not finished yet
 *
 * Work of cost c moves the clock to max(now, busy_until) + c. A slice may submit when the backlog leaves room for it within its quantum, and no waiting
 * slice has a lower order tag. `alone_until_ns`: until then the device belongs to one launch whose cost nobody knows yet; it is taken back when that is
 * measured, and runs out by itself. */
struct mica_token_region {
    struct mica_region_header header;
    MICA_ATOMIC_U64 busy_until_ns;
    MICA_ATOMIC_U64 alone_until_ns;
    MICA_ATOMIC_U64 last_record; /* 1 + record index of the slice that submitted last; 0: none yet */
    MICA_ATOMIC_U64 turn_ns;        /* device time submitted since that slice began its turn */
    MICA_ATOMIC_U64 turns;          /* how often the submitter changed */
    MICA_ATOMIC_U64 order_floor_ns; /* the order tag of the work submitted last: where a slice that was idle joins the order */
    MICA_ATOMIC_U64 waiters_high;   /* every entry in use is below it; it only grows */
    MICA_ATOMIC_U64 clean_from_ns;  /* when, by estimate, nothing is left on the device but the last submitter's work */
    MICA_ATOMIC_U64 brief_until_ns; /* when, by estimate, the last brief work of a slice within its share ends */
    MICA_ATOMIC_U64 hold;           /* see above; devices whose slices must not overlap only */
    MICA_ATOMIC_U64 prompt_ns;      /* CLOCK_MONOTONIC when such a program last asked for a device that must be held */
    MICA_ATOMIC_U64 kept_until_ns; /* until then the device is kept for the program that waits for what is on it, and comes back */
    MICA_ATOMIC_U64 kept_record;   /* 1 + record index of its slice */
    MICA_ATOMIC_U64 kept_tag_ns;   /* the order tag that its next work will have */
    /* Windows. Whoever owns the open one says in `owner_ns` until when it wants it: when it last asked to launch, or when by estimate its work ends. */
    MICA_ATOMIC_U64 owner_ns;
    MICA_ATOMIC_U64 switches;     /* how often a window's first work was timed */
    MICA_ATOMIC_U64 switch_ns;    /* mean of how long after its window opened the first work of a slice began that waited for it */
    MICA_ATOMIC_U64 switch_max_ns;
    MICA_ATOMIC_U64 late_ns;      /* mean of how long after its window's end a slice's last work was still there */
    MICA_ATOMIC_U64 late_max_ns;
    MICA_ATOMIC_U64 guard_ns;     /* mean of how much later than estimated that last work ended: so much before a window's end nothing is launched */
    MICA_ATOMIC_U64 firm_floor_ns; /* as order_floor_ns, of the slices that are not spot */
    uint64_t reserved[10];
    struct mica_token_waiter waiters[MICA_SLICES_MAX];
};

/* The one-way message of an attaching process to the enforcer's datagram socket, sent with SCM_CREDENTIALS. */
struct mica_attach_message {
    uint64_t magic;
    uint64_t layout_version;
    uint64_t owner; /* as in the slot */
    uint64_t slot;  /* MICA_PROCESSES_MAX: a process in hardware mode, which has no slot */
    uint64_t slice_id[MICA_ID_WORDS];
    uint64_t device_id[MICA_ID_WORDS];
};

#ifndef MICA_CFFI
static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free in shared memory");
static_assert(sizeof(MICA_ATOMIC_U64) == 8, "an atomic word must be a plain word");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "regions are little-endian");
static_assert(sizeof(struct mica_region_header) == 256, "header");
static_assert(offsetof(struct mica_region_header, device_id) == 32, "header.device_id");
static_assert(offsetof(struct mica_region_header, slice_id) == 96, "header.slice_id");
static_assert(offsetof(struct mica_region_header, boot_id) == 160, "header.boot_id");
static_assert(offsetof(struct mica_region_header, heartbeat_ns) == 200, "header.heartbeat_ns");
static_assert(sizeof(struct mica_slice_record) == 256, "a record is four cache lines");
static_assert(offsetof(struct mica_slice_record, state) == 72, "record.state");
static_assert(offsetof(struct mica_slice_record, vram_limit_bytes) == 112, "record.vram_limit_bytes");
static_assert(offsetof(struct mica_slice_record, copy_bytes_per_s) == 192, "record.copy_bytes_per_s");
static_assert(offsetof(struct mica_slice_record, spatial_ppm) == 216, "record.spatial_ppm");
static_assert(sizeof(struct mica_quota_region) == 256 + 256 * MICA_SLICES_MAX, "quota region");
static_assert(sizeof(struct mica_process_slot) == 128, "a slot is two cache lines");
static_assert(offsetof(struct mica_process_slot, virtual_time_ns) == 64, "slot: launches write the second line only");
static_assert(offsetof(struct mica_usage_region, processes) == 512, "usage.processes");
static_assert(sizeof(struct mica_usage_region) == 512 + 128 * MICA_PROCESSES_MAX, "usage region");
static_assert(offsetof(struct mica_token_region, waiters) == 512, "token.waiters");
static_assert(sizeof(struct mica_token_region) == 512 + 32 * MICA_SLICES_MAX, "token region");
static_assert(MICA_SLICES_MAX < 1 << MICA_HOLD_OWNER_BITS, "hold: an owner for each record");
#endif

#endif
