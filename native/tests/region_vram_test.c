/* SPDX-License-Identifier: Apache-2.0
 *
 * Reserving device memory by one process: amounts, slots, what the dead leave behind, and how it is taken back.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "check.h"
#include "region.h"

#define PENDING_ONE (1ULL << MICA_MEMORY_BYTES_BITS)
#define LIMIT 100

static const char *const FILES[] = {"usage", "cut", NULL};
static struct mica_usage_region *region;
static int region_fd;

static uint64_t owner_number(unsigned number)
{
    return MICA_OWNER_HELD | 1000ULL << MICA_OWNER_PID_BITS | number;
}

static void region_clear(void)
{
    memset((char *)region + sizeof region->header, 0, sizeof *region - sizeof region->header);
}

/* Reserve from `slot` within LIMIT. */
static int reserve(unsigned slot, uint64_t bytes)
{
    struct mica_charge charge;
    return mica_charge_make(region, slot, MICA_MEMORY_VRAM, bytes, LIMIT, &charge);
}

static void test_exactly_to_the_limit(void)
{
    region_clear();
    int a = mica_slot_claim(region, owner_number(1)), b = mica_slot_claim(region, owner_number(2));
    struct mica_charge first, second, third;
    CHECK_EQUAL(mica_charge_make(region, (unsigned)a, MICA_MEMORY_VRAM, 60, LIMIT, &first), 0);
    CHECK_EQUAL(mica_charge_make(region, (unsigned)b, MICA_MEMORY_VRAM, 41, LIMIT, &second), -ENOMEM);
    CHECK_EQUAL(second.bytes, 0);
    CHECK_EQUAL(mica_charge_make(region, (unsigned)b, MICA_MEMORY_VRAM, 40, LIMIT, &second), 0);
    CHECK_EQUAL(mica_charge_make(region, (unsigned)a, MICA_MEMORY_VRAM, 1, LIMIT, &third), -ENOMEM);
    CHECK_EQUAL(mica_charge_make(region, (unsigned)a, MICA_MEMORY_VRAM, 0, LIMIT, &third), 0);
    CHECK_EQUAL(mica_charge_sum(region, MICA_MEMORY_VRAM), 100);
    CHECK_EQUAL(atomic_load(&region->refusals), 2);
    mica_charge_refund(region, (unsigned)a, &first);
    mica_charge_refund(region, (unsigned)a, &first); /* the handle is empty: nothing is given back twice */
    CHECK_EQUAL(mica_charge_sum(region, MICA_MEMORY_VRAM), 40);
    CHECK_EQUAL(atomic_load(&region->vram_peak_bytes), 100);
    CHECK_EQUAL(atomic_load(&region->processes[a].vram_peak_bytes), 60);
    CHECK_EQUAL(mica_word_bytes(atomic_load(&region->processes[b].vram_word)), 40);
}

static void test_a_shrunk_limit_refuses_until_there_is_room(void)
{
    region_clear();
    unsigned slot = (unsigned)mica_slot_claim(region, owner_number(1));
    struct mica_charge large, small;
    CHECK_EQUAL(mica_charge_make(region, slot, MICA_MEMORY_VRAM, 90, LIMIT, &large), 0);
    CHECK_EQUAL(mica_charge_make(region, slot, MICA_MEMORY_VRAM, 1, 50, &small), -ENOMEM);
    mica_charge_refund(region, slot, &large);
    CHECK_EQUAL(mica_charge_make(region, slot, MICA_MEMORY_VRAM, 50, 50, &small), 0);
}

static void test_absurd_amounts(void)
{
    region_clear();
    struct mica_charge charge;
    unsigned slot = (unsigned)mica_slot_claim(region, owner_number(1));
    unsigned other = (unsigned)mica_slot_claim(region, owner_number(2));
    CHECK_EQUAL(mica_charge_make(region, slot, MICA_MEMORY_VRAM, UINT64_MAX, UINT64_MAX, &charge), -EOVERFLOW);
    CHECK_EQUAL(mica_charge_make(region, slot, MICA_MEMORY_VRAM, MICA_MEMORY_BYTES_MAX + 1, UINT64_MAX, &charge), -EOVERFLOW);
    CHECK_EQUAL(mica_charge_make(region, slot, MICA_MEMORY_VRAM, MICA_MEMORY_BYTES_MAX, MICA_MEMORY_BYTES_MAX - 1, &charge), -ENOMEM);
    CHECK_EQUAL(mica_charge_make(region, MICA_PROCESSES_MAX, MICA_MEMORY_VRAM, 1, LIMIT, &charge), -EINVAL);
    CHECK_EQUAL(mica_charge_sum(region, MICA_MEMORY_VRAM), 0);
    CHECK_EQUAL(mica_charge_make(region, slot, MICA_MEMORY_VRAM, MICA_MEMORY_BYTES_MAX, UINT64_MAX, &charge), 0);
    CHECK_EQUAL(mica_charge_make(region, slot, MICA_MEMORY_VRAM, 1, UINT64_MAX, &charge), -EOVERFLOW);
    CHECK_EQUAL(mica_charge_make(region, other, MICA_MEMORY_VRAM, MICA_MEMORY_BYTES_MAX, UINT64_MAX, &charge), 0);
    CHECK(mica_charge_sum(region, MICA_MEMORY_VRAM) == 2 * MICA_MEMORY_BYTES_MAX);

    charge.bytes = MICA_MEMORY_BYTES_MAX;
    atomic_store(&region->processes[slot].vram_word, 5);
    mica_charge_refund(region, slot, &charge); /* more than is there, after a slot was cleared under its owner */
    CHECK_EQUAL(mica_word_bytes(atomic_load(&region->processes[slot].vram_word)), 0);
}

static unsigned shared_slots(void)
{
    unsigned shared = 0;
    for (unsigned i = 0; i < MICA_PROCESSES_MAX; i++) {
        bool vram = atomic_load(&region->processes[i].vram_word) & MICA_MEMORY_SHARED;
        bool pinned = atomic_load(&region->processes[i].pinned_word) & MICA_MEMORY_SHARED;
        CHECK_EQUAL(vram, pinned);
        shared += vram;
    }
    return shared;
}

static void test_slots_that_are_held_together_say_so(void)
{
    region_clear();
    CHECK_EQUAL(mica_slot_claim(region, owner_number(1)), 0);
    CHECK_EQUAL(shared_slots(), 0);
    CHECK_EQUAL(mica_slot_claim(region, owner_number(2)), 1);
    CHECK_EQUAL(shared_slots(), 2);
    CHECK_EQUAL(reserve(0, 30), 0);
    mica_slot_release(region, 1, owner_number(2));
    CHECK_EQUAL(shared_slots(), 1);
    CHECK_EQUAL(mica_slot_claim(region, owner_number(3)), 1);
    CHECK_EQUAL(shared_slots(), 2);
    mica_slot_release(region, 0, owner_number(1));
    mica_slot_release(region, 1, owner_number(3));
    CHECK_EQUAL(mica_slot_claim(region, owner_number(4)), 0);
    CHECK_EQUAL(shared_slots(), 0);
}

static void test_a_slot_that_was_taken_away_takes_no_charge(void)
{
    for (unsigned others = 0; others < 2; others++) {
        region_clear();
        unsigned slot = (unsigned)mica_slot_claim(region, owner_number(1));
        for (unsigned i = 0; i < others; i++)
            CHECK_EQUAL(mica_slot_claim(region, owner_number(2)), 1);
        CHECK_EQUAL(mica_slot_reclaim(region_fd, slot, owner_number(1)), 1);
        CHECK_EQUAL(reserve(slot, 30), -ESTALE);
        CHECK_EQUAL(mica_word_bytes(atomic_load(&region->processes[slot].vram_word)), 0);
    }
}

static void test_slots_are_distinct_and_bounded(void)
{
    region_clear();
    for (unsigned i = 0; i < MICA_PROCESSES_MAX; i++)
        CHECK_EQUAL(mica_slot_claim(region, owner_number(i)), i);
    CHECK_EQUAL(mica_slot_claim(region, owner_number(99)), -ENOSPC);
    mica_slot_release(region, 7, owner_number(99)); /* not the owner */
    mica_slot_release(region, MICA_PROCESSES_MAX, owner_number(7));
    CHECK_EQUAL(mica_slot_claim(region, owner_number(99)), -ENOSPC);
    CHECK_EQUAL(reserve(7, 30), 0);
    mica_slot_release(region, 7, owner_number(7));
    CHECK_EQUAL(mica_charge_sum(region, MICA_MEMORY_VRAM), 0);
    CHECK_EQUAL(mica_slot_claim(region, owner_number(99)), 7);
}

/* A charge of another process that is pending until a thread decides it. */
struct undecided {
    unsigned slot;
    uint64_t word; /* what the word becomes */
};

static void *undecided_decide(void *argument)
{
    const struct undecided *undecided = argument;
    for (int i = 0; i < 200; i++)
        sched_yield();
    atomic_store(&region->processes[undecided->slot].vram_word, undecided->word);
    return NULL;
}

static int reserve_beside_undecided(unsigned slot, struct undecided undecided)
{
    atomic_store(&region->processes[undecided.slot].vram_word, PENDING_ONE + 60);
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, undecided_decide, &undecided), 0);
    int rc = reserve(slot, 60);
    pthread_join(thread, NULL);
    return rc;
}

static void test_a_pending_racer_is_waited_for(void)
{
    for (unsigned slot = 0; slot < 3; slot += 2) {
        region_clear();
        for (unsigned i = 0; i < 3; i++)
            CHECK_EQUAL(mica_slot_claim(region, owner_number(i)), i);
        CHECK_EQUAL(reserve_beside_undecided(slot, (struct undecided){1, 0}), 0);
        CHECK_EQUAL(mica_charge_sum(region, MICA_MEMORY_VRAM), 60);
        atomic_store(&region->processes[slot].vram_word, MICA_MEMORY_SHARED);
        CHECK_EQUAL(reserve_beside_undecided(slot, (struct undecided){1, 60}), -ENOMEM);
        CHECK_EQUAL(mica_charge_sum(region, MICA_MEMORY_VRAM), 60);
    }
}

static void test_a_dead_racer_delays_no_more_than_patience(void)
{
    region_clear();
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQUAL(mica_slot_claim(region, owner_number(i)), i);
    atomic_store(&region->processes[1].vram_word, PENDING_ONE + 60);
    for (unsigned slot = 0; slot < 3; slot += 2) {
        CHECK_EQUAL(reserve(slot, 60), -ENOMEM);
        CHECK_EQUAL(atomic_load(&region->processes[slot].vram_word) & (MICA_MEMORY_SHARED - 1), 0);
        CHECK_EQUAL(reserve(slot, 20), 0); /* what fits beside it is not held up */
    }
    CHECK_EQUAL(mica_slot_reclaim(region_fd, 1, owner_number(1)), 1);
    CHECK_EQUAL(reserve(0, 60), 0);
}

static void test_reclaim_frees_the_named_owner_only(void)
{
    region_clear();
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQUAL(mica_slot_claim(region, owner_number(i)), i);
        CHECK_EQUAL(reserve(i, 10 + i), 0);
    }
    CHECK_EQUAL(mica_slot_reclaim(region_fd, 1, owner_number(2)), 0);
    CHECK_EQUAL(mica_slot_reclaim(region_fd, MICA_PROCESSES_MAX, owner_number(1)), -EINVAL);
    CHECK_EQUAL(mica_charge_sum(region, MICA_MEMORY_VRAM), 33);
    CHECK_EQUAL(mica_slot_reclaim(region_fd, 1, owner_number(1)), 1);
    CHECK_EQUAL(mica_charge_sum(region, MICA_MEMORY_VRAM), 22);
    CHECK_EQUAL(mica_slot_reclaim(region_fd, 1, owner_number(1)), 0);
    CHECK_EQUAL(atomic_load(&region->processes[1].owner), owner_number(1) & ~MICA_OWNER_HELD);
    CHECK_EQUAL(mica_slot_claim(region, owner_number(5)), 1);
    CHECK_EQUAL(mica_slot_reclaim(region_fd, 1, owner_number(1)), 0);
}

static void test_reclaim_never_grows_a_cut_file(void)
{
    CHECK_EQUAL(mica_region_create(check_path("cut"), MICA_REGION_USAGE, "GPU-1", "s", 0600), 0);
    int fd = open(check_path("cut"), O_RDWR);
    uint64_t owner = owner_number(1);
    off_t cut = offsetof(struct mica_usage_region, processes) + sizeof owner;
    CHECK_EQUAL(pwrite(fd, &owner, sizeof owner, cut - (off_t)sizeof owner), sizeof owner);
    CHECK_EQUAL(ftruncate(fd, cut), 0);
    CHECK_EQUAL(mica_slot_reclaim(fd, 0, owner), -EIO);
    CHECK_EQUAL(mica_slot_reclaim(fd, 3, owner), 0);
    struct stat status;
    CHECK_EQUAL(fstat(fd, &status), 0);
    CHECK_EQUAL(status.st_size, cut);
    close(fd);
}

static void victim_run(unsigned number)
{
    uint64_t random = number + 1;
    int slot = mica_slot_claim(region, owner_number(number));
    for (;;) {
        struct mica_charge charge;
        mica_charge_make(region, (unsigned)slot, MICA_MEMORY_VRAM, 1 + check_random(&random) % 60, LIMIT, &charge);
        atomic_fetch_add(&region->processes[slot].launches, 1);
        mica_charge_refund(region, (unsigned)slot, &charge);
    }
}

static void test_killed_owner_gives_all_back(void)
{
    enum { KILLS = 50 };
    region_clear();
    CHECK_EQUAL(mica_slot_claim(region, owner_number(1)), 0);
    CHECK_EQUAL(reserve(0, 30), 0);
    int held = 0, pending = 0;
    for (unsigned i = 0; i < KILLS; i++) {
        pid_t victim = fork();
        if (victim == 0)
            victim_run(100 + i);
        while (atomic_load(&region->processes[1].launches) < 50)
            sched_yield();
        kill(victim, SIGKILL);
        waitpid(victim, NULL, 0);
        uint64_t word = atomic_load(&region->processes[1].vram_word);
        held += mica_word_bytes(word) != 0;
        pending += (word & (MICA_MEMORY_SHARED - PENDING_ONE)) != 0;
        CHECK_EQUAL(mica_charge_sum(region, MICA_MEMORY_VRAM), 30 + mica_word_bytes(word));
        CHECK_EQUAL(mica_slot_reclaim(region_fd, 1, owner_number(100 + i)), 1);
        CHECK_EQUAL(mica_charge_sum(region, MICA_MEMORY_VRAM), 30);
        CHECK_EQUAL(atomic_load(&region->processes[1].launches), 0);
    }
    CHECK_EQUAL(reserve(0, LIMIT - 30), 0);
    printf("# of %d killed processes %d held memory, %d of these not decided yet\n", KILLS, held, pending);
}

int main(void)
{
    void *mapping = NULL;
    if (mica_region_create(check_path("usage"), MICA_REGION_USAGE, "GPU-1", "s", 0600) != 0 ||
        mica_region_map(check_path("usage"), MICA_REGION_USAGE, true, &mapping) != MICA_REGION_OK)
        return 2;
    region = mapping;
    region_fd = open(check_path("usage"), O_RDWR | O_CLOEXEC);
    check_run(test_exactly_to_the_limit, "processes together get exactly the limit, give back once, and leave their peaks");
    check_run(test_a_shrunk_limit_refuses_until_there_is_room, "a limit below what is held refuses until enough was given back");
    check_run(test_absurd_amounts, "amounts at the edge of the word are charged whole or refused, and never wrap");
    check_run(test_slots_that_are_held_together_say_so, "slots that are held at the same time say that they are shared, and no others");
    check_run(test_a_slot_that_was_taken_away_takes_no_charge, "a slot that was taken away under its process takes no charge");
    check_run(test_slots_are_distinct_and_bounded, "slots are distinct, bounded, and released by their owner only");
    check_run(test_a_pending_racer_is_waited_for, "a charge that is not decided yet refuses nobody until it is");
    check_run(test_a_dead_racer_delays_no_more_than_patience, "a racer that died undecided delays a refusal, and nothing that fits");
    check_run(test_reclaim_frees_the_named_owner_only, "a slot is reclaimed from the owner it is held by, once");
    check_run(test_reclaim_never_grows_a_cut_file, "reclaiming in a truncated file is an error and leaves its length");
    check_run(test_killed_owner_gives_all_back, "whatever a killed process held comes back, and its neighbour's memory stays");
    close(region_fd);
    mica_region_unmap(region, MICA_REGION_USAGE);
    check_remove(FILES);
    return check_finish();
}
