/* SPDX-License-Identifier: Apache-2.0
 *
 * V, the measure of packing.h. The loops over shapes have no branches and no order that matters, for the compiler to do as many at
 * once as the machine can: what they give is the same to the last bit, since nothing is fused and every sum is exact.
 */
#include "internal.h"

#include <math.h>
#include <string.h>

/* How often a need goes into what is free, none of it (0) without end. A quotient of whole numbers below 2^24 that is not whole is
 * not rounded up to one: truncation is division's floor. Written as a sum, since gcc 12 keeps a branch for the plain choice. */
static inline float times(float free, float need)
{
    float some = need > 1.0f ? need : 1.0f;
    return (float)(int32_t)(free / some) + (need > 0.0f ? 0.0f : INFINITY);
}

/* Where the loader can choose (glibc on x86-64), the loops are there three times, for vectors of 4, 8 and 16. Sanitizers are not
 * ready yet when it does. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GLIBC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define MICA_WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define MICA_WIDE
#endif

/* How often a shape goes into a device. */
static inline float copies_of(float vram, float share, float need_vram, float need_share, float devices)
{
    float by_vram = times(vram, need_vram), by_share = times(share, need_share);
    float copies = by_vram < by_share ? by_vram : by_share;
    float most = devices > 1.0f ? 1.0f : INFINITY;
    return copies < most ? copies : most;
}

/* What one shape adds to V, its part of what is free. `hosted`: how often the node's own CPU and memory go into it. */
static inline int32_t term(float weight, float usable, float copies, float devices, float hosted, float bounded)
{
    float sets = copies / devices;
    float part = hosted / (sets > 1.0f ? sets : 1.0f);
    part = part > bounded ? part : bounded;
    part = part < 1.0f ? part : 1.0f;
    float least = sets < hosted ? sets : hosted;
    return (int32_t)(weight * usable * part * (least >= 1.0f ? 1.0f : 0.0f));
}

static float bounded_by(int32_t rule)
{
    return rule == MICA_PACKING_VALUE ? 0.0f : 1.0f;
}

MICA_WIDE void mica_packing_room_add(struct mica_packing_room *restrict room, const struct mica_packing_mix *restrict mix,
                                     const struct mica_packing_device *restrict device, float sign)
{
    int32_t milli = mica_packing_milli(device), shapes = mix->shapes;
    float signed_milli = sign * (float)milli, vram = (float)device->vram_mib, share = (float)device->share_ppm;
    const float *need_vram = mix->vram_mib + (int64_t)device->kind * shapes;
    const float *need_share = mix->share_ppm + (int64_t)device->kind * shapes;
    const float *devices = mix->devices;
    for (int32_t m = 0; m < shapes; m++) {
        float copies = copies_of(vram, share, need_vram[m], need_share[m], devices[m]);
        room->copies[m] += sign * copies;
        room->usable[m] += copies > 0.0f ? signed_milli : 0.0f;
    }
    room->free_milli += (int32_t)sign * milli;
}

MICA_WIDE void mica_packing_hosted(struct mica_packing_hosted *restrict hosted, const struct mica_packing_mix *restrict mix,
                                   int32_t cpu_milli, int32_t memory_mib)
{
    float cpu = (float)cpu_milli, memory = (float)memory_mib;
    const float *need_cpu = mix->cpu_milli, *need_memory = mix->memory_mib;
    for (int32_t m = 0; m < mix->shapes; m++) {
        float by_cpu = times(cpu, need_cpu[m]), by_memory = times(memory, need_memory[m]);
        hosted->times[m] = by_cpu < by_memory ? by_cpu : by_memory;
    }
}

MICA_WIDE int64_t mica_packing_room_value(const struct mica_packing_room *restrict room, const struct mica_packing_mix *restrict mix,
                                          const struct mica_packing_hosted *restrict hosted, int32_t rule)
{
    if (room->free_milli == 0)
        return 0;
    int32_t sum = 0;
    float bounded = bounded_by(rule);
    const float *weight = mix->weight, *devices = mix->devices;
    for (int32_t m = 0; m < mix->shapes; m++)
        sum += term(weight[m], room->usable[m], room->copies[m], devices[m], hosted->times[m], bounded);
    return (int64_t)sum - (int64_t)room->free_milli * MICA_PACKING_SCALE;
}

MICA_WIDE int64_t mica_packing_changed_value(const struct mica_packing_room *restrict room, const struct mica_packing_mix *restrict mix,
                                             const struct mica_packing_hosted *restrict hosted, int32_t rule,
                                             const struct mica_packing_device *restrict was, const struct mica_packing_device *restrict is)
{
    int32_t milli_was = mica_packing_milli(was), milli_is = mica_packing_milli(is), free_milli = room->free_milli - milli_was + milli_is;
    if (free_milli == 0)
        return 0;
    int32_t sum = 0, shapes = mix->shapes;
    float bounded = bounded_by(rule), usable_was = (float)milli_was, usable_is = (float)milli_is;
    float vram_was = (float)was->vram_mib, share_was = (float)was->share_ppm, vram_is = (float)is->vram_mib, share_is = (float)is->share_ppm;
    const float *need_vram = mix->vram_mib + (int64_t)was->kind * shapes;
    const float *need_share = mix->share_ppm + (int64_t)was->kind * shapes;
    const float *weight = mix->weight, *devices = mix->devices;
    for (int32_t m = 0; m < shapes; m++) {
        float before = copies_of(vram_was, share_was, need_vram[m], need_share[m], devices[m]);
        float after = copies_of(vram_is, share_is, need_vram[m], need_share[m], devices[m]);
        float usable = room->usable[m] - (before > 0.0f ? usable_was : 0.0f) + (after > 0.0f ? usable_is : 0.0f);
        sum += term(weight[m], usable, room->copies[m] - before + after, devices[m], hosted->times[m], bounded);
    }
    return (int64_t)sum - (int64_t)free_milli * MICA_PACKING_SCALE;
}

int64_t mica_packing_value(const struct mica_packing_board *board, const struct mica_packing_mix *mix, int32_t rule, int32_t node)
{
    struct mica_packing_room room;
    mica_packing_room_empty(&room, mix);
    for (int32_t d = board->first[node]; d < board->first[node + 1]; d++) {
        struct mica_packing_device device = {board->vram_mib[d], board->share_ppm[d], board->vram_whole_mib[d], board->kind[d]};
        mica_packing_room_add(&room, mix, &device, 1.0f);
    }
    struct mica_packing_hosted hosted;
    mica_packing_hosted(&hosted, mix, board->cpu_milli[node], board->memory_mib[node]);
    return mica_packing_room_value(&room, mix, &hosted, rule);
}
