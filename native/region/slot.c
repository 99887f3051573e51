/* SPDX-License-Identifier: Apache-2.0
 *
 * Process slots: claimed and released by their processes, reclaimed by a service through the file.
 *
 * Invariant: a slot is free only when its memory words hold nothing; so an amount is cleared before HELD is, on every path.
 * Invariant: of two slots that are held, once both claims are done, the words of both say that they are shared.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "region.h"

#define HELD_BYTE 7 /* of the little-endian owner word: bits 63..56 */

static void slot_clear(struct mica_process_slot *slot)
{
    /* seq_cst: takes part in the order that vram.c argues with. */
    atomic_store_explicit(&slot->vram_word, 0, memory_order_seq_cst);
    atomic_store_explicit(&slot->pinned_word, 0, memory_order_seq_cst);
    atomic_store_explicit(&slot->vram_peak_bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->others_bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->deadline_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->stuck_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->gpu_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->launches, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->inflight, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->last_seen_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->virtual_time_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->weight, MICA_WEIGHT_DEFAULT, memory_order_relaxed);
    atomic_store_explicit(&slot->waiting_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->throttled_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->copied_bytes, 0, memory_order_relaxed);
}

/* Before the slot is held: whoever adds up the slots below `slots_high` must not miss a held one. */
static void high_raise(struct mica_usage_region *region, uint64_t above)
{
    uint64_t seen = atomic_load_explicit(&region->slots_high, memory_order_relaxed);
    /* seq_cst: takes part in the order that vram.c argues with, before the claim that follows. */
    while (seen < above && !atomic_compare_exchange_weak_explicit(&region->slots_high, &seen, above, memory_order_seq_cst, memory_order_relaxed))
        ;
}

static void word_share(MICA_ATOMIC_U64 *word)
{
    /* seq_cst: takes part in the order that vram.c argues with. */
    if ((atomic_load_explicit(word, memory_order_seq_cst) & MICA_MEMORY_SHARED) == 0)
        atomic_fetch_or_explicit(word, MICA_MEMORY_SHARED, memory_order_seq_cst);
}

static void slot_share(struct mica_process_slot *slot)
{
    word_share(&slot->vram_word);
    word_share(&slot->pinned_word);
}

/* The slot is held and cleared. Of two that are claimed at once, at least one looks after the other was held, and it marks both; a mark that the other's
 * clearing takes away again was made before the other looks. */
static void slots_share(struct mica_usage_region *region, unsigned own)
{
    uint64_t high = atomic_load_explicit(&region->slots_high, memory_order_seq_cst);
    bool is_shared = false;
    for (unsigned i = 0; i < high && i < MICA_PROCESSES_MAX; i++) {
        if (i != own && (atomic_load_explicit(&region->processes[i].owner, memory_order_seq_cst) & MICA_OWNER_HELD)) {
            slot_share(&region->processes[i]);
            is_shared = true;
        }
    }
    if (is_shared)
        slot_share(&region->processes[own]);
}

int mica_slot_claim(struct mica_usage_region *region, uint64_t owner)
{
    for (unsigned i = 0; i < MICA_PROCESSES_MAX; i++) {
        struct mica_process_slot *slot = &region->processes[i];
        uint64_t seen = atomic_load_explicit(&slot->owner, memory_order_relaxed);
        if (seen & MICA_OWNER_HELD)
            continue;
        high_raise(region, i + 1);
        /* seq_cst: whoever sums the slots without this one did so before it was held (see vram.c); its acquire half
         * pairs with the release in mica_slot_release, so that the clearing below is not undone by the former owner's. */
        if (atomic_compare_exchange_strong_explicit(&slot->owner, &seen, owner | MICA_OWNER_HELD, memory_order_seq_cst,
                                                    memory_order_relaxed)) {
            slot_clear(slot); /* in case a former owner's last thread wrote after the release */
            slots_share(region, i);
            return (int)i;
        }
    }
    return -ENOSPC;
}

void mica_slot_release(struct mica_usage_region *region, unsigned slot_index, uint64_t owner)
{
    if (slot_index >= MICA_PROCESSES_MAX)
        return;
    struct mica_process_slot *slot = &region->processes[slot_index];
    uint64_t expected = owner | MICA_OWNER_HELD;
    /* Relaxed: only the owner itself releases, and it wrote this word. A forked child finds a word that is not its own. */
    if (atomic_load_explicit(&slot->owner, memory_order_relaxed) != expected)
        return;
    slot_clear(slot);
    /* Release: pairs with the compare-and-set in mica_slot_claim. */
    atomic_compare_exchange_strong_explicit(&slot->owner, &expected, expected & ~MICA_OWNER_HELD, memory_order_release,
                                            memory_order_relaxed);
}

static ssize_t pread_whole(int fd, void *out, size_t size, off_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(fd, (char *)out + done, size - done, offset + (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static int pwrite_whole(int fd, const void *data, size_t size, off_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t wrote = pwrite(fd, (const char *)data + done, size - done, offset + (off_t)done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return -errno;
        done += (size_t)wrote;
    }
    return 0;
}

static int region_pread(int fd, void *out, size_t size, uint64_t kind)
{
    char boot_id[37];
    int rc = mica_boot_id(boot_id);
    if (rc < 0)
        return rc;
    memset(out, 0, size);
    ssize_t got = pread_whole(fd, out, size, 0);
    if (got < 0)
        return (int)got;
    return mica_region_check(out, (uint64_t)got, kind, boot_id);
}

int mica_usage_pread(int fd, struct mica_usage_region *out)
{
    return region_pread(fd, (void *)out, sizeof *out, MICA_REGION_USAGE);
}

int mica_token_pread(int fd, struct mica_token_region *out)
{
    return region_pread(fd, (void *)out, sizeof *out, MICA_REGION_TOKEN);
}

/* The words that follow the owner, all zero. No atomics are needed: their only other writer is dead, and whoever sums
 * the slots meanwhile reads some mixture of the old bytes of a word and zeros, which is never more than was held. */
int mica_slot_reclaim(int fd, unsigned slot, uint64_t owner)
{
    if (slot >= MICA_PROCESSES_MAX)
        return -EINVAL;
    off_t at = (off_t)(offsetof(struct mica_usage_region, processes) + slot * sizeof(struct mica_process_slot));
    uint64_t seen = 0;
    ssize_t got = pread_whole(fd, &seen, sizeof seen, at);
    if (got < 0)
        return (int)got;
    if (got < (ssize_t)sizeof seen || seen != (owner | MICA_OWNER_HELD))
        return 0;
    /* The file may have been truncated by its tenant: never make it longer again, it would hide the defect. */
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (status.st_size < (off_t)sizeof(struct mica_usage_region))
        return -EIO;
    static const char zeros[sizeof(struct mica_process_slot) - sizeof(uint64_t)];
    int rc = pwrite_whole(fd, zeros, sizeof zeros, at + (off_t)sizeof(uint64_t));
    if (rc == 0)
        rc = pwrite_whole(fd, zeros, 1, at + HELD_BYTE); /* last: from here on another process may claim the slot */
    return rc < 0 ? rc : 1;
}
