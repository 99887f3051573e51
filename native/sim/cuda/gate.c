/* SPDX-License-Identifier: Apache-2.0
 *
 * Work that has to wait for the host: functions that it runs, values that it writes or waits for, events of other devices.
 * Such work, and all that is behind it in its stream, is deferred; the driver's own thread starts it when its time comes.
 *
 * Invariant: deferred work starts in order within a stream, and between the legacy stream and blocking ones of its
 * context. While a function of the host runs, the driver lock is free and its entry stays at the head of its stream.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver.h"

#define POLL_NS 50000ULL
#define IDLE_NS 1000000000ULL

struct entry {
    CUstream stream;
    struct sim_work work;
    bool running; /* its function is, right now */
    struct entry *next;
};

static struct entry *first, **last = &first;
static bool worker_started;
static pthread_cond_t added, started; /* something was added; something was started, or dropped */

_Thread_local bool sim_gate_is_ours __attribute__((tls_model("initial-exec")));

static bool is_blocking(const struct sim_stream *stream)
{
    return !(stream->flags & CU_STREAM_NON_BLOCKING);
}

/* Whether work of `a` and `b` must keep its order. */
static bool is_coupled(const struct sim_stream *a, const struct sim_stream *b)
{
    if (a == b)
        return true;
    const struct sim_stream *legacy = &a->context->legacy;
    return a->context == b->context && (a == legacy || b == legacy) && is_blocking(a) && is_blocking(b);
}

static bool waits_for_host(const struct sim_stream *stream, const struct sim_work *work)
{
    switch (work->kind) {
    case WORK_HOST:
    case WORK_CALLBACK:
    case WORK_VALUES:
        return true;
    case WORK_WAIT:
        return work->wait.pending ? work->wait.pending->deferred != 0
                                  : work->wait.account != sim_context_account(stream->context) &&
                                        !sim_position_done(work->wait.account, &work->wait.position, NULL);
    default:
        return false;
    }
}

bool sim_gate_needed(CUstream stream, const struct sim_work *work)
{
    const struct sim_context *context = stream->context;
    if (stream->deferred || (is_blocking(stream) && (stream == &context->legacy ? context->deferred_blocking : context->legacy.deferred)))
        return true;
    return work->kind >= WORK_HOST && waits_for_host(stream, work);
}

/* --- The driver's thread ---------------------------------------------------------------------------------------------------- */

static bool is_satisfied(const CUstreamValue *value)
{
    bool wide = value->at.operation == CU_VALUE_WAIT_64;
    size_t bytes = wide ? 8 : 4;
    unsigned char *memory = sim_memory_at(value->at.address, bytes);
    uint64_t found = 0, wanted = wide ? value->at.value : (uint32_t)value->at.value;
    if (!memory)
        return true;
    memcpy(&found, memory, bytes);
    switch (value->at.flags & 3) {
    case 0: /* at least, in a circle */
        return wide ? (int64_t)(found - wanted) >= 0 : (int32_t)((uint32_t)found - (uint32_t)wanted) >= 0;
    case 1:
        return found == wanted;
    case 2:
        return (found & wanted) != 0;
    default:
        return ~(found | wanted) != 0 && (wide || (uint32_t)~(found | wanted) != 0);
    }
}

/* Do one stream's values as far as they go. True: all of them are done. */
static bool do_values(struct sim_work *work)
{
    for (; work->values.done < work->values.count; work->values.done++) {
        const CUstreamValue *value = &work->values.list[work->values.done];
        bool write = value->operation == CU_VALUE_WRITE_32 || value->operation == CU_VALUE_WRITE_64;
        bool wait = value->operation == CU_VALUE_WAIT_32 || value->operation == CU_VALUE_WAIT_64;
        if (wait && !is_satisfied(value))
            return false;
        size_t bytes = value->operation == CU_VALUE_WRITE_64 ? 8 : 4;
        unsigned char *memory = write ? sim_memory_at(value->at.address, bytes) : NULL;
        if (memory)
            memcpy(memory, &value->at.value, bytes);
    }
    return true;
}

static bool is_first(const struct entry *entry)
{
    for (const struct entry *at = first; at != entry; at = at->next)
        if (is_coupled(at->stream, entry->stream))
            return false;
    return true;
}

/* Whether the entry can be started now; else `wake_ns` is brought forward to when to look again. */
static bool is_due(struct entry *entry, uint64_t *wake_ns)
{
    struct sim_position joined;
    struct sim_work *work = &entry->work;
    int account = sim_context_account(entry->stream->context);
    uint64_t soonest_ns = 0;
    if (!waits_for_host(entry->stream, work))
        return true;
    if (work->kind == WORK_WAIT) {
        soonest_ns = work->wait.pending ? UINT64_MAX : sim_position_soonest_ns(work->wait.account, &work->wait.position);
    } else {
        soonest_ns = sim_position_soonest_ns(account, sim_stream_after(entry->stream, &joined));
        if (!soonest_ns && work->kind == WORK_VALUES && !do_values(work))
            soonest_ns = sim_now_ns() + POLL_NS;
    }
    if (soonest_ns && soonest_ns < *wake_ns)
        *wake_ns = soonest_ns;
    return !soonest_ns;
}

static void count(CUstream stream, const struct sim_work *work, unsigned change)
{
    stream->deferred += change;
    if (is_blocking(stream))
        stream->context->deferred_blocking += change;
    if (work->kind == WORK_RECORD)
        work->record.event->deferred += change;
}

/* Take an entry out, whose stream may have been destroyed meanwhile. */
static void take_out(struct entry *entry)
{
    struct entry **at = &first;
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    if (!entry->next)
        last = at;
    count(entry->stream, &entry->work, -1u);
    if (entry->work.kind == WORK_VALUES)
        free(entry->work.values.list);
    if (entry->stream->mark == MARK_STREAM_CLOSING && !entry->stream->deferred)
        sim_object_free(entry->stream);
    free(entry);
    pthread_cond_broadcast(&started);
}

static void call_host(const struct sim_work *work)
{
    pthread_mutex_unlock(&sim_driver_lock);
    if (work->kind == WORK_HOST)
        work->host.function(work->host.data);
    else
        work->callback.function(work->callback.stream, CUDA_SUCCESS, work->callback.data);
    pthread_mutex_lock(&sim_driver_lock);
}

static void start(struct entry *entry)
{
    struct sim_position joined, reached = {0};
    if (entry->work.kind == WORK_HOST || entry->work.kind == WORK_CALLBACK) {
        entry->running = true;
        call_host(&entry->work);
        entry->running = false;
    }
    /* What cannot be started any more (its memory was freed meanwhile) is left out: the call has long returned. */
    CUresult result = sim_work_start(entry->stream, &entry->work, sim_stream_after(entry->stream, &joined), &reached);
    if (result == CUDA_SUCCESS && entry->work.kind != WORK_RECORD)
        sim_stream_reach(entry->stream, &reached);
    take_out(entry);
}

static void *work_for_ever(void *unused)
{
    (void)unused;
    sim_gate_is_ours = true;
    pthread_mutex_lock(&sim_driver_lock);
    for (;;) {
        uint64_t wake_ns = sim_now_ns() + IDLE_NS;
        struct entry *due = NULL;
        for (struct entry *at = first; at && !due; at = at->next)
            if (is_first(at) && is_due(at, &wake_ns))
                due = at;
        if (due) {
            start(due);
            continue;
        }
        struct timespec until = {(time_t)(wake_ns / 1000000000ULL), (long)(wake_ns % 1000000000ULL)};
        pthread_cond_timedwait(&added, &sim_driver_lock, &until);
    }
    return NULL;
}

static bool start_worker(void)
{
    pthread_condattr_t attributes;
    pthread_t worker;
    sigset_t all, before;
    if (worker_started)
        return true;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&added, &attributes);
    pthread_cond_init(&started, &attributes);
    pthread_condattr_destroy(&attributes);
    sigfillset(&all); /* the program's signals are the program's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    worker_started = !pthread_create(&worker, NULL, work_for_ever, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (worker_started)
        pthread_detach(worker);
    return worker_started;
}

/* --- For everyone else -------------------------------------------------------------------------------------------------------- */

CUresult sim_gate_defer(CUstream stream, const struct sim_work *work)
{
    struct entry *entry = malloc(sizeof *entry);
    if (!entry || !start_worker()) {
        free(entry);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *entry = (struct entry){.stream = stream, .work = *work};
    count(stream, work, 1);
    *last = entry;
    last = &entry->next;
    pthread_cond_signal(&added);
    return CUDA_SUCCESS;
}

void sim_gate_sleep(void)
{
    pthread_cond_wait(&started, &sim_driver_lock);
    sim_checkpoint_pass();
}

bool sim_gate_is_empty(void)
{
    return !first;
}

static bool concerns(const struct entry *entry, CUcontext context, CUstream stream)
{
    return stream ? is_coupled(entry->stream, stream) && (entry->stream == stream || stream == &stream->context->legacy)
                  : entry->stream->context == context;
}

void sim_gate_wait(CUcontext context, CUstream stream)
{
    const struct entry *newest = NULL;
    for (const struct entry *at = first; at; at = at->next)
        if (concerns(at, context, stream))
            newest = at;
    for (bool there = newest != NULL; there;) {
        sim_gate_sleep();
        there = false;
        for (const struct entry *at = first; at; at = at->next)
            there = there || at == newest;
    }
}

void sim_gate_drop(CUcontext context)
{
    for (struct entry *at = first, *next; at; at = next) {
        next = at->next;
        if (at->stream->context != context)
            continue;
        if (at->running) { /* its function may need the driver: let it finish, and look again */
            sim_gate_sleep();
            next = first;
        } else {
            take_out(at);
        }
    }
}
