/* SPDX-License-Identifier: Apache-2.0
 *
 * Many programs of one slice race at its limit, by several ways to allocate: the device never has more of the slice's memory than the limit, as counted by
 * the driver and not by the shim.
 *
 * The controls: the race is at the limit indeed; and where the record allows twice as much, the same look sees more.
 */
#define _GNU_SOURCE
#include "node.h"

#include "harness.h"

#include <signal.h>
#include <sys/wait.h>

#define RACERS 24
#define LOOKS 3000
#define MODULES_BYTES (RACERS * 65536ULL) /* of the racers' own kernels */

static unsigned gone; /* before they were killed: a call failed that must not */

/* The most that the device had of the slice's memory in LOOKS looks, with RACERS programs at it. */
static uint64_t most_seen(void)
{
    pid_t racers[RACERS];
    uint64_t most = 0;
    for (unsigned i = 0; i < RACERS; i++) {
        racers[i] = chaos_start("racer", NULL);
    }
    while (chaos_device_bytes() < LIMIT_BYTES / 2) {
        chaos_nap_us(100);
    }
    for (unsigned i = 0; i < LOOKS; i++) {
        uint64_t now = chaos_device_bytes();
        most = now > most ? now : most;
    }
    for (unsigned i = 0; i < RACERS; i++) {
        int status = 0;
        kill(racers[i], SIGKILL);
        waitpid(racers[i], &status, 0);
        gone += !WIFSIGNALED(status);
    }
    return most;
}

int main(void)
{
    if (chaos_node_make() != 0 || !chaos_driver_open()) {
        printf("0 passed, 1 failed\n");
        return 1;
    }
    uint64_t most = most_seen();
    printf("# at most %llu bytes of %llu\n", (unsigned long long)most, (unsigned long long)LIMIT_BYTES);
    chaos_check(most <= LIMIT_BYTES, "the device never has more of the slice's memory than its limit");
    chaos_check(most > LIMIT_BYTES - 2 * GRANULE_BYTES - MODULES_BYTES, "the control: the race is at the limit");
    chaos_slice_forget_the_dead();
    bench_slice_write(2 * LIMIT_BYTES, MICA_CONTROL_RUN);
    chaos_check(most_seen() > LIMIT_BYTES, "the control: a limit of twice that is passed, and seen");
    chaos_check(gone == 0, "no call of a racer failed but for want of memory");
    return bench_slice_remove() | chaos_end();
}
