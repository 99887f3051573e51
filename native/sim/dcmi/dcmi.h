/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated libdcmi over the engine: card N is the node's Nth Ascend chip, with one NPU, number 0. Logical, physical and
 * card numbers are the same.
 */
#ifndef MICA_SIM_DCMI_H
#define MICA_SIM_DCMI_H

#include "../engine/engine.h"
#include "abi.h"

#define DCMI_API SIM_PUBLIC int
#define MIB (1ULL << 20)

/* A chip while the lock is held. */
struct npu_view {
    struct sim_state *state;
    int index; /* the engine's */
    int card;
    const struct sim_description *description;
    struct sim_device *device;
};

/* Take the lock for a call about a chip, once it answers; on an error it is not held. */
int npu_enter(int card, int device, struct npu_view *view);
/* Give the lock back, and `result`. */
int npu_leave(struct npu_view *view, int result);
/* The engine's number of a card, or -1. Needs dcmi_init. */
int npu_index(int card);
int npu_cards(void);
/* Whether dcmi_init was called. */
bool npu_ready(void);

/* What is spent of the whole chip, partitions included, in bytes. */
uint64_t npu_spent(const struct npu_view *view);
/* A profile that vNPUs are made of: not the chip as a whole. */
bool npu_template(const struct sim_profile *profile);

#define ENTER(card, device, valid)                                                                                                         \
    struct npu_view view;                                                                                                                 \
    if (!(valid))                                                                                                                          \
        return DCMI_INVALID_PARAMETER;                                                                                                     \
    int entered = npu_enter(card, device, &view);                                                                                         \
    if (entered)                                                                                                                           \
        return entered
#define LEAVE(result) return npu_leave(&view, result)

#endif
