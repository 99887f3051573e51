/* SPDX-License-Identifier: Apache-2.0
 *
 * The map against an array that is looked through: every sequence of puts, finds and removals gives the same answers.
 */
#include "../core/map.h"

#include <stdio.h>

#define KEYS 4096

static int passed;
static int failed;

static void check(bool holds, const char *what)
{
    *(holds ? &passed : &failed) += 1;
    if (!holds) {
        printf("FAILED: %s\n", what);
    }
}

static uint64_t random_state = 12345;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Keys as drivers give them out: addresses 2 MiB apart, and pointers. */
static uint64_t key_of(unsigned i)
{
    return i % 2 == 0 ? 0x7f0000000000ULL + i * 0x200000ULL : 0x55550000ULL + i * 48ULL;
}

static void test_against_an_array(void)
{
    static uint64_t expected[KEYS];
    struct mica_map map = {0};
    size_t live = 0;
    bool is_same = true;
    for (unsigned round = 0; round < 400000; round++) {
        unsigned i = (unsigned)(next_random() % KEYS);
        struct mica_map_entry *found = mica_map_find(&map, key_of(i));
        is_same = is_same && (expected[i] == 0 ? found == NULL : found != NULL && found->first == expected[i] && found->second == i);
        /* Phases that fill and phases that empty, so that removals meet long runs. */
        bool is_filling = (round / 20000) % 2 == 0;
        if (expected[i] == 0 && (is_filling || next_random() % 4 == 0)) {
            struct mica_map_entry *put = mica_map_put(&map, key_of(i));
            expected[i] = next_random() | 1;
            *put = (struct mica_map_entry){.key = put->key, .first = expected[i], .second = i};
            live++;
        } else if (expected[i] != 0 && (!is_filling || next_random() % 4 == 0)) {
            mica_map_remove(&map, key_of(i));
            expected[i] = 0;
            live--;
        }
        is_same = is_same && map.count == live;
    }
    check(is_same, "the map answers as the array does");
    mica_map_clear(&map);
    check(map.count == 0 && mica_map_find(&map, key_of(0)) == NULL, "a cleared map is empty");
    check(mica_map_put(&map, 7) != NULL && map.count == 1, "and can be used again");
    mica_map_clear(&map);
}

static void test_edges(void)
{
    struct mica_map map = {0};
    mica_map_remove(&map, 5);
    check(mica_map_find(&map, 5) == NULL && map.count == 0, "nothing is found in, or taken from, an empty map");
    check(mica_map_put(&map, 0) == NULL, "there is no key 0");
    check(mica_map_put(&map, 9) == mica_map_put(&map, 9) && map.count == 1, "a key that is put twice is there once");
    mica_map_clear(&map);
}

int main(void)
{
    test_edges();
    test_against_an_array();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
