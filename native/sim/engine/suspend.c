/* SPDX-License-Identifier: Apache-2.0
 *
 * Suspending a process from outside: steps that others ask for and a thread of its own does, and what that means for the books.
 *
 * Invariant: only the process itself changes its stage, and only after it is so. Whoever asked may be killed: what was begun is
 * brought to its end all the same. What is away is nowhere charged, so that a process that dies away leaves nothing.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

#define LOOK_NS 20000000L /* whether the other is still there */

static void sleep_on(uint32_t *word, uint32_t seen, long ns)
{
    struct timespec limit = {ns / 1000000000L, ns % 1000000000L};
    syscall(SYS_futex, word, FUTEX_WAIT, seen, ns ? &limit : NULL, NULL, 0);
}

static void wake(uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* --- Who asks ----------------------------------------------------------------------------------------------------------------- */

static int find(const struct sim_state *state, int pid)
{
    for (int i = 0; pid > 0 && i < SIM_PROCESSES_MAX; i++) {
        const struct sim_process *process = &state->processes[i];
        if (process->state != SIM_PROCESS_LIVE || !process->desk.thread)
            continue;
        if ((i == sim_process_self() ? (int)getpid() : sim_process_pid(state, i)) == pid)
            return i;
    }
    return -ESRCH;
}

int sim_desk_look(int pid, uint32_t *stage, int *thread)
{
    struct sim_state *state = sim_enter();
    sim_process_sweep(state);
    int index = find(state, pid);
    if (index >= 0) {
        *stage = state->processes[index].desk.stage;
        *thread = state->processes[index].desk.thread;
    }
    sim_leave(state);
    return index < 0 ? index : 0;
}

/* Put the question once nobody else's is open. 0: it is put, as number `number`; -EAGAIN: not yet. */
static int put_question(int pid, enum sim_step step, enum sim_stage from, uint64_t until_ns, int *index, uint32_t *number)
{
    struct sim_state *state = sim_enter();
    sim_process_sweep(state);
    *index = find(state, pid);
    int result = *index < 0 ? *index : 0;
    if (!result) {
        struct sim_desk *desk = &state->processes[*index].desk;
        *number = desk->answered;
        if (desk->answered != desk->asked) {
            result = -EAGAIN;
        } else if (desk->stage != from) {
            result = -EPERM;
        } else {
            desk->step = step;
            desk->until_ns = until_ns;
            SIM_STORE_ORDER();
            *number = ++desk->asked;
            wake(&desk->asked);
        }
    }
    sim_leave(state);
    return result;
}

/* Whether it has been answered; -EAGAIN: not yet. A question that was not even taken up in time is withdrawn: -ETIMEDOUT. */
static int look_for_answer(int pid, int index, uint32_t number, uint64_t until_ns, int *result)
{
    struct sim_state *state = sim_enter();
    struct sim_desk *desk = &state->processes[index].desk;
    int found = -EAGAIN;
    if ((int32_t)(desk->answered - number) >= 0 && state->processes[index].state == SIM_PROCESS_LIVE) {
        *result = desk->results[number % SIM_STEPS_KEPT];
        found = 0;
    } else {
        sim_process_sweep(state);
        if (find(state, pid) != index) {
            found = -ESRCH;
        } else if (until_ns && sim_now_ns() >= until_ns && desk->taken != number) {
            desk->taken = desk->answered = number;
            found = -ETIMEDOUT;
        }
    }
    sim_leave(state);
    return found;
}

int sim_desk_ask(int pid, enum sim_step step, enum sim_stage from, uint64_t until_ns, int *result)
{
    uint32_t *answered = NULL, number = 0;
    int index = 0, done;
    while ((done = put_question(pid, step, from, until_ns, &index, &number)) == -EAGAIN) {
        if (until_ns && sim_now_ns() >= until_ns)
            return -ETIMEDOUT;
        sleep_on(&sim_shared()->processes[index].desk.answered, number, LOOK_NS);
    }
    if (done)
        return done;
    answered = &sim_shared()->processes[index].desk.answered;
    while ((done = look_for_answer(pid, index, number, until_ns, result)) == -EAGAIN)
        sleep_on(answered, number - 1, LOOK_NS);
    return done;
}

/* --- Who does it --------------------------------------------------------------------------------------------------------------- */

static struct sim_desk *own_desk(struct sim_state *state)
{
    return &state->processes[sim_process_self()].desk;
}

void sim_desk_open(int thread)
{
    struct sim_state *state = sim_enter();
    own_desk(state)->thread = thread;
    sim_leave(state);
}

enum sim_step sim_desk_next(uint64_t *until_ns)
{
    for (;;) {
        struct sim_state *state = sim_enter();
        struct sim_desk *desk = own_desk(state);
        uint32_t taken = desk->taken;
        enum sim_step step = desk->step;
        bool open = taken != desk->asked;
        *until_ns = desk->until_ns;
        if (open)
            desk->taken = desk->asked;
        sim_leave(state);
        if (open)
            return step;
        sleep_on(&desk->asked, taken, 0);
    }
}

void sim_desk_answer(enum sim_stage stage, int result)
{
    struct sim_state *state = sim_enter();
    struct sim_desk *desk = own_desk(state);
    desk->stage = stage;
    desk->results[desk->taken % SIM_STEPS_KEPT] = result;
    SIM_STORE_ORDER();
    desk->answered = desk->taken;
    wake(&desk->answered);
    sim_leave(state);
}

/* --- The books ------------------------------------------------------------------------------------------------------------------- */

static struct sim_place place_of(const struct sim_account *account)
{
    return (struct sim_place){account->device, account->gpu_instance, account->compute_instance};
}

void sim_books_take_away(void)
{
    struct sim_state *state = sim_enter();
    for (int i = 0; i < SIM_ACCOUNTS_MAX; i++) {
        struct sim_account *account = &state->processes[sim_process_self()].accounts[i];
        if (!account->live)
            continue;
        uint64_t held = account->granule_bytes + account->context_bytes;
        account->away_requested_bytes = account->requested_bytes;
        account->away_granule_bytes = account->granule_bytes;
        account->away_context_bytes = account->context_bytes;
        account->away_contexts = account->contexts;
        account->requested_bytes = account->granule_bytes = account->context_bytes = 0;
        account->contexts = 0;
        SIM_STORE_ORDER();
        *sim_vram_spent(state, place_of(account)) -= held;
    }
    sim_leave(state);
}

/* One account more is back, unless it does not fit. */
static bool put_back(struct sim_state *state, struct sim_account *account)
{
    uint64_t held = account->away_granule_bytes + account->away_context_bytes;
    if (!sim_vram_fits(state, place_of(account), held))
        return false;
    account->requested_bytes = account->away_requested_bytes;
    account->granule_bytes = account->away_granule_bytes;
    account->context_bytes = account->away_context_bytes;
    account->contexts = account->away_contexts;
    SIM_STORE_ORDER();
    *sim_vram_spent(state, place_of(account)) += held;
    sim_vram_note_peak(state, place_of(account), account);
    return true;
}

static void take_again(struct sim_state *state, struct sim_account *account)
{
    account->requested_bytes = account->granule_bytes = account->context_bytes = 0;
    account->contexts = 0;
    SIM_STORE_ORDER();
    *sim_vram_spent(state, place_of(account)) -= account->away_granule_bytes + account->away_context_bytes;
}

int sim_books_put_back(void)
{
    struct sim_state *state = sim_enter();
    struct sim_account *accounts = state->processes[sim_process_self()].accounts;
    int done = 0, result = 0;
    for (; done < SIM_ACCOUNTS_MAX && !result; done++)
        if (accounts[done].live && !put_back(state, &accounts[done]))
            result = -ENOMEM;
    if (result)
        for (int i = 0; i < done - 1; i++)
            if (accounts[i].live)
                take_again(state, &accounts[i]);
    for (int i = 0; i < SIM_ACCOUNTS_MAX && !result; i++)
        accounts[i].away_requested_bytes = accounts[i].away_granule_bytes = accounts[i].away_context_bytes = accounts[i].away_contexts = 0;
    sim_leave(state);
    return result;
}
