/* SPDX-License-Identifier: Apache-2.0
 *
 * Every call that the shim enforces, in one table. From it come the enum, the prototypes of the hooks, the pointers to the driver's own
 * functions below them, and the mapping of cuGetProcAddress.
 *
 *     X(return type, name, parameters, arguments, class, base, since, stream)
 *
 * class: what the hook does, and what it does when it cannot tell what the slice may do (the record is gone, the attach was refused):
 *     ATTACH   attaches to the slice                                      fails closed
 *     CHARGE   takes device memory, or pins the host's: reserves it before the driver is asked   fails closed
 *     HOLD     refers once more to memory that is charged already         fails open
 *     REFUND   gives memory back                                          fails open: giving back is always allowed
 *     SHOW     shows the slice's memory in place of the device's          fails closed
 *     LAUNCH   submits work: waits until the slice may                    fails closed
 *     NAME     tells what a kernel or a stream is for                         fails open
 *     GRAPH    makes or changes a graph that can be launched: what it costs   fails closed
 *     COPY     moves or fills memory: waits while a bandwidth limit says so   fails closed
 *     CONTEXT  ends a context, and with it the memory charged in it       fails open
 *     WAIT     waits for the device, after which its pools may hold less     fails closed
 *     CAPTURE  begins or ends a stream capture, in which nothing may wait         fails open
 *     MAP      answers for functions asked for by name                    fails open
 * base, since, stream: `name` is what cuGetProcAddress means by `base` from driver version `since` on, for programs whose default stream is
 *     the LEGACY one or one PER_THREAD.
 */
#ifndef MICA_SHIM_CUDA_HOOKS_H
#define MICA_SHIM_CUDA_HOOKS_H

#include "copies.h"

#define COPY_HOOK(X, name, params, args, base, since, kind, stream, bytes) X(CUresult, name, params, args, COPY, base, since, kind)

/* clang-format off */
#define CUDA_HOOKS(X) \
    X(CUresult, cuInit, (unsigned int flags), (flags), ATTACH, cuInit, 2000, LEGACY) \
    X(CUresult, cuGetProcAddress, (const char *symbol, void **function, int version, uint64_t flags), (symbol, function, version, flags), MAP, cuGetProcAddress, 11030, LEGACY) \
    X(CUresult, cuGetProcAddress_v2, (const char *symbol, void **function, int version, uint64_t flags, int *status), (symbol, function, version, flags, status), MAP, cuGetProcAddress, 12000, LEGACY) \
    X(CUresult, cuDeviceTotalMem, (unsigned int *bytes, CUdevice device), (bytes, device), SHOW, cuDeviceTotalMem, 2000, LEGACY) \
    X(CUresult, cuDeviceTotalMem_v2, (size_t *bytes, CUdevice device), (bytes, device), SHOW, cuDeviceTotalMem, 3020, LEGACY) \
    X(CUresult, cuMemGetInfo, (unsigned int *free_bytes, unsigned int *total_bytes), (free_bytes, total_bytes), SHOW, cuMemGetInfo, 2000, LEGACY) \
    X(CUresult, cuMemGetInfo_v2, (size_t *free_bytes, size_t *total_bytes), (free_bytes, total_bytes), SHOW, cuMemGetInfo, 3020, LEGACY) \
    X(CUresult, cuMemAlloc, (CUdeviceptr_v1 *pointer, unsigned int bytes), (pointer, bytes), CHARGE, cuMemAlloc, 2000, LEGACY) \
    X(CUresult, cuMemAlloc_v2, (CUdeviceptr *pointer, size_t bytes), (pointer, bytes), CHARGE, cuMemAlloc, 3020, LEGACY) \
    X(CUresult, cuMemAllocPitch, (CUdeviceptr_v1 *pointer, unsigned int *pitch, unsigned int width, unsigned int height, unsigned int element), (pointer, pitch, width, height, element), CHARGE, cuMemAllocPitch, 2000, LEGACY) \
    X(CUresult, cuMemAllocPitch_v2, (CUdeviceptr *pointer, size_t *pitch, size_t width, size_t height, unsigned int element), (pointer, pitch, width, height, element), CHARGE, cuMemAllocPitch, 3020, LEGACY) \
    X(CUresult, cuMemAllocManaged, (CUdeviceptr *pointer, size_t bytes, unsigned int flags), (pointer, bytes, flags), CHARGE, cuMemAllocManaged, 6000, LEGACY) \
    X(CUresult, cuMemAllocAsync, (CUdeviceptr *pointer, size_t bytes, CUstream stream), (pointer, bytes, stream), CHARGE, cuMemAllocAsync, 11020, LEGACY) \
    X(CUresult, cuMemAllocAsync_ptsz, (CUdeviceptr *pointer, size_t bytes, CUstream stream), (pointer, bytes, stream), CHARGE, cuMemAllocAsync, 11020, PER_THREAD) \
    X(CUresult, cuMemAllocFromPoolAsync, (CUdeviceptr *pointer, size_t bytes, CUmemoryPool pool, CUstream stream), (pointer, bytes, pool, stream), CHARGE, cuMemAllocFromPoolAsync, 11020, LEGACY) \
    X(CUresult, cuMemAllocFromPoolAsync_ptsz, (CUdeviceptr *pointer, size_t bytes, CUmemoryPool pool, CUstream stream), (pointer, bytes, pool, stream), CHARGE, cuMemAllocFromPoolAsync, 11020, PER_THREAD) \
    X(CUresult, cuMemCreate, (CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *prop, unsigned long long flags), (handle, bytes, prop, flags), CHARGE, cuMemCreate, 10020, LEGACY) \
    X(CUresult, cuArrayCreate, (CUarray *array, const CUDA_ARRAY_DESCRIPTOR_v1 *descriptor), (array, descriptor), CHARGE, cuArrayCreate, 2000, LEGACY) \
    X(CUresult, cuArrayCreate_v2, (CUarray *array, const CUDA_ARRAY_DESCRIPTOR *descriptor), (array, descriptor), CHARGE, cuArrayCreate, 3020, LEGACY) \
    X(CUresult, cuArray3DCreate, (CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR_v1 *descriptor), (array, descriptor), CHARGE, cuArray3DCreate, 2000, LEGACY) \
    X(CUresult, cuArray3DCreate_v2, (CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor), (array, descriptor), CHARGE, cuArray3DCreate, 3020, LEGACY) \
    X(CUresult, cuMipmappedArrayCreate, (CUmipmappedArray *array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor, unsigned int levels), (array, descriptor, levels), CHARGE, cuMipmappedArrayCreate, 5000, LEGACY) \
    X(CUresult, cuMemFree, (CUdeviceptr_v1 pointer), (pointer), REFUND, cuMemFree, 2000, LEGACY) \
    X(CUresult, cuMemFree_v2, (CUdeviceptr pointer), (pointer), REFUND, cuMemFree, 3020, LEGACY) \
    X(CUresult, cuMemFreeAsync, (CUdeviceptr pointer, CUstream stream), (pointer, stream), REFUND, cuMemFreeAsync, 11020, LEGACY) \
    X(CUresult, cuMemFreeAsync_ptsz, (CUdeviceptr pointer, CUstream stream), (pointer, stream), REFUND, cuMemFreeAsync, 11020, PER_THREAD) \
    X(CUresult, cuMemPoolCreate, (CUmemoryPool *pool, const CUmemPoolProps *props), (pool, props), HOLD, cuMemPoolCreate, 11020, LEGACY) \
    X(CUresult, cuMemPoolImportFromShareableHandle, (CUmemoryPool *pool, void *handle, int type, unsigned long long flags), (pool, handle, type, flags), HOLD, cuMemPoolImportFromShareableHandle, 11020, LEGACY) \
    X(CUresult, cuMemPoolDestroy, (CUmemoryPool pool), (pool), REFUND, cuMemPoolDestroy, 11020, LEGACY) \
    X(CUresult, cuMemPoolTrimTo, (CUmemoryPool pool, size_t keep_bytes), (pool, keep_bytes), REFUND, cuMemPoolTrimTo, 11020, LEGACY) \
    X(CUresult, cuMemPoolSetAttribute, (CUmemoryPool pool, int attribute, void *value), (pool, attribute, value), REFUND, cuMemPoolSetAttribute, 11020, LEGACY) \
    X(CUresult, cuDeviceGetDefaultMemPool, (CUmemoryPool *pool, CUdevice device), (pool, device), HOLD, cuDeviceGetDefaultMemPool, 11020, LEGACY) \
    X(CUresult, cuDeviceGetMemPool, (CUmemoryPool *pool, CUdevice device), (pool, device), HOLD, cuDeviceGetMemPool, 11020, LEGACY) \
    X(CUresult, cuDeviceSetMemPool, (CUdevice device, CUmemoryPool pool), (device, pool), HOLD, cuDeviceSetMemPool, 11020, LEGACY) \
    X(CUresult, cuMemGetDefaultMemPool, (CUmemoryPool *pool, CUmemLocation *location, int type), (pool, location, type), HOLD, cuMemGetDefaultMemPool, 13000, LEGACY) \
    X(CUresult, cuMemGetMemPool, (CUmemoryPool *pool, CUmemLocation *location, int type), (pool, location, type), HOLD, cuMemGetMemPool, 13000, LEGACY) \
    X(CUresult, cuMemSetMemPool, (CUmemLocation *location, int type, CUmemoryPool pool), (location, type, pool), HOLD, cuMemSetMemPool, 13000, LEGACY) \
    X(CUresult, cuCtxSynchronize, (void), (), WAIT, cuCtxSynchronize, 2000, LEGACY) \
    X(CUresult, cuCtxSynchronize_v2, (CUcontext context), (context), WAIT, cuCtxSynchronize, 13000, LEGACY) \
    X(CUresult, cuStreamSynchronize, (CUstream stream), (stream), WAIT, cuStreamSynchronize, 2000, LEGACY) \
    X(CUresult, cuStreamSynchronize_ptsz, (CUstream stream), (stream), WAIT, cuStreamSynchronize, 7000, PER_THREAD) \
    X(CUresult, cuEventSynchronize, (CUevent event), (event), WAIT, cuEventSynchronize, 2000, LEGACY) \
    X(CUresult, cuCtxCreate, (CUcontext *context, unsigned int flags, CUdevice device), (context, flags, device), CHARGE, cuCtxCreate, 2000, LEGACY) \
    X(CUresult, cuCtxCreate_v2, (CUcontext *context, unsigned int flags, CUdevice device), (context, flags, device), CHARGE, cuCtxCreate, 3020, LEGACY) \
    X(CUresult, cuCtxCreate_v3, (CUcontext *context, void *affinity, int count, unsigned int flags, CUdevice device), (context, affinity, count, flags, device), CHARGE, cuCtxCreate, 11040, LEGACY) \
    X(CUresult, cuCtxCreate_v4, (CUcontext *context, void *params, unsigned int flags, CUdevice device), (context, params, flags, device), CHARGE, cuCtxCreate, 12050, LEGACY) \
    X(CUresult, cuCtxSetLimit, (int limit, size_t value), (limit, value), CHARGE, cuCtxSetLimit, 3010, LEGACY) \
    X(CUresult, cuModuleLoad, (CUmodule *module, const char *path), (module, path), CHARGE, cuModuleLoad, 2000, LEGACY) \
    X(CUresult, cuModuleLoadData, (CUmodule *module, const void *image), (module, image), CHARGE, cuModuleLoadData, 2000, LEGACY) \
    X(CUresult, cuModuleLoadDataEx, (CUmodule *module, const void *image, unsigned int count, int *options, void **values), (module, image, count, options, values), CHARGE, cuModuleLoadDataEx, 2010, LEGACY) \
    X(CUresult, cuModuleLoadFatBinary, (CUmodule *module, const void *image), (module, image), CHARGE, cuModuleLoadFatBinary, 2000, LEGACY) \
    X(CUresult, cuLibraryLoadData, (CUlibrary *library, const void *code, int *jit, void **jit_values, unsigned int jit_count, int *options, void **values, unsigned int count), (library, code, jit, jit_values, jit_count, options, values, count), CHARGE, cuLibraryLoadData, 12000, LEGACY) \
    X(CUresult, cuLibraryLoadFromFile, (CUlibrary *library, const char *path, int *jit, void **jit_values, unsigned int jit_count, int *options, void **values, unsigned int count), (library, path, jit, jit_values, jit_count, options, values, count), CHARGE, cuLibraryLoadFromFile, 12000, LEGACY) \
    X(CUresult, cuModuleUnload, (CUmodule module), (module), REFUND, cuModuleUnload, 2000, LEGACY) \
    X(CUresult, cuLibraryUnload, (CUlibrary library), (library), REFUND, cuLibraryUnload, 12000, LEGACY) \
    X(CUresult, cuDeviceGraphMemTrim, (CUdevice device), (device), REFUND, cuDeviceGraphMemTrim, 11040, LEGACY) \
    X(CUresult, cuGraphUpload, (CUgraphExec exec, CUstream stream), (exec, stream), CHARGE, cuGraphUpload, 11010, LEGACY) \
    X(CUresult, cuGraphUpload_ptsz, (CUgraphExec exec, CUstream stream), (exec, stream), CHARGE, cuGraphUpload, 11010, PER_THREAD) \
    X(CUresult, cuMemMap, (CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle, unsigned long long flags), (address, bytes, offset, handle, flags), HOLD, cuMemMap, 10020, LEGACY) \
    X(CUresult, cuMemRetainAllocationHandle, (CUmemGenericAllocationHandle *handle, void *address), (handle, address), HOLD, cuMemRetainAllocationHandle, 11000, LEGACY) \
    X(CUresult, cuMemUnmap, (CUdeviceptr address, size_t bytes), (address, bytes), REFUND, cuMemUnmap, 10020, LEGACY) \
    X(CUresult, cuMemRelease, (CUmemGenericAllocationHandle handle), (handle), REFUND, cuMemRelease, 10020, LEGACY) \
    X(CUresult, cuMemAllocHost, (void **pointer, unsigned int bytes), (pointer, bytes), CHARGE, cuMemAllocHost, 2000, LEGACY) \
    X(CUresult, cuMemAllocHost_v2, (void **pointer, size_t bytes), (pointer, bytes), CHARGE, cuMemAllocHost, 3020, LEGACY) \
    X(CUresult, cuMemHostAlloc, (void **pointer, size_t bytes, unsigned int flags), (pointer, bytes, flags), CHARGE, cuMemHostAlloc, 2020, LEGACY) \
    X(CUresult, cuMemHostRegister, (void *pointer, size_t bytes, unsigned int flags), (pointer, bytes, flags), CHARGE, cuMemHostRegister, 4000, LEGACY) \
    X(CUresult, cuMemHostRegister_v2, (void *pointer, size_t bytes, unsigned int flags), (pointer, bytes, flags), CHARGE, cuMemHostRegister, 6050, LEGACY) \
    X(CUresult, cuMemFreeHost, (void *pointer), (pointer), REFUND, cuMemFreeHost, 2000, LEGACY) \
    X(CUresult, cuMemHostUnregister, (void *pointer), (pointer), REFUND, cuMemHostUnregister, 4000, LEGACY) \
    X(CUresult, cuArrayDestroy, (CUarray array), (array), REFUND, cuArrayDestroy, 2000, LEGACY) \
    X(CUresult, cuMipmappedArrayDestroy, (CUmipmappedArray array), (array), REFUND, cuMipmappedArrayDestroy, 5000, LEGACY) \
    X(CUresult, cuCtxDestroy, (CUcontext context), (context), CONTEXT, cuCtxDestroy, 2000, LEGACY) \
    X(CUresult, cuCtxDestroy_v2, (CUcontext context), (context), CONTEXT, cuCtxDestroy, 4000, LEGACY) \
    X(CUresult, cuDevicePrimaryCtxRetain, (CUcontext *context, CUdevice device), (context, device), CONTEXT, cuDevicePrimaryCtxRetain, 7000, LEGACY) \
    X(CUresult, cuDevicePrimaryCtxRelease, (CUdevice device), (device), CONTEXT, cuDevicePrimaryCtxRelease, 7000, LEGACY) \
    X(CUresult, cuDevicePrimaryCtxRelease_v2, (CUdevice device), (device), CONTEXT, cuDevicePrimaryCtxRelease, 11000, LEGACY) \
    X(CUresult, cuDevicePrimaryCtxReset, (CUdevice device), (device), CONTEXT, cuDevicePrimaryCtxReset, 7000, LEGACY) \
    X(CUresult, cuDevicePrimaryCtxReset_v2, (CUdevice device), (device), CONTEXT, cuDevicePrimaryCtxReset, 11000, LEGACY) \
    X(CUresult, cuLaunchKernel, (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared_bytes, CUstream stream, void **params, void **extra), (function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, params, extra), LAUNCH, cuLaunchKernel, 4000, LEGACY) \
    X(CUresult, cuLaunchKernel_ptsz, (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared_bytes, CUstream stream, void **params, void **extra), (function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, params, extra), LAUNCH, cuLaunchKernel, 7000, PER_THREAD) \
    X(CUresult, cuLaunchCooperativeKernel, (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared_bytes, CUstream stream, void **params), (function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, params), LAUNCH, cuLaunchCooperativeKernel, 9000, LEGACY) \
    X(CUresult, cuLaunchCooperativeKernel_ptsz, (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared_bytes, CUstream stream, void **params), (function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, params), LAUNCH, cuLaunchCooperativeKernel, 9000, PER_THREAD) \
    X(CUresult, cuLaunchKernelEx, (const CUlaunchConfig *config, CUfunction function, void **params, void **extra), (config, function, params, extra), LAUNCH, cuLaunchKernelEx, 11060, LEGACY) \
    X(CUresult, cuLaunchKernelEx_ptsz, (const CUlaunchConfig *config, CUfunction function, void **params, void **extra), (config, function, params, extra), LAUNCH, cuLaunchKernelEx, 11060, PER_THREAD) \
    X(CUresult, cuLaunchCooperativeKernelMultiDevice, (CUDA_LAUNCH_PARAMS *launches, unsigned int count, unsigned int flags), (launches, count, flags), LAUNCH, cuLaunchCooperativeKernelMultiDevice, 9000, LEGACY) \
    X(CUresult, cuLaunch, (CUfunction function), (function), LAUNCH, cuLaunch, 2000, LEGACY) \
    X(CUresult, cuLaunchGrid, (CUfunction function, int width, int height), (function, width, height), LAUNCH, cuLaunchGrid, 2000, LEGACY) \
    X(CUresult, cuLaunchGridAsync, (CUfunction function, int width, int height, CUstream stream), (function, width, height, stream), LAUNCH, cuLaunchGridAsync, 2000, LEGACY) \
    X(CUresult, cuGraphLaunch, (CUgraphExec graph, CUstream stream), (graph, stream), LAUNCH, cuGraphLaunch, 10000, LEGACY) \
    X(CUresult, cuGraphLaunch_ptsz, (CUgraphExec graph, CUstream stream), (graph, stream), LAUNCH, cuGraphLaunch, 10000, PER_THREAD) \
    X(CUresult, cuStreamBeginCapture, (CUstream stream), (stream), CAPTURE, cuStreamBeginCapture, 10000, LEGACY) \
    X(CUresult, cuStreamBeginCapture_ptsz, (CUstream stream), (stream), CAPTURE, cuStreamBeginCapture, 10000, PER_THREAD) \
    X(CUresult, cuStreamBeginCapture_v2, (CUstream stream, int mode), (stream, mode), CAPTURE, cuStreamBeginCapture, 10010, LEGACY) \
    X(CUresult, cuStreamBeginCapture_v2_ptsz, (CUstream stream, int mode), (stream, mode), CAPTURE, cuStreamBeginCapture, 10010, PER_THREAD) \
    X(CUresult, cuStreamBeginCaptureToGraph, (CUstream stream, CUgraph graph, const void *nodes, const void *edges, size_t count, int mode), (stream, graph, nodes, edges, count, mode), CAPTURE, cuStreamBeginCaptureToGraph, 12030, LEGACY) \
    X(CUresult, cuStreamBeginCaptureToGraph_ptsz, (CUstream stream, CUgraph graph, const void *nodes, const void *edges, size_t count, int mode), (stream, graph, nodes, edges, count, mode), CAPTURE, cuStreamBeginCaptureToGraph, 12030, PER_THREAD) \
    X(CUresult, cuStreamEndCapture, (CUstream stream, CUgraph *graph), (stream, graph), CAPTURE, cuStreamEndCapture, 10000, LEGACY) \
    X(CUresult, cuStreamEndCapture_ptsz, (CUstream stream, CUgraph *graph), (stream, graph), CAPTURE, cuStreamEndCapture, 10000, PER_THREAD) \
    X(CUresult, cuModuleGetFunction, (CUfunction *function, CUmodule module, const char *name), (function, module, name), NAME, cuModuleGetFunction, 2000, LEGACY) \
    X(CUresult, cuLibraryGetKernel, (CUkernel *kernel, CUlibrary library, const char *name), (kernel, library, name), NAME, cuLibraryGetKernel, 12000, LEGACY) \
    X(CUresult, cuKernelGetFunction, (CUfunction *function, CUkernel kernel), (function, kernel), NAME, cuKernelGetFunction, 12000, LEGACY) \
    X(CUresult, cuFuncSetBlockShape, (CUfunction function, int x, int y, int z), (function, x, y, z), NAME, cuFuncSetBlockShape, 2000, LEGACY) \
    X(CUresult, cuStreamCreateWithPriority, (CUstream *stream, unsigned int flags, int priority), (stream, flags, priority), NAME, cuStreamCreateWithPriority, 5050, LEGACY) \
    X(CUresult, cuStreamDestroy, (CUstream stream), (stream), NAME, cuStreamDestroy, 2000, LEGACY) \
    X(CUresult, cuStreamDestroy_v2, (CUstream stream), (stream), NAME, cuStreamDestroy, 4000, LEGACY) \
    X(CUresult, cuGraphInstantiate, (CUgraphExec *exec, CUgraph graph, CUgraphNode *node, char *log, size_t bytes), (exec, graph, node, log, bytes), GRAPH, cuGraphInstantiate, 10000, LEGACY) \
    X(CUresult, cuGraphInstantiate_v2, (CUgraphExec *exec, CUgraph graph, CUgraphNode *node, char *log, size_t bytes), (exec, graph, node, log, bytes), GRAPH, cuGraphInstantiate, 11000, LEGACY) \
    X(CUresult, cuGraphInstantiateWithFlags, (CUgraphExec *exec, CUgraph graph, unsigned long long flags), (exec, graph, flags), GRAPH, cuGraphInstantiateWithFlags, 11040, LEGACY) \
    X(CUresult, cuGraphInstantiateWithParams, (CUgraphExec *exec, CUgraph graph, void *params), (exec, graph, params), GRAPH, cuGraphInstantiateWithParams, 12000, LEGACY) \
    X(CUresult, cuGraphInstantiateWithParams_ptsz, (CUgraphExec *exec, CUgraph graph, void *params), (exec, graph, params), GRAPH, cuGraphInstantiateWithParams, 12000, PER_THREAD) \
    X(CUresult, cuGraphExecUpdate, (CUgraphExec exec, CUgraph graph, CUgraphNode *node, int *answer), (exec, graph, node, answer), GRAPH, cuGraphExecUpdate, 10020, LEGACY) \
    X(CUresult, cuGraphExecUpdate_v2, (CUgraphExec exec, CUgraph graph, void *answer), (exec, graph, answer), GRAPH, cuGraphExecUpdate, 12000, LEGACY) \
    X(CUresult, cuGraphExecChildGraphNodeSetParams, (CUgraphExec exec, CUgraphNode node, CUgraph child), (exec, node, child), GRAPH, cuGraphExecChildGraphNodeSetParams, 11010, LEGACY) \
    X(CUresult, cuGraphNodeSetEnabled, (CUgraphExec exec, CUgraphNode node, unsigned int enabled), (exec, node, enabled), GRAPH, cuGraphNodeSetEnabled, 11060, LEGACY) \
    X(CUresult, cuGraphExecKernelNodeSetParams, (CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *kernel), (exec, node, kernel), GRAPH, cuGraphExecKernelNodeSetParams, 10010, LEGACY) \
    X(CUresult, cuGraphExecKernelNodeSetParams_v2, (CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *kernel), (exec, node, kernel), GRAPH, cuGraphExecKernelNodeSetParams, 12000, LEGACY) \
    X(CUresult, cuGraphExecNodeSetParams, (CUgraphExec exec, CUgraphNode node, CUgraphNodeParams *params), (exec, node, params), GRAPH, cuGraphExecNodeSetParams, 12020, LEGACY) \
    X(CUresult, cuGraphExecDestroy, (CUgraphExec exec), (exec), GRAPH, cuGraphExecDestroy, 10000, LEGACY) \
    COPIES(COPY_HOOK, X)

/* What later versions call by the base name of another function: Z(name, base, since). */
#define CUDA_RENAMED(Z) Z(cuGraphInstantiateWithFlags, cuGraphInstantiate, 12000)

/* What the shim itself asks of the driver: Y(return type, name, parameters). */
#define CUDA_CALLS(Y) \
    Y(CUresult, cuCtxFromGreenCtx, (CUcontext *context, CUgreenCtx green)) \
    Y(CUresult, cuCtxGetCurrent, (CUcontext *context)) \
    Y(CUresult, cuCtxGetDevice, (CUdevice *device)) \
    Y(CUresult, cuCtxSetCurrent, (CUcontext context)) \
    Y(CUresult, cuCtxPopCurrent_v2, (CUcontext *context)) \
    Y(CUresult, cuCtxPushCurrent_v2, (CUcontext context)) \
    Y(CUresult, cuGraphChildGraphNodeGetGraph, (CUgraphNode node, CUgraph *graph)) \
    Y(CUresult, cuGraphGetNodes, (CUgraph graph, CUgraphNode *nodes, size_t *count)) \
    Y(CUresult, cuGraphKernelNodeGetParams, (CUgraphNode node, CUDA_KERNEL_NODE_PARAMS *params)) \
    Y(CUresult, cuGraphKernelNodeGetParams_v2, (CUgraphNode node, CUDA_KERNEL_NODE_PARAMS *params)) \
    Y(CUresult, cuGraphNodeGetParams, (CUgraphNode node, CUgraphNodeParams *params)) \
    Y(CUresult, cuGraphNodeGetType, (CUgraphNode node, int *type)) \
    Y(CUresult, cuStreamGetCtx, (CUstream stream, CUcontext *context)) \
    Y(CUresult, cuCtxGetLimit, (size_t *value, int limit)) \
    Y(CUresult, cuDevResourceGenerateDesc, (CUdevResourceDesc *description, CUdevResource *resources, unsigned int count)) \
    Y(CUresult, cuDevSmResourceSplitByCount, (CUdevResource *groups, unsigned int *count, const CUdevResource *input, CUdevResource *rest, unsigned int flags, unsigned int smallest)) \
    Y(CUresult, cuDeviceGetGraphMemAttribute, (CUdevice device, int attribute, void *value)) \
    Y(CUresult, cuGraphMemAllocNodeGetParams, (CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS *params)) \
    Y(CUresult, cuDeviceGetDevResource, (CUdevice device, CUdevResource *resource, int type)) \
    Y(CUresult, cuDeviceGetUuid, (CUuuid *uuid, CUdevice device)) \
    Y(CUresult, cuDevicePrimaryCtxGetState, (CUdevice device, unsigned int *flags, int *active)) \
    Y(CUresult, cuEventCreate, (CUevent *event, unsigned int flags)) \
    Y(CUresult, cuEventDestroy_v2, (CUevent event)) \
    Y(CUresult, cuEventElapsedTime, (float *milliseconds, CUevent start, CUevent end)) \
    Y(CUresult, cuEventQuery, (CUevent event)) \
    Y(CUresult, cuEventRecord, (CUevent event, CUstream stream)) \
    Y(CUresult, cuGreenCtxCreate, (CUgreenCtx *green, CUdevResourceDesc description, CUdevice device, unsigned int flags)) \
    Y(CUresult, cuGreenCtxDestroy, (CUgreenCtx green)) \
    Y(CUresult, cuMemPoolGetAttribute, (CUmemoryPool pool, int attribute, void *value)) \
    Y(CUresult, cuStreamIsCapturing, (CUstream stream, int *status)) \
    Y(CUresult, cuThreadExchangeStreamCaptureMode, (int *mode))
/* clang-format on */

#endif
