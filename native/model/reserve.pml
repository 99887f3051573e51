/* SPDX-License-Identifier: Apache-2.0
 *
 * Reserving memory as in native/region/vram.c and slot.c. A process claims a slot, clears its words, and marks the words of all held slots as shared. It charges by one
 * compare-and-set while its own word has no mark; else it adds to it as pending, adds all words up, and settles or rolls back. It gives back, lets its slot go, and comes
 * once more. Any process may be killed between any two steps; the enforcer then takes its slot back: the amount first, HELD last.
 *
 * `granted` is what processes that live were given and still hold. It must never exceed the limit, and what is in the words must never be less than it.
 * In the end, when all have given back or were reclaimed, nothing is left. Every step is in one order for all, which is what seq_cst gives these words.
 * BROKEN_CHECK_FIRST (look, then add without adding up again), BROKEN_HELD_FIRST (HELD cleared before the amount), BROKEN_UNMARKED (a claim marks nobody) and
 * BROKEN_MARK_FIRST (it marks before it holds) must be rejected.
 */
#define PROCESSES 2
#define LIMIT 3
#define ASK 2
#define VISITS 2

byte bytes[PROCESSES];
bool shared[PROCESSES]; /* in one word with `bytes` */
bool held[PROCESSES];
bool is_dead[PROCESSES];
bool is_done[PROCESSES];
byte has[PROCESSES]; /* granted and not given back, by process */
byte granted;

inline add_up(out)
{
    out = 0;
    other = 0;
    do
    :: other < PROCESSES ->
        if
        :: held[other] -> out = out + bytes[other]
        :: else
        fi;
        other++
    :: else -> break
    od
}

inline grant(me)
{
    atomic { has[me] = ASK; granted = granted + ASK; assert(granted <= LIMIT) }
}

inline mark_all(me)
{
    found = false;
    other = 0;
    do
    :: other < PROCESSES ->
        if
        :: other != me && held[other] -> shared[other] = true; found = true
        :: else
        fi;
        other++
    :: else -> break
    od;
    if
    :: found -> shared[me] = true
    :: else
    fi
}

inline claim(me)
{
#ifdef BROKEN_MARK_FIRST
    mark_all(me);
    held[me] = true
#else
    held[me] = true;
    atomic { bytes[me] = 0; shared[me] = false };
#ifdef BROKEN_UNMARKED
    found = false
#else
    mark_all(me)
#endif
#endif
}

inline charge(me)
{
    if
    :: atomic { !shared[me] && bytes[me] + ASK <= LIMIT -> bytes[me] = bytes[me] + ASK }; grant(me)
    :: atomic { shared[me] || bytes[me] + ASK > LIMIT };
#ifdef BROKEN_CHECK_FIRST
        add_up(sum);
        if
        :: sum + ASK <= LIMIT -> bytes[me] = bytes[me] + ASK; grant(me)
        :: else
        fi
#else
        bytes[me] = bytes[me] + ASK;
        add_up(sum);
        if
        :: sum <= LIMIT -> grant(me)
        :: else -> bytes[me] = bytes[me] - ASK /* refused: who is in the way of whom is beyond this model */
        fi
#endif
    fi
}

proctype process(byte me)
{
    byte sum, other, visits;
    bool found;
    {
        do
        :: visits < VISITS ->
            claim(me);
            charge(me);
            if
            :: has[me] > 0 -> atomic { granted = granted - has[me]; has[me] = 0 }; bytes[me] = bytes[me] - ASK
            :: else
            fi;
            held[me] = false;
            visits++
        :: else -> break
        od;
        is_done[me] = true
    } unless { is_dead[me] }
}

/* Kills one process at any moment, and reclaims its slot: nobody waits for the dead. */
active proctype enforcer()
{
    byte victim, i;
    if
    :: victim = 0
    :: victim = 1
    fi;
    if
    :: !is_done[victim] ->
        is_dead[victim] = true;
        atomic { granted = granted - has[victim]; has[victim] = 0 };
#ifdef BROKEN_HELD_FIRST
        held[victim] = false;
        held[victim] = true; /* another process claims the slot, with what the dead one left in it */
        assert(bytes[victim] == 0);
#endif
        atomic { bytes[victim] = 0; shared[victim] = false };
        held[victim] = false;
        is_done[victim] = true
    :: is_done[victim]
    fi;
    is_done[0] && is_done[1];
    assert(granted == 0 && bytes[0] == 0 && bytes[1] == 0)
}

init
{
    atomic { run process(0); run process(1) }
}
