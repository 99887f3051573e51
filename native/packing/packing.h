/* SPDX-License-Identifier: Apache-2.0
 *
 * Where work is best put in a large fleet: devices of nodes as arrays, and a measure of what a node is still good for.
 *
 * Pure: no function allocates, locks, logs or keeps anything; all memory is the caller's. Sums are of integers, so that the
 * same input gives the same choice whatever machine and compiler made this. Ties go to the node that comes first.
 *
 * The measure. Of every node one asks which of the shapes that are expected to come (a *mix*: shapes with their frequency) it
 * could still hold, and how much of its free compute they could use:
 *
 *        V(node) = -free + sum over shapes m of  w_m * usable_m * min(1, copies_by_cpu_m / copies_by_devices_m)
 *
 * where usable_m is what is free on the devices that have room for m. What a choice costs the future is V before less V after.
 * With the last factor left out it is the fragmentation measure of FGD (Weng et al., USENIX ATC'23, section 4.2).
 */
#ifndef MICA_PACKING_H
#define MICA_PACKING_H

#ifndef MICA_CFFI
#include <stdbool.h>
#include <stdint.h>
#endif

#define MICA_PACKING_DEVICES_MAX 64 /* of one node */
#define MICA_PACKING_SHAPES_MAX 256 /* of a mix */
#define MICA_PACKING_NOWHERE (-1)

/* What is free. Devices of node i are those from first[i] up to first[i + 1]. */
struct mica_packing_board {
    int32_t nodes;
    int32_t kinds;                  /* device kinds, such as models; from 0 */
    const int32_t *first;           /* [nodes + 1] */
    int32_t *cpu_milli;             /* [nodes], free */
    int32_t *memory_mib;            /* [nodes], free host memory */
    uint32_t *version;              /* [nodes], grows with every change of the node; from 1 */
    int32_t *vram_mib;              /* [devices], free */
    int32_t *share_ppm;             /* [devices], free compute */
    const int32_t *vram_whole_mib;  /* [devices], > 0 */
    const int16_t *kind;            /* [devices] */
};

/* What is to be put somewhere: `devices` devices of one node (0: none, the node's CPU alone) and something of each. */
struct mica_packing_shape {
    int32_t cpu_milli;
    int32_t memory_mib;
    int32_t devices;
    const int32_t *vram_mib;        /* [kinds], of each device; < 0: not on that kind */
    const int32_t *share_ppm;       /* [kinds] */
};

/* What is expected to come. Arrays of `shapes`, those by kind of [kinds * shapes], so that the inner loop is over shapes. What is
 * needed is whole numbers. */
struct mica_packing_mix {
    int32_t shapes;
    const float *weight;            /* their part of what comes, times MICA_PACKING_SCALE */
    const float *cpu_milli;         /* >= 0 */
    const float *memory_mib;        /* >= 0 */
    const float *devices;           /* >= 1 */
    const float *vram_mib;          /* [kinds * shapes], >= 0, one of both > 0; INFINITY: not on that kind */
    const float *share_ppm;         /* [kinds * shapes], >= 0 */
};

#define MICA_PACKING_SCALE 1024     /* units of V in a thousandth of a device */

enum mica_packing_rule {
    MICA_PACKING_VALUE = 0,         /* the measure above, in steps of `grain_milli` */
    MICA_PACKING_FGD = 1,           /* FGD as published: no CPU factor, and int(100 * sigmoid(gain / 1000)) */
    MICA_PACKING_BEST_FIT = 2       /* the least of CPU and devices left over, int(100 * (1 - half of each)) */
};

struct mica_packing_policy {
    int32_t rule;
    int32_t grain_milli;            /* of MICA_PACKING_VALUE: choices as good as one another to this many thousandths of a device tie */
    int32_t cpu_per_milli;          /* of MICA_PACKING_VALUE, without devices: CPU that goes with a free thousandth of a device */
    int32_t node_cpu_milli;         /* of MICA_PACKING_BEST_FIT: the largest node's CPU */
    int32_t node_devices;           /* of MICA_PACKING_BEST_FIT: the largest node's devices */
};

/* What was worked out for one shape, valid where `version` is the board's. Set `version` to zeros for an empty one. */
struct mica_packing_cache {
    uint32_t *version;              /* [nodes] */
    int32_t *score;                 /* [nodes], INT32_MIN: does not fit */
    int16_t *device;                /* [nodes], the first device taken, counted within the node */
};

/* V of a node, in units of 1 / MICA_PACKING_SCALE of a thousandth of a device. */
int64_t mica_packing_value(const struct mica_packing_board *board, const struct mica_packing_mix *mix, int32_t rule, int32_t node);

/* How good it would be to put the shape on that node (INT32_MIN: it does not fit), and on which devices, counted within the
 * node, in `devices` [MICA_PACKING_DEVICES_MAX]. */
int32_t mica_packing_score(const struct mica_packing_board *board, const struct mica_packing_mix *mix,
                           const struct mica_packing_policy *policy, const struct mica_packing_shape *shape, int32_t node,
                           int16_t *devices);

/* What V would be with the shape on exactly those devices of the node, where it fits, less what V is; units as above. */
int64_t mica_packing_gain(const struct mica_packing_board *board, const struct mica_packing_mix *mix,
                          const struct mica_packing_policy *policy, const struct mica_packing_shape *shape, int32_t node,
                          const int16_t *devices);

/* The best node for the shape, or MICA_PACKING_NOWHERE; its devices as above. Only nodes that have changed since the cache was
 * filled are scored again. */
int32_t mica_packing_choose(const struct mica_packing_board *board, const struct mica_packing_mix *mix,
                            const struct mica_packing_policy *policy, const struct mica_packing_shape *shape,
                            const struct mica_packing_cache *cache, int16_t *devices);

/* Whether the shape fits on exactly those devices of the node (for a shape without devices: on the node). */
bool mica_packing_fits(const struct mica_packing_board *board, const struct mica_packing_shape *shape, int32_t node,
                       const int16_t *devices);

/* Take what the shape needs from the node, or give it back. The caller knows that it fits, or that it was taken. */
void mica_packing_take(const struct mica_packing_board *board, const struct mica_packing_shape *shape, int32_t node,
                       const int16_t *devices);
void mica_packing_give(const struct mica_packing_board *board, const struct mica_packing_shape *shape, int32_t node,
                       const int16_t *devices);

/* Which devices have room for one of the shape's devices, in `room` [devices], and on which nodes so many have it as the shape wants,
 * of whatever kinds, beside what it wants of the node itself, in `able` [nodes]. Returns how many nodes that are. */
int32_t mica_packing_room(const struct mica_packing_board *board, const struct mica_packing_shape *shape, bool *room, bool *able);

/* Of every kind the device with the most free memory, and the one with the most free compute: their numbers on the board, the first
 * of equals, in `by_vram` and `by_share` [kinds]; MICA_PACKING_NOWHERE: no device is of that kind. */
void mica_packing_freest(const struct mica_packing_board *board, int32_t *by_vram, int32_t *by_share);

/* Put `count` shapes in the order of `which` (indices of `shapes` and `caches`), each where it is best then. `node` [count] and
 * `device` [count], the first one, say where; MICA_PACKING_NOWHERE: it fits nowhere. Returns how many were put. */
int32_t mica_packing_fill(const struct mica_packing_board *board, const struct mica_packing_mix *mix,
                          const struct mica_packing_policy *policy, const struct mica_packing_shape *shapes,
                          const struct mica_packing_cache *caches, const int32_t *which, int32_t count, int32_t *node, int16_t *device);

#endif
