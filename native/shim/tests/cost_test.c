/* SPDX-License-Identifier: Apache-2.0
 *
 * What a kernel is charged: the default until it is measured, then a low quantile of what was measured, and the difference is settled.
 */
#include "../core/cost.h"

#include <stdio.h>

static int passed;
static int failed;

static void check(bool holds, const char *what)
{
    *(holds ? &passed : &failed) += 1;
    if (!holds) {
        printf("FAILED: %s\n", what);
    }
}

static struct mica_cost *work(uint64_t function, uint64_t grid)
{
    return mica_cost_find(mica_cost_key(function, grid, 32));
}

static struct mica_settlement trusted(struct mica_cost *cost, uint64_t ns)
{
    return mica_cost_measured(cost, ns, MICA_TRUST_FULL, false);
}

static struct mica_settlement untrusted(struct mica_cost *cost, uint64_t ns)
{
    return mica_cost_measured(cost, ns, MICA_TRUST_NONE, false);
}

static struct mica_settlement near(struct mica_cost *cost, uint64_t ns)
{
    return mica_cost_measured(cost, ns, MICA_TRUST_NEAR, false);
}

static void test_first_measurement(void)
{
    struct mica_cost *cost = work(0x1000, 64);
    check(mica_cost_estimate(cost) == MICA_COST_UNKNOWN_NS, "unknown work is charged the default");
    for (int i = 0; i < 3; i++) {
        mica_cost_charged(cost, MICA_COST_UNKNOWN_NS);
    }
    mica_cost_uncharged(cost);
    struct mica_settlement settlement = trusted(cost, 900000);
    check(settlement.charged_ns == 2 * MICA_COST_UNKNOWN_NS && settlement.actual_ns == 1800000, "launches charged before it are settled with it");
    check(mica_cost_estimate(cost) == 900000, "from then on the measured time is charged");
    mica_cost_charged(cost, 900000);
    settlement = trusted(cost, 100000);
    check(settlement.charged_ns == 0 && settlement.actual_ns == 0, "what was charged by an estimate is not paid back");
    check(work(0x1000, 64) == cost, "the same function and shape is the same work");
    check(work(0x1000, 65) != cost && work(0x1008, 64) != cost && mica_cost_find(mica_cost_key(0x1000, 64, 64)) != cost,
          "another grid, block or function is other work");
}

static void test_alone(void)
{
    struct mica_cost *cost = work(0x1800, 64);
    check(mica_cost_wants_alone(cost), "new work is measured alone");
    trusted(cost, 5000000);
    check(mica_cost_wants_alone(cost), "once is not enough: the first launch may have loaded the kernel");
    trusted(cost, 1000000);
    check(!mica_cost_wants_alone(cost) && mica_cost_estimate(cost) == 1000000, "the second time counts, and is enough");
    for (int i = 0; i < 2001; i++) {
        mica_cost_charged(cost, 1000000);
    }
    check(mica_cost_wants_alone(cost), "after two seconds of charges without a trusted measurement it is measured again");
    trusted(cost, 1000000);
    check(!mica_cost_wants_alone(cost), "once");
    for (int i = 0; i < 20; i++) {
        untrusted(cost, 3000000);
    }
    check(!mica_cost_wants_alone(cost), "others are not held up by every hundredth launch or more often");
    for (int i = 0; i < 100; i++) {
        mica_cost_charged(cost, 1000000);
    }
    check(mica_cost_wants_alone(cost) && mica_cost_estimate(cost) == 1000000, "work that seems to have become dearer is measured again, and not believed before");
    for (int i = 0; i < 10; i++) {
        mica_cost_tries_alone(cost);
    }
    check(!mica_cost_wants_alone(cost), "work that never ends in time is let go");
}

static void test_wrong_alone(void)
{
    struct mica_cost *cost = work(0x1c00, 64);
    trusted(cost, 200000);
    trusted(cost, 200000);
    trusted(cost, 760000);
    check(mica_cost_estimate(cost) > 250000, "a measurement that nothing contradicts counts");
    check(!mica_cost_wants_alone(cost), "and does not hold others up at once");
    for (int i = 0; i < 126; i++) {
        mica_cost_charged(cost, 1000000);
    }
    check(mica_cost_wants_alone(cost), "but where it was far from the estimate another follows after an eighth of a second of charges");
    trusted(cost, mica_cost_estimate(cost) + 1000);
    for (int i = 0; i < 126; i++) {
        mica_cost_charged(cost, 1000000);
    }
    check(!mica_cost_wants_alone(cost), "until one agrees");
}

static void test_near(void)
{
    struct mica_cost *cost = work(0x1d00, 64);
    trusted(cost, 200000);
    trusted(cost, 190000);
    near(cost, 600000);
    check(mica_cost_estimate(cost) == 190000, "a time from soon after others' work is not believed where it is far from the estimate");
    for (int i = 0; i < 50; i++) {
        near(cost, 200000);
    }
    check(mica_cost_estimate(cost) > 199900 && mica_cost_estimate(cost) <= 200000, "and makes it more exact where it is near");
    for (int i = 0; i < 2001; i++) {
        mica_cost_charged(cost, 1000000);
        near(cost, 200000);
    }
    check(mica_cost_wants_alone(cost), "it does not stand for a measurement alone");
}

static void test_average(void)
{
    struct mica_cost *cost = work(0x2000, 1);
    trusted(cost, 1000000);
    trusted(cost, 1000000);
    for (int i = 0; i < 100; i++) {
        trusted(cost, i % 2 != 0 ? 1000000 : 3000000);
    }
    check(mica_cost_estimate(cost) > 1500000 && mica_cost_estimate(cost) < 2500000, "work that varies is charged about its mean");
    untrusted(cost, 1500000);
    check(mica_cost_estimate(cost) > 1500000, "an untrusted measurement within what was seen changes nothing");
    untrusted(cost, 100000);
    check(mica_cost_estimate(cost) == 100000, "one below all that was seen is believed at once");
}

static void test_shared(void)
{
    struct mica_cost *cost = work(0x2400, 1);
    mica_cost_measured(cost, 1000000, MICA_TRUST_NONE, true);
    for (int i = 0; i < 500; i++) {
        mica_cost_measured(cost, 3000000, MICA_TRUST_NONE, true);
    }
    check(mica_cost_estimate(cost) < 1150000, "where nothing can be trusted, a second of inflated measurements raises the estimate by less than 15 %");
    for (int i = 0; i < 20000; i++) {
        mica_cost_measured(cost, 3000000, MICA_TRUST_NONE, true);
    }
    check(mica_cost_estimate(cost) == 3000000, "work that stays longer is charged what it takes in the end, and no more");
}

static void test_assumed(void)
{
    struct mica_cost *cost = work(0x2800, 1);
    mica_cost_assume(cost, 700000);
    check(mica_cost_estimate(cost) == 700000, "work made of known parts begins with their sum");
    trusted(cost, 400000);
    mica_cost_assume(cost, 700000);
    check(mica_cost_estimate(cost) == 400000, "which its own measurement replaces for good");
}

static void test_full_table(void)
{
    bool unknown = true;
    for (uint64_t i = 1; i <= 20000; i++) {
        struct mica_cost *cost = work(i * 64, 7);
        unknown &= mica_cost_estimate(cost) == MICA_COST_UNKNOWN_NS;
        trusted(cost, 5);
    }
    check(unknown, "in a full table new work takes a place and starts unknown");
}

int main(void)
{
    test_first_measurement();
    test_alone();
    test_wrong_alone();
    test_near();
    test_average();
    test_shared();
    test_assumed();
    test_full_table();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
