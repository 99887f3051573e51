/* SPDX-License-Identifier: Apache-2.0 */
#include "part.h"

#include <stdio.h>
#include <unistd.h>

unsigned mica_part_units(const struct mica_slice_limits *limits, unsigned count, unsigned *first)
{
    uint64_t begin = limits->spatial_offset_ppm;
    uint64_t end = begin + limits->spatial_ppm;
    unsigned from = count;
    unsigned chosen = 0;
    for (unsigned i = 0; i < count; i++) {
        uint64_t middle = (2 * (uint64_t)i + 1) * MICA_PPM / (2 * (uint64_t)count);
        if (middle >= begin && middle < end) {
            from = chosen == 0 ? i : from;
            chosen++;
        }
    }
    if (chosen == 0) {
        from = (unsigned)(begin * count / MICA_PPM);
        from = from < count ? from : count - 1;
        chosen = 1;
    }
    *first = from;
    return chosen;
}

uint64_t mica_part_device_ns(const struct mica_device *device, uint64_t elapsed_ns)
{
    uint64_t part_ppm = atomic_load_explicit(&device->part_ppm, memory_order_relaxed);
    return part_ppm != 0 && part_ppm < MICA_PPM ? (uint64_t)((unsigned __int128)elapsed_ns * part_ppm / MICA_PPM) : elapsed_ns;
}

void mica_part_missing(const struct mica_device *device, const char *what, int result)
{
    char line[256];
    int length = snprintf(line, sizeof line, "mica: device %s: no part of its own for this slice: %s answered %d; the rate limit holds its share\n",
                          device->id, what, result);
    ssize_t written = write(STDERR_FILENO, line, (size_t)length);
    (void)written;
}
