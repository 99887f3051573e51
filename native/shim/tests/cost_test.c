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
    check(mica_cost_claim_first(cost) && !mica_cost_claim_first(cost), "the first measurement is claimed once");
    for (int i = 0; i < 3; i++) {
        mica_cost_charged(cost);
    }
    mica_cost_uncharged(cost);
    struct mica_settlement settlement = mica_cost_measured(cost, 900000);
    check(settlement.charged_ns == 2 * MICA_COST_UNKNOWN_NS && settlement.actual_ns == 1800000, "launches charged before it are settled with it");
    check(mica_cost_estimate(cost) == 900000 && !mica_cost_claim_first(cost), "from then on the measured time is charged");
    check(mica_cost_find(0x1000, 64) == cost, "the same function and grid is the same work");
    check(mica_cost_find(0x1000, 65) != cost && mica_cost_find(0x1008, 64) != cost, "another grid or function is other work");
}

static void test_low_quantile(void)
{
    struct mica_cost *cost = mica_cost_find(0x2000, 1);
    mica_cost_measured(cost, 3000000); /* a neighbour was in between */
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
    test_low_quantile();
    test_full_table();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
