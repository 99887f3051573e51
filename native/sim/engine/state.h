/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated node: everything that processes share, in one file ($MICA_SIM_DIR/engine.state) under one lock.
 *
 * Invariant: the accounts are the only truth about memory and the channels the only truth about work; totals of devices
 * and instances are derived from them, so that a process killed under the lock leaves nothing that sim_state_repair()
 * cannot compute again. A word that makes other words valid is written after them (SIM_STORE_ORDER). Where several words
 * change together there are two of each, and the last one written says which are meant (`clock`, `progress`).
 */
#ifndef MICA_SIM_STATE_H
#define MICA_SIM_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SIM_MAGIC 0x314d49534143494dULL /* "MICASIM1" */
#define SIM_VERSION 5

#define SIM_NAME_MAX 96
#define SIM_UUID_MAX 64
#define SIM_DEVICES_MAX 16
#define SIM_PROFILES_MAX 24
#define SIM_STARTS_MAX 16
#define SIM_INSTANCES_MAX 16 /* partitions (GPU instances) of a device; compute instances of a GPU instance are at most SIM_COMPUTE_MAX */
#define SIM_COMPUTE_MAX 8
#define SIM_PROCESSES_MAX 256
#define SIM_ACCOUNTS_MAX 16 /* devices or instances one process uses */
#define SIM_CHANNELS_MAX 256
#define SIM_RULES_MAX 64
#define SIM_RINGS_MAX 1024   /* lanes that were ever used, of all live channels */
#define SIM_QUEUE_DEPTH 1024 /* orders in flight per lane; the next one waits */
#define SIM_RING 2048        /* orders remembered: the queue, and as many that are done */
#define SIM_LINKS_MAX 256
#define SIM_FINDINGS_MAX 64    /* health events remembered */
#define SIM_SHARES_MAX 4096  /* memory of one process that another may map */
#define SIM_VNPU_FIRST 100   /* vNPUs of an Ascend chip are numbered from SIM_VNPU_FIRST + SIM_VNPU_STRIDE * chip */
#define SIM_VNPU_STRIDE 16
#define SIM_GRANULE (2ULL << 20)

/* Keeps the compiler from moving stores across: what was written before is there if the process is killed after. */
#define SIM_STORE_ORDER() atomic_signal_fence(memory_order_seq_cst)

/* --- What node.desc says; never changes ---------------------------------------------------------------------------- */

struct sim_profile {
    char name[32];
    uint32_t index;     /* NVML_GPU_INSTANCE_PROFILE_* */
    uint32_t id;        /* what nvidia-smi shows and nvmlDeviceCreateGpuInstance takes */
    uint32_t size;      /* memory slots */
    uint32_t compute_slices;
    uint32_t multiprocessors;
    uint32_t max_instances;
    uint32_t copy_engines;
    uint32_t decoders;
    uint32_t encoders;
    uint32_t jpegs;
    uint32_t ofas;
    uint32_t media_extensions;
    uint32_t auxiliary; /* what it takes of the device's `auxiliary` */
    uint32_t start_count;
    uint32_t starts[SIM_STARTS_MAX];
    uint64_t memory_bytes;
    char layout[24]; /* not empty: there as long as the whole device is laid out so; see partition.c */
    char shared[24]; /* what partitioned devices of one group have in common */
};

struct sim_description {
    char name[SIM_NAME_MAX];
    char uuid[SIM_UUID_MAX];
    char vendor[16];   /* nvidia, amd, intel, huawei, qualcomm: NVIDIA's come first */
    char key[32];      /* the catalogue's */
    char group[32];    /* a hive, a board */
    char layout[24];   /* at start; empty: whole */
    char serial[32];
    uint32_t pci_domain;
    uint32_t pci_bus;
    uint32_t pci_device;
    uint32_t pci_device_id;    /* device << 16 | vendor, as NVML has it */
    uint32_t pci_subsystem_id;
    uint64_t vram_bytes;    /* what NVML calls total */
    uint64_t reserve_bytes; /* of it, kept back by the driver */
    uint64_t bar1_bytes;
    uint64_t memory_bytes_per_s;
    uint32_t multiprocessors;
    uint32_t capability_major;
    uint32_t capability_minor;
    uint32_t warp_threads;
    uint32_t block_threads_max;
    uint32_t multiprocessor_threads_max;
    uint32_t multiprocessor_blocks_max;
    uint32_t multiprocessor_registers;
    uint32_t multiprocessor_shared_bytes;
    uint32_t block_shared_optin_bytes;
    uint32_t clock_khz;
    uint32_t memory_clock_khz;
    uint32_t memory_bus_bits;
    uint32_t l2_bytes;
    uint32_t power_limit_mw;
    uint32_t nvlinks;
    uint32_t numa_node;
    uint32_t pci_switch;  /* behind which PCIe switch of its NUMA node; 0: none */
    uint32_t mig_capable; /* partitions are made in a mode of their own, which is switched */
    uint32_t mig_at_start;
    uint32_t mig_reset;   /* switching that mode takes a reset */
    uint32_t carvable;    /* partitions are made without any such mode, while nobody uses the whole device */
    uint32_t memory_slots;
    uint32_t compute_slices;
    uint32_t auxiliary; /* what partitions share beside slots and compute slices: AI CPUs */
    uint32_t profile_count;
    struct sim_profile profiles[SIM_PROFILES_MAX];
};

/* What a kernel costs: see sim_kernel_cost_ns(). */
struct sim_kernel_rule {
    char glob[64];
    uint64_t block_ns;  /* each wave of blocks */
    uint64_t fixed_ns;  /* each launch, besides the node's launch_ns */
    uint64_t grid_ns;   /* each block, on the whole device: states a kernel's time by its grid */
    uint32_t noise_ppm; /* all of it varies by at most so much, up and down */
    uint32_t pad;
};

/* Two devices that reach each other without their host. */
struct sim_link {
    uint32_t a, b;
    uint32_t lanes;
    char kind[16];
    uint64_t bytes_per_s; /* each way, in all */
};

struct sim_node {
    char name[SIM_NAME_MAX];
    char driver_version[32];
    uint32_t cuda_version; /* 1000 * major + 10 * minor */
    uint32_t device_count;
    uint32_t nvidia_count; /* of them, the first ones */
    uint32_t link_count;
    uint32_t rule_count;
    uint32_t mps;               /* an MPS daemon listens at its usual place */
    uint64_t seed;              /* of all noise */
    uint64_t launch_ns;         /* fixed cost of a launch */
    uint64_t block_ns;          /* one wave of blocks of a kernel no rule names */
    uint64_t timeslice_ns;      /* a process keeps the device so long while others wait; 0: strictly in order of submission */
    uint64_t context_bytes, module_bytes; /* what a process's first context takes, and each module */
    uint64_t pcie_bytes_per_s;  /* each direction of each device; 0: copies to and from the host take no time */
    struct sim_kernel_rule rules[SIM_RULES_MAX];
    struct sim_link links[SIM_LINKS_MAX];
    struct sim_description devices[SIM_DEVICES_MAX];
};

/* --- What runs ------------------------------------------------------------------------------------------------------ */

/* What a process can have under way on a device side by side. Orders of one lane run one after another, as submitted. */
enum sim_lane_number {
    SIM_LANE_COMPUTE = 0,
    SIM_LANE_URGENT = 1, /* kernels of streams of higher priority: before the process's others */
    SIM_LANE_TO_DEVICE = 2,
    SIM_LANE_TO_HOST = 3,
    SIM_LANE_ON_DEVICE = 4,
    SIM_LANE_PARTS = 5, /* this one and what follows: parts of the multiprocessors */
    SIM_LANES = 16,
};
#define SIM_COPY_LANES (1u << SIM_LANE_TO_DEVICE | 1u << SIM_LANE_TO_HOST | 1u << SIM_LANE_ON_DEVICE)
#define SIM_ENGINES 3 /* copy engines: one for each of the three copy lanes */

#define SIM_TURN_NOBODY (-1)
#define SIM_TURN_MPS (-2) /* all clients of MPS together */

/* A device, or a compute instance: whose work it does at what time. */
struct sim_timeline {
    uint64_t clock;       /* decided up to clock >> 1; the lowest bit says which busy_ns is meant */
    uint64_t busy_ns[2];  /* how long at least one kernel ran */
    uint64_t turn_end_ns; /* of the time slice */
    int32_t turn;         /* the channel whose time slice it is, or SIM_TURN_* */
    int32_t engine[SIM_ENGINES]; /* the channel whose copy is under way, or -1 */
    uint64_t sample_ns[2]; /* utilisation: two marks, the older is the window's start */
    uint64_t sample_busy_ns[2];
    uint32_t member_count;
    uint16_t members[SIM_CHANNELS_MAX];
};

struct sim_compute_instance {
    uint32_t live;
    uint32_t id;
    uint32_t profile; /* NVML_COMPUTE_INSTANCE_PROFILE_* */
    uint32_t compute_slices;
    uint32_t start;
    uint32_t multiprocessors;
    char uuid[SIM_UUID_MAX];
    struct sim_timeline timeline;
};

#define SIM_HOLDER_GONE (-1)

struct sim_gpu_instance {
    uint32_t live;
    uint32_t id;
    uint32_t profile; /* index into the description's profiles */
    uint32_t start;
    int32_t holder; /* the process it lives as long as: its index plus one, or SIM_HOLDER_GONE; 0: it stays */
    uint32_t pad;
    uint64_t spent_bytes;
    struct sim_compute_instance compute[SIM_COMPUTE_MAX];
};

/* Counters of a device outlive the processes that caused them. */
struct sim_totals {
    uint64_t launches;  /* this and the next three: of processes that are gone; live ones are added when read */
    uint64_t kernel_ns;
    uint64_t multiprocessor_ns;
    uint64_t copy_ns;
    uint64_t allocations;
    uint64_t refusals;
    uint64_t spent_peak_bytes;
};

/* How well a device is: what tests and people set, for the vendors' libraries to tell. */
struct sim_health {
    uint32_t lost;          /* fallen off the bus */
    uint32_t hang_ms;       /* every call about it takes so long */
    uint32_t temperature_c; /* 0: by how busy it is */
    uint32_t refusals;      /* so many more partitions are refused */
    uint32_t no_permission; /* who asks may not change the device */
    uint32_t remap_pending; /* memory that failed is replaced at the next reset */
    uint32_t remap_failed;  /* and can not be replaced */
    uint32_t clock_reasons; /* why its clocks are low, in the vendor's bits */
    uint64_t ecc_corrected, ecc_uncorrected; /* since the last reset */
};

struct sim_finding {
    uint64_t number; /* from 1 */
    uint64_t at_ns;
    uint32_t device;
    uint32_t code;
    char kind[16];
};

struct sim_device {
    uint32_t mig_enabled;
    uint32_t mig_pending;  /* what a reset makes of that */
    uint32_t layout;       /* index of a profile of it, plus one; 0: none */
    uint32_t layout_pending; /* what loading the driver again makes of that, for its whole group; 0: nothing */
    struct sim_health health;
    uint64_t spent_bytes; /* outside of MIG; granules and contexts */
    struct sim_totals totals;
    struct sim_timeline timeline;
    struct sim_gpu_instance instances[SIM_INSTANCES_MAX];
};

/* A kernel or a copy. */
struct sim_order {
    uint64_t submit_ns;
    uint64_t cost_ns;
    uint64_t sum_ns;                /* cost of all orders of this lane up to and with this one */
    uint64_t sum_multiprocessor_ns; /* the same, each times its multiprocessors */
    uint64_t end_ns;                /* valid once completed */
    uint32_t multiprocessors;       /* that it can use */
    uint32_t after_lanes;           /* bits of the lanes it waits for */
    uint32_t after[SIM_LANES];      /* low words of the orders' numbers there */
};

struct sim_ring {
    struct sim_order orders[SIM_RING];
};

/* Order n (from 1) lies at n % SIM_RING. `submitted` is written by the process alone, without the lock; the rest is
 * written under the lock. */
struct sim_lane {
    uint32_t ring; /* index + 1, 0 before the first order */
    uint32_t pad;
    uint64_t submitted;
    uint64_t completed;
    uint64_t started;  /* the order that `left` is about */
    uint64_t progress; /* progress >> 1: when `left` was right; the lowest bit says which one is meant */
    uint64_t left[2];  /* in units of ns / SIM_FRACTION at full speed */
};
#define SIM_FRACTION 1024ULL

/* The orders of one process on one device. */
struct sim_channel {
    uint32_t live;
    int32_t process;
    int32_t device;
    int32_t gpu_instance;     /* -1: the whole device */
    int32_t compute_instance; /* -1 likewise */
    uint32_t mps;             /* of a client of MPS */
    uint32_t lanes_used;      /* bits */
    uint32_t parts;           /* bits of the lanes from SIM_LANE_PARTS that are taken */
    struct sim_lane lanes[SIM_LANES];
};

/* What one process did on one device or instance. */
struct sim_account {
    uint32_t live;
    int32_t device;
    int32_t gpu_instance;
    int32_t compute_instance;
    int32_t channel;
    uint32_t contexts;
    char uuid[SIM_UUID_MAX]; /* of the device or the MIG instance */
    uint64_t requested_bytes;
    uint64_t requested_peak_bytes;
    uint64_t granule_bytes;
    uint64_t granule_peak_bytes;
    uint64_t context_bytes; /* of its contexts and modules */
    uint64_t allocations;
    uint64_t refusals;
    uint64_t limit_bytes; /* of granules and contexts, for a client of MPS; 0: none */
    uint64_t away_requested_bytes; /* this and the next three: what a checkpoint took away and a restore puts back */
    uint64_t away_granule_bytes;
    uint64_t away_context_bytes;
    uint32_t away_contexts;
    uint32_t pad;
    uint64_t launches;    /* this and the rest: of a process that is gone; a live one's are in its channel */
    uint64_t completed;
    uint64_t kernel_ns;
    uint64_t multiprocessor_ns;
    uint64_t copies;
    uint64_t copy_ns;
};

/* Whether a process may use its devices; CUprocessState has the same numbers. */
enum sim_stage { SIM_STAGE_RUNNING = 0, SIM_STAGE_LOCKED = 1, SIM_STAGE_CHECKPOINTED = 2, SIM_STAGE_FAILED = 3 };
enum sim_step { SIM_STEP_LOCK, SIM_STEP_CHECKPOINT, SIM_STEP_RESTORE, SIM_STEP_UNLOCK };
#define SIM_STEPS_KEPT 8 /* results remembered, for who asked and has not looked yet */

/* What another process asked of this one; see suspend.c. Its own thread does it, one after another. */
struct sim_desk {
    uint32_t stage;
    int32_t thread;    /* that thread, as its own pid namespace knows it; 0: there is none */
    uint32_t asked;    /* number of the newest step that was asked for */
    uint32_t taken;    /* of the newest one it began, or that was withdrawn before */
    uint32_t answered; /* of the newest one that is over */
    uint32_t step;     /* enum sim_step, of `asked` */
    uint64_t until_ns; /* a lock is given up then; 0: never */
    int32_t results[SIM_STEPS_KEPT]; /* of step n at n % SIM_STEPS_KEPT; what they mean is the driver's */
};

enum sim_process_state { SIM_PROCESS_FREE = 0, SIM_PROCESS_LIVE = 1, SIM_PROCESS_EXITED = 2 };

/* A process is alive while it holds the byte lock of its slot (the kernel drops it at death, in any pid namespace), or
 * while its pid with its start time is there in our own namespace. */
struct sim_process {
    uint32_t state;
    int32_t pid; /* as it sees itself */
    uint64_t start_ticks;
    uint64_t pid_namespace; /* inode */
    uint64_t since_ns;
    uint64_t exited_ns;
    uint32_t mps;              /* a client of MPS */
    uint32_t threads_percent;  /* of every device, for a client of MPS; 0: all */
    char command[32];
    struct sim_desk desk;
    struct sim_account accounts[SIM_ACCOUNTS_MAX];
    uint64_t holds[SIM_SHARES_MAX / 64]; /* a bit for each shared memory it holds */
};

/* Memory that other processes may map; see share.c. */
struct sim_share {
    uint32_t live;
    int32_t owner; /* process: who pays for shared memory, whose exported memory is */
    int32_t device;
    int32_t gpu_instance;
    int32_t compute_instance;
    int32_t fd;        /* of the contents, in the process that made it */
    int32_t owner_pid; /* in answers only: as the asking process knows it, 0 for itself */
    uint32_t kind;     /* for whoever makes and opens it */
    uint64_t id;       /* never used twice */
    uint64_t offset;   /* of the contents in that file */
    uint64_t bytes;
    uint64_t file_inode;
    uint64_t requested_bytes; /* charged; exported memory is charged in its owner's account instead */
    uint64_t granule_bytes;
};

struct sim_state {
    uint64_t magic;
    uint64_t version;
    uint64_t size_bytes;
    pthread_mutex_t lock;
    uint64_t repairs; /* how often a process died under the lock */
    uint64_t serial;  /* numbers partitions, for their uuids */
    uint64_t boots;   /* how often the node was rebooted */
    uint64_t finding_count; /* ever; finding n lies at n % SIM_FINDINGS_MAX */
    struct sim_finding findings[SIM_FINDINGS_MAX];
    struct sim_node node;
    struct sim_device devices[SIM_DEVICES_MAX];
    struct sim_process processes[SIM_PROCESSES_MAX];
    struct sim_channel channels[SIM_CHANNELS_MAX];
    uint32_t ring_taken[SIM_RINGS_MAX]; /* derived: live channels' lanes say which ring is whose */
    struct sim_ring rings[SIM_RINGS_MAX];
    struct sim_share shares[SIM_SHARES_MAX];
};

#endif
