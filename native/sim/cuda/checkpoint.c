/* SPDX-License-Identifier: Apache-2.0
 *
 * cuCheckpointProcess*: suspending a process to the host's memory, and resuming it.
 *
 *   RUNNING -lock-> LOCKED -checkpoint-> CHECKPOINTED -restore-> LOCKED -unlock-> RUNNING
 *
 * The calls name a process by its pid and are made by any process, initialised or not (a restore needs cuInit, as there is no
 * persistence mode here). The process itself does the work, in a thread that cuInit starts.
 *
 * Invariant: from the lock on no call of the process touches its device or its memory: calls wait where they take the driver lock.
 *
 * Modelled: a lock lets what was submitted finish, functions of the host among it, and gives up after its timeout. A checkpoint
 * takes as long as its bytes take over the bus, and as long as it takes to copy them here. Managed memory and memory that other
 * processes know of cannot be taken; as with the real driver up to release 570, the process is then beyond help (FAILED), and
 * every later call in it answers CUDA_ERROR_UNKNOWN. Not there: restoring to another device, storage of the caller's own.
 */
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"

#define NAP_NS 200000L /* while something waits for the host */

bool sim_checkpoint_holds, sim_checkpoint_failed;
static pthread_cond_t released = PTHREAD_COND_INITIALIZER;

void sim_checkpoint_wait(void)
{
    while (sim_checkpoint_holds && !sim_gate_is_ours)
        pthread_cond_wait(&released, &sim_driver_lock);
}

/* --- In the process: its own thread, under the driver lock ------------------------------------------------------------------------ */

static void hold(bool holds)
{
    sim_checkpoint_holds = holds;
    if (!holds)
        pthread_cond_broadcast(&released);
}

/* When everything that was submitted can be over at the soonest; 0: it is. */
static uint64_t idle_at_ns(void)
{
    uint64_t latest_ns = sim_gate_is_empty() ? 0 : sim_now_ns() + NAP_NS;
    for (int i = 0; i < sim_visible_count(); i++) {
        struct sim_position position;
        int account = sim_visible_at(i)->account;
        if (account < 0)
            continue;
        sim_position_now(account, &position);
        uint64_t soonest_ns = sim_position_soonest_ns(account, &position);
        latest_ns = soonest_ns > latest_ns ? soonest_ns : latest_ns;
    }
    return latest_ns;
}

static bool drain(uint64_t until_ns)
{
    for (uint64_t idle_ns; (idle_ns = idle_at_ns());) {
        if (until_ns && sim_now_ns() >= until_ns)
            return false;
        uint64_t wake_ns = until_ns && until_ns < idle_ns ? until_ns : idle_ns;
        struct timespec at = {(time_t)(wake_ns / 1000000000ULL), (long)(wake_ns % 1000000000ULL)};
        pthread_mutex_unlock(&sim_driver_lock);
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        pthread_mutex_lock(&sim_driver_lock);
    }
    return true;
}

/* What the accounts hold crosses the bus while it is copied. */
static void order_bytes(enum sim_lane_number lane)
{
    uint64_t rate = sim_node()->pcie_bytes_per_s;
    for (int i = 0; i < sim_visible_count(); i++) {
        int account = sim_visible_at(i)->account;
        const struct sim_position nothing = {0};
        if (account < 0 || !rate)
            continue;
        struct sim_account *books = &sim_shared()->processes[sim_process_self()].accounts[account];
        uint64_t cost_ns = (uint64_t)((unsigned __int128)books->granule_bytes * 1000000000ULL / rate);
        if (cost_ns)
            sim_order_try(account, (unsigned)lane, cost_ns, 0, &nothing); /* the lane is empty: there is room */
    }
}

static void step_lock(uint64_t until_ns)
{
    hold(true);
    bool idle = drain(until_ns);
    hold(idle);
    sim_desk_answer(idle ? SIM_STAGE_LOCKED : SIM_STAGE_RUNNING, idle ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY);
}

static void step_checkpoint(void)
{
    if (!sim_contents_portable()) {
        sim_checkpoint_failed = true;
        hold(false);
        sim_desk_answer(SIM_STAGE_FAILED, CUDA_ERROR_NOT_SUPPORTED);
        return;
    }
    order_bytes(SIM_LANE_TO_HOST);
    if (!sim_contents_take_away()) {
        sim_desk_answer(SIM_STAGE_LOCKED, CUDA_ERROR_OUT_OF_MEMORY);
        return;
    }
    drain(0);
    sim_books_take_away();
    sim_desk_answer(SIM_STAGE_CHECKPOINTED, CUDA_SUCCESS);
}

static void step_restore(void)
{
    if (sim_books_put_back()) {
        sim_desk_answer(SIM_STAGE_CHECKPOINTED, CUDA_ERROR_OUT_OF_MEMORY);
        return;
    }
    order_bytes(SIM_LANE_TO_DEVICE);
    bool whole = sim_contents_put_back();
    drain(0);
    if (!whole) {
        sim_checkpoint_failed = true;
        hold(false);
    }
    sim_desk_answer(whole ? SIM_STAGE_LOCKED : SIM_STAGE_FAILED, whole ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN);
}

static void step_unlock(void)
{
    sim_desk_answer(SIM_STAGE_RUNNING, CUDA_SUCCESS);
    hold(false);
}

static void *serve_for_ever(void *ready)
{
    sim_desk_open((int)syscall(SYS_gettid));
    sem_post(ready);
    for (;;) {
        uint64_t until_ns;
        enum sim_step step = sim_desk_next(&until_ns);
        pthread_mutex_lock(&sim_driver_lock);
        if (step == SIM_STEP_LOCK)
            step_lock(until_ns);
        else if (step == SIM_STEP_CHECKPOINT)
            step_checkpoint();
        else if (step == SIM_STEP_RESTORE)
            step_restore();
        else
            step_unlock();
        pthread_mutex_unlock(&sim_driver_lock);
    }
    return NULL;
}

void sim_checkpoint_start(void)
{
    sigset_t all, before;
    pthread_t thread;
    sem_t ready;
    sem_init(&ready, 0, 0);
    sigfillset(&all); /* the program's signals are the program's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (!pthread_create(&thread, NULL, serve_for_ever, &ready)) {
        pthread_detach(thread);
        while (sem_wait(&ready)) /* interrupted */
            continue;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* --- In whoever asks ----------------------------------------------------------------------------------------------------------------- */

static bool all_zero(const uint64_t *words, size_t count)
{
    for (size_t i = 0; words && i < count; i++)
        if (words[i])
            return false;
    return true;
}

static CUresult ask(int pid, enum sim_step step, enum sim_stage from, uint64_t until_ns)
{
    int result = CUDA_SUCCESS;
    if (sim_engine_open())
        return CUDA_ERROR_NO_DEVICE;
    switch (sim_desk_ask(pid, step, from, until_ns, &result)) {
    case 0:
        return (CUresult)result;
    case -EPERM:
        return CUDA_ERROR_ILLEGAL_STATE;
    case -ETIMEDOUT:
        return CUDA_ERROR_NOT_READY;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuCheckpointProcessLock(int pid, CUcheckpointLockArgs *arguments)
{
    if (arguments && (arguments->reserved0 || !all_zero(arguments->reserved, 7)))
        return CUDA_ERROR_INVALID_VALUE;
    uint64_t until_ns = arguments && arguments->timeout_ms ? sim_now_ns() + arguments->timeout_ms * 1000000ULL : 0;
    return ask(pid, SIM_STEP_LOCK, SIM_STAGE_RUNNING, until_ns);
}

CUresult cuCheckpointProcessCheckpoint(int pid, CUcheckpointCheckpointArgs *arguments)
{
    if (arguments && !all_zero(arguments->reserved, 8))
        return arguments->reserved[0] ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
    return ask(pid, SIM_STEP_CHECKPOINT, SIM_STAGE_LOCKED, 0);
}

CUresult cuCheckpointProcessRestore(int pid, CUcheckpointRestoreArgs *arguments)
{
    CUresult ready = sim_driver_ready();
    if (ready != CUDA_SUCCESS)
        return ready;
    if (arguments && (arguments->reserved0 || !all_zero(arguments->reserved, 6) || (arguments->pair_count && !arguments->pairs)))
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; arguments && i < arguments->pair_count; i++)
        if (memcmp(&arguments->pairs[i].before, &arguments->pairs[i].now, sizeof(CUuuid)))
            return CUDA_ERROR_NOT_SUPPORTED;
    return ask(pid, SIM_STEP_RESTORE, SIM_STAGE_CHECKPOINTED, 0);
}

CUresult cuCheckpointProcessUnlock(int pid, CUcheckpointUnlockArgs *arguments)
{
    if (arguments && !all_zero(arguments->reserved, 8))
        return CUDA_ERROR_INVALID_VALUE;
    return ask(pid, SIM_STEP_UNLOCK, SIM_STAGE_LOCKED, 0);
}

static CUresult look(int pid, uint32_t *stage, int *thread)
{
    if (sim_engine_open())
        return CUDA_ERROR_NO_DEVICE;
    return sim_desk_look(pid, stage, thread) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuCheckpointProcessGetState(int pid, int *state)
{
    uint32_t stage;
    int thread;
    CUresult result = state ? look(pid, &stage, &thread) : CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *state = (int)stage;
    return result;
}

CUresult cuCheckpointProcessGetRestoreThreadId(int pid, int *thread)
{
    uint32_t stage;
    int found;
    CUresult result = thread ? look(pid, &stage, &found) : CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *thread = found;
    return result;
}
