/* SPDX-License-Identifier: Apache-2.0 */
#include "cost.h"

#include <stddef.h>

#define ENTRIES 4096 /* 256 KiB of zero pages, of which a process touches what it uses */
#define PROBES 8
#define KNOWN_AFTER 2 /* trusted measurements: the first launch of a kernel may have loaded it */
#define TRIES_MAX 4
#define AVERAGE_SHIFT 2 /* a trusted measurement moves the estimate by a quarter of the difference */
/* How fast an untrusted longer measurement raises the estimate where none can be trusted: by 1/4096 of the estimate each, so about 12 % a second at
 * one sample per 2 ms. A neighbour that keeps the device busy for seconds cannot make this slice's work look dear. */
#define RISE_SHIFT 12
/* Work that is charged this much without a trusted measurement is measured alone again; an empty device costs about a thousandth of it. */
#define RECHECK_NS 2000000000ULL
/* Work whose time varies, one of whose times was wrong, or that seems to have become dearer, is measured again sooner: after so much, but not more often than
 * every so many launches. Others wait for one kernel each time, which so stays outside the 99th percentile of what they wait for. */
#define RECHECK_VARIES_NS (RECHECK_NS / 16)
#define RECHECK_LAUNCHES 100
#define NEAR_SHIFT 3 /* an eighth of the estimate is near it */
#define ABOVE_MAX 16

static struct mica_cost table[ENTRIES];

static uint64_t get(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void set(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

/* Give the place of some other work to this. A launch that is charged to it at the same moment charges one wrong estimate once. */
static struct mica_cost *evict(struct mica_cost *cost, uint64_t key)
{
    set(&cost->key, key);
    set(&cost->estimate_ns, 0);
    set(&cost->lowest_ns, 0);
    set(&cost->unsettled, 0);
    set(&cost->charged_ns, 0);
    atomic_store_explicit(&cost->trusted, 0, memory_order_relaxed);
    atomic_store_explicit(&cost->tries, 0, memory_order_relaxed);
    atomic_store_explicit(&cost->above, 0, memory_order_relaxed);
    return cost;
}

struct mica_cost *mica_cost_find(uint64_t key)
{
    for (unsigned probe = 0; probe < PROBES; probe++) {
        struct mica_cost *cost = &table[(key + probe) % ENTRIES];
        uint64_t found = get(&cost->key);
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
    uint64_t estimate = get(&cost->estimate_ns);
    return estimate != 0 ? estimate : MICA_COST_UNKNOWN_NS;
}

bool mica_cost_is_unknown(const struct mica_cost *cost)
{
    return get(&cost->estimate_ns) == 0;
}

void mica_cost_assume(struct mica_cost *cost, uint64_t estimate_ns)
{
    uint64_t none = 0;
    if (estimate_ns != 0 && atomic_compare_exchange_strong_explicit(&cost->estimate_ns, &none, estimate_ns, memory_order_relaxed, memory_order_relaxed)) {
        atomic_store_explicit(&cost->trusted, 1, memory_order_relaxed);
    }
}

static uint64_t launches_ns(uint64_t estimate_ns)
{
    return estimate_ns < RECHECK_NS / RECHECK_LAUNCHES ? estimate_ns * RECHECK_LAUNCHES : RECHECK_NS;
}

bool mica_cost_wants_alone(const struct mica_cost *cost)
{
    uint64_t charged_ns = get(&cost->charged_ns);
    if (atomic_load_explicit(&cost->tries, memory_order_relaxed) >= TRIES_MAX) {
        return false; /* it never ends in time: a persistent kernel, or a stream that waits for the host */
    }
    bool is_dearer = atomic_load_explicit(&cost->above, memory_order_relaxed) > ABOVE_MAX && charged_ns >= launches_ns(get(&cost->estimate_ns));
    return atomic_load_explicit(&cost->trusted, memory_order_relaxed) < KNOWN_AFTER || charged_ns > RECHECK_NS || is_dearer;
}

void mica_cost_tries_alone(struct mica_cost *cost)
{
    atomic_fetch_add_explicit(&cost->tries, 1, memory_order_relaxed);
}

void mica_cost_charged(struct mica_cost *cost, uint64_t charged_ns)
{
    if (get(&cost->estimate_ns) == 0) {
        atomic_fetch_add_explicit(&cost->unsettled, 1, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&cost->charged_ns, charged_ns, memory_order_relaxed);
}

void mica_cost_uncharged(struct mica_cost *cost)
{
    uint64_t launches = get(&cost->unsettled);
    while (launches != 0 &&
           !atomic_compare_exchange_weak_explicit(&cost->unsettled, &launches, launches - 1, memory_order_relaxed, memory_order_relaxed)) {
    }
}

static bool is_near(uint64_t estimate, uint64_t measured)
{
    return (measured > estimate ? measured - estimate : estimate - measured) <= estimate >> NEAR_SHIFT;
}

static uint64_t averaged(uint64_t estimate, uint64_t measured)
{
    return measured > estimate ? estimate + ((measured - estimate + 3) >> AVERAGE_SHIFT) : estimate - ((estimate - measured + 3) >> AVERAGE_SHIFT);
}

static uint64_t next_trusted(uint64_t estimate, uint64_t measured, uint32_t before)
{
    return estimate == 0 || before < KNOWN_AFTER ? measured : averaged(estimate, measured);
}

static uint64_t next_untrusted(const struct mica_cost *cost, uint64_t estimate, uint64_t measured, bool shared)
{
    uint64_t lowest = get(&cost->lowest_ns);
    if (estimate == 0 || measured < (lowest != 0 ? lowest : estimate)) {
        return measured;
    }
    if (!shared || measured <= estimate) {
        return estimate;
    }
    uint64_t rise = (estimate >> RISE_SHIFT) + 1;
    return estimate + (rise < measured - estimate ? rise : measured - estimate);
}

static void note_trusted(struct mica_cost *cost, uint64_t estimate_ns, uint64_t measured_ns)
{
    uint64_t lowest = get(&cost->lowest_ns);
    if (lowest == 0 || measured_ns < lowest) {
        set(&cost->lowest_ns, measured_ns);
    } else {
        set(&cost->lowest_ns, lowest + ((measured_ns - lowest) >> 4)); /* forget a low that does not come again */
    }
    uint64_t again_ns = launches_ns(measured_ns) > RECHECK_VARIES_NS ? launches_ns(measured_ns) : RECHECK_VARIES_NS;
    set(&cost->charged_ns, is_near(estimate_ns, measured_ns) ? 0 : RECHECK_NS - again_ns);
    atomic_store_explicit(&cost->tries, 0, memory_order_relaxed);
    atomic_store_explicit(&cost->above, 0, memory_order_relaxed);
}

static void note_untrusted(struct mica_cost *cost, uint64_t estimate_ns, uint64_t measured_ns)
{
    if (measured_ns > estimate_ns + estimate_ns / 4) {
        atomic_fetch_add_explicit(&cost->above, 1, memory_order_relaxed);
    } else {
        atomic_store_explicit(&cost->above, 0, memory_order_relaxed);
    }
}

struct mica_settlement mica_cost_measured(struct mica_cost *cost, uint64_t measured_ns, enum mica_trust trust, bool shared)
{
    bool trusted = trust == MICA_TRUST_FULL;
    uint64_t measured = measured_ns != 0 ? measured_ns : 1;
    uint32_t known = trusted ? atomic_fetch_add_explicit(&cost->trusted, 1, memory_order_relaxed) : 0;
    uint64_t before = get(&cost->estimate_ns);
    uint64_t after;
    do {
        bool refines = trust == MICA_TRUST_NEAR && is_near(before, measured);
        after = trusted ? next_trusted(before, measured, known) : refines ? averaged(before, measured) : next_untrusted(cost, before, measured, shared);
    } while (!atomic_compare_exchange_weak_explicit(&cost->estimate_ns, &before, after, memory_order_relaxed, memory_order_relaxed));
    if (trusted) {
        note_trusted(cost, before, measured);
    } else if (before != 0) {
        note_untrusted(cost, before, measured);
    }
    uint64_t launches = atomic_exchange_explicit(&cost->unsettled, 0, memory_order_relaxed);
    return (struct mica_settlement){.charged_ns = launches * MICA_COST_UNKNOWN_NS, .actual_ns = launches * after};
}
