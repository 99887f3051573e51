/* SPDX-License-Identifier: Apache-2.0
 *
 * Compute: one virtual time per slice.
 *
 * The virtual time T is the theoretical arrival time of the generic cell rate algorithm (ITU-T I.371, annex A). Work of
 * cost c takes c * 1e6 / ceiling_ppm of it:
 *
 *        now                T            now + burst
 *   ------|-----------------|-----------------|------> CLOCK_MONOTONIC
 *         '---- debt -------'     T at most here: launch, and T += c * 1e6 / ceiling_ppm
 *
 * T is a single word and publishes nothing else, so that every access is relaxed: the modification order of one
 * atomic object is all that the compare-and-sets below rely on.
 */
#include "region.h"

/* cost_ns * 1e6 / ceiling_ppm, saturated. `ceiling_ppm` > 0. */
static uint64_t virtual_cost_ns(uint64_t cost_ns, uint64_t ceiling_ppm)
{
    unsigned __int128 cost = (unsigned __int128)cost_ns * MICA_PPM / ceiling_ppm;
    return cost > UINT64_MAX ? UINT64_MAX : (uint64_t)cost;
}

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

uint64_t mica_rate_admit(struct mica_usage_region *region, const struct mica_slice_limits *limits, uint64_t cost_ns, uint64_t now_ns)
{
    if (limits->ceiling_ppm == 0)
        return MICA_RATE_RECHECK_NS;
    return mica_cell_admit(&region->virtual_time_ns, virtual_cost_ns(cost_ns, limits->ceiling_ppm), limits->burst_ns, now_ns);
}

void mica_rate_correct(struct mica_usage_region *region, const struct mica_slice_limits *limits, uint64_t charged_ns, uint64_t actual_ns)
{
    atomic_fetch_add_explicit(&region->gpu_ns, actual_ns, memory_order_relaxed);
    if (limits->ceiling_ppm == 0 || charged_ns == actual_ns)
        return;
    bool more = actual_ns > charged_ns;
    uint64_t by_ns = virtual_cost_ns(more ? actual_ns - charged_ns : charged_ns - actual_ns, limits->ceiling_ppm);
    uint64_t time_ns = atomic_load_explicit(&region->virtual_time_ns, memory_order_relaxed);
    uint64_t next_ns;
    do
        next_ns = more ? add_saturated(time_ns, by_ns) : time_ns > by_ns ? time_ns - by_ns : 0;
    while (!atomic_compare_exchange_weak_explicit(&region->virtual_time_ns, &time_ns, next_ns, memory_order_relaxed,
                                                  memory_order_relaxed));
}

uint64_t mica_rate_wait(const struct mica_usage_region *region, const struct mica_slice_limits *limits, uint64_t now_ns)
{
    if (limits->ceiling_ppm == 0)
        return MICA_RATE_RECHECK_NS;
    uint64_t horizon_ns = add_saturated(now_ns, limits->burst_ns);
    uint64_t time_ns = atomic_load_explicit(&region->virtual_time_ns, memory_order_relaxed);
    return time_ns > horizon_ns ? time_ns - horizon_ns : 0;
}

void mica_rate_charge(struct mica_usage_region *region, const struct mica_slice_limits *limits, uint64_t cost_ns)
{
    if (limits->ceiling_ppm == 0)
        return;
    uint64_t charge_ns = virtual_cost_ns(cost_ns, limits->ceiling_ppm);
    uint64_t time_ns = atomic_load_explicit(&region->virtual_time_ns, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&region->virtual_time_ns, &time_ns, add_saturated(time_ns, charge_ns), memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

uint64_t mica_rate_take(struct mica_usage_region *region, const struct mica_slice_limits *limits, uint64_t cost_ns, uint64_t now_ns)
{
    if (limits->ceiling_ppm == 0)
        return MICA_RATE_RECHECK_NS;
    uint64_t horizon_ns = add_saturated(now_ns, limits->burst_ns);
    uint64_t charge_ns = virtual_cost_ns(cost_ns, limits->ceiling_ppm);
    uint64_t time_ns = atomic_load_explicit(&region->virtual_time_ns, memory_order_relaxed);
    do {
        if (time_ns > horizon_ns)
            return time_ns - horizon_ns;
    } while (!atomic_compare_exchange_weak_explicit(&region->virtual_time_ns, &time_ns, add_saturated(time_ns, charge_ns), memory_order_relaxed,
                                                    memory_order_relaxed));
    return 0;
}

uint64_t mica_cell_admit(MICA_ATOMIC_U64 *word, uint64_t charge_ns, uint64_t burst_ns, uint64_t now_ns)
{
    uint64_t horizon_ns = add_saturated(now_ns, burst_ns);
    uint64_t time_ns = atomic_load_explicit(word, memory_order_relaxed);
    for (;;) {
        uint64_t arrival_ns = time_ns > now_ns ? time_ns : now_ns;
        if (arrival_ns > horizon_ns)
            return arrival_ns - horizon_ns;
        if (atomic_compare_exchange_weak_explicit(word, &time_ns, add_saturated(arrival_ns, charge_ns), memory_order_relaxed, memory_order_relaxed))
            return 0;
    }
}
