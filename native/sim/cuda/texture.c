/* SPDX-License-Identifier: Apache-2.0
 *
 * Texture and surface objects: descriptions of arrays and linear memory, checked and kept. No kernel here samples them.
 */
#include "driver.h"

struct texture {
    uint32_t mark;
    CUDA_RESOURCE_DESC resource;
    CUDA_TEXTURE_DESC sampling;
    CUDA_RESOURCE_VIEW_DESC view;
    bool viewed;
};

struct surface {
    uint32_t mark;
    CUDA_RESOURCE_DESC resource;
};

static bool inside_allocation(CUdeviceptr address, size_t bytes)
{
    struct sim_facts facts;
    return sim_facts_find(address, &facts) && bytes && bytes <= facts.bytes - (address - facts.start);
}

static CUresult check_linear(const CUDA_RESOURCE_DESC *resource)
{
    size_t bytes, texel = sim_texel_bytes(resource->of.linear.format, resource->of.linear.channels);
    if (!texel)
        return CUDA_ERROR_INVALID_VALUE;
    if (resource->type == CU_RESOURCE_LINEAR)
        return inside_allocation(resource->of.linear.address, resource->of.linear.bytes) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    if (!resource->of.pitch.width || !resource->of.pitch.height || resource->of.pitch.pitch % 32 ||
        __builtin_mul_overflow(resource->of.pitch.width, texel, &bytes) || bytes > resource->of.pitch.pitch ||
        __builtin_mul_overflow(resource->of.pitch.height - 1, resource->of.pitch.pitch, &texel) || __builtin_add_overflow(bytes, texel, &bytes))
        return CUDA_ERROR_INVALID_VALUE;
    return inside_allocation(resource->of.pitch.address, bytes) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult check_resource(const CUDA_RESOURCE_DESC *resource)
{
    if (!resource || resource->flags)
        return CUDA_ERROR_INVALID_VALUE;
    switch (resource->type) {
    case CU_RESOURCE_ARRAY:
        return sim_array_live(resource->of.array) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    case CU_RESOURCE_MIPMAPPED_ARRAY:
        return sim_mipmap_live(resource->of.mipmap) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    case CU_RESOURCE_LINEAR:
    case CU_RESOURCE_PITCH2D:
        return check_linear(resource);
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuTexObjectCreate(CUtexObject *object, const CUDA_RESOURCE_DESC *resource, const CUDA_TEXTURE_DESC *sampling,
                           const CUDA_RESOURCE_VIEW_DESC *view)
{
    ENTER_CURRENT(object && sampling);
    (void)context;
    CUresult checked = check_resource(resource);
    if (checked != CUDA_SUCCESS)
        return sim_driver_leave(checked);
    if (view && resource->type != CU_RESOURCE_ARRAY && resource->type != CU_RESOURCE_MIPMAPPED_ARRAY)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    struct texture *made = sim_object_new(MARK_TEXTURE, sizeof *made);
    if (!made)
        return sim_driver_leave(CUDA_ERROR_OUT_OF_MEMORY);
    made->resource = *resource;
    made->sampling = *sampling;
    made->viewed = view != NULL;
    if (view)
        made->view = *view;
    *object = (uintptr_t)made;
    return sim_driver_leave(CUDA_SUCCESS);
}

static struct texture *texture_of(CUtexObject object)
{
    struct texture *texture = (struct texture *)(uintptr_t)object;
    return sim_marked(texture, MARK_TEXTURE) ? texture : NULL;
}

static struct surface *surface_of(CUsurfObject object)
{
    struct surface *surface = (struct surface *)(uintptr_t)object;
    return sim_marked(surface, MARK_SURFACE) ? surface : NULL;
}

CUresult cuTexObjectDestroy(CUtexObject object)
{
    SIM_ENTER();
    struct texture *texture = texture_of(object);
    if (texture)
        sim_object_free(texture);
    return sim_driver_leave(texture || !object ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

#define TEXTURE_GETTER(call, type, parameter, field, there)                                                                                \
    CUresult call(type *parameter, CUtexObject object)                                                                                     \
    {                                                                                                                                      \
        SIM_ENTER();                                                                                                                       \
        const struct texture *texture = parameter ? texture_of(object) : NULL;                                                             \
        if (!texture || !(there))                                                                                                          \
            return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);                                                                             \
        *parameter = texture->field;                                                                                                       \
        return sim_driver_leave(CUDA_SUCCESS);                                                                                             \
    }

TEXTURE_GETTER(cuTexObjectGetResourceDesc, CUDA_RESOURCE_DESC, resource, resource, true)
TEXTURE_GETTER(cuTexObjectGetTextureDesc, CUDA_TEXTURE_DESC, sampling, sampling, true)
TEXTURE_GETTER(cuTexObjectGetResourceViewDesc, CUDA_RESOURCE_VIEW_DESC, view, view, texture->viewed)

CUresult cuSurfObjectCreate(CUsurfObject *object, const CUDA_RESOURCE_DESC *resource)
{
    ENTER_CURRENT(object && resource && resource->type == CU_RESOURCE_ARRAY);
    (void)context;
    CUresult checked = check_resource(resource);
    if (checked != CUDA_SUCCESS)
        return sim_driver_leave(checked);
    if (!(sim_array_flags(resource->of.array) & CUDA_ARRAY3D_SURFACE_LDST))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    struct surface *made = sim_object_new(MARK_SURFACE, sizeof *made);
    if (!made)
        return sim_driver_leave(CUDA_ERROR_OUT_OF_MEMORY);
    made->resource = *resource;
    *object = (uintptr_t)made;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuSurfObjectDestroy(CUsurfObject object)
{
    SIM_ENTER();
    struct surface *surface = surface_of(object);
    if (surface)
        sim_object_free(surface);
    return sim_driver_leave(surface || !object ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuSurfObjectGetResourceDesc(CUDA_RESOURCE_DESC *resource, CUsurfObject object)
{
    SIM_ENTER();
    const struct surface *surface = resource ? surface_of(object) : NULL;
    if (surface)
        *resource = surface->resource;
    return sim_driver_leave(surface ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}
