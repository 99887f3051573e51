/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies and fills, when the slice has a copy bandwidth. Without one they are handed on after a look at the slice's limits.
 */
#include "capture.h"
#include "context.h"

#include "../core/copy.h"

#define NO_STREAM ((CUstream)-1)
#define BOX_2D(copy) ((copy) != NULL ? (uint64_t)(copy)->WidthInBytes * (copy)->Height : 0)
#define BOX_3D(copy) ((copy) != NULL ? (uint64_t)(copy)->WidthInBytes * (copy)->Height * (copy)->Depth : 0)

static uint64_t sizes_sum(const size_t *sizes, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; sizes != NULL && i < count; i++) {
        bytes += sizes[i];
    }
    return bytes;
}

static uint64_t boxes_sum(const CUDA_MEMCPY3D_BATCH_OP *copies, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; copies != NULL && i < count; i++) {
        bytes += (uint64_t)copies[i].extent.width * copies[i].extent.height * copies[i].extent.depth;
    }
    return bytes;
}

static CUstream per_thread(CUstream stream)
{
    return stream == NULL ? CU_STREAM_PER_THREAD : stream;
}

/* The device that copies, when its copies are limited; NULL: hand the copy on, unless `*result` says otherwise. */
static struct mica_device *limited_device(CUstream stream, CUresult *result)
{
    *result = CUDA_SUCCESS;
    switch (door()) {
    case DOOR_PASS:
        return NULL;
    case DOOR_CLOSED:
        *result = CUDA_ERROR_NOT_PERMITTED;
        return NULL;
    default:
        break;
    }
    struct context *context = stream == NO_STREAM ? context_current() : context_of_stream(stream);
    if (context == NULL) {
        return NULL;
    }
    if (context->device == NULL) {
        *result = CUDA_ERROR_NOT_PERMITTED;
        return NULL;
    }
    return mica_copy_is_free(context->device) ? NULL : context->device;
}

static CUresult wait_for(struct mica_device *device, CUstream stream, uint64_t bytes)
{
    if (stream != NO_STREAM && capture_is_used() && capture_is_active(stream)) {
        return CUDA_SUCCESS; /* recorded, not run */
    }
    enum mica_verdict verdict = mica_copy_admit(device, bytes);
    return verdict == MICA_GRANTED ? CUDA_SUCCESS : verdict_result(verdict);
}

#define DEFINE(X, name, params, args, base, since, kind, on_stream, bytes_moved)      \
    EXPORT CUresult name params                                                       \
    {                                                                                 \
        CUresult result;                                                              \
        struct mica_device *limited = limited_device(on_stream, &result);             \
        if (limited != NULL) {                                                        \
            result = wait_for(limited, on_stream, bytes_moved);                       \
        }                                                                             \
        return result == CUDA_SUCCESS ? below_##name args : result;                   \
    }

COPIES(DEFINE, )
