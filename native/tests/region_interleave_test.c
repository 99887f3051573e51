/* SPDX-License-Identifier: Apache-2.0
 *
 * Reserving device memory while others act at chosen steps: the interleavings that chance rarely meets, one by one.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "check.h"
#include "region.h"

#define LIMIT 100

/* What the others do before the asker's next access to `word`. */
static void (*others)(const volatile void *word);
static bool others_act; /* their own accesses are not interrupted */

static void interrupt(const volatile void *word)
{
    if (others == NULL || others_act)
        return;
    others_act = true;
    others(word);
    others_act = false;
}

#include "interrupted_vram.h"

static struct mica_usage_region region;
static unsigned acts_left;

static MICA_ATOMIC_U64 *word_of(unsigned slot)
{
    return &region.processes[slot].vram_word;
}

/* Slots 0, 1 and 2 are held, as by claims; `bytes` of slot 1 are settled. */
static void region_reset(uint64_t bytes)
{
    memset((void *)&region, 0, sizeof region);
    atomic_store(&region.slots_high, 3);
    for (unsigned i = 0; i < 3; i++)
        atomic_store(&region.processes[i].owner, MICA_OWNER_HELD | (i + 1));
    for (unsigned i = 0; i < 3; i++)
        atomic_store(word_of(i), MICA_MEMORY_SHARED | (i == 1 ? bytes : 0));
}

static void add(unsigned slot, uint64_t bytes, uint64_t pending)
{
    atomic_fetch_add(word_of(slot), VERSION_ONE + pending * PENDING_ONE + bytes);
}

static int reserve_beside(void (*act)(const volatile void *), unsigned times, unsigned slot, uint64_t bytes)
{
    struct mica_charge charge;
    acts_left = times;
    others = act;
    int rc = mica_charge_make(&region, slot, MICA_MEMORY_VRAM, bytes, LIMIT, &charge);
    others = NULL;
    return rc;
}

/* 50 bytes go from slot 1 to slot 2 just before slot 2 is read, and back just before slot 1 is read: every sum counts
 * them twice, and the same every time. */
static void move_ahead_of_reader(const volatile void *word)
{
    if (acts_left == 0 || (word != word_of(1) && word != word_of(2)))
        return;
    unsigned to = word == word_of(1) ? 1 : 2;
    if (mica_word_bytes(atomic_load(word_of(to))) != 0)
        return;
    word_lower(word_of(3 - to), 50, 0);
    add(to, 50, 0);
    acts_left--;
}

static void test_moving_memory_is_not_counted_twice(void)
{
    region_reset(50);
    CHECK_EQUAL(reserve_beside(move_ahead_of_reader, 1, 0, 50), 0);
    CHECK_EQUAL(mica_charge_sum(&region, MICA_MEMORY_VRAM), 100);
    for (unsigned times = 1; times < 20; times++) {
        region_reset(50);
        CHECK_EQUAL(reserve_beside(move_ahead_of_reader, times, 0, 50), 0);
        CHECK_EQUAL(atomic_load(&region.refusals), 0);
    }
}

/* The asker in slot 1 reads its own word once to see that it is shared, once to guess, once to look if its guess was that there is no room, once more to add, and then
 * exchanges it: the others' act before that reading comes after it has seen room and before its charge is visible. Then come two sums, and two
 * accesses to roll back. */
enum { GUESSED = 3, SUMS_AND_WITHDRAWS = 6 };

static unsigned own_accesses, adds_at, decided_at, rival;

/* Whether the asker in slot 1 looks before it adds. */
static void region_reset_guess(bool looks)
{
    region_reset(0);
    atomic_store(&region.processes[1].others_bytes, looks ? LIMIT : 0);
    own_accesses = 0;
    adds_at = looks ? GUESSED + 1 : GUESSED;
}

static void charge_after_look(const volatile void *word)
{
    if (word == word_of(1) && ++own_accesses == adds_at)
        add(2, 60, 0);
}

static void test_a_charge_between_look_and_addition_is_seen(void)
{
    for (int looks = 0; looks < 2; looks++) {
        region_reset_guess(looks);
        CHECK_EQUAL(reserve_beside(charge_after_look, 0, 1, 60), -ENOMEM);
        CHECK_EQUAL(mica_charge_sum(&region, MICA_MEMORY_VRAM), 60);
        CHECK_EQUAL(pending_count(atomic_load(word_of(1))), 0);
    }
}

/* Both have looked and seen room, and both add 60 of 100. The rival decides when the asker's word was used often enough: in
 * slot 2 it is the junior and rolls back, in slot 0 it is the senior and settles. The asker keeps its charge before a junior
 * and withdraws it before a senior. */
static void rival_adds_and_decides(const volatile void *word)
{
    if (word != word_of(1))
        return;
    own_accesses++;
    if (own_accesses == adds_at)
        add(rival, 60, 1);
    if (own_accesses == decided_at && own_accesses >= adds_at + SUMS_AND_WITHDRAWS)
        CHECK_EQUAL(pending_count(atomic_load(word_of(1))), rival == 2);
    if (own_accesses == decided_at)
        word_lower(word_of(rival), rival == 2 ? 60 : 0, 1);
}

static void race_of_two(bool looks)
{
    region_reset_guess(looks);
    rival = 2;
    CHECK_EQUAL(reserve_beside(rival_adds_and_decides, 0, 1, 60), 0);
    CHECK_EQUAL(mica_word_bytes(atomic_load(word_of(1))), 60);
    CHECK_EQUAL(mica_charge_sum(&region, MICA_MEMORY_VRAM), 60);

    region_reset_guess(looks);
    rival = 0;
    CHECK_EQUAL(reserve_beside(rival_adds_and_decides, 0, 1, 60), -ENOMEM);
    CHECK_EQUAL(mica_word_bytes(atomic_load(word_of(1))), 0);
    CHECK_EQUAL(mica_charge_sum(&region, MICA_MEMORY_VRAM), 60);
}

static void test_of_two_racers_exactly_one_is_charged(void)
{
    for (int looks = 0; looks < 2; looks++)
        for (decided_at = GUESSED + 3; decided_at < 40; decided_at++)
            race_of_two(looks);
}

/* Nobody moves, and the asker's guess is of another time: it is corrected, and decides nothing. */
static void test_a_wrong_guess_decides_nothing(void)
{
    static const uint64_t guesses[] = {0, 50, 60, LIMIT, LIMIT + 1, MICA_MEMORY_BYTES_MAX, UINT64_MAX};
    for (unsigned i = 0; i < sizeof guesses / sizeof guesses[0]; i++) {
        region_reset(50);
        atomic_store(&region.processes[0].others_bytes, guesses[i]);
        CHECK_EQUAL(reserve_beside(NULL, 0, 0, 51), -ENOMEM);
        CHECK_EQUAL(mica_word_bytes(atomic_load(word_of(0))), 0);
        CHECK_EQUAL(atomic_load(&region.processes[0].others_bytes), 50);
        atomic_store(&region.processes[0].others_bytes, guesses[i]);
        CHECK_EQUAL(reserve_beside(NULL, 0, 0, 50), 0);
        CHECK_EQUAL(mica_charge_sum(&region, MICA_MEMORY_VRAM), 100);
    }
}

/* Once refused, a process does not add the same ask again while nobody has given anything back: others would wait for it in vain. */
static unsigned own_additions;

static void count_own_additions(const volatile void *word)
{
    if (word == word_of(0) && pending_count(atomic_load(word_of(0))) == 1)
        own_additions++;
}

static void test_a_refused_process_looks_first(void)
{
    region_reset(50);
    own_additions = 0;
    CHECK_EQUAL(reserve_beside(count_own_additions, 0, 0, 60), -ENOMEM);
    CHECK(own_additions > 0); /* the control: its first guess was that nobody holds anything */
    own_additions = 0;
    for (unsigned i = 0; i < 5; i++)
        CHECK_EQUAL(reserve_beside(count_own_additions, 0, 0, 60), -ENOMEM);
    CHECK_EQUAL(own_additions, 0);
}

/* --- A process by itself, and a newcomer -------------------------------------------------------------------------------------- */

static unsigned newcomer_at, newcomer_accesses;
static int newcomer_rc;
static int (*newcomer_claim)(void);

static int claim(void)
{
    return mica_slot_claim(&region, MICA_OWNER_HELD | 2);
}

/* A claim that marks nobody. */
static int claim_unmarked(void)
{
    atomic_store(&region.slots_high, 2);
    atomic_store(&region.processes[1].owner, MICA_OWNER_HELD | 2);
    return 1;
}

static void newcomer_comes(const volatile void *word)
{
    (void)word;
    if (++newcomer_accesses != newcomer_at)
        return;
    struct mica_charge charge;
    newcomer_rc = mica_charge_make(&region, (unsigned)newcomer_claim(), MICA_MEMORY_VRAM, 60, LIMIT, &charge);
}

/* Slot 0 has the slice to itself and asks for 60 of 100; before its access `at` a newcomer claims slot 1 and takes 60. How many were charged. */
static unsigned charged_beside_newcomer(unsigned at, int (*claims)(void))
{
    memset((void *)&region, 0, sizeof region);
    CHECK_EQUAL(mica_slot_claim(&region, MICA_OWNER_HELD | 1), 0);
    newcomer_claim = claims;
    newcomer_at = at;
    newcomer_accesses = 0;
    newcomer_rc = -ENOMEM;
    int rc = reserve_beside(newcomer_comes, 0, 0, 60);
    CHECK_EQUAL(mica_charge_sum(&region, MICA_MEMORY_VRAM), 60U * ((rc == 0) + (newcomer_rc == 0)));
    CHECK_EQUAL(pending_count(atomic_load(word_of(0))), 0);
    return (rc == 0) + (newcomer_rc == 0);
}

static void test_a_newcomer_is_never_overlooked(void)
{
    for (unsigned at = 1; at < 20; at++)
        CHECK_EQUAL(charged_beside_newcomer(at, claim), 1);
}

static void test_a_newcomer_that_marks_nobody_is_overlooked(void)
{
    unsigned most = 0;
    for (unsigned at = 1; at < 20; at++) {
        unsigned charged = charged_beside_newcomer(at, claim_unmarked);
        most = charged > most ? charged : most;
    }
    CHECK_EQUAL(most, 2);
}

/* The own word is read once, and exchanged once: nothing is added up. */
static void test_a_process_by_itself_looks_once(void)
{
    memset((void *)&region, 0, sizeof region);
    CHECK_EQUAL(mica_slot_claim(&region, MICA_OWNER_HELD | 1), 0);
    newcomer_at = 0;
    newcomer_accesses = 0;
    CHECK_EQUAL(reserve_beside(newcomer_comes, 0, 0, 60), 0);
    unsigned by_itself = newcomer_accesses;
    CHECK_EQUAL(claim(), 1);
    newcomer_accesses = 0;
    CHECK_EQUAL(reserve_beside(newcomer_comes, 0, 0, 40), 0);
    CHECK(by_itself < newcomer_accesses);
}

int main(void)
{
    check_run(test_a_process_by_itself_looks_once, "a process that has its slice to itself adds nothing up");
    check_run(test_a_newcomer_is_never_overlooked, "a process that comes at any step of another's charge is not overlooked");
    check_run(test_a_newcomer_that_marks_nobody_is_overlooked, "the control: one that marks nobody is");
    check_run(test_moving_memory_is_not_counted_twice, "memory that moves ahead of every reading is never counted twice");
    check_run(test_a_charge_between_look_and_addition_is_seen, "a charge made between another's look and its addition is not overlooked");
    check_run(test_of_two_racers_exactly_one_is_charged, "of two racers that both saw room exactly one is charged, whenever the other decides");
    check_run(test_a_wrong_guess_decides_nothing, "a guess of what others hold decides nothing, however wrong it is");
    check_run(test_a_refused_process_looks_first, "a process that was refused looks before it adds again, so that nobody waits for it in vain");
    return check_finish();
}
