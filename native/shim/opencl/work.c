/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "work.h"

#include "../core/cost.h"
#include "../core/credit.h"
#include "../core/part.h"
#include "../core/turn.h"
#include "../core/watch.h"
#include "devices.h"
#include "held.h"

#include <stdlib.h>

#define QUANTUM_NS 2000000ULL /* between two commands of a device that are timed, but for unknown ones and those that have the device alone */
#define COUNT_NS 1000000ULL   /* commands on credit are counted so long after they were made */
#define EARLY_NS 20000ULL     /* an end that comes earlier than this before its estimate puts the device's clock back */

/* What the process has on a device. */
static struct place {
    _Atomic uint64_t next_timed_ns; /* CLOCK_MONOTONIC */
    _Atomic uint64_t last_end_ns;   /* of its commands, on the device's own clock */
    _Atomic(const void *) last_thread;
    _Atomic(cl_command_queue) last_queue;
} places[MICA_DEVICES_MAX];

/* In a callback of the target's the program runs on the target's own thread: to wait there would hold up the device itself. */
static _Thread_local bool is_in_callback;

static bool is_held(const struct command *command)
{
    return command->work.strict && command->work.token != NULL;
}

static uint64_t look_round(uint64_t now_ns)
{
    if (mica_attach_state() != MICA_INSIDE) {
        return MICA_WATCH_NEVER;
    }
    uint64_t count_ns = mica_credit_count() ? now_ns + COUNT_NS : MICA_WATCH_NEVER;
    uint64_t hold_ns = held_round(now_ns);
    return count_ns < hold_ns ? count_ns : hold_ns;
}

void work_forget(void)
{
    mica_credit_forget();
    mica_watch_forget();
    held_forget();
    for (unsigned i = 0; i < MICA_DEVICES_MAX; i++) {
        atomic_store(&places[i].next_timed_ns, 0);
        atomic_store(&places[i].last_end_ns, 0);
    }
}

static struct mica_device *queue_device(cl_command_queue queue)
{
    cl_device_id id = NULL;
    return below.clGetCommandQueueInfo(queue, CL_QUEUE_DEVICE, sizeof id, &id, NULL) == CL_SUCCESS ? device_of(id) : NULL;
}

/* --- Before ------------------------------------------------------------------------------------------------------------- */

static void renew(void *waiting)
{
    struct command *command = waiting;
    command->work.cost_ns = mica_cost_estimate(command->cost);
    command->work.alone = mica_cost_wants_alone(command->cost);
}

static void take_credit(const struct command *command)
{
    const struct mica_work *work = &command->work;
    if (work->credit_ns == 0) {
        return;
    }
    mica_credit_learn(command->key, command->cost);
    struct mica_unused unused = mica_credit_renew(command->device, command->device, work->credit_ns);
    if (unused.ns != 0) {
        mica_launch_correct(unused.device, unused.ns, 0, NULL);
    }
    mica_watch_with(look_round);
    mica_watch_by(work->now_ns + COUNT_NS);
}

/* An end is seen behind its own queue's work only: what other queues and threads of this process put on the device is not. */
static bool is_in_order(struct place *place, cl_command_queue queue)
{
    const void *thread = mica_credit_own != NULL ? (const void *)mica_credit_own : (const void *)place;
    bool same = atomic_exchange_explicit(&place->last_queue, queue, memory_order_relaxed) == queue;
    return (atomic_exchange_explicit(&place->last_thread, thread, memory_order_relaxed) == thread) & same;
}

static cl_int admit(struct command *command, struct place *place)
{
    struct mica_wait wait = {.poll = renew, .context = command};
    if (command->work.strict) {
        held_ask(command->device, &command->work, mica_monotonic_ns());
    }
    enum mica_verdict verdict = mica_launch_admit(command->device, &command->work, &wait);
    if (verdict != MICA_GRANTED) {
        return CL_OUT_OF_RESOURCES;
    }
    if (command->work.claim_ns != 0) {
        mica_cost_tries_alone(command->cost);
    }
    mica_cost_charged(command->cost, command->work.charged_ns);
    take_credit(command);
    uint64_t now_ns = command->work.now_ns;
    bool is_due = now_ns >= atomic_load_explicit(&place->next_timed_ns, memory_order_relaxed);
    if (is_held(command)) {
        command->age = held_begin(command->device, &command->work, mica_cost_is_unknown(command->cost));
        mica_watch_with(look_round);
        mica_watch_by(now_ns + MICA_HOLD_RENEW_NS);
    }
    command->is_followed = is_due || mica_turn_is_edge(&command->work) || command->work.counted || command->work.claim_ns != 0 || mica_cost_is_unknown(command->cost);
    if (is_due) {
        atomic_store_explicit(&place->next_timed_ns, now_ns + QUANTUM_NS, memory_order_relaxed);
        mica_device_touch(command->device, now_ns);
    }
    return CL_SUCCESS;
}

cl_int work_begin(struct command *command, cl_command_queue queue, uint64_t key)
{
    *command = (struct command){.key = key};
    enum door at = door();
    if (at != DOOR_ENFORCE) {
        return at == DOOR_PASS ? CL_SUCCESS : CL_OUT_OF_RESOURCES;
    }
    struct mica_device *device = queue_device(queue);
    if (device == NULL || mica_credit_use(device, key)) {
        return CL_SUCCESS; /* the target refuses what is no queue; or it is paid for */
    }
    struct place *place = &places[device_index(device)];
    command->device = device;
    command->cost = mica_cost_find(key);
    command->in_order = is_in_order(place, queue);
    command->work.strict = device_overlaps(device);
    renew(command);
    if (is_in_callback) {
        command->is_late = true;
        command->is_followed = true;
        return CL_SUCCESS;
    }
    cl_int result = admit(command, place);
    if (result != CL_SUCCESS) {
        command->device = NULL;
    }
    return result;
}

/* --- After -------------------------------------------------------------------------------------------------------------- */

/* How sure it is that nothing but this command has taken the measured time. */
static enum mica_trust trust_in(const struct command *command, bool was_alone)
{
    const struct mica_work *work = &command->work;
    if (work->claim_ns != 0) {
        return was_alone ? MICA_TRUST_FULL : MICA_TRUST_NONE;
    }
    bool own_turn = work->token != NULL && command->in_order && work->turns == atomic_load_explicit(&work->token->turns, memory_order_relaxed);
    return !own_turn || work->clean == MICA_CLEAN_NO ? MICA_TRUST_NONE : work->clean == MICA_CLEAN_LIKELY ? MICA_TRUST_NEAR : MICA_TRUST_FULL;
}

/* Device time of an ended command. Where several of the process's commands overlap, from the end of the one before: each moment counts once. 0: not known. */
static uint64_t time_of(cl_event event, struct place *place)
{
    cl_ulong start = 0;
    cl_ulong end = 0;
    if (below.clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, sizeof start, &start, NULL) != CL_SUCCESS ||
        below.clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL) != CL_SUCCESS || end <= start) {
        return 0;
    }
    uint64_t last = atomic_load_explicit(&place->last_end_ns, memory_order_relaxed);
    while (last < end && !atomic_compare_exchange_weak_explicit(&place->last_end_ns, &last, end, memory_order_relaxed, memory_order_relaxed)) {
    }
    uint64_t from = last > start && last < end ? last : start;
    return end - from;
}

static void settle(struct command *command, uint64_t measured_ns, uint64_t now_ns)
{
    struct mica_work *work = &command->work;
    struct mica_token_region *token = work->token;
    bool was_alone = work->claim_ns != 0 && mica_token_release(token, work->claim_ns, now_ns);
    enum mica_trust trust = trust_in(command, was_alone); /* before others come */
    if (is_held(command)) {
        held_end(command->device, work, command->age, measured_ns, now_ns);
    } else {
        mica_launch_over(command->device, work, 0, now_ns);
    }
    if (measured_ns == 0) {
        return;
    }
    if (command->is_late) {
        mica_launch_correct(command->device, 0, measured_ns, NULL);
        return;
    }
    bool is_early = trust == MICA_TRUST_FULL && !was_alone && !is_held(command) && now_ns + EARLY_NS < work->end_ns;
    if (is_early) {
        mica_token_shift(token, false, work->end_ns - now_ns);
    }
    struct mica_settlement settlement = mica_cost_measured(command->cost, measured_ns, trust, token == NULL);
    mica_launch_correct(command->device, settlement.charged_ns, settlement.actual_ns, was_alone || is_held(command) ? NULL : token);
    mica_turn_seen(command->device, work, measured_ns, now_ns);
}

/* On a thread of the target's: nothing here waits. */
static void on_ended(cl_event event, cl_int status, void *user)
{
    struct command *command = user;
    if (mica_attach_state() == MICA_INSIDE) {
        uint64_t measured_ns = status == CL_COMPLETE ? time_of(event, &places[device_index(command->device)]) : 0;
        settle(command, mica_part_device_ns(command->device, measured_ns), mica_monotonic_ns());
    }
    free(command);
}

cl_event *work_event(struct command *command, cl_event *event)
{
    return command->is_followed && event == NULL ? &command->event : event;
}

static void follow(const struct command *command, cl_event event)
{
    struct command *kept = malloc(sizeof *kept);
    if (kept != NULL) {
        *kept = *command;
    }
    if (kept == NULL || !call_back(event, on_ended, kept)) {
        free(kept);
        struct command lost = *command;
        settle(&lost, 0, mica_monotonic_ns());
    }
}

cl_int work_end(struct command *command, cl_event *event, cl_int result)
{
    if (command->device == NULL) {
        return result;
    }
    if (command->is_late) {
        mica_count_launches(command->device, result == CL_SUCCESS);
    } else {
        mica_launch_made(&command->work);
    }
    if (result != CL_SUCCESS && !command->is_late) {
        mica_cost_uncharged(command->cost);
        if (is_held(command)) {
            held_end(command->device, &command->work, command->age, 0, command->work.now_ns);
            command->work.counted = false;
        }
        mica_launch_cancel(command->device, &command->work);
    }
    if (result == CL_SUCCESS && command->is_followed) {
        follow(command, *work_event(command, event));
    }
    if (command->event != NULL) {
        (void)below.clReleaseEvent(command->event);
    }
    return result;
}

/* --- Callbacks ---------------------------------------------------------------------------------------------------------- */

bool work_callback_enter(void)
{
    bool before = is_in_callback;
    is_in_callback = true;
    return before;
}

void work_callback_leave(bool before)
{
    is_in_callback = before;
}

/* A callback of the program's. */
struct callback {
    cl_event_notify notify;
    void *user;
};

static void on_event(cl_event event, cl_int status, void *user)
{
    struct callback callback = *(struct callback *)user;
    free(user);
    bool before = work_callback_enter();
    callback.notify(event, status, callback.user);
    work_callback_leave(before);
}

cl_int hook_clSetEventCallback(cl_event event, cl_int status, cl_event_notify notify, void *user)
{
    if (notify == NULL || door() != DOOR_ENFORCE) {
        return below.clSetEventCallback(event, status, notify, user);
    }
    struct callback *callback = malloc(sizeof *callback);
    if (callback == NULL) {
        return CL_OUT_OF_HOST_MEMORY;
    }
    *callback = (struct callback){notify, user};
    cl_int result = below.clSetEventCallback(event, status, on_event, callback);
    if (result != CL_SUCCESS) {
        free(callback);
    }
    return result;
}
