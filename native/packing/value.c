/* SPDX-License-Identifier: Apache-2.0
 *
 * V, the measure of packing.h. The loops over shapes have no branches and no order that matters, for the compiler to do four at once.
 */
#include "internal.h"

#include <math.h>
#include <string.h>

/* How often a need goes into what is free, none of it (0) without end. A quotient of whole numbers below 2^24 that is not whole is
 * not rounded up to one: truncation is division's floor. */
static inline float times(float free, float need)
{
    return need > 0.0f ? (float)(int32_t)(free / need) : INFINITY;
}

void mica_packing_room_add(struct mica_packing_room *room, const struct mica_packing_mix *mix, const struct mica_packing_device *device,
                           float sign)
{
    int32_t milli = mica_packing_milli(device);
    float signed_milli = sign * (float)milli, vram = (float)device->vram_mib, share = (float)device->share_ppm;
    const float *need_vram = mix->vram_mib + (int64_t)device->kind * mix->shapes;
    const float *need_share = mix->share_ppm + (int64_t)device->kind * mix->shapes;
    for (int32_t m = 0; m < mix->shapes; m++) {
        float by_vram = times(vram, need_vram[m]), by_share = times(share, need_share[m]);
        float copies = by_vram < by_share ? by_vram : by_share;
        float most = mix->devices[m] > 1.0f ? 1.0f : copies;
        copies = copies < most ? copies : most;
        room->copies[m] += sign * copies;
        room->usable[m] += copies > 0.0f ? signed_milli : 0.0f;
    }
    room->free_milli += (int32_t)sign * milli;
}

int64_t mica_packing_room_value(const struct mica_packing_room *room, const struct mica_packing_mix *mix, int32_t rule, int32_t cpu_milli,
                                int32_t memory_mib)
{
    if (room->free_milli == 0)
        return 0;
    int32_t sum = 0;
    float cpu = (float)cpu_milli, memory = (float)memory_mib, bounded = rule == MICA_PACKING_VALUE ? 0.0f : 1.0f;
    for (int32_t m = 0; m < mix->shapes; m++) {
        float by_cpu = times(cpu, mix->cpu_milli[m]), by_memory = times(memory, mix->memory_mib[m]);
        float hosted = by_cpu < by_memory ? by_cpu : by_memory;
        float sets = room->copies[m] / mix->devices[m];
        float part = hosted / (sets > 1.0f ? sets : 1.0f);
        part = part > bounded ? part : bounded;
        part = part < 1.0f ? part : 1.0f;
        float term = mix->weight[m] * room->usable[m] * part;
        sum += sets >= 1.0f && hosted >= 1.0f ? (int32_t)term : 0;
    }
    return (int64_t)sum - (int64_t)room->free_milli * MICA_PACKING_SCALE;
}

int64_t mica_packing_value(const struct mica_packing_board *board, const struct mica_packing_mix *mix, int32_t rule, int32_t node)
{
    struct mica_packing_room room;
    memset(&room, 0, sizeof room);
    for (int32_t d = board->first[node]; d < board->first[node + 1]; d++) {
        struct mica_packing_device device = {board->vram_mib[d], board->share_ppm[d], board->vram_whole_mib[d], board->kind[d]};
        mica_packing_room_add(&room, mix, &device, 1.0f);
    }
    return mica_packing_room_value(&room, mix, rule, board->cpu_milli[node], board->memory_mib[node]);
}
