/* SPDX-License-Identifier: Apache-2.0
 *
 * What happens when a slice's limits cannot be known: a region is missing, damaged, of another layout or not permitted, all process slots are taken, the
 * record is gone, or a file was truncated under its mapping. One line on stderr says what and where, and the policy decides: refuse the calls
 * (the default), or let them pass. A slice that is draining or killed is no fault: that is an answer, and no policy changes it.
 */
#ifndef MICA_SHIM_FAULT_H
#define MICA_SHIM_FAULT_H

#include "slice.h"

enum mica_fault_policy {
    MICA_FAULT_REFUSE = 0,
    MICA_FAULT_PASS = 1,
    MICA_FAULT_UNCLEAR = 2 /* MICA_ON_FAULT is neither */
};

/* What MICA_ON_FAULT says; with MICA_FAULT_UNCLEAR the reason in `*fault`. */
enum mica_fault_policy mica_fault_policy(struct mica_fault *fault);

/* "mica: slice NAME: WHAT: WHY", in one write. */
void mica_fault_say(const char *slice_name, const char *what, const char *why);

/* A running process's record on `device` is gone. True: it goes on under the limits that it had. Says so, once. */
bool mica_fault_vanished(const struct mica_device *device);

/* The same of its process slot, without which nothing that it takes would count. True: it goes on uncounted. */
bool mica_fault_slot_lost(const struct mica_device *device);

/* From now on a file of `slice` (which may be opened later) that is truncated under its mapping ends the enforcement, and not the program: `end` is told, in a
 * signal handler, whether calls are to pass. `who` goes before what is said. */
void mica_fault_watch(struct mica_slice *slice, const char *who, void (*end)(bool pass));
/* Has that happened since? */
bool mica_fault_is_lost(void);

#endif
