/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of live allocations: what is put in comes out once, also when threads race for it, and its size stays in bounds.
 */
#define _POSIX_C_SOURCE 200809L
#include "../core/live.h"

#include <pthread.h>
#include <stdatomic.h>
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

static uint64_t address(uint64_t i)
{
    return 0x7f0000000000ULL + i * 0x200000;
}

static void test_one(void)
{
    struct mica_live_entry out = {0};
    check(mica_live_insert(address(1), (struct mica_live_entry){.bytes = 4097, .owner = 7}), "an allocation is remembered");
    check(mica_live_remove(address(1), &out) && out.bytes == 4097 && out.owner == 7, "what was remembered comes back");
    check(!mica_live_remove(address(1), &out), "a second free of the same handle finds nothing");
    check(!mica_live_remove(0, &out), "the null handle is never found");
    check(!mica_live_insert(address(2), (struct mica_live_entry){.bytes = MICA_LIVE_BYTES_MAX + 1}), "more bytes than fit are not remembered");
}

/* Handles, sizes and owners at and beside every limit. */
static const uint64_t handles[] = {2, 3, 255, 256, 257, 0x7f0000000000, 0x7f0000000001, (1ULL << 49) - 256, 1ULL << 49, 1ULL << 63, (5ULL << 61) + 256, UINT64_MAX};
static const uint64_t sizes[] = {0, 1, 1023, 1024, 1025, 65536, 4000, 1000001, 1023ULL << 31, 1ULL << 41, 1ULL << 45, MICA_LIVE_BYTES_MAX};
static const uint16_t owners[] = {0, 1, 63, 64, 4095, UINT16_MAX};
enum { HANDLES = sizeof handles / sizeof handles[0], SIZES = sizeof sizes / sizeof sizes[0], OWNERS = sizeof owners / sizeof owners[0] };

static struct mica_live_entry form(unsigned handle, unsigned which)
{
    return (struct mica_live_entry){.bytes = sizes[(handle + which) % SIZES], .owner = owners[(handle + which / SIZES) % OWNERS]};
}

static void test_forms(void)
{
    bool all_in = true;
    bool all_out = true;
    bool none_twice = true;
    for (unsigned which = 0; which < SIZES * OWNERS; which++) {
        struct mica_live_entry out = {0};
        for (unsigned i = 0; i < HANDLES; i++) {
            all_in &= mica_live_insert(handles[i], form(i, which));
        }
        for (unsigned i = 0; i < HANDLES; i++) {
            all_out &= mica_live_remove(handles[i], &out) && out.bytes == form(i, which).bytes && out.owner == form(i, which).owner;
            none_twice &= !mica_live_remove(handles[i], &out);
        }
    }
    check(all_in, "handles, sizes and owners of every kind are remembered");
    check(all_out, "and come back as they were, whatever else is live");
    check(none_twice, "each of them once");
}

static uint64_t seen_count;
static uint64_t seen_bytes;

static void see(struct mica_live_entry entry)
{
    seen_count++;
    seen_bytes += entry.bytes;
}

static void test_sweep_of_forms(void)
{
    struct mica_live_entry out;
    bool finds_own = true;
    bool others_stay = true;
    for (unsigned which = 0; which < SIZES * OWNERS; which++) {
        uint16_t owner = form(which / 5 % HANDLES, which).owner;
        uint64_t own = 0;
        uint64_t own_bytes = 0;
        seen_count = 0;
        seen_bytes = 0;
        for (unsigned i = 0; i < HANDLES; i++) {
            mica_live_insert(handles[i], form(i, which));
            own += form(i, which).owner == owner;
            own_bytes += form(i, which).owner == owner ? form(i, which).bytes : 0;
        }
        mica_live_sweep(owner, see);
        finds_own &= own > 0 && seen_count == own && seen_bytes == own_bytes;
        for (unsigned i = 0; i < HANDLES; i++) {
            others_stay &= mica_live_remove(handles[i], &out) == (form(i, which).owner != owner);
        }
    }
    check(finds_own, "a sweep finds all of its owner's entries");
    check(others_stay, "and no other's");
}

static void test_many(void)
{
    enum { COUNT = 100000 };
    bool all_in = true;
    bool all_out = true;
    bool within = true;
    for (uint64_t i = 0; i < COUNT; i++) {
        all_in &= mica_live_insert(address(i), (struct mica_live_entry){.bytes = i, .owner = (uint16_t)(i % 3)});
        within &= mica_live_footprint() <= (1 << 20) + 40 * (i + 1);
    }
    check(all_in, "100,000 allocations are remembered");
    check(within, "the table never takes more than 1 MiB and 40 bytes a live allocation");
    for (uint64_t i = 0; i < COUNT; i += 2) {
        struct mica_live_entry out;
        all_out &= mica_live_remove(address(i), &out) && out.bytes == i;
    }
    check(all_out, "every second one comes back with its own bytes");
    for (uint64_t i = 0; i < 10 * COUNT; i++) {
        struct mica_live_entry out;
        all_in &= mica_live_insert(address(COUNT + i), (struct mica_live_entry){.bytes = 1, .owner = 9});
        all_out &= mica_live_remove(address(i < COUNT / 2 ? 2 * i + 1 : COUNT / 2 + i), &out); /* the oldest */
    }
    check(all_in && all_out && mica_live_footprint() <= (1 << 20) + 40 * COUNT, "freed places are used again");
}

/* Entries stay where they were put while the table grows and shrinks around them. */
static void test_growth(void)
{
    enum { COUNT = 50000, KEPT = 100 };
    struct mica_live_entry out;
    bool all_in = true;
    bool all_out = true;
    mica_live_forget();
    for (unsigned turn = 0; turn < 3; turn++) {
        for (uint64_t i = 0; i < COUNT; i++) {
            all_in &= mica_live_insert(address(i), (struct mica_live_entry){.bytes = i + turn});
        }
        for (uint64_t i = COUNT; i-- > KEPT;) { /* from the newest down: those that stay are in the smallest levels */
            all_out &= mica_live_remove(address(i), &out) && out.bytes == i + turn;
        }
        for (uint64_t i = 0; i < COUNT; i++) { /* and shrinks while few live */
            all_in &= mica_live_insert(address(COUNT + i), (struct mica_live_entry){.bytes = i});
            all_out &= mica_live_remove(address(COUNT + i), &out) && out.bytes == i;
        }
        for (uint64_t i = 0; i < KEPT; i++) {
            all_out &= mica_live_remove(address(i), &out) && out.bytes == i + turn;
        }
    }
    check(all_in && all_out, "what was put into a small table is found in a large one, and the other way round");
}

static uint64_t swept;
static uint64_t swept_bytes;

static void count_swept(struct mica_live_entry entry)
{
    swept++;
    swept_bytes += entry.bytes;
}

static void test_sweep(void)
{
    struct mica_live_entry out;
    mica_live_forget();
    for (uint64_t i = 0; i < 1000; i++) {
        mica_live_insert(address(i), (struct mica_live_entry){.bytes = 10, .owner = (uint16_t)(i % 2)});
    }
    mica_live_sweep(1, count_swept);
    check(swept == 500 && swept_bytes == 5000, "a sweep takes out all of its owner");
    check(mica_live_remove(address(0), &out) && !mica_live_remove(address(1), &out), "and nobody else's");
    mica_live_forget();
    check(!mica_live_remove(address(2), &out) && mica_live_footprint() == 0, "forgetting leaves nothing");
}

/* --- Races ------------------------------------------------------------------------------------------------------------- */

enum { THREADS = 4, SHARED = 2000, ROUNDS = 20 };

static _Atomic uint64_t taken_bytes;
static _Atomic uint64_t taken_count;
static pthread_barrier_t barrier;

/* All threads free all handles; each thread also keeps inserting and freeing its own, so that levels are added meanwhile. */
static void *race(void *argument)
{
    uint64_t self = (uint64_t)(uintptr_t)argument;
    struct mica_live_entry out;
    uint64_t lost = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&barrier);
        for (uint64_t i = 0; i < SHARED; i++) {
            uint64_t own = address((self + 1) * 1000000 + i);
            mica_live_insert(own, (struct mica_live_entry){.bytes = self + 1});
            if (mica_live_remove(address((i * 7 + self) % SHARED), &out)) {
                atomic_fetch_add(&taken_bytes, out.bytes);
                atomic_fetch_add(&taken_count, 1);
            }
            if (i % 2 == 0 && (!mica_live_remove(own, &out) || out.bytes != self + 1)) {
                lost++;
            }
        }
        for (uint64_t i = 1; i < SHARED; i += 2) {
            lost += !mica_live_remove(address((self + 1) * 1000000 + i), &out);
        }
        pthread_barrier_wait(&barrier);
    }
    return (void *)(uintptr_t)lost;
}

static void test_race(void)
{
    pthread_t threads[THREADS];
    uint64_t lost = 0;
    bool exact = true;
    mica_live_forget();
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (uint64_t i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, race, (void *)(uintptr_t)i);
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t bytes = 0;
        taken_bytes = 0;
        taken_count = 0;
        for (uint64_t i = 0; i < SHARED; i++) {
            mica_live_insert(address(i), (struct mica_live_entry){.bytes = 1000 * i + 1});
            bytes += 1000 * i + 1;
        }
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        exact &= taken_count == SHARED && taken_bytes == bytes;
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        lost += (uint64_t)(uintptr_t)result;
    }
    check(exact, "of threads that free the same handle exactly one gets its bytes");
    check(lost == 0, "no thread loses what it alone put in");
}

/* The control: a place that is looked at and then cleared, instead of exchanged. Two frees of one handle both find it, and the count above shows
 * it. The barrier makes sure that both look before either clears. */
static _Atomic uint64_t naive_key;

static void *free_naively(void *argument)
{
    (void)argument;
    bool is_found = atomic_load(&naive_key) == address(1);
    pthread_barrier_wait(&barrier);
    atomic_store(&naive_key, 0);
    atomic_fetch_add(&taken_count, is_found);
    return NULL;
}

static void test_control(void)
{
    pthread_t threads[2];
    naive_key = address(1);
    taken_count = 0;
    pthread_barrier_init(&barrier, NULL, 2);
    for (unsigned i = 0; i < 2; i++) {
        pthread_create(&threads[i], NULL, free_naively, NULL);
    }
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    check(taken_count == 2, "a table that looks and then clears gives a handle back twice, and is caught");
}

int main(void)
{
    test_one();
    test_forms();
    test_sweep_of_forms();
    test_many();
    test_growth();
    test_sweep();
    test_race();
    test_control();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
