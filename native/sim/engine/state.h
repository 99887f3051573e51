/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated node: everything that processes share, in one file ($MICA_SIM_DIR/engine.state) under one lock.
 *
 * Invariant: the accounts are the only truth about memory and the channels the only truth about work; totals of devices
 * and instances are derived from them, so that a process killed under the lock leaves nothing that sim_state_repair()
 * cannot compute again. A word that makes other words valid is written after them (SIM_STORE_ORDER).
 */
#ifndef MICA_SIM_STATE_H
#define MICA_SIM_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SIM_MAGIC 0x314d49534143494dULL /* "MICASIM1" */
#define SIM_VERSION 1

#define SIM_NAME_MAX 96
#define SIM_UUID_MAX 48
#define SIM_DEVICES_MAX 16
#define SIM_PROFILES_MAX 8
#define SIM_STARTS_MAX 12
#define SIM_INSTANCES_MAX 12 /* GPU instances of a device; compute instances of a GPU instance are at most SIM_COMPUTE_MAX */
#define SIM_COMPUTE_MAX 8
#define SIM_PROCESSES_MAX 256
#define SIM_ACCOUNTS_MAX 16 /* devices or instances one process uses */
#define SIM_CHANNELS_MAX 256
#define SIM_RULES_MAX 64
#define SIM_QUEUE_DEPTH 1024 /* launches in flight per process and device; the next one waits */
#define SIM_RING 2048        /* launches remembered: the queue, and as many that are done */
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
    uint32_t start_count;
    uint32_t starts[SIM_STARTS_MAX];
    uint64_t memory_bytes;
};

struct sim_description {
    char name[SIM_NAME_MAX];
    char uuid[SIM_UUID_MAX];
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
    uint32_t mig_capable;
    uint32_t mig_at_start;
    uint32_t memory_slots;
    uint32_t compute_slices;
    uint32_t profile_count;
    struct sim_profile profiles[SIM_PROFILES_MAX];
};

struct sim_kernel_rule {
    char glob[64];
    uint64_t block_ns;
};

struct sim_node {
    char name[SIM_NAME_MAX];
    char driver_version[32];
    uint32_t cuda_version; /* 1000 * major + 10 * minor */
    uint32_t device_count;
    uint32_t rule_count;
    uint64_t launch_ns;    /* fixed cost of a launch */
    uint64_t block_ns;     /* one block of a kernel no rule names */
    uint64_t timeslice_ns; /* a process keeps the device so long while others wait; 0: strictly in order of submission */
    uint64_t context_bytes;
    struct sim_kernel_rule rules[SIM_RULES_MAX];
    struct sim_description devices[SIM_DEVICES_MAX];
};

/* --- What runs ------------------------------------------------------------------------------------------------------ */

/* Whose kernels a device, or a compute instance, executes, one at a time. */
struct sim_timeline {
    uint64_t clock_ns;   /* decided up to here */
    uint64_t busy_ns;    /* sum of finished kernels */
    uint64_t turn_ns;    /* how much of its time slice the current channel has had */
    int32_t current;     /* channel whose turn it is, or -1 */
    int32_t running;     /* channel whose kernel is on the device, or -1 */
    uint64_t running_start_ns;
    uint64_t running_end_ns;
    uint64_t running_sequence;
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

struct sim_gpu_instance {
    uint32_t live;
    uint32_t id;
    uint32_t profile; /* index into the description's profiles */
    uint32_t start;
    uint64_t spent_bytes;
    struct sim_compute_instance compute[SIM_COMPUTE_MAX];
};

/* Counters of a device outlive the processes that caused them. */
struct sim_totals {
    uint64_t launches;
    uint64_t kernel_ns; /* of processes that are gone; live ones are added when read */
    uint64_t allocations;
    uint64_t refusals;
    uint64_t spent_peak_bytes;
};

struct sim_device {
    uint32_t mig_enabled;
    uint64_t spent_bytes; /* outside of MIG; granules and contexts */
    struct sim_totals totals;
    struct sim_timeline timeline;
    struct sim_gpu_instance instances[SIM_INSTANCES_MAX];
};

struct sim_launch {
    uint64_t submit_ns;
    uint64_t cost_ns;
    uint64_t sum_ns; /* cost of all launches of this channel up to and with this one */
    uint64_t end_ns; /* valid once completed */
};

/* The launches of one process on one device: a ring in order of submission. Launch n (from 1) lies at n % SIM_RING. */
struct sim_channel {
    uint32_t live;
    int32_t process;
    int32_t device;
    int32_t gpu_instance;     /* -1: the whole device */
    int32_t compute_instance; /* -1 likewise */
    uint64_t submitted;
    uint64_t completed;
    struct sim_launch ring[SIM_RING];
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
    uint64_t context_bytes;
    uint64_t allocations;
    uint64_t refusals;
    uint64_t launches;
    uint64_t completed;
    uint64_t kernel_ns;
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
    char command[32];
    struct sim_account accounts[SIM_ACCOUNTS_MAX];
};

struct sim_state {
    uint64_t magic;
    uint64_t version;
    uint64_t size_bytes;
    pthread_mutex_t lock;
    uint64_t repairs; /* how often a process died under the lock */
    uint64_t serial;  /* numbers MIG instances, for their uuids */
    struct sim_node node;
    struct sim_device devices[SIM_DEVICES_MAX];
    struct sim_process processes[SIM_PROCESSES_MAX];
    struct sim_channel channels[SIM_CHANNELS_MAX];
};

#endif
