/* SPDX-License-Identifier: Apache-2.0
 *
 * The least OpenCL target that the layer's C tests need: what lies below the layer, and what a test may tell it and ask it.
 *
 * Two platforms. The first has four devices, of which a slice has the second (by its UUID) and the fourth (by platform, name and ordinal); the default is the
 * first, which is another's. Commands run one after the other on a thread of the target's own, on a clock of its own, so that what they take is known exactly.
 */
#ifndef MICA_SHIM_TESTS_FAKE_OPENCL_H
#define MICA_SHIM_TESTS_FAKE_OPENCL_H

#include "../opencl/hooks.h"

#include <stdbool.h>

#define CL_INVALID_MEM_OBJECT (-38)
#define CL_DEVICE_TYPE_GPU (1ULL << 2)
#define CL_DEVICE_PARTITION_EQUALLY 0x1086
#define CL_QUEUE_REFERENCE_COUNT 0x1092
#define CL_QUEUE_SIZE 0x1094
#define CL_MEM_OBJECT_IMAGE1D 0x10F4

#define FAKE_PLATFORM "Fake platform"
#define FAKE_MEMORY_BYTES (1ULL << 40)
#define FAKE_ARGUMENTS_MAX 16

struct fake_table {
#define ENTRY(name) void *name;
#include "../opencl/dispatch.def"
#undef ENTRY
};
#define FAKE_ENTRIES (sizeof(struct fake_table) / sizeof(void *))

enum { FAKE_OTHER_GPU, FAKE_OWN_GPU, FAKE_OTHER_CPU, FAKE_OWN_CPU, FAKE_DEVICES };

/* A command as it reached the target: its arguments between the queue and the list of events that it waits for. */
struct fake_command {
    const char *name;
    size_t count;
    uint64_t arguments[FAKE_ARGUMENTS_MAX];
    cl_uint wait_count;
    const cl_event *waits;
};

const struct fake_table *fake_target(void);
cl_device_id fake_device(unsigned which);

/* How often a call was made. */
unsigned fake_asked(const char *name);
/* The next call of this name answers with the error and does nothing. */
void fake_fail(const char *name, cl_int error);
/* What the next memory object really takes. */
void fake_next_takes(size_t bytes);
/* Objects that the target has and nobody has taken down: contexts, queues, memory, events. */
long fake_living(void);
/* Bytes of its memory objects and of its shared virtual memory. */
uint64_t fake_living_bytes(void);
/* Called whenever memory was freed and its address may be given out again. NULL: nothing. */
void fake_after_free(void (*call)(void));

/* What commands take from now on, by the device's clock, and what they end with. */
void fake_command_takes(uint64_t ns);
void fake_command_ends(cl_int status);
/* While held, commands are taken and do not run. */
void fake_hold(bool is_held);
/* Wait until all commands have ended and their callbacks have returned. False: they do not. */
bool fake_finish(void);
struct fake_command fake_last(void);

/* --- Between the parts of the target ------------------------------------------------------------------------------------- */

/* Every call begins with it: counts, and answers what the call is to fail with. */
cl_int fake_begin(const char *name);
cl_int fake_give(const void *from, size_t size, size_t room, void *value, size_t *bytes);
void *fake_tell(cl_int *error, cl_int code);
void fake_count_living(int change);
void fake_memory_use(cl_mem memory);
void fake_memory_unuse(cl_mem memory);
bool fake_is_memory(cl_mem memory);
void fake_svm_free(void *pointer);
void fake_put_memory(struct fake_table *table);
void fake_put_work(struct fake_table *table);

/* Put a function into the table at the place of its name. The first is for those that the layer makes or answers, with the type that it knows them by. */
#define FAKE_PUT(name) FAKE_PUT_AS(name, __typeof__(((struct opencl_calls *)0)->name))
#define FAKE_PUT_OWN(name) FAKE_PUT_AS(name, __typeof__(&fake_##name))
#define FAKE_PUT_AS(name, type)                           \
    {                                                     \
        type function = fake_##name;                      \
        memcpy(&table->name, &function, sizeof function); \
    }

#endif
