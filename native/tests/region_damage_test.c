/* SPDX-License-Identifier: Apache-2.0
 *
 * A token region into which any of its slices has written anything: whoever asks is admitted all the same, in bounded time. Time is simulated.
 */
#define _GNU_SOURCE
#include "check.h"
#include "region.h"

#define NOW 1000000000000ULL
#define MS 1000000ULL
#define SCENES 20000
#define NAP_NS MS /* a shim asks again after this at the latest */
#define BOUND_NS (MICA_TOKEN_BACKLOG_MAX_NS + 10 * MICA_TOKEN_ALONE_NS)
#define WORDS ((sizeof(struct mica_token_region) - sizeof(struct mica_region_header)) / sizeof(uint64_t))

static struct mica_token_region token;
static struct mica_usage_region usage;

/* A word as damage, or a liar, would have it: extremes, times around now, anything. */
static uint64_t some_word(uint64_t *random)
{
    uint64_t any = check_random(random);
    switch (any >> 8 & 7) {
    case 0:
        return UINT64_MAX;
    case 1:
        return 1ULL << 63;
    case 2:
        return any & 3;
    case 3:
        return NOW + (check_random(random) >> 34); /* up to a second ahead */
    case 4:
        return NOW + (check_random(random) >> 24); /* up to minutes ahead */
    case 5:
        return NOW - (check_random(random) >> 34);
    default:
        return check_random(random);
    }
}

static void damage(uint64_t *random)
{
    MICA_ATOMIC_U64 *words = (MICA_ATOMIC_U64 *)(void *)((char *)&token + sizeof token.header);
    memset(&token, 0, sizeof token);
    memset(&usage, 0, sizeof usage);
    unsigned count = (unsigned)(check_random(random) % (2 * WORDS));
    for (unsigned i = 0; i < count; i++) {
        /* Half of the damage is to the few words that are not the waiters'. */
        uint64_t at = check_random(random) % ((i & 1) != 0 ? WORDS : offsetof(struct mica_token_region, waiters) / sizeof(uint64_t) - 32);
        atomic_store(&words[at], some_word(random));
    }
}

/* How long the work waits, in simulated time; more than BOUND_NS: given up. */
static uint64_t waited_ns(uint64_t *random)
{
    static const uint64_t costs_ns[] = {20000, 500000, 2 * MS, 50 * MS};
    struct mica_slice_limits limits = {.share_ppm = 300000, .ceiling_ppm = MICA_PPM, .burst_ns = 20 * MS, .quantum_ns = 2 * MS};
    uint64_t kind = check_random(random);
    struct mica_token_ask ask = {.record = kind >> 8 & 7,
                                 .cost_ns = costs_ns[kind >> 16 & 3],
                                 .quantum_ns = limits.quantum_ns,
                                 .alone = kind >> 24 & 1,
                                 .urgent = kind >> 25 & 1,
                                 .jumps = kind >> 26 & 1,
                                 .brief = kind >> 27 & 1};
    uint64_t now_ns = NOW;
    ask.tag_ns = mica_order_enter(&usage, &token, &limits, now_ns);
    for (uint64_t wait_ns; now_ns - NOW <= BOUND_NS && (wait_ns = mica_token_admit(&token, &ask, now_ns)) != 0;) {
        now_ns += wait_ns < NAP_NS ? wait_ns : NAP_NS;
    }
    mica_order_charge(&usage, &token, &limits, ask.tag_ns, ask.cost_ns, ask.end_ns);
    return now_ns - NOW;
}

static void test_damage_holds_nobody_up(void)
{
    uint64_t longest_ns = 0;
    for (uint64_t scene = 1; scene <= SCENES; scene++) {
        uint64_t random = scene * 0x9e3779b97f4a7c15ULL;
        damage(&random);
        uint64_t ns = waited_ns(&random);
        longest_ns = ns > longest_ns ? ns : longest_ns;
        if (ns > BOUND_NS) {
            printf("# scene %llu: still waiting after %llu ms\n", (unsigned long long)scene, (unsigned long long)(ns / MS));
            CHECK(ns <= BOUND_NS);
            break;
        }
    }
    printf("# the longest wait was %llu ms\n", (unsigned long long)(longest_ns / MS));
}

int main(void)
{
    check_run(test_damage_holds_nobody_up, "whatever is written into a token, nobody waits for ever");
    return check_finish();
}
