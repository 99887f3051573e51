/* SPDX-License-Identifier: Apache-2.0
 *
 * vram.c, compiled into a test with a call of `interrupt(word)` before every atomic access. The including file defines
 * that function first: it may let others run, or be the others.
 */
#ifndef MICA_TESTS_INTERRUPTED_VRAM_H
#define MICA_TESTS_INTERRUPTED_VRAM_H

#include <stdatomic.h>

#undef atomic_load_explicit
#undef atomic_compare_exchange_weak_explicit
#define atomic_load_explicit(word, order) (interrupt(word), __atomic_load_n(word, order))
#define atomic_compare_exchange_weak_explicit(word, seen, next, order, otherwise)                                                          \
    (interrupt(word), __atomic_compare_exchange_n(word, seen, next, true, order, otherwise))

#include "region/vram.c"

#endif
