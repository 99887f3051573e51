/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "nap.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Below this the kernel's own timer slack (50 us) decides. */
#define NAP_MIN_NS 20000ULL

static struct timespec bounded(uint64_t wait_ns, uint64_t most_ns)
{
    uint64_t ns = wait_ns > most_ns ? most_ns : wait_ns < NAP_MIN_NS ? NAP_MIN_NS : wait_ns;
    return (struct timespec){.tv_sec = 0, .tv_nsec = (long)ns};
}

void mica_nap(uint64_t wait_ns)
{
    struct timespec time = bounded(wait_ns, MICA_NAP_MAX_NS);
    (void)nanosleep(&time, NULL);
}

/* The low half of the word, which a futex is: regions are little-endian. */
static uint32_t *half(MICA_ATOMIC_U64 *bell)
{
    return (uint32_t *)(void *)bell;
}

void mica_nap_by(MICA_ATOMIC_U64 *bell, uint64_t heard, uint64_t wait_ns)
{
    struct timespec time = bounded(wait_ns, MICA_NAP_RUNG_MAX_NS);
    (void)syscall(SYS_futex, half(bell), FUTEX_WAIT, (uint32_t)heard, &time, NULL, 0);
}

void mica_nap_ring(MICA_ATOMIC_U64 *bell)
{
    atomic_fetch_add_explicit(bell, 1, memory_order_seq_cst);
    (void)syscall(SYS_futex, half(bell), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}
