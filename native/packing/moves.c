/* SPDX-License-Identifier: Apache-2.0
 *
 * Moves. A try changes the board, is judged, and is undone from its journal. How many tries one search makes is bounded, so that
 * the answer for a large fleet comes in time; which ones are made follows from the order of nodes and residents alone.
 */
#include "moves.h"

#include <string.h>

#define STEPS_MAX (2 * MICA_PACKING_MOVES_MAX + 2)
#define TRIES_MAX 4096  /* of one search for one number of moves */
#define LOOKS_MAX (1 << 19) /* the same, of sets that are only looked at */
#define EXITS_MAX 2     /* residents of one shape that are looked at as the second of a chain */
#define EXITS_ALL 512

struct step {
    int32_t shape;
    int32_t node;
    uint64_t devices;
    bool taken;
};

struct touched {
    int32_t node;
    int64_t before;
};

struct search {
    const struct mica_packing_fleet *fleet;
    int32_t wanted;
    int32_t tries;
    int32_t looks;
    int32_t steps_count;
    int32_t touched_count;
    struct step steps[STEPS_MAX];
    struct touched touched[STEPS_MAX];
    struct mica_packing_rearrangement now, best;
    /* By shape, once asked: whether it fits somewhere as things are. */
    int8_t able[MICA_PACKING_STANDING_MAX];
};

static int32_t listed(uint64_t devices, int16_t *list)
{
    int32_t count = 0;
    for (int32_t d = 0; d < MICA_PACKING_DEVICES_MAX; d++) {
        if (devices >> d & 1)
            list[count++] = (int16_t)d;
    }
    return count;
}

static uint64_t bits(const int16_t *list, int32_t count)
{
    uint64_t devices = 0;
    for (int32_t i = 0; i < count; i++)
        devices |= UINT64_C(1) << list[i];
    return devices;
}

static int64_t value(const struct mica_packing_fleet *fleet, int32_t node)
{
    return mica_packing_value(fleet->board, fleet->mix, fleet->policy->rule, node);
}

static void touch(struct search *search, int32_t node)
{
    for (int32_t i = 0; i < search->touched_count; i++) {
        if (search->touched[i].node == node)
            return;
    }
    search->touched[search->touched_count++] = (struct touched){node, value(search->fleet, node)};
}

static void apply(const struct search *search, const struct step *step, bool take)
{
    int16_t devices[MICA_PACKING_DEVICES_MAX];
    listed(step->devices, devices);
    (take ? mica_packing_take : mica_packing_give)(search->fleet->board, &search->fleet->shapes[step->shape], step->node, devices);
}

static void push(struct search *search, struct step step)
{
    touch(search, step.node);
    apply(search, &step, step.taken);
    search->steps[search->steps_count++] = step;
}

static void undo(struct search *search)
{
    while (search->steps_count > 0) {
        const struct step *step = &search->steps[--search->steps_count];
        apply(search, step, !step->taken);
    }
    search->touched_count = 0;
}

static void lift(struct search *search, int32_t resident)
{
    const struct mica_packing_residents *residents = search->fleet->residents;
    push(search, (struct step){residents->shape[resident], residents->node[resident], residents->devices[resident], false});
}

/* Put the shape on that node, where it is best there. */
static bool enter(struct search *search, int32_t shape, int32_t node, uint64_t *devices)
{
    const struct mica_packing_fleet *fleet = search->fleet;
    int16_t list[MICA_PACKING_DEVICES_MAX] = {0};
    if (mica_packing_score(fleet->board, fleet->mix, fleet->policy, &fleet->shapes[shape], node, list) == INT32_MIN)
        return false;
    *devices = bits(list, fleet->shapes[shape].devices);
    push(search, (struct step){shape, node, *devices, true});
    return true;
}

/* Put the resident wherever it is best now; the move is noted. */
static bool settle(struct search *search, int32_t resident)
{
    const struct mica_packing_fleet *fleet = search->fleet;
    int32_t shape = fleet->residents->shape[resident];
    int16_t list[MICA_PACKING_DEVICES_MAX] = {0};
    int32_t node = mica_packing_choose(fleet->board, fleet->mix, fleet->policy, &fleet->shapes[shape], &fleet->caches[shape], list);
    if (node == MICA_PACKING_NOWHERE)
        return false;
    uint64_t devices = bits(list, fleet->shapes[shape].devices);
    push(search, (struct step){shape, node, devices, true});
    search->now.moves[search->now.moves_count++] = (struct mica_packing_move){resident, node, devices};
    return true;
}

static void judge(struct search *search)
{
    search->now.gain = 0;
    for (int32_t i = 0; i < search->touched_count; i++)
        search->now.gain += value(search->fleet, search->touched[i].node) - search->touched[i].before;
    if (search->best.moves_count == 0 || search->now.gain > search->best.gain)
        search->best = search->now;
}

static bool is_able(struct search *search, int32_t shape)
{
    if (search->able[shape] < 0) {
        const struct mica_packing_fleet *fleet = search->fleet;
        int16_t list[MICA_PACKING_DEVICES_MAX];
        int32_t node = mica_packing_choose(fleet->board, fleet->mix, fleet->policy, &fleet->shapes[shape], &fleet->caches[shape], list);
        search->able[shape] = node != MICA_PACKING_NOWHERE;
    }
    return search->able[shape] > 0;
}

/* Whether the shape would fit on the node without those residents of it. */
static bool would_fit(const struct mica_packing_fleet *fleet, int32_t shape, int32_t node, const int32_t *gone, int32_t gone_count)
{
    const struct mica_packing_board *board = fleet->board;
    const struct mica_packing_shape *wanted = &fleet->shapes[shape];
    int32_t cpu = board->cpu_milli[node] - wanted->cpu_milli, memory = board->memory_mib[node] - wanted->memory_mib, able = 0;
    for (int32_t i = 0; i < gone_count; i++) {
        cpu += fleet->shapes[fleet->residents->shape[gone[i]]].cpu_milli;
        memory += fleet->shapes[fleet->residents->shape[gone[i]]].memory_mib;
    }
    if (cpu < 0 || memory < 0)
        return false;
    for (int32_t d = board->first[node]; d < board->first[node + 1] && able < wanted->devices; d++) {
        int32_t kind = board->kind[d], vram = board->vram_mib[d], share = board->share_ppm[d];
        if (wanted->vram_mib[kind] < 0)
            continue;
        for (int32_t i = 0; i < gone_count; i++) {
            const struct mica_packing_shape *each = &fleet->shapes[fleet->residents->shape[gone[i]]];
            bool there = fleet->residents->devices[gone[i]] >> (d - board->first[node]) & 1;
            vram += there ? each->vram_mib[kind] : 0;
            share += there ? each->share_ppm[kind] : 0;
        }
        able += vram >= wanted->vram_mib[kind] && share >= wanted->share_ppm[kind];
    }
    return able >= wanted->devices;
}

static bool may_hold(const struct mica_packing_fleet *fleet, int32_t shape, int32_t node)
{
    const struct mica_packing_board *board = fleet->board;
    int32_t able = 0;
    for (int32_t d = board->first[node]; d < board->first[node + 1] && able < fleet->shapes[shape].devices; d++)
        able += fleet->shapes[shape].vram_mib[board->kind[d]] >= 0;
    return able >= fleet->shapes[shape].devices;
}

/* All of `gone` leave their node, the shape comes there, and each of them goes where it is best then. */
static void try_set(struct search *search, int32_t node, const int32_t *gone, int32_t gone_count)
{
    search->tries++;
    search->now.moves_count = 0;
    search->now.node = node;
    for (int32_t i = 0; i < gone_count; i++)
        lift(search, gone[i]);
    bool found = enter(search, search->wanted, node, &search->now.devices);
    for (int32_t i = 0; i < gone_count && found; i++)
        found = settle(search, gone[i]);
    if (found)
        judge(search);
    undo(search);
}

/* A resident may leave when there is room for it elsewhere, or on another device of its own node. */
static bool may_leave(struct search *search, int32_t resident)
{
    const struct mica_packing_fleet *fleet = search->fleet;
    int32_t shape = fleet->residents->shape[resident];
    if (is_able(search, shape))
        return true;
    return fleet->shapes[shape].devices == 1 && would_fit(fleet, shape, fleet->residents->node[resident], &resident, 1) &&
           fleet->board->first[fleet->residents->node[resident] + 1] - fleet->board->first[fleet->residents->node[resident]] > 1;
}

static void grow_set(struct search *search, int32_t node, int32_t *gone, int32_t gone_count, int32_t wanted_count)
{
    const struct mica_packing_residents *residents = search->fleet->residents;
    int32_t next = gone_count == 0 ? residents->head[node] : residents->next[gone[gone_count - 1]];
    for (; next >= 0 && search->tries < TRIES_MAX && search->looks < LOOKS_MAX; next = residents->next[next]) {
        search->looks++;
        if (!may_leave(search, next))
            continue;
        gone[gone_count] = next;
        if (gone_count + 1 < wanted_count)
            grow_set(search, node, gone, gone_count + 1, wanted_count);
        else if (would_fit(search->fleet, search->wanted, node, gone, wanted_count))
            try_set(search, node, gone, wanted_count);
    }
}

static void sets_of(struct search *search, int32_t wanted_count)
{
    int32_t gone[MICA_PACKING_MOVES_MAX];
    for (int32_t node = 0; node < search->fleet->board->nodes; node++) {
        if (may_hold(search->fleet, search->wanted, node))
            grow_set(search, node, gone, 0, wanted_count);
    }
}

/* One leaves for the shape, takes the place of another, and that one goes where it is best then: perhaps where the first was. */
static void try_chain(struct search *search, int32_t first, int32_t second)
{
    const struct mica_packing_residents *residents = search->fleet->residents;
    search->tries++;
    search->now.moves_count = 0;
    search->now.node = residents->node[first];
    lift(search, first);
    lift(search, second);
    uint64_t devices = 0;
    bool found = enter(search, search->wanted, search->now.node, &search->now.devices) &&
                 enter(search, residents->shape[first], residents->node[second], &devices) && settle(search, second);
    if (found) {
        search->now.moves[search->now.moves_count++] = (struct mica_packing_move){first, residents->node[second], devices};
        judge(search);
    }
    undo(search);
}

/* Residents in whose place the shape would fit, at most EXITS_MAX of each of their shapes. */
static int32_t exits_of(const struct mica_packing_fleet *fleet, int32_t shape, int32_t *exits)
{
    int8_t seen[MICA_PACKING_STANDING_MAX] = {0};
    int32_t count = 0;
    for (int32_t node = 0; node < fleet->board->nodes; node++) {
        if (!may_hold(fleet, shape, node))
            continue;
        for (int32_t each = fleet->residents->head[node]; each >= 0 && count < EXITS_ALL; each = fleet->residents->next[each]) {
            int32_t other = fleet->residents->shape[each];
            if (other == shape || seen[other] >= EXITS_MAX || !would_fit(fleet, shape, node, &each, 1))
                continue;
            seen[other]++;
            exits[count++] = each;
        }
    }
    return count;
}

/* Whether the second could go where the first was, as far as CPU and memory say, or somewhere else. */
static bool may_follow(struct search *search, int32_t first, int32_t second)
{
    const struct mica_packing_fleet *fleet = search->fleet;
    const struct mica_packing_residents *residents = fleet->residents;
    if (residents->node[first] == residents->node[second])
        return false;
    if (is_able(search, residents->shape[second]))
        return true;
    const struct mica_packing_shape *wanted = &fleet->shapes[search->wanted], *leaves = &fleet->shapes[residents->shape[first]];
    const struct mica_packing_shape *comes = &fleet->shapes[residents->shape[second]];
    int32_t node = residents->node[first];
    return fleet->board->cpu_milli[node] + leaves->cpu_milli - wanted->cpu_milli >= comes->cpu_milli &&
           fleet->board->memory_mib[node] + leaves->memory_mib - wanted->memory_mib >= comes->memory_mib;
}

static void chains_through(struct search *search, int32_t shape)
{
    const struct mica_packing_fleet *fleet = search->fleet;
    int32_t exits[EXITS_ALL], count = exits_of(fleet, shape, exits);
    for (int32_t node = 0; node < fleet->board->nodes && count > 0; node++) {
        for (int32_t first = fleet->residents->head[node]; first >= 0; first = fleet->residents->next[first]) {
            if (fleet->residents->shape[first] != shape || !would_fit(fleet, search->wanted, node, &first, 1))
                continue;
            for (int32_t i = 0; i < count && search->tries < TRIES_MAX; i++) {
                if (may_follow(search, first, exits[i]))
                    try_chain(search, first, exits[i]);
            }
        }
    }
}

static void chains(struct search *search)
{
    const struct mica_packing_fleet *fleet = search->fleet;
    bool seen[MICA_PACKING_STANDING_MAX] = {false};
    for (int32_t node = 0; node < fleet->board->nodes; node++) {
        if (!may_hold(fleet, search->wanted, node))
            continue;
        for (int32_t first = fleet->residents->head[node]; first >= 0; first = fleet->residents->next[first]) {
            int32_t shape = fleet->residents->shape[first];
            if (seen[shape] || search->tries >= TRIES_MAX || !would_fit(fleet, search->wanted, node, &first, 1))
                continue;
            seen[shape] = true;
            chains_through(search, shape);
        }
    }
}

bool mica_packing_make_room(const struct mica_packing_fleet *fleet, int32_t shape, int32_t moves_max,
                            struct mica_packing_rearrangement *found)
{
    struct search search = {.fleet = fleet, .wanted = shape};
    memset(search.able, -1, sizeof search.able);
    for (int32_t count = 1; count <= moves_max && count <= MICA_PACKING_MOVES_MAX && search.best.moves_count == 0; count++) {
        search.tries = search.looks = 0;
        sets_of(&search, count);
        if (count == 2) {
            search.tries = 0;
            chains(&search);
        }
    }
    *found = search.best;
    return search.best.moves_count > 0;
}

int64_t mica_packing_best_move(const struct mica_packing_fleet *fleet, int32_t resident, struct mica_packing_move *move)
{
    struct search search = {.fleet = fleet};
    lift(&search, resident);
    bool found = settle(&search, resident);
    if (found)
        judge(&search);
    undo(&search);
    *move = search.best.moves[0];
    return found && search.best.gain > 0 ? search.best.gain : 0;
}
