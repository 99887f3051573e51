/* SPDX-License-Identifier: Apache-2.0
 *
 * The quota record's sequence lock, between threads and between processes, with a reader that must tear as its control.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "check.h"
#include "region.h"

static const char *const FILES[] = {"quota", NULL};
static struct mica_quota_region *region;

#define CONSISTENT_READS 20000
#define READERS 3
#define PATIENCE_NS 60000000000ULL

/* Shared by all threads and processes of one contest. */
struct contest {
    _Atomic bool stop;
    _Atomic uint64_t reads, retries, torn, naive_torn;
};
static struct contest *contest;

/* Limits of which every field holds the same number, so that any mixture of two writes shows. */
static struct mica_slice_limits limits_of(uint64_t number)
{
    struct mica_slice_limits limits;
    for (int i = 0; i < MICA_ID_WORDS; i++)
        limits.slice_id[i] = number;
#define SET(name) limits.name = number;
    MICA_SLICE_FIELDS(SET)
#undef SET
    return limits;
}

static bool limits_torn(const struct mica_slice_limits *limits)
{
    struct mica_slice_limits expected = limits_of(limits->state);
    return memcmp(limits, &expected, sizeof expected) != 0;
}

/* The control: copies the fields like mica_quota_read, without looking at the sequence. */
static void naive_read(const struct mica_slice_record *record, struct mica_slice_limits *out)
{
    for (int i = 0; i < MICA_ID_WORDS; i++)
        out->slice_id[i] = atomic_load_explicit(&record->slice_id[i], memory_order_relaxed);
#define LOAD(name) out->name = atomic_load_explicit(&record->name, memory_order_relaxed);
    MICA_SLICE_FIELDS(LOAD)
#undef LOAD
}

static void *reader_run(void *unused)
{
    (void)unused;
    while (!atomic_load(&contest->stop)) {
        struct mica_slice_limits limits;
        int rc = mica_quota_read(region, 0, &limits);
        if (rc == -EAGAIN)
            atomic_fetch_add(&contest->retries, 1);
        else if (limits_torn(&limits))
            atomic_fetch_add(&contest->torn, 1);
        else
            atomic_fetch_add(&contest->reads, 1);
        naive_read(&region->records[0], &limits);
        if (limits_torn(&limits))
            atomic_fetch_add(&contest->naive_torn, 1);
    }
    return NULL;
}

/* Write until enough was read and the control has torn; give up only when that takes absurdly long. */
static void writer_run(void)
{
    uint64_t give_up_ns = mica_monotonic_ns() + PATIENCE_NS;
    for (uint64_t number = 1;; number++) {
        struct mica_slice_limits limits = limits_of(number);
        mica_quota_write(region, 0, &limits);
        if (number % 64 == 0) {
            bool enough = atomic_load(&contest->reads) >= CONSISTENT_READS && atomic_load(&contest->naive_torn) > 0;
            if (enough || mica_monotonic_ns() > give_up_ns)
                break;
            sched_yield(); /* leave a moment in which a reader on the same core finds an even sequence */
        }
    }
    atomic_store(&contest->stop, true);
}

static void contest_judge(void)
{
    CHECK_EQUAL(atomic_load(&contest->torn), 0);
    CHECK(atomic_load(&contest->reads) >= CONSISTENT_READS);
    CHECK(atomic_load(&contest->naive_torn) > 0);
    printf("# %llu consistent reads, %llu given up, naive reader torn %llu times\n", (unsigned long long)contest->reads,
           (unsigned long long)contest->retries, (unsigned long long)contest->naive_torn);
}

static void contest_reset(void)
{
    memset(contest, 0, sizeof *contest);
    struct mica_slice_limits limits = limits_of(0);
    mica_quota_write(region, 0, &limits);
}

static void test_threads_never_tear(void)
{
    contest_reset();
    pthread_t readers[READERS];
    for (int i = 0; i < READERS; i++)
        CHECK_EQUAL(pthread_create(&readers[i], NULL, reader_run, NULL), 0);
    writer_run();
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    contest_judge();
}

static void test_processes_never_tear(void)
{
    contest_reset();
    pid_t readers[READERS];
    for (int i = 0; i < READERS; i++) {
        readers[i] = fork();
        if (readers[i] == 0) {
            void *mapping;
            if (mica_region_map(check_path("quota"), MICA_REGION_QUOTA, false, &mapping) != MICA_REGION_OK)
                _exit(1);
            region = mapping;
            reader_run(NULL);
            _exit(0);
        }
    }
    writer_run();
    for (int i = 0; i < READERS; i++) {
        int status = 0;
        waitpid(readers[i], &status, 0);
        CHECK_EQUAL(status, 0);
    }
    contest_judge();
}

static void test_write_is_read_back(void)
{
    struct mica_slice_limits written = limits_of(3), read = limits_of(0);
    written.vram_limit_bytes = UINT64_MAX;
    mica_quota_write(region, MICA_SLICES_MAX - 1, &written);
    CHECK_EQUAL(mica_quota_read(region, MICA_SLICES_MAX - 1, &read), 0);
    CHECK(memcmp(&written, &read, sizeof read) == 0);
    CHECK_EQUAL(mica_quota_read(region, MICA_SLICES_MAX, &read), -EINVAL);
    mica_quota_heartbeat(region, 12345);
    CHECK_EQUAL(atomic_load(&region->header.heartbeat_ns), 12345);
}

static void test_find_skips_the_free(void)
{
    struct mica_slice_limits limits = limits_of(1), found;
    mica_id_pack("wanted", limits.slice_id);
    uint64_t id[MICA_ID_WORDS];
    mica_id_pack("wanted", id);
    limits.state = MICA_SLICE_FREE;
    mica_quota_write(region, 10, &limits);
    CHECK_EQUAL(mica_quota_find(region, id, &found), -ENOENT);
    limits.state = MICA_SLICE_DRAINING;
    mica_quota_write(region, 20, &limits);
    CHECK_EQUAL(mica_quota_find(region, id, &found), 20);
    CHECK_EQUAL(found.state, MICA_SLICE_DRAINING);
}

static void test_dead_writer_is_repaired(void)
{
    struct mica_slice_limits limits = limits_of(2), read = limits_of(77);
    uint64_t id[MICA_ID_WORDS];
    mica_id_pack("nobody", id);
    mica_quota_write(region, 30, &limits);
    mica_quota_write(region, 31, &limits);
    atomic_fetch_add(&region->records[30].sequence, 1); /* as if the writer had died after its first store */
    atomic_fetch_add(&region->records[31].sequence, 1);
    CHECK_EQUAL(mica_quota_read(region, 30, &read), -EAGAIN);
    CHECK_EQUAL(read.state, 77);
    CHECK_EQUAL(mica_quota_find(region, id, &read), -EAGAIN);

    mica_quota_write(region, 31, &limits); /* the next writer's record is whole again */
    CHECK_EQUAL(mica_quota_read(region, 31, &read), 0);
    CHECK_EQUAL(mica_quota_repair(region), 1);
    CHECK_EQUAL(mica_quota_repair(region), 0);
    CHECK_EQUAL(mica_quota_read(region, 30, &read), 0);
    CHECK_EQUAL(read.state, MICA_SLICE_FREE);
    CHECK_EQUAL(mica_quota_find(region, id, &read), -ENOENT);
}

/* A record of which the fields are all equal or which is not readable: what a killed writer may leave. */
static void test_killed_writer_leaves_no_mixture(void)
{
    enum { KILLS = 30 };
    int unreadable = 0;
    for (int i = 0; i < KILLS; i++) {
        struct mica_slice_limits limits = limits_of(1);
        mica_quota_write(region, 40, &limits);
        pid_t writer = fork();
        if (writer == 0) {
            for (uint64_t number = 1;; number++) {
                limits = limits_of(number);
                mica_quota_write(region, 40, &limits);
            }
        }
        while (atomic_load(&region->records[40].generation) < 100)
            sched_yield();
        kill(writer, SIGKILL);
        waitpid(writer, NULL, 0);
        int rc = mica_quota_read(region, 40, &limits);
        CHECK(rc == -EAGAIN || !limits_torn(&limits));
        unreadable += rc == -EAGAIN;
        CHECK_EQUAL(mica_quota_repair(region), rc == -EAGAIN);
    }
    printf("# %d of %d killed writers died inside a write\n", unreadable, KILLS);
}

int main(void)
{
    void *mapping = NULL;
    if (mica_region_create(check_path("quota"), MICA_REGION_QUOTA, "GPU-1", NULL, 0644) != 0 ||
        mica_region_map(check_path("quota"), MICA_REGION_QUOTA, true, &mapping) != MICA_REGION_OK)
        return 2;
    region = mapping;
    contest = mmap(NULL, sizeof *contest, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check_run(test_write_is_read_back, "what is written to a record is read back equal, and no other record is touched");
    check_run(test_find_skips_the_free, "a slice is found in a live or draining record, never in a free one");
    check_run(test_dead_writer_is_repaired, "a record whose writer died is unreadable until it is written again or repaired");
    check_run(test_killed_writer_leaves_no_mixture, "a writer killed at any point leaves a whole record or an unreadable one");
    check_run(test_threads_never_tear, "threads never read a mixture of two writes, where a naive reader does");
    check_run(test_processes_never_tear, "processes with read-only mappings never read a mixture of two writes, where a naive reader does");
    mica_region_unmap(region, MICA_REGION_QUOTA);
    check_remove(FILES);
    return check_finish();
}
