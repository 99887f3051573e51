/* SPDX-License-Identifier: Apache-2.0
 *
 * Windows with given clocks: what fits, what is paid back, who may borrow and when it is given back.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "check.h"
#include "region.h"

#define MS 1000000ULL
#define PERIOD (100 * MS)
#define NOW (1000000 * PERIOD) /* a period begins */

static struct mica_quota_region quota;
static struct mica_usage_region usages[3];
static struct mica_token_region token;

static void reset(void)
{
    memset((void *)&quota, 0, sizeof quota);
    memset((void *)usages, 0, sizeof usages);
    memset((void *)&token, 0, sizeof token);
}

static struct mica_slice_limits window(uint64_t offset_ns, uint64_t length_ns)
{
    return (struct mica_slice_limits){
        .state = MICA_SLICE_LIVE, .window_offset_ns = offset_ns, .window_length_ns = length_ns, .window_period_ns = PERIOD, .ceiling_ppm = MICA_PPM};
}

static uint64_t fit(const struct mica_slice_limits *limits, struct mica_window_ask ask, uint64_t now_ns)
{
    return mica_window_fit(limits, &ask, now_ns);
}

static void test_what_lies_before_it_and_the_guard_count(void)
{
    struct mica_slice_limits limits = window(0, 40 * MS);
    CHECK_EQUAL(fit(&limits, (struct mica_window_ask){.cost_ns = 10 * MS}, NOW + 30 * MS), 0);
    CHECK_EQUAL(fit(&limits, (struct mica_window_ask){.cost_ns = 10 * MS}, NOW + 30 * MS + 1), 70 * MS - 1);
    CHECK_EQUAL(fit(&limits, (struct mica_window_ask){.cost_ns = 10 * MS, .backlog_ns = 1}, NOW + 30 * MS), 70 * MS);
    CHECK_EQUAL(fit(&limits, (struct mica_window_ask){.cost_ns = 10 * MS, .guard_ns = 1}, NOW + 30 * MS), 70 * MS);
    CHECK_EQUAL(fit(&limits, (struct mica_window_ask){.cost_ns = 10 * MS, .shut_ns = 8 * MS}, NOW + 3 * MS), 5 * MS);
    CHECK_EQUAL(fit(&limits, (struct mica_window_ask){.cost_ns = 10 * MS, .shut_ns = 40 * MS}, NOW + 3 * MS), 97 * MS);
    /* Longer than the window: in the first eighth of what is not shut, and on a device that is about to run dry. */
    CHECK_EQUAL(fit(&limits, (struct mica_window_ask){.cost_ns = 90 * MS, .shut_ns = 8 * MS}, NOW + 13 * MS), 0);
    CHECK_EQUAL(fit(&limits, (struct mica_window_ask){.cost_ns = 90 * MS, .shut_ns = 8 * MS}, NOW + 13 * MS + 1), 87 * MS - 1);
    CHECK_EQUAL(fit(&limits, (struct mica_window_ask){.cost_ns = 90 * MS, .backlog_ns = 6 * MS}, NOW), 100 * MS);
    CHECK_EQUAL(fit(&limits, (struct mica_window_ask){.cost_ns = UINT64_MAX, .backlog_ns = UINT64_MAX, .guard_ns = UINT64_MAX}, NOW + 20 * MS), 80 * MS);
}

static void test_a_debt_is_paid_from_the_next_windows(void)
{
    struct mica_slice_limits limits = window(20 * MS, 30 * MS);
    reset();
    CHECK(mica_window_begin(&usages[0], &limits, NOW + 21 * MS));
    CHECK(!mica_window_begin(&usages[0], &limits, NOW + 49 * MS));
    mica_window_owe(&usages[0].window_debt_ns, 40 * MS);
    CHECK_EQUAL(mica_window_shut(&usages[0], NOW + 20 * MS), 0); /* not from the window that is open */
    CHECK(mica_window_begin(&usages[0], &limits, NOW + PERIOD + 20 * MS));
    CHECK_EQUAL(mica_window_shut(&usages[0], NOW + PERIOD + 20 * MS), 30 * MS);
    CHECK_EQUAL(atomic_load(&usages[0].window_debt_ns), 10 * MS);
    CHECK(mica_window_begin(&usages[0], &limits, NOW + 2 * PERIOD + 20 * MS));
    CHECK_EQUAL(mica_window_shut(&usages[0], NOW + 2 * PERIOD + 20 * MS), 10 * MS);
    CHECK_EQUAL(atomic_load(&usages[0].window_debt_ns), 0);
    /* Windows that it lets pass pay too. */
    mica_window_owe(&usages[0].window_debt_ns, 70 * MS);
    CHECK(mica_window_begin(&usages[0], &limits, NOW + 5 * PERIOD + 20 * MS));
    CHECK_EQUAL(mica_window_shut(&usages[0], NOW + 5 * PERIOD + 20 * MS), 10 * MS);
    for (int i = 0; i < 3; i++)
        mica_window_owe(&usages[0].window_debt_ns, UINT64_MAX / 2);
    CHECK_EQUAL(atomic_load(&usages[0].window_debt_ns), MICA_WINDOW_DEBT_MAX_NS);
}

/* --- A device that runs one thing after the other, and slices that always have more to do -------------------------------- */

struct flood {
    struct mica_slice_limits limits;
    uint64_t cost_ns;
    uint64_t used_ns;
    uint64_t outside_ns; /* of that, in others' windows */
};

static bool pays; /* the control: nobody pays back */

static void run_one(struct flood *flood, struct mica_usage_region *usage, uint64_t now_ns)
{
    if (now_ns >= mica_window_at(&flood->limits, now_ns).closes_ns)
        return;
    (void)mica_window_begin(usage, &flood->limits, now_ns);
    struct mica_window open = mica_window_at(&flood->limits, now_ns);
    uint64_t busy_ns = atomic_load(&token.busy_until_ns);
    uint64_t backlog_ns = busy_ns > now_ns ? busy_ns - now_ns : 0;
    uint64_t shut_ns = pays ? mica_window_shut(usage, open.opens_ns) : 0;
    struct mica_window_ask ask = {.cost_ns = flood->cost_ns, .backlog_ns = backlog_ns, .shut_ns = shut_ns};
    if (backlog_ns > 2 * MS || mica_window_fit(&flood->limits, &ask, now_ns) != 0)
        return;
    uint64_t end_ns = now_ns + backlog_ns + flood->cost_ns;
    atomic_store(&token.busy_until_ns, end_ns);
    flood->used_ns += flood->cost_ns;
    uint64_t over_ns = end_ns > open.closes_ns ? end_ns - open.closes_ns : 0;
    flood->outside_ns += over_ns;
    mica_window_owe(&usage->window_debt_ns, over_ns);
}

static void run_floods(struct flood *floods, unsigned count, uint64_t periods)
{
    reset();
    for (uint64_t now_ns = NOW; now_ns < NOW + periods * PERIOD; now_ns += 50000)
        for (unsigned i = 0; i < count; i++)
            run_one(&floods[i], &usages[i], now_ns);
}

static void test_over_time_a_slice_has_its_windows_however_long_its_kernels_are(void)
{
    const uint64_t costs[] = {200000, 7 * MS, 25 * MS, 45 * MS, 130 * MS, 380 * MS};
    for (size_t i = 0; i < sizeof costs / sizeof costs[0]; i++) {
        struct flood floods[2] = {{.limits = window(0, 20 * MS), .cost_ns = costs[i]}, {.limits = window(20 * MS, 80 * MS), .cost_ns = 200000}};
        pays = true;
        run_floods(floods, 2, 400);
        CHECK(floods[0].used_ns <= 400 * 20 * MS + costs[i]);
        if (costs[i] > 20 * MS)
            CHECK(floods[0].used_ns >= 400 * 20 * MS - 2 * costs[i]);
        CHECK_EQUAL(floods[1].outside_ns, 0);
        CHECK(floods[0].used_ns + floods[1].used_ns <= 400 * PERIOD + costs[i]);
    }
    struct flood floods[2] = {{.limits = window(0, 20 * MS), .cost_ns = 45 * MS}, {.limits = window(20 * MS, 80 * MS), .cost_ns = 200000}};
    pays = false;
    run_floods(floods, 2, 400);
    CHECK(floods[0].used_ns > 400 * 40 * MS); /* the control: twice its share */
}

/* --- Borrowing -------------------------------------------------------------------------------------------------------------- */

static void fill(void)
{
    struct mica_slice_limits first = window(0, 40 * MS), second = window(50 * MS, 30 * MS), none = {.state = MICA_SLICE_LIVE};
    reset();
    mica_quota_write(&quota, 3, &first);
    mica_quota_write(&quota, 7, &second);
    mica_quota_write(&quota, 9, &none);
}

static void test_whose_window_is_open(void)
{
    fill();
    struct mica_window_look look = mica_window_look(&quota, NOW + 10 * MS);
    CHECK_EQUAL(look.owner, 4);
    CHECK_EQUAL(look.window.opens_ns, NOW);
    CHECK_EQUAL(look.window.closes_ns, NOW + 40 * MS);
    look = mica_window_look(&quota, NOW + 40 * MS);
    CHECK_EQUAL(look.owner, 0);
    CHECK_EQUAL(look.window.closes_ns, NOW + 50 * MS);
    look = mica_window_look(&quota, NOW + 90 * MS);
    CHECK_EQUAL(look.owner, 0);
    CHECK_EQUAL(look.window.closes_ns, NOW + PERIOD);
    atomic_store(&quota.records[7].sequence, 1); /* its writer is at it: nobody knows what it will say */
    CHECK_EQUAL(mica_window_look(&quota, NOW + 41 * MS).window.closes_ns, NOW + 41 * MS);
}

static uint64_t borrow(uint64_t cost_ns, uint64_t backlog_ns, uint64_t now_ns)
{
    struct mica_window_ask ask = {.cost_ns = cost_ns, .backlog_ns = backlog_ns};
    return mica_window_borrow(&quota, &token, &ask, now_ns);
}

static void test_only_what_nobody_wants_is_lent_and_what_ends_in_time(void)
{
    fill();
    CHECK_EQUAL(borrow(MS, 0, NOW + MICA_WINDOW_IDLE_NS - 1), 1); /* its owner is given a moment */
    CHECK_EQUAL(borrow(MS, 0, NOW + MICA_WINDOW_IDLE_NS), 0);
    CHECK_EQUAL(borrow(30 * MS, 0, NOW + 10 * MS), 0);
    CHECK_EQUAL(borrow(30 * MS, 1, NOW + 10 * MS), 30 * MS);
    mica_window_claim(&token, NOW + 10 * MS, NOW + 10 * MS);
    CHECK_EQUAL(borrow(MS, 0, NOW + 10 * MS), MICA_WINDOW_IDLE_NS);
    mica_window_claim(&token, NOW + 12 * MS, NOW + 10 * MS); /* its work ends then */
    mica_window_claim(&token, NOW + 11 * MS, NOW + 11 * MS); /* another of its threads takes nothing back */
    CHECK_EQUAL(borrow(MS, 0, NOW + 11 * MS), MS + MICA_WINDOW_IDLE_NS);
    CHECK_EQUAL(borrow(MS, 0, NOW + 12 * MS + MICA_WINDOW_IDLE_NS), 0);
    CHECK_EQUAL(borrow(MS, 0, NOW + 45 * MS), 0); /* in no one's time */
    CHECK_EQUAL(borrow(6 * MS, 0, NOW + 45 * MS), 5 * MS);
    atomic_store(&token.owner_ns, UINT64_MAX); /* damaged: believed by nobody, and mended by the owner's next word */
    CHECK_EQUAL(borrow(MS, 0, NOW + 20 * MS), 0);
    mica_window_claim(&token, NOW + 20 * MS, NOW + 20 * MS);
    CHECK_EQUAL(borrow(MS, 0, NOW + 20 * MS), MICA_WINDOW_IDLE_NS);
}

/* The owner comes back while others borrow. What they bring after its word they must have asked for before it. */
enum { BORROWERS = 3, ROUNDS = 300 };
static _Atomic int owner_spoke, started, finished;
static bool asks_each_time; /* the control asks once and goes on */

static void *borrower_run(void *after)
{
    atomic_fetch_add(&started, 1);
    for (bool may = false; !atomic_load(&finished);) {
        bool spoke = atomic_load(&owner_spoke) != 0; /* before it asks */
        if (asks_each_time || !may)
            may = borrow(MS, 0, NOW + 20 * MS) == 0;
        *(int *)after += may && spoke;
    }
    return NULL;
}

static int launches_asked_for_after_the_owners_word(void)
{
    int total = 0;
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[BORROWERS];
        int after[BORROWERS] = {0};
        fill();
        atomic_store(&owner_spoke, 0);
        atomic_store(&started, 0);
        atomic_store(&finished, 0);
        for (int i = 0; i < BORROWERS; i++)
            CHECK_EQUAL(pthread_create(&threads[i], NULL, borrower_run, &after[i]), 0);
        while (atomic_load(&started) < BORROWERS)
            ;
        mica_window_claim(&token, NOW + 20 * MS, NOW + 20 * MS);
        atomic_store(&owner_spoke, 1);
        for (int i = 0; i < 2000; i++)
            (void)borrow(MS, 0, NOW + 20 * MS);
        atomic_store(&finished, 1);
        for (int i = 0; i < BORROWERS; i++) {
            pthread_join(threads[i], NULL);
            total += after[i];
        }
    }
    return total;
}

static void test_an_owner_that_comes_back_has_its_window_at_once(void)
{
    asks_each_time = true;
    CHECK_EQUAL(launches_asked_for_after_the_owners_word(), 0);
    asks_each_time = false;
    CHECK(launches_asked_for_after_the_owners_word() > 0);
}

static void test_a_mean_moves_by_an_eighth_and_a_maximum_only_grows(void)
{
    MICA_ATOMIC_U64 mean = 0, most = 0;
    mica_window_note(&mean, &most, 800);
    CHECK_EQUAL(atomic_load(&mean), 800);
    mica_window_note(&mean, &most, 0);
    CHECK_EQUAL(atomic_load(&mean), 700);
    mica_window_note(&mean, NULL, 1500);
    CHECK_EQUAL(atomic_load(&mean), 800);
    CHECK_EQUAL(atomic_load(&most), 800);
}

/* --- Processes with deadlines ------------------------------------------------------------------------------------------------ */

static void hold_slots(unsigned count)
{
    reset();
    atomic_store(&usages[0].slots_high, count);
    for (unsigned i = 0; i < count; i++) {
        atomic_store(&usages[0].processes[i].owner, MICA_OWNER_HELD | (i + 1));
        atomic_store(&usages[0].processes[i].weight, MICA_WEIGHT_DEFAULT);
    }
}

static void test_the_earliest_deadline_goes_first(void)
{
    hold_slots(3);
    mica_process_enter(&usages[0], 0, 0, NOW);
    mica_process_enter(&usages[0], 1, NOW + 9 * MS, NOW);
    mica_process_enter(&usages[0], 2, NOW + 5 * MS, NOW);
    atomic_store(&usages[0].processes[2].virtual_time_ns, 10 * MS); /* ahead of the others, though not for long */
    CHECK_EQUAL(mica_process_wait(&usages[0], 0, 0, NOW), 1);
    CHECK_EQUAL(mica_process_wait(&usages[0], 1, 0, NOW), 1);
    CHECK_EQUAL(mica_process_wait(&usages[0], 2, 0, NOW), 0);
    mica_process_charge(&usages[0], 2, MS);
    CHECK_EQUAL(mica_process_wait(&usages[0], 0, 0, NOW), 1);
    CHECK_EQUAL(mica_process_wait(&usages[0], 1, 0, NOW), 0);
}

/* Of three processes with equal weights that always want more, what the one with a deadline gets, and the longest that another waits. */
static double part_of_the_hurried(uint64_t deadline_ns, uint64_t *longest_ns)
{
    uint64_t used_ns[3] = {0}, last_ns[3] = {NOW, NOW, NOW}, now_ns = NOW;
    hold_slots(3);
    *longest_ns = 0;
    for (int i = 0; i < 3; i++)
        mica_process_enter(&usages[0], (unsigned)i, i == 0 ? now_ns + deadline_ns : 0, now_ns);
    for (; now_ns < NOW + 3000 * MS; now_ns += MS / 2) {
        int goes = -1;
        for (int i = 0; i < 3; i++) /* all say that they wait before one is chosen */
            (void)mica_process_wait(&usages[0], (unsigned)i, 2 * MS, now_ns);
        for (int i = 0; i < 3; i++)
            if (mica_process_wait(&usages[0], (unsigned)i, 2 * MS, now_ns) == 0 && goes < 0)
                goes = i;
        CHECK(goes >= 0); /* one order: somebody is first */
        if (goes < 0)
            return 0;
        mica_process_charge(&usages[0], (unsigned)goes, MS / 2);
        used_ns[goes] += MS / 2;
        *longest_ns = now_ns - last_ns[goes] > *longest_ns ? now_ns - last_ns[goes] : *longest_ns;
        last_ns[goes] = now_ns;
        mica_process_enter(&usages[0], (unsigned)goes, goes == 0 ? now_ns + deadline_ns : 0, now_ns);
    }
    return (double)used_ns[0] / (3000.0 * (double)MS);
}

static void test_deadlines_starve_nobody(void)
{
    uint64_t longest_ns;
    double part = part_of_the_hurried(MS, &longest_ns);
    CHECK(part > 0.30 && part < 0.36); /* a third, and what it was put forward */
    CHECK(longest_ns < 60 * MS);
}

int main(void)
{
    check_run(test_what_lies_before_it_and_the_guard_count, "work goes when it ends in its window, after what lies before it and before the guard");
    check_run(test_a_debt_is_paid_from_the_next_windows, "what was taken beyond a window is shut in the next ones, and windows that pass pay it too");
    check_run(test_over_time_a_slice_has_its_windows_however_long_its_kernels_are, "over time a slice has its windows and no more, however long its kernels are");
    check_run(test_whose_window_is_open, "the record says whose window is open and until when, and between windows when the next one opens");
    check_run(test_only_what_nobody_wants_is_lent_and_what_ends_in_time, "only what its owner does not want is lent, and only to work that ends in time");
    check_run(test_an_owner_that_comes_back_has_its_window_at_once, "nobody who asks after the owner's word borrows its window; who does not ask again does");
    check_run(test_a_mean_moves_by_an_eighth_and_a_maximum_only_grows, "a mean moves by an eighth, a maximum only grows");
    check_run(test_the_earliest_deadline_goes_first, "of a slice's processes the earliest deadline goes first");
    check_run(test_deadlines_starve_nobody, "a process with deadlines gets no more than its weight says, and nobody waits for long");
    return check_finish();
}
