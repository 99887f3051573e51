/* SPDX-License-Identifier: Apache-2.0
 *
 * The least libcuda that the shim's C tests and its bench need: one device, calls that cost next to nothing, and a
 * cuGetProcAddress that can answer with entry points other than those it exports. It shares no code with the shim.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PUBLIC __attribute__((visibility("default")))
#define SUCCESS 0
#define NOT_READY 600

/* GPU-00000000-0000-0000-0000-000000000001 */
static const unsigned char uuid_bytes[16] = {[15] = 1};
static uint64_t next_address = 0x7f0000000000ULL;
static char one_context;

PUBLIC int cuInit(unsigned flags)
{
    (void)flags;
    return SUCCESS;
}

PUBLIC int cuDeviceGetUuid(void *uuid, int device)
{
    (void)device;
    memcpy(uuid, uuid_bytes, sizeof uuid_bytes);
    return SUCCESS;
}

PUBLIC int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    (void)device;
    *bytes = 1ULL << 40;
    return SUCCESS;
}

PUBLIC int cuCtxGetCurrent(void **context)
{
    *context = &one_context;
    return SUCCESS;
}

PUBLIC int cuCtxGetDevice(int *device)
{
    *device = 0;
    return SUCCESS;
}

PUBLIC int cuCtxDestroy_v2(void *context)
{
    (void)context;
    return SUCCESS;
}

PUBLIC int cuMemAlloc_v2(uint64_t *address, size_t bytes)
{
    *address = __atomic_fetch_add(&next_address, (bytes + 511) / 512 * 512, __ATOMIC_RELAXED);
    return SUCCESS;
}

/* Of fake_pool.c. */
PUBLIC int cuMemFreeAsync(uint64_t address, void *stream);
void fake_pool_waited(void);

PUBLIC int cuMemFree_v2(uint64_t address)
{
    return cuMemFreeAsync(address, NULL) == SUCCESS || address != 0 ? SUCCESS : 1;
}

PUBLIC int cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    *free_bytes = *total_bytes = 1ULL << 40;
    return SUCCESS;
}

PUBLIC int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *stream,
                          void **params, void **extra)
{
    (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared, (void)stream, (void)params, (void)extra;
    return function != NULL ? SUCCESS : 1;
}

PUBLIC int cuEventCreate(void **event, unsigned flags)
{
    (void)flags;
    *event = &one_context;
    return SUCCESS;
}

static int records;
static int measurements;

PUBLIC int cuEventRecord(void *event, void *stream)
{
    (void)event, (void)stream;
    __atomic_fetch_add(&records, 1, __ATOMIC_SEQ_CST);
    return SUCCESS;
}

/* For tests: how many events were recorded in pairs and not measured yet. */
PUBLIC int fake_unmeasured(void)
{
    return __atomic_load_n(&records, __ATOMIC_SEQ_CST) - 2 * __atomic_load_n(&measurements, __ATOMIC_SEQ_CST);
}

static int are_unfinished; /* for tests: nothing that was launched ends */
static float elapsed_milliseconds = 0.00002F;

PUBLIC void fake_work(float milliseconds, int unfinished)
{
    __atomic_store(&elapsed_milliseconds, &milliseconds, __ATOMIC_SEQ_CST);
    __atomic_store_n(&are_unfinished, unfinished, __ATOMIC_SEQ_CST);
}

PUBLIC int cuEventQuery(void *event)
{
    (void)event;
    return __atomic_load_n(&are_unfinished, __ATOMIC_SEQ_CST) ? NOT_READY : SUCCESS;
}

PUBLIC int cuEventElapsedTime(float *milliseconds, void *start, void *end)
{
    (void)start, (void)end;
    __atomic_load(&elapsed_milliseconds, milliseconds, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&measurements, 1, __ATOMIC_SEQ_CST);
    return SUCCESS;
}

/* Passed through by the shim: eight integers, the last two on the stack, and floats in the vector registers. */
PUBLIC int cuTexRefSetMipmapLevelClamp(void *texture, float low, float high)
{
    return texture != NULL && low == 1.5F && high == 2.5F ? 77 : 78;
}

PUBLIC int cuGraphAddNode_v2(void *a, void *b, void *c, void *d, size_t e, void *f, void *g, void *h)
{
    return (uintptr_t)a == 1 && (uintptr_t)b == 2 && (uintptr_t)c == 3 && (uintptr_t)d == 4 && e == 5 && (uintptr_t)f == 6 && (uintptr_t)g == 7 &&
                   (uintptr_t)h == 8
               ? 79
               : 80;
}

PUBLIC int cuGetExportTable(const void **table, const void *id)
{
    *table = id;
    return 81;
}

/* An entry point that is not exported, as a driver is free to answer. */
static int inner_entry(void)
{
    return 999;
}

PUBLIC int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status)
{
    (void)version, (void)flags;
    *function = NULL;
    *status = 1;
    if (strcmp(symbol, "cuMemAlloc") == 0 || strcmp(symbol, "cuGraphInstantiate") == 0) {
        *function = (void *)(uintptr_t)inner_entry;
        *status = 0;
    }
    return SUCCESS;
}

/* --- Memory of other kinds; handles count up, and nothing checks them -------------------------------------------------------- */

static uint64_t next_handle = 0x1000;

PUBLIC int cuMemAllocManaged(uint64_t *address, size_t bytes, unsigned flags)
{
    (void)flags;
    return cuMemAlloc_v2(address, bytes);
}

PUBLIC int cuMemCreate(unsigned long long *handle, size_t bytes, const void *prop, unsigned long long flags)
{
    (void)bytes, (void)prop, (void)flags;
    *handle = __atomic_fetch_add(&next_handle, 1, __ATOMIC_RELAXED);
    return SUCCESS;
}

PUBLIC int cuMemRelease(unsigned long long handle)
{
    return handle != 0 ? SUCCESS : 1;
}

PUBLIC int cuMemMap(uint64_t address, size_t bytes, size_t offset, unsigned long long handle, unsigned long long flags)
{
    (void)address, (void)bytes, (void)offset, (void)handle, (void)flags;
    return SUCCESS;
}

PUBLIC int cuMemUnmap(uint64_t address, size_t bytes)
{
    (void)address, (void)bytes;
    return SUCCESS;
}

PUBLIC int cuMemRetainAllocationHandle(unsigned long long *handle, void *address)
{
    (void)address; /* whatever was made last lies there */
    *handle = next_handle - 1;
    return SUCCESS;
}

#define CREATE_ARRAY(name)                                  \
    PUBLIC int name(void **array, const void *descriptor)   \
    {                                                       \
        (void)descriptor;                                   \
        *array = (void *)(uintptr_t)next_handle++;          \
        return SUCCESS;                                     \
    }
CREATE_ARRAY(cuArrayCreate_v2)
CREATE_ARRAY(cuArray3DCreate_v2)

PUBLIC int cuArrayDestroy(void *array)
{
    return array != NULL ? SUCCESS : 1;
}

PUBLIC int cuMipmappedArrayCreate(void **array, const void *descriptor, unsigned levels)
{
    (void)levels;
    return cuArrayCreate_v2(array, descriptor);
}

PUBLIC int cuMipmappedArrayDestroy(void *array)
{
    return array != NULL ? SUCCESS : 1;
}

static int allocate_host(void **pointer, size_t bytes)
{
    uint64_t address = 0;
    int result = cuMemAlloc_v2(&address, bytes);
    *pointer = (void *)(uintptr_t)address;
    return result;
}

PUBLIC int cuMemAllocHost_v2(void **pointer, size_t bytes)
{
    return allocate_host(pointer, bytes);
}

PUBLIC int cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags)
{
    (void)flags;
    return allocate_host(pointer, bytes);
}

PUBLIC int cuMemFreeHost(void *pointer)
{
    return pointer != NULL ? SUCCESS : 1;
}

PUBLIC int cuMemHostRegister_v2(void *pointer, size_t bytes, unsigned flags)
{
    (void)bytes, (void)flags;
    return pointer != NULL ? SUCCESS : 1;
}

PUBLIC int cuMemHostUnregister(void *pointer)
{
    return pointer != NULL ? SUCCESS : 1;
}

/* Rows are padded to 256 bytes when they are short, and to 4096 when they are long. */
PUBLIC int cuMemAllocPitch_v2(uint64_t *address, size_t *pitch, size_t width, size_t height, unsigned element)
{
    size_t padding = width < 4096 ? 256 : 4096;
    (void)element;
    *pitch = (width + padding - 1) / padding * padding;
    return cuMemAlloc_v2(address, *pitch * height);
}

/* --- Capture and graphs: one stream, which captures between begin and end ------------------------------------------------------ */

static int is_capturing;
static int thread_mode; /* of all threads: musl takes no static TLS from a library that is loaded late */

PUBLIC int cuStreamBeginCapture_v2(void *stream, int mode)
{
    (void)stream, (void)mode;
    is_capturing = 1;
    return SUCCESS;
}

PUBLIC int cuStreamEndCapture(void *stream, void **graph)
{
    (void)stream;
    is_capturing = 0;
    *graph = &one_context;
    return SUCCESS;
}

PUBLIC int cuStreamIsCapturing(void *stream, int *status)
{
    (void)stream;
    *status = is_capturing;
    return SUCCESS;
}

PUBLIC int cuThreadExchangeStreamCaptureMode(int *mode)
{
    *mode = __atomic_exchange_n(&thread_mode, *mode, __ATOMIC_RELAXED);
    return SUCCESS;
}

/* Of fake_work.c: its allocation nodes get their memory. */
void fake_graph_launched(const void *executable);

PUBLIC int cuGraphLaunch(void *graph, void *stream)
{
    (void)stream;
    fake_graph_launched(graph);
    return SUCCESS;
}

PUBLIC int cuLaunchGrid(void *function, int width, int height)
{
    (void)function, (void)width, (void)height;
    return SUCCESS;
}

PUBLIC int cuCtxSynchronize(void)
{
    fake_pool_waited();
    return SUCCESS;
}

/* --- Green contexts: eight groups of four multiprocessors. A group's number travels inside its resource, a green context's in its handle. ---------------- */

#define GROUPS 8
#define GROUP_MULTIPROCESSORS 4

struct resource {
    int type;
    int group; /* inside of what the driver keeps to itself */
    unsigned char internal[88];
    unsigned multiprocessors;
    unsigned char external[44];
};

static struct green {
    unsigned first;
    unsigned count;
    int live;
} green; /* one at a time */
static unsigned primary_references;
static char primary_context;
static char green_context;

PUBLIC int cuDeviceGetDevResource(int device, struct resource *resource, int type)
{
    (void)device;
    *resource = (struct resource){.type = type, .multiprocessors = GROUPS * GROUP_MULTIPROCESSORS};
    return type == 1 ? SUCCESS : 1;
}

PUBLIC int cuDevSmResourceSplitByCount(struct resource *groups, unsigned *count, const struct resource *input, struct resource *rest, unsigned flags,
                                       unsigned smallest)
{
    (void)input, (void)rest, (void)flags, (void)smallest;
    *count = *count < GROUPS ? *count : GROUPS;
    for (unsigned i = 0; i < *count; i++) {
        groups[i] = (struct resource){.type = 1, .group = (int)i, .multiprocessors = GROUP_MULTIPROCESSORS};
    }
    return SUCCESS;
}

PUBLIC int cuDevResourceGenerateDesc(void **description, struct resource *resources, unsigned count)
{
    green = (struct green){.first = (unsigned)resources[0].group, .count = count};
    *description = &green;
    return SUCCESS;
}

PUBLIC int cuGreenCtxCreate(void **context, void *description, int device, unsigned flags)
{
    (void)device;
    green.live = 1;
    primary_references++;
    *context = description;
    return flags == 1 ? SUCCESS : 1;
}

PUBLIC int cuGreenCtxDestroy(void *context)
{
    (void)context;
    green.live = 0;
    primary_references--;
    return SUCCESS;
}

PUBLIC int cuCtxFromGreenCtx(void **context, void *of)
{
    (void)of;
    *context = &green_context;
    return SUCCESS;
}

PUBLIC int cuDevicePrimaryCtxRetain(void **context, int device)
{
    (void)device;
    primary_references++;
    *context = &primary_context;
    return SUCCESS;
}

PUBLIC int cuDevicePrimaryCtxRelease_v2(int device)
{
    (void)device;
    primary_references--;
    return SUCCESS;
}

PUBLIC int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active)
{
    (void)device;
    *flags = 0;
    *active = primary_references != 0;
    return SUCCESS;
}

/* For tests: what is in force. */
PUBLIC void fake_green(unsigned *first, unsigned *count, int *live, unsigned *references)
{
    *first = green.first;
    *count = green.count;
    *live = green.live;
    *references = primary_references;
}
