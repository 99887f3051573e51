/* SPDX-License-Identifier: Apache-2.0
 *
 * Work: whatever a queue makes a device do. It is admitted before it is enqueued, at an estimate of its cost, and timed by the target's own profiling.
 */
#ifndef MICA_SHIM_OPENCL_WORK_H
#define MICA_SHIM_OPENCL_WORK_H

#include "../core/launch.h"
#include "layer.h"

/* One command on its way to a queue. */
struct command {
    struct mica_device *device; /* NULL: nothing is to be settled afterwards */
    struct mica_cost *cost;
    struct mica_work work;
    uint64_t key;
    cl_event event;   /* the layer's own, where the program wants none */
    uint32_t age;     /* see held_begin */
    bool is_followed; /* its end is to be seen */
    bool is_late;     /* it could not wait for its turn, and is charged when it has ended */
    bool in_order;    /* the command before it came from the same thread and queue */
};

/* Wait until the slice may enqueue work of this name (mica_cost_key: what it runs, and how large that is), and charge it. Anything but CL_SUCCESS: do not enqueue it. */
cl_int work_begin(struct command *command, cl_command_queue queue, uint64_t key);
/* Where the target is to put the command's event: where the program wants it (`event`), or the layer. */
cl_event *work_event(struct command *command, cl_event *event);
/* The target has the command, or (`result`) has not. */
cl_int work_end(struct command *command, cl_event *event, cl_int result);

/* Around a callback of the program's, which runs on the target's own thread: what it enqueues there does not wait. enter's answer is for leave. */
bool work_callback_enter(void);
void work_callback_leave(bool before);

/* In a forked child. */
void work_forget(void);

#endif
