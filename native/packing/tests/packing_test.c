/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernel alone, under the sanitizers too: largest nodes and mixes, kinds that nothing may go to, random fleets. Its choices are
 * compared with the rules in tests/property/packing.
 */
#define _GNU_SOURCE
#include "packing/packing.h"
#include "tests/check.h"

#include <math.h>

#define NODES 5
#define KINDS 3
#define DEVICES (NODES * MICA_PACKING_DEVICES_MAX)

static int32_t first[NODES + 1], cpu[NODES], memory[NODES], vram[DEVICES], share[DEVICES], whole[DEVICES];
static int16_t kind[DEVICES];
static uint32_t version[NODES];
static struct mica_packing_board board = {NODES, KINDS, first, cpu, memory, version, vram, share, whole, kind};

static float weight[MICA_PACKING_SHAPES_MAX], mix_cpu[MICA_PACKING_SHAPES_MAX], mix_memory[MICA_PACKING_SHAPES_MAX];
static float mix_devices[MICA_PACKING_SHAPES_MAX], mix_vram[KINDS * MICA_PACKING_SHAPES_MAX], mix_share[KINDS * MICA_PACKING_SHAPES_MAX];
static struct mica_packing_mix mix = {MICA_PACKING_SHAPES_MAX, weight, mix_cpu, mix_memory, mix_devices, mix_vram, mix_share};

static uint32_t cache_version[NODES];
static int32_t cache_score[NODES];
static int16_t cache_device[NODES];
static struct mica_packing_cache cache = {cache_version, cache_score, cache_device};

static uint64_t state = 42;

static int32_t draw(int32_t below)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (int32_t)((state >> 33) % (uint64_t)below);
}

static void fill_board(void)
{
    for (int32_t node = 0; node < NODES; node++) {
        first[node + 1] = first[node] + (node == 0 ? 0 : node == 1 ? MICA_PACKING_DEVICES_MAX : 8);
        cpu[node] = 64000;
        memory[node] = 262144;
        version[node] = 1;
    }
    for (int32_t d = 0; d < first[NODES]; d++) {
        kind[d] = (int16_t)draw(KINDS);
        whole[d] = vram[d] = 80000 + draw(100000);
        share[d] = 1000000;
    }
    for (int32_t m = 0; m < mix.shapes; m++) {
        weight[m] = (float)MICA_PACKING_SCALE / (float)mix.shapes;
        mix_cpu[m] = 1.0f + (float)draw(16000);
        mix_memory[m] = 1.0f + (float)draw(65536);
        mix_devices[m] = 1.0f + (float)draw(8);
        for (int32_t k = 0; k < KINDS; k++) {
            mix_vram[k * mix.shapes + m] = draw(4) == 0 ? INFINITY : 1.0f + (float)draw(80000);
            mix_share[k * mix.shapes + m] = 1.0f + (float)draw(1000000);
        }
    }
    memset(cache_version, 0, sizeof cache_version);
}

static void put_until_full(int32_t rule)
{
    fill_board();
    struct mica_packing_policy policy = {.rule = rule, .grain_milli = 120, .cpu_per_milli = 12, .node_cpu_milli = 64000, .node_devices = 64};
    int32_t put = 0;
    for (int32_t i = 0; i < 4000; i++) {
        int32_t vram_need[KINDS] = {draw(20000), draw(3) ? draw(20000) : -1, draw(20000)}, share_need[KINDS] = {10000, 200000, 30000};
        struct mica_packing_shape shape = {draw(200), draw(500), draw(4), vram_need, share_need};
        int16_t devices[MICA_PACKING_DEVICES_MAX] = {0};
        memset(cache_version, 0, sizeof cache_version); /* another shape */
        int32_t node = mica_packing_choose(&board, &mix, &policy, &shape, &cache, devices);
        if (node == MICA_PACKING_NOWHERE)
            continue;
        CHECK(mica_packing_fits(&board, &shape, node, devices));
        for (int32_t a = 0; a < shape.devices; a++)
            for (int32_t b = 0; b < a; b++)
                CHECK(devices[a] != devices[b]);
        mica_packing_take(&board, &shape, node, devices);
        put++;
    }
    CHECK(put > 300);
    for (int32_t d = 0; d < first[NODES]; d++)
        CHECK(vram[d] >= 0 && share[d] >= 0);
    for (int32_t node = 0; node < NODES; node++)
        CHECK(cpu[node] >= 0 && memory[node] >= 0);
}

static void test_random_fleets_by_value(void)
{
    put_until_full(MICA_PACKING_VALUE);
}

static void test_random_fleets_by_fgd(void)
{
    put_until_full(MICA_PACKING_FGD);
}

static void test_random_fleets_by_best_fit(void)
{
    put_until_full(MICA_PACKING_BEST_FIT);
}

static void test_too_many_devices_fit_nowhere(void)
{
    fill_board();
    struct mica_packing_policy policy = {.rule = MICA_PACKING_VALUE, .grain_milli = 120};
    int32_t need[KINDS] = {1, 1, 1};
    struct mica_packing_shape shape = {1, 1, MICA_PACKING_DEVICES_MAX + 1, need, need};
    int16_t devices[MICA_PACKING_DEVICES_MAX];
    CHECK_EQUAL(mica_packing_choose(&board, &mix, &policy, &shape, &cache, devices), MICA_PACKING_NOWHERE);
}

static void test_fill_is_one_choice_after_the_other(void)
{
    fill_board();
    struct mica_packing_policy policy = {.rule = MICA_PACKING_VALUE, .grain_milli = 120, .cpu_per_milli = 12};
    int32_t need_vram[KINDS] = {30000, 30000, -1}, need_share[KINDS] = {400000, 400000, 400000};
    struct mica_packing_shape shape = {100, 100, 1, need_vram, need_share};
    int32_t which[64] = {0}, node[64];
    int16_t device[64];
    CHECK_EQUAL(mica_packing_fill(&board, &mix, &policy, &shape, &cache, which, 64, node, device), 64);
    for (int32_t i = 63; i >= 0; i--)
        mica_packing_give(&board, &shape, node[i], &device[i]);
    for (int32_t i = 0; i < 64; i++) {
        int16_t devices[MICA_PACKING_DEVICES_MAX] = {0};
        CHECK_EQUAL(mica_packing_choose(&board, &mix, &policy, &shape, &cache, devices), node[i]);
        CHECK_EQUAL(devices[0], device[i]);
        mica_packing_take(&board, &shape, node[i], devices);
    }
}

static void test_room_and_the_freest_devices_are_what_a_look_at_each_finds(void)
{
    for (int32_t round = 0; round < 50; round++) {
        fill_board();
        for (int32_t d = 0; d < first[NODES]; d++) {
            vram[d] = draw(whole[d]);
            share[d] = draw(1000000);
            kind[d] = (int16_t)draw(KINDS - 1); /* none is of the last kind */
        }
        int32_t need_vram[KINDS] = {draw(80000), -1, 1}, need_share[KINDS] = {draw(500000), 0, 1};
        struct mica_packing_shape shape = {draw(2) ? 64001 : 1, 1, 1 + draw(3), need_vram, need_share};
        bool room[DEVICES], able[NODES];
        int32_t found = mica_packing_room(&board, &shape, room, able), wanted = 0;
        int32_t by_vram[KINDS], by_share[KINDS];
        mica_packing_freest(&board, by_vram, by_share);
        for (int32_t node = 0; node < NODES; node++) {
            int32_t devices = 0;
            for (int32_t d = first[node]; d < first[node + 1]; d++) {
                bool has = kind[d] == 0 && vram[d] >= need_vram[0] && share[d] >= need_share[0];
                CHECK_EQUAL(room[d], has);
                devices += has;
                CHECK(vram[by_vram[kind[d]]] >= vram[d] && share[by_share[kind[d]]] >= share[d]);
                CHECK(vram[by_vram[kind[d]]] > vram[d] || by_vram[kind[d]] <= d);
            }
            CHECK_EQUAL(able[node], devices >= shape.devices && shape.cpu_milli <= cpu[node]);
            wanted += able[node];
        }
        CHECK_EQUAL(found, wanted);
        CHECK_EQUAL(by_vram[KINDS - 1], MICA_PACKING_NOWHERE);
        CHECK_EQUAL(by_share[KINDS - 1], MICA_PACKING_NOWHERE);
        for (int32_t k = 0; k < KINDS - 1; k++)
            CHECK_EQUAL(kind[by_vram[k]], k);
    }
}

int main(void)
{
    check_run(test_random_fleets_by_value, "by value nothing is oversold and no device is taken twice");
    check_run(test_random_fleets_by_fgd, "by FGD neither");
    check_run(test_random_fleets_by_best_fit, "by best fit neither");
    check_run(test_too_many_devices_fit_nowhere, "more devices than a node can have fit nowhere");
    check_run(test_fill_is_one_choice_after_the_other, "filling is choosing one after the other");
    check_run(test_room_and_the_freest_devices_are_what_a_look_at_each_finds, "room and the freest devices are what a look at each finds");
    return check_finish();
}
