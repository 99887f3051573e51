/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "watch.h"

#include "../../region/region.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STACK_BYTES (256 * 1024)
#define SLEEP_MAX_NS 1000000000ULL

static uint64_t (*_Atomic work)(uint64_t now_ns); /* atomic: several threads may set it, all to the same */
static _Atomic int started;
static _Atomic uint64_t wakes_at; /* when the watcher looks next; 0: it is looking */
static _Atomic uint32_t bell;     /* rung: it is to look again at once */

static void sleep_on_bell(uint32_t heard, uint64_t ns)
{
    uint64_t bounded = ns < SLEEP_MAX_NS ? ns : SLEEP_MAX_NS;
    struct timespec time = {.tv_sec = (time_t)(bounded / 1000000000), .tv_nsec = (long)(bounded % 1000000000)};
    (void)syscall(SYS_futex, &bell, FUTEX_WAIT_PRIVATE, heard, &time, NULL, 0);
}

/* Held during a round, and for ever from the program's exit on: then the driver is taken down under it. */
static pthread_mutex_t looking = PTHREAD_MUTEX_INITIALIZER;
static bool exit_is_watched;

extern int __cxa_atexit(void (*call)(void *), void *with, void *library);
extern void *const __dso_handle __attribute__((visibility("hidden")));

static void stop(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&looking);
}

static void *watch(void *unused)
{
    (void)prctl(PR_SET_NAME, "mica-watch");
    (void)prctl(PR_SET_TIMERSLACK, 1UL); /* of this thread: it is to see an end when it happens */
    for (;;) {
        uint32_t heard = atomic_load(&bell);
        pthread_mutex_lock(&looking);
        uint64_t next_ns = atomic_load_explicit(&work, memory_order_relaxed)(mica_monotonic_ns());
        pthread_mutex_unlock(&looking);
        atomic_store(&wakes_at, next_ns);
        uint64_t now_ns = mica_monotonic_ns();
        /* A bell rung since `heard` makes the wait return at once: nothing is missed between the look and the sleep. */
        if (next_ns > now_ns) {
            sleep_on_bell(heard, next_ns - now_ns);
        }
        atomic_store(&wakes_at, 0);
    }
    return unused;
}

/* The tenant's signals are the tenant's threads': this one takes none, but its own SIGBUS (see lost.c), which would end the program were it blocked. */
static void start(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (pthread_create(&thread, &attributes, watch, NULL) != 0) {
        atomic_store(&started, 0); /* the next launch tries again; until then launches themselves look */
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    /* Registered after the driver was initialised, so that it runs before what the driver has registered. */
    exit_is_watched = exit_is_watched || __cxa_atexit(stop, NULL, (void *)(uintptr_t)&__dso_handle) == 0;
}

void mica_watch_with(uint64_t (*round)(uint64_t now_ns))
{
    atomic_store_explicit(&work, round, memory_order_relaxed);
}

void mica_watch_by(uint64_t due_ns)
{
    int no = 0;
    if (atomic_load_explicit(&started, memory_order_relaxed) == 0 && atomic_compare_exchange_strong(&started, &no, 1)) {
        start();
    }
    /* 0 while it is looking: what it was told before it looked it may have missed, so it is to look again. */
    if (atomic_load(&wakes_at) <= due_ns && atomic_load(&wakes_at) != 0) {
        return;
    }
    atomic_fetch_add(&bell, 1);
    (void)syscall(SYS_futex, &bell, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void mica_watch_forget(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    looking = fresh;
    atomic_store(&started, 0);
    atomic_store(&wakes_at, 0);
}
