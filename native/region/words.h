/* SPDX-License-Identifier: Apache-2.0
 *
 * Arithmetic on the regions' words. Relaxed: each word stands for itself.
 */
#ifndef MICA_REGION_WORDS_H
#define MICA_REGION_WORDS_H

#include "region.h"

static inline uint64_t load(const MICA_ATOMIC_U64 *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static inline void store(MICA_ATOMIC_U64 *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline bool replace(MICA_ATOMIC_U64 *word, uint64_t *seen, uint64_t next)
{
    return atomic_compare_exchange_weak_explicit(word, seen, next, memory_order_relaxed, memory_order_relaxed);
}

static inline void raise_to(MICA_ATOMIC_U64 *word, uint64_t least)
{
    uint64_t seen = load(word);
    while (seen < least && !replace(word, &seen, least))
        ;
}

/* a * b / c without overflow on the way; saturated. `c` > 0. */
static inline uint64_t scaled(uint64_t a, uint64_t b, uint64_t c)
{
    unsigned __int128 value = (unsigned __int128)a * b / c;
    return value > UINT64_MAX ? UINT64_MAX : (uint64_t)value;
}

static inline uint64_t sum(uint64_t a, uint64_t b)
{
    uint64_t value;
    return __builtin_add_overflow(a, b, &value) ? UINT64_MAX : value;
}

static inline uint64_t difference(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static inline void move(MICA_ATOMIC_U64 *word, bool up, uint64_t by_ns)
{
    uint64_t seen = load(word);
    while (!replace(word, &seen, up ? sum(seen, by_ns) : difference(seen, by_ns)))
        ;
}

#endif
