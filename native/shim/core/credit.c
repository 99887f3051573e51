/* SPDX-License-Identifier: Apache-2.0 */
#include "credit.h"

#include <pthread.h>
#include <string.h>

#define CREDITS_MAX 256 /* threads that launch; the others ask every time */

_Thread_local struct mica_credit *mica_credit_own;

static struct mica_credit credits[CREDITS_MAX];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_end;

static void count(struct mica_device *device, uint64_t launches)
{
    if (launches != 0) {
        atomic_fetch_add_explicit(&device->usage->processes[device->slot].launches, launches, memory_order_relaxed);
        atomic_fetch_add_explicit(&device->usage->launches, launches, memory_order_relaxed);
    }
}

/* What was made on the credit and is not counted yet. Two may take at once: what one takes twice the other takes off again, and the sum is right. */
static uint64_t take_uncounted(struct mica_credit *credit)
{
    uint64_t launches = atomic_load_explicit(&credit->launches, memory_order_relaxed);
    if (launches == atomic_load_explicit(&credit->counted, memory_order_relaxed)) {
        return 0;
    }
    return launches - atomic_exchange_explicit(&credit->counted, launches, memory_order_relaxed);
}

static void on_thread_end(void *own)
{
    struct mica_credit *credit = own;
    mica_credit_own = NULL;
    credit->place = NULL;
    /* Release pairs with the acquire in take: the next thread finds the words as this one left them. */
    atomic_store_explicit(&credit->taken, 0, memory_order_release);
}

static void make_key(void)
{
    pthread_key_create(&thread_end, on_thread_end);
}

static struct mica_credit *take(void)
{
    pthread_once(&once, make_key);
    for (unsigned i = 0; i < CREDITS_MAX; i++) {
        int taken = 0;
        if (atomic_compare_exchange_strong_explicit(&credits[i].taken, &taken, 1, memory_order_acquire, memory_order_relaxed)) {
            pthread_setspecific(thread_end, &credits[i]);
            return &credits[i];
        }
    }
    return NULL;
}

static struct mica_credit *own(void)
{
    if (mica_credit_own == NULL) {
        mica_credit_own = take();
    }
    return mica_credit_own;
}

struct mica_unused mica_credit_renew(const void *place, struct mica_device *device, uint64_t credit_ns)
{
    struct mica_credit *credit = own();
    if (credit == NULL) {
        return (struct mica_unused){.device = device, .ns = credit_ns};
    }
    struct mica_device *before = atomic_load_explicit(&credit->device, memory_order_relaxed);
    struct mica_unused unused = {.device = before, .ns = 0};
    if (credit->place != place) {
        unused.ns = credit->left_ns;
        credit->left_ns = 0;
    }
    if (before != device && before != NULL) {
        count(before, take_uncounted(credit));
    }
    unsigned record = atomic_load_explicit(&device->record, memory_order_relaxed);
    credit->place = place;
    /* Release pairs with the acquire in mica_credit_count: what was made on the last device is counted there. */
    atomic_store_explicit(&credit->device, device, memory_order_release);
    credit->sequence = &device->quota->records[record].sequence;
    /* An odd number is of a record that is changing: then the credit is void at once, which only means to ask. */
    credit->seen = atomic_load_explicit(credit->sequence, memory_order_acquire) & ~1ULL;
    credit->left_ns += credit_ns;
    return unused;
}

void mica_credit_learn(uint64_t key, struct mica_cost *cost)
{
    struct mica_credit *credit = own();
    if (credit != NULL) {
        credit->recent[key % MICA_CREDIT_RECENT].key = key;
        credit->recent[key % MICA_CREDIT_RECENT].cost = cost;
    }
}

void mica_count_launches(struct mica_device *device, uint64_t launches)
{
    struct mica_credit *credit = mica_credit_own;
    bool own_here = credit != NULL && atomic_load_explicit(&credit->device, memory_order_relaxed) == device;
    count(device, launches + (own_here ? take_uncounted(credit) : 0));
}

bool mica_credit_count(void)
{
    bool any = false;
    for (unsigned i = 0; i < CREDITS_MAX; i++) {
        struct mica_device *device = atomic_load_explicit(&credits[i].device, memory_order_acquire);
        uint64_t launches = device != NULL ? take_uncounted(&credits[i]) : 0;
        if (launches != 0) {
            count(device, launches);
            any = true;
        }
    }
    return any;
}

void mica_credit_forget(void)
{
    mica_credit_own = NULL;
    memset((void *)credits, 0, sizeof credits);
    if (thread_end != 0) {
        pthread_setspecific(thread_end, NULL);
    }
}
