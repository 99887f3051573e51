/* SPDX-License-Identifier: Apache-2.0
 *
 * What may be moved, and what that is good for. Two questions: which moves make room for a shape that fits nowhere, and which
 * single moves leave the fleet with more that is of use to what is expected.
 *
 * Pure as packing.h is: the board is changed while a search runs, and is as it was when it ends (its versions have grown). What
 * is found is a set: all of it leaves before any of it arrives. Ties go to the first node, and on it to the first resident.
 */
#ifndef MICA_PACKING_MOVES_H
#define MICA_PACKING_MOVES_H

#ifndef MICA_CFFI
#include "packing.h"
#endif

#define MICA_PACKING_MOVES_MAX 4 /* of one search */
#define MICA_PACKING_STANDING_MAX 4096 /* different shapes among residents and what room is made for */

/* Who is where. Residents of a node are a list in the order of `next`; -1 ends it. Bit d of `devices` is device d of the node. */
struct mica_packing_residents {
    int32_t *head;                  /* [nodes], the first of each */
    int32_t *next;                  /* [residents] */
    int32_t *node;                  /* [residents] */
    int32_t *shape;                 /* [residents], numbers of `shapes` */
    uint64_t *devices;              /* [residents] */
};

/* A board with all that stands on it. */
struct mica_packing_fleet {
    const struct mica_packing_board *board;
    const struct mica_packing_mix *mix;
    const struct mica_packing_policy *policy;
    const struct mica_packing_shape *shapes; /* at most MICA_PACKING_STANDING_MAX */
    const struct mica_packing_cache *caches; /* one of each shape */
    const struct mica_packing_residents *residents;
};

struct mica_packing_move {
    int32_t resident;
    int32_t node;                   /* where it goes, */
    uint64_t devices;               /* and to which of its devices */
};

struct mica_packing_rearrangement {
    int32_t moves_count;
    int32_t node;                   /* where the shape then goes, */
    uint64_t devices;               /* and to which of its devices */
    int64_t gain;                   /* V of all nodes after less before, the shape placed; units of packing.h */
    struct mica_packing_move moves[MICA_PACKING_MOVES_MAX];
};

/* The fewest moves, at most `moves_max`, that make room for the shape with that number, which fits nowhere; of as few, those that
 * leave V highest. False: none were found. Sets of residents of one node are tried, and chains: one leaves for the shape and takes the
 * place of the next, and the last goes where it is best then. A chain without a circle is listed in an order in which it can be done. */
bool mica_packing_make_room(const struct mica_packing_fleet *fleet, int32_t shape, int32_t moves_max,
                            struct mica_packing_rearrangement *found);

/* What one resident's best move gains (units of packing.h; 0: it is best where it is), and where to. */
int64_t mica_packing_best_move(const struct mica_packing_fleet *fleet, int32_t resident, struct mica_packing_move *move);

#endif
