/* SPDX-License-Identifier: Apache-2.0
 *
 * Device memory: reserved before the driver is asked. The process slots' memory words are the only truth.
 *
 * A charge is added to the own slot as pending, all held slots are summed, and it is then settled or rolled back.
 *
 * Never too much. Adding, claiming a slot and every load of a sum are seq_cst, so that there is one order of them all.
 * Take the charges that hold memory at some instant, and of these the one that was added last. Its sum came after
 * every one of them was added, and none had been given back: it counted them all, and found them within the limit. With
 * less than seq_cst, two racers could each miss the other's addition (store buffering), as in Dekker's algorithm.
 *
 * Never refused without cause. A sum is not an instant, and it includes charges that are about to be rolled back. So a
 * refusal needs two readings in a row of all the words that are equal, with nothing pending but the own charge: each
 * change of a word changes its version, so that between the readings there was an instant at which all of these
 * words stood together. At that instant what others held for good left no room. So of two racers of which
 * exactly one fits, that one is not refused: while the other is pending it waits, and after that there is room.
 *
 * Most charges fit, and nobody is in the way. So an asker adds without looking when what the others held at its process's last sum would
 * leave room, and adds up again only once. That changes neither argument: an addition that was in vain leaves a sum without room, so that
 * its process looks before it adds again.
 *
 * A process that has its slice to itself needs none of this: its word is the sum, so that one compare-and-set both looks and adds, for good. That it
 * has is said by the word itself: whoever claims another slot marks the words of all held slots as shared before it charges anything (slot.c), and a
 * compare-and-set that expects no mark fails from then on. At the moment of one that succeeds, others hold nothing. The mark stays until the slot is claimed
 * again: a process that has the slice to itself again goes on adding up.
 *
 * Racers that are in each other's way cannot go round for ever: the one in the lowest slot (within a slot: the one that found
 * nothing pending there) keeps its charge and waits for the others, and all others roll back and look without adding
 * until they see room or a cause to refuse. The first of them always gets its answer. A racer that was killed or
 * stopped while pending is waited for with patience of MICA_CHARGE_PATIENCE_NS, and its charge counts as held.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "region.h"

#define PENDING_ONE (1ULL << MICA_MEMORY_BYTES_BITS)
#define PENDING_MAX ((1ULL << MICA_MEMORY_PENDING_BITS) - 1)
#define VERSION_ONE (MICA_MEMORY_SHARED << 1) /* wraps at the top of the word */
#define SPINS_BEFORE_YIELD 16

struct ask {
    struct mica_usage_region *region;
    unsigned slot;
    enum mica_memory_kind kind;
    uint64_t bytes;
    uint64_t limit_bytes;
    uint64_t deadline_ns; /* 0: nothing was in the way so far */
    unsigned rounds;
};

/* One sum over all the words: what others and the asker hold together. */
struct sum {
    uint64_t bytes;  /* at most 64 * 2^48, no overflow */
    uint64_t others; /* the same without the asker's slot */
    bool held;       /* the asker's slot is held by somebody: else nothing in it counts */
    bool pending;    /* a charge other than the asker's is pending ... */
    bool senior;     /* ... and one of these goes first */
};

/* The words of a sum, 0 where a slot is not held. */
struct reading {
    uint64_t words[MICA_PROCESSES_MAX];
};

uint64_t mica_word_bytes(uint64_t word)
{
    return word & MICA_MEMORY_BYTES_MAX;
}

static MICA_ATOMIC_U64 *slot_word(struct mica_process_slot *slot, enum mica_memory_kind kind)
{
    return kind == MICA_MEMORY_PINNED ? &slot->pinned_word : &slot->vram_word;
}

static bool slot_is_held(const struct mica_process_slot *slot)
{
    return (atomic_load_explicit(&slot->owner, memory_order_seq_cst) & MICA_OWNER_HELD) != 0;
}

/* Slots that may be held; the rest never were. */
static unsigned slots_high(const struct mica_usage_region *region)
{
    /* seq_cst: with high_raise in slot.c; a slot that is held in the one order of all claims and sums lies below. The bound is for a word
     * that its tenant has damaged. */
    uint64_t high = atomic_load_explicit(&region->slots_high, memory_order_seq_cst);
    return high < MICA_PROCESSES_MAX ? (unsigned)high : MICA_PROCESSES_MAX;
}

static uint64_t pending_count(uint64_t word)
{
    return word >> MICA_MEMORY_BYTES_BITS & PENDING_MAX;
}

/* `mine`: how many pending charges of the slot are the asker's, 0 or 1. `first`: it found nothing pending there. `reading`: NULL, or where
 * the words go. */
static inline struct sum words_read(const struct ask *ask, uint64_t mine, bool first, struct reading *reading)
{
    struct sum out = {.bytes = 0};
    unsigned high = slots_high(ask->region);
    if (reading != NULL)
        memset(reading, 0, sizeof *reading);
    for (unsigned i = 0; i < high; i++) {
        struct mica_process_slot *slot = &ask->region->processes[i];
        /* seq_cst: with the additions in word_add and the claim in slot.c, see above. The acquire half pairs with the
         * release in word_lower: memory that is seen as given back was freed by the driver before. */
        uint64_t word = 0;
        bool held = slot_is_held(slot);
        out.held |= held && i == ask->slot;
        if (held)
            word = atomic_load_explicit(slot_word(slot, ask->kind), memory_order_seq_cst);
        if (reading != NULL)
            reading->words[i] = word;
        out.bytes += mica_word_bytes(word);
        out.others += i == ask->slot ? 0 : mica_word_bytes(word);
        if (pending_count(word) > (i == ask->slot ? mine : 0)) {
            out.pending = true;
            out.senior |= i < ask->slot || (i == ask->slot && !first);
        }
    }
    return out;
}

/* Add the ask's bytes to its word as pending. 0, -EAGAIN when too many are pending there, or -EOVERFLOW. */
static int word_add(const struct ask *ask, bool *first)
{
    MICA_ATOMIC_U64 *word = slot_word(&ask->region->processes[ask->slot], ask->kind);
    uint64_t seen = atomic_load_explicit(word, memory_order_relaxed);
    do {
        if (pending_count(seen) == PENDING_MAX)
            return -EAGAIN;
        if (ask->bytes > MICA_MEMORY_BYTES_MAX - mica_word_bytes(seen))
            return -EOVERFLOW;
        *first = pending_count(seen) == 0;
        /* seq_cst: before this asker's sum in the one order of all additions and sums, see above. */
    } while (!atomic_compare_exchange_weak_explicit(word, &seen, seen + VERSION_ONE + PENDING_ONE + ask->bytes, memory_order_seq_cst,
                                                    memory_order_relaxed));
    return 0;
}

/* Take bytes and pending charges out of a word; returns what it became. A word that was cleared meanwhile (a slot reclaimed too early)
 * stays at zero instead of wrapping round. */
static uint64_t word_lower(MICA_ATOMIC_U64 *word, uint64_t bytes, uint64_t pending)
{
    uint64_t seen = atomic_load_explicit(word, memory_order_relaxed);
    uint64_t next;
    do {
        uint64_t held = mica_word_bytes(seen);
        uint64_t count = pending_count(seen);
        next = seen - held - count * PENDING_ONE + VERSION_ONE;
        next += held > bytes ? held - bytes : 0;
        next += (count > pending ? count - pending : 0) * PENDING_ONE;
        /* Release: pairs with the loads in words_read; what the driver freed is free before the books say so. */
    } while (!atomic_compare_exchange_weak_explicit(word, &seen, next, memory_order_release, memory_order_relaxed));
    return next;
}

/* Let others go on. False when patience is at its end. */
static bool wait_a_little(struct ask *ask)
{
    uint64_t now_ns = mica_monotonic_ns();
    if (ask->deadline_ns == 0)
        ask->deadline_ns = now_ns + MICA_CHARGE_PATIENCE_NS;
    if (++ask->rounds > SPINS_BEFORE_YIELD)
        sched_yield();
    return now_ns < ask->deadline_ns;
}

static void peak_raise(MICA_ATOMIC_U64 *peak, uint64_t bytes)
{
    /* Relaxed: a statistic of one word. */
    uint64_t seen = atomic_load_explicit(peak, memory_order_relaxed);
    while (seen < bytes && !atomic_compare_exchange_weak_explicit(peak, &seen, bytes, memory_order_relaxed, memory_order_relaxed))
        ;
}

static void charge_settle(const struct ask *ask, const struct sum *sum)
{
    struct mica_process_slot *slot = &ask->region->processes[ask->slot];
    uint64_t word = word_lower(slot_word(slot, ask->kind), 0, 1);
    if (ask->kind != MICA_MEMORY_VRAM)
        return;
    peak_raise(&slot->vram_peak_bytes, mica_word_bytes(word));
    peak_raise(&ask->region->vram_peak_bytes, sum->bytes);
}

/* What a reading that is over the limit, with nothing pending, is worth: true when it stood at one instant. */
static bool reading_stands(const struct ask *ask, uint64_t mine, bool first, const struct reading *reading)
{
    struct reading again;
    (void)words_read(ask, mine, first, &again);
    return memcmp(reading->words, again.words, sizeof again.words) == 0;
}

static bool fits(uint64_t held_bytes, uint64_t bytes, uint64_t limit_bytes)
{
    return held_bytes <= limit_bytes && bytes <= limit_bytes - held_bytes;
}

/* Relaxed, here and below: a guess, whose only reader decides nothing by it but whether to look first. */
static void others_note(const struct ask *ask, const struct sum *sum)
{
    if (ask->kind == MICA_MEMORY_VRAM)
        atomic_store_explicit(&ask->region->processes[ask->slot].others_bytes, sum->others, memory_order_relaxed);
}

/* Would there be room, if the others held what they held when this process last added up? */
static bool room_likely(const struct ask *ask)
{
    const struct mica_process_slot *slot = &ask->region->processes[ask->slot];
    uint64_t guess = atomic_load_explicit(&slot->others_bytes, memory_order_relaxed);
    uint64_t own = mica_word_bytes(atomic_load_explicit(&slot->vram_word, memory_order_relaxed));
    return ask->kind == MICA_MEMORY_VRAM && guess <= ask->limit_bytes && fits(own, ask->bytes, ask->limit_bytes - guess);
}

/* Look without adding. 0: there is room, try. -ENOMEM: refused. -EAGAIN: somebody is in the way. */
static int room_look(const struct ask *ask)
{
    struct reading reading;
    struct sum sum = words_read(ask, 0, true, &reading);
    others_note(ask, &sum);
    if (!sum.held)
        return -ESTALE;
    if (fits(sum.bytes, ask->bytes, ask->limit_bytes))
        return 0;
    return sum.pending || !reading_stands(ask, 0, true, &reading) ? -EAGAIN : -ENOMEM;
}

/* The charge is added, and its first sum was over the limit. As charge_try. */
static int charge_contend(struct ask *ask, bool first)
{
    int rc;
    for (;;) {
        struct reading reading;
        struct sum sum = words_read(ask, 1, first, &reading);
        if (sum.bytes <= ask->limit_bytes) {
            charge_settle(ask, &sum);
            return 0;
        }
        if (sum.senior)
            rc = -EAGAIN;
        else if (!sum.pending && reading_stands(ask, 1, first, &reading))
            rc = -ENOMEM;
        else if (wait_a_little(ask))
            continue;
        else
            rc = -ENOMEM;
        others_note(ask, &sum);
        word_lower(slot_word(&ask->region->processes[ask->slot], ask->kind), ask->bytes, 1);
        return rc;
    }
}

/* Add, sum, and settle or roll back. 0: charged. -ENOMEM: refused. -EAGAIN: rolled back for the sake of another. */
static int charge_try(struct ask *ask)
{
    bool first = false;
    int rc = word_add(ask, &first);
    if (rc < 0)
        return rc;
    struct sum sum = words_read(ask, 1, first, NULL);
    if (!sum.held) {
        word_lower(slot_word(&ask->region->processes[ask->slot], ask->kind), ask->bytes, 1);
        return -ESTALE;
    }
    if (sum.bytes > ask->limit_bytes)
        return charge_contend(ask, first);
    others_note(ask, &sum);
    charge_settle(ask, &sum);
    return 0;
}

/* Charge by one compare-and-set, if the slice is the asker's alone and there is room. False: nothing is charged, and nothing is known. */
static inline bool charge_alone(struct mica_usage_region *region, struct mica_process_slot *slot, enum mica_memory_kind kind, uint64_t bytes,
                                uint64_t limit_bytes)
{
    MICA_ATOMIC_U64 *word = slot_word(slot, kind);
    uint64_t seen = atomic_load_explicit(word, memory_order_relaxed);
    uint64_t held_bytes;
    do {
        held_bytes = mica_word_bytes(seen);
        if ((seen & MICA_MEMORY_SHARED) || !fits(held_bytes, bytes, limit_bytes < MICA_MEMORY_BYTES_MAX ? limit_bytes : MICA_MEMORY_BYTES_MAX))
            return false;
        /* seq_cst: before or after each mark and each sum in the one order of all, see above. */
    } while (!atomic_compare_exchange_weak_explicit(word, &seen, seen + VERSION_ONE + bytes, memory_order_seq_cst, memory_order_relaxed));
    if (!slot_is_held(slot)) {
        word_lower(word, bytes, 0);
        return false;
    }
    if (kind == MICA_MEMORY_VRAM) {
        peak_raise(&slot->vram_peak_bytes, held_bytes + bytes);
        peak_raise(&region->vram_peak_bytes, held_bytes + bytes);
    }
    return true;
}

/* Charge where others may hold something, or there may be no room. Apart from mica_charge_make, which is short without it. */
static __attribute__((noinline)) int charge_among(struct ask ask)
{
    int rc = room_likely(&ask) ? charge_try(&ask) : -EAGAIN;
    while (rc == -EAGAIN) {
        rc = room_look(&ask);
        if (rc == 0)
            rc = charge_try(&ask);
        if (rc == -EAGAIN && !wait_a_little(&ask))
            break;
    }
    if (rc == -EAGAIN)
        rc = -ENOMEM;
    if (rc == -ENOMEM)
        atomic_fetch_add_explicit(&ask.region->refusals, 1, memory_order_relaxed); /* a statistic */
    return rc;
}

int mica_charge_make(struct mica_usage_region *region, unsigned slot, enum mica_memory_kind kind, uint64_t bytes, uint64_t limit_bytes,
                     struct mica_charge *out)
{
    if (slot >= MICA_PROCESSES_MAX)
        return -EINVAL;
    out->bytes = 0;
    out->kind = kind;
    if (bytes == 0)
        return 0;
    if (bytes > MICA_MEMORY_BYTES_MAX)
        return -EOVERFLOW;
    int rc = 0;
    if (!charge_alone(region, &region->processes[slot], kind, bytes, limit_bytes))
        rc = charge_among((struct ask){.region = region, .slot = slot, .kind = kind, .bytes = bytes, .limit_bytes = limit_bytes});
    if (rc == 0)
        out->bytes = bytes;
    return rc;
}

void mica_charge_refund(struct mica_usage_region *region, unsigned slot, struct mica_charge *charge)
{
    if (slot >= MICA_PROCESSES_MAX || charge->bytes == 0)
        return;
    word_lower(slot_word(&region->processes[slot], (enum mica_memory_kind)charge->kind), charge->bytes, 0);
    charge->bytes = 0;
}

uint64_t mica_charge_sum(const struct mica_usage_region *region, enum mica_memory_kind kind)
{
    uint64_t bytes = 0;
    unsigned high = slots_high(region);
    for (unsigned i = 0; i < high; i++) {
        const struct mica_process_slot *slot = &region->processes[i];
        /* Acquire: pairs with the release in word_lower, as in words_read; a figure to show needs no common order. */
        if (atomic_load_explicit(&slot->owner, memory_order_acquire) & MICA_OWNER_HELD)
            bytes += mica_word_bytes(atomic_load_explicit(kind == MICA_MEMORY_PINNED ? &slot->pinned_word : &slot->vram_word, memory_order_acquire));
    }
    return bytes;
}
