/* SPDX-License-Identifier: Apache-2.0
 *
 * A tenant of `mica bench isolation`: works, or takes memory, as a program would that knows nothing of slices.
 *
 *     tenant work KERNEL[,KERNEL...] DEPTH     launches one kernel after the other, with about DEPTH of them unfinished (0: as many as it can)
 *     tenant pace KERNEL PERIOD_NS             launches one kernel every period, and waits for it
 *     tenant fill CHUNK_BYTES                  allocates chunks until it is refused, then halves of them, down to one byte
 *
 * Each says "ready" when it could begin and begins at a line on stdin. `work` and `pace` end at SIGTERM. All end with one line of JSON.
 */
#define _GNU_SOURCE
#include "program.h"

#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KERNELS_MAX 16
#define SAMPLES_MAX 1000000
#define OUT_OF_MEMORY 2

static void *kernels[KERNELS_MAX];
static unsigned kernel_count;
static uint32_t samples[SAMPLES_MAX]; /* latencies in ns, at most 4 s */
static size_t sample_count;
static volatile sig_atomic_t stopping;

static void stop(int number)
{
    (void)number;
    stopping = 1;
}

static void load_kernels(char *names)
{
    for (char *name = strtok(names, ","); name != NULL; name = strtok(NULL, ",")) {
        require(kernel_count < KERNELS_MAX, "too many kernels");
        kernels[kernel_count++] = load_kernel(name);
    }
    require(kernel_count > 0, "no kernel is named");
}

static void begin(void)
{
    char line[16];
    puts("ready");
    fflush(stdout);
    require(fgets(line, sizeof line, stdin) != NULL, "nobody said that it should begin");
}

static void launch(unsigned index)
{
    launch_kernel(kernels[index % kernel_count]);
}

/* Two events take turns: while one half of the depth runs, the other is submitted. */
static uint64_t work(unsigned depth)
{
    void *ends[2] = {NULL, NULL};
    uint64_t launches = 0;
    unsigned half = depth > 1 ? depth / 2 : depth;
    require(driver.event(&ends[0], 2) == 0 && driver.event(&ends[1], 2) == 0, "no events");
    while (!stopping) {
        launch((unsigned)launches++);
        if (half == 0 || launches % half != 0) {
            continue;
        }
        unsigned which = (unsigned)(launches / half % 2);
        if (launches > half && depth > 1) {
            require(driver.wait(ends[!which]) == 0, "an event failed");
        }
        require(driver.record(ends[which], NULL) == 0, "an event failed");
        if (depth == 1) {
            require(driver.wait(ends[which]) == 0, "an event failed");
        }
    }
    return launches;
}

static uint64_t pace(uint64_t period_ns)
{
    uint64_t launches = 0;
    uint64_t due_ns = now_ns();
    while (!stopping) {
        sleep_until(due_ns);
        uint64_t from_ns = now_ns();
        launch(0);
        require(driver.synchronize() == 0, "a kernel failed");
        uint64_t took_ns = now_ns() - from_ns;
        if (sample_count < SAMPLES_MAX) {
            samples[sample_count++] = took_ns < UINT32_MAX ? (uint32_t)took_ns : UINT32_MAX;
        }
        launches++;
        due_ns += period_ns;
        if (due_ns < now_ns()) { /* what could not be in time is not made up for */
            due_ns = now_ns();
        }
    }
    return launches;
}

/* Take all that there is, to the byte. */
static uint64_t fill(uint64_t chunk_bytes)
{
    uint64_t taken = 0;
    for (uint64_t size = chunk_bytes; size > 0;) {
        uint64_t pointer;
        int result = driver.allocate(&pointer, size);
        require(result == 0 || result == OUT_OF_MEMORY, "an allocation failed otherwise than for want of memory");
        taken += result == 0 ? size : 0;
        size = result == 0 ? size : size / 2;
    }
    return taken;
}

static int ascending(const void *one, const void *other)
{
    uint32_t a = *(const uint32_t *)one;
    uint32_t b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

static uint32_t quantile(unsigned percent)
{
    return sample_count > 0 ? samples[(sample_count - 1) * percent / 100] : 0;
}

int main(int argc, char **argv)
{
    require(argc > 2, "usage: tenant work KERNELS DEPTH | pace KERNEL PERIOD_NS | fill CHUNK_BYTES");
    bool filling = strcmp(argv[1], "fill") == 0;
    require(filling || argc > 3, "work and pace take two arguments");
    signal(SIGTERM, stop);
    open_driver();
    if (!filling) {
        load_kernels(argv[2]);
    }
    begin();
    uint64_t launches = 0;
    uint64_t taken = 0;
    if (filling) {
        taken = fill(strtoull(argv[2], NULL, 10));
        begin(); /* what it has stays until everybody has counted */
    } else if (strcmp(argv[1], "work") == 0) {
        launches = work((unsigned)strtoul(argv[3], NULL, 10));
    } else {
        launches = pace(strtoull(argv[3], NULL, 10));
    }
    qsort(samples, sample_count, sizeof *samples, ascending);
    printf("{\"launches\": %" PRIu64 ", \"taken_bytes\": %" PRIu64 ", \"p50_ns\": %" PRIu32 ", \"p99_ns\": %" PRIu32 "}\n", launches, taken,
           quantile(50), quantile(99));
    return 0;
}
