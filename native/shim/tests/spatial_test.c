/* SPDX-License-Identifier: Apache-2.0
 *
 * A slice's own part of the device: the program gets the primary context with the multiprocessors that lie in its part of the record, and all of it ends
 * with the program's last reference. The program starts itself again, preloaded with the shim, over the fake driver.
 */
#define _GNU_SOURCE
#include "again.h"
#include "bench_slice.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int passed;
static int failed;
static int (*init)(unsigned);
static int (*retain)(void **, int);
static int (*release)(int);
static void (*state)(unsigned *, unsigned *, int *, unsigned *);

static void check(bool holds, const char *what)
{
    *(holds ? &passed : &failed) += 1;
    if (!holds) {
        printf("FAILED: %s\n", what);
    }
}

static void write_part(uint64_t kind, uint64_t offset_ppm, uint64_t part_ppm)
{
    struct mica_slice_limits limits = {.state = MICA_SLICE_LIVE,
                                       .generation = 1,
                                       .vram_limit_bytes = 1 << 30,
                                       .share_ppm = MICA_PPM,
                                       .ceiling_ppm = MICA_PPM,
                                       .burst_ns = 1ULL << 50,
                                       .spatial_kind = kind,
                                       .spatial_ppm = part_ppm,
                                       .spatial_offset_ppm = offset_ppm};
    void *quota = NULL;
    mica_id_pack(BENCH_SLICE, limits.slice_id);
    if (mica_region_map(bench_path("/devices/" BENCH_DEVICE "/quota"), MICA_REGION_QUOTA, true, &quota) == MICA_REGION_OK) {
        mica_quota_heartbeat(quota, mica_monotonic_ns());
        mica_quota_write(quota, 0, &limits);
        mica_region_unmap(quota, MICA_REGION_QUOTA);
    }
}

/* Retain once in a slice with this part, say which groups that gave, and release again. */
static bool gives(uint64_t offset_ppm, uint64_t part_ppm, unsigned wanted_first, unsigned wanted_count)
{
    void *context = NULL;
    unsigned first;
    unsigned count;
    unsigned references;
    int live;
    write_part(MICA_SPATIAL_GREEN, offset_ppm, part_ppm);
    bool retained = retain(&context, 0) == 0;
    state(&first, &count, &live, &references);
    bool right = retained && live && first == wanted_first && count == wanted_count;
    bool released = release(0) == 0;
    state(&first, &count, &live, &references);
    return right && released && !live && references == 0;
}

static void test_parts(void)
{
    check(gives(0, 500000, 0, 4), "the first half of the device is its first four groups of eight");
    check(gives(500000, 500000, 4, 4), "the second half is the other four");
    check(gives(250000, 125000, 2, 1), "an eighth that begins at a quarter is the third group");
    check(gives(0, MICA_PPM, 0, 8), "the whole device is all groups");
    check(gives(510000, 1, 4, 1), "a part smaller than a group gets the group it begins in");
    check(gives(MICA_PPM, 1, 7, 1), "a part behind the end gets the last group, and no crash");
}

static void test_references(void)
{
    void *one = NULL;
    void *other = NULL;
    unsigned first;
    unsigned count;
    unsigned references;
    int live;
    write_part(MICA_SPATIAL_GREEN, 0, 250000);
    check(retain(&one, 0) == 0 && retain(&other, 0) == 0 && one == other, "a program that retains twice gets one context");
    check(release(0) == 0, "released once");
    state(&first, &count, &live, &references);
    check(live == 1, "it is still there");
    check(release(0) == 0, "released twice");
    state(&first, &count, &live, &references);
    check(live == 0 && references == 0, "it is gone, and holds the primary context no longer");
}

static void test_no_part(void)
{
    void *context = NULL;
    unsigned first;
    unsigned count;
    unsigned references;
    int live;
    write_part(MICA_SPATIAL_NONE, 0, 0);
    check(retain(&context, 0) == 0, "without a part of its own a slice has the primary context itself");
    state(&first, &count, &live, &references);
    check(live == 0 && references == 1 && release(0) == 0, "and no green context");
}

static int inside(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    void *fake = dlopen(FAKE_PATH, RTLD_NOW);
    if (library == NULL || fake == NULL) {
        return 1;
    }
    *(void **)&init = dlsym(library, "cuInit");
    *(void **)&retain = dlsym(library, "cuDevicePrimaryCtxRetain");
    *(void **)&release = dlsym(library, "cuDevicePrimaryCtxRelease_v2");
    *(void **)&state = dlsym(fake, "fake_green");
    check(init(0) == 0, "the process is attached");
    const char *percent = getenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE");
    if (strcmp(getenv("SPATIAL_TEST"), "mps") == 0) {
        check(percent != NULL && strcmp(percent, "26") == 0, "an MPS client gets its part in percent, rounded up");
    } else if (strcmp(getenv("SPATIAL_TEST"), "less") == 0) {
        check(percent != NULL && strcmp(percent, "5") == 0, "a tenant that asks for less than its part gets what it asks for");
    } else {
        check(percent == NULL, "no percentage is set for who is no MPS client");
        test_parts();
        test_references();
        test_no_part();
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}

static int run(char **arguments, const char *what, const char *percent)
{
    int status = 1;
    if (fork() == 0) {
        setenv("SPATIAL_TEST", what, 1);
        if (percent != NULL) {
            setenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", percent, 1);
        }
        start_again(arguments, SHIM_PATH, FAKE_PATH);
        _exit(1);
    }
    wait(&status);
    return status != 0;
}

int main(int count, char **arguments)
{
    (void)count;
    if (getenv("SPATIAL_TEST") != NULL) {
        return inside();
    }
    if (bench_slice_make(1 << 30) != 0) {
        return 1;
    }
    bench_slice_enter();
    int bad = run(arguments, "green", NULL);
    write_part(MICA_SPATIAL_MPS, 0, 255000);
    bad |= run(arguments, "mps", NULL);
    bad |= run(arguments, "mps", "90");
    bad |= run(arguments, "less", "5");
    return bench_slice_remove() | bad;
}
