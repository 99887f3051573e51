/* SPDX-License-Identifier: Apache-2.0 */
#include "sample.h"

#include "../core/cost.h"
#include "../core/credit.h"
#include "../core/part.h"
#include "../core/turn.h"
#include "../core/watch.h"
#include "capture.h"
#include "graph.h"
#include "inflight.h"
#include "urgent.h"

#include <pthread.h>

#define QUANTUM_NS 2000000ULL /* between two samples of a context */
/* An end that has not come when it should have is asked for again after this, and later after a part of what the work has taken so far, up to that. */
#define POLL_NS 50000ULL
#define POLL_MAX_NS 500000ULL
/* How late an end may come before the device's clock is put on, and by how much in all for one launch: a stream that waits for the host looks the same. */
#define LATE_NS 500000ULL
#define SHIFT_MAX_NS 2000000ULL
#define TURNS_NS 4000000ULL /* two turns of a driver that shares a device among processes by time */
#define EARLY_NS 20000ULL   /* an end that comes earlier than this before its estimate puts the device's clock back */
#define GAP_NS 4000ULL      /* from a start event to its launch, at most: more is small only beside long work */
#define FLIGHT_POLL_NS 200000ULL /* how often the watcher looks which launches in flight have ended */
#define LOOK_NS 500000ULL   /* an end that was looked for so late may have come long before: the machine did not run this process */
#define STUCK_NS 20000000ULL /* an end that is so late is said to be late */
#define COUNT_NS 1000000ULL /* launches on credit are counted so long after they were made */

/* Held by whoever asks for events of a context that is not its own, and around what ends contexts. Launches never take it. */
static pthread_mutex_t holding = PTHREAD_MUTEX_INITIALIZER;

void sample_hold(void)
{
    pthread_mutex_lock(&holding);
}

void sample_let_go(void)
{
    pthread_mutex_unlock(&holding);
}

void sample_forget_all(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    holding = fresh;
    mica_credit_forget();
    mica_watch_forget();
    capture_forget();
    inflight_forget();
    urgent_forget();
    graph_forget();
}

/* --- The events of a context ----------------------------------------------------------------------------------------- */

static bool can_sample(void)
{
    return driver.cuEventCreate != NULL && driver.cuEventRecord != NULL && driver.cuEventQuery != NULL && driver.cuEventElapsedTime != NULL;
}

void sample_events_make(struct context *context)
{
    mica_watch_with(sample_watch);
    if (context->device == NULL || !can_sample()) {
        return;
    }
    int mode = capture_relax();
    for (unsigned i = 0; i < SAMPLES_MAX; i++) {
        struct sample *sample = &context->samples[i];
        if (driver.cuEventCreate(&sample->start, 0) == CUDA_SUCCESS && driver.cuEventCreate(&sample->end, 0) == CUDA_SUCCESS) {
            atomic_store_explicit(&sample->state, SAMPLE_FREE, memory_order_release);
        }
    }
    capture_restore(mode);
}

/* What the enforcer sees of work that does not end: since when the oldest of it has been there. */
static void note_stuck(struct mica_device *device, const struct sample *sample, uint64_t now_ns)
{
    MICA_ATOMIC_U64 *word = &device->usage->processes[device->slot].stuck_ns;
    uint64_t since_ns = atomic_load_explicit(word, memory_order_relaxed);
    if (now_ns > sample->work.end_ns + STUCK_NS && (since_ns == 0 || since_ns > sample->work.now_ns)) {
        atomic_store_explicit(word, sample->work.now_ns, memory_order_relaxed);
    }
}

/* It has ended after all, or is gone; if other work is stuck, too, the next look says so. */
static void note_unstuck(struct mica_device *device, const struct sample *sample)
{
    uint64_t since_ns = sample->work.now_ns;
    atomic_compare_exchange_strong_explicit(&device->usage->processes[device->slot].stuck_ns, &since_ns, 0, memory_order_relaxed, memory_order_relaxed);
}

void sample_events_forget(struct context *context)
{
    for (unsigned i = 0; i < SAMPLES_MAX; i++) {
        struct sample *sample = &context->samples[i];
        if (atomic_exchange(&sample->state, SAMPLE_NONE) != SAMPLE_PENDING) {
            continue;
        }
        note_unstuck(context->device, sample);
        if (sample->work.claim_ns != 0) {
            mica_token_release(sample->work.token, sample->work.claim_ns, mica_monotonic_ns());
        }
    }
    inflight_end(context);
    atomic_store(&context->pending, 0);
    atomic_store(&context->next_sample_ns, 0);
}

static bool move(struct sample *sample, int from, int to)
{
    /* Acquire and release: what the last owner of the sample wrote is seen by the next. */
    return atomic_compare_exchange_strong_explicit(&sample->state, &from, to, memory_order_acq_rel, memory_order_relaxed);
}

static struct sample *take_free(struct context *context)
{
    for (unsigned i = 0; i < SAMPLES_MAX; i++) {
        struct sample *sample = &context->samples[i];
        if (atomic_load_explicit(&sample->state, memory_order_relaxed) == SAMPLE_FREE && move(sample, SAMPLE_FREE, SAMPLE_OPEN)) {
            return sample;
        }
    }
    return NULL;
}

/* --- One sample ----------------------------------------------------------------------------------------------------- */

/* An event in the stream lies behind that stream's work only. What other streams and threads of this process put on the device is not seen, so
 * a launch is in order only if the one before it came from here too. */
static bool is_in_order(struct context *context, CUstream stream)
{
    const void *thread = mica_credit_own != NULL ? (const void *)mica_credit_own : (const void *)context;
    bool same = atomic_exchange_explicit(&context->last_stream, stream, memory_order_relaxed) == stream;
    return (atomic_exchange_explicit(&context->last_thread, thread, memory_order_relaxed) == thread) & same;
}

struct sample *sample_begin(struct context *context, struct mica_cost *cost, const struct mica_work *work, CUstream stream)
{
    bool in_order = is_in_order(context, stream);
    if (work->claim_ns == 0 && !mica_cost_is_unknown(cost) && !mica_turn_is_edge(work) &&
        work->now_ns < atomic_load_explicit(&context->next_sample_ns, memory_order_relaxed)) {
        return NULL;
    }
    struct sample *sample = take_free(context);
    if (sample == NULL) {
        return NULL;
    }
    atomic_store_explicit(&context->next_sample_ns, work->now_ns + QUANTUM_NS, memory_order_relaxed);
    mica_device_touch(context->device, work->now_ns);
    sample->cost = cost;
    sample->in_order = in_order;
    sample->shifted_ns = 0;
    if (driver.cuEventRecord(sample->start, stream) != CUDA_SUCCESS) {
        move(sample, SAMPLE_OPEN, SAMPLE_FREE);
        return NULL;
    }
    sample->started_ns = work->claim_ns != 0 ? mica_monotonic_ns() : 0;
    return sample;
}

void sample_end(struct sample *sample, struct context *context, const struct mica_work *work, CUstream stream, CUresult result)
{
    sample->work = *work;
    if (result != CUDA_SUCCESS || driver.cuEventRecord(sample->end, stream) != CUDA_SUCCESS) {
        mica_token_unclaim(work->token, work->claim_ns);
        move(sample, SAMPLE_OPEN, SAMPLE_FREE);
        return;
    }
    sample->due_ns = sample->work.end_ns + POLL_NS / 2;
    uint64_t due_ns = sample->due_ns;
    atomic_fetch_add_explicit(&context->pending, 1, memory_order_relaxed);
    move(sample, SAMPLE_OPEN, SAMPLE_PENDING);
    mica_watch_by(due_ns);
}

/* How long an empty device waited between the start event, which happened when it was recorded, and the launch. */
static uint64_t gap_of(const struct sample *sample)
{
    return sample->work.made_ns - sample->started_ns;
}

/* A gap that is small beside the work is known well enough to be taken off; a larger one means that the machine did not run this thread. */
static bool gap_is_small(uint64_t gap_ns, uint64_t elapsed_ns)
{
    return gap_ns < elapsed_ns && (gap_ns <= GAP_NS || gap_ns <= elapsed_ns / 64);
}

/* How sure it is that nothing but this work has taken the measured time. */
static enum mica_trust trust_in(const struct sample *sample, bool was_alone, uint64_t elapsed_ns)
{
    const struct mica_work *work = &sample->work;
    if (work->claim_ns != 0) {
        return was_alone && gap_is_small(gap_of(sample), elapsed_ns) ? MICA_TRUST_FULL : MICA_TRUST_NONE;
    }
    bool own_turn = work->token != NULL && sample->in_order && work->turns == atomic_load_explicit(&work->token->turns, memory_order_relaxed);
    return !own_turn || work->clean == MICA_CLEAN_NO ? MICA_TRUST_NONE : work->clean == MICA_CLEAN_LIKELY ? MICA_TRUST_NEAR : MICA_TRUST_FULL;
}

static void settle(struct context *context, struct sample *sample, uint64_t now_ns)
{
    bool in_time = now_ns <= sample->due_ns + LOOK_NS;
    struct mica_device *device = context->device;
    const struct mica_work *work = &sample->work;
    struct mica_token_region *token = work->token;
    float milliseconds = 0;
    bool known = driver.cuEventElapsedTime(&milliseconds, sample->start, sample->end) == CUDA_SUCCESS && milliseconds >= 0;
    bool was_alone = work->claim_ns != 0 && mica_token_release(token, work->claim_ns, now_ns);
    if (!known) {
        return;
    }
    uint64_t elapsed_ns = (uint64_t)((double)milliseconds * 1e6);
    enum mica_trust trust = trust_in(sample, was_alone, elapsed_ns);
    elapsed_ns -= trust == MICA_TRUST_FULL && was_alone ? gap_of(sample) : 0;
    if (trust == MICA_TRUST_FULL && !was_alone && now_ns + EARLY_NS < work->end_ns) {
        mica_token_shift(token, false, work->end_ns - now_ns);
    }
    uint64_t device_ns = mica_part_device_ns(device, elapsed_ns);
    struct mica_settlement settlement = mica_cost_measured(sample->cost, device_ns, trust, token == NULL);
    mica_launch_correct(device, settlement.charged_ns, settlement.actual_ns, was_alone ? NULL : token);
    if (in_time) {
        mica_turn_seen(device, work, mica_cost_estimate(sample->cost), now_ns);
    }
}

/* Its end should have been seen: the device is behind its clock. What was submitted after it may have run before it, where the driver lets processes take
 * turns: so much later, up to some of its turns, it may be. */
static void note_late(struct sample *sample, uint64_t now_ns)
{
    uint64_t expected_ns = sample->work.end_ns + sample->shifted_ns;
    struct mica_token_region *token = sample->work.token;
    if (token == NULL || sample->work.claim_ns != 0 || now_ns < expected_ns + LATE_NS || sample->shifted_ns >= SHIFT_MAX_NS) {
        return;
    }
    uint64_t busy_ns = atomic_load_explicit(&token->busy_until_ns, memory_order_relaxed);
    uint64_t after_ns = busy_ns > expected_ns ? busy_ns - expected_ns : 0;
    after_ns = after_ns < TURNS_NS ? after_ns : TURNS_NS;
    if (now_ns < expected_ns + LATE_NS + after_ns) {
        return;
    }
    uint64_t by_ns = now_ns - expected_ns - after_ns;
    by_ns = by_ns < SHIFT_MAX_NS ? by_ns : SHIFT_MAX_NS;
    sample->shifted_ns += by_ns;
    mica_token_shift(token, true, by_ns);
}

/* Asked too early: ask again soon at first, then in steps of a part of what it has taken. */
static void put_off(struct sample *sample, uint64_t now_ns)
{
    uint64_t step_ns = (now_ns - sample->work.now_ns) / 32;
    step_ns = step_ns < POLL_NS ? POLL_NS : step_ns > POLL_MAX_NS ? POLL_MAX_NS : step_ns;
    sample->due_ns = now_ns < sample->work.end_ns ? sample->work.end_ns + POLL_NS / 2 : now_ns + step_ns;
}

/* Returns when the sample is to be looked at next. */
static uint64_t poll_one(struct context *context, struct sample *sample, uint64_t now_ns)
{
    if (atomic_load_explicit(&sample->state, memory_order_relaxed) != SAMPLE_PENDING || !move(sample, SAMPLE_PENDING, SAMPLE_POLLED)) {
        return MICA_WATCH_NEVER;
    }
    CUresult result = driver.cuEventQuery(sample->end);
    if (result == CUDA_ERROR_NOT_READY) {
        note_late(sample, now_ns);
        note_stuck(context->device, sample, now_ns);
        put_off(sample, now_ns);
        uint64_t due_ns = sample->due_ns;
        move(sample, SAMPLE_POLLED, SAMPLE_PENDING);
        return due_ns;
    }
    if (result == CUDA_SUCCESS) {
        settle(context, sample, mica_monotonic_ns());
    } else if (sample->work.claim_ns != 0) {
        mica_token_release(sample->work.token, sample->work.claim_ns, now_ns);
    }
    note_unstuck(context->device, sample);
    atomic_fetch_sub_explicit(&context->pending, 1, memory_order_relaxed);
    move(sample, SAMPLE_POLLED, SAMPLE_FREE);
    return MICA_WATCH_NEVER;
}

static uint64_t poll_all(struct context *context, uint64_t now_ns)
{
    uint64_t next_ns = MICA_WATCH_NEVER;
    for (unsigned i = 0; i < SAMPLES_MAX; i++) {
        uint64_t due_ns = poll_one(context, &context->samples[i], now_ns);
        next_ns = due_ns < next_ns ? due_ns : next_ns;
    }
    return next_ns;
}

void sample_poll(struct context *context, uint64_t now_ns)
{
    if (atomic_load_explicit(&context->pending, memory_order_relaxed) == 0 ||
        now_ns < atomic_load_explicit(&context->next_poll_ns, memory_order_relaxed)) {
        return;
    }
    atomic_store_explicit(&context->next_poll_ns, now_ns + POLL_NS, memory_order_relaxed);
    int mode = capture_relax();
    (void)poll_all(context, now_ns);
    capture_restore(mode);
}

/* --- The watcher ------------------------------------------------------------------------------------------------------ */

static uint64_t watch_context(struct context *context, uint64_t now_ns)
{
    CUcontext handle = atomic_load_explicit(&context->handle, memory_order_acquire);
    if (handle == NULL || atomic_load_explicit(&context->pending, memory_order_relaxed) == 0) {
        return MICA_WATCH_NEVER;
    }
    if (driver.cuCtxSetCurrent != NULL) {
        (void)driver.cuCtxSetCurrent(handle);
    }
    return poll_all(context, now_ns);
}

uint64_t sample_watch(uint64_t now_ns)
{
    uint64_t next_ns = MICA_WATCH_NEVER;
    sample_hold();
    if (mica_attach_state() == MICA_INSIDE) {
        (void)capture_relax(); /* this thread never has another mode */
        for (unsigned i = 0; i < CONTEXTS_MAX; i++) {
            uint64_t due_ns = watch_context(context_at(i), now_ns);
            next_ns = due_ns < next_ns ? due_ns : next_ns;
        }
        if (inflight_poll(NULL) && next_ns > now_ns + FLIGHT_POLL_NS) {
            next_ns = now_ns + FLIGHT_POLL_NS;
        }
        if (mica_credit_count() && next_ns > now_ns + COUNT_NS) {
            next_ns = now_ns + COUNT_NS;
        }
    }
    sample_let_go();
    return next_ns;
}
