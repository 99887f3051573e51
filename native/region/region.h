/* SPDX-License-Identifier: Apache-2.0
 *
 * Regions: create, map, check and use the shared memory of proto/quota_region.h.
 *
 * Shims and services share this code; the simulated drivers do not. No function allocates, logs, locks or exits. A
 * negative result is a negated errno; zero and positive results are documented at each function.
 */
#ifndef MICA_REGION_H
#define MICA_REGION_H

#ifndef MICA_CFFI
#include <stdbool.h>

#include "quota_region.h"
#endif

/* --- Files ------------------------------------------------------------------------------------------------------ */

/* Create a region of `kind` at `path`, whole or not at all: it is filled under another name and then linked. An existing
 * file is left alone and gives -EEXIST. `slice_id` is NULL except for usage regions. `mode` is set in spite of the umask. */
int mica_region_create(const char *path, uint64_t kind, const char *device_id, const char *slice_id, unsigned mode);

/* What is wrong with a mapped or read header of a file of `file_bytes` bytes; MICA_REGION_OK when nothing. */
enum mica_region_defect {
    MICA_REGION_OK = 0,
    MICA_REGION_TRUNCATED = 1,
    MICA_REGION_FOREIGN = 2,
    MICA_REGION_FUTURE = 3,
    MICA_REGION_WRONG_KIND = 4,
    MICA_REGION_OTHER_BOOT = 5
};
int mica_region_check(const struct mica_region_header *header, uint64_t file_bytes, uint64_t kind, const char *boot_id);
const char *mica_region_defect_text(int defect);

/* Map the region at `path` and check it. Returns MICA_REGION_OK and the mapping in `*region`, a defect, or -errno. */
int mica_region_map(const char *path, uint64_t kind, bool writable, void **region);
void mica_region_unmap(void *region, uint64_t kind);

/* The kernel's boot id, 36 characters and a terminator. */
int mica_boot_id(char out[37]);
uint64_t mica_monotonic_ns(void);

void mica_id_pack(const char *text, uint64_t words[MICA_ID_WORDS]);
void mica_id_unpack(const uint64_t words[MICA_ID_WORDS], char text[65]);

/* --- Quota region: one writer, any number of readers ------------------------------------------------------------- */

/* Replace record `index` by `limits`. Only the enforcer calls this. */
void mica_quota_write(struct mica_quota_region *region, unsigned index, const struct mica_slice_limits *limits);
/* After a writer died inside mica_quota_write: make every odd sequence even again, with the record FREE. Returns how many. */
int mica_quota_repair(struct mica_quota_region *region);
void mica_quota_heartbeat(struct mica_quota_region *region, uint64_t now_ns);
/* Copy record `index`. 0: `*out` is consistent. -EAGAIN: the writer was in the way every time; `*out` is untouched. */
int mica_quota_read(const struct mica_quota_region *region, unsigned index, struct mica_slice_limits *out);
/* Index of the record that is not FREE and carries `slice_id`, or -ENOENT. */
int mica_quota_find(const struct mica_quota_region *region, const uint64_t slice_id[MICA_ID_WORDS], struct mica_slice_limits *out);

/* --- Usage region: memory ---------------------------------------------------------------------------------------- */

uint64_t mica_owner_self(void);
/* Take a free slot for `owner`. Returns its index, or -ENOSPC. */
int mica_slot_claim(struct mica_usage_region *region, uint64_t owner);
void mica_slot_release(struct mica_usage_region *region, unsigned slot, uint64_t owner);

/* What is charged: each has a word of its own in a slot, and a limit of its own. */
enum mica_memory_kind { MICA_MEMORY_VRAM = 0, MICA_MEMORY_PINNED = 1 };

/* A charge that was made; give it back with mica_charge_refund. */
struct mica_charge {
    uint64_t bytes;
    uint64_t kind; /* enum mica_memory_kind */
};
/* Reserve before the driver is asked: add to the own slot, sum all slots, roll back when over `limit_bytes`. 0: charged.
 * -ENOMEM: refused, and counted in `refusals`. -EOVERFLOW: the amount is absurd (over MICA_MEMORY_BYTES_MAX). Keeps VRAM's peaks.
 * A refusal means that at one instant of the call what others held for good left no room; charges still pending
 * are waited for, at most MICA_CHARGE_PATIENCE_NS (a process that was killed or stopped while it reserved). */
#define MICA_CHARGE_PATIENCE_NS 250000000
int mica_charge_make(struct mica_usage_region *region, unsigned slot, enum mica_memory_kind kind, uint64_t bytes, uint64_t limit_bytes,
                     struct mica_charge *out);
/* Give a charge back; the handle is empty afterwards, so that a second refund changes nothing. */
void mica_charge_refund(struct mica_usage_region *region, unsigned slot, struct mica_charge *charge);
/* What all processes of the slice hold together. */
uint64_t mica_charge_sum(const struct mica_usage_region *region, enum mica_memory_kind kind);
/* The bytes in a slot's memory word. */
uint64_t mica_word_bytes(uint64_t word);

/* --- Usage region: compute --------------------------------------------------------------------------------------- */

/* The generic cell rate algorithm over the slice's virtual time. Charges `cost_ns` and returns 0 when the slice may
 * launch now, else returns the nanoseconds to wait before asking again and charges nothing. With a ceiling of 0 it
 * never admits and asks for MICA_RATE_RECHECK_NS. */
#define MICA_RATE_RECHECK_NS 10000000
uint64_t mica_rate_admit(struct mica_usage_region *region, const struct mica_slice_limits *limits, uint64_t cost_ns, uint64_t now_ns);
/* Correct a charge after the fact: the work took `actual_ns` where `charged_ns` was assumed. Adds `actual_ns` to the slice's
 * gpu_ns, so call it for work that was never sampled too, with both amounts equal. */
void mica_rate_correct(struct mica_usage_region *region, const struct mica_slice_limits *limits, uint64_t charged_ns, uint64_t actual_ns);
/* Nanoseconds until the slice's window opens; 0 when it is open for at least `cost_ns` more (or has no window). Work
 * longer than seven eighths of a window may start in the window's first eighth. */
uint64_t mica_window_wait(const struct mica_slice_limits *limits, uint64_t cost_ns, uint64_t now_ns);

/* --- Usage region: services, by pread and pwrite on a file that its tenant may have truncated ---------------------- */

/* Copy a usage file. MICA_REGION_OK, a defect, or -errno. */
int mica_usage_pread(int fd, struct mica_usage_region *out);
/* Free a dead owner's slot: its amounts first, the one HELD byte last. 1: freed. 0: not held by `owner` any more. -errno. */
int mica_slot_reclaim(int fd, unsigned slot, uint64_t owner);

/* --- Attach: one datagram to the enforcer, no answer --------------------------------------------------------------- */

void mica_attach_fill(struct mica_attach_message *message, uint64_t owner, uint64_t slot, const char *slice_id, const char *device_id);
/* Send it with this process's credentials, without waiting. 0, or -errno (-ENAMETOOLONG, -ECONNREFUSED, -EAGAIN, ...):
 * the process may go on, because the enforcer also finds it by its owner word. */
int mica_attach_send(const char *socket_path, const struct mica_attach_message *message);

#endif
