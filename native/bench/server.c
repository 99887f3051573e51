/* SPDX-License-Identifier: Apache-2.0
 *
 * The inference tenant of `mica bench slo`: a server with continuous batching, as a program would be that knows nothing of slices.
 *
 *     server PREFILL_KERNEL STEP_KERNEL BATCH FILE
 *
 * FILE has a line for each request, in the order of their arrival: nanoseconds after the beginning, prefill kernels, tokens. Whatever has
 * arrived is admitted, up to BATCH at a time: its prefill runs and gives its first token; then every step is one kernel that gives each of
 * the admitted its next token, which the host waits for, since what comes next depends on it. So a burst makes a queue, and a neighbour's
 * kernel between two steps delays everybody.
 *
 * Says "ready" when it could begin, begins at the moment of CLOCK_MONOTONIC (ns) that a line on stdin names, and says a line when a request
 * is answered: its number, and the moments of its arrival, its first and its last token (ns). Ends when all are, or at SIGTERM.
 */
#define _GNU_SOURCE
#include "program.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX 256
#define REQUESTS_MAX 1000000

struct request {
    uint64_t arrival_ns, first_ns;
    unsigned prefills, tokens, given;
};

static struct request *requests;
static unsigned request_count;
static volatile sig_atomic_t stopping;

static void stop(int number)
{
    (void)number;
    stopping = 1;
}

static void read_requests(const char *path)
{
    FILE *file = fopen(path, "r");
    struct request one = {0};
    require(file != NULL, "the file of requests can not be opened");
    requests = calloc(REQUESTS_MAX, sizeof *requests);
    require(requests != NULL, "no memory");
    while (fscanf(file, "%" SCNu64 " %u %u", &one.arrival_ns, &one.prefills, &one.tokens) == 3) {
        require(request_count < REQUESTS_MAX && one.tokens > 0, "too many requests, or one without tokens");
        requests[request_count++] = one;
    }
    require(feof(file) && request_count > 0, "a line of the file of requests is not three numbers, or there is none");
    fclose(file);
}

static void begin(void)
{
    char line[32];
    puts("ready");
    fflush(stdout);
    require(fgets(line, sizeof line, stdin) != NULL, "nobody said that it should begin");
    uint64_t at_ns = strtoull(line, NULL, 10);
    for (unsigned i = 0; i < request_count; i++) {
        requests[i].arrival_ns += at_ns;
    }
    sleep_until(at_ns);
}

static void finish(void)
{
    require(driver.synchronize() == 0, "a kernel failed");
}

/* Its prompt: all of it is submitted at once, and its end is its first token. */
static void prefill(struct request *request, void *kernel)
{
    for (unsigned i = 0; i < request->prefills; i++) {
        launch_kernel(kernel);
    }
    finish();
    request->first_ns = now_ns();
    request->given = 1;
}

static void answer(const struct request *request)
{
    printf("%u %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", (unsigned)(request - requests), request->arrival_ns, request->first_ns, now_ns());
}

/* Take those out that have all their tokens; how many are left. */
static unsigned sweep(struct request **active, unsigned count)
{
    unsigned left = 0;
    for (unsigned i = 0; i < count; i++) {
        if (active[i]->given >= active[i]->tokens) {
            answer(active[i]);
        } else {
            active[left++] = active[i];
        }
    }
    if (left < count) {
        fflush(stdout);
    }
    return left;
}

static void serve(void *prefill_kernel, void *step_kernel, unsigned batch)
{
    struct request *active[BATCH_MAX];
    unsigned count = 0;
    unsigned next = 0;
    while (!stopping && (count > 0 || next < request_count)) {
        if (count == 0) {
            sleep_until(requests[next].arrival_ns);
        }
        while (count < batch && next < request_count && requests[next].arrival_ns <= now_ns()) {
            active[count++] = &requests[next];
            prefill(&requests[next++], prefill_kernel);
        }
        count = sweep(active, count);
        if (count > 0) {
            launch_kernel(step_kernel);
            finish();
            for (unsigned i = 0; i < count; i++) {
                active[i]->given++;
            }
            count = sweep(active, count);
        }
    }
}

int main(int argc, char **argv)
{
    require(argc == 5, "usage: server PREFILL_KERNEL STEP_KERNEL BATCH FILE");
    unsigned batch = (unsigned)strtoul(argv[3], NULL, 10);
    require(batch >= 1 && batch <= BATCH_MAX, "BATCH is 1 to 256");
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    read_requests(argv[4]);
    open_driver();
    void *prefill_kernel = load_kernel(argv[1]);
    void *step_kernel = load_kernel(argv[2]);
    launch_kernel(prefill_kernel); /* warm, as a server is before it takes requests */
    launch_kernel(step_kernel);
    finish();
    begin();
    serve(prefill_kernel, step_kernel, batch);
    free(requests);
    return 0;
}
