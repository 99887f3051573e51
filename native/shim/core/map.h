/* SPDX-License-Identifier: Apache-2.0
 *
 * A map from a 64-bit key to two words, for calls that are rare and slow: its owner holds a lock. Finding, putting and taking cost the same
 * however many there are. 24 bytes an entry, at most half of them in use.
 */
#ifndef MICA_SHIM_MAP_H
#define MICA_SHIM_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mica_map_entry {
    uint64_t key; /* 0: not in use */
    uint64_t first;
    uint64_t second;
};

/* All zero to begin with. */
struct mica_map {
    struct mica_map_entry *entries;
    size_t capacity; /* a power of two */
    size_t count;
};

/* The entry of `key` (not 0), or NULL. Valid until the map changes. */
struct mica_map_entry *mica_map_find(const struct mica_map *map, uint64_t key);
/* The entry of `key`, added with both words zero if it is not there. NULL: no memory. */
struct mica_map_entry *mica_map_put(struct mica_map *map, uint64_t key);
void mica_map_remove(struct mica_map *map, uint64_t key);
/* Forget everything. */
void mica_map_clear(struct mica_map *map);

#endif
