/* SPDX-License-Identifier: Apache-2.0
 *
 * The sequence lock of native/region/quota.c: one writer, which may be killed between any two stores, one that repairs after it, and readers.
 *
 * Every load and store is a step of its own, in one order for all: what a processor may reorder is beyond this model; the fences in quota.c and the tests with
 * a naive reader are for that. BROKEN_NO_RECHECK and BROKEN_LATE_ODD are variants that the checker must reject.
 */
#define ROUNDS 2
#define ATTEMPTS 2

byte sequence;
byte fields[2];
bool writer_is_gone;

inline store_record(value)
{
#ifdef BROKEN_LATE_ODD
    fields[0] = value;
    sequence = sequence | 1;
#else
    sequence = sequence | 1;
    fields[0] = value;
#endif
    fields[1] = value;
    sequence = sequence + 1
}

active proctype writer()
{
    byte round = 1;
    {
        do
        :: round <= ROUNDS -> store_record(round); round++
        :: else -> break
        od
    } unless { writer_is_gone }
}

/* Kills the writer whenever it likes, and then does what the next enforcer does. */
active proctype enforcer()
{
    writer_is_gone = true;
    if
    :: (sequence & 1) == 1 -> store_record(0)
    :: else
    fi
}

active [2] proctype reader()
{
    byte attempt, before, first, second;
    do
    :: attempt < ATTEMPTS ->
        attempt++;
        before = sequence;
        if
        :: (before & 1) == 1
        :: else ->
            first = fields[0];
            second = fields[1];
#ifdef BROKEN_NO_RECHECK
            assert(first == second)
#else
            if
            :: sequence == before -> assert(first == second) /* what a reader takes is one record, whole */
            :: else
            fi
#endif
        fi
    :: else -> break /* keeps the last good copy */
    od
}
