/* SPDX-License-Identifier: Apache-2.0 */
#include "weight.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NS_PER_MS 1000000ULL

/* A number that the program's environment may hold. */
struct wish {
    const char *variable;
    long most;
    long unless_set;
    const char *otherwise; /* what holds when it holds no such number */
    bool said;
};

static struct wish weight = {.variable = "MICA_WEIGHT", .most = 10000, .unless_set = (long)MICA_WEIGHT_DEFAULT, .otherwise = "this process weighs 100"};
static struct wish deadline = {.variable = "MICA_DEADLINE_MS", .most = 60000, .unless_set = 0, .otherwise = "this process has no deadlines"};

static long value_of(struct wish *wish)
{
    const char *text = getenv(wish->variable);
    if (text == NULL || *text == '\0') {
        return wish->unless_set;
    }
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno == 0 && *end == '\0' && value >= 1 && value <= wish->most) {
        return value;
    }
    if (!wish->said) {
        char line[160];
        int length = snprintf(line, sizeof line, "mica: %s is %.40s, allowed are 1 to %ld; %s\n", wish->variable, text, wish->most, wish->otherwise);
        ssize_t written = write(STDERR_FILENO, line, (size_t)length);
        (void)written;
        wish->said = true;
    }
    return wish->unless_set;
}

void mica_weigh(struct mica_device *device)
{
    atomic_store_explicit(&device->usage->processes[device->slot].weight, (uint64_t)value_of(&weight), memory_order_relaxed);
    device->deadline_ns = (uint64_t)value_of(&deadline) * NS_PER_MS;
}
