/* SPDX-License-Identifier: Apache-2.0
 *
 * Many programs of one slice race at its limit, by several ways to allocate: the device never has more of the slice's memory than the limit, as counted by
 * the driver and not by the shim.
 *
 * The controls: the race is at the limit indeed, because programs are refused while we look; and where the record allows twice as much, the same look sees more.
 */
#define _GNU_SOURCE
#include "node.h"

#include "harness.h"

#include <signal.h>
#include <sys/wait.h>

#define RACERS 24
#define LOOKS 3000
#define REFUSALS 500      /* while we look */
#define PATIENCE_US 60000000ULL

struct race {
    uint64_t most_bytes; /* that the device had */
    uint64_t refusals;
    unsigned gone; /* racers that ended by themselves: a call failed that must not */
};

static uint64_t refusals_so_far(void)
{
    return atomic_load(&chaos_slice_read()->refusals);
}

/* Look at least LOOKS times, until racers were refused often enough, or the device had more than the limit. */
static void look_on(struct race *race, uint64_t refusals_before)
{
    for (uint64_t looks = 0; looks < LOOKS || (race->refusals < REFUSALS && race->most_bytes <= LIMIT_BYTES && looks < PATIENCE_US / 100); looks++) {
        uint64_t now = chaos_device_bytes();
        race->most_bytes = now > race->most_bytes ? now : race->most_bytes;
        race->refusals = refusals_so_far() - refusals_before;
        chaos_nap_us(looks < LOOKS ? 0 : 100);
    }
}

static struct race run(void)
{
    struct race race = {0};
    pid_t racers[RACERS];
    uint64_t before = refusals_so_far();
    for (unsigned i = 0; i < RACERS; i++) {
        racers[i] = chaos_start("racer", NULL);
    }
    look_on(&race, before);
    for (unsigned i = 0; i < RACERS; i++) {
        int status = 0;
        kill(racers[i], SIGKILL);
        waitpid(racers[i], &status, 0);
        race.gone += !WIFSIGNALED(status);
    }
    return race;
}

int main(void)
{
    if (chaos_node_make() != 0 || !chaos_driver_open()) {
        printf("0 passed, 1 failed\n");
        return 1;
    }
    struct race race = run();
    printf("# %u programs: at most %llu bytes of %llu, %llu refusals\n", RACERS, (unsigned long long)race.most_bytes, (unsigned long long)LIMIT_BYTES,
           (unsigned long long)race.refusals);
    chaos_check(race.most_bytes <= LIMIT_BYTES, "the device never has more of the slice's memory than its limit");
    chaos_check(race.refusals >= REFUSALS, "the control: the race is at the limit");
    chaos_slice_reclaim(0);
    bench_slice_write(2 * LIMIT_BYTES, MICA_CONTROL_RUN);
    struct race doubled = run();
    chaos_check(doubled.most_bytes > LIMIT_BYTES, "the control: a limit of twice that is passed, and seen");
    chaos_check(race.gone + doubled.gone == 0, "no call of a racer failed but for want of memory");
    return bench_slice_remove() | chaos_end();
}
