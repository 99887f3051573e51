/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "nap.h"

#include <time.h>

/* Below this the kernel's own timer slack (50 us) decides. */
#define NAP_MIN_NS 20000ULL

void mica_nap(uint64_t wait_ns)
{
    uint64_t ns = wait_ns > MICA_NAP_MAX_NS ? MICA_NAP_MAX_NS : wait_ns < NAP_MIN_NS ? NAP_MIN_NS : wait_ns;
    struct timespec time = {.tv_sec = 0, .tv_nsec = (long)ns};
    (void)nanosleep(&time, NULL);
}
