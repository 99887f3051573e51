/* SPDX-License-Identifier: Apache-2.0
 *
 * Arrays: device memory in a layout of the driver's own. What is charged is what the descriptor asks for: elements times their size.
 */
#include "memory.h"

#define CU_AD_FORMAT_UNSIGNED_INT8 0x01
#define CU_AD_FORMAT_UNSIGNED_INT16 0x02
#define CU_AD_FORMAT_UNSIGNED_INT32 0x03
#define CU_AD_FORMAT_SIGNED_INT8 0x08
#define CU_AD_FORMAT_SIGNED_INT16 0x09
#define CU_AD_FORMAT_SIGNED_INT32 0x0a
#define CU_AD_FORMAT_HALF 0x10
#define CU_AD_FORMAT_FLOAT 0x20

struct shape {
    uint64_t width, height, depth; /* in elements; 0 means that the dimension is not there */
    int format;
    unsigned int channels;
};

/* Bytes of one channel of one element. Formats of video and of block compression hold no more than four. */
static uint64_t channel_bytes(int format)
{
    switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8:
        return 1;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF:
        return 2;
    default:
        return 4;
    }
}

static uint64_t at_least_one(uint64_t extent)
{
    return extent != 0 ? extent : 1;
}

static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t product = 0;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t shape_bytes(const struct shape *shape)
{
    uint64_t elements = times(times(at_least_one(shape->width), at_least_one(shape->height)), at_least_one(shape->depth));
    return times(elements, at_least_one(shape->channels) * channel_bytes(shape->format));
}

/* Every level has half the extents of the one before. */
static uint64_t mipmap_bytes(struct shape shape, unsigned int levels)
{
    uint64_t total = 0;
    for (unsigned int level = 0; level < levels && level < 64; level++) {
        if (__builtin_add_overflow(total, shape_bytes(&shape), &total)) {
            return UINT64_MAX;
        }
        shape.width /= 2;
        shape.height /= 2;
        shape.depth /= 2;
    }
    return total;
}

static void undo_array(uint64_t array)
{
    (void)below_cuArrayDestroy((CUarray)(uintptr_t)array);
}

static void undo_mipmap(uint64_t array)
{
    (void)below_cuMipmappedArrayDestroy((CUmipmappedArray)(uintptr_t)array);
}

#define FLAT(d) {.width = (d)->Width, .height = (d)->Height, .format = (d)->Format, .channels = (d)->NumChannels}
#define DEEP(d) {.width = (d)->Width, .height = (d)->Height, .depth = (d)->Depth, .format = (d)->Format, .channels = (d)->NumChannels}

/* A hook that creates an array of the shape that its descriptor tells. */
#define CREATE_HOOK(name, array_type, descriptor_type, shape_of)                                              \
    EXPORT CUresult name(array_type *array, const descriptor_type *descriptor)                                \
    {                                                                                                         \
        if (array == NULL || descriptor == NULL) {                                                            \
            return CUDA_ERROR_INVALID_VALUE;                                                                  \
        }                                                                                                     \
        struct shape shape = shape_of(descriptor);                                                            \
        struct grant grant = grant_take(shape_bytes(&shape));                                                 \
        if (grant.result != CUDA_SUCCESS) {                                                                   \
            return grant.result;                                                                              \
        }                                                                                                     \
        CUresult result = below_##name(array, descriptor);                                                    \
        return grant_keep(&grant, result, KIND_ARRAY, result == CUDA_SUCCESS ? (uint64_t)(uintptr_t)*array : 0, undo_array); \
    }

CREATE_HOOK(cuArrayCreate, CUarray, CUDA_ARRAY_DESCRIPTOR_v1, FLAT)
CREATE_HOOK(cuArrayCreate_v2, CUarray, CUDA_ARRAY_DESCRIPTOR, FLAT)
CREATE_HOOK(cuArray3DCreate, CUarray, CUDA_ARRAY3D_DESCRIPTOR_v1, DEEP)
CREATE_HOOK(cuArray3DCreate_v2, CUarray, CUDA_ARRAY3D_DESCRIPTOR, DEEP)

EXPORT CUresult cuMipmappedArrayCreate(CUmipmappedArray *array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor, unsigned int levels)
{
    if (array == NULL || descriptor == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    struct shape shape = DEEP(descriptor);
    struct grant grant = grant_take(mipmap_bytes(shape, levels));
    if (grant.result != CUDA_SUCCESS) {
        return grant.result;
    }
    CUresult result = below_cuMipmappedArrayCreate(array, descriptor, levels);
    return grant_keep(&grant, result, KIND_ARRAY, result == CUDA_SUCCESS ? (uint64_t)(uintptr_t)*array : 0, undo_mipmap);
}
