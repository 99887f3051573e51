/* SPDX-License-Identifier: Apache-2.0
 *
 * A process that is stopped at any instruction of an allocation, a free, a look or a launch holds up nobody of its slice. The control is the same
 * dance around a lock, which does. Stopping is the stronger test: the lock of a process that died could be taken over.
 *
 * The program starts itself again, preloaded with the shim, over the fake driver, which has no lock that a stopped process could hold.
 */
#define _GNU_SOURCE
#include "in_slice.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../cuda/types.h"

#define LIMIT_BYTES (1ULL << 30)
#define ROUNDS 300
#define CALLS_PER_ROUND 50
#define STUCK_S 60 /* ends the program: somebody was held up */

static CUresult (*initialise)(unsigned);
static CUresult (*allocate)(CUdeviceptr *, size_t);
static CUresult (*give_back)(CUdeviceptr);
static CUresult (*look)(size_t *, size_t *);
static CUresult (*launch)(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void **, void **);

/* Shared by the two processes; what the control takes. */
static pthread_mutex_t *lock;

static int calls(void)
{
    CUdeviceptr address = 0;
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    bool work = allocate(&address, 1 << 20) == CUDA_SUCCESS && look(&free_bytes, &total_bytes) == CUDA_SUCCESS &&
                launch((CUfunction)(uintptr_t)0x100, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL) == CUDA_SUCCESS && give_back(address) == CUDA_SUCCESS;
    return work && total_bytes == LIMIT_BYTES ? 0 : 1;
}

static void stop_and_go_on(pid_t child, uint64_t *random)
{
    *random = *random * 6364136223846793005ULL + 1442695040888963407ULL;
    struct timespec some = {.tv_nsec = (long)(*random >> 33) % 200000};
    nanosleep(&some, NULL);
    kill(child, SIGSTOP);
    waitpid(child, NULL, WUNTRACED);
}

static pid_t endless(void (*work)(void))
{
    pid_t child = fork();
    if (child == 0) {
        alarm(2 * STUCK_S);
        for (;;) {
            work();
        }
    }
    return child;
}

static void call_once(void)
{
    if (calls() != 0) {
        _exit(1);
    }
}

/* How many of our calls failed, with the other process stopped somewhere in its own. */
static int failures_beside_a_stopped_process(void)
{
    int failures = initialise(0) != CUDA_SUCCESS;
    uint64_t random = 1;
    pid_t child = endless(call_once);
    for (int round = 0; round < ROUNDS; round++) {
        stop_and_go_on(child, &random);
        for (int i = 0; i < CALLS_PER_ROUND; i++) {
            failures += calls();
        }
        kill(child, SIGCONT);
    }
    int status = 0;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return failures + !WIFSIGNALED(status);
}

static void lock_once(void)
{
    pthread_mutex_lock(lock);
    for (volatile int i = 0; i < 100; i++) {
    }
    pthread_mutex_unlock(lock);
}

/* The control: how often a lock was held by the stopped process. */
static int stalls_behind_a_lock(void)
{
    int stalls = 0;
    uint64_t random = 1;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    lock = mmap(NULL, sizeof *lock, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutex_init(lock, &attributes);
    pid_t child = endless(lock_once);
    for (int round = 0; round < ROUNDS; round++) {
        stop_and_go_on(child, &random);
        if (pthread_mutex_trylock(lock) == 0) {
            pthread_mutex_unlock(lock);
        } else {
            stalls++;
        }
        kill(child, SIGCONT);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return stalls;
}

static int inside(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library == NULL) {
        return 1;
    }
    *(void **)&initialise = dlsym(library, "cuInit");
    *(void **)&allocate = dlsym(library, "cuMemAlloc_v2");
    *(void **)&give_back = dlsym(library, "cuMemFree_v2");
    *(void **)&look = dlsym(library, "cuMemGetInfo_v2");
    *(void **)&launch = dlsym(library, "cuLaunchKernel");
    alarm(STUCK_S);
    int failures = failures_beside_a_stopped_process();
    int stalls = stalls_behind_a_lock();
    bool held_up = failures != 0;
    bool blind = stalls == 0;
    printf("%s 1 - beside a process that is stopped in the middle of its calls, every call goes on (%d failed)\n", held_up ? "not ok" : "ok", failures);
    printf("%s 2 - the control: behind a lock some of them would wait (%d of %d)\n", blind ? "not ok" : "ok", stalls, ROUNDS);
    printf("%d passed, %d failed\n", !held_up + !blind, held_up + blind);
    return held_up || blind;
}

int main(int count, char **arguments)
{
    (void)count;
    return run_in_slice(arguments, LIMIT_BYTES, inside);
}
