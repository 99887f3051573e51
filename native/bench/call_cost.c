/* SPDX-License-Identifier: Apache-2.0
 *
 * What a call of the driver costs in this process, whatever stands in front of the driver: it is opened by its name and asked through
 * dlsym, as programs do.
 *
 *     call_cost init CPU         one line: nanoseconds of opening the library, of the first cuInit, and of both
 *     call_cost uuid             one line: the id of device 0
 *     call_cost serve CPU        pinned to CPU (-1: not pinned); reads orders from stdin, answers each with lines of numbers
 *
 * An order is a word and two numbers: what, how much, how many batches. A number of the answer is the nanoseconds of one call, the average of one batch of 1,000
 * calls: a single call is as short as the clock that could time it. Frees take the live allocations in random order.
 *
 *     memory LIVE BATCHES        two lines: cuMemAlloc, and cuMemFree while LIVE other allocations live
 *     async LIVE BATCHES         the same of cuMemAllocAsync and cuMemFreeAsync
 *     info|launch|address 0 BATCHES     one line
 *     pair MILLISECONDS 0        one line: an allocation and its free, for that long
 *     floor 0 BATCHES            five lines: an atomic addition, a compare-and-set, a reading of the cycle counter, clock_gettime, and a cache line anywhere
 *                                in 2 MiB: nothing that remembers 100,000 allocations is smaller
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH 1000
#define LIVE_MAX 1000000
#define BATCHES_MAX 100000
/* Bytes of the allocations, in turn. Most are of a round size and some are not, as weights, activations and arrays are; 100,000 of them, in several
 * columns, fit any device. */
static const size_t sizes[] = {65536, 512, 4096, 303872, 12288, 131072, 262144, 1000000};
#define SIZES (sizeof sizes / sizeof sizes[0])

static struct {
    int (*init)(unsigned);
    int (*uuid)(void *, int);
    int (*retain)(void **, int);
    int (*set_current)(void *);
    int (*allocate)(uint64_t *, size_t);
    int (*release)(uint64_t);
    int (*allocate_async)(uint64_t *, size_t, void *);
    int (*release_async)(uint64_t, void *);
    int (*info)(size_t *, size_t *);
    int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
    int (*address)(const char *, void **, int, uint64_t, int *);
    int (*load)(void **, const void *);
    int (*function)(void **, void *, const char *);
} driver;

static void *kernel = (void *)8; /* a driver without modules takes any */
static uint64_t live[LIVE_MAX + BATCH];
static uint64_t random_state = 0x9e3779b97f4a7c15ULL;

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "call_cost: %s\n", what);
        exit(1);
    }
}

static void symbol(void *library, const char *name, void *pointer)
{
    void *found = dlsym(library, name);
    memcpy(pointer, &found, sizeof found);
}

static void *library_open(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "call_cost: %s\n", dlerror());
        exit(1);
    }
    symbol(library, "cuInit", &driver.init);
    symbol(library, "cuDeviceGetUuid", &driver.uuid);
    symbol(library, "cuDevicePrimaryCtxRetain", &driver.retain);
    symbol(library, "cuCtxSetCurrent", &driver.set_current);
    symbol(library, "cuMemAlloc_v2", &driver.allocate);
    symbol(library, "cuMemFree_v2", &driver.release);
    symbol(library, "cuMemAllocAsync", &driver.allocate_async);
    symbol(library, "cuMemFreeAsync", &driver.release_async);
    symbol(library, "cuMemGetInfo_v2", &driver.info);
    symbol(library, "cuLaunchKernel", &driver.launch);
    symbol(library, "cuGetProcAddress_v2", &driver.address);
    symbol(library, "cuModuleLoadData", &driver.load);
    symbol(library, "cuModuleGetFunction", &driver.function);
    require(driver.init != NULL, "the library has no cuInit");
    return library;
}

static void context_make(void)
{
    static const char ptx[] = ".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry bench()\n{\nret;\n}\n";
    void *context = NULL;
    void *module = NULL;
    require(driver.init(0) == 0, "cuInit failed");
    require(driver.retain(&context, 0) == 0 && driver.set_current(context) == 0, "no context");
    if (driver.load != NULL && driver.load(&module, ptx) == 0) {
        require(driver.function(&kernel, module, "bench") == 0, "no kernel");
    }
}

/* --- Batches -------------------------------------------------------------------------------------------------------------- */

static double per_call(uint64_t start, uint64_t end)
{
    return (double)(end - start) / BATCH;
}

/* Bring BATCH of `count` live allocations to the end, at random. */
static void shuffle_out(uint64_t count)
{
    for (uint64_t i = count; i > count - BATCH; i--) {
        uint64_t j = random_next() % i;
        uint64_t chosen = live[j];
        live[j] = live[i - 1];
        live[i - 1] = chosen;
    }
}

static inline int allocate(uint64_t i, int is_async)
{
    return is_async ? driver.allocate_async(&live[i], sizes[i % SIZES], NULL) : driver.allocate(&live[i], sizes[i % SIZES]);
}

static inline int release(uint64_t address, int is_async)
{
    return is_async ? driver.release_async(address, NULL) : driver.release(address);
}

static void fill(uint64_t count, int is_async)
{
    static uint64_t filled; /* `live` begins with so many */
    for (; filled < count; filled++) {
        require(allocate(filled, is_async) == 0, "out of memory while filling");
    }
    for (; filled > count; filled--) {
        require(release(live[filled - 1], is_async) == 0, "a live allocation could not be freed");
    }
}

/* One batch: allocations into the end of `live`, frees of a random BATCH of all. */
static void memory_batch(uint64_t count, int is_async, double *allocations, double *frees)
{
    int failed = 0;
    uint64_t start = now_ns();
    for (int i = 0; i < BATCH; i++) {
        failed += allocate(count + (uint64_t)i, is_async);
    }
    *allocations = per_call(start, now_ns());
    shuffle_out(count + BATCH);
    start = now_ns();
    for (int i = 0; i < BATCH; i++) {
        failed += release(live[count + (uint64_t)i], is_async);
    }
    *frees = per_call(start, now_ns());
    require(failed == 0, "an allocation or a free failed");
}

static double info_batch(void)
{
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    int failed = 0;
    uint64_t start = now_ns();
    for (int i = 0; i < BATCH; i++) {
        failed += driver.info(&free_bytes, &total_bytes);
    }
    double spent = per_call(start, now_ns());
    require(failed == 0 && total_bytes != 0, "cuMemGetInfo failed");
    return spent;
}

static double launch_batch(void)
{
    int failed = 0;
    uint64_t start = now_ns();
    for (int i = 0; i < BATCH; i++) {
        failed += driver.launch(kernel, 64, 1, 1, 256, 1, 1, 0, NULL, NULL, NULL);
    }
    double spent = per_call(start, now_ns());
    require(failed == 0, "a launch failed");
    return spent;
}

/* Half of them are enforced by a shim, half are not. */
static double address_batch(void)
{
    static const char *const names[] = {"cuMemAlloc",      "cuDriverGetVersion", "cuMemFree",      "cuDeviceGetCount", "cuLaunchKernel",
                                        "cuCtxSetCurrent", "cuMemGetInfo",       "cuEventQuery",   "cuMemAllocAsync",  "cuEventRecord",
                                        "cuMemFreeAsync",  "cuCtxSynchronize",   "cuDeviceGetUuid", "cuInit"};
    enum { NAMES = sizeof names / sizeof names[0] };
    void *function = NULL;
    int status = 0;
    int failed = 0;
    uint64_t start = now_ns();
    for (int i = 0; i < BATCH; i++) {
        failed += driver.address(names[i % NAMES], &function, 12080, 0, &status) != 0 || function == NULL;
    }
    double spent = per_call(start, now_ns());
    require(failed == 0, "cuGetProcAddress failed");
    return spent;
}

static double pair_batch(void)
{
    uint64_t address = 0;
    int failed = 0;
    uint64_t start = now_ns();
    for (int i = 0; i < BATCH; i++) {
        failed += driver.allocate(&address, sizes[0]);
        failed += driver.release(address);
    }
    double spent = per_call(start, now_ns());
    require(failed == 0, "an allocation or a free failed");
    return spent;
}

static void print_line(const double *values, long count)
{
    for (long i = 0; i < count; i++) {
        printf("%.2f%c", values[i], i + 1 < count ? ' ' : '\n');
    }
}

static uint64_t cycle_counter(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t value;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(value));
    return value;
#else
    return 0;
#endif
}

#define FLOOR_LINE(statement)                                      \
    for (long batch = 0; batch < batches; batch++) {               \
        uint64_t start = now_ns();                                 \
        for (int i = 0; i < BATCH; i++) {                          \
            statement;                                             \
        }                                                          \
        values[batch] = per_call(start, now_ns());                 \
    }                                                              \
    print_line(values, batches)

/* A cache line that says which comes next. */
struct line {
    _Alignas(64) struct line *next;
};

/* All lines of 2 MiB in one ring, in random order. */
static struct line *ring_make(void)
{
    enum { LINES = (2 << 20) / sizeof(struct line) };
    static struct line lines[LINES];
    static struct line *order[LINES];
    for (size_t i = 0; i < LINES; i++) {
        size_t j = random_next() % (i + 1);
        order[i] = order[j];
        order[j] = &lines[i];
    }
    for (size_t i = 0; i < LINES; i++) {
        order[i]->next = order[(i + 1) % LINES];
    }
    return order[0];
}

static void floor_lines(double *values, long batches)
{
    struct line *line = ring_make();
    static _Atomic uint64_t word;
    uint64_t sink = 0;
    uint64_t seen = 0;
    FLOOR_LINE(atomic_fetch_add(&word, 1));
    seen = atomic_load(&word);
    FLOOR_LINE(atomic_compare_exchange_strong(&word, &seen, seen + 1) ? (void)seen++ : (void)0);
    FLOOR_LINE(sink ^= cycle_counter());
    FLOOR_LINE(sink ^= now_ns());
    FLOOR_LINE(line = line->next);
    atomic_store(&word, sink ^ (uint64_t)(uintptr_t)line); /* so that no reading is left out */
}

/* --- Orders --------------------------------------------------------------------------------------------------------------- */

static void memory_lines(double *values, long count, long batches, int is_async)
{
    double *frees = values + batches;
    double ignored;
    fill((uint64_t)count, is_async);
    memory_batch((uint64_t)count, is_async, &ignored, &ignored); /* warms the caches */
    for (long batch = 0; batch < batches; batch++) {
        memory_batch((uint64_t)count, is_async, &values[batch], &frees[batch]);
    }
    print_line(values, batches);
    print_line(frees, batches);
}

static void batch_line(double *values, long batches, double (*batch)(void))
{
    (void)batch();
    for (long i = 0; i < batches; i++) {
        values[i] = batch();
    }
    print_line(values, batches);
}

static void pair_line(double *values, long milliseconds)
{
    long count = 0;
    uint64_t end = now_ns() + (uint64_t)milliseconds * 1000000;
    (void)pair_batch();
    do {
        values[count++] = pair_batch();
    } while (now_ns() < end && count < BATCHES_MAX);
    print_line(values, count);
}

static void obey(const char *order, long amount, long batches)
{
    static double values[2 * BATCHES_MAX];
    require(amount >= 0 && amount <= LIVE_MAX && batches >= 0 && batches <= BATCHES_MAX, "an order's number is out of range");
    if (strcmp(order, "memory") == 0) {
        memory_lines(values, amount, batches, 0);
    } else if (strcmp(order, "async") == 0) {
        memory_lines(values, amount, batches, 1);
    } else if (strcmp(order, "info") == 0) {
        batch_line(values, batches, info_batch);
    } else if (strcmp(order, "launch") == 0) {
        batch_line(values, batches, launch_batch);
    } else if (strcmp(order, "address") == 0) {
        batch_line(values, batches, address_batch);
    } else if (strcmp(order, "pair") == 0) {
        pair_line(values, amount);
    } else if (strcmp(order, "floor") == 0) {
        floor_lines(values, batches);
    } else {
        require(0, "an unknown order");
    }
    fflush(stdout);
}

static void pin(int cpu)
{
    cpu_set_t set;
    if (cpu < 0) {
        return;
    }
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    require(sched_setaffinity(0, sizeof set, &set) == 0, "cannot be pinned to that CPU");
}

static void serve(void)
{
    char order[16];
    long amount = 0;
    long batches = 0;
    (void)library_open();
    context_make();
    while (scanf("%15s %ld %ld", order, &amount, &batches) == 3) {
        obey(order, amount, batches);
    }
    fill(0, 0);
}

static void print_uuid(void)
{
    unsigned char b[16];
    (void)library_open();
    require(driver.init(0) == 0 && driver.uuid(b, 0) == 0, "device 0 has no id");
    printf("GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\n", b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9],
           b[10], b[11], b[12], b[13], b[14], b[15]);
}

static void print_init(void)
{
    uint64_t start = now_ns();
    (void)library_open();
    uint64_t opened = now_ns();
    int result = driver.init(0);
    uint64_t end = now_ns();
    require(result == 0, "cuInit failed");
    printf("%lu %lu %lu\n", (unsigned long)(opened - start), (unsigned long)(end - opened), (unsigned long)(end - start));
}

int main(int count, char **arguments)
{
    if (count == 3 && strcmp(arguments[1], "init") == 0) {
        pin(atoi(arguments[2]));
        print_init();
    } else if (count == 2 && strcmp(arguments[1], "uuid") == 0) {
        print_uuid();
    } else if (count == 3 && strcmp(arguments[1], "serve") == 0) {
        pin(atoi(arguments[2]));
        serve();
    } else {
        fprintf(stderr, "usage: call_cost init CPU | uuid | serve CPU\n");
        return 2;
    }
    return 0;
}
