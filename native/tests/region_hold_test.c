/* SPDX-License-Identifier: Apache-2.0
 *
 * Devices that would run several slices' work at once: who may put work there, what becomes of it when its slice ends, lives on or is stopped, and that two slices'
 * work never is there together, also when threads race. The order itself is tested with the clock. No time passes but in the race.
 */
#define _GNU_SOURCE
#include "check.h"
#include "region.h"

#include <pthread.h>
#include <sched.h>

#define NOW 1000000000000ULL
#define MS 1000000ULL
#define QUANTUM (2 * MS)
#define SLICES 3
#define RACE_WORKS 3000
#define LOOKS 5 /* while its work is there */

static struct mica_token_region token;
static struct mica_usage_region usages[SLICES];

static void reset(void)
{
    memset((void *)&token, 0, sizeof token);
    memset((void *)usages, 0, sizeof usages);
    for (unsigned i = 0; i < SLICES; i++) {
        atomic_store(&usages[i].slots_high, 1);
        atomic_store(&usages[i].processes[0].owner, MICA_OWNER_HELD | 1);
    }
}

static struct mica_hold_ask ask_of(uint64_t record, uint64_t tag_ns, uint64_t cost_ns)
{
    return (struct mica_hold_ask){.ask = {.record = record, .tag_ns = tag_ns, .cost_ns = cost_ns, .quantum_ns = QUANTUM}, .usage = &usages[record]};
}

static uint64_t admit(uint64_t record, uint64_t tag_ns, uint64_t cost_ns, uint64_t now_ns)
{
    struct mica_hold_ask ask = ask_of(record, tag_ns, cost_ns);
    return mica_hold_admit(&token, &ask, now_ns);
}

/* The slice's work is over, and seen to be. */
static int end(uint64_t record, uint64_t stays_ns, uint64_t now_ns)
{
    atomic_fetch_sub(&usages[record].processes[0].inflight, 1);
    return mica_hold_leave(&token, &usages[record], record, stays_ns, now_ns);
}

static void test_others_wait_until_the_last_end_is_seen(void)
{
    reset();
    CHECK_EQUAL(admit(0, 0, MS / 8, NOW), 0);
    CHECK_EQUAL(admit(0, 0, MS / 8, NOW), 0);
    CHECK(admit(1, 0, MS, NOW + 1) > 0);
    CHECK(admit(1, 0, MS, NOW + 20 * MS) > 0); /* long after it should have ended */
    CHECK_EQUAL(end(0, 0, NOW + 20 * MS), -1);
    CHECK(admit(1, 0, MS, NOW + 20 * MS) > 0);
    CHECK_EQUAL(end(0, 0, NOW + 21 * MS), 1); /* whom to wake */
    CHECK_EQUAL(admit(1, 0, MS, NOW + 21 * MS), 0);
    CHECK_EQUAL(atomic_load(&usages[1].processes[0].inflight), 1);
    CHECK(admit(0, 0, MS, NOW + 21 * MS) > 0);
}

static void test_refused_work_is_counted_nowhere(void)
{
    reset();
    CHECK_EQUAL(admit(0, 0, MS, NOW), 0);
    CHECK(admit(1, 0, MS, NOW) > 0);
    CHECK_EQUAL(atomic_load(&usages[1].processes[0].inflight), 0);
    struct mica_hold_ask full = ask_of(0, 0, MS / 4);
    full.inflight_max = 1;
    CHECK(mica_hold_admit(&token, &full, NOW) > 0);
    mica_token_leave(&token, &full.ask);
    CHECK_EQUAL(atomic_load(&usages[0].processes[0].inflight), 1);
    CHECK_EQUAL(end(0, 0, NOW + MS), 1);
    CHECK_EQUAL(admit(1, 0, MS, NOW + MS), 0);
}

static void test_a_dead_holders_time_runs_out(void)
{
    reset();
    CHECK_EQUAL(admit(0, 0, 500 * MS, NOW), 0);
    CHECK(admit(1, 0, MS, NOW + MICA_HOLD_NS - MS) > 0);
    CHECK_EQUAL(admit(1, 0, MS, NOW + MICA_HOLD_NS), 0);
    CHECK(!mica_hold_renew(&token, 0, NOW + MICA_HOLD_NS)); /* too late: it is another's */
    CHECK_EQUAL(end(0, 0, NOW + MICA_HOLD_NS), -1);
    CHECK(admit(2, 0, MS, NOW + MICA_HOLD_NS) > 0);
}

static void test_a_living_holder_keeps_it(void)
{
    reset();
    CHECK_EQUAL(admit(0, 0, 500 * MS, NOW), 0);
    for (uint64_t at_ns = NOW; at_ns < NOW + 500 * MS; at_ns += MICA_HOLD_RENEW_NS) {
        CHECK(mica_hold_renew(&token, 0, at_ns));
        CHECK(admit(1, 0, MS, at_ns + MICA_HOLD_RENEW_NS) > 0);
    }
}

static void test_who_comes_back_at_once_is_waited_for(void)
{
    reset();
    CHECK_EQUAL(admit(0, 0, MS, NOW), 0);
    CHECK(admit(1, 1000, MS, NOW) > 0);
    atomic_store(&usages[0].order_time_ns, 999);
    CHECK(mica_hold_comes_first(&token, &usages[0], NOW + MS));
    CHECK_EQUAL(end(0, MS / 10, NOW + MS), 1);
    CHECK_EQUAL(admit(1, 1000, MS, NOW + MS), MS / 10);
    CHECK_EQUAL(admit(0, 999, MS, NOW + MS + MS / 20), 0);
    atomic_store(&usages[0].order_time_ns, 1001);
    CHECK(!mica_hold_comes_first(&token, &usages[0], NOW + 2 * MS));
    CHECK_EQUAL(end(0, 0, NOW + 2 * MS), 1);
    CHECK_EQUAL(admit(1, 1000, MS, NOW + 2 * MS), 0);
}

static void test_a_turn_ends_for_who_is_prompt(void)
{
    struct mica_hold_ask waiting = ask_of(1, 10, MS);
    reset();
    CHECK_EQUAL(admit(0, 0, MS / 8, NOW), 0);
    CHECK(mica_hold_admit(&token, &waiting, NOW) > 0);
    CHECK_EQUAL(admit(0, 100, MS / 8, NOW), 0); /* not the first any more, and still in its turn */
    waiting.prompt = 1;
    CHECK(mica_hold_admit(&token, &waiting, NOW) > 0);
    CHECK(admit(0, 100, MS / 8, NOW) > 0);
}

static void test_a_turn_is_of_bounded_length(void)
{
    reset();
    uint64_t used_ns = 0;
    CHECK_EQUAL(admit(0, 0, MS / 8, NOW), 0);
    for (uint64_t at_ns = NOW; used_ns < 100 * MS; used_ns += MS / 8, at_ns += MS / 8) {
        CHECK(admit(1, 10, MS, at_ns) > 0);
        if (admit(0, 100, MS / 8, at_ns) != 0)
            break;
        (void)end(0, 0, at_ns + MS / 8);
    }
    CHECK(used_ns >= 7 * QUANTUM && used_ns <= 9 * QUANTUM);
}

/* How much a slice of so many ppm has on the device in its turn, in works of a quarter of a quantum, while another comes first. */
static uint64_t turn_of(uint64_t share_ppm)
{
    struct mica_slice_limits limits = {.share_ppm = share_ppm};
    struct mica_hold_ask ask = ask_of(0, 100, QUANTUM / 4);
    uint64_t used_ns = 0;
    reset();
    ask.ask.next_tag_ns = mica_order_after(&limits, ask.ask.tag_ns, ask.ask.cost_ns);
    while (mica_hold_admit(&token, &ask, NOW + used_ns) == 0 && used_ns < 100 * MS) {
        used_ns += ask.ask.cost_ns;
        CHECK(admit(1, 10, MS, NOW + used_ns) > 0);
        (void)end(0, 0, NOW + used_ns);
    }
    return used_ns;
}

static void test_who_has_little_has_short_turns(void)
{
    uint64_t whole_ns = turn_of(500000);
    CHECK_EQUAL(turn_of(970000), whole_ns);
    CHECK_EQUAL(turn_of(100000), whole_ns);
    CHECK_EQUAL(turn_of(50000), whole_ns / 2);
    CHECK_EQUAL(turn_of(25000), whole_ns / 4);
    CHECK_EQUAL(turn_of(1000), QUANTUM / 4); /* one of its works, whatever it is owed */
}

static void test_own_work_is_added_before_the_device_runs_dry(void)
{
    reset();
    CHECK_EQUAL(admit(0, 0, 10 * MS, NOW), 0);
    uint64_t wait_ns = admit(0, 0, 10 * MS, NOW);
    CHECK(wait_ns > 9 * MS && wait_ns < 10 * MS);
    CHECK_EQUAL(admit(0, 0, 10 * MS, NOW + wait_ns), 0);
}

static void test_less_is_added_while_somebody_prompt_comes(void)
{
    struct mica_hold_ask prompt = ask_of(1, 10, MS);
    prompt.prompt = 1;
    reset();
    CHECK_EQUAL(admit(0, 0, MS, NOW), 0);
    CHECK_EQUAL(admit(0, 0, MS, NOW), 0);
    reset();
    CHECK_EQUAL(mica_hold_admit(&token, &prompt, NOW), 0);
    (void)end(1, 0, NOW + MS);
    CHECK_EQUAL(admit(0, 0, MS, NOW + MS), 0);
    CHECK(admit(0, 0, MS, NOW + MS) > 0); /* it would lie before it when it comes again */
    CHECK_EQUAL(end(0, 0, NOW + 2 * MS), 0); /* the one that waits is its own */
    CHECK_EQUAL(admit(0, 0, MS, NOW + 60 * MS), 0);
    CHECK_EQUAL(admit(0, 0, MS, NOW + 60 * MS), 0);
}

/* Ninety-nine of a hundred gaps are short, and one is not. */
static uint64_t wait_after(uint64_t most_gaps_ns, uint64_t rare_gap_ns)
{
    struct mica_return known = {0, 0};
    for (unsigned i = 0; i < 99; i++)
        mica_hold_return_note(&known, most_gaps_ns);
    mica_hold_return_note(&known, rare_gap_ns);
    return mica_hold_return_ns(&known);
}

static void test_who_seldom_comes_late_is_waited_for_that_long(void)
{
    CHECK(wait_after(MS / 10, 3 * MS) > 3 * MS);
    CHECK(wait_after(MS / 10, MICA_HOLD_RETURN_MAX_NS - 1) <= MICA_HOLD_RETURN_MAX_NS);
    CHECK(wait_after(MS / 10, MICA_HOLD_RETURN_MAX_NS) < MS / 5); /* a pause */
    CHECK_EQUAL(wait_after(3 * MS, 3 * MS), 0); /* the device would stand still for most of the time */
    CHECK_EQUAL(wait_after(MICA_HOLD_RETURN_MAX_NS, MICA_HOLD_RETURN_MAX_NS), 0); /* nothing is known */
}

/* What an idle slice keeps, it has used up after that much device time. */
static void test_who_was_idle_keeps_a_little(void)
{
    struct mica_slice_limits limits = {.share_ppm = 500000, .ceiling_ppm = 500000, .burst_ns = MS, .quantum_ns = QUANTUM};
    bool has_kept = false;
    reset();
    mica_order_charge(&usages[0], &token, &limits, NOW, MS, NOW);
    CHECK_EQUAL(mica_hold_enter(&usages[1], &token, &limits, NOW, &has_kept), NOW - 2 * MICA_HOLD_KEPT_NS);
    CHECK(has_kept);
    mica_order_charge(&usages[1], NULL, &limits, 0, MICA_HOLD_KEPT_NS / 2 + 1000, NOW);
    (void)mica_hold_enter(&usages[1], &token, &limits, NOW, &has_kept);
    CHECK(!has_kept);
}

/* What spot slices have had since goes back, up to a bound; what others had does not. */
static void test_who_was_idle_has_lent_to_spot_slices(void)
{
    struct mica_slice_limits limits = {.share_ppm = 500000, .ceiling_ppm = 500000, .burst_ns = MS, .quantum_ns = QUANTUM};
    struct mica_slice_limits spot = {.tier = MICA_TIER_SPOT, .share_ppm = 500000, .ceiling_ppm = 500000, .burst_ns = MS, .quantum_ns = QUANTUM};
    bool has_kept = false;
    reset();
    mica_order_charge(&usages[0], &token, &spot, NOW, MS, NOW);
    CHECK_EQUAL(mica_hold_enter(&usages[2], &token, &spot, NOW, &has_kept), NOW - 2 * MICA_HOLD_KEPT_NS);
    CHECK_EQUAL(mica_hold_enter(&usages[1], &token, &limits, NOW, &has_kept), NOW - MICA_LENT_MAX_NS);
    CHECK(has_kept);
    reset();
    mica_order_charge(&usages[0], &token, &limits, NOW, MS, NOW);
    mica_order_charge(&usages[2], &token, &spot, NOW + MS, MS, NOW);
    CHECK_EQUAL(mica_hold_enter(&usages[1], &token, &limits, NOW, &has_kept), NOW - 2 * MICA_HOLD_KEPT_NS);
}

static void test_a_damaged_word_holds_nobody(void)
{
    reset();
    atomic_store(&token.hold, UINT64_MAX << MICA_HOLD_OWNER_BITS | 1);
    CHECK_EQUAL(admit(1, 0, MS, NOW), 0);
    atomic_store(&token.hold, UINT64_MAX);
    CHECK_EQUAL(admit(2, 0, MS, NOW), 0);
}

/* --- Threads ---------------------------------------------------------------------------------------------------------------- */

/* A clock that is slow against the machine's: however long a busy machine keeps a thread from running, its hold does not run out. */
static uint64_t race_ns(void)
{
    return NOW + mica_monotonic_ns() / 1000;
}

static _Atomic int on_device[2];
static _Atomic unsigned overlaps;

struct racer {
    unsigned slice;
};

static void *race(void *argument)
{
    unsigned slice = ((const struct racer *)argument)->slice;
    for (unsigned i = 0; i < RACE_WORKS; i++) {
        while (admit(slice, 0, 1000, race_ns()) != 0)
            sched_yield();
        atomic_fetch_add(&on_device[slice], 1);
        for (unsigned look = 0; look < LOOKS; look++) {
            overlaps += atomic_load(&on_device[1 - slice]) != 0;
            sched_yield();
        }
        atomic_fetch_sub(&on_device[slice], 1);
        atomic_fetch_sub(&usages[slice].processes[0].inflight, 1);
        (void)mica_hold_leave(&token, &usages[slice], slice, 0, race_ns());
    }
    return NULL;
}

static unsigned overlaps_in_a_race(void)
{
    struct racer racers[] = {{0}, {0}, {1}, {1}};
    pthread_t threads[4];
    reset();
    overlaps = 0;
    for (unsigned i = 0; i < 4; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    return overlaps;
}

static void test_never_two_at_once(void)
{
    CHECK_EQUAL(overlaps_in_a_race(), 0);
    CHECK_EQUAL(atomic_load(&usages[0].processes[0].inflight) + atomic_load(&usages[1].processes[0].inflight), 0);
    CHECK_EQUAL(admit(2, 0, MS, race_ns() + MICA_TOKEN_GRACE_NS), 0); /* it was let go */
}

/* One program of a slice sees its work end, and before it lets go another of the slice puts work there. */
static void overtake(uint64_t *counted)
{
    reset();
    CHECK_EQUAL(admit(0, 0, MS / 4, NOW), 0);
    atomic_fetch_sub(&usages[0].processes[0].inflight, 1);
    *counted = atomic_load(&usages[0].processes[0].inflight);
    CHECK_EQUAL(admit(0, 0, MS / 4, NOW), 0);
}

static void test_who_lets_go_is_overtaken(void)
{
    uint64_t counted = 0;
    overtake(&counted);
    (void)mica_hold_leave(&token, &usages[0], 0, 0, NOW);
    CHECK(admit(1, 0, MS, NOW + 1) > 0);
}

static void test_naive_control(void)
{
    uint64_t counted = 0;
    overtake(&counted);
    if (counted == 0)
        atomic_store(&token.hold, 1); /* free, as it was when nothing was counted */
    CHECK_EQUAL(admit(1, 0, MS, NOW + 1), 0); /* beside work of slice 0 */
}

int main(void)
{
    check_run(test_others_wait_until_the_last_end_is_seen, "others wait until the last of a slice's work is seen to have ended, however long that takes");
    check_run(test_refused_work_is_counted_nowhere, "work that is refused is counted nowhere");
    check_run(test_a_dead_holders_time_runs_out, "of a slice that is killed the hold runs out, and cannot be renewed");
    check_run(test_a_living_holder_keeps_it, "a slice that lives keeps the device as long as its work takes");
    check_run(test_who_comes_back_at_once_is_waited_for, "who comes back at once, and comes first, is waited for");
    check_run(test_a_turn_ends_for_who_is_prompt, "a turn ends for a slice within its share that had nothing to do");
    check_run(test_a_turn_is_of_bounded_length, "and is of bounded length for the others");
    check_run(test_who_has_little_has_short_turns, "who has less than a tenth of the device has shorter turns, of one work at least");
    check_run(test_own_work_is_added_before_the_device_runs_dry, "a slice adds to its own work before the device runs dry");
    check_run(test_less_is_added_while_somebody_prompt_comes, "and less of it while somebody comes who asks for little after a while");
    check_run(test_who_seldom_comes_late_is_waited_for_that_long, "who comes back at once, and seldom a little later, is waited for that long; who always comes later is not");
    check_run(test_who_was_idle_keeps_a_little, "who was idle keeps a little of what it did not use, until it has used it");
    check_run(test_who_was_idle_has_lent_to_spot_slices, "and what spot slices had of its share meanwhile");
    check_run(test_a_damaged_word_holds_nobody, "a damaged word holds nobody up");
    check_run(test_never_two_at_once, "of threads that race never those of two slices have work on the device");
    check_run(test_who_lets_go_is_overtaken, "who lets go while its slice puts new work there, lets nobody in");
    check_run(test_naive_control, "the control: by what was counted before, it would");
    return check_finish();
}
