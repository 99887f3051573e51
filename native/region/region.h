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
    MICA_REGION_OTHER_BOOT = 5,
    MICA_REGION_PAST = 6
};
int mica_region_check(const struct mica_region_header *header, uint64_t file_bytes, uint64_t kind, const char *boot_id);
const char *mica_region_defect_text(int defect);

/* Map the region at `path` and check it. Returns MICA_REGION_OK and the mapping in `*region`, a defect, or -errno. */
int mica_region_map(const char *path, uint64_t kind, bool writable, void **region);
/* The same for a caller that knows the boot id already; NULL: whatever boot the region is of. */
int mica_region_map_of_boot(const char *path, uint64_t kind, bool writable, const char *boot_id, void **region);
void mica_region_unmap(void *region, uint64_t kind);

/* The kernel's boot id, 36 characters and a terminator. */
int mica_boot_id(char out[37]);
uint64_t mica_monotonic_ns(void);
/* CLOCK_REALTIME - CLOCK_MONOTONIC, to about a microsecond. Wall time is the same in every time namespace, monotonic time is not; and
 * no two boots begin at the same wall time. */
uint64_t mica_wall_ahead_ns(void);

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
 * -ENOMEM: refused, and counted in `refusals`. -EOVERFLOW: the amount is absurd (over MICA_MEMORY_BYTES_MAX). -ESTALE: the slot is not
 * held (taken away, or the file damaged), so that a charge in it would not count. Keeps VRAM's peaks.
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
/* The same in two steps, for a slice that also waits for its turn on the device: what it loses while it waits there is not lost to it.
 * mica_rate_wait: nanoseconds until the slice is within its burst; mica_rate_charge: its work was submitted. */
uint64_t mica_rate_wait(const struct mica_usage_region *region, const struct mica_slice_limits *limits, uint64_t now_ns);
void mica_rate_charge(struct mica_usage_region *region, const struct mica_slice_limits *limits, uint64_t cost_ns);
/* Both steps in one, for a slice that waits for nothing else; mica_order_enter has brought its time up to the clock. */
uint64_t mica_rate_take(struct mica_usage_region *region, const struct mica_slice_limits *limits, uint64_t cost_ns, uint64_t now_ns);
/* The plain cell rate algorithm on any word, for limits other than the share: takes `charge_ns` of it and returns 0 when the word is at
 * most `burst_ns` ahead of the clock, else the nanoseconds to wait. */
uint64_t mica_cell_admit(MICA_ATOMIC_U64 *word, uint64_t charge_ns, uint64_t burst_ns, uint64_t now_ns);

/* --- Windows of time-sliced devices ------------------------------------------------------------------------------------ */

/* The slice's window that is open at some moment, or was last. */
struct mica_window {
    uint64_t opens_ns; /* CLOCK_MONOTONIC */
    uint64_t closes_ns;
};
/* What a launch needs of a window. */
struct mica_window_ask {
    uint64_t cost_ns;
    uint64_t backlog_ns; /* by the device's clock still before it */
    uint64_t guard_ns;   /* so much of the window's end is kept free */
    uint64_t shut_ns;    /* so much of the window's beginning is not the slice's: it pays what it took beyond earlier ones */
};
bool mica_window_has(const struct mica_slice_limits *limits);
struct mica_window mica_window_at(const struct mica_slice_limits *limits, uint64_t now_ns);
/* 0 when the work may go to the device: it has no window, or ends within the open one. Work that takes longer than seven eighths of a window may begin in the
 * window's first eighth, on a device that is about to run dry. Else the nanoseconds until the window opens again. */
uint64_t mica_window_fit(const struct mica_slice_limits *limits, const struct mica_window_ask *ask, uint64_t now_ns);
/* The same for work of which nothing but the cost is known. */
uint64_t mica_window_wait(const struct mica_slice_limits *limits, uint64_t cost_ns, uint64_t now_ns);

/* The slice asks to launch in its own open window. True: for the first time in it; what it owes is then taken from this window. */
bool mica_window_begin(struct mica_usage_region *usage, const struct mica_slice_limits *limits, uint64_t now_ns);
/* How much of the beginning of the window that opened at `opens_ns` is shut for the slice. */
uint64_t mica_window_shut(const struct mica_usage_region *usage, uint64_t opens_ns);
/* The slice was on the device `by_ns` longer than it may be (debt), or others were in its window (owed). Bounded: what lies further back is forgotten. */
#define MICA_WINDOW_DEBT_MAX_NS 1000000000ULL
void mica_window_owe(MICA_ATOMIC_U64 *word, uint64_t by_ns);

/* Borrowing. The owner of the open window says until when it wants the device; it is idle when it has not said so for this time. */
#define MICA_WINDOW_IDLE_NS 1000000ULL
void mica_window_claim(struct mica_token_region *token, uint64_t until_ns, uint64_t now_ns);
/* Whose window is open, and until when it is so; in no one's time until when that lasts. */
struct mica_window_look {
    uint64_t owner; /* 1 + record index; 0: nobody's window is open */
    struct mica_window window;
};
struct mica_window_look mica_window_look(const struct mica_quota_region *quota, uint64_t now_ns);
/* 0 when work may go to the device outside its slice's window: it ends before anybody else's window opens, and whoever owns the open one is idle. Else the
 * nanoseconds after which to ask again. Work asks before each launch: so of each thread that borrows at most one launch can come after the owner's word. */
uint64_t mica_window_borrow(const struct mica_quota_region *quota, const struct mica_token_region *token, const struct mica_window_ask *ask, uint64_t now_ns);

/* A mean that a new value moves by an eighth, and a maximum; both may be NULL. */
void mica_window_note(MICA_ATOMIC_U64 *mean, MICA_ATOMIC_U64 *most, uint64_t value_ns);

/* --- Order on the device: between the slices, and between a slice's processes ------------------------------------------ */

/* What may lie on the device, by estimate, when another slice adds its work: enough to hide its wake-up. */
#define MICA_TOKEN_LEAD_NS 500000ULL
/* How long the device waits at least for the slice whose turn it is, before the next in the order goes ahead of it. */
#define MICA_TOKEN_GRACE_NS 200000ULL
/* A launch of unknown cost has the device to itself until it is measured, and at most so long. */
#define MICA_TOKEN_ALONE_NS 100000000ULL
/* By how much a device may be behind its clock, which is why it is not taken for empty sooner. */
#define MICA_TOKEN_BEHIND_NS 100000ULL
/* Work on the clock beyond this is not waited for: a damaged word, or a kernel that the driver itself must share out. */
#define MICA_TOKEN_BACKLOG_MAX_NS 2000000000ULL
/* A slice that submits again within this time after its last work's end was not idle ... */
#define MICA_RETURN_NS 5000000ULL
/* ... and keeps what it lost to others meanwhile, in device time, up to this. */
#define MICA_LAG_MAX_NS 100000000ULL
/* What spot slices had of an idle slice's share is given back to one that is not spot when it returns: so much of its time in the order, at most. */
#define MICA_LENT_MAX_NS 5000000000ULL

/* Begin one submission: bring the slice's rate and order up to date after idle time, a raised ceiling or a raised share. Returns the work's order
 * tag, which it keeps while it waits. `token` may be NULL. */
uint64_t mica_order_enter(struct mica_usage_region *usage, const struct mica_token_region *token, const struct mica_slice_limits *limits,
                          uint64_t now_ns);
/* The order tag of the slice's next work, when work of this cost that has `tag_ns` is submitted. */
uint64_t mica_order_after(const struct mica_slice_limits *limits, uint64_t tag_ns, uint64_t cost_ns);
/* The work was submitted, at a clock that now ends at `end_ns`. */
void mica_order_charge(struct mica_usage_region *usage, struct mica_token_region *token, const struct mica_slice_limits *limits, uint64_t tag_ns,
                       uint64_t cost_ns, uint64_t end_ns);
/* What was charged as `charged_ns` took `actual_ns`: moves the order, and the clock. */
void mica_order_correct(struct mica_usage_region *usage, struct mica_token_region *token, const struct mica_slice_limits *limits,
                        uint64_t charged_ns, uint64_t actual_ns);

/* What is on the device before a piece of work is of its own slice only: perhaps not; by the clock; even if the driver let others' work wait. */
enum mica_clean { MICA_CLEAN_NO = 0, MICA_CLEAN_LIKELY = 1, MICA_CLEAN_SURE = 2 };

/* One slice's wish to submit work to the device. */
struct mica_token_ask {
    uint64_t record;     /* of the slice, below MICA_SLICES_MAX */
    uint64_t tag_ns;     /* its order tag */
    uint64_t cost_ns;
    uint64_t quantum_ns; /* the longest turn while others wait */
    uint64_t alone;      /* 1: the device must be empty, and stays this work's own */
    uint64_t urgent;     /* 1: communication: goes ahead of the order, not of the clock */
    uint64_t jumps;      /* 1: nothing of the slice is on the device, and this is short: it need not wait until the device runs dry, once it comes first */
    uint64_t brief;      /* 1: it jumps, and its slice is within its share: others' long work is not to go in the middle of it */
    uint64_t keep_ns;    /* how long the device is to be kept for the slice when this work has ended; 0: not at all */
    uint64_t next_tag_ns; /* the order tag of what it submits next */
    uint64_t spared_ns;  /* in and out, 0 at first: since when it has waited for such work */
    uint64_t claim_ns;   /* in and out, 0 at first: the alone_until word while it is this asker's */
    uint64_t end_ns;     /* out: where the clock stands after the work */
    uint64_t clean;      /* out, enum mica_clean */
};
/* Returns 0 when the work is on the clock and is to be submitted, else the nanoseconds after which to ask again; the slice is then
 * among the waiting. */
uint64_t mica_token_admit(struct mica_token_region *token, struct mica_token_ask *ask, uint64_t now_ns);
/* When, by estimate, the slice has nothing on the device any more: `ask` was admitted at `now_ns`. Work that jumped ends not with the clock but when the driver,
 * which takes processes in turns, has let it by. */
uint64_t mica_token_active_until(const struct mica_token_ask *ask, uint64_t now_ns);
/* Whether the slice has nothing on the device now, although it had when it began to ask, and more than a turn of others' work is there. */
bool mica_token_let_by(const struct mica_token_region *token, const struct mica_usage_region *usage, uint64_t quantum_ns, uint64_t now_ns);
/* How soon a program comes back that waits for each of its works, as a decoder does for each token: its next work was asked for at `now_ns`. The device is kept
 * for it so long (anticipatory scheduling: Iyer, Druschel, SOSP 2001); of work that goes on in the gap, the driver would give it a whole turn. */
#define MICA_KEEP_MAX_NS 1000000ULL
void mica_return_note(struct mica_usage_region *usage, uint64_t now_ns);
/* How soon it comes back nearly always, after one more gap of at most `most_ns`: raised at once, lowered slowly. */
uint64_t mica_return_after(uint64_t usual_ns, uint64_t gap_ns, uint64_t most_ns);
/* The asker gives up. */
void mica_token_leave(struct mica_token_region *token, const struct mica_token_ask *ask);
/* The end of the work that has the device alone will not be seen: let others come. */
void mica_token_unclaim(struct mica_token_region *token, uint64_t claim_ns);
/* The end of the work that had the device alone was seen. False: its time had run out, and others may have come meanwhile. */
bool mica_token_release(struct mica_token_region *token, uint64_t claim_ns, uint64_t now_ns);
/* The work that was admitted until `end_ns`, with `cost_ns` to run, reached the driver at `now_ns`. Where the device had nothing else to do it waited for
 * it, and the clock is put on. Returns when, by estimate, the work ends now. */
uint64_t mica_token_made(struct mica_token_region *token, uint64_t end_ns, uint64_t cost_ns, uint64_t now_ns);
/* The device is behind the clock (`late`), or ahead of it, by `by_ns`. */
void mica_token_shift(struct mica_token_region *token, bool late, uint64_t by_ns);

/* What the slice's processes have in flight together. */
uint64_t mica_inflight_sum(const struct mica_usage_region *usage);

/* The same on a device that would run several slices' work at once: the asker must hold it, and `alone`, `jumps` and `brief` mean nothing. The work is counted in
 * flight in the process's slot of `usage` when it is admitted; with `inflight_max` of the slice there already (0: no limit) it waits. */
struct mica_hold_ask {
    struct mica_token_ask ask;
    struct mica_usage_region *usage;
    unsigned slot;
    uint64_t inflight_max;
    uint64_t prompt; /* 1: see struct mica_token_waiter */
};
uint64_t mica_hold_admit(struct mica_token_region *token, struct mica_hold_ask *hold, uint64_t now_ns);
/* mica_order_enter for such a device. Who was idle keeps a little of what it did not use there, MICA_HOLD_KEPT_NS of device time: it asks at random moments, and so for more
 * than its share for a moment. In `*has_kept`: whether it still has half of that. */
#define MICA_HOLD_KEPT_NS 10000000ULL
uint64_t mica_hold_enter(struct mica_usage_region *usage, const struct mica_token_region *token, const struct mica_slice_limits *limits, uint64_t now_ns,
                         bool *has_kept);
/* Whether the asker's slice has work on the device and time left in its turn: its rate is asked when a turn begins, or turns would be as short as its burst. */
bool mica_hold_goes_on(const struct mica_token_region *token, const struct mica_token_ask *ask, uint64_t now_ns);
/* The slice of `record` has work there and lives: it holds the device for MICA_HOLD_NS from now. False: another has taken it since. */
bool mica_hold_renew(struct mica_token_region *token, uint64_t record, uint64_t now_ns);
/* How soon a program comes back to such a device: nearly always, and on average. Its neighbour's work can't be stopped there, so that who comes a little too late
 * waits for all of it; and what waiting costs is the average. A gap of MICA_HOLD_RETURN_MAX_NS is a pause, and says nothing. */
#define MICA_HOLD_RETURN_MAX_NS 5000000ULL
struct mica_return {
    uint64_t usual_ns;
    uint64_t mean_ns;
};
void mica_hold_return_note(struct mica_return *known, uint64_t gap_ns);
/* How long it is worth while to wait for it; 0: not at all, because it takes more than MICA_KEEP_MAX_NS on average, or is not known. */
uint64_t mica_hold_return_ns(const struct mica_return *known);
/* One of the slice's works is over, or did not come about, and is not counted any more. With the last one the slice lets go, for `stays_ns` from now on: time in which
 * work of its own that nobody counts ends, or for which it keeps others waiting because it is about to come back. Returns which waiter is to be woken, or -1. */
int mica_hold_leave(struct mica_token_region *token, struct mica_usage_region *usage, uint64_t record, uint64_t stays_ns, uint64_t now_ns);
/* Whether the slice, were it to ask again, would come before all that wait, and somebody waits. */
bool mica_hold_comes_first(const struct mica_token_region *token, const struct mica_usage_region *usage, uint64_t now_ns);
/* Processes of one slice, by deadline and weight. mica_process_enter begins a wait for work that should be done at `deadline_ns` (0: no matter when);
 * mica_process_wait says whether another process goes first (then 1); mica_process_charge ends it.
 *
 * Who has a deadline goes before those without, the earliest first, while it is at most MICA_DEADLINE_LEAD_NS (of its virtual time) ahead of the one that is
 * furthest behind of those that wait. All others go by weight. So deadlines put work forward, and no process gets more of the slice for long. */
#define MICA_DEADLINE_LEAD_NS 10000000ULL
void mica_process_enter(struct mica_usage_region *usage, unsigned slot, uint64_t deadline_ns, uint64_t now_ns);
int mica_process_wait(struct mica_usage_region *usage, unsigned slot, uint64_t quantum_ns, uint64_t now_ns);
void mica_process_charge(struct mica_usage_region *usage, unsigned slot, uint64_t cost_ns);

/* --- Usage region: services, by pread and pwrite on a file that its tenant may have truncated ---------------------- */

/* Copy a usage file. MICA_REGION_OK, a defect, or -errno. */
int mica_usage_pread(int fd, struct mica_usage_region *out);
int mica_token_pread(int fd, struct mica_token_region *out);
/* Free a dead owner's slot: its amounts first, the one HELD byte last. 1: freed. 0: not held by `owner` any more. -errno. */
int mica_slot_reclaim(int fd, unsigned slot, uint64_t owner);

/* --- Attach: one datagram to the enforcer, no answer --------------------------------------------------------------- */

void mica_attach_fill(struct mica_attach_message *message, uint64_t owner, uint64_t slot, const char *slice_id, const char *device_id);
/* Send it with this process's credentials, without waiting. 0, or -errno (-ENAMETOOLONG, -ECONNREFUSED, -EAGAIN, ...):
 * the process may go on, because the enforcer also finds it by its owner word. */
int mica_attach_send(const char *socket_path, const struct mica_attach_message *message);

#endif
