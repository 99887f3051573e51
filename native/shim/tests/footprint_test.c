/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside a slice: what a context takes is charged whichever pids the management library lists processes by. The program starts itself again for each case,
 * preloaded with the shim, over the fake driver and a fake management library that lists what the case says.
 */
#define _GNU_SOURCE
#include "in_slice.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

#include "../cuda/types.h"

#define MIB (1ULL << 20)
#define LIMIT_BYTES (1ULL << 30)
#define CONTEXT_BYTES (300 * MIB)
#define MODULE_BYTES (20 * MIB)
#define CONFIGURED_BYTES (77 * MIB)
#define CONFIGURED_TEXT "80740352"
#define FOREIGN_PID (1U << 22) /* beyond 2^22, the most that a pid can be */

struct process_info {
    unsigned pid;
    unsigned long long used_bytes;
    unsigned gpu_instance, compute_instance;
};

static CUresult (*create)(CUcontext *, unsigned, CUdevice);
static CUresult (*destroy)(CUcontext);
static CUresult (*load)(CUmodule *, const void *);
static CUresult (*unload)(CUmodule);
static void (*fake_list)(const struct process_info *, unsigned);
static void (*fake_before_next)(void (*then)(void));

/* One process's machine: who is listed before its first context, who after, and what it must be charged. OWN is its own pid. */
#define OWN 1
#define NEIGHBOUR (FOREIGN_PID + 1)
#define US_ELSEWHERE (FOREIGN_PID + 2)
#define OTHER_NEWCOMER (FOREIGN_PID + 3)

static const struct scene {
    const char *sentence;
    struct process_info before[2];
    struct process_info after[3];
    uint64_t charged_bytes;
    bool is_known; /* from then on the process knows which entry is its own */
} scenes[] = {
    {"a process that is listed by its own pid is charged what is counted for it",
     {{NEIGHBOUR, 5 * MIB, 0, 0}},
     {{NEIGHBOUR, 90 * MIB, 0, 0}, {OWN, CONTEXT_BYTES, 0, 0}},
     CONTEXT_BYTES,
     true},
    {"one that is listed by another pid is the one that came with its context",
     {{NEIGHBOUR, 5 * MIB, 0, 0}},
     {{NEIGHBOUR, 90 * MIB, 0, 0}, {US_ELSEWHERE, CONTEXT_BYTES, 0, 0}},
     CONTEXT_BYTES,
     true},
    {"a process of another namespace with the same pid is somebody else",
     {{OWN, 5 * MIB, 0, 0}},
     {{OWN, 90 * MIB, 0, 0}, {US_ELSEWHERE, CONTEXT_BYTES, 0, 0}},
     CONTEXT_BYTES,
     true},
    {"of two that came at once its own pid decides",
     {{NEIGHBOUR, 5 * MIB, 0, 0}},
     {{OTHER_NEWCOMER, 20 * MIB, 0, 0}, {OWN, CONTEXT_BYTES, 0, 0}},
     CONTEXT_BYTES,
     true},
    {"and without it the least of what they have is charged",
     {{NEIGHBOUR, 5 * MIB, 0, 0}},
     {{OTHER_NEWCOMER, 400 * MIB, 0, 0}, {US_ELSEWHERE, CONTEXT_BYTES, 0, 0}},
     CONTEXT_BYTES,
     false},
    {"who is not listed at all is charged what is configured",
     {{NEIGHBOUR, 5 * MIB, 0, 0}},
     {{NEIGHBOUR, 90 * MIB, 0, 0}},
     CONFIGURED_BYTES,
     false},
};
#define SCENES (sizeof scenes / sizeof scenes[0])

static const struct scene *scene;

/* List these processes, and `own_more` bytes more of this one's. */
static void list(const struct process_info *processes, size_t most, uint64_t own_more)
{
    struct process_info listed[3];
    unsigned count = 0;
    for (size_t i = 0; i < most && processes[i].pid != 0; i++) {
        bool is_own = processes[i].used_bytes == CONTEXT_BYTES; /* whatever its pid */
        listed[count] = processes[i];
        listed[count].pid = processes[i].pid == OWN ? (unsigned)getpid() : processes[i].pid;
        listed[count++].used_bytes += is_own ? own_more : MIB;
    }
    fake_list(listed, count);
}

static void context_comes(void)
{
    list(scene->after, 3, 0);
}

static void module_comes(void)
{
    list(scene->after, 3, MODULE_BYTES);
}

static bool charged(const struct mica_usage_region *usage, uint64_t bytes)
{
    uint64_t observed = mica_word_bytes(atomic_load(&usage->processes[0].vram_word));
    if (observed != bytes) {
        printf("# charged %llu, expected %llu\n", (unsigned long long)observed, (unsigned long long)bytes);
    }
    return observed == bytes;
}

/* In the scene: what a context and then a module is charged, and that all of it comes back. */
static int play(struct mica_usage_region *usage)
{
    CUcontext context = NULL;
    CUmodule module = NULL;
    uint64_t module_bytes = scene->is_known ? MODULE_BYTES : 0;
    atomic_store(&usage->context_bytes, 0); /* what the scene before has taught */
    list(scene->before, 2, 0);
    fake_before_next(context_comes);
    bool is_right = create(&context, 0, 0) == CUDA_SUCCESS && charged(usage, scene->charged_bytes);
    fake_before_next(module_comes);
    is_right = is_right && load(&module, "") == CUDA_SUCCESS && charged(usage, scene->charged_bytes + module_bytes);
    is_right = is_right && unload(module) == CUDA_SUCCESS && destroy(context) == CUDA_SUCCESS && charged(usage, 0);
    return !is_right;
}

static int inside(void)
{
    void *region = NULL;
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    void *fake = dlopen(FAKE_PATH, RTLD_NOW);
    void *management = dlopen(getenv("MICA_NVML_DRIVER"), RTLD_NOW);
    if (library == NULL || fake == NULL || management == NULL || mica_region_map(bench_usage_path(), MICA_REGION_USAGE, true, &region) != MICA_REGION_OK) {
        return 1;
    }
    *(void **)&create = dlsym(library, "cuCtxCreate_v2");
    *(void **)&destroy = dlsym(library, "cuCtxDestroy_v2");
    *(void **)&load = dlsym(library, "cuModuleLoadData");
    *(void **)&unload = dlsym(library, "cuModuleUnload");
    *(void **)&fake_list = dlsym(management, "fake_list");
    *(void **)&fake_before_next = dlsym(fake, "fake_before_next");
    scene = &scenes[atoi(getenv("FOOTPRINT_SCENE"))];
    return play(region);
}

int main(int count, char **arguments)
{
    unsigned failed = 0;
    (void)count;
    if (getenv("MICA_SLICE") != NULL) {
        return inside();
    }
    setenv("MICA_NVML_DRIVER", FAKE_NVML_PATH, 1);
    setenv("MICA_CONTEXT_BYTES", CONFIGURED_TEXT, 1);
    if (bench_slice_make(LIMIT_BYTES) != 0) {
        return 1;
    }
    bench_slice_enter();
    for (size_t i = 0; i < SCENES; i++) {
        int status = 1;
        char number[8];
        snprintf(number, sizeof number, "%zu", i);
        fflush(stdout);
        if (fork() == 0) {
            setenv("FOOTPRINT_SCENE", number, 1);
            start_again(arguments, SHIM_PATH, FAKE_PATH);
            _exit(1);
        }
        wait(&status);
        failed += status != 0;
        printf("%s %zu - %s\n", status == 0 ? "ok" : "not ok", i + 1, scenes[i].sentence);
    }
    printf("%zu passed, %u failed\n", SCENES - failed, failed);
    return bench_slice_remove() | (failed != 0);
}
