/* SPDX-License-Identifier: Apache-2.0
 *
 * A bench, not a test: what the shim adds to a call. The same loop runs over the fake driver alone and with the shim on top, inside a slice
 * with regions of its own; medians of batches, and the process's own memory before and after.
 */
#define _GNU_SOURCE
#include "bench_slice.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BATCH 100
#define BATCHES 2001

static int (*memory_allocate)(uint64_t *, size_t);
static int (*memory_free)(uint64_t);
static int (*memory_info)(size_t *, size_t *);
static int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
static uint64_t addresses[BATCH];

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_median(const char *name, double *values)
{
    qsort(values, BATCHES, sizeof *values, ascending);
    printf("%-24s %8.1f\n", name, values[BATCHES / 2]);
}

static void measure_memory(const char *suffix)
{
    static double allocations[BATCHES];
    static double frees[BATCHES];
    char name[64];
    for (int batch = 0; batch < BATCHES; batch++) {
        uint64_t start = now_ns();
        for (int i = 0; i < BATCH; i++) {
            memory_allocate(&addresses[i], 1 << 20);
        }
        uint64_t middle = now_ns();
        for (int i = 0; i < BATCH; i++) {
            memory_free(addresses[i]);
        }
        allocations[batch] = (double)(middle - start) / BATCH;
        frees[batch] = (double)(now_ns() - middle) / BATCH;
    }
    snprintf(name, sizeof name, "cuMemAlloc%s", suffix);
    print_median(name, allocations);
    snprintf(name, sizeof name, "cuMemFree%s", suffix);
    print_median(name, frees);
}

static void measure_rest(void)
{
    static double values[BATCHES];
    size_t free_bytes;
    size_t total_bytes;
    for (int batch = 0; batch < BATCHES; batch++) {
        uint64_t start = now_ns();
        for (int i = 0; i < BATCH; i++) {
            memory_info(&free_bytes, &total_bytes);
        }
        values[batch] = (double)(now_ns() - start) / BATCH;
    }
    print_median("cuMemGetInfo", values);
    for (int batch = 0; batch < BATCHES; batch++) {
        uint64_t start = now_ns();
        for (int i = 0; i < BATCH; i++) {
            launch((void *)8, 64, 1, 1, 256, 1, 1, 0, NULL, NULL, NULL);
        }
        values[batch] = (double)(now_ns() - start) / BATCH;
    }
    print_median("cuLaunchKernel", values);
}

static long private_kib(void)
{
    char line[256];
    long total = 0;
    long kib;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "Private_Dirty: %ld", &kib) == 1 || sscanf(line, "Private_Clean: %ld", &kib) == 1) {
            total += kib;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return total;
}

static void measure(void)
{
    int (*init)(unsigned) = NULL;
    long before = private_kib();
    void *library = dlopen(getenv("MICA_SLICE") != NULL ? "libcuda.so.1" : FAKE_PATH, RTLD_NOW);
    *(void **)&init = dlsym(library, "cuInit");
    *(void **)&memory_allocate = dlsym(library, "cuMemAlloc_v2");
    *(void **)&memory_free = dlsym(library, "cuMemFree_v2");
    *(void **)&memory_info = dlsym(library, "cuMemGetInfo_v2");
    *(void **)&launch = dlsym(library, "cuLaunchKernel");
    uint64_t start = now_ns();
    if (init(0) != 0) {
        exit(1);
    }
    printf("%-24s %8.1f\n", "cuInit", (double)(now_ns() - start));
    measure_memory("");
    measure_rest();
    printf("private KiB, idle        %8ld (%ld before the library was used)\n", private_kib(), before);
    uint64_t address;
    for (int i = 0; i < 100000; i++) {
        memory_allocate(&address, 1 << 20);
    }
    printf("private KiB, 100k live   %8ld\n", private_kib());
    measure_memory(", 100k live");
}

static void run(char *self)
{
    fflush(stdout);
    if (fork() == 0) {
        char *arguments[] = {self, "measure", NULL};
        execv("/proc/self/exe", arguments);
        _exit(1);
    }
    wait(NULL);
}

int main(int count, char **arguments)
{
    if (count > 1) {
        measure();
        return 0;
    }
    if (bench_slice_make(1ULL << 40) != 0) {
        return 1;
    }
    printf("# driver alone; median ns a call\n");
    run(arguments[0]);
    bench_slice_enter();
    setenv("LD_PRELOAD", SHIM_PATH, 1);
    setenv("MICA_CUDA_DRIVER", FAKE_PATH, 1);
    printf("# with the shim\n");
    run(arguments[0]);
    unsetenv("LD_PRELOAD");
    return bench_slice_remove();
}
