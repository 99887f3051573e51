/* SPDX-License-Identifier: Apache-2.0
 *
 * A slice on a device of the simulated driver, for programs that are killed in it.
 */
#ifndef MICA_CHAOS_NODE_H
#define MICA_CHAOS_NODE_H

#include "../shim/tests/bench_slice.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

#define GRANULE_BYTES (2ULL << 20)
#define LIMIT_BYTES (48ULL << 20)
#define HELD_BYTES (5 * GRANULE_BYTES) /* by the survivor, always */

/* Shared by the harness and the survivor, by a file of that name in the runtime directory. */
#define QUIET_FILE "/quiet"
struct quiet {
    _Atomic int wanted;    /* the harness wants to look */
    _Atomic int is_quiet;  /* the survivor holds HELD_BYTES and nothing else, and does nothing */
    _Atomic unsigned long rounds;
};

static inline int chaos_node_describe(void)
{
    static const char text[] = "node chaos\ndriver_version 580.95.05\ncuda_version 13000\nlaunch_ns 2000\nblock_ns 20000\ntimeslice_ns 2000000\n"
                               "context_bytes 0\nmodule_bytes 65536\ndevice\nname NVIDIA L4\nvendor nvidia\nuuid " BENCH_DEVICE "\nserial 1\npci_bus 1\n"
                               "pci_device_id 0x27b810de\nvram_bytes 25769803776\nreserve_bytes 536870912\nbar1_bytes 34359738368\n"
                               "memory_bytes_per_s 300000000000\nmultiprocessors 58\ncapability_major 8\ncapability_minor 9\nwarp_threads 32\n"
                               "block_threads_max 1024\nmultiprocessor_threads_max 1536\nmultiprocessor_blocks_max 24\n"
                               "multiprocessor_registers 65536\nmultiprocessor_shared_bytes 102400\nblock_shared_optin_bytes 101376\n"
                               "clock_khz 2040000\nmemory_clock_khz 6251000\nmemory_bus_bits 192\nl2_bytes 50331648\npower_limit_mw 72000\n";
    FILE *file = fopen(bench_path("/node.desc"), "w");
    bool written = file != NULL && fputs(text, file) >= 0;
    return file != NULL && fclose(file) == 0 && written ? 0 : -1;
}

/* The slice with its device's token, taking turns; and the node. Programs started from now on find both. */
static inline int chaos_node_make(void)
{
    if (bench_slice_make(LIMIT_BYTES) != 0) {
        return -1;
    }
    struct mica_slice_limits limits = bench_slice_limits(LIMIT_BYTES);
    limits.quantum_ns = 2000000;
    mica_region_create(bench_path("/devices/" BENCH_DEVICE "/token"), MICA_REGION_TOKEN, BENCH_DEVICE, NULL, 0666);
    bench_slice_put(&limits);
    bench_slice_enter();
    setenv("MICA_SIM_DIR", bench_dir, 1);
    return chaos_node_describe();
}

/* A copy of the slice's words. */
static inline const struct mica_usage_region *chaos_slice_read(void)
{
    static struct mica_usage_region usage;
    int fd = open(bench_usage_path(), O_RDONLY);
    mica_usage_pread(fd, &usage);
    close(fd);
    return &usage;
}

static inline bool chaos_slot_is_held(const struct mica_usage_region *usage, unsigned slot)
{
    return (atomic_load(&usage->processes[slot].owner) & MICA_OWNER_HELD) != 0;
}

/* Reclaim every slot but that of the process `living` (0: of none): the others' owners are dead. */
static inline void chaos_slice_reclaim(pid_t living)
{
    const struct mica_usage_region *usage = chaos_slice_read();
    int fd = open(bench_usage_path(), O_RDWR);
    for (unsigned i = 0; i < MICA_PROCESSES_MAX; i++) {
        uint64_t owner = atomic_load(&usage->processes[i].owner);
        if (chaos_slot_is_held(usage, i) && (owner & ((1ULL << MICA_OWNER_PID_BITS) - 1)) != (uint64_t)living) {
            mica_slot_reclaim(fd, i, owner);
        }
    }
    close(fd);
}

static inline uint64_t chaos_random_below(uint64_t *state, uint64_t bound)
{
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (*state >> 33) % bound;
}

#endif
