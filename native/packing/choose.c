/* SPDX-License-Identifier: Apache-2.0
 *
 * Which node, and which of its devices. A node is scored anew only when its version is another than the cache's.
 */
#include "internal.h"

#include <math.h>
#include <string.h>

/* One node under one shape: its devices now, and where the best found so far would go. */
struct candidate {
    const struct mica_packing_board *board;
    const struct mica_packing_mix *mix;
    const struct mica_packing_policy *policy;
    const struct mica_packing_shape *shape;
    int32_t node;
    struct mica_packing_room room;
    struct mica_packing_hosted left; /* with the shape there */
    int64_t before;
    int32_t best;
};

static struct mica_packing_device device_at(const struct mica_packing_board *board, int32_t index)
{
    struct mica_packing_device device = {board->vram_mib[index], board->share_ppm[index], board->vram_whole_mib[index], board->kind[index]};
    return device;
}

static bool has_room(const struct mica_packing_board *board, const struct mica_packing_shape *shape, int32_t index)
{
    int32_t vram = shape->vram_mib[board->kind[index]];
    return vram >= 0 && board->vram_mib[index] >= vram && board->share_ppm[index] >= shape->share_ppm[board->kind[index]];
}

static bool same(const struct mica_packing_device *a, const struct mica_packing_device *b)
{
    return a->kind == b->kind && a->vram_mib == b->vram_mib && a->share_ppm == b->share_ppm && a->vram_whole_mib == b->vram_whole_mib;
}

static bool seen_before(const struct mica_packing_board *board, int32_t index, int32_t first)
{
    struct mica_packing_device device = device_at(board, index);
    for (int32_t d = first; d < index; d++) {
        struct mica_packing_device other = device_at(board, d);
        if (same(&device, &other))
            return true;
    }
    return false;
}

static int32_t steps(const struct mica_packing_policy *policy, int64_t gain)
{
    if (policy->rule == MICA_PACKING_FGD)
        return (int32_t)(100.0 / (1.0 + exp(-(double)gain / (1000.0 * MICA_PACKING_SCALE))));
    int64_t grain = (int64_t)policy->grain_milli * MICA_PACKING_SCALE;
    return (int32_t)(gain >= 0 ? gain / grain : -((grain - 1 - gain) / grain));
}

/* What V would be with the shape on those devices, less what it is. */
static int64_t gain(const struct candidate *candidate, const int16_t *devices)
{
    const struct mica_packing_board *board = candidate->board;
    const struct mica_packing_shape *shape = candidate->shape;
    const struct mica_packing_room *before = &candidate->room;
    struct mica_packing_room room;
    struct mica_packing_device was = {0}, is = {0};
    for (int32_t i = 0; i < shape->devices; i++) {
        if (i > 0) {
            if (i == 1)
                room = candidate->room;
            mica_packing_room_add(&room, candidate->mix, &was, -1.0f);
            mica_packing_room_add(&room, candidate->mix, &is, 1.0f);
            before = &room;
        }
        is = was = device_at(board, board->first[candidate->node] + devices[i]);
        is.vram_mib -= shape->vram_mib[is.kind];
        is.share_ppm -= shape->share_ppm[is.kind];
    }
    int32_t rule = candidate->policy->rule;
    int64_t value = shape->devices ? mica_packing_changed_value(before, candidate->mix, &candidate->left, rule, &was, &is)
                                   : mica_packing_room_value(before, candidate->mix, &candidate->left, rule);
    return value - candidate->before;
}

static void look(struct candidate *candidate)
{
    const struct mica_packing_board *board = candidate->board;
    const struct mica_packing_mix *mix = candidate->mix;
    int32_t cpu_milli = board->cpu_milli[candidate->node], memory_mib = board->memory_mib[candidate->node];
    mica_packing_room_empty(&candidate->room, mix);
    for (int32_t d = board->first[candidate->node]; d < board->first[candidate->node + 1]; d++) {
        struct mica_packing_device device = device_at(board, d);
        mica_packing_room_add(&candidate->room, mix, &device, 1.0f);
    }
    mica_packing_hosted(&candidate->left, mix, cpu_milli, memory_mib);
    candidate->before = mica_packing_room_value(&candidate->room, mix, &candidate->left, candidate->policy->rule);
    if (candidate->shape->cpu_milli || candidate->shape->memory_mib)
        mica_packing_hosted(&candidate->left, mix, cpu_milli - candidate->shape->cpu_milli, memory_mib - candidate->shape->memory_mib);
}

/* The first `devices` devices of one kind that have room, those with the least free first. */
static bool tightest(const struct candidate *candidate, int32_t kind, int16_t *devices)
{
    const struct mica_packing_board *board = candidate->board;
    int32_t first = board->first[candidate->node], last = board->first[candidate->node + 1], wanted = candidate->shape->devices, found = 0;
    int32_t milli[MICA_PACKING_DEVICES_MAX];
    for (int32_t d = first; d < last; d++) {
        if (board->kind[d] != kind || !has_room(board, candidate->shape, d))
            continue;
        struct mica_packing_device device = device_at(board, d);
        int32_t free_milli = mica_packing_milli(&device), at = found < wanted ? found++ : wanted;
        while (at > 0 && milli[at - 1] > free_milli) {
            if (at < wanted) {
                milli[at] = milli[at - 1];
                devices[at] = devices[at - 1];
            }
            at--;
        }
        if (at < wanted) {
            milli[at] = free_milli;
            devices[at] = (int16_t)(d - first);
        }
    }
    return found == wanted;
}

static int32_t best_fit(const struct candidate *candidate)
{
    const struct mica_packing_board *board = candidate->board;
    const struct mica_packing_shape *shape = candidate->shape;
    int32_t first = board->first[candidate->node], last = board->first[candidate->node + 1], left = 0, asked = 0;
    for (int32_t d = first; d < last; d++) {
        struct mica_packing_device device = device_at(board, d);
        left += mica_packing_milli(&device);
        asked = asked == 0 && shape->devices > 0 ? shape->share_ppm[board->kind[d]] / 1000 * shape->devices : asked;
    }
    double cpu = (double)(board->cpu_milli[candidate->node] - shape->cpu_milli) / candidate->policy->node_cpu_milli;
    double devices = (double)(left - asked) / (1000.0 * candidate->policy->node_devices);
    return (int32_t)(100.0 * (1.0 - 0.5 * cpu - 0.5 * devices));
}

static int32_t score_of(const struct candidate *candidate, const int16_t *devices)
{
    return candidate->policy->rule == MICA_PACKING_BEST_FIT ? best_fit(candidate) : steps(candidate->policy, gain(candidate, devices));
}

/* Where the CPU alone is asked for: nodes whose devices are all taken first, then those with the most CPU beside what is free of them. */
static int32_t score_without_devices(const struct candidate *candidate)
{
    if (candidate->policy->rule != MICA_PACKING_VALUE)
        return score_of(candidate, NULL);
    const struct mica_packing_board *board = candidate->board;
    int32_t left = 0;
    for (int32_t d = board->first[candidate->node]; d < board->first[candidate->node + 1]; d++) {
        struct mica_packing_device device = device_at(board, d);
        left += mica_packing_milli(&device);
    }
    return (left == 0 ? 1 << 30 : 0) + board->cpu_milli[candidate->node] - candidate->policy->cpu_per_milli * left;
}

static void take_better(struct candidate *candidate, const int16_t *found, int16_t *devices)
{
    int32_t score = score_of(candidate, found);
    if (score > candidate->best) {
        candidate->best = score;
        memcpy(devices, found, sizeof *devices * (size_t)candidate->shape->devices);
    }
}

static void score_one_device(struct candidate *candidate, int16_t *devices)
{
    const struct mica_packing_board *board = candidate->board;
    int32_t first = board->first[candidate->node], last = board->first[candidate->node + 1];
    int16_t tight[1];
    if (candidate->policy->rule == MICA_PACKING_BEST_FIT) { /* all devices alike to its score: the tightest, whatever its kind */
        int32_t least = INT32_MAX;
        for (int32_t d = first; d < last; d++) {
            struct mica_packing_device device = device_at(board, d);
            if (has_room(board, candidate->shape, d) && mica_packing_milli(&device) < least) {
                least = mica_packing_milli(&device);
                tight[0] = (int16_t)(d - first);
            }
        }
        if (least < INT32_MAX)
            take_better(candidate, tight, devices);
        return;
    }
    for (int32_t d = first; d < last; d++) {
        if (!has_room(board, candidate->shape, d) || seen_before(board, d, first))
            continue;
        tight[0] = (int16_t)(d - first);
        take_better(candidate, tight, devices);
    }
}

static void score_devices(struct candidate *candidate, int16_t *devices)
{
    const struct mica_packing_board *board = candidate->board;
    int16_t found[MICA_PACKING_DEVICES_MAX];
    for (int32_t d = board->first[candidate->node]; d < board->first[candidate->node + 1]; d++) {
        bool first_of_kind = true;
        for (int32_t e = board->first[candidate->node]; e < d && first_of_kind; e++)
            first_of_kind = board->kind[e] != board->kind[d];
        if (first_of_kind && tightest(candidate, board->kind[d], found))
            take_better(candidate, found, devices);
    }
}

int32_t mica_packing_score(const struct mica_packing_board *board, const struct mica_packing_mix *mix,
                           const struct mica_packing_policy *policy, const struct mica_packing_shape *shape, int32_t node,
                           int16_t *devices)
{
    if (board->cpu_milli[node] < shape->cpu_milli || board->memory_mib[node] < shape->memory_mib)
        return INT32_MIN;
    int32_t able = 0;
    for (int32_t d = board->first[node]; d < board->first[node + 1] && able < shape->devices; d++)
        able += has_room(board, shape, d);
    if (able < shape->devices || shape->devices > MICA_PACKING_DEVICES_MAX)
        return INT32_MIN;
    struct candidate candidate = {.board = board, .mix = mix, .policy = policy, .shape = shape, .node = node, .best = INT32_MIN};
    if (shape->devices == 0 && policy->rule == MICA_PACKING_VALUE)
        return score_without_devices(&candidate);
    if (policy->rule != MICA_PACKING_BEST_FIT)
        look(&candidate);
    if (shape->devices == 0)
        return score_without_devices(&candidate);
    if (shape->devices == 1)
        score_one_device(&candidate, devices);
    else
        score_devices(&candidate, devices);
    return candidate.best;
}

int64_t mica_packing_gain(const struct mica_packing_board *board, const struct mica_packing_mix *mix,
                          const struct mica_packing_policy *policy, const struct mica_packing_shape *shape, int32_t node,
                          const int16_t *devices)
{
    struct candidate candidate = {.board = board, .mix = mix, .policy = policy, .shape = shape, .node = node, .best = INT32_MIN};
    look(&candidate);
    return gain(&candidate, devices);
}

int32_t mica_packing_choose(const struct mica_packing_board *board, const struct mica_packing_mix *mix,
                            const struct mica_packing_policy *policy, const struct mica_packing_shape *shape,
                            const struct mica_packing_cache *cache, int16_t *devices)
{
    int32_t best = MICA_PACKING_NOWHERE, most = INT32_MIN;
    for (int32_t node = 0; node < board->nodes; node++) {
        if (cache->version[node] != board->version[node]) {
            int16_t found[MICA_PACKING_DEVICES_MAX] = {0};
            cache->score[node] = mica_packing_score(board, mix, policy, shape, node, found);
            cache->device[node] = found[0];
            cache->version[node] = board->version[node];
        }
        if (cache->score[node] > most) {
            most = cache->score[node];
            best = node;
        }
    }
    if (best == MICA_PACKING_NOWHERE || shape->devices == 0)
        return best;
    devices[0] = cache->device[best];
    if (shape->devices > 1)
        mica_packing_score(board, mix, policy, shape, best, devices);
    return best;
}

bool mica_packing_fits(const struct mica_packing_board *board, const struct mica_packing_shape *shape, int32_t node,
                       const int16_t *devices)
{
    if (board->cpu_milli[node] < shape->cpu_milli || board->memory_mib[node] < shape->memory_mib)
        return false;
    for (int32_t i = 0; i < shape->devices; i++) {
        if (!has_room(board, shape, board->first[node] + devices[i]))
            return false;
    }
    return true;
}

static void change(const struct mica_packing_board *board, const struct mica_packing_shape *shape, int32_t node, const int16_t *devices,
                   int32_t sign)
{
    board->cpu_milli[node] -= sign * shape->cpu_milli;
    board->memory_mib[node] -= sign * shape->memory_mib;
    for (int32_t i = 0; i < shape->devices; i++) {
        int32_t d = board->first[node] + devices[i];
        board->vram_mib[d] -= sign * shape->vram_mib[board->kind[d]];
        board->share_ppm[d] -= sign * shape->share_ppm[board->kind[d]];
    }
    board->version[node]++;
}

void mica_packing_take(const struct mica_packing_board *board, const struct mica_packing_shape *shape, int32_t node,
                       const int16_t *devices)
{
    change(board, shape, node, devices, 1);
}

void mica_packing_give(const struct mica_packing_board *board, const struct mica_packing_shape *shape, int32_t node,
                       const int16_t *devices)
{
    change(board, shape, node, devices, -1);
}

int32_t mica_packing_room(const struct mica_packing_board *board, const struct mica_packing_shape *shape, bool *room, bool *able)
{
    int32_t nodes = 0;
    for (int32_t node = 0; node < board->nodes; node++) {
        int32_t devices = 0;
        for (int32_t d = board->first[node]; d < board->first[node + 1]; d++) {
            room[d] = has_room(board, shape, d);
            devices += room[d];
        }
        able[node] = devices >= shape->devices && board->cpu_milli[node] >= shape->cpu_milli && board->memory_mib[node] >= shape->memory_mib;
        nodes += able[node];
    }
    return nodes;
}

void mica_packing_freest(const struct mica_packing_board *board, int32_t *by_vram, int32_t *by_share)
{
    for (int32_t kind = 0; kind < board->kinds; kind++)
        by_vram[kind] = by_share[kind] = MICA_PACKING_NOWHERE;
    for (int32_t d = 0; d < board->first[board->nodes]; d++) {
        int32_t *vram = &by_vram[board->kind[d]], *share = &by_share[board->kind[d]];
        if (*vram == MICA_PACKING_NOWHERE || board->vram_mib[d] > board->vram_mib[*vram])
            *vram = d;
        if (*share == MICA_PACKING_NOWHERE || board->share_ppm[d] > board->share_ppm[*share])
            *share = d;
    }
}

int32_t mica_packing_fill(const struct mica_packing_board *board, const struct mica_packing_mix *mix,
                          const struct mica_packing_policy *policy, const struct mica_packing_shape *shapes,
                          const struct mica_packing_cache *caches, const int32_t *which, int32_t count, int32_t *node, int16_t *device)
{
    int32_t put = 0;
    for (int32_t i = 0; i < count; i++) {
        int16_t devices[MICA_PACKING_DEVICES_MAX] = {0};
        const struct mica_packing_shape *shape = &shapes[which[i]];
        node[i] = mica_packing_choose(board, mix, policy, shape, &caches[which[i]], devices);
        device[i] = devices[0];
        if (node[i] == MICA_PACKING_NOWHERE)
            continue;
        mica_packing_take(board, shape, node[i], devices);
        put++;
    }
    return put;
}
