/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver below the bench: one device, one context, and calls that cost a few nanoseconds, so that whatever stands above them is what is
 * measured. It keeps no books, and nothing is ever used up.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PUBLIC __attribute__((visibility("default")))
#define SUCCESS 0
#define INVALID_VALUE 1
#define VRAM_BYTES (1ULL << 40)
#define POOL_BYTES (1ULL << 30)
#define RELEASE_THRESHOLD 4 /* CU_MEMPOOL_ATTR_* */
#define RESERVED_MEM_CURRENT 5
#define ADDRESS_UNIT 512

/* GPU-6d696361-0000-4000-8000-0000000000be */
static const unsigned char uuid_bytes[16] = {'m', 'i', 'c', 'a', 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0xbe};
static uint64_t next_address = 0x7f0000000000ULL;
static char one_object; /* every handle points here */

static uint64_t taken(size_t bytes)
{
    return __atomic_fetch_add(&next_address, (bytes + ADDRESS_UNIT - 1) / ADDRESS_UNIT * ADDRESS_UNIT, __ATOMIC_RELAXED);
}

PUBLIC int cuInit(unsigned flags)
{
    return flags == 0 ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuDriverGetVersion(int *version)
{
    *version = 13000;
    return SUCCESS;
}

PUBLIC int cuDeviceGet(int *device, int ordinal)
{
    *device = ordinal;
    return ordinal == 0 ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuDeviceGetCount(int *count)
{
    *count = 1;
    return SUCCESS;
}

PUBLIC int cuDeviceGetUuid(void *uuid, int device)
{
    memcpy(uuid, uuid_bytes, sizeof uuid_bytes);
    return device == 0 ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuDeviceGetUuid_v2(void *uuid, int device)
{
    memcpy(uuid, uuid_bytes, sizeof uuid_bytes);
    return device == 0 ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    *bytes = VRAM_BYTES;
    return device == 0 ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuDevicePrimaryCtxRetain(void **context, int device)
{
    *context = &one_object;
    return device == 0 ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active)
{
    *flags = 0;
    *active = 1;
    return device == 0 ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuCtxSetCurrent(void *context)
{
    return context != NULL ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuCtxGetCurrent(void **context)
{
    *context = &one_object;
    return SUCCESS;
}

PUBLIC int cuCtxGetDevice(int *device)
{
    *device = 0;
    return SUCCESS;
}

PUBLIC int cuCtxSynchronize(void)
{
    return SUCCESS;
}

PUBLIC int cuMemAlloc_v2(uint64_t *address, size_t bytes)
{
    *address = taken(bytes);
    return SUCCESS;
}

PUBLIC int cuMemFree_v2(uint64_t address)
{
    return address != 0 ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuMemAllocAsync(uint64_t *address, size_t bytes, void *stream)
{
    (void)stream;
    *address = taken(bytes);
    return SUCCESS;
}

PUBLIC int cuMemFreeAsync(uint64_t address, void *stream)
{
    (void)stream;
    return address != 0 ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuDeviceGetMemPool(void **pool, int device)
{
    *pool = &one_object;
    return device == 0 ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuDeviceGetDefaultMemPool(void **pool, int device)
{
    return cuDeviceGetMemPool(pool, device);
}

/* A pool that is warm: it has reserved more than a batch takes, and keeps it. */
PUBLIC int cuMemPoolGetAttribute(void *pool, int attribute, void *value)
{
    (void)pool;
    *(uint64_t *)value = attribute == RELEASE_THRESHOLD ? UINT64_MAX : attribute == RESERVED_MEM_CURRENT ? POOL_BYTES : 0;
    return SUCCESS;
}

PUBLIC int cuMemPoolTrimTo(void *pool, size_t bytes)
{
    (void)bytes;
    return pool != NULL ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    *free_bytes = *total_bytes = VRAM_BYTES;
    return SUCCESS;
}

PUBLIC int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *stream, void **params, void **extra)
{
    (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared, (void)stream, (void)params, (void)extra;
    return function != NULL ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuEventCreate(void **event, unsigned flags)
{
    (void)flags;
    *event = &one_object;
    return SUCCESS;
}

PUBLIC int cuEventDestroy_v2(void *event)
{
    return event != NULL ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuEventRecord(void *event, void *stream)
{
    (void)stream;
    return event != NULL ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuEventQuery(void *event)
{
    return event != NULL ? SUCCESS : INVALID_VALUE;
}

PUBLIC int cuEventElapsedTime(float *milliseconds, void *start, void *end)
{
    (void)start;
    (void)end;
    *milliseconds = 0.000001F; /* 1 ns: a loop of launches stays within its budget */
    return SUCCESS;
}

PUBLIC int cuStreamIsCapturing(void *stream, int *status)
{
    (void)stream;
    *status = 0;
    return SUCCESS;
}

PUBLIC int cuThreadExchangeStreamCaptureMode(int *mode)
{
    *mode = 0;
    return SUCCESS;
}

/* What cuGetProcAddress answers with. */
#define CALLS(X) \
    X(cuInit) X(cuDriverGetVersion) X(cuDeviceGet) X(cuDeviceGetCount) X(cuDeviceGetUuid) X(cuDeviceGetUuid_v2) \
    X(cuDeviceTotalMem_v2) X(cuDevicePrimaryCtxRetain) X(cuDevicePrimaryCtxGetState) X(cuCtxSetCurrent) X(cuCtxGetCurrent) \
    X(cuCtxGetDevice) X(cuCtxSynchronize) X(cuMemAlloc_v2) X(cuMemFree_v2) X(cuMemAllocAsync) X(cuMemFreeAsync) X(cuDeviceGetMemPool) \
    X(cuDeviceGetDefaultMemPool) X(cuMemPoolGetAttribute) X(cuMemPoolTrimTo) X(cuMemGetInfo_v2) \
    X(cuLaunchKernel) X(cuEventCreate) X(cuEventDestroy_v2) X(cuEventRecord) X(cuEventQuery) X(cuEventElapsedTime) \
    X(cuStreamIsCapturing) X(cuThreadExchangeStreamCaptureMode)

/* Asked for a base name, a driver answers with the newest version. */
static int is_meant(const char *exported, const char *asked)
{
    size_t length = strlen(asked);
    return strncmp(exported, asked, length) == 0 && (exported[length] == '\0' || strcmp(exported + length, "_v2") == 0);
}

PUBLIC int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status)
{
    static const struct {
        const char *name;
        void *function;
    } calls[] = {
#define ROW(name) {#name, (void *)(uintptr_t)name},
        CALLS(ROW)};
#undef ROW
    (void)version, (void)flags;
    *function = NULL;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        if (is_meant(calls[i].name, symbol)) {
            *function = calls[i].function;
        }
    }
    *status = *function == NULL;
    return SUCCESS;
}
