/* SPDX-License-Identifier: Apache-2.0 */
#include "weight.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define VARIABLE "MICA_WEIGHT"
#define WEIGHT_MAX 10000

static uint64_t own_weight(void)
{
    const char *text = getenv(VARIABLE);
    if (text == NULL || *text == '\0') {
        return MICA_WEIGHT_DEFAULT;
    }
    char *end;
    errno = 0;
    long weight = strtol(text, &end, 10);
    if (errno == 0 && *end == '\0' && weight >= 1 && weight <= WEIGHT_MAX) {
        return (uint64_t)weight;
    }
    return 0;
}

void mica_weigh(struct mica_device *device)
{
    static bool said;
    uint64_t weight = own_weight();
    if (weight == 0 && !said) {
        char line[160];
        int length = snprintf(line, sizeof line, "mica: %s is %.40s, allowed are 1 to %d; this process weighs %d\n", VARIABLE, getenv(VARIABLE), WEIGHT_MAX,
                              MICA_WEIGHT_DEFAULT);
        ssize_t written = write(STDERR_FILENO, line, (size_t)length);
        (void)written;
        said = true;
    }
    atomic_store_explicit(&device->usage->processes[device->slot].weight, weight != 0 ? weight : MICA_WEIGHT_DEFAULT, memory_order_relaxed);
}
