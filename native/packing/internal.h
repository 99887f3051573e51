/* SPDX-License-Identifier: Apache-2.0
 *
 * What value.c works out for choose.c: one node taken apart by the shapes of a mix.
 */
#ifndef MICA_PACKING_INTERNAL_H
#define MICA_PACKING_INTERNAL_H

#include "packing.h"

#include <string.h>

/* What the devices of a node have for each shape: the compute of those with room for it (thousandths), and how often it fits. */
struct mica_packing_room {
    float usable[MICA_PACKING_SHAPES_MAX];
    float copies[MICA_PACKING_SHAPES_MAX];
    int32_t free_milli;
};

/* A device as it is, or as it would be. */
struct mica_packing_device {
    int32_t vram_mib;
    int32_t share_ppm;
    int32_t vram_whole_mib;
    int32_t kind;
};

/* Free compute in thousandths of a device: the mean of its free memory and its free compute. */
static inline int32_t mica_packing_milli(const struct mica_packing_device *device)
{
    int64_t memory = (int64_t)device->vram_mib * 1000 / device->vram_whole_mib;
    return (int32_t)((memory + device->share_ppm / 1000) / 2);
}

/* How often a node's own CPU and memory go into each shape. */
struct mica_packing_hosted {
    float times[MICA_PACKING_SHAPES_MAX];
};

/* No devices. Only what the mix has shapes for is set. */
static inline void mica_packing_room_empty(struct mica_packing_room *room, const struct mica_packing_mix *mix)
{
    memset(room->usable, 0, sizeof *room->usable * (size_t)mix->shapes);
    memset(room->copies, 0, sizeof *room->copies * (size_t)mix->shapes);
    room->free_milli = 0;
}

/* Add a device `sign` (1 or -1) times. Sums are of whole numbers below 2^24, exact in a float in whatever order. */
void mica_packing_room_add(struct mica_packing_room *restrict room, const struct mica_packing_mix *restrict mix,
                           const struct mica_packing_device *restrict device, float sign);

void mica_packing_hosted(struct mica_packing_hosted *restrict hosted, const struct mica_packing_mix *restrict mix, int32_t cpu_milli,
                         int32_t memory_mib);

int64_t mica_packing_room_value(const struct mica_packing_room *restrict room, const struct mica_packing_mix *restrict mix,
                                const struct mica_packing_hosted *restrict hosted, int32_t rule);

/* The same with one device in another state than it was in; it stays of its kind. */
int64_t mica_packing_changed_value(const struct mica_packing_room *restrict room, const struct mica_packing_mix *restrict mix,
                                   const struct mica_packing_hosted *restrict hosted, int32_t rule,
                                   const struct mica_packing_device *restrict was, const struct mica_packing_device *restrict is);

#endif
