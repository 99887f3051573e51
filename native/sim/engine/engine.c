/* SPDX-License-Identifier: Apache-2.0
 *
 * The state file: made once from node.desc, mapped by every process, one robust lock.
 *
 * Invariant: the file has its final name only when it is whole, and this process never closes its descriptor (closing any
 * descriptor of a file drops the process's byte locks on it, and with them its proof of being alive).
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

#define LOOK_AGAIN_NS 20000000L

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct sim_state *mapped;
static int state_fd = -1;
static int open_result;
static char chosen[4000]; /* directory, where it was given by mica_sim_open */

uint64_t sim_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

int sim_engine_fd(void)
{
    return state_fd;
}

const struct sim_node *sim_node(void)
{
    return &mapped->node;
}

const char *sim_engine_directory(void)
{
    const char *named = getenv("MICA_SIM_DIR");
    return chosen[0] ? chosen : named ? named : "";
}

static int complain(int error, const char *path, const char *what)
{
    fprintf(stderr, "mica simulated driver: %s: %s\n", path, what);
    return error;
}

static int read_description(const char *path, int fd, struct sim_node *node)
{
    struct stat stat_of;
    if (fstat(fd, &stat_of) || stat_of.st_size > (1 << 20))
        return complain(-EINVAL, path, "cannot be read, or is larger than 1 MiB");
    char *text = calloc(1, (size_t)stat_of.st_size + 1);
    if (!text)
        return -ENOMEM;
    ssize_t got = pread(fd, text, (size_t)stat_of.st_size, 0);
    char problem[256] = "cannot be read";
    int result = got < 0 ? -errno : sim_description_parse(text, node, problem, sizeof problem);
    if (result)
        complain(result, path, problem);
    free(text);
    return result;
}

static void start_devices(struct sim_state *state)
{
    for (unsigned i = 0; i < state->node.device_count; i++) {
        struct sim_device *device = &state->devices[i];
        device->mig_enabled = device->mig_pending = state->node.devices[i].mig_capable && state->node.devices[i].mig_at_start;
        sim_timeline_clear(&device->timeline);
    }
    for (int i = 0; i < SIM_CHANNELS_MAX; i++)
        state->channels[i].process = -1;
    for (unsigned i = 0; i < state->node.device_count; i++)
        sim_layout_set(state, (int)i, state->node.devices[i].layout);
}

static int fill(struct sim_state *state, const char *description, int description_fd)
{
    int result = read_description(description, description_fd, &state->node);
    if (result)
        return result;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&state->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    start_devices(state);
    state->size_bytes = sizeof *state;
    state->version = SIM_VERSION;
    state->magic = SIM_MAGIC;
    return 0;
}

static int create(const char *path, const char *description, int description_fd)
{
    char draft[4200];
    snprintf(draft, sizeof draft, "%s.%d", path, (int)getpid());
    int fd = open(draft, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return complain(-errno, draft, strerror(errno));
    int result = -ENOSPC;
    if (!fchmod(fd, 0666) && !ftruncate(fd, sizeof(struct sim_state))) {
        void *state = mmap(NULL, sizeof(struct sim_state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (state != MAP_FAILED) {
            result = fill(state, description, description_fd);
            munmap(state, sizeof(struct sim_state));
        }
    }
    if (!result && rename(draft, path))
        result = -errno;
    if (result)
        unlink(draft);
    close(fd);
    return result;
}

/* node.desc is the lock file too: it is there for sure, and a read-only descriptor suffices. */
static int ensure(const char *path, const char *description)
{
    if (!access(path, F_OK))
        return 0;
    int fd = open(description, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return complain(-ENOENT, description, "no node description: write one with mica.hardware.write_node_desc");
    int result = flock(fd, LOCK_EX) ? -errno : 0;
    if (!result && access(path, F_OK))
        result = create(path, description, fd);
    close(fd);
    return result;
}

static int map_state(const char *path)
{
    struct stat stat_of;
    state_fd = open(path, O_RDWR | O_CLOEXEC);
    if (state_fd < 0)
        return complain(-errno, path, strerror(errno));
    if (fstat(state_fd, &stat_of) || (size_t)stat_of.st_size != sizeof(struct sim_state))
        return complain(-EINVAL, path, "made by another version of the simulated driver; remove it");
    void *state = mmap(NULL, sizeof(struct sim_state), PROT_READ | PROT_WRITE, MAP_SHARED, state_fd, 0);
    if (state == MAP_FAILED)
        return complain(-errno, path, strerror(errno));
    mapped = state;
    if (mapped->magic != SIM_MAGIC || mapped->version != SIM_VERSION)
        return complain(-EINVAL, path, "not a state file of this simulated driver; remove it");
    return 0;
}

static void open_once(void)
{
    const char *directory = sim_engine_directory();
    char path[4096], description[4096];
    if (!*directory) {
        open_result = complain(-ENODEV, "MICA_SIM_DIR", "not set: it names the directory with node.desc");
        return;
    }
    if ((size_t)snprintf(path, sizeof path, "%s/engine.state", directory) >= sizeof path) {
        open_result = complain(-ENAMETOOLONG, directory, "path too long");
        return;
    }
    snprintf(description, sizeof description, "%.4080s/node.desc", directory);
    open_result = ensure(path, description);
    if (!open_result)
        open_result = map_state(path);
}

int sim_engine_open(void)
{
    pthread_once(&once, open_once);
    return open_result;
}

int mica_sim_open(const char *directory)
{
    if (mapped)
        return strcmp(directory, chosen) ? -EALREADY : 0;
    if (strlen(directory) >= sizeof chosen)
        return -ENAMETOOLONG;
    strcpy(chosen, directory);
    return sim_engine_open();
}

#ifdef __SANITIZE_THREAD__ /* it sees of a wait with a limit neither that on a clock, nor that the owner had died */
static int lock_until(pthread_mutex_t *lock, const struct timespec *until)
{
    (void)until;
    sched_yield();
    return pthread_mutex_trylock(lock);
}
#else
static int lock_until(pthread_mutex_t *lock, const struct timespec *until)
{
    return pthread_mutex_clocklock(lock, CLOCK_MONOTONIC, until);
}
#endif

/* The kernel wakes one of those who wait for the lock of a process that died. If that one is killed before it has the lock, it wakes nobody else: so look
 * again now and then. */
static int lock_patiently(pthread_mutex_t *lock)
{
    int result = pthread_mutex_trylock(lock);
    while (result == EBUSY || result == ETIMEDOUT) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += LOOK_AGAIN_NS;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        result = lock_until(lock, &until);
    }
    return result;
}

struct sim_state *sim_enter(void)
{
    if (lock_patiently(&mapped->lock) == EOWNERDEAD) {
        sim_state_repair(mapped);
        pthread_mutex_consistent(&mapped->lock);
    }
    return mapped;
}

struct sim_state *sim_shared(void)
{
    return mapped;
}

void sim_leave(struct sim_state *state)
{
    pthread_mutex_unlock(&state->lock);
}

static void repair_timeline(struct sim_state *state, struct sim_timeline *timeline, int device, int instance, int compute)
{
    timeline->member_count = 0;
    for (int i = 0; i < SIM_CHANNELS_MAX; i++) {
        const struct sim_channel *channel = &state->channels[i];
        if (channel->live && channel->device == device && channel->gpu_instance == instance && channel->compute_instance == compute)
            timeline->members[timeline->member_count++] = (uint16_t)i;
    }
    if (timeline->turn >= 0 && !state->channels[timeline->turn].live)
        timeline->turn = SIM_TURN_NOBODY;
}

static void repair_rings(struct sim_state *state)
{
    for (unsigned i = 0; i < SIM_RINGS_MAX; i++)
        state->ring_taken[i] = 0;
    for (int i = 0; i < SIM_CHANNELS_MAX; i++) {
        struct sim_channel *channel = &state->channels[i];
        if (!channel->live)
            continue;
        for (unsigned lane = 0; lane < SIM_LANES; lane++)
            if (channel->lanes[lane].ring) {
                state->ring_taken[channel->lanes[lane].ring - 1] = 1;
                channel->lanes_used |= 1u << lane;
            }
    }
}

/* The last holder died somewhere inside: compute every derived word again from accounts and channels. */
void sim_state_repair(struct sim_state *state)
{
    state->repairs++;
    repair_rings(state);
    for (unsigned d = 0; d < state->node.device_count; d++) {
        struct sim_device *device = &state->devices[d];
        device->spent_bytes = 0;
        repair_timeline(state, &device->timeline, (int)d, -1, -1);
        for (int g = 0; g < SIM_INSTANCES_MAX; g++) {
            device->instances[g].spent_bytes = 0;
            for (int c = 0; c < SIM_COMPUTE_MAX; c++)
                repair_timeline(state, &device->instances[g].compute[c].timeline, (int)d, g, c);
        }
    }
    sim_share_repair(state);
    for (int p = 0; p < SIM_PROCESSES_MAX; p++) {
        if (state->processes[p].state != SIM_PROCESS_LIVE)
            continue;
        for (int a = 0; a < SIM_ACCOUNTS_MAX; a++) {
            const struct sim_account *account = &state->processes[p].accounts[a];
            if (!account->live)
                continue;
            struct sim_place place = {account->device, account->gpu_instance, account->compute_instance};
            *sim_vram_spent(state, place) += account->granule_bytes + account->context_bytes;
        }
    }
}
