/* SPDX-License-Identifier: Apache-2.0
 *
 * The device clock and the order on it, in a simulation: slices that ask, wait as long as they are told and are woken late; a device that runs what was
 * submitted, one after the other. No time passes.
 */
#define _GNU_SOURCE
#include "check.h"
#include "region.h"

#define NOW 1000000000000ULL
#define QUANTUM 2000000ULL
#define TENANTS_MAX 8
#define NEVER UINT64_MAX

static struct mica_token_region token;
static struct mica_usage_region usages[TENANTS_MAX];

struct tenant {
    uint64_t share_ppm;
    uint64_t cost_ns;
    uint64_t late_ns;   /* how much later than told it is woken, at most */
    uint64_t pause_ns;  /* between the end of its work and the next; 0: it floods */
    bool borrows;       /* its ceiling is the whole device */
    bool is_kept_for;   /* it says when it is likely to come back */
    bool is_spot;
    uint64_t works;     /* after so many it rests ... */
    uint64_t rest_ns;   /* ... for so long; 0: it does not */
    /* The simulation's. */
    uint64_t at_ns; /* when it asks next */
    uint64_t begun_ns;
    uint64_t used_ns;
    uint64_t longest_wait_ns;
    uint64_t waits;      /* of a millisecond and more, since it rested last */
    uint64_t most_waits; /* between two rests */
    uint64_t submissions;
    bool asking;
    struct mica_token_ask ask;
};

struct outcome {
    uint64_t most_backlog_ns; /* of others' work, at a submission */
    uint64_t idle_ns;
};

static void reset(void)
{
    memset((void *)&token, 0, sizeof token);
    memset((void *)usages, 0, sizeof usages);
}

static struct mica_slice_limits limits_of(const struct tenant *tenant)
{
    uint64_t ceiling_ppm = tenant->borrows ? MICA_PPM : tenant->share_ppm;
    uint64_t tier = tenant->is_spot ? MICA_TIER_SPOT : MICA_TIER_GUARANTEED;
    return (struct mica_slice_limits){
        .tier = tier, .share_ppm = tenant->share_ppm, .ceiling_ppm = ceiling_ppm, .burst_ns = 10000000, .quantum_ns = QUANTUM};
}

/* One step of one tenant: ask, and either submit or wait. With `by_rate` the device is not asked: the control. */
static void step(struct tenant *tenant, unsigned index, uint64_t now_ns, bool by_rate, uint64_t *device_ns, struct outcome *outcome, uint64_t *seed)
{
    struct mica_slice_limits limits = limits_of(tenant);
    if (!tenant->asking) {
        tenant->asking = true;
        tenant->begun_ns = now_ns;
        tenant->ask = (struct mica_token_ask){.record = index, .cost_ns = tenant->cost_ns, .quantum_ns = QUANTUM};
        if (tenant->is_kept_for)
            mica_return_note(&usages[index], now_ns);
        tenant->ask.tag_ns = mica_order_enter(&usages[index], &token, &limits, now_ns);
        tenant->ask.keep_ns = atomic_load(&usages[index].return_ns);
        tenant->ask.next_tag_ns = mica_order_after(&limits, tenant->ask.tag_ns, tenant->cost_ns);
    }
    uint64_t wait_ns = mica_rate_wait(&usages[index], &limits, now_ns);
    if (wait_ns == 0 && !by_rate)
        wait_ns = mica_token_admit(&token, &tenant->ask, now_ns);
    if (wait_ns != 0) {
        tenant->at_ns = now_ns + (wait_ns < 1000000 ? wait_ns : 1000000) + (tenant->late_ns != 0 ? check_random(seed) % tenant->late_ns : 0);
        return;
    }
    mica_rate_charge(&usages[index], &limits, tenant->cost_ns);
    uint64_t backlog_ns = *device_ns > now_ns ? *device_ns - now_ns : 0;
    outcome->idle_ns += *device_ns < now_ns ? now_ns - *device_ns : 0;
    outcome->most_backlog_ns = backlog_ns > outcome->most_backlog_ns ? backlog_ns : outcome->most_backlog_ns;
    *device_ns = now_ns + backlog_ns + tenant->cost_ns;
    mica_order_charge(&usages[index], &token, &limits, tenant->ask.tag_ns, tenant->cost_ns, *device_ns);
    tenant->used_ns += tenant->cost_ns;
    tenant->submissions++;
    uint64_t waited_ns = now_ns - tenant->begun_ns;
    tenant->longest_wait_ns = waited_ns > tenant->longest_wait_ns ? waited_ns : tenant->longest_wait_ns;
    tenant->waits += waited_ns >= 1000000;
    tenant->most_waits = tenant->waits > tenant->most_waits ? tenant->waits : tenant->most_waits;
    tenant->asking = false;
    tenant->at_ns = tenant->pause_ns != 0 ? *device_ns + tenant->pause_ns : now_ns + 2000;
    if (tenant->rest_ns != 0 && tenant->submissions % tenant->works == 0) {
        tenant->at_ns = *device_ns + tenant->rest_ns;
        tenant->waits = 0;
        tenant->most_waits = tenant->submissions == tenant->works ? 0 : tenant->most_waits; /* when it began nobody had lent anything */
    }
}

static struct outcome simulate(struct tenant *tenants, unsigned count, uint64_t length_ns, bool by_rate)
{
    struct outcome outcome = {0};
    uint64_t seed = 4711, now_ns = NOW, device_ns = NOW;
    for (unsigned i = 0; i < count; i++)
        tenants[i].at_ns = NOW + i;
    while (now_ns < NOW + length_ns) {
        unsigned next = 0;
        for (unsigned i = 1; i < count; i++)
            next = tenants[i].at_ns < tenants[next].at_ns ? i : next;
        now_ns = tenants[next].at_ns;
        step(&tenants[next], next, now_ns, by_rate, &device_ns, &outcome, &seed);
    }
    return outcome;
}

/* The furthest that a tenant's part of the time is from its share, in ppm. */
static uint64_t worst_error_ppm(const struct tenant *tenants, unsigned count, uint64_t length_ns)
{
    uint64_t worst = 0;
    for (unsigned i = 0; i < count; i++) {
        int64_t got = (int64_t)((double)tenants[i].used_ns * 1e6 / (double)length_ns);
        int64_t error = got > (int64_t)tenants[i].share_ppm ? got - (int64_t)tenants[i].share_ppm : (int64_t)tenants[i].share_ppm - got;
        worst = (uint64_t)error > worst ? (uint64_t)error : worst;
    }
    return worst;
}

static void test_shares_are_kept(void)
{
    static const struct tenant plans[][TENANTS_MAX] = {
        {{.share_ppm = 500000, .cost_ns = 200000, .late_ns = 100000}, {.share_ppm = 500000, .cost_ns = 200000, .late_ns = 100000}},
        {{.share_ppm = 900000, .cost_ns = 50000, .late_ns = 100000}, {.share_ppm = 50000, .cost_ns = 200000, .late_ns = 100000}},
        {{.share_ppm = 600000, .cost_ns = 50000000, .late_ns = 100000}, {.share_ppm = 400000, .cost_ns = 50000, .late_ns = 100000}},
        {{.share_ppm = 400000, .cost_ns = 50000, .late_ns = 150000},
         {.share_ppm = 300000, .cost_ns = 5000000, .late_ns = 150000},
         {.share_ppm = 200000, .cost_ns = 500000, .late_ns = 150000},
         {.share_ppm = 100000, .cost_ns = 200000, .late_ns = 150000}},
        {{.share_ppm = 50000, .cost_ns = 50000, .late_ns = 150000},
         {.share_ppm = 50000, .cost_ns = 20000, .late_ns = 150000},
         {.share_ppm = 100000, .cost_ns = 100000, .late_ns = 150000},
         {.share_ppm = 100000, .cost_ns = 500000, .late_ns = 150000},
         {.share_ppm = 150000, .cost_ns = 200000, .late_ns = 150000},
         {.share_ppm = 150000, .cost_ns = 20000, .late_ns = 150000},
         {.share_ppm = 200000, .cost_ns = 1000000, .late_ns = 150000},
         {.share_ppm = 200000, .cost_ns = 50000, .late_ns = 150000}},
    };
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        struct tenant tenants[TENANTS_MAX];
        unsigned count = 0;
        uint64_t length_ns = 20000000000ULL, longest_ns = 0;
        memcpy(tenants, plans[i], sizeof tenants);
        while (count < TENANTS_MAX && tenants[count].share_ppm != 0) {
            longest_ns = tenants[count].cost_ns > longest_ns ? tenants[count].cost_ns : longest_ns;
            count++;
        }
        reset();
        struct outcome outcome = simulate(tenants, count, length_ns, false);
        uint64_t error_ppm = worst_error_ppm(tenants, count, length_ns);
        printf("# plan %zu: worst error %.3f points, idle %.3f %%, most backlog %.1f us\n", i, (double)error_ppm / 1e4,
               (double)outcome.idle_ns * 100 / (double)length_ns, (double)outcome.most_backlog_ns / 1e3);
        CHECK(error_ppm < 5000);
        CHECK(outcome.most_backlog_ns <= QUANTUM);
    }
}

static void test_rate_alone_floods_the_device(void)
{
    struct tenant tenants[] = {{.share_ppm = 500000, .cost_ns = 200000}, {.share_ppm = 500000, .cost_ns = 200000}};
    reset();
    struct outcome outcome = simulate(tenants, 2, 1000000000, true);
    CHECK(outcome.most_backlog_ns > QUANTUM); /* the control: the bound of the test above is the clock's doing */
}

static void test_a_returning_slice_is_served_at_once(void)
{
    struct tenant tenants[] = {{.share_ppm = 500000, .cost_ns = 50000}, {.share_ppm = 500000, .cost_ns = 500000, .pause_ns = 20000000}};
    reset();
    simulate(tenants, 2, 2000000000, false);
    CHECK(tenants[1].submissions > 50);
    CHECK(tenants[1].longest_wait_ns <= QUANTUM);
    CHECK(worst_error_ppm(tenants, 1, 2000000000) < 30000); /* and who floods beside it loses nothing */
}

static struct mica_token_ask ask_of(uint64_t record, uint64_t tag_ns, uint64_t cost_ns)
{
    return (struct mica_token_ask){.record = record, .tag_ns = tag_ns, .cost_ns = cost_ns, .quantum_ns = QUANTUM};
}

static void test_lowest_tag_goes_first(void)
{
    reset();
    struct mica_token_ask filler = ask_of(7, 0, 1000000), low = ask_of(0, 100, 300000), high = ask_of(1, 200, 300000);
    CHECK_EQUAL(mica_token_admit(&token, &filler, NOW), 0);
    uint64_t chance_ns = NOW + 1000000 - MICA_TOKEN_LEAD_NS;
    CHECK(mica_token_admit(&token, &high, NOW) != 0);
    CHECK(mica_token_admit(&token, &low, NOW) != 0);
    CHECK(mica_token_admit(&token, &high, chance_ns) != 0); /* there is room, but a lower tag waits */
    CHECK_EQUAL(mica_token_admit(&token, &low, chance_ns), 0);
    CHECK_EQUAL(low.end_ns, NOW + 1300000);
}

static void test_a_late_first_is_passed_over(void)
{
    reset();
    struct mica_token_ask filler = ask_of(7, 0, 1000000), low = ask_of(0, 100, 300000), high = ask_of(1, 200, 300000);
    CHECK_EQUAL(mica_token_admit(&token, &filler, NOW), 0);
    CHECK(mica_token_admit(&token, &low, NOW) != 0);
    uint64_t late_ns = NOW + 1000000 - MICA_TOKEN_LEAD_NS + 300000;
    CHECK(mica_token_admit(&token, &high, late_ns - 1) != 0);
    CHECK_EQUAL(mica_token_admit(&token, &high, late_ns), 0); /* its own cost later */
}

static void test_a_stale_waiter_holds_nobody_up(void)
{
    reset();
    struct mica_token_ask filler = ask_of(7, 0, 20000000), low = ask_of(0, 100, 300000), high = ask_of(1, 200, 5000000);
    CHECK_EQUAL(mica_token_admit(&token, &filler, NOW), 0);
    CHECK(mica_token_admit(&token, &low, NOW) != 0); /* and is never heard of again */
    uint64_t chance_ns = NOW + 20000000 - MICA_TOKEN_LEAD_NS;
    CHECK_EQUAL(mica_token_admit(&token, &high, chance_ns), 0);
}

static void test_a_dead_submitter_heals(void)
{
    reset();
    struct mica_token_ask dead = ask_of(0, 100, 900000), next = ask_of(1, 200, 300000);
    CHECK_EQUAL(mica_token_admit(&token, &dead, NOW), 0); /* its process is killed before or after it launches */
    uint64_t wait_ns = mica_token_admit(&token, &next, NOW);
    CHECK(wait_ns <= 900000);
    CHECK_EQUAL(mica_token_admit(&token, &next, NOW + wait_ns), 0);
}

static void test_alone(void)
{
    reset();
    struct mica_token_ask before = ask_of(7, 0, 400000), alone = ask_of(0, 100, 50000), other = ask_of(1, 50, 50000);
    alone.alone = 1;
    CHECK_EQUAL(mica_token_admit(&token, &before, NOW), 0);
    CHECK_EQUAL(mica_token_admit(&token, &alone, NOW), 400000 + MICA_TOKEN_BEHIND_NS); /* claimed: the device is to run dry */
    CHECK(mica_token_admit(&token, &other, NOW + 300000) != 0); /* although it has the lower tag */
    CHECK(mica_token_admit(&token, &alone, NOW + 400000) != 0); /* it may be behind its clock */
    CHECK_EQUAL(mica_token_admit(&token, &alone, NOW + 400000 + MICA_TOKEN_BEHIND_NS), 0);
    CHECK(mica_token_admit(&token, &other, NOW + 600000) != 0); /* past its estimate: only its end counts */
    CHECK(mica_token_release(&token, alone.claim_ns, NOW + 900000));
    CHECK(!mica_token_release(&token, alone.claim_ns, NOW + 900000));
    CHECK_EQUAL(mica_token_admit(&token, &other, NOW + 900000), 0);
}

static void test_alone_runs_out(void)
{
    reset();
    struct mica_token_ask alone = ask_of(0, 100, 50000), other = ask_of(1, 50, 50000);
    alone.alone = 1;
    CHECK_EQUAL(mica_token_admit(&token, &alone, NOW), 0);
    CHECK(mica_token_admit(&token, &other, NOW + MICA_TOKEN_ALONE_NS - 1) != 0);
    CHECK_EQUAL(mica_token_admit(&token, &other, NOW + MICA_TOKEN_ALONE_NS), 0);
    CHECK(!mica_token_release(&token, alone.claim_ns, NOW + MICA_TOKEN_ALONE_NS + 5)); /* it was not alone to its end */
}

static void test_a_late_launch_puts_the_clock_on(void)
{
    reset();
    struct mica_token_ask late = ask_of(0, 100, 300000), next = ask_of(0, 200, 300000);
    CHECK_EQUAL(mica_token_admit(&token, &late, NOW), 0);
    CHECK_EQUAL(mica_token_made(&token, late.end_ns, late.cost_ns, NOW + 70000), NOW + 370000);
    CHECK_EQUAL(atomic_load(&token.busy_until_ns), NOW + 370000);
    CHECK_EQUAL(mica_token_admit(&token, &next, NOW + 80000), 0);
    CHECK_EQUAL(mica_token_made(&token, next.end_ns, next.cost_ns, NOW + 90000), NOW + 670000); /* the device had other work to do meanwhile */
    CHECK_EQUAL(atomic_load(&token.busy_until_ns), NOW + 670000);
    CHECK_EQUAL(mica_token_made(&token, NOW + 370000, 300000, NOW + 500000), NOW + 800000);
    CHECK_EQUAL(atomic_load(&token.busy_until_ns), NOW + 670000); /* others came after it */
}

static enum mica_clean clean_at(uint64_t now_ns)
{
    struct mica_token_ask own = ask_of(1, 200, 100000);
    CHECK_EQUAL(mica_token_admit(&token, &own, now_ns), 0);
    return (enum mica_clean)own.clean;
}

static void test_only_long_after_others_work_is_a_turn_clean(void)
{
    reset();
    struct mica_token_ask other = ask_of(0, 100, 400000);
    CHECK_EQUAL(mica_token_admit(&token, &other, NOW), 0);
    CHECK_EQUAL(clean_at(NOW), MICA_CLEAN_NO);          /* the turn begins behind the other's work ... */
    CHECK_EQUAL(clean_at(NOW + 300000), MICA_CLEAN_NO); /* ... which has not ended */
    CHECK_EQUAL(clean_at(NOW + 500000), MICA_CLEAN_LIKELY);
    CHECK_EQUAL(clean_at(NOW + 4000000), MICA_CLEAN_LIKELY); /* a driver that takes processes in turns may have put it off */
    CHECK_EQUAL(clean_at(NOW + 6000000), MICA_CLEAN_SURE);
}

static void test_work_that_jumped_is_soon_over(void)
{
    reset();
    struct mica_slice_limits limits = {.share_ppm = 500000, .ceiling_ppm = 500000, .quantum_ns = QUANTUM};
    struct mica_token_ask longer = ask_of(7, 0, 20000000), brief = ask_of(0, 100, 500000);
    CHECK_EQUAL(mica_token_admit(&token, &longer, NOW), 0);
    CHECK_EQUAL(mica_token_active_until(&longer, NOW), NOW + 20000000);
    brief.jumps = 1;
    CHECK_EQUAL(mica_token_admit(&token, &brief, NOW + 1000000), 0);
    CHECK_EQUAL(brief.end_ns, NOW + 20500000);
    CHECK_EQUAL(mica_token_active_until(&brief, NOW + 1000000), NOW + 3500000); /* the driver lets it by */
    mica_order_charge(&usages[0], &token, &limits, 100, 500000, NOW + 3500000);
    CHECK(!mica_token_let_by(&token, &usages[0], QUANTUM, NOW + 3400000));
    CHECK(mica_token_let_by(&token, &usages[0], QUANTUM, NOW + 3500000));
    CHECK(!mica_token_let_by(&token, &usages[0], QUANTUM, NOW + 19000000)); /* it is as good to wait */
}

static void test_brief_work_is_spared(void)
{
    reset();
    struct mica_token_ask brief = ask_of(0, 200, 400000), longer = ask_of(1, 100, 2000000), shorter = ask_of(2, 300, 100000);
    brief.jumps = brief.brief = 1;
    CHECK_EQUAL(mica_token_admit(&token, &brief, NOW), 0);
    CHECK_EQUAL(mica_token_made(&token, brief.end_ns, brief.cost_ns, NOW + 20000), NOW + 420000);
    CHECK_EQUAL(mica_token_admit(&token, &longer, NOW + 100000), 320000); /* although there is room by the clock */
    mica_token_leave(&token, &longer);
    CHECK_EQUAL(mica_token_admit(&token, &shorter, NOW + 100000), 0);
    brief.tag_ns = 0;
    for (uint64_t at_ns = NOW + 200000; at_ns < NOW + 2000000; at_ns += 100000) {
        CHECK_EQUAL(mica_token_admit(&token, &brief, at_ns), 0); /* one after the other */
        CHECK(mica_token_admit(&token, &longer, at_ns) != 0);
    }
    atomic_store(&token.busy_until_ns, NOW + 2200000);
    CHECK_EQUAL(mica_token_admit(&token, &longer, NOW + 2100000), 0); /* a quantum after it could have gone */
}

/* Both want all of the device: one waits for each of its works before it asks for the next, as a decoder does, the other floods. Of 100 works of 2 ms, so many
 * were done by the first in 300 ms, and so much time the other had. */
static struct tenant decoder_beside_flood(uint64_t share_ppm, bool is_kept_for, uint64_t *flood_ns)
{
    struct tenant tenants[2] = {
        {.share_ppm = share_ppm, .cost_ns = 2000000, .pause_ns = 80000, .late_ns = 20000, .borrows = true, .is_kept_for = is_kept_for},
        {.share_ppm = MICA_PPM - share_ppm, .cost_ns = 500000, .late_ns = 20000, .borrows = true},
    };
    reset();
    simulate(tenants, 2, 300000000, false);
    *flood_ns = tenants[1].used_ns;
    return tenants[0];
}

static void test_the_device_is_kept_for_who_comes_back(void)
{
    uint64_t flood_ns;
    struct tenant decoder = decoder_beside_flood(970000, true, &flood_ns);
    CHECK(decoder.submissions >= 132); /* of 144 that it would do alone: 3 % are the other's */
    CHECK(flood_ns > 7000000);
    decoder = decoder_beside_flood(500000, true, &flood_ns);
    CHECK(flood_ns > 120000000); /* it is kept from nothing that is its due */
}

static void test_without_keeping_the_gaps_are_lost(void)
{
    uint64_t flood_ns;
    struct tenant decoder = decoder_beside_flood(970000, false, &flood_ns);
    CHECK(decoder.submissions < 120);
}

static void test_the_usual_return_is_learnt(void)
{
    reset();
    atomic_store(&usages[0].active_until_ns, NOW);
    mica_return_note(&usages[0], NOW - 5);
    CHECK_EQUAL(atomic_load(&usages[0].return_ns), 0); /* it does not wait for its work */
    mica_return_note(&usages[0], NOW + 80000);
    CHECK_EQUAL(atomic_load(&usages[0].return_ns), 100000);
    for (unsigned i = 0; i < 8; i++)
        mica_return_note(&usages[0], NOW + MICA_KEEP_MAX_NS + 1); /* idle */
    CHECK(atomic_load(&usages[0].return_ns) < 1000);
    mica_return_note(&usages[0], NOW + MICA_KEEP_MAX_NS);
    CHECK_EQUAL(atomic_load(&usages[0].return_ns), MICA_KEEP_MAX_NS); /* never more */
}

/* A server with bursts of two and a half seconds, each after a second without, beside a flood that is owed a kernel of 4 ms every 400 ms. */
static struct tenant server_beside(bool flood_is_spot, uint64_t *flood_ns)
{
    struct tenant tenants[2] = {
        {.share_ppm = 990000, .cost_ns = 2000000, .pause_ns = 80000, .late_ns = 20000, .borrows = true, .is_kept_for = true, .works = 1200, .rest_ns = 1000000000},
        {.share_ppm = 10000, .cost_ns = 4000000, .late_ns = 20000, .borrows = true, .is_spot = flood_is_spot},
    };
    reset();
    simulate(tenants, 2, 20000000000, false);
    *flood_ns = tenants[1].used_ns;
    return tenants[0];
}

static void test_a_spot_slice_gives_back_what_it_was_lent(void)
{
    uint64_t flood_ns;
    CHECK(server_beside(true, &flood_ns).most_waits <= 2); /* in a whole burst: for what had begun, and before it is known to come back */
    CHECK(flood_ns > 4500000000); /* it has the rests */
    CHECK(server_beside(false, &flood_ns).most_waits > 5); /* the control: what is no spot slice has its share at any time */
}

/* Rests that are only just such do not add up to more than the share. */
static void test_a_spot_slice_keeps_its_share(void)
{
    struct tenant tenants[2] = {
        {.share_ppm = 800000, .cost_ns = 2000000, .pause_ns = 80000, .late_ns = 20000, .borrows = true, .is_kept_for = true, .works = 100, .rest_ns = 6000000},
        {.share_ppm = 200000, .cost_ns = 4000000, .late_ns = 20000, .borrows = true, .is_spot = true},
    };
    reset();
    simulate(tenants, 2, 60000000000, false);
    CHECK(tenants[1].used_ns > 200000 * (60000 - MICA_LENT_MAX_NS / 1000000));
    CHECK(tenants[0].used_ns > 700000 * 60000ULL);
}

static void test_a_long_gap_is_remembered(void)
{
    uint64_t usual_ns = mica_return_after(100000, 400000, MICA_KEEP_MAX_NS);
    CHECK_EQUAL(usual_ns, 500000);
    for (unsigned i = 0; i < 30; i++)
        usual_ns = mica_return_after(usual_ns, 100000, MICA_KEEP_MAX_NS);
    CHECK(usual_ns > 300000); /* it may well come once more among so many */
    for (unsigned i = 0; i < 300; i++)
        usual_ns = mica_return_after(usual_ns, 100000, MICA_KEEP_MAX_NS);
    CHECK(usual_ns >= 100000 && usual_ns < 110000);
}

static void test_kept_for_a_while_and_from_those_that_come_later(void)
{
    reset();
    struct mica_token_ask keeper = ask_of(0, 200, 400000), later = ask_of(1, 500, 400000), before = ask_of(2, 240, 400000);
    keeper.keep_ns = 100000;
    keeper.next_tag_ns = 250;
    CHECK_EQUAL(mica_token_admit(&token, &keeper, NOW), 0);
    CHECK_EQUAL(mica_token_made(&token, keeper.end_ns, keeper.cost_ns, NOW + 20000), NOW + 420000);
    CHECK_EQUAL(mica_token_admit(&token, &later, NOW + 400000), 120000);
    mica_token_leave(&token, &later);
    CHECK_EQUAL(mica_token_admit(&token, &before, NOW + 400000), 0); /* the order goes before */
    CHECK_EQUAL(mica_token_admit(&token, &later, NOW + 900000), 0); /* nobody came */
}

static void test_damaged_words_hold_nobody(void)
{
    reset();
    struct mica_token_ask ask = ask_of(0, 100, 2000000);
    atomic_store(&token.brief_until_ns, NEVER);
    atomic_store(&token.busy_until_ns, NEVER);
    atomic_store(&token.alone_until_ns, NEVER);
    atomic_store(&token.kept_until_ns, NEVER);
    atomic_store(&token.waiters_high, NEVER);
    CHECK_EQUAL(mica_token_admit(&token, &ask, NOW), 0);
    CHECK_EQUAL(ask.end_ns, NOW + 2000000);
}

static void test_urgent_goes_ahead_of_the_order(void)
{
    reset();
    struct mica_token_ask filler = ask_of(7, 0, 1000000), low = ask_of(0, 100, 300000), urgent = ask_of(1, 200, 300000);
    urgent.urgent = 1;
    CHECK_EQUAL(mica_token_admit(&token, &filler, NOW), 0);
    CHECK(mica_token_admit(&token, &low, NOW) != 0);
    CHECK(mica_token_admit(&token, &urgent, NOW) != 0); /* not ahead of the clock */
    CHECK_EQUAL(mica_token_admit(&token, &urgent, NOW + 1000000 - MICA_TOKEN_LEAD_NS), 0);
}

static void test_a_raised_share_counts_for_old_debt(void)
{
    struct mica_slice_limits limits = {.share_ppm = 50000, .ceiling_ppm = 50000, .burst_ns = 0, .quantum_ns = QUANTUM};
    reset();
    mica_order_enter(&usages[0], &token, &limits, NOW);
    mica_rate_charge(&usages[0], &limits, 50000000);
    CHECK_EQUAL(mica_rate_wait(&usages[0], &limits, NOW), 1000000000);
    limits.share_ppm = limits.ceiling_ppm = 500000;
    mica_order_enter(&usages[0], &token, &limits, NOW);
    CHECK_EQUAL(mica_rate_wait(&usages[0], &limits, NOW), 100000000);
}

int main(void)
{
    check_run(test_shares_are_kept, "slices that flood the device get their shares, and what lies on it stays within a quantum");
    check_run(test_rate_alone_floods_the_device, "the control: by rate alone more lies on the device than that");
    check_run(test_a_returning_slice_is_served_at_once, "a slice within its share waits no longer than a quantum beside one that floods");
    check_run(test_lowest_tag_goes_first, "of two that wait the lower tag goes first");
    check_run(test_a_late_first_is_passed_over, "who comes first and does not come is passed over, its turn's cost later");
    check_run(test_a_stale_waiter_holds_nobody_up, "a waiter that is not heard of any more holds nobody up");
    check_run(test_a_dead_submitter_heals, "work of a process that was killed is waited for as long as it was to take, and no longer");
    check_run(test_alone, "work of unknown cost has the device alone from the moment it is empty until its end is seen");
    check_run(test_alone_runs_out, "and no longer than its patience");
    check_run(test_a_late_launch_puts_the_clock_on, "a launch that an empty device waited for puts the clock on");
    check_run(test_only_long_after_others_work_is_a_turn_clean, "only long after others' work a turn is surely its slice's own");
    check_run(test_work_that_jumped_is_soon_over, "work that jumped is over when the driver has let it by, not when the clock has run out");
    check_run(test_brief_work_is_spared, "long work does not go in the middle of a slice's brief work, nor wait for it for more than a quantum");
    check_run(test_the_device_is_kept_for_who_comes_back, "the device is kept for a program that waits for each of its works, and its neighbour gets its share");
    check_run(test_without_keeping_the_gaps_are_lost, "the control: without that its neighbour goes into every gap");
    check_run(test_a_spot_slice_gives_back_what_it_was_lent, "what a spot slice was lent goes back: who returns waits for it at the beginning, and then no more");
    check_run(test_a_spot_slice_keeps_its_share, "and yet a spot slice has its share over some seconds");
    check_run(test_a_long_gap_is_remembered, "one that was long is remembered for some tens of works, and not for good");
    check_run(test_the_usual_return_is_learnt, "how soon a program comes back is learnt from its gaps, and forgotten when it is idle");
    check_run(test_kept_for_a_while_and_from_those_that_come_later, "it is kept for no longer than that, and from nobody who comes first");
    check_run(test_damaged_words_hold_nobody, "damaged words hold nobody up");
    check_run(test_urgent_goes_ahead_of_the_order, "communication goes ahead of the order, not of the clock");
    check_run(test_a_raised_share_counts_for_old_debt, "a share that is raised is in force for what was used before, too");
    return check_finish();
}
