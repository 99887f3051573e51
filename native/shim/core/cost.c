/* SPDX-License-Identifier: Apache-2.0 */
#include "cost.h"

#define ENTRIES 4096 /* 128 KiB of zero pages, of which a process touches what it uses */
#define PROBES 8
/* How fast a longer measurement raises the estimate: by 1/4096 of the estimate each, so about 12 % a second at one sample per 2 ms. A
 * neighbour that keeps the device busy for seconds cannot make this slice's work look dear. */
#define RISE_SHIFT 12

static struct mica_cost table[ENTRIES];

static uint64_t key_of(uint64_t function, uint64_t volume)
{
    uint64_t key = (function ^ (volume * 0x9e3779b97f4a7c15ULL)) * 0xbf58476d1ce4e5b9ULL;
    key ^= key >> 31;
    return key != 0 ? key : 1;
}

/* Give the place of some other work to this. A launch that is charged to it at the same moment charges one wrong estimate once. */
static struct mica_cost *evict(struct mica_cost *cost, uint64_t key)
{
    atomic_store_explicit(&cost->key, key, memory_order_relaxed);
    atomic_store_explicit(&cost->estimate_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&cost->unsettled, 0, memory_order_relaxed);
    atomic_store_explicit(&cost->begun, 0, memory_order_relaxed);
    atomic_store_explicit(&cost->done, 0, memory_order_relaxed);
    return cost;
}

struct mica_cost *mica_cost_find(uint64_t function, uint64_t volume)
{
    uint64_t key = key_of(function, volume);
    for (unsigned probe = 0; probe < PROBES; probe++) {
        struct mica_cost *cost = &table[(key + probe) % ENTRIES];
        uint64_t found = atomic_load_explicit(&cost->key, memory_order_relaxed);
        if (found == key) {
            return cost;
        }
        if (found == 0) {
            if (atomic_compare_exchange_strong_explicit(&cost->key, &found, key, memory_order_relaxed, memory_order_relaxed) || found == key) {
                return cost;
            }
        }
    }
    return evict(&table[key % ENTRIES], key);
}

uint64_t mica_cost_estimate(const struct mica_cost *cost)
{
    uint64_t estimate = atomic_load_explicit(&cost->estimate_ns, memory_order_relaxed);
    return estimate != 0 ? estimate : MICA_COST_UNKNOWN_NS;
}

void mica_cost_charged(struct mica_cost *cost)
{
    atomic_fetch_add_explicit(&cost->unsettled, 1, memory_order_relaxed);
}

void mica_cost_uncharged(struct mica_cost *cost)
{
    uint64_t launches = atomic_load_explicit(&cost->unsettled, memory_order_relaxed);
    while (launches != 0 &&
           !atomic_compare_exchange_weak_explicit(&cost->unsettled, &launches, launches - 1, memory_order_relaxed, memory_order_relaxed)) {
    }
}

bool mica_cost_claim(struct mica_cost *cost)
{
    if (atomic_load_explicit(&cost->begun, memory_order_relaxed) >= MICA_COST_LEARNING) {
        return false;
    }
    atomic_fetch_add_explicit(&cost->begun, 1, memory_order_relaxed);
    return true;
}

void mica_cost_unclaim(struct mica_cost *cost)
{
    uint32_t begun = atomic_load_explicit(&cost->begun, memory_order_relaxed);
    while (begun != 0 && !atomic_compare_exchange_weak_explicit(&cost->begun, &begun, begun - 1, memory_order_relaxed, memory_order_relaxed)) {
    }
}

static uint64_t next_estimate(uint64_t estimate, uint64_t measured, bool is_new)
{
    if (estimate == 0 || measured <= estimate) {
        return measured;
    }
    uint64_t rise = is_new ? 0 : (estimate >> RISE_SHIFT) + 1;
    return estimate + (rise < measured - estimate ? rise : measured - estimate);
}

struct mica_settlement mica_cost_measured(struct mica_cost *cost, uint64_t measured_ns)
{
    bool is_new = atomic_fetch_add_explicit(&cost->done, 1, memory_order_relaxed) < MICA_COST_LEARNING;
    uint64_t before = atomic_load_explicit(&cost->estimate_ns, memory_order_relaxed);
    uint64_t after;
    do {
        after = next_estimate(before, measured_ns != 0 ? measured_ns : 1, is_new);
    } while (!atomic_compare_exchange_weak_explicit(&cost->estimate_ns, &before, after, memory_order_relaxed, memory_order_relaxed));
    /* While the kernel is new every step of the estimate moves all its launches' charges. Later only those since the last measurement: what
     * a kernel costs may change, and what it cost an hour ago is not to be charged again. */
    uint64_t launches = is_new ? atomic_load_explicit(&cost->unsettled, memory_order_relaxed)
                               : atomic_exchange_explicit(&cost->unsettled, 0, memory_order_relaxed);
    uint64_t charged = before != 0 ? before : MICA_COST_UNKNOWN_NS;
    return (struct mica_settlement){.charged_ns = launches * charged, .actual_ns = launches * after};
}
