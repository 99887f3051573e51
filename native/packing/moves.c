/* SPDX-License-Identifier: Apache-2.0
 *
 * Moves. A try changes the board, is judged, and is undone from its journal. How many tries one search makes is bounded, so that
 * the answer for a large fleet comes in time; which ones are made follows from the order of nodes and residents alone.
 */
#include "moves.h"

#include <string.h>


#define STEPS_MAX (2 * MICA_PACKING_MOVES_MAX + 2)
#define TRIES_MAX 1024
#define LOOKS_OF_FEW (1 << 21) /* sets and chains of one or two that are looked at */
#define LOOKS_OF_MANY (1 << 17)
#define EXITS_OF_SHAPE 2 /* residents of one shape that are looked at as the next of a chain */
#define EXITS_LIST 256
#define EXITS_MAX 64

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

/* Whose place a shape could take. */
struct exits {
    int32_t shape;
    int32_t count;
    int32_t list[EXITS_LIST];
};

struct search {
    const struct mica_packing_fleet *fleet;
    int32_t wanted;
    int32_t tries;
    int32_t looks;
    int32_t looks_max;
    int32_t steps_count;
    int32_t touched_count;
    struct step steps[STEPS_MAX];
    struct touched touched[STEPS_MAX];
    struct mica_packing_rearrangement now, best;
    int32_t exits_count;
    struct exits exits[EXITS_MAX];
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

/* Whether the node has another device with room for the resident. */
static bool may_shift(const struct mica_packing_fleet *fleet, int32_t resident)
{
    const struct mica_packing_board *board = fleet->board;
    const struct mica_packing_shape *shape = &fleet->shapes[fleet->residents->shape[resident]];
    int32_t first = board->first[fleet->residents->node[resident]], last = board->first[fleet->residents->node[resident] + 1];
    for (int32_t d = first; d < last && shape->devices == 1; d++) {
        int32_t vram = shape->vram_mib[board->kind[d]];
        if (!(fleet->residents->devices[resident] >> (d - first) & 1) && vram >= 0 && board->vram_mib[d] >= vram &&
            board->share_ppm[d] >= shape->share_ppm[board->kind[d]])
            return true;
    }
    return false;
}

/* A resident may leave when there is room for it elsewhere, or on another device of its own node. */
static bool may_leave(struct search *search, int32_t resident)
{
    return is_able(search, search->fleet->residents->shape[resident]) || may_shift(search->fleet, resident);
}

static void grow_set(struct search *search, int32_t node, int32_t *gone, int32_t gone_count, int32_t wanted_count)
{
    const struct mica_packing_residents *residents = search->fleet->residents;
    int32_t next = gone_count == 0 ? residents->head[node] : residents->next[gone[gone_count - 1]];
    for (; next >= 0 && search->tries < TRIES_MAX && search->looks < search->looks_max; next = residents->next[next]) {
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

/* The last of a chain has to leave first where they go one by one. */
static void turn_round(struct mica_packing_rearrangement *now)
{
    for (int32_t i = 0, j = now->moves_count - 1; i < j; i++, j--) {
        struct mica_packing_move move = now->moves[i];
        now->moves[i] = now->moves[j];
        now->moves[j] = move;
    }
}

/* The first leaves for the shape and takes the place of the second, and so on; the last goes where it is best then, perhaps where
 * the first was. */
static void try_chain(struct search *search, const int32_t *chain, int32_t count)
{
    const struct mica_packing_residents *residents = search->fleet->residents;
    search->tries++;
    search->now.node = residents->node[chain[0]];
    for (int32_t i = 0; i < count; i++)
        lift(search, chain[i]);
    bool found = enter(search, search->wanted, search->now.node, &search->now.devices);
    search->now.moves_count = 0;
    for (int32_t i = 0; i < count - 1 && found; i++) {
        struct mica_packing_move *move = &search->now.moves[search->now.moves_count++];
        *move = (struct mica_packing_move){chain[i], residents->node[chain[i + 1]], 0};
        found = enter(search, residents->shape[chain[i]], move->node, &move->devices);
    }
    if (found && settle(search, chain[count - 1])) {
        turn_round(&search->now);
        judge(search);
    }
    undo(search);
}

/* Residents in whose place the shape would fit, at most EXITS_OF_SHAPE of each of their shapes. */
static const struct exits *exits_of(struct search *search, int32_t shape)
{
    const struct mica_packing_fleet *fleet = search->fleet;
    for (int32_t i = 0; i < search->exits_count; i++) {
        if (search->exits[i].shape == shape)
            return &search->exits[i];
    }
    if (search->exits_count == EXITS_MAX)
        return NULL;
    struct exits *exits = &search->exits[search->exits_count++];
    int8_t seen[MICA_PACKING_STANDING_MAX] = {0};
    exits->shape = shape;
    for (int32_t node = 0; node < fleet->board->nodes; node++) {
        if (!may_hold(fleet, shape, node))
            continue;
        for (int32_t each = fleet->residents->head[node]; each >= 0 && exits->count < EXITS_LIST; each = fleet->residents->next[each]) {
            int32_t other = fleet->residents->shape[each];
            if (other == shape || seen[other] >= EXITS_OF_SHAPE || !would_fit(fleet, shape, node, &each, 1))
                continue;
            seen[other]++;
            exits->list[exits->count++] = each;
        }
    }
    return exits;
}

static int32_t ones(uint64_t bits_set)
{
    int32_t count = 0;
    for (; bits_set; bits_set &= bits_set - 1)
        count++;
    return count;
}

/* Whether the second and the wanted shape would both fit where the first leaves. */
static bool may_swap(const struct search *search, int32_t first, int32_t second)
{
    const struct mica_packing_fleet *fleet = search->fleet;
    const struct mica_packing_board *board = fleet->board;
    const struct mica_packing_residents *residents = fleet->residents;
    const struct mica_packing_shape *wanted = &fleet->shapes[search->wanted], *leaves = &fleet->shapes[residents->shape[first]];
    const struct mica_packing_shape *comes = &fleet->shapes[residents->shape[second]];
    int32_t node = residents->node[first];
    if (board->cpu_milli[node] + leaves->cpu_milli < wanted->cpu_milli + comes->cpu_milli ||
        board->memory_mib[node] + leaves->memory_mib < wanted->memory_mib + comes->memory_mib)
        return false;
    uint64_t for_wanted = 0, for_comes = 0, for_both = 0;
    for (int32_t d = board->first[node]; d < board->first[node + 1]; d++) {
        int32_t kind = board->kind[d], vram = board->vram_mib[d], share = board->share_ppm[d];
        uint64_t bit = UINT64_C(1) << (d - board->first[node]);
        vram += residents->devices[first] & bit ? leaves->vram_mib[kind] : 0;
        share += residents->devices[first] & bit ? leaves->share_ppm[kind] : 0;
        bool fits_wanted = wanted->vram_mib[kind] >= 0 && vram >= wanted->vram_mib[kind] && share >= wanted->share_ppm[kind];
        bool fits_comes = comes->vram_mib[kind] >= 0 && vram >= comes->vram_mib[kind] && share >= comes->share_ppm[kind];
        for_wanted |= fits_wanted ? bit : 0;
        for_comes |= fits_comes ? bit : 0;
        for_both |= fits_wanted && fits_comes && vram >= wanted->vram_mib[kind] + comes->vram_mib[kind] &&
                            share >= wanted->share_ppm[kind] + comes->share_ppm[kind] ? bit : 0;
    }
    return ones(for_wanted) >= wanted->devices && ones(for_comes) >= comes->devices &&
           (for_both || comes->devices == 0 || ones(for_wanted | for_comes) >= wanted->devices + comes->devices);
}

static bool may_close(struct search *search, int32_t first, int32_t last)
{
    return is_able(search, search->fleet->residents->shape[last]) || may_swap(search, first, last);
}

static bool is_apart(const struct search *search, const int32_t *chain, int32_t count, int32_t next)
{
    const int32_t *node = search->fleet->residents->node;
    for (int32_t i = 0; i < count; i++) {
        if (node[chain[i]] == node[next])
            return false;
    }
    return true;
}

static void grow_chain(struct search *search, int32_t *chain, int32_t count, int32_t wanted_count)
{
    const struct exits *exits = exits_of(search, search->fleet->residents->shape[chain[count - 1]]);
    for (int32_t i = 0; exits && i < exits->count && search->tries < TRIES_MAX && search->looks < search->looks_max; i++) {
        chain[count] = exits->list[i];
        search->looks++;
        if (!is_apart(search, chain, count, chain[count]))
            continue;
        if (count + 1 < wanted_count)
            grow_chain(search, chain, count + 1, wanted_count);
        else if (may_close(search, chain[0], chain[count]))
            try_chain(search, chain, wanted_count);
    }
}

static void chains_of(struct search *search, int32_t wanted_count)
{
    const struct mica_packing_fleet *fleet = search->fleet;
    int32_t chain[MICA_PACKING_MOVES_MAX];
    for (int32_t node = 0; node < fleet->board->nodes; node++) {
        if (!may_hold(fleet, search->wanted, node))
            continue;
        for (int32_t first = fleet->residents->head[node]; first >= 0; first = fleet->residents->next[first]) {
            chain[0] = first;
            if (would_fit(fleet, search->wanted, node, &first, 1))
                grow_chain(search, chain, 1, wanted_count);
        }
    }
}

bool mica_packing_make_room(const struct mica_packing_fleet *fleet, int32_t shape, int32_t moves_max,
                            struct mica_packing_rearrangement *found)
{
    struct search search = {.fleet = fleet, .wanted = shape};
    memset(search.able, -1, sizeof search.able);
    for (int32_t count = 1; count <= moves_max && count <= MICA_PACKING_MOVES_MAX && search.best.moves_count == 0; count++) {
        search.looks_max = count <= 2 ? LOOKS_OF_FEW : LOOKS_OF_MANY;
        search.tries = search.looks = 0;
        sets_of(&search, count);
        search.tries = search.looks = 0;
        if (count > 1)
            chains_of(&search, count);
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
