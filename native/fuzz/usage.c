/* SPDX-License-Identifier: Apache-2.0
 *
 * The usage region, which every process of the slice may write: whatever its words, slots are claimed, memory is charged and given back, services read it and
 * reclaim, and everybody comes to an end.
 */
#define _GNU_SOURCE
#include "damaged.h"

#define OWNER (MICA_OWNER_HELD | 77)
#define LIMIT_BYTES (1ULL << 30)

#ifdef BROKEN_TRUSTS_SLOTS_HIGH /* a sum over as many slots as the region says there are */
static uint64_t sum(const struct mica_usage_region *usage)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < atomic_load(&usage->slots_high); i++) {
        bytes += atomic_load(&usage->processes[i].vram_word);
    }
    return bytes;
}
#else
static uint64_t sum(const struct mica_usage_region *usage)
{
    return mica_charge_sum(usage, MICA_MEMORY_VRAM);
}
#endif

static void take_part(struct mica_usage_region *usage, const unsigned char *doing, size_t count)
{
    struct mica_charge charge = {0};
    int slot = mica_slot_claim(usage, OWNER);
    if (slot < 0) {
        return;
    }
    for (size_t i = 0; i < count && i < 8; i++) {
        enum mica_memory_kind kind = doing[i] & 1 ? MICA_MEMORY_PINNED : MICA_MEMORY_VRAM;
        uint64_t bytes = doing[i] & 2 ? UINT64_MAX : (uint64_t)doing[i] << 20;
        if (charge.bytes == 0) {
            (void)mica_charge_make(usage, (unsigned)slot, kind, bytes, LIMIT_BYTES, &charge);
        } else {
            mica_charge_refund(usage, (unsigned)slot, &charge);
        }
        mica_process_enter(usage, (unsigned)slot, i % 3 ? 0 : i * 7, i);
        (void)mica_process_wait(usage, (unsigned)slot, 2000000, i);
        mica_process_charge(usage, (unsigned)slot, bytes);
    }
    (void)sum(usage);
    mica_slot_release(usage, (unsigned)slot, OWNER);
}

int LLVMFuzzerTestOneInput(const unsigned char *input, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *input, size_t size)
{
    static struct damaged damaged;
    static struct mica_usage_region copy;
    const unsigned char *rest;
    void *region = NULL;
    size_t left = damaged_patch(&damaged, MICA_REGION_USAGE, input, size, &rest);
    if (mica_region_map(damaged.path, MICA_REGION_USAGE, true, &region) == MICA_REGION_OK) {
        take_part(region, rest, left);
        mica_region_unmap(region, MICA_REGION_USAGE);
    }
    if (mica_usage_pread(damaged.fd, &copy) == MICA_REGION_OK) {
        for (unsigned i = 0; i < MICA_PROCESSES_MAX; i++) {
            (void)mica_slot_reclaim(damaged.fd, i, atomic_load(&copy.processes[i].owner));
        }
    }
    return 0;
}
