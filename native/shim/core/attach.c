/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "attach.h"
#include "weight.h"

#include "credit.h"
#include "fault.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

_Atomic int mica_attach_state_word = MICA_UNDECIDED;
_Atomic uint64_t mica_attach_epoch_word = 1;

static pthread_mutex_t attaching = PTHREAD_MUTEX_INITIALIZER;
static struct mica_slice attached;
static uint64_t owner;
static bool fork_is_watched;
static void (*forget_parent)(void);

struct mica_slice *mica_attached_slice(void)
{
    return &attached;
}

#define SOCKET_PATH "/attach/socket"
#define SOCKET_PATH_BYTES 108 /* of a socket's address */

/* The enforcer's socket, as a socket's short address can hold it: by way of a directory descriptor if the runtime directory's path is
 * long. Returns the descriptor to close, or -1. */
static int find_socket(char path[SOCKET_PATH_BYTES])
{
    const char *runtime = mica_runtime_dir();
    size_t bytes = strlen(runtime);
    if (bytes + sizeof SOCKET_PATH <= SOCKET_PATH_BYTES) {
        memcpy(path, runtime, bytes);
        memcpy(path + bytes, SOCKET_PATH, sizeof SOCKET_PATH);
        return -1;
    }
    int dir = open(runtime, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(path, SOCKET_PATH_BYTES, "/proc/self/fd/%d" SOCKET_PATH, dir);
    return dir;
}

/* Tell the enforcer, without waiting for it: one that is away finds the slot by itself when it is back. */
static void announce(const struct mica_slice *slice)
{
    char path[SOCKET_PATH_BYTES];
    int dir = find_socket(path);
    for (unsigned i = 0; i < slice->device_count; i++) {
        struct mica_attach_message message;
        mica_attach_fill(&message, owner, slice->devices[i].slot, slice->id, slice->devices[i].id);
        (void)mica_attach_send(path, &message);
    }
    if (dir >= 0) {
        close(dir);
    }
}

static void release_slots(struct mica_slice *slice)
{
    for (unsigned i = 0; i < slice->device_count; i++) {
        struct mica_device *device = &slice->devices[i];
        if (device->slot < MICA_PROCESSES_MAX) {
            mica_slot_release(device->usage, device->slot, owner);
            device->slot = MICA_PROCESSES_MAX;
        }
    }
}

/* A slice that is being emptied, or whose processes are to die, takes nobody in. */
static const char *door_is_shut(const struct mica_slice_limits *limits)
{
    if (limits->state != MICA_SLICE_LIVE) {
        return "the slice is draining";
    }
    if (limits->control == MICA_CONTROL_DRAIN) {
        return "control is drain";
    }
    return limits->control == MICA_CONTROL_KILL ? "control is kill" : NULL;
}

/* MICA_INSIDE, MICA_OUTSIDE with the fault (there is no free slot), or MICA_REFUSED with the answer. */
static int claim_slots(struct mica_slice *slice, struct mica_fault *fault)
{
    for (unsigned i = 0; i < slice->device_count; i++) {
        struct mica_device *device = &slice->devices[i];
        const char *shut = door_is_shut(&device->limits);
        if (shut != NULL) {
            snprintf(fault->text, sizeof fault->text, "device %s: %s", device->id, shut);
            return MICA_REFUSED;
        }
        int slot = mica_slot_claim(device->usage, owner);
        if (slot < 0) {
            snprintf(fault->text, sizeof fault->text, "device %s: all %d process slots are taken", device->id, MICA_PROCESSES_MAX);
            return MICA_OUTSIDE;
        }
        device->slot = (unsigned)slot;
        mica_weigh(device);
    }
    return MICA_INSIDE;
}

/* As claim_slots; nothing is open unless the answer is MICA_INSIDE. */
static int open_and_claim(const char *name, struct mica_fault *fault)
{
    if (mica_slice_open(name, true, &attached, fault) != 0) {
        return MICA_OUTSIDE;
    }
    owner = mica_owner_self();
    int state = claim_slots(&attached, fault);
    if (state != MICA_INSIDE) {
        release_slots(&attached);
        mica_slice_close(&attached);
    }
    return state;
}

/* A region was truncated under this process, in a signal handler. While it attaches, enter will see. */
static void on_lost(bool pass)
{
    int inside = MICA_INSIDE;
    atomic_compare_exchange_strong(&mica_attach_state_word, &inside, pass ? MICA_OUTSIDE : MICA_REFUSED);
}

static int enter(const char *name)
{
    struct mica_fault fault;
    enum mica_fault_policy policy = mica_fault_policy(&fault);
    mica_fault_watch(&attached, "", on_lost);
    int state = policy == MICA_FAULT_UNCLEAR ? MICA_REFUSED : open_and_claim(name, &fault);
    if (mica_fault_is_lost()) { /* and told */
        release_slots(&attached);
        mica_slice_close(&attached);
        return policy == MICA_FAULT_PASS ? MICA_OUTSIDE : MICA_REFUSED;
    }
    if (state == MICA_INSIDE) {
        announce(&attached);
    } else if (state == MICA_OUTSIDE && policy == MICA_FAULT_PASS) {
        mica_fault_say(name, "not enforced", fault.text);
    } else {
        mica_fault_say(name, "attach refused", fault.text);
        state = MICA_REFUSED;
    }
    return state;
}

/* Runs in a forked child, which has one thread. The parent's slots are the parent's: drop the mappings, not the slots. */
static void on_fork_in_child(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    attaching = fresh;
    int state = mica_attach_state();
    if (state == MICA_INSIDE || state == MICA_LEFT) {
        mica_slice_close(&attached);
    }
    atomic_fetch_add_explicit(&mica_attach_epoch_word, 1, memory_order_relaxed);
    atomic_store_explicit(&mica_attach_state_word, MICA_UNDECIDED, memory_order_release);
    if (forget_parent != NULL) {
        forget_parent();
    }
}

int mica_attach(void (*forget)(void))
{
    int state = mica_attach_state();
    if (state != MICA_UNDECIDED) {
        return state;
    }
    pthread_mutex_lock(&attaching);
    state = mica_attach_state();
    if (state == MICA_UNDECIDED) {
        const char *name = mica_slice_name();
        state = name == NULL ? MICA_OUTSIDE : enter(name);
        forget_parent = forget;
        if (!fork_is_watched && state != MICA_OUTSIDE) {
            fork_is_watched = pthread_atfork(NULL, NULL, on_fork_in_child) == 0;
        }
        /* Release pairs with the acquire in mica_attach_state. */
        atomic_store_explicit(&mica_attach_state_word, state, memory_order_release);
    }
    pthread_mutex_unlock(&attaching);
    return state;
}

/* At a normal exit. What was launched on credit since the watcher last looked is counted: nobody looks again. A slot with nothing charged is given back
 * here. One that still holds memory is left to the enforcer, which frees it when the process is really gone: until then the driver holds that memory, and it
 * must not be sold twice. */
__attribute__((destructor)) static void leave(void)
{
    int inside = MICA_INSIDE;
    if (!atomic_compare_exchange_strong(&mica_attach_state_word, &inside, MICA_LEFT)) {
        return;
    }
    (void)mica_credit_count();
    for (unsigned i = 0; i < attached.device_count; i++) {
        struct mica_device *device = &attached.devices[i];
        struct mica_process_slot *slot = &device->usage->processes[device->slot];
        if (mica_word_bytes(atomic_load_explicit(&slot->vram_word, memory_order_relaxed)) == 0) {
            mica_slot_release(device->usage, device->slot, owner);
        }
    }
}
