/* SPDX-License-Identifier: Apache-2.0
 *
 * Open addressing with linear probing. A removal moves later entries of the same run up, so that no markers of the dead are left to be
 * probed for ever.
 */
#define _GNU_SOURCE
#include "map.h"

#include <string.h>
#include <sys/mman.h>

#define FIRST_CAPACITY 128

static size_t home_of(const struct mica_map *map, uint64_t key)
{
    uint64_t hash = (key ^ (key >> 32)) * 0x9e3779b97f4a7c15ULL;
    return (size_t)(hash >> 20) & (map->capacity - 1);
}

/* Where `key` is, or the free place where it would be. */
static struct mica_map_entry *place_of(const struct mica_map *map, uint64_t key)
{
    size_t at = home_of(map, key);
    while (map->entries[at].key != 0 && map->entries[at].key != key) {
        at = (at + 1) & (map->capacity - 1);
    }
    return &map->entries[at];
}

struct mica_map_entry *mica_map_find(const struct mica_map *map, uint64_t key)
{
    if (map->count == 0 || key == 0) {
        return NULL;
    }
    struct mica_map_entry *entry = place_of(map, key);
    return entry->key == key ? entry : NULL;
}

static bool grow(struct mica_map *map)
{
    struct mica_map larger = {.capacity = map->capacity != 0 ? 2 * map->capacity : FIRST_CAPACITY, .count = map->count};
    void *fresh = mmap(NULL, larger.capacity * sizeof *larger.entries, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) {
        return false;
    }
    larger.entries = fresh;
    for (size_t i = 0; i < map->capacity; i++) {
        if (map->entries[i].key != 0) {
            *place_of(&larger, map->entries[i].key) = map->entries[i];
        }
    }
    if (map->entries != NULL) {
        munmap(map->entries, map->capacity * sizeof *map->entries);
    }
    *map = larger;
    return true;
}

struct mica_map_entry *mica_map_put(struct mica_map *map, uint64_t key)
{
    struct mica_map_entry *entry = mica_map_find(map, key);
    if (entry != NULL || key == 0) {
        return entry;
    }
    if (2 * (map->count + 1) > map->capacity && !grow(map)) {
        return NULL;
    }
    entry = place_of(map, key);
    *entry = (struct mica_map_entry){.key = key};
    map->count++;
    return entry;
}

void mica_map_remove(struct mica_map *map, uint64_t key)
{
    struct mica_map_entry *hole = mica_map_find(map, key);
    if (hole == NULL) {
        return;
    }
    size_t mask = map->capacity - 1;
    size_t empty = (size_t)(hole - map->entries);
    for (size_t at = (empty + 1) & mask; map->entries[at].key != 0; at = (at + 1) & mask) {
        /* An entry may move into the hole unless its home lies behind the hole, on the way to where it is. */
        size_t home = home_of(map, map->entries[at].key);
        if (((at - home) & mask) >= ((at - empty) & mask)) {
            map->entries[empty] = map->entries[at];
            empty = at;
        }
    }
    map->entries[empty].key = 0;
    map->count--;
}

void mica_map_clear(struct mica_map *map)
{
    if (map->entries != NULL) {
        munmap(map->entries, map->capacity * sizeof *map->entries);
    }
    *map = (struct mica_map){0};
}
