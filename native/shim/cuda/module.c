/* SPDX-License-Identifier: Apache-2.0
 *
 * Modules and libraries: code and its variables lie in device memory, of a size that only the driver knows. Also what a context's limits set aside.
 */
#include "footprint.h"
#include "memory.h"

/* The device of the current context, or NULL: the driver refuses by itself, or the call is not enforced. */
static struct mica_device *current_device(CUresult *result)
{
    enum door at = door();
    struct context *context = at == DOOR_ENFORCE ? context_current() : NULL;
    *result = at == DOOR_CLOSED || (context != NULL && context->device == NULL) ? CUDA_ERROR_NOT_PERMITTED : CUDA_SUCCESS;
    return context != NULL ? context->device : NULL;
}

static struct footprint load_begin(void)
{
    CUresult result = CUDA_SUCCESS;
    struct mica_device *device = current_device(&result);
    return result == CUDA_SUCCESS ? footprint_begin(device, 0) : (struct footprint){.result = result};
}

/* The image is loaded, or it is not: remember what it takes, which goes with the context. */
static CUresult load_end(struct footprint *footprint, CUresult result, enum handle_kind kind, const void *handle, void (*undo)(uint64_t handle))
{
    CUresult charged = footprint_end(footprint, result);
    uint64_t key = (uint64_t)(uintptr_t)handle;
    if (result == CUDA_SUCCESS && charged != CUDA_SUCCESS) {
        undo(key);
    }
    struct context *context = footprint->device != NULL && footprint->bytes != 0 ? context_current() : NULL;
    if (charged != CUDA_SUCCESS || context == NULL) {
        return charged;
    }
    struct grant grant = {.is_charged = true, .owner = context_owner(context, MICA_MEMORY_VRAM), .bytes = footprint->bytes};
    return grant_keep(&grant, CUDA_SUCCESS, kind, key, undo);
}

static void undo_module(uint64_t module)
{
    (void)below_cuModuleUnload((CUmodule)(uintptr_t)module);
}

static void undo_library(uint64_t library)
{
    (void)below_cuLibraryUnload((CUlibrary)(uintptr_t)library);
}

/* A hook that loads an image; `made` points to its handle. */
#define LOAD_HOOK(name, params, args, kind, made, undo)                                                                  \
    EXPORT CUresult name params                                                                                          \
    {                                                                                                                    \
        struct footprint footprint = load_begin();                                                                       \
        if (footprint.result != CUDA_SUCCESS) {                                                                          \
            return footprint.result;                                                                                     \
        }                                                                                                                \
        CUresult result = below_##name args;                                                                             \
        return load_end(&footprint, result, kind, result == CUDA_SUCCESS ? (const void *)*(made) : NULL, undo);          \
    }

LOAD_HOOK(cuModuleLoad, (CUmodule * module, const char *path), (module, path), KIND_MODULE, module, undo_module)
LOAD_HOOK(cuModuleLoadData, (CUmodule * module, const void *image), (module, image), KIND_MODULE, module, undo_module)
LOAD_HOOK(cuModuleLoadDataEx, (CUmodule * module, const void *image, unsigned int count, int *options, void **values),
          (module, image, count, options, values), KIND_MODULE, module, undo_module)
LOAD_HOOK(cuModuleLoadFatBinary, (CUmodule * module, const void *image), (module, image), KIND_MODULE, module, undo_module)
LOAD_HOOK(cuLibraryLoadData,
          (CUlibrary * library, const void *code, int *jit, void **jit_values, unsigned int jit_count, int *options, void **values, unsigned int count),
          (library, code, jit, jit_values, jit_count, options, values, count), KIND_LIBRARY, library, undo_library)
LOAD_HOOK(cuLibraryLoadFromFile,
          (CUlibrary * library, const char *path, int *jit, void **jit_values, unsigned int jit_count, int *options, void **values, unsigned int count),
          (library, path, jit, jit_values, jit_count, options, values, count), KIND_LIBRARY, library, undo_library)

FREE_HOOK(cuModuleUnload, (CUmodule module), (module), KIND_MODULE, (uint64_t)(uintptr_t)module)
FREE_HOOK(cuLibraryUnload, (CUlibrary library), (library), KIND_LIBRARY, (uint64_t)(uintptr_t)library)

/* --- Limits ---------------------------------------------------------------------------------------------------------------- */

/* How much more than now a context sets aside with `value`. */
static uint64_t limit_growth(int limit, size_t value)
{
    size_t now = 0;
    bool is_memory = limit == CU_LIMIT_PRINTF_FIFO_SIZE || limit == CU_LIMIT_MALLOC_HEAP_SIZE;
    bool is_known = is_memory && driver.cuCtxGetLimit != NULL && driver.cuCtxGetLimit(&now, limit) == CUDA_SUCCESS;
    return is_known && value > now ? value - now : 0;
}

/* A buffer that does not fit the slice is refused. The driver sets it aside when it first needs it, which is then measured with what it loads. */
EXPORT CUresult cuCtxSetLimit(int limit, size_t value)
{
    CUresult result = CUDA_SUCCESS;
    struct mica_device *device = current_device(&result);
    if (result != CUDA_SUCCESS || device == NULL) {
        return result != CUDA_SUCCESS ? result : below_cuCtxSetLimit(limit, value);
    }
    struct footprint footprint = footprint_begin(device, limit_growth(limit, value));
    if (footprint.result != CUDA_SUCCESS) {
        return footprint.result;
    }
    struct context *context = context_current();
    result = footprint_end(&footprint, below_cuCtxSetLimit(limit, value));
    if (result == CUDA_SUCCESS && context != NULL && footprint.bytes != 0) {
        context_charge_more(context, footprint.bytes);
    }
    return result;
}
