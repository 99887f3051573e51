/* SPDX-License-Identifier: Apache-2.0
 *
 * Holding a device that would run two slices' work at once, as in native/region/hold.c. A slice's programs count their work in flight, and take the device by one compare-and-set of
 * a word with a version; whoever is refused takes its count back and looks whether it is to let go. Whoever sees its work end takes its count, and lets go if nothing is in
 * flight, by a compare-and-set from what it read before it added up. A watcher renews the word now and then. Slice 0 may be killed at any moment: what it has on the device is gone,
 * and its hold has run out some time later.
 *
 * Never is work of both slices on the device. Nobody waits for ever: a device that nothing is on is let go, which the checker sees as the absence of a state without
 * a next step. Every step is in one order for all, which is what seq_cst gives these words.
 * BROKEN_COUNT_LATE (counted after the device is taken), BROKEN_READ_LATE (the word is read after adding up), BROKEN_PLAIN_STORE (let go without comparing), BROKEN_NO_LOOK (who is
 * refused does not look) and BROKEN_NO_VERSION (a word that looks the same is the same) must be rejected.
 */
#define SLICES 2
#define WORKS 1 /* of each program */
#define NOBODY 2

byte owner = NOBODY;
bool is_held;
byte version;
byte counted[SLICES];
byte on_device[SLICES];
bool is_dead;

#ifdef BROKEN_NO_VERSION
#define NEXT version
#else
#define NEXT version + 1
#endif

#define IS_SEEN (owner == seen_owner && is_held == seen_held && version == seen_version)

inline look()
{
    atomic { seen_owner = owner; seen_held = is_held; seen_version = version }
}

inline change(to_owner, to_held)
{
    atomic {
        done = IS_SEEN;
        if
        :: done -> owner = to_owner; is_held = to_held; version = NEXT
        :: else
        fi
    }
}

/* What a program has seen and does not need any more makes no state of its own. */
inline forget()
{
    d_step { seen_owner = 0; seen_held = false; seen_version = 0; done = false; is_empty = false }
}

inline leave(me)
{
    done = false;
    do
    :: done -> forget(); break
    :: else ->
#ifdef BROKEN_READ_LATE
        is_empty = counted[me] == 0;
        look();
#else
        look();
        is_empty = counted[me] == 0;
#endif
        if
        :: seen_owner != me || !seen_held || !is_empty -> done = true
        :: else ->
#ifdef BROKEN_PLAIN_STORE
            atomic { owner = me; is_held = false; version = NEXT; done = true }
#else
            change(me, false)
#endif
        fi
    od
}

/* Refused while the device is another's. Where it is the slice's own already, the order may say that it is another's turn. */
inline take(me)
{
    look();
    if
    :: seen_held && seen_owner != me -> (owner == me || !is_held); forget()
    :: seen_held && seen_owner == me -> (owner != me || !is_held); forget()
    :: !seen_held || seen_owner == me ->
#ifndef BROKEN_COUNT_LATE
        counted[me]++;
#endif
        change(me, true);
        if
        :: done ->
#ifdef BROKEN_COUNT_LATE
            counted[me]++;
#endif
            atomic { on_device[me]++; assert(on_device[1 - me] == 0); is_taken = true };
            forget()
        :: else ->
#ifndef BROKEN_COUNT_LATE
            counted[me]--;
#endif
#ifdef BROKEN_NO_LOOK
            forget()
#else
            leave(me)
#endif
        fi
    fi
}

/* One work, from its being asked for to its end being seen. */
active [3] proctype program()
{
    byte me = (_pid == 0 -> 0 : 1); /* slice 1 has two programs */
    byte seen_owner, seen_version, works;
    bool seen_held, done, is_empty, is_taken;
    {
        do
        :: works == WORKS -> break
        :: else ->
            is_taken = false;
            do
            :: is_taken -> break
            :: else -> take(me)
            od;
            on_device[me]--;
            counted[me]--;
            leave(me);
            works++
        od
    } unless { me == 0 && is_dead }
}

/* Slice 1's: of one that dies nothing is asked. */
active proctype watcher()
{
    byte seen_owner, seen_version;
    bool seen_held, done, is_empty;
    look();
    if
    :: seen_owner == 1 && seen_held -> change(1, true)
    :: else
    fi;
    forget()
}

/* It may be killed, or not. */
active proctype fate()
{
    if
    :: true ->
        atomic { is_dead = true; on_device[0] = 0 };
        if
        :: atomic { owner == 0 && is_held -> is_held = false } /* the time has run out */
        :: owner != 0 || !is_held
        fi
    :: true
    fi
}
