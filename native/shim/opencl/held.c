/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "held.h"

#include "../core/watch.h"
#include "devices.h"

#define PATIENCE_NS 20000000ULL   /* for the end of a command, beside twice the time that it should take */
#define UNKNOWN_NS 50000000ULL    /* what a command that was never measured may well take */
#define PROMPT_AWAY_NS MICA_KEEP_MAX_NS /* one that was away for so long comes from doing nothing */
#define HEARD_NS 100000ULL        /* in which a program that nobody holds up hears of an end */
#define AGE_SHIFT 32

/* Times are of CLOCK_MONOTONIC. */
static struct holding {
    _Atomic uint64_t counted;           /* how many of this process's commands count as in flight, in the low half; above, how often that was begun anew */
    _Atomic uint64_t believed_until_ns; /* what has not ended until then does not run */
    _Atomic uint64_t left_ns;           /* when nothing was left there; 0: not since the process began */
    _Atomic uint64_t usual_ns;          /* how soon the program comes back then: see struct mica_return */
    _Atomic uint64_t mean_ns;
    _Atomic uint64_t prompt_until_ns;   /* device time of the process up to which it is prompt, since it last came after a while */
} holdings[MICA_DEVICES_MAX];

static uint64_t get(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void set(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static uint32_t count_of(uint64_t counted)
{
    return (uint32_t)counted;
}

void held_forget(void)
{
    for (unsigned i = 0; i < MICA_DEVICES_MAX; i++) {
        set(&holdings[i].counted, 0);
        set(&holdings[i].believed_until_ns, 0);
        set(&holdings[i].left_ns, 0);
        set(&holdings[i].usual_ns, 0);
        set(&holdings[i].mean_ns, 0);
        set(&holdings[i].prompt_until_ns, 0);
    }
}

/* --- Coming and going ----------------------------------------------------------------------------------------------------- */

static uint64_t used_ns(const struct mica_device *device)
{
    return atomic_load_explicit(&device->usage->processes[device->slot].gpu_ns, memory_order_relaxed);
}

static struct mica_return known_of(const struct holding *holding)
{
    return (struct mica_return){.usual_ns = get(&holding->usual_ns), .mean_ns = get(&holding->mean_ns)};
}

/* Remember how long the program was away, if it had nothing there. */
static void note_return(const struct mica_device *device, struct holding *holding, uint64_t now_ns)
{
    uint64_t left_ns = get(&holding->left_ns);
    if (left_ns == 0 || count_of(get(&holding->counted)) != 0) {
        return;
    }
    uint64_t away_ns = now_ns - left_ns;
    struct mica_return known = known_of(holding);
    set(&holding->left_ns, 0);
    if (away_ns >= PROMPT_AWAY_NS) {
        set(&holding->prompt_until_ns, used_ns(device) + MICA_HOLD_KEPT_NS);
    }
    mica_hold_return_note(&known, away_ns);
    set(&holding->usual_ns, known.usual_ns);
    set(&holding->mean_ns, known.mean_ns);
}

void held_ask(const struct mica_device *device, struct mica_work *work, uint64_t now_ns)
{
    struct holding *holding = &holdings[device_index(device)];
    note_return(device, holding, now_ns);
    work->prompt = used_ns(device) < get(&holding->prompt_until_ns);
}

/* What is there ends by estimate in `backlog_ns`. */
static void believe(struct holding *holding, uint64_t backlog_ns, uint64_t now_ns)
{
    uint64_t until_ns = now_ns + PATIENCE_NS + 2 * backlog_ns;
    if (until_ns > get(&holding->believed_until_ns)) {
        set(&holding->believed_until_ns, until_ns);
    }
}

uint32_t held_begin(const struct mica_device *device, const struct mica_work *work, bool is_unknown)
{
    struct holding *holding = &holdings[device_index(device)];
    believe(holding, is_unknown ? UNKNOWN_NS : work->end_ns - work->now_ns, work->now_ns);
    uint64_t before = atomic_fetch_add_explicit(&holding->counted, 1, memory_order_relaxed);
    return (uint32_t)(before >> AGE_SHIFT);
}

/* For how long the device is kept when the last command has ended: for what was made on its credit; for a program that usually comes back at once and would come
 * before all that wait; and until a prompt one has heard of the end, which on a processor that is busy at once with others' work takes it longer than its work. */
static uint64_t stay_ns(const struct mica_device *device, const struct mica_work *work, const struct holding *holding, uint64_t now_ns)
{
    struct mica_return known = known_of(holding);
    uint64_t return_ns = mica_hold_return_ns(&known);
    uint64_t least_ns = work->prompt && work->credit_ns < HEARD_NS ? HEARD_NS : work->credit_ns;
    if (return_ns <= least_ns || !mica_hold_comes_first(work->token, device->usage, now_ns)) {
        return least_ns;
    }
    return return_ns;
}

/* Take a command off the count of its age. False: that age is over, and it counts no more. */
static bool uncount(struct holding *holding, uint32_t age)
{
    uint64_t seen = get(&holding->counted);
    do {
        if (seen >> AGE_SHIFT != age || count_of(seen) == 0) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&holding->counted, &seen, seen - 1, memory_order_relaxed, memory_order_relaxed));
    return true;
}

/* The device's clock follows what the slice's own work really took. */
static uint64_t correct_clock(const struct mica_work *work, uint64_t measured_ns, uint64_t now_ns)
{
    uint64_t cost_ns = work->charged_ns - work->credit_ns;
    bool is_own_turn = work->turns == atomic_load_explicit(&work->token->turns, memory_order_relaxed);
    if (measured_ns != 0 && is_own_turn) {
        mica_token_shift(work->token, measured_ns > cost_ns, measured_ns > cost_ns ? measured_ns - cost_ns : cost_ns - measured_ns);
    }
    uint64_t busy_ns = atomic_load_explicit(&work->token->busy_until_ns, memory_order_relaxed);
    return busy_ns > now_ns && busy_ns - now_ns < MICA_TOKEN_BACKLOG_MAX_NS ? busy_ns - now_ns : 0;
}

void held_end(struct mica_device *device, const struct mica_work *work, uint32_t age, uint64_t measured_ns, uint64_t now_ns)
{
    struct holding *holding = &holdings[device_index(device)];
    if (!uncount(holding, age)) {
        return;
    }
    believe(holding, correct_clock(work, measured_ns, now_ns), now_ns);
    set(&holding->left_ns, now_ns);
    mica_launch_over(device, work, stay_ns(device, work, holding, now_ns), now_ns);
}

/* --- The watcher's ---------------------------------------------------------------------------------------------------------- */

/* What is counted does not run. */
static void give_up(struct mica_device *device, struct holding *holding, uint64_t record, uint64_t now_ns)
{
    uint64_t seen = get(&holding->counted);
    while (count_of(seen) != 0 && !atomic_compare_exchange_weak_explicit(&holding->counted, &seen, ((seen >> AGE_SHIFT) + 1) << AGE_SHIFT,
                                                                        memory_order_relaxed, memory_order_relaxed)) {
    }
    if (count_of(seen) != 0) {
        mica_launch_left(device, device->token, record, count_of(seen), 0, now_ns);
    }
}

uint64_t held_round(uint64_t now_ns)
{
    uint64_t next_ns = MICA_WATCH_NEVER;
    struct mica_slice *slice = mica_attached_slice();
    for (unsigned i = 0; i < slice->device_count; i++) {
        struct mica_device *device = &slice->devices[i];
        uint64_t record = atomic_load_explicit(&device->record, memory_order_relaxed);
        if (device->token == NULL || count_of(get(&holdings[i].counted)) == 0) {
            continue;
        }
        if (now_ns < get(&holdings[i].believed_until_ns)) {
            (void)mica_hold_renew(device->token, record, now_ns);
            next_ns = now_ns + MICA_HOLD_RENEW_NS;
        } else {
            give_up(device, &holdings[i], record, now_ns);
        }
    }
    return next_ns;
}
