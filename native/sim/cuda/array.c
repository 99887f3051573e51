/* SPDX-License-Identifier: Apache-2.0
 *
 * Arrays and mipmapped arrays: opaque device memory of a context, in texels.
 *
 * Modelled: texels lie in rows, rows in slices, without padding; an array costs its texels, in the same granules as any other
 * allocation of its context, and a mip chain the sum of its levels. Block compression, sparse and video formats other than
 * NV12 are not there. An array of deferred mapping has no memory, because nothing can be mapped to it here.
 */
#include <stdlib.h>

#include "driver.h"

enum { FORMAT_NV12 = 0xb0, LEVELS_MAX = 18, PLANES = 2 };

struct sim_array {
    uint32_t mark;
    CUcontext context;
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    size_t row_bytes, rows, slices;
    CUdeviceptr memory;  /* its own allocation; 0: it is part of something, or has none */
    unsigned char *host; /* contents */
    bool deferred;
    struct sim_mipmap *mipmap; /* it is a level of this one */
    CUarray planes[PLANES];    /* of NV12 */
    CUarray whole;             /* it is a plane of this one */
    struct sim_array *next, *previous;
};

struct sim_mipmap {
    uint32_t mark;
    CUcontext context;
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    CUdeviceptr memory;
    size_t bytes;
    bool deferred;
    unsigned levels;
    CUarray level[LEVELS_MAX];
    struct sim_span *span; /* of imported memory that it lies in, or NULL */
    struct sim_mipmap *next, *previous;
};

static struct sim_array *arrays;
static struct sim_mipmap *mipmaps;

#define LINK(list, object)                                                                                                                 \
    do {                                                                                                                                   \
        (object)->previous = NULL;                                                                                                         \
        (object)->next = list;                                                                                                             \
        if (list)                                                                                                                          \
            (list)->previous = object;                                                                                                     \
        list = object;                                                                                                                     \
    } while (0)
#define UNLINK(list, object)                                                                                                               \
    do {                                                                                                                                   \
        if ((object)->previous)                                                                                                            \
            (object)->previous->next = (object)->next;                                                                                     \
        else                                                                                                                               \
            list = (object)->next;                                                                                                         \
        if ((object)->next)                                                                                                                \
            (object)->next->previous = (object)->previous;                                                                                 \
    } while (0)

bool sim_array_live(CUarray array)
{
    return sim_marked(array, MARK_ARRAY);
}

bool sim_mipmap_live(CUmipmappedArray mipmap)
{
    return sim_marked(mipmap, MARK_MIPMAP);
}

unsigned sim_array_flags(CUarray array)
{
    return array->descriptor.flags;
}

unsigned sim_texel_bytes(uint32_t format, unsigned channels)
{
    static const unsigned char normalized[] = {1, 2, 4, 2, 4, 8, 1, 2, 4, 2, 4, 8}; /* 0xc0 and on: 8 and 16 bits, unsigned, signed */
    static const unsigned char normalized_channels[] = {1, 2, 4};
    if (format >= 0xc0 && format < 0xc0 + sizeof normalized)
        return channels == normalized_channels[(format - 0xc0) % 3] ? normalized[format - 0xc0] : 0;
    if (channels != 1 && channels != 2 && channels != 4)
        return 0;
    switch (format) {
    case 0x01:
    case 0x08:
        return channels;
    case 0x02:
    case 0x09:
    case 0x10:
        return 2 * channels;
    case 0x03:
    case 0x0a:
    case 0x20:
        return 4 * channels;
    default:
        return 0;
    }
}

static bool known_format(uint32_t format)
{
    return (format >= 0x50 && format <= 0x5e) || (format >= 0x91 && format <= 0xb4);
}

static CUresult check_shape(const CUDA_ARRAY3D_DESCRIPTOR *d)
{
    bool layered = d->flags & CUDA_ARRAY3D_LAYERED, cube = d->flags & CUDA_ARRAY3D_CUBEMAP;
    if (!d->width || d->flags & ~(unsigned)CUDA_ARRAY3D_ALL)
        return CUDA_ERROR_INVALID_VALUE;
    if (cube && (d->width != d->height || !d->depth || d->depth % 6 || (!layered && d->depth != 6)))
        return CUDA_ERROR_INVALID_VALUE;
    if (layered && !d->depth)
        return CUDA_ERROR_INVALID_VALUE;
    if (!layered && !cube && d->depth && !d->height)
        return CUDA_ERROR_INVALID_VALUE;
    bool volume = d->depth && !layered && !cube;
    size_t widest = volume ? 16384 : layered || cube ? 32768 : 131072, highest = volume ? 16384 : layered || cube ? 32768 : 65536;
    size_t deepest = volume ? 16384 : 2048;
    return d->width <= widest && d->height <= highest && d->depth <= deepest ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult check(const CUDA_ARRAY3D_DESCRIPTOR *d)
{
    bool nv12 = d->format == FORMAT_NV12;
    CUresult shape = check_shape(d);
    if (shape != CUDA_SUCCESS)
        return shape;
    if (d->flags & CUDA_ARRAY3D_SPARSE || (known_format(d->format) && !nv12))
        return CUDA_ERROR_NOT_SUPPORTED;
    if (nv12)
        return d->channels == 3 && !d->depth && d->height && d->width % 2 == 0 && d->height % 2 == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    return sim_texel_bytes(d->format, d->channels) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* Bytes of a row of an array, or of NV12's first plane, whose second plane has half as many rows of the same length. */
static size_t row_bytes_of(const CUDA_ARRAY3D_DESCRIPTOR *d)
{
    return d->width * (d->format == FORMAT_NV12 ? 1 : sim_texel_bytes(d->format, d->channels));
}

static size_t bytes_of(const CUDA_ARRAY3D_DESCRIPTOR *d)
{
    size_t rows = d->height ? d->height : 1;
    return row_bytes_of(d) * (d->format == FORMAT_NV12 ? rows + rows / 2 : rows) * (d->depth ? d->depth : 1);
}

static CUarray array_new(CUcontext context, const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
    CUarray array = sim_object_new(MARK_ARRAY, sizeof *array);
    if (!array)
        return NULL;
    array->context = context;
    array->descriptor = *descriptor;
    array->row_bytes = row_bytes_of(descriptor);
    array->rows = descriptor->height ? descriptor->height : 1;
    array->slices = descriptor->depth ? descriptor->depth : 1;
    array->deferred = descriptor->flags & CUDA_ARRAY3D_DEFERRED_MAPPING;
    LINK(arrays, array);
    return array;
}

static void array_delete(CUarray array)
{
    for (int i = 0; i < PLANES; i++)
        if (array->planes[i])
            array_delete(array->planes[i]);
    if (array->memory)
        sim_heap_free(array->context->heap, array->memory);
    UNLINK(arrays, array);
    sim_object_free(array);
}

/* NV12: brightness at full size, then colour as pairs at half the size. */
static bool make_planes(CUarray array)
{
    CUDA_ARRAY3D_DESCRIPTOR plane = array->descriptor;
    for (int i = 0; i < PLANES; i++) {
        plane.format = 0x01;
        plane.channels = i ? 2 : 1;
        plane.width = array->descriptor.width / (i ? 2 : 1);
        plane.height = array->descriptor.height / (i ? 2 : 1);
        if (!(array->planes[i] = array_new(array->context, &plane)))
            return false;
        array->planes[i]->whole = array;
        array->planes[i]->host = array->host ? array->host + (i ? array->row_bytes * array->rows : 0) : NULL;
    }
    return true;
}

static CUresult create(CUarray *out, const CUDA_ARRAY3D_DESCRIPTOR *descriptor, CUcontext context)
{
    CUresult result = check(descriptor);
    if (result != CUDA_SUCCESS)
        return result;
    CUarray array = array_new(context, descriptor);
    if (!array)
        return CUDA_ERROR_OUT_OF_MEMORY;
    size_t bytes = bytes_of(descriptor);
    if (!array->deferred) {
        result = sim_heap_allocate(context->heap, bytes, &array->memory);
        array->host = result == CUDA_SUCCESS ? sim_heap_host(context->heap, array->memory, bytes) : NULL;
    }
    if ((!array->deferred && !array->host) || (descriptor->format == FORMAT_NV12 && !make_planes(array))) {
        array_delete(array);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *out = array;
    return CUDA_SUCCESS;
}

CUresult cuArray3DCreate_v2(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
    ENTER_CURRENT(array && descriptor);
    return sim_driver_leave(create(array, descriptor, context));
}

CUresult cuArrayCreate_v2(CUarray *array, const CUDA_ARRAY_DESCRIPTOR *descriptor)
{
    ENTER_CURRENT(array && descriptor);
    const CUDA_ARRAY3D_DESCRIPTOR full = {descriptor->width, descriptor->height, 0, descriptor->format, descriptor->channels, 0};
    return sim_driver_leave(create(array, &full, context));
}

CUresult cuArrayDestroy(CUarray array)
{
    SIM_ENTER();
    if (!sim_array_live(array))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    if (array->mipmap || array->whole) /* they go with what they are part of */
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    array_delete(array);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR *descriptor, CUarray array)
{
    SIM_ENTER();
    if (!descriptor || !sim_array_live(array))
        return sim_driver_leave(descriptor ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_INVALID_VALUE);
    *descriptor = array->descriptor;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR *descriptor, CUarray array)
{
    CUDA_ARRAY3D_DESCRIPTOR full;
    CUresult result = descriptor ? cuArray3DGetDescriptor_v2(&full, array) : CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *descriptor = (CUDA_ARRAY_DESCRIPTOR){full.width, full.height, full.format, full.channels};
    return result;
}

CUresult cuArrayGetPlane(CUarray *plane, CUarray array, unsigned index)
{
    SIM_ENTER();
    if (!plane || !sim_array_live(array))
        return sim_driver_leave(plane ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_INVALID_VALUE);
    if (index >= PLANES || !array->planes[index])
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    *plane = array->planes[index];
    return sim_driver_leave(CUDA_SUCCESS);
}

static CUresult requirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *out, size_t bytes, bool deferred)
{
    if (!out || !deferred)
        return CUDA_ERROR_INVALID_VALUE;
    *out = (CUDA_ARRAY_MEMORY_REQUIREMENTS){.size = (bytes + SIM_GRANULE - 1) / SIM_GRANULE * SIM_GRANULE, .alignment = SIM_GRANULE};
    return CUDA_SUCCESS;
}

CUresult cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *out, CUarray array, CUdevice device)
{
    SIM_ENTER();
    if (!sim_array_live(array))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    if (!sim_visible_at(device))
        return sim_driver_leave(CUDA_ERROR_INVALID_DEVICE);
    return sim_driver_leave(requirements(out, bytes_of(&array->descriptor), array->deferred));
}

bool sim_array_box(CUarray array, const size_t at[3], const size_t size[3], unsigned char **first, size_t *pitch, size_t *slice)
{
    if (!sim_array_live(array) || !array->host)
        return false;
    const size_t extent[3] = {array->row_bytes, array->rows, array->slices};
    for (int i = 0; i < 3; i++)
        if (at[i] > extent[i] || size[i] > extent[i] - at[i])
            return false;
    *pitch = array->row_bytes;
    *slice = array->row_bytes * array->rows;
    *first = array->host + at[2] * *slice + at[1] * *pitch + at[0];
    return true;
}

/* --- Mip chains ---------------------------------------------------------------------------------------------------------------- */

static size_t half(size_t extent, unsigned level)
{
    return extent >> level ? extent >> level : extent ? 1 : 0;
}

static CUDA_ARRAY3D_DESCRIPTOR level_of(const CUDA_ARRAY3D_DESCRIPTOR *whole, unsigned level)
{
    CUDA_ARRAY3D_DESCRIPTOR d = *whole;
    bool stack = whole->flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP);
    d.width = half(whole->width, level);
    d.height = half(whole->height, level);
    d.depth = stack ? whole->depth : half(whole->depth, level);
    return d;
}

static unsigned levels_of(const CUDA_ARRAY3D_DESCRIPTOR *d, unsigned asked)
{
    size_t longest = d->width > d->height ? d->width : d->height;
    if (!(d->flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) && d->depth > longest)
        longest = d->depth;
    unsigned most = 1;
    while (longest >>= 1)
        most++;
    return asked < 1 ? 1 : asked < most ? asked : most;
}

static CUresult check_chain(const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
    CUresult result = check(descriptor);
    return result == CUDA_SUCCESS && descriptor->format == FORMAT_NV12 ? CUDA_ERROR_INVALID_VALUE : result;
}

static void mipmap_delete(CUmipmappedArray mipmap)
{
    for (unsigned i = 0; i < mipmap->levels; i++)
        if (mipmap->level[i])
            array_delete(mipmap->level[i]);
    if (mipmap->memory)
        sim_heap_free(mipmap->context->heap, mipmap->memory);
    if (mipmap->span)
        sim_imported_free(mipmap->span);
    UNLINK(mipmaps, mipmap);
    sim_object_free(mipmap);
}

/* A chain without memory yet. */
static CUmipmappedArray mipmap_new(CUcontext context, const CUDA_ARRAY3D_DESCRIPTOR *descriptor, unsigned levels)
{
    CUmipmappedArray mipmap = sim_object_new(MARK_MIPMAP, sizeof *mipmap);
    if (!mipmap)
        return NULL;
    LINK(mipmaps, mipmap);
    mipmap->context = context;
    mipmap->descriptor = *descriptor;
    mipmap->levels = levels_of(descriptor, levels);
    mipmap->deferred = descriptor->flags & CUDA_ARRAY3D_DEFERRED_MAPPING;
    for (unsigned i = 0; i < mipmap->levels; i++) {
        const CUDA_ARRAY3D_DESCRIPTOR level = level_of(descriptor, i);
        if (!(mipmap->level[i] = array_new(context, &level))) {
            mipmap_delete(mipmap);
            return NULL;
        }
        mipmap->level[i]->mipmap = mipmap;
        mipmap->bytes += bytes_of(&level);
    }
    return mipmap;
}

static void place_levels(CUmipmappedArray mipmap, unsigned char *host)
{
    for (unsigned i = 0; i < mipmap->levels; i++) {
        mipmap->level[i]->host = host;
        host += bytes_of(&mipmap->level[i]->descriptor);
    }
}

static CUresult create_mipmap(CUcontext context, const CUDA_ARRAY3D_DESCRIPTOR *descriptor, unsigned levels, CUmipmappedArray *out)
{
    CUresult result = check_chain(descriptor);
    CUmipmappedArray mipmap = result == CUDA_SUCCESS ? mipmap_new(context, descriptor, levels) : NULL;
    if (!mipmap)
        return result == CUDA_SUCCESS ? CUDA_ERROR_OUT_OF_MEMORY : result;
    if (!mipmap->deferred) {
        result = sim_heap_allocate(context->heap, mipmap->bytes, &mipmap->memory);
        unsigned char *host = result == CUDA_SUCCESS ? sim_heap_host(context->heap, mipmap->memory, mipmap->bytes) : NULL;
        if (!host) {
            mipmap_delete(mipmap);
            return CUDA_ERROR_OUT_OF_MEMORY;
        }
        place_levels(mipmap, host);
    }
    *out = mipmap;
    return CUDA_SUCCESS;
}

CUresult sim_mipmap_over(CUcontext context, const CUDA_ARRAY3D_DESCRIPTOR *descriptor, unsigned levels, struct sim_span *span, CUmipmappedArray *out)
{
    CUresult result = check_chain(descriptor);
    CUmipmappedArray mipmap = result == CUDA_SUCCESS ? mipmap_new(context, descriptor, levels) : NULL;
    if (!mipmap || mipmap->bytes > span->bytes) {
        if (mipmap)
            mipmap_delete(mipmap);
        sim_imported_free(span);
        return result != CUDA_SUCCESS ? result : mipmap ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY;
    }
    span->context = NULL; /* it goes with the chain now */
    mipmap->span = span;
    mipmap->deferred = false;
    place_levels(mipmap, span->host);
    *out = mipmap;
    return CUDA_SUCCESS;
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray *mipmap, const CUDA_ARRAY3D_DESCRIPTOR *descriptor, unsigned levels)
{
    ENTER_CURRENT(mipmap && descriptor);
    return sim_driver_leave(create_mipmap(context, descriptor, levels, mipmap));
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray mipmap)
{
    SIM_ENTER();
    if (!sim_mipmap_live(mipmap))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    mipmap_delete(mipmap);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuMipmappedArrayGetLevel(CUarray *level, CUmipmappedArray mipmap, unsigned index)
{
    SIM_ENTER();
    if (!level || !sim_mipmap_live(mipmap))
        return sim_driver_leave(level ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_INVALID_VALUE);
    if (index >= mipmap->levels)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    *level = mipmap->level[index];
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuMipmappedArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *out, CUmipmappedArray mipmap, CUdevice device)
{
    SIM_ENTER();
    if (!sim_mipmap_live(mipmap))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    if (!sim_visible_at(device))
        return sim_driver_leave(CUDA_ERROR_INVALID_DEVICE);
    return sim_driver_leave(requirements(out, mipmap->bytes, mipmap->deferred));
}

/* Called before the context's heap goes. */
void sim_arrays_drop(CUcontext context)
{
    for (CUmipmappedArray mipmap = mipmaps, next; mipmap; mipmap = next) {
        next = mipmap->next;
        if (mipmap->context == context)
            mipmap_delete(mipmap);
    }
    for (CUarray array = arrays, next; array; array = next) {
        next = array->next; /* older than the array, so none of its planes */
        if (array->context == context && !array->whole)
            array_delete(array);
    }
}
