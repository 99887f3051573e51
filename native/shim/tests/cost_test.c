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

static void test_first_measurement(void)
{
    struct mica_cost *cost = mica_cost_find(0x1000, 64);
    check(mica_cost_estimate(cost) == MICA_COST_UNKNOWN_NS, "unknown work is charged the default");
    for (int i = 0; i < 3; i++) {
        mica_cost_charged(cost);
    }
    mica_cost_uncharged(cost);
    struct mica_settlement settlement = mica_cost_measured(cost, 900000);
    check(settlement.charged_ns == 2 * MICA_COST_UNKNOWN_NS && settlement.actual_ns == 1800000, "launches charged before it are settled with it");
    check(mica_cost_estimate(cost) == 900000, "from then on the measured time is charged");
    check(mica_cost_find(0x1000, 64) == cost, "the same function and grid is the same work");
    check(mica_cost_find(0x1000, 65) != cost && mica_cost_find(0x1008, 64) != cost, "another grid or function is other work");
}

static void test_claims(void)
{
    struct mica_cost *cost = mica_cost_find(0x1800, 64);
    int claims = 0;
    while (claims < 100 && mica_cost_claim(cost)) {
        claims++;
    }
    check(claims == MICA_COST_LEARNING, "the first launches of a kernel are measured, and no more");
    mica_cost_unclaim(cost);
    check(mica_cost_claim(cost) && !mica_cost_claim(cost), "a measurement that did not come about is made up for");
}

static void charge_times(struct mica_cost *cost, int times)
{
    for (int i = 0; i < times; i++) {
        mica_cost_charged(cost);
    }
}

/* What 300 launches have been charged in the end, when the first measurement was inflated a hundredfold. */
static void test_learning(void)
{
    struct mica_cost *cost = mica_cost_find(0x1c00, 1);
    charge_times(cost, 280);
    struct mica_settlement first = mica_cost_measured(cost, 2000000);
    charge_times(cost, 20);
    struct mica_settlement second = mica_cost_measured(cost, 22000);
    uint64_t charged = 280 * MICA_COST_UNKNOWN_NS - first.charged_ns + first.actual_ns + 20 * 2000000ULL - second.charged_ns + second.actual_ns;
    check(charged == 300 * 22000ULL, "an inflated first measurement is undone for all launches by the next");
}

static void learn(struct mica_cost *cost, uint64_t ns)
{
    for (int i = 0; i < MICA_COST_LEARNING; i++) {
        mica_cost_measured(cost, ns);
    }
}

static void test_low_quantile(void)
{
    struct mica_cost *cost = mica_cost_find(0x2000, 1);
    learn(cost, 3000000); /* a neighbour was always in between */
    mica_cost_measured(cost, 1000000);
    check(mica_cost_estimate(cost) == 1000000, "a shorter measurement is believed at once");
    for (int i = 0; i < 500; i++) {
        mica_cost_measured(cost, 3000000); /* a second of a busy neighbour, at one sample per quantum */
    }
    check(mica_cost_estimate(cost) < 1150000, "a second of measurements inflated threefold raises the estimate by less than 15 %");
    for (int i = 0; i < 20000; i++) {
        mica_cost_measured(cost, 3000000);
    }
    check(mica_cost_estimate(cost) == 3000000, "work that stays longer is charged what it takes in the end, and no more");
    charge_times(cost, 1000);
    mica_cost_measured(cost, 3000000);
    struct mica_settlement late = mica_cost_measured(cost, 1000000);
    check(late.charged_ns == 0 && late.actual_ns == 0, "a known kernel that becomes shorter is not paid back for the past");
}

static void test_full_table(void)
{
    bool unknown = true;
    for (uint64_t i = 1; i <= 20000; i++) {
        struct mica_cost *cost = mica_cost_find(i * 64, 7);
        unknown &= mica_cost_estimate(cost) == MICA_COST_UNKNOWN_NS;
        mica_cost_measured(cost, 5);
    }
    check(unknown, "in a full table new work takes a place and starts unknown");
}

int main(void)
{
    test_first_measurement();
    test_claims();
    test_learning();
    test_low_quantile();
    test_full_table();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
