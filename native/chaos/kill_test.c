/* SPDX-License-Identifier: Apache-2.0
 *
 * Thousands of SIGKILLs: programs of one slice that take and give memory in every way, at its limit, and launch, are killed at random moments, several at a
 * time, over the simulated driver. After each batch of the dead is reclaimed, not a byte is leaked or lost: the slice's words and the driver's own count are
 * what the survivor holds. The limit was never passed, and the survivor has gone on all the while.
 *
 * Controls: before the reclaim the same look must find what the dead have left; and it must find memory of the device that no word knows.
 *
 * CHAOS_KILLS in the environment: how many; CHAOS_SEED: the moments.
 */
#define _GNU_SOURCE
#include "node.h"

#include "harness.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOGETHER 4        /* victims at a time */
#define BATCH 24          /* kills before each look; fewer than the slice has slots */
#define LONGEST_US 12000  /* of a victim's life; its start takes 2 to 5 ms of it */
#define QUIET_S 30        /* the survivor that is not quiet by then was held up */
#define MODULE_BYTES (2 * 65536ULL)

static uint64_t state;
static struct quiet *quiet;
static pid_t survivor;

/* --- Programs in the slice -------------------------------------------------------------------------------------------------- */

/* How many did not die by our hand: a call failed that must not. */
static int kill_batch(unsigned kills)
{
    pid_t victims[TOGETHER] = {0};
    int wrong = 0;
    for (unsigned i = 0; i < kills + TOGETHER; i++) {
        pid_t *victim = &victims[i % TOGETHER];
        int status = 0;
        if (*victim != 0) {
            chaos_nap_us(chaos_random_below(&state, LONGEST_US) / TOGETHER);
            kill(*victim, SIGKILL);
            waitpid(*victim, &status, 0);
            if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
                wrong++;
                printf("# a victim ended by itself: %s %d\n", WIFSIGNALED(status) ? "signal" : "status",
                       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            }
        }
        *victim = i < kills ? chaos_start("victim", NULL) : 0;
    }
    return wrong;
}

static bool hush(void)
{
    atomic_store(&quiet->wanted, 1);
    for (int tries = 0; tries < QUIET_S * 1000; tries++) {
        if (atomic_load(&quiet->is_quiet)) {
            return true;
        }
        int status = 0;
        if (waitpid(survivor, &status, WNOHANG) == survivor) {
            printf("# the survivor ended: %s %d\n", WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            return false;
        }
        chaos_nap_us(1000);
    }
    return false;
}

static void go_on(void)
{
    atomic_store(&quiet->wanted, 0);
    while (atomic_load(&quiet->is_quiet)) {
        chaos_nap_us(200);
    }
}

/* --- Looking ------------------------------------------------------------------------------------------------------------------ */

struct sight {
    uint64_t vram_bytes, pinned_bytes; /* by the slice's words */
    uint64_t peak_bytes;
    uint64_t device_bytes; /* by the driver */
    unsigned held;         /* slots */
};

static struct sight see(void)
{
    const struct mica_usage_region *usage = chaos_slice_read();
    struct sight sight = {.peak_bytes = atomic_load(&usage->vram_peak_bytes), .device_bytes = chaos_device_bytes()};
    for (unsigned i = 0; i < MICA_PROCESSES_MAX; i++) {
        if (chaos_slot_is_held(usage, i)) {
            sight.held++;
            sight.vram_bytes += mica_word_bytes(atomic_load(&usage->processes[i].vram_word));
            sight.pinned_bytes += mica_word_bytes(atomic_load(&usage->processes[i].pinned_word));
        }
    }
    return sight;
}

static bool is_whole(const struct sight *sight)
{
    return sight->held == 1 && sight->vram_bytes == HELD_BYTES + MODULE_BYTES && sight->pinned_bytes == 0 &&
           sight->device_bytes == HELD_BYTES + MODULE_BYTES && sight->peak_bytes <= LIMIT_BYTES;
}

/* --- The test ------------------------------------------------------------------------------------------------------------------- */

struct tally {
    unsigned kills, wrong, unclean, held_up;
    unsigned seen_before_reclaim; /* the first control */
};

static struct tally run(unsigned kills)
{
    struct tally tally = {0};
    while (tally.kills < kills && tally.held_up == 0 && tally.unclean == 0) {
        unsigned batch = kills - tally.kills < BATCH ? kills - tally.kills : BATCH;
        tally.wrong += (unsigned)kill_batch(batch);
        tally.kills += batch;
        if (!hush()) {
            tally.held_up++;
            break;
        }
        struct sight before = see();
        chaos_slice_reclaim(survivor);
        struct sight after = see();
        tally.seen_before_reclaim += before.vram_bytes > after.vram_bytes;
        if (!is_whole(&after)) {
            tally.unclean++;
            printf("# after %u kills: %u slots, %llu bytes charged, %llu pinned, peak %llu, %llu on the device\n", tally.kills, after.held,
                   (unsigned long long)after.vram_bytes, (unsigned long long)after.pinned_bytes, (unsigned long long)after.peak_bytes,
                   (unsigned long long)after.device_bytes);
        }
        go_on();
    }
    return tally;
}

static void judge(unsigned kills)
{
    uint64_t unknown = 0;
    char left[32];
    int status = 1;
    unsigned long before = atomic_load(&quiet->rounds);
    struct tally tally = run(kills);
    unsigned long rounds = atomic_load(&quiet->rounds) - before;
    printf("# %u kills, seed %s, %lu rounds of the survivor meanwhile\n", tally.kills, getenv("CHAOS_SEED") != NULL ? getenv("CHAOS_SEED") : "1", rounds);
    chaos_check(tally.wrong == 0, "no call of a victim failed but for want of memory");
    chaos_check(tally.held_up == 0 && rounds > tally.kills / BATCH, "the survivor went on all the while");
    chaos_check(tally.unclean == 0, "after each batch was reclaimed, words and device say what the survivor holds, and the limit was kept");
    chaos_check(tally.seen_before_reclaim > 0, "the control: before the reclaim, what the dead have left is seen");
    bool quiet_now = tally.held_up == 0 && hush();
    bool taken = chaos_device_take(GRANULE_BYTES, &unknown);
    struct sight sight = see();
    chaos_check(quiet_now && taken && !is_whole(&sight), "the control: memory of the device that no word knows is seen");
    chaos_device_give(unknown);
    snprintf(left, sizeof left, "%llu", (unsigned long long)(LIMIT_BYTES - HELD_BYTES - MODULE_BYTES - MODULE_BYTES / 2));
    waitpid(chaos_start("filler", left), &status, 0);
    chaos_check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the next program gets all that is left, and not a byte more");
}

int main(void)
{
    const char *kills = getenv("CHAOS_KILLS");
    const char *seed = getenv("CHAOS_SEED");
    state = seed != NULL ? strtoull(seed, NULL, 10) : 1;
    if (chaos_node_make() != 0 || !chaos_driver_open()) {
        printf("0 passed, 1 failed\n");
        return 1;
    }
    int file = open(bench_path(QUIET_FILE), O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof *quiet) != 0) {
        return 1;
    }
    quiet = mmap(NULL, sizeof *quiet, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    survivor = chaos_start("survivor", NULL);
    while (atomic_load(&quiet->rounds) == 0 && waitpid(survivor, NULL, WNOHANG) == 0) {
        chaos_nap_us(1000);
    }
    judge(kills != NULL ? (unsigned)strtoul(kills, NULL, 10) : 200);
    kill(survivor, SIGKILL);
    waitpid(survivor, NULL, 0);
    return bench_slice_remove() | chaos_end();
}
