/* SPDX-License-Identifier: Apache-2.0
 *
 * Arrays: device memory in a layout of the driver's own. What is charged is what the descriptor asks for: texels times their size. The driver
 * tells what an array really takes only of those that have no memory of their own (deferred mapping): these cost nothing here, and what is mapped
 * to them later is charged as physical memory.
 */
#include "memory.h"

#define CUDA_ARRAY3D_LAYERED 0x01u
#define CUDA_ARRAY3D_CUBEMAP 0x04u
#define CUDA_ARRAY3D_SPARSE 0x40u
#define CUDA_ARRAY3D_DEFERRED_MAPPING 0x80u

struct shape {
    uint64_t width, height, depth; /* in texels; 0 means that the dimension is not there */
    int format;
    unsigned int channels;
    unsigned int flags;
};

/* What texels of a format take. */
struct texels {
    int first, last;      /* values of CUarray_format */
    unsigned char side;   /* texels are kept in blocks of side * side */
    bool is_per_channel;  /* else the format says it all, and the number of channels means nothing */
    unsigned char halves; /* half bytes for each channel of a texel, each texel, or each block */
};

static const struct texels formats[] = {
    {0x01, 0x01, 1, true, 2},   {0x02, 0x02, 1, true, 4},   {0x03, 0x03, 1, true, 8}, /* unsigned integers of 8, 16, 32 bits */
    {0x08, 0x08, 1, true, 2},   {0x09, 0x09, 1, true, 4},   {0x0a, 0x0a, 1, true, 8}, /* signed */
    {0x10, 0x10, 1, true, 4},   {0x20, 0x20, 1, true, 8},                             /* floats of 16, 32 bits */
    {0x50, 0x50, 1, false, 8},                                                        /* 10, 10, 10 and 2 bits */
    {0x51, 0x51, 1, false, 4},  {0x52, 0x52, 1, false, 8},                            /* packed 4:2:2, 4:4:4 */
    {0x53, 0x53, 1, false, 3},  {0x54, 0x54, 1, false, 6},                            /* semi-planar 4:2:0 of 8, 16 bits */
    {0x55, 0x55, 1, false, 4},  {0x56, 0x56, 1, false, 8},                            /* 4:2:2 */
    {0x57, 0x57, 1, false, 6},  {0x58, 0x58, 1, false, 12},                           /* 4:4:4 */
    {0x59, 0x59, 1, false, 3},  {0x5a, 0x5a, 1, false, 6},                            /* planar 4:2:0 */
    {0x5b, 0x5b, 1, false, 4},  {0x5c, 0x5c, 1, false, 8},                            /* 4:2:2 */
    {0x5d, 0x5d, 1, false, 6},  {0x5e, 0x5e, 1, false, 12},                           /* 4:4:4 */
    {0x91, 0x92, 4, false, 16}, {0x93, 0x96, 4, false, 32},                           /* BC1; BC2, BC3 */
    {0x97, 0x98, 4, false, 16}, {0x99, 0x9e, 4, false, 32},                           /* BC4; BC5, BC6H, BC7 */
    {0x9f, 0xa1, 1, false, 6},  {0xa2, 0xa2, 1, false, 4},                            /* P010, P016; NV16 */
    {0xa3, 0xa4, 1, false, 8},  {0xa5, 0xa5, 1, false, 4},                            /* P210, P216; YUY2 */
    {0xa6, 0xa9, 1, false, 8},  {0xb0, 0xb0, 1, false, 3},                            /* Y210, Y216, AYUV, Y410; NV12 */
    {0xb1, 0xb1, 1, false, 16}, {0xb2, 0xb2, 1, false, 6},                            /* Y416; Y444 planar of 8 bits */
    {0xb3, 0xb3, 1, false, 12}, {0xb4, 0xb4, 1, false, 6},                            /* of 10 bits; YUV444 semi-planar of 8 */
    {0xb5, 0xb5, 1, false, 12},                                                       /* of 16 bits */
    {0xc0, 0xc0, 1, false, 2},  {0xc1, 0xc1, 1, false, 4},  {0xc2, 0xc2, 1, false, 8}, /* normalised unsigned: 8 bits, 1, 2, 4 channels */
    {0xc3, 0xc3, 1, false, 4},  {0xc4, 0xc4, 1, false, 8},  {0xc5, 0xc5, 1, false, 16}, /* 16 bits */
    {0xc6, 0xc6, 1, false, 2},  {0xc7, 0xc7, 1, false, 4},  {0xc8, 0xc8, 1, false, 8},  /* normalised signed */
    {0xc9, 0xc9, 1, false, 4},  {0xca, 0xca, 1, false, 8},  {0xcb, 0xcb, 1, false, 16},
};

/* A format that is not known yet is taken for the largest there is. */
static const struct texels unknown_format = {0, 0, 1, false, 32};

static const struct texels *texels_of(int format)
{
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (format >= formats[i].first && format <= formats[i].last) {
            return &formats[i];
        }
    }
    return &unknown_format;
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

static uint64_t blocks(uint64_t extent, unsigned side)
{
    return at_least_one(extent / side + (extent % side != 0));
}

static bool has_memory(const struct shape *shape)
{
    return (shape->flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING)) == 0;
}

static uint64_t shape_bytes(const struct shape *shape)
{
    if (!has_memory(shape)) {
        return 0;
    }
    const struct texels *texels = texels_of(shape->format);
    uint64_t count = times(times(blocks(shape->width, texels->side), blocks(shape->height, texels->side)), at_least_one(shape->depth));
    uint64_t halves = times(count, texels->halves * (texels->is_per_channel ? at_least_one(shape->channels) : 1));
    return halves == UINT64_MAX ? UINT64_MAX : halves / 2 + halves % 2;
}

/* Every level has half the extents of the one before; layers and faces stay. */
static uint64_t mipmap_bytes(struct shape shape, unsigned int levels)
{
    uint64_t total = 0;
    bool has_layers = (shape.flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) != 0;
    for (unsigned int level = 0; level < levels && level < 64; level++) {
        if (__builtin_add_overflow(total, shape_bytes(&shape), &total)) {
            return UINT64_MAX;
        }
        shape.width /= 2;
        shape.height /= 2;
        shape.depth = has_layers ? shape.depth : shape.depth / 2;
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
#define DEEP(d)                                                                                                  \
    {.width = (d)->Width, .height = (d)->Height, .depth = (d)->Depth, .format = (d)->Format, .channels = (d)->NumChannels, .flags = (d)->Flags}

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

FREE_HOOK(cuArrayDestroy, (CUarray array), (array), KIND_ARRAY, (uint64_t)(uintptr_t)array)
FREE_HOOK(cuMipmappedArrayDestroy, (CUmipmappedArray array), (array), KIND_ARRAY, (uint64_t)(uintptr_t)array)
