/* SPDX-License-Identifier: Apache-2.0
 *
 * The search for moves, under the sanitizers too: random fleets that are full, and what fits nowhere. What is found must be
 * possible when it is carried out, and looking for it must leave the board as it was. Its choices are compared with a search by
 * brute force in tests/property/packing.
 */
#define _GNU_SOURCE
#include "packing/moves.h"
#include "tests/check.h"

#include <string.h>

#define NODES 6
#define EACH 4
#define DEVICES (NODES * EACH)
#define SHAPES 12
#define RESIDENTS 400

static int32_t first[NODES + 1], cpu[NODES], memory[NODES], vram[DEVICES], share[DEVICES], whole[DEVICES];
static int16_t kind[DEVICES];
static uint32_t version[NODES];
static struct mica_packing_board board = {NODES, 1, first, cpu, memory, version, vram, share, whole, kind};

static float weight[SHAPES], mix_cpu[SHAPES], mix_memory[SHAPES], mix_devices[SHAPES], mix_vram[SHAPES], mix_share[SHAPES];
static struct mica_packing_mix mix = {SHAPES, weight, mix_cpu, mix_memory, mix_devices, mix_vram, mix_share};
static struct mica_packing_policy policy = {.rule = MICA_PACKING_VALUE, .grain_milli = 120, .cpu_per_milli = 12};

static int32_t need[SHAPES], need_share[SHAPES];
static struct mica_packing_shape shapes[SHAPES];
static uint32_t cache_version[SHAPES][NODES];
static int32_t cache_score[SHAPES][NODES];
static int16_t cache_device[SHAPES][NODES];
static struct mica_packing_cache caches[SHAPES];

static int32_t head[NODES], next[RESIDENTS], at[RESIDENTS], shape_of[RESIDENTS], residents_count;
static uint64_t devices_of[RESIDENTS];
static struct mica_packing_residents residents = {head, next, at, shape_of, devices_of};
static struct mica_packing_fleet fleet = {&board, &mix, &policy, shapes, caches, &residents};

static uint64_t state;

static int32_t draw(int32_t below)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (int32_t)((state >> 33) % (uint64_t)below);
}

static void change(int32_t shape, int32_t node, uint64_t mask, bool take)
{
    int16_t list[MICA_PACKING_DEVICES_MAX];
    int32_t count = 0;
    for (int16_t d = 0; d < MICA_PACKING_DEVICES_MAX; d++)
        if (mask >> d & 1)
            list[count++] = d;
    CHECK_EQUAL(count, shapes[shape].devices);
    if (take)
        CHECK(mica_packing_fits(&board, &shapes[shape], node, list));
    (take ? mica_packing_take : mica_packing_give)(&board, &shapes[shape], node, list);
}

static void fill(uint64_t seed, int32_t draws)
{
    state = seed;
    residents_count = 0;
    for (int32_t node = 0; node < NODES; node++) {
        first[node + 1] = first[node] + EACH;
        cpu[node] = 16000 + 16000 * draw(3);
        memory[node] = 65536;
        version[node] = 1;
        head[node] = -1;
    }
    for (int32_t d = 0; d < DEVICES; d++) {
        whole[d] = vram[d] = 1000;
        share[d] = 1000000;
    }
    for (int32_t s = 0; s < SHAPES; s++) {
        need[s] = 50 + 50 * draw(20);
        need_share[s] = need[s] * 1000;
        shapes[s] = (struct mica_packing_shape){500 * (1 + draw(12)), 1024, s % 6 == 5 ? 2 : s % 4 == 3 ? 0 : 1, &need[s], &need_share[s]};
        weight[s] = (float)MICA_PACKING_SCALE / SHAPES;
        mix_cpu[s] = (float)shapes[s].cpu_milli;
        mix_memory[s] = 1024.0f;
        mix_devices[s] = shapes[s].devices ? (float)shapes[s].devices : 1.0f;
        mix_vram[s] = (float)need[s];
        mix_share[s] = (float)need_share[s];
        caches[s] = (struct mica_packing_cache){cache_version[s], cache_score[s], cache_device[s]};
    }
    memset(cache_version, 0, sizeof cache_version);
    for (int32_t i = 0; i < draws; i++) {
        int16_t list[MICA_PACKING_DEVICES_MAX] = {0};
        int32_t shape = draw(SHAPES);
        int32_t node = mica_packing_choose(&board, &mix, &policy, &shapes[shape], &caches[shape], list);
        if (node == MICA_PACKING_NOWHERE)
            continue;
        int32_t place = residents_count++;
        at[place] = node;
        shape_of[place] = shape;
        devices_of[place] = 0;
        for (int32_t d = 0; d < shapes[shape].devices; d++)
            devices_of[place] |= UINT64_C(1) << list[d];
        next[place] = head[node];
        head[node] = place;
        mica_packing_take(&board, &shapes[shape], node, list);
    }
}

static int64_t value_of_all(void)
{
    int64_t sum = 0;
    for (int32_t node = 0; node < NODES; node++)
        sum += mica_packing_value(&board, &mix, policy.rule, node);
    return sum;
}

/* Carry it out step by step, each of which must be possible, and back again. */
static void carry_out(int32_t wanted, const struct mica_packing_rearrangement *found)
{
    int64_t before = value_of_all();
    for (int32_t i = 0; i < found->moves_count; i++)
        change(shape_of[found->moves[i].resident], at[found->moves[i].resident], devices_of[found->moves[i].resident], false);
    change(wanted, found->node, found->devices, true);
    for (int32_t i = 0; i < found->moves_count; i++)
        change(shape_of[found->moves[i].resident], found->moves[i].node, found->moves[i].devices, true);
    CHECK_EQUAL(value_of_all() - before, found->gain);
    for (int32_t i = 0; i < found->moves_count; i++)
        change(shape_of[found->moves[i].resident], found->moves[i].node, found->moves[i].devices, false);
    change(wanted, found->node, found->devices, false);
    for (int32_t i = 0; i < found->moves_count; i++)
        change(shape_of[found->moves[i].resident], at[found->moves[i].resident], devices_of[found->moves[i].resident], true);
}

static void test_what_is_found_can_be_done(void)
{
    int32_t by_count[MICA_PACKING_MOVES_MAX + 1] = {0};
    for (uint64_t seed = 1; seed <= 60; seed++) {
        fill(seed, RESIDENTS);
        for (int32_t wanted = 0; wanted < SHAPES; wanted++) {
            int16_t list[MICA_PACKING_DEVICES_MAX];
            if (mica_packing_choose(&board, &mix, &policy, &shapes[wanted], &caches[wanted], list) != MICA_PACKING_NOWHERE)
                continue;
            int32_t vram_before[DEVICES], cpu_before[NODES];
            memcpy(vram_before, vram, sizeof vram);
            memcpy(cpu_before, cpu, sizeof cpu);
            struct mica_packing_rearrangement found;
            bool any = mica_packing_make_room(&fleet, wanted, MICA_PACKING_MOVES_MAX, &found);
            CHECK(!memcmp(vram_before, vram, sizeof vram) && !memcmp(cpu_before, cpu, sizeof cpu));
            CHECK_EQUAL(any, found.moves_count > 0);
            by_count[found.moves_count]++;
            if (any)
                carry_out(wanted, &found);
        }
    }
    CHECK(by_count[1] > 0 && by_count[2] > 0);
}

static void test_nothing_may_move(void)
{
    fill(3, RESIDENTS);
    struct mica_packing_rearrangement found;
    for (int32_t wanted = 0; wanted < SHAPES; wanted++)
        CHECK(!mica_packing_make_room(&fleet, wanted, 0, &found));
}

static void test_a_best_move_gains_what_it_says(void)
{
    int32_t gained = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        fill(seed, 30);
        for (int32_t place = 0; place < residents_count; place++) {
            struct mica_packing_move move;
            int64_t before = value_of_all(), gain = mica_packing_best_move(&fleet, place, &move);
            CHECK_EQUAL(value_of_all(), before);
            if (gain == 0)
                continue;
            gained++;
            change(shape_of[place], at[place], devices_of[place], false);
            change(shape_of[place], move.node, move.devices, true);
            CHECK_EQUAL(value_of_all() - before, gain);
            change(shape_of[place], move.node, move.devices, false);
            change(shape_of[place], at[place], devices_of[place], true);
        }
    }
    CHECK(gained > 0);
}

int main(void)
{
    check_run(test_what_is_found_can_be_done, "what is found can be done, gains what it says, and looking for it changes nothing");
    check_run(test_nothing_may_move, "without moves there is no room");
    check_run(test_a_best_move_gains_what_it_says, "the best move of a resident gains what it says");
    return check_finish();
}
