/* SPDX-License-Identifier: Apache-2.0
 *
 * What is lost under a running process: its slice's record, or the file below a mapping.
 *
 * A tenant owns its usage file and can truncate it. The next touch of the mapping is then a SIGBUS in its own program, in a call that has no error for
 * it. The handler puts empty memory in the file's place and moves the process to the state that the policy says, so that the touch goes on
 * and every later call is answered at the door. Any other SIGBUS goes to whoever had it before. A thread that blocks SIGBUS cannot be helped: the kernel
 * ends its program.
 */
#define _GNU_SOURCE
#include "fault.h"

#include "attach.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static struct sigaction before;
static bool is_watched;
static enum mica_fault_policy policy_at_attach;

/* Says it once in a process. True: the policy is to pass. */
static bool passes(const struct mica_device *device, const char *lost, const char *passing, _Atomic uint64_t *said_in_epoch)
{
    struct mica_fault fault;
    bool does = mica_fault_policy(&fault) == MICA_FAULT_PASS;
    /* Not inside any more: a truncated file was told of, and the empty memory in its place has no slots. */
    if (mica_attach_state() == MICA_INSIDE &&
        atomic_exchange_explicit(said_in_epoch, mica_attach_epoch(), memory_order_relaxed) != mica_attach_epoch()) {
        snprintf(fault.text, sizeof fault.text, "device %s: %s", device->id, lost);
        mica_fault_say(mica_attached_slice()->id, does ? passing : "refused", fault.text);
    }
    return does;
}

bool mica_fault_vanished(const struct mica_device *device)
{
    static _Atomic uint64_t said_in_epoch;
    return passes(device, "the slice's record is gone", "goes on under its last limits", &said_in_epoch);
}

bool mica_fault_slot_lost(const struct mica_device *device)
{
    static _Atomic uint64_t said_in_epoch;
    return passes(device, "this process's slot was taken away, or its usage region damaged", "not enforced", &said_in_epoch);
}

/* --- A file that is truncated under its mapping ------------------------------------------------------------------------ */

static bool lies_in(const void *address, const void *region, size_t bytes)
{
    uintptr_t at = (uintptr_t)address;
    uintptr_t start = (uintptr_t)region;
    return region != NULL && at >= start && at - start < bytes;
}

/* What is said with each policy. A signal handler does not print with formats. */
#define TRUNCATED(kind) "refused from now on: its " kind " region was truncated under it: device", \
                        "not enforced any more: its " kind " region was truncated under it: device"
#define TOKEN_TRUNCATED "held by its rate alone: its token region was truncated under it: device"

/* True: `address` was in this region, which is empty memory now. */
static bool replace(const void *address, const void *region, size_t bytes, const struct mica_device *device, const char *refusing, const char *passing)
{
    if (!lies_in(address, region, bytes) ||
        mmap((void *)(uintptr_t)region, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
        return false;
    }
    mica_fault_say(mica_attached_slice()->id, policy_at_attach == MICA_FAULT_PASS ? passing : refusing, device->id);
    return true;
}

enum lost { LOST_NOTHING, LOST_ORDER, LOST_LIMITS };

/* What was lost at `address`, which is empty memory now. */
static enum lost find_lost(const void *address)
{
    struct mica_slice *slice = mica_attached_slice();
    for (unsigned i = 0; i < slice->device_count; i++) {
        const struct mica_device *device = &slice->devices[i];
        if (replace(address, device->usage, sizeof *device->usage, device, TRUNCATED("usage")) ||
            replace(address, device->quota, sizeof *device->quota, device, TRUNCATED("quota"))) {
            return LOST_LIMITS;
        }
        /* Empty memory is a token that nobody else has: what is left is the rate. Every slice of the device can do this to all, so it refuses nobody. */
        if (replace(address, device->token, sizeof *device->token, device, TOKEN_TRUNCATED, TOKEN_TRUNCATED)) {
            return LOST_ORDER;
        }
    }
    return LOST_NOTHING;
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    int error = errno;
    enum lost lost = find_lost(info->si_addr);
    if (lost == LOST_LIMITS) {
        int inside = MICA_INSIDE;
        atomic_compare_exchange_strong(&mica_attach_state_word, &inside, policy_at_attach == MICA_FAULT_PASS ? MICA_OUTSIDE : MICA_REFUSED);
    }
    if (lost != LOST_NOTHING) {
        errno = error;
        return;
    }
    if ((before.sa_flags & SA_SIGINFO) != 0) {
        before.sa_sigaction(number, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(number);
    } else {
        sigaction(SIGBUS, &before, NULL); /* what touched it touches it again, and ends as it would have without us */
    }
}

void mica_fault_watch(void)
{
    struct mica_fault fault;
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    policy_at_attach = mica_fault_policy(&fault);
    if (!is_watched) { /* a forked child has its parent's handler */
        sigemptyset(&action.sa_mask);
        is_watched = sigaction(SIGBUS, &action, &before) == 0;
    }
}
