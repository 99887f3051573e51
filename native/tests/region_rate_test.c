/* SPDX-License-Identifier: Apache-2.0
 *
 * The arithmetic of rate and windows, and of a slice's processes among themselves, with given clocks.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "check.h"
#include "region.h"

#define NOW 1000000000000ULL

static struct mica_usage_region region;

static void reset(uint64_t virtual_time_ns)
{
    memset((void *)&region, 0, sizeof region);
    atomic_store(&region.virtual_time_ns, virtual_time_ns);
}

static struct mica_slice_limits share(uint64_t ceiling_ppm, uint64_t burst_ns)
{
    return (struct mica_slice_limits){.ceiling_ppm = ceiling_ppm, .burst_ns = burst_ns};
}

static void test_charge_is_cost_over_ceiling(void)
{
    struct mica_slice_limits limits = share(250000, 1000);
    reset(0);
    CHECK_EQUAL(mica_rate_admit(&region, &limits, 100, NOW), 0);
    CHECK_EQUAL(atomic_load(&region.virtual_time_ns), NOW + 400);
    CHECK_EQUAL(mica_rate_admit(&region, &limits, 100, NOW), 0);
    CHECK_EQUAL(mica_rate_admit(&region, &limits, 100, NOW), 0);
    CHECK_EQUAL(atomic_load(&region.virtual_time_ns), NOW + 1200);
    CHECK_EQUAL(mica_rate_admit(&region, &limits, 100, NOW), 200);
    CHECK_EQUAL(atomic_load(&region.virtual_time_ns), NOW + 1200); /* who waits is not charged */
    CHECK_EQUAL(mica_rate_admit(&region, &limits, 100, NOW + 199), 1);
    CHECK_EQUAL(mica_rate_admit(&region, &limits, 100, NOW + 200), 0);
}

static void test_idle_time_is_not_saved_up(void)
{
    struct mica_slice_limits limits = share(500000, 0);
    reset(5);
    CHECK_EQUAL(mica_rate_admit(&region, &limits, 10, NOW), 0);
    CHECK_EQUAL(atomic_load(&region.virtual_time_ns), NOW + 20);
    CHECK_EQUAL(mica_rate_admit(&region, &limits, 10, NOW), 20);
    CHECK_EQUAL(mica_rate_admit(&region, &limits, 10, NOW + 20), 0);
}

static void test_rate_over_time_is_the_ceiling(void)
{
    const uint64_t ceilings[] = {1, 999, 300000, 333333, 700000, 1000000};
    for (size_t i = 0; i < sizeof ceilings / sizeof ceilings[0]; i++) {
        struct mica_slice_limits limits = share(ceilings[i], 2000000);
        const uint64_t cost_ns = 12345;
        reset(0);
        uint64_t now_ns = NOW, used_ns = 0;
        for (int launches = 0; launches < 10000; launches++) {
            uint64_t wait_ns;
            while ((wait_ns = mica_rate_admit(&region, &limits, cost_ns, now_ns)) > 0)
                now_ns += wait_ns; /* waking exactly when told is enough: never a second wait for one launch */
            used_ns += cost_ns;
        }
        /* Used time is at most ceiling * (elapsed + burst) plus the one launch that may start at the horizon; and at least
         * ceiling * elapsed, less the rounding of one nanosecond a launch. */
        double allowed_ns = (double)ceilings[i] / 1e6 * (double)(now_ns - NOW + limits.burst_ns) + 2.0 * (double)cost_ns;
        double least_ns = (double)ceilings[i] / 1e6 * (double)(now_ns - NOW);
        CHECK((double)used_ns <= allowed_ns);
        CHECK((double)used_ns >= least_ns - 10000);
    }
}

static void test_extremes_do_not_wrap(void)
{
    struct mica_slice_limits limits = share(1, UINT64_MAX);
    reset(0);
    CHECK_EQUAL(mica_rate_admit(&region, &limits, UINT64_MAX, NOW), 0);
    CHECK(atomic_load(&region.virtual_time_ns) == UINT64_MAX);
    CHECK_EQUAL(mica_rate_admit(&region, &limits, 1, NOW), 0); /* burst without end */
    limits.burst_ns = 0;
    CHECK(mica_rate_admit(&region, &limits, 1, NOW) == UINT64_MAX - NOW);
    mica_rate_correct(&region, &limits, 0, UINT64_MAX);
    CHECK(atomic_load(&region.virtual_time_ns) == UINT64_MAX);
    mica_rate_correct(&region, &limits, UINT64_MAX, 0);
    CHECK_EQUAL(atomic_load(&region.virtual_time_ns), 0);

    limits = share(0, 1000000);
    reset(0);
    CHECK_EQUAL(mica_rate_admit(&region, &limits, 0, NOW), MICA_RATE_RECHECK_NS);
    mica_rate_correct(&region, &limits, 5, 6);
    CHECK_EQUAL(atomic_load(&region.virtual_time_ns), 0);
    CHECK_EQUAL(atomic_load(&region.gpu_ns), 6);
}

static void test_correction_goes_both_ways(void)
{
    struct mica_slice_limits limits = share(500000, 0);
    reset(NOW);
    mica_rate_correct(&region, &limits, 100, 150);
    CHECK_EQUAL(atomic_load(&region.virtual_time_ns), NOW + 100);
    mica_rate_correct(&region, &limits, 100, 70);
    CHECK_EQUAL(atomic_load(&region.virtual_time_ns), NOW + 40);
    mica_rate_correct(&region, &limits, 10, 10);
    CHECK_EQUAL(atomic_load(&region.virtual_time_ns), NOW + 40);
    CHECK_EQUAL(atomic_load(&region.gpu_ns), 230);
}

enum { RACERS = 4, ATTEMPTS = 5000 };
static struct mica_slice_limits race_limits;

static void *racer_run(void *admitted)
{
    for (int i = 0; i < ATTEMPTS; i++)
        *(int *)admitted += mica_rate_admit(&region, &race_limits, 100, NOW) == 0;
    return NULL;
}

static void test_racers_share_one_budget(void)
{
    race_limits = share(500000, 400000);
    reset(0);
    pthread_t racers[RACERS];
    int admitted[RACERS] = {0}, total = 0;
    for (int i = 0; i < RACERS; i++)
        CHECK_EQUAL(pthread_create(&racers[i], NULL, racer_run, &admitted[i]), 0);
    for (int i = 0; i < RACERS; i++) {
        pthread_join(racers[i], NULL);
        total += admitted[i];
    }
    CHECK_EQUAL(total, 400000 / 200 + 1); /* 200 ns each, from now up to and including the horizon */
    CHECK_EQUAL(atomic_load(&region.virtual_time_ns), NOW + 200 * (uint64_t)total);
}

static uint64_t window_wait(uint64_t offset, uint64_t length, uint64_t period, uint64_t cost, uint64_t now)
{
    struct mica_slice_limits limits = {.window_offset_ns = offset, .window_length_ns = length, .window_period_ns = period};
    return mica_window_wait(&limits, cost, now);
}

static void test_windows(void)
{
    CHECK_EQUAL(window_wait(0, 0, 0, 999, NOW), 0);         /* no window */
    CHECK_EQUAL(window_wait(300, 400, 1000, 10, 5300), 0);  /* opens */
    CHECK_EQUAL(window_wait(300, 400, 1000, 10, 5299), 1);  /* a moment before */
    CHECK_EQUAL(window_wait(300, 400, 1000, 10, 5690), 0);  /* just fits */
    CHECK_EQUAL(window_wait(300, 400, 1000, 10, 5691), 609); /* does not any more */
    CHECK_EQUAL(window_wait(300, 400, 1000, 0, 5699), 0);
    CHECK_EQUAL(window_wait(300, 400, 1000, 0, 5700), 600);
    CHECK_EQUAL(window_wait(800, 400, 1000, 10, 5100), 0);  /* across the period's end */
    CHECK_EQUAL(window_wait(800, 400, 1000, 10, 5200), 600);
    CHECK_EQUAL(window_wait(1300, 400, 1000, 10, 5300), 0); /* an offset beyond the period */
    CHECK_EQUAL(window_wait(300, 1000, 1000, 5000, 5000), 0); /* always open */
    CHECK_EQUAL(window_wait(300, 0, 1000, 0, 5300), 1000);  /* never open: asked again at every period */
    CHECK_EQUAL(window_wait(300, 400, 1000, 5000, 5300), 0);  /* longer than the window: at its beginning, an eighth of it */
    CHECK_EQUAL(window_wait(300, 400, 1000, 5000, 5350), 0);
    CHECK_EQUAL(window_wait(300, 400, 1000, 5000, 5351), 949);
    CHECK_EQUAL(window_wait(UINT64_MAX, UINT64_MAX - 1, UINT64_MAX, UINT64_MAX, UINT64_MAX), 0);
}

static void test_processes_share_by_weight(void)
{
    uint64_t used[2] = {0, 0};
    reset(0);
    atomic_store(&region.slots_high, 2);
    for (unsigned i = 0; i < 2; i++) {
        atomic_store(&region.processes[i].owner, MICA_OWNER_HELD | (i + 1));
        atomic_store(&region.processes[i].weight, i == 0 ? 300 : 100);
        mica_process_enter(&region, i, 0, NOW);
    }
    for (uint64_t at_ns = NOW; at_ns < NOW + 100000000; at_ns += 100000) {
        unsigned goes = mica_process_wait(&region, 0, 2000000, at_ns) ? 1 : 0;
        (void)mica_process_wait(&region, 1, 2000000, at_ns);
        mica_process_charge(&region, goes, 100000);
        used[goes] += 100000;
        mica_process_enter(&region, goes, 0, at_ns);
    }
    CHECK(used[0] > 70000000 && used[0] < 80000000); /* three quarters */
    atomic_store(&region.processes[0].waiting_ns, 1); /* stopped long ago */
    CHECK_EQUAL(mica_process_wait(&region, 1, 2000000, NOW + 200000000), 0);
}

int main(void)
{
    check_run(test_charge_is_cost_over_ceiling, "a launch is charged its cost over the ceiling, and waits exactly until it is within the burst");
    check_run(test_idle_time_is_not_saved_up, "time that a slice did not use is lost to it");
    check_run(test_rate_over_time_is_the_ceiling, "over time a slice uses its ceiling, plus at most the burst and one launch");
    check_run(test_extremes_do_not_wrap, "the largest and smallest amounts saturate instead of wrapping round");
    check_run(test_correction_goes_both_ways, "a correction moves the virtual time both ways and counts what was used");
    check_run(test_racers_share_one_budget, "threads that race for one budget get it exactly, whoever gets it");
    check_run(test_windows, "a window admits what still fits into it, and names the time until it opens again");
    check_run(test_processes_share_by_weight, "a slice's processes share by weight, and one that has stopped holds nobody up");
    return check_finish();
}
