/* SPDX-License-Identifier: Apache-2.0
 *
 * The device token, which every process of every slice on the device may write: whatever its words, somebody who asks is told how long to wait, and is let in
 * after a bounded time.
 */
#define _GNU_SOURCE
#include "damaged.h"

#define BEGIN_NS 1000000000000ULL
#define LONGEST_NS 10000000000ULL /* of a wait, with every word against us */
#define ASKS 200000

#ifdef BROKEN_TRUSTS_WAITERS_HIGH /* a look at as many waiters as the region says there are */
static uint64_t waiting(const struct mica_token_region *token)
{
    uint64_t waiters = 0;
    for (uint64_t i = 0; i < atomic_load(&token->waiters_high); i++) {
        waiters += atomic_load(&token->waiters[i].seen_ns) != 0;
    }
    return waiters;
}
#else
static uint64_t waiting(const struct mica_token_region *token)
{
    (void)token;
    return 0;
}
#endif

static uint64_t wait_for_turn(struct mica_token_region *token, struct mica_token_ask *ask, uint64_t now_ns)
{
    for (unsigned asks = 0; asks < ASKS; asks++) {
        uint64_t wait_ns = mica_token_admit(token, ask, now_ns);
        if (wait_ns == 0) {
            return now_ns;
        }
        now_ns += wait_ns < LONGEST_NS ? wait_ns : LONGEST_NS;
        if (now_ns - BEGIN_NS > LONGEST_NS) {
            abort(); /* held up */
        }
    }
    abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *input, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *input, size_t size)
{
    static struct damaged damaged;
    const unsigned char *rest;
    void *region = NULL;
    size_t left = damaged_patch(&damaged, MICA_REGION_TOKEN, input, size, &rest);
    if (mica_region_map(damaged.path, MICA_REGION_TOKEN, true, &region) != MICA_REGION_OK) {
        return 0;
    }
    unsigned char how = left > 0 ? rest[0] : 0;
    struct mica_token_ask ask = {.record = how % MICA_SLICES_MAX, .tag_ns = BEGIN_NS, .cost_ns = 1000000, .quantum_ns = 2000000, .alone = how & 1,
                                 .urgent = how >> 1 & 1, .jumps = how >> 2 & 1};
    (void)waiting(region);
    uint64_t now_ns = wait_for_turn(region, &ask, BEGIN_NS);
    uint64_t end_ns = mica_token_made(region, ask.end_ns, ask.cost_ns, now_ns);
    (void)mica_token_release(region, ask.claim_ns, end_ns);
    mica_token_shift(region, how & 8, ask.cost_ns);
    mica_token_leave(region, &ask);
    mica_region_unmap(region, MICA_REGION_TOKEN);
    return 0;
}
