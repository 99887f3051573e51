/* SPDX-License-Identifier: Apache-2.0
 *
 * What is lost under a running process: its slice's record, or the file below a mapping.
 *
 * A tenant owns its usage file and can truncate it. The next touch of the mapping is then a SIGBUS in its own program, in a call that has no error for
 * it. The handler puts empty memory in the file's place and has the enforcement end as the policy says, so that the touch goes on
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

enum kind { USAGE, QUOTA, TOKEN, KINDS };

/* What is watched. Written before the first mapping is made, read by the handler. */
static struct {
    struct mica_slice *slice;
    const char *who;
    enum mica_fault_policy policy;
    void (*end)(bool pass);
    _Atomic bool is_lost;
    _Atomic bool is_told[MICA_DEVICES_MAX][KINDS];
} watched;

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

/* A signal handler does not print with formats. */
static void say(const struct mica_device *device, const char *const *parts, size_t count)
{
    char what[160];
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        size_t bytes = strlen(parts[i]);
        memcpy(what + length, parts[i], bytes);
        length += bytes;
    }
    what[length] = '\0';
    mica_fault_say(watched.slice->id, what, device->id);
}

static bool replace(const void *region, size_t bytes)
{
    return mmap((void *)(uintptr_t)region, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
}

/* Several threads may meet the same loss at once: one of them tells. */
static void say_truncated(const struct mica_device *device, const char *then, enum kind kind)
{
    static const char *const names[KINDS] = {"usage", "quota", "token"};
    const char *const parts[] = {watched.who, then, ": its ", names[kind], " region was truncated under it: device"};
    if (!atomic_exchange(&watched.is_told[device - watched.slice->devices][kind], true)) {
        say(device, parts, sizeof parts / sizeof parts[0]);
    }
}

/* The enforcement ends before the empty memory can be read: another thread that went on with it would take it for the slice's. */
static bool limits_lost(const struct mica_device *device, enum kind kind, const void *region, size_t bytes)
{
    bool pass = watched.policy == MICA_FAULT_PASS;
    atomic_store(&watched.is_lost, true);
    watched.end(pass);
    say_truncated(device, pass ? "not enforced any more" : "refused from now on", kind);
    return replace(region, bytes);
}

/* Empty memory is a token that nobody else has: what is left is the rate. Every slice of the device can do this to all, so it refuses nobody. */
static bool token_lost(const struct mica_device *device)
{
    say_truncated(device, "held by its rate alone", TOKEN);
    return replace(device->token, sizeof *device->token);
}

/* The regions of one device. True: `address` was in one of them, which is empty memory now. */
static bool replace_on(const struct mica_device *device, const void *address)
{
    if (lies_in(address, device->usage, sizeof *device->usage)) {
        return limits_lost(device, USAGE, device->usage, sizeof *device->usage);
    }
    if (lies_in(address, device->quota, sizeof *device->quota)) {
        return limits_lost(device, QUOTA, device->quota, sizeof *device->quota);
    }
    return lies_in(address, device->token, sizeof *device->token) && token_lost(device);
}

static bool is_ours(const void *address)
{
    for (unsigned i = 0; i < watched.slice->device_count; i++) {
        if (replace_on(&watched.slice->devices[i], address)) {
            return true;
        }
    }
    return false;
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    int error = errno;
    if (is_ours(info->si_addr)) {
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

void mica_fault_watch(struct mica_slice *slice, const char *who, void (*end)(bool pass))
{
    struct mica_fault fault;
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    watched.slice = slice;
    watched.who = who;
    watched.policy = mica_fault_policy(&fault);
    watched.end = end;
    atomic_store(&watched.is_lost, false);
    memset((void *)watched.is_told, 0, sizeof watched.is_told);
    if (!is_watched) { /* a forked child has its parent's handler */
        sigemptyset(&action.sa_mask);
        is_watched = sigaction(SIGBUS, &action, &before) == 0;
    }
}

bool mica_fault_is_lost(void)
{
    return atomic_load(&watched.is_lost);
}
