/* SPDX-License-Identifier: Apache-2.0
 *
 * A test program in a slice of two of the fake target's devices, and the OpenCL layer loaded over that target as a loader does it.
 */
#ifndef MICA_SHIM_TESTS_OPENCL_SLICE_H
#define MICA_SHIM_TESTS_OPENCL_SLICE_H

#include "again.h"
#include "bench_slice.h"
#include "fake_opencl.h"

#include <dlfcn.h>
#include <sys/wait.h>
#include <time.h>

#define OPENCL_NODE "opencltest"
/* What discovery (mica.vendors.opencl.device_id) calls the second "Fake CPU" of "Fake platform" on this node. */
#define OPENCL_CPU "OCL-d7e268f1bcd4e93e"
#define OPENCL_CPU_BYTES (1ULL << 20)
#define MS 1000000ULL
#define PATIENCE 20000 /* rests of a millisecond: so long a machine may keep us waiting */

static _Atomic int passed; /* a target's threads check, too */
static _Atomic int failed;
static struct mica_usage_region *gpu; /* what the slice uses of its devices */
static struct mica_usage_region *cpu;

static inline void check(bool holds, const char *what)
{
    *(holds ? &passed : &failed) += 1;
    if (!holds) {
        printf("FAILED: %s (%llu and %llu bytes charged, %llu launches of %llu ns)\n", what, (unsigned long long)mica_charge_sum(gpu, MICA_MEMORY_VRAM),
               (unsigned long long)mica_charge_sum(cpu, MICA_MEMORY_VRAM), (unsigned long long)gpu->launches, (unsigned long long)gpu->gpu_ns);
        fflush(stdout);
    }
}

static inline bool charged(uint64_t bytes)
{
    return mica_charge_sum(gpu, MICA_MEMORY_VRAM) == bytes;
}

static inline void rest(void)
{
    struct timespec time = {.tv_nsec = 1000000};
    nanosleep(&time, NULL);
}

static inline bool comes_to(const MICA_ATOMIC_U64 *word, uint64_t value)
{
    for (int i = 0; i < PATIENCE && atomic_load(word) != value; i++) {
        rest();
    }
    return atomic_load(word) == value;
}

/* --- The layer ---------------------------------------------------------------------------------------------------------- */

/* Every call of the table that a test makes. */
#define OPENCL_OTHERS(Y)                                                                                                                 \
    Y(cl_int, clReleaseCommandQueue, (cl_command_queue queue))                                                                            \
    Y(cl_int, clRetainMemObject, (cl_mem memory))                                                                                        \
    Y(cl_mem, clCreateSubBuffer, (cl_mem whole, cl_bitfield flags, cl_uint type, const void *region, cl_int *error))                     \
    Y(cl_int, clEnqueueMarkerWithWaitList, (cl_command_queue queue, DONE))

static struct {
#define MEMBER(type, name, params) type(*name) params;
    OPENCL_HOOKS(MEMBER) OPENCL_CALLS(MEMBER) OPENCL_OTHERS(MEMBER)
#undef MEMBER
} cl;

static struct fake_table top;

/* What a program gets of the loader's table. */
static inline void find_calls(void)
{
#define FIND(type, name, params) memcpy(&cl.name, &top.name, sizeof cl.name);
    OPENCL_HOOKS(FIND) OPENCL_CALLS(FIND) OPENCL_OTHERS(FIND)
#undef FIND
}

/* Put the layer over what is in `top`, of which the loader knows `entries`: what the layer leaves empty stays the target's. */
static inline bool load_layer(cl_uint entries)
{
    static struct fake_table below_it[2];
    static unsigned times;
    cl_int (*init)(cl_uint, const void *, cl_uint *, const void **) = NULL;
    void *library = dlopen(LAYER_PATH, RTLD_NOW);
    void *symbol = library != NULL ? dlsym(library, "clInitLayer") : NULL;
    void **answers = NULL;
    cl_uint count = 0;
    struct fake_table *target = &below_it[times++ % 2];
    memcpy(&init, &symbol, sizeof init);
    memset(target, 0xff, sizeof *target); /* whoever reads beyond the end calls what is no function */
    memcpy(target, &top, entries * sizeof(void *));
    if (init == NULL || init(entries, target, &count, (const void **)&answers) != CL_SUCCESS) {
        return false;
    }
    for (cl_uint i = 0; i < entries && i < count; i++) {
        if (answers[i] != NULL) {
            ((void **)&top)[i] = answers[i];
        }
    }
    find_calls();
    return true;
}

/* The target alone, as a loader of so many entries knows it. */
static inline void load_target(cl_uint entries)
{
    memset(&top, 0, sizeof top);
    memcpy(&top, fake_target(), entries * sizeof(void *));
    find_calls();
}

/* --- The slice ---------------------------------------------------------------------------------------------------------- */

static inline struct mica_usage_region *opencl_usage(const char *device)
{
    char below_dir[128];
    void *region = NULL;
    snprintf(below_dir, sizeof below_dir, "/slices/" BENCH_SLICE "/%s.usage", device);
    return mica_region_map(bench_path(below_dir), MICA_REGION_USAGE, true, &region) == MICA_REGION_OK ? region : NULL;
}

static inline void opencl_add_cpu(void)
{
    struct mica_slice_limits limits = bench_slice_limits(OPENCL_CPU_BYTES);
    void *quota = NULL;
    mkdir(bench_path("/devices/" OPENCL_CPU), 0755);
    mica_region_create(bench_path("/slices/" BENCH_SLICE "/" OPENCL_CPU ".usage"), MICA_REGION_USAGE, OPENCL_CPU, BENCH_SLICE, 0600);
    mica_region_create(bench_path("/devices/" OPENCL_CPU "/quota"), MICA_REGION_QUOTA, OPENCL_CPU, NULL, 0644);
    if (mica_region_map(bench_path("/devices/" OPENCL_CPU "/quota"), MICA_REGION_QUOTA, true, &quota) == MICA_REGION_OK) {
        mica_quota_heartbeat(quota, mica_monotonic_ns());
        mica_quota_write(quota, 0, &limits);
        mica_region_unmap(quota, MICA_REGION_QUOTA);
    }
}

/* Control and limit of the GPU's record, from the next call on. In all these tests the number of commands in flight is limited, generously: so each of them is
 * seen, and none is made on credit. */
static inline void opencl_limit(uint64_t vram_limit_bytes, uint64_t control)
{
    struct mica_slice_limits limits = bench_slice_limits(vram_limit_bytes);
    limits.control = control;
    limits.inflight_max = 1000000;
    bench_slice_put(&limits);
}

/* The program's exit status, as run_in_slice's of in_slice.h. */
static inline int run_in_opencl_slice(char **arguments, uint64_t vram_limit_bytes, int (*inside)(void))
{
    int status = 1;
    if (getenv("MICA_SLICE") != NULL) {
        gpu = opencl_usage(BENCH_DEVICE);
        cpu = opencl_usage(OPENCL_CPU);
        status = gpu != NULL && cpu != NULL ? inside() : 1;
        printf("%d passed, %d failed\n", passed, failed);
        return status | (failed != 0);
    }
    if (bench_slice_make(vram_limit_bytes) != 0) {
        return 1;
    }
    opencl_add_cpu();
    opencl_limit(vram_limit_bytes, MICA_CONTROL_RUN);
    bench_slice_enter();
    setenv("TSAN_OPTIONS", "atexit_sleep_ms=0", 0); /* of a sanitizer: it would wait a second at the end of each child that has threads */
    setenv("MICA_NODE", OPENCL_NODE, 1);
    if (fork() == 0) {
        start_again(arguments, LAYER_PATH, "");
        _exit(1);
    }
    wait(&status);
    return bench_slice_remove() | (status != 0);
}

/* What an enforcer does for a dead process. */
static inline void opencl_reclaim(struct mica_usage_region *usage)
{
    for (unsigned i = 0; i < MICA_PROCESSES_MAX; i++) {
        uint64_t owner = atomic_load(&usage->processes[i].owner);
        if ((owner & MICA_OWNER_HELD) != 0 && owner != (mica_owner_self() | MICA_OWNER_HELD)) {
            mica_slot_release(usage, i, owner & ~MICA_OWNER_HELD);
        }
    }
}

/* Run in a process of its own, which is forked. Whether it was content. */
static inline bool in_child(bool (*call)(unsigned), unsigned argument)
{
    int status = 1;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        _exit(call(argument) ? 0 : 1);
    }
    bool is_content = waitpid(child, &status, 0) == child && status == 0;
    opencl_reclaim(gpu);
    opencl_reclaim(cpu);
    return is_content;
}

#endif
