/* SPDX-License-Identifier: Apache-2.0
 *
 * Two at the table of live allocations at once: one is interrupted before each of its accesses in turn, and the other does all of its own there. Both work in the
 * same bucket, which is more or less full, so that they want the same entries.
 */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

static unsigned accesses;     /* of the one who is interrupted */
static unsigned interrupt_at; /* before this one of them */
static bool is_interrupted;   /* the other's accesses do not count */
static void (*other)(void);

static void step(void)
{
    if (other == NULL || is_interrupted || accesses++ != interrupt_at) {
        return;
    }
    is_interrupted = true;
    other();
    is_interrupted = false;
}

#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_compare_exchange_strong_explicit
#define atomic_load_explicit(word, order) (step(), __atomic_load_n(word, order))
#define atomic_store_explicit(word, value, order) (step(), __atomic_store_n(word, value, order))
#define atomic_compare_exchange_strong_explicit(word, seen, next, order, otherwise)                                                        \
    (step(), __atomic_compare_exchange_n(word, seen, next, false, order, otherwise))

#include "../core/live.c"

static int passed;
static int failed;

static void check(bool holds, const char *what, unsigned full)
{
    *(holds ? &passed : &failed) += 1;
    if (!holds) {
        printf("FAILED: %s, with %u entries taken, before access %u\n", what, full, interrupt_at);
    }
}

/* The i-th of the handles that share a bucket in the first level. */
static uint64_t neighbour(unsigned i)
{
    uint64_t handle = 0x7f0000000000;
    for (;; handle += 65536) {
        if (hash_of(handle) % BUCKETS_FIRST == 0 && i-- == 0) {
            return handle;
        }
    }
}

static const struct mica_live_entry filler = {.bytes = 65536, .owner = 1};
static const struct mica_live_entry first = {.bytes = 1000001, .owner = 1000};
static const struct mica_live_entry second = {.bytes = 1, .owner = 2};
static uint64_t mine, theirs;
static bool got;

/* `full` of a bucket's entries are taken, and one more by mine if it is to be there. */
static void begin(unsigned full, bool has_mine)
{
    mine = neighbour(BUCKET_ENTRIES);
    theirs = neighbour(BUCKET_ENTRIES + 1);
    got = false;
    other = NULL;
    accesses = 0;
    mica_live_forget();
    if (has_mine) {
        mica_live_insert(mine, first);
    }
    for (unsigned i = 0; i < full; i++) {
        mica_live_insert(neighbour(i), filler);
    }
}

static bool comes_back(uint64_t handle, struct mica_live_entry entry)
{
    struct mica_live_entry out;
    return mica_live_remove(handle, &out) && out.bytes == entry.bytes && out.owner == entry.owner && !mica_live_remove(handle, &out);
}

static bool rest_is_there(unsigned full)
{
    bool all = true;
    for (unsigned i = 0; i < full; i++) {
        all &= comes_back(neighbour(i), filler);
    }
    return all;
}

static bool everything_is_free(void)
{
    bool all = true;
    for (unsigned level = 0; level < levels_known(); level++) {
        for (uint64_t i = 0; i < level_size(level) * BUCKET_ENTRIES; i++) {
            all &= bucket_of(level, 0)[i / BUCKET_ENTRIES].entries[i % BUCKET_ENTRIES].key == KEY_FREE;
        }
    }
    return all;
}

static void insert_theirs(void)
{
    got = mica_live_insert(theirs, second);
}

static void remove_mine(void)
{
    struct mica_live_entry out;
    got = mica_live_remove(mine, &out) && out.bytes == first.bytes;
}

/* Ends with false when the interrupted one is through before that access. */
static bool was_reached(void)
{
    bool reached = accesses > interrupt_at;
    other = NULL;
    return reached;
}

static void test_two_inserts(void)
{
    for (unsigned full = 0; full <= BUCKET_ENTRIES; full++) {
        for (interrupt_at = 0;; interrupt_at++) {
            begin(full, false);
            other = insert_theirs;
            bool is_in = mica_live_insert(mine, first);
            if (!was_reached()) {
                break;
            }
            check(is_in && got && comes_back(mine, first) && comes_back(theirs, second), "both of two inserted come back as they were", full);
            check(rest_is_there(full) && everything_is_free(), "and nothing is lost or left", full);
        }
    }
}

static void test_insert_beside_remove(void)
{
    for (unsigned full = 0; full <= BUCKET_ENTRIES; full++) {
        for (interrupt_at = 0;; interrupt_at++) {
            struct mica_live_entry out;
            begin(full, true);
            other = insert_theirs;
            bool is_out = mica_live_remove(mine, &out);
            if (!was_reached()) {
                break;
            }
            check(is_out && out.bytes == first.bytes && got && comes_back(theirs, second), "one removed and one inserted beside it come back as they were", full);
            check(rest_is_there(full) && everything_is_free(), "and nothing is lost or left", full);
        }
    }
}

static void test_two_removes(void)
{
    for (unsigned full = 0; full <= BUCKET_ENTRIES; full++) {
        for (interrupt_at = 0;; interrupt_at++) {
            struct mica_live_entry out;
            begin(full, true);
            other = remove_mine;
            bool is_out = mica_live_remove(mine, &out) && out.bytes == first.bytes;
            if (!was_reached()) {
                break;
            }
            check(is_out != got, "of two that free one handle exactly one gets its bytes", full);
            check(rest_is_there(full) && everything_is_free(), "and nothing is lost or left", full);
        }
    }
}

/* The control: a word that is looked at and then cleared, instead of exchanged, is given to both at some access, and the above would show it. */
static _Atomic uint64_t naive;

static bool remove_naively(void)
{
    bool is_there = atomic_load_explicit(&naive, memory_order_acquire) == mine;
    if (is_there) {
        atomic_store_explicit(&naive, KEY_FREE, memory_order_release);
    }
    return is_there;
}

static void remove_theirs_naively(void)
{
    got = remove_naively();
}

static void test_control(void)
{
    bool both = false;
    for (interrupt_at = 0;; interrupt_at++) {
        begin(0, false);
        naive = mine;
        other = remove_theirs_naively;
        bool is_out = remove_naively();
        if (!was_reached()) {
            break;
        }
        both |= is_out && got;
    }
    check(both, "a table that looks and then clears is caught", 0);
}

int main(void)
{
    test_two_inserts();
    test_insert_beside_remove();
    test_two_removes();
    test_control();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
