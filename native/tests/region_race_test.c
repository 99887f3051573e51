/* SPDX-License-Identifier: Apache-2.0
 *
 * Racing for device memory: never too much, and nobody that fits is refused; each with a control that must fail.
 *
 * A round: every racer asks at once, then all are judged. The judge needs no model of who should win: what was given must be
 * within the limit, and no refused ask may fit beside the winners, because nothing was given back in between.
 *
 * vram.c is compiled into this program with an interruption before every atomic access, now and then: whatever can come between
 * two of its steps does, on two cores as well.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "check.h"
#include "region.h"

#define INTERRUPTED_IN 16 /* one access in this many lets another racer run */

static void interrupt(const volatile void *word)
{
    static _Thread_local uint64_t random;
    (void)word;
    if (random == 0)
        random = (uint64_t)(uintptr_t)&random ^ (uint64_t)getpid() << 32;
    if (check_random(&random) % INTERRUPTED_IN == 0)
        sched_yield();
}

#include "interrupted_vram.h"
#include "region/slot.c"

#define LIMIT 100
#define RACERS 4
#define ROUNDS 3000
#define CONTROL_ROUNDS 200000 /* a control stops at its first failure */
#define PERMITS 2
#define PERMITTED 4000
#define VISITS 20000
#define BARRIER_PATIENCE_NS 60000000000ULL

typedef int reserve_function(unsigned slot, uint64_t bytes, struct mica_charge *charge);

enum racer_kind { PROCESSES, THREADS, THREADS_OF_ONE_SLOT };

/* Everything that racers share besides the region. */
struct arena {
    _Atomic unsigned arrived, generation;
    _Atomic bool over;
    _Atomic uint64_t overshoots, false_refusals, rounds;
    _Atomic uint64_t books; /* the driver's: what is really allocated */
    _Atomic uint64_t asked[RACERS], given[RACERS];
};

struct racer {
    unsigned index, slot, rounds;
    reserve_function *reserve;
    bool until_failure;
};

static struct mica_usage_region *region;
static struct arena *arena;
static int permit_pipe[2];

/* --- What is raced ------------------------------------------------------------------------------------------------------ */

static int real_reserve(unsigned slot, uint64_t bytes, struct mica_charge *charge)
{
    return mica_charge_make(region, slot, MICA_MEMORY_VRAM, bytes, LIMIT, charge);
}

/* Sums the slots and lets others run in between: what any sum may meet, made likely. */
static uint64_t slow_sum(void)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < RACERS; i++) {
        bytes += mica_word_bytes(atomic_load(&region->processes[i].vram_word));
        sched_yield();
    }
    return bytes;
}

/* Control: looks first and charges then. It must overshoot. */
static int check_then_charge(unsigned slot, uint64_t bytes, struct mica_charge *charge)
{
    charge->bytes = 0;
    if (slow_sum() + bytes > LIMIT)
        return -ENOMEM;
    atomic_fetch_add(&region->processes[slot].vram_word, bytes);
    charge->bytes = bytes;
    return 0;
}

/* Control: adds, sums and rolls back, once. It must refuse what fits. */
static int add_then_roll_back(unsigned slot, uint64_t bytes, struct mica_charge *charge)
{
    charge->bytes = 0;
    atomic_fetch_add(&region->processes[slot].vram_word, bytes);
    if (slow_sum() > LIMIT) {
        atomic_fetch_sub(&region->processes[slot].vram_word, bytes);
        return -ENOMEM;
    }
    charge->bytes = bytes;
    return 0;
}

/* --- Rounds ------------------------------------------------------------------------------------------------------------- */

static void barrier_wait(void)
{
    unsigned generation = atomic_load(&arena->generation);
    if (atomic_fetch_add(&arena->arrived, 1) == RACERS - 1) {
        atomic_store(&arena->arrived, 0);
        atomic_fetch_add(&arena->generation, 1);
        return;
    }
    uint64_t give_up_ns = mica_monotonic_ns() + BARRIER_PATIENCE_NS;
    while (atomic_load(&arena->generation) == generation) {
        sched_yield();
        if (mica_monotonic_ns() > give_up_ns) {
            printf("# a racer did not arrive\n");
            _exit(3);
        }
    }
}

static void round_judge(bool until_failure)
{
    uint64_t given = 0;
    for (unsigned i = 0; i < RACERS; i++)
        given += atomic_load(&arena->given[i]);
    if (given > LIMIT)
        atomic_fetch_add(&arena->overshoots, 1);
    for (unsigned i = 0; i < RACERS; i++)
        if (atomic_load(&arena->given[i]) == 0 && given + atomic_load(&arena->asked[i]) <= LIMIT)
            atomic_fetch_add(&arena->false_refusals, 1);
    atomic_fetch_add(&arena->rounds, 1);
    if (until_failure && atomic_load(&arena->overshoots) + atomic_load(&arena->false_refusals) > 0)
        atomic_store(&arena->over, true);
}

/* Amounts of which often exactly one fits, or all but one. */
static uint64_t amount_next(uint64_t *random)
{
    static const uint64_t amounts[] = {1, 20, 33, 34, 50, 51, 60, 99, 100};
    return amounts[check_random(random) % (sizeof amounts / sizeof amounts[0])];
}

static void *racer_run(void *argument)
{
    const struct racer *racer = argument;
    uint64_t random = racer->index * 7919 + 1;
    for (unsigned round = 0; round < racer->rounds && !atomic_load(&arena->over); round++) {
        struct mica_charge charge;
        uint64_t bytes = amount_next(&random);
        atomic_store(&arena->asked[racer->index], bytes);
        barrier_wait();
        int rc = racer->reserve(racer->slot, bytes, &charge);
        uint64_t given = rc == 0 ? bytes : 0;
        if (atomic_fetch_add(&arena->books, given) + given > LIMIT)
            atomic_fetch_add(&arena->overshoots, 1);
        atomic_store(&arena->given[racer->index], given);
        barrier_wait();
        if (racer->index == 0)
            round_judge(racer->until_failure);
        atomic_fetch_sub(&arena->books, given);
        mica_charge_refund(region, racer->slot, &charge);
        barrier_wait();
    }
    return NULL;
}

static void arena_reset(void)
{
    memset((char *)region + sizeof region->header, 0, sizeof *region - sizeof region->header);
    memset(arena, 0, sizeof *arena);
}

static void racers_fork(struct racer *racers, void *(*run)(void *))
{
    fflush(stdout);
    pid_t children[RACERS];
    for (unsigned i = 0; i < RACERS; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            run(&racers[i]);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < RACERS; i++) {
        int status = 0;
        waitpid(children[i], &status, 0);
        CHECK_EQUAL(status, 0);
    }
}

static void racers_start(struct racer *racers)
{
    pthread_t threads[RACERS];
    for (unsigned i = 0; i < RACERS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, racer_run, &racers[i]), 0);
    for (unsigned i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
}

static void race(enum racer_kind kind, reserve_function *reserve)
{
    arena_reset();
    struct racer racers[RACERS];
    for (unsigned i = 0; i < RACERS; i++) {
        int slot = kind == THREADS_OF_ONE_SLOT && i > 0 ? 0 : mica_slot_claim(region, MICA_OWNER_HELD | (i + 1));
        bool control = reserve != real_reserve;
        racers[i] = (struct racer){i, (unsigned)slot, control ? CONTROL_ROUNDS : ROUNDS, reserve, control};
    }
    if (kind == PROCESSES)
        racers_fork(racers, racer_run);
    else
        racers_start(racers);
    printf("# %llu rounds: %llu overshoots, %llu refused that fitted\n", (unsigned long long)arena->rounds,
           (unsigned long long)arena->overshoots, (unsigned long long)arena->false_refusals);
}

static void race_is_fair(enum racer_kind kind)
{
    race(kind, real_reserve);
    CHECK_EQUAL(arena->rounds, ROUNDS);
    CHECK_EQUAL(arena->overshoots, 0);
    CHECK_EQUAL(arena->false_refusals, 0);
    CHECK_EQUAL(mica_charge_sum(region, MICA_MEMORY_VRAM), 0);
}

static void test_processes(void)
{
    race_is_fair(PROCESSES);
}

static void test_threads(void)
{
    race_is_fair(THREADS);
}

static void test_threads_of_one_process(void)
{
    race_is_fair(THREADS_OF_ONE_SLOT);
}

static void test_control_overshoots(void)
{
    race(PROCESSES, check_then_charge);
    CHECK(arena->overshoots > 0);
}

static void test_control_refuses(void)
{
    race(PROCESSES, add_then_roll_back);
    CHECK(arena->false_refusals > 0);
}

/* --- Permits: memory that moves from process to process ------------------------------------------------------------------ */

/* There are as many permits as allocations fit; who holds one always fits. A sum that takes its time may count one
 * allocation twice, before it is given back in one slot and after it is made again in another. */
static void *permitted_run(void *argument)
{
    const struct racer *racer = argument;
    for (unsigned i = 0; i < racer->rounds && !atomic_load(&arena->over); i++) {
        char permit;
        if (read(permit_pipe[0], &permit, 1) != 1)
            _exit(4);
        struct mica_charge charge;
        if (racer->reserve(racer->slot, LIMIT / PERMITS, &charge) != 0) {
            atomic_fetch_add(&arena->false_refusals, 1);
            if (racer->until_failure)
                atomic_store(&arena->over, true);
        } else {
            if (atomic_fetch_add(&arena->books, charge.bytes) + charge.bytes > LIMIT)
                atomic_fetch_add(&arena->overshoots, 1);
            sched_yield(); /* hold it while others sum */
            atomic_fetch_sub(&arena->books, charge.bytes);
        }
        mica_charge_refund(region, racer->slot, &charge);
        if (write(permit_pipe[1], &permit, 1) != 1)
            _exit(4);
    }
    return NULL;
}

static void permits_race(reserve_function *reserve)
{
    arena_reset();
    CHECK_EQUAL(pipe(permit_pipe), 0);
    CHECK_EQUAL(write(permit_pipe[1], "permits", PERMITS), PERMITS);
    struct racer racers[RACERS];
    for (unsigned i = 0; i < RACERS; i++) {
        bool control = reserve != real_reserve;
        int slot = mica_slot_claim(region, MICA_OWNER_HELD | (i + 1));
        racers[i] = (struct racer){i, (unsigned)slot, control ? CONTROL_ROUNDS : PERMITTED, reserve, control};
    }
    racers_fork(racers, permitted_run);
    close(permit_pipe[0]);
    close(permit_pipe[1]);
    printf("# %llu refused that fitted\n", (unsigned long long)arena->false_refusals);
}

static void test_moving_memory_refuses_nobody(void)
{
    permits_race(real_reserve);
    CHECK_EQUAL(arena->false_refusals, 0);
    CHECK_EQUAL(arena->overshoots, 0);
    CHECK_EQUAL(atomic_load(&region->refusals), 0);
}

static void test_control_counts_moving_memory_twice(void)
{
    permits_race(add_then_roll_back);
    CHECK(arena->false_refusals > 0);
}

/* --- Visits: processes that come, charge and go, so that one often has the slice to itself until another comes ------------ */

typedef int claim_function(uint64_t owner);

static int claim_marking(uint64_t owner)
{
    return mica_slot_claim(region, owner);
}

/* Control: claims a slot and marks nobody. */
static int claim_unmarked(uint64_t owner)
{
    int slot = mica_slot_claim(region, owner);
    for (unsigned i = 0; i < RACERS; i++)
        atomic_fetch_and(&region->processes[i].vram_word, ~MICA_MEMORY_SHARED);
    return slot;
}

static claim_function *claims;

static void *visits_run(void *argument)
{
    const struct racer *racer = argument;
    uint64_t random = racer->index * 104729 + 1;
    uint64_t owner = MICA_OWNER_HELD | (racer->index + 1);
    for (unsigned i = 0; i < racer->rounds && !atomic_load(&arena->over); i++) {
        unsigned slot = (unsigned)claims(owner);
        for (uint64_t charges = 1 + check_random(&random) % 4; charges > 0; charges--) {
            struct mica_charge charge;
            (void)racer->reserve(slot, amount_next(&random), &charge);
            if (atomic_fetch_add(&arena->books, charge.bytes) + charge.bytes > LIMIT) {
                atomic_fetch_add(&arena->overshoots, 1);
                if (racer->until_failure)
                    atomic_store(&arena->over, true);
            }
            interrupt(&arena->books);
            atomic_fetch_sub(&arena->books, charge.bytes);
            mica_charge_refund(region, slot, &charge);
        }
        mica_slot_release(region, slot, owner);
        if (check_random(&random) % 2 == 0)
            sched_yield();
    }
    return NULL;
}

static void visits_race(claim_function *by)
{
    arena_reset();
    claims = by;
    struct racer racers[RACERS];
    for (unsigned i = 0; i < RACERS; i++) {
        bool control = by != claim_marking;
        racers[i] = (struct racer){i, 0, control ? CONTROL_ROUNDS : VISITS, real_reserve, control};
    }
    racers_fork(racers, visits_run);
    printf("# %llu overshoots\n", (unsigned long long)arena->overshoots);
}

static void test_visitors_never_overshoot(void)
{
    visits_race(claim_marking);
    CHECK_EQUAL(arena->overshoots, 0);
    CHECK_EQUAL(mica_charge_sum(region, MICA_MEMORY_VRAM), 0);
}

static void test_control_unmarked_visitors_overshoot(void)
{
    visits_race(claim_unmarked);
    CHECK(arena->overshoots > 0);
}

int main(void)
{
    static const char *const files[] = {"usage", NULL};
    void *mapping = NULL;
    if (mica_region_create(check_path("usage"), MICA_REGION_USAGE, "GPU-1", "s", 0600) != 0 ||
        mica_region_map(check_path("usage"), MICA_REGION_USAGE, true, &mapping) != MICA_REGION_OK)
        return 2;
    region = mapping;
    arena = mmap(NULL, sizeof *arena, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check_run(test_processes, "processes never hold more than the limit, and none that fits is refused");
    check_run(test_threads, "threads with slots of their own never hold more than the limit, and none that fits is refused");
    check_run(test_threads_of_one_process, "threads of one process never hold more than the limit, and none that fits is refused");
    check_run(test_moving_memory_refuses_nobody, "memory that moves between processes is never counted twice");
    check_run(test_visitors_never_overshoot, "processes that come and go never hold more than the limit, each alone or together");
    check_run(test_control_unmarked_visitors_overshoot, "control: processes that mark nobody when they come overshoot");
    check_run(test_control_overshoots, "control: checking before charging overshoots");
    check_run(test_control_refuses, "control: rolling back without a second look refuses what fits");
    check_run(test_control_counts_moving_memory_twice, "control: a single slow sum counts moving memory twice");
    mica_region_unmap(region, MICA_REGION_USAGE);
    check_remove(files);
    return check_finish();
}
