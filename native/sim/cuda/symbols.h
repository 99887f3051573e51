/* SPDX-License-Identifier: Apache-2.0
 *
 * The one list of what the simulated libcuda offers: exports, prototypes and cuGetProcAddress all come from it.
 *
 *   M  symbol, name to ask for, CUDA version that brought this form, variant, parameters
 *   Z  as M, and the same with _ptsz, whose NULL stream is the thread's own (since 7.0 at the earliest)
 *   D  as M, and the same with _ptds
 *
 * What exists in CUDA and is not modelled stands in refused.h and answers CUDA_ERROR_NOT_SUPPORTED.
 */
#ifndef MICA_SIM_CUDA_SYMBOLS_H
#define MICA_SIM_CUDA_SYMBOLS_H

#include "abi.h"

enum sim_variant { VARIANT_PLAIN, VARIANT_PER_THREAD };

#define Z(M, symbol, name, since, since_z, parameters)                                                                                     \
    M(symbol, name, since, PLAIN, parameters) M(symbol##_ptsz, name, since_z, PER_THREAD, parameters)
#define D(M, symbol, name, since, parameters)                                                                                              \
    M(symbol, name, since, PLAIN, parameters) M(symbol##_ptds, name, 7000, PER_THREAD, parameters)

#define SYMBOLS_ENTRY(M)                                                                                                                   \
    M(cuInit, cuInit, 2000, PLAIN, (unsigned flags))                                                                                       \
    M(cuDriverGetVersion, cuDriverGetVersion, 2020, PLAIN, (int *version))                                                                 \
    M(cuGetErrorString, cuGetErrorString, 6000, PLAIN, (CUresult error, const char **text))                                                \
    M(cuGetErrorName, cuGetErrorName, 6000, PLAIN, (CUresult error, const char **text))                                                    \
    M(cuGetProcAddress, cuGetProcAddress, 11030, PLAIN, (const char *name, void **function, int version, uint64_t flags))                  \
    M(cuGetProcAddress_v2, cuGetProcAddress, 12000, PLAIN, (const char *name, void **function, int version, uint64_t flags, int *status))  \
    M(cuGetExportTable, cuGetExportTable, 3000, PLAIN, (const void **table, const CUuuid *id))                                             \
    M(cuProfilerStart, cuProfilerStart, 4000, PLAIN, (void))                                                                               \
    M(cuProfilerStop, cuProfilerStop, 4000, PLAIN, (void))

#define SYMBOLS_DEVICE(M)                                                                                                                  \
    M(cuDeviceGet, cuDeviceGet, 2000, PLAIN, (CUdevice * device, int ordinal))                                                             \
    M(cuDeviceGetCount, cuDeviceGetCount, 2000, PLAIN, (int *count))                                                                       \
    M(cuDeviceGetName, cuDeviceGetName, 2000, PLAIN, (char *name, int length, CUdevice device))                                            \
    M(cuDeviceGetUuid, cuDeviceGetUuid, 9020, PLAIN, (CUuuid * uuid, CUdevice device))                                                     \
    M(cuDeviceGetUuid_v2, cuDeviceGetUuid, 11040, PLAIN, (CUuuid * uuid, CUdevice device))                                                 \
    M(cuDeviceTotalMem_v2, cuDeviceTotalMem, 3020, PLAIN, (size_t *bytes, CUdevice device))                                                \
    M(cuDeviceGetAttribute, cuDeviceGetAttribute, 2000, PLAIN, (int *value, int attribute, CUdevice device))                               \
    M(cuDeviceGetProperties, cuDeviceGetProperties, 2000, PLAIN, (CUdevprop * properties, CUdevice device))                                \
    M(cuDeviceComputeCapability, cuDeviceComputeCapability, 2000, PLAIN, (int *major, int *minor, CUdevice device))                        \
    M(cuDeviceGetPCIBusId, cuDeviceGetPCIBusId, 4010, PLAIN, (char *id, int length, CUdevice device))                                      \
    M(cuDeviceGetByPCIBusId, cuDeviceGetByPCIBusId, 4010, PLAIN, (CUdevice * device, const char *id))                                      \
    M(cuDeviceCanAccessPeer, cuDeviceCanAccessPeer, 4000, PLAIN, (int *can, CUdevice device, CUdevice peer))                               \
    M(cuDeviceGetExecAffinitySupport, cuDeviceGetExecAffinitySupport, 11040, PLAIN, (int *supported, int type, CUdevice device))

#define SYMBOLS_CONTEXT(M)                                                                                                                 \
    M(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain, 7000, PLAIN, (CUcontext * context, CUdevice device))                             \
    M(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease, 7000, PLAIN, (CUdevice device))                                                \
    M(cuDevicePrimaryCtxRelease_v2, cuDevicePrimaryCtxRelease, 11000, PLAIN, (CUdevice device))                                            \
    M(cuDevicePrimaryCtxSetFlags, cuDevicePrimaryCtxSetFlags, 7000, PLAIN, (CUdevice device, unsigned flags))                              \
    M(cuDevicePrimaryCtxSetFlags_v2, cuDevicePrimaryCtxSetFlags, 11000, PLAIN, (CUdevice device, unsigned flags))                          \
    M(cuDevicePrimaryCtxGetState, cuDevicePrimaryCtxGetState, 7000, PLAIN, (CUdevice device, unsigned *flags, int *active))                \
    M(cuDevicePrimaryCtxReset, cuDevicePrimaryCtxReset, 7000, PLAIN, (CUdevice device))                                                    \
    M(cuDevicePrimaryCtxReset_v2, cuDevicePrimaryCtxReset, 11000, PLAIN, (CUdevice device))                                                \
    M(cuCtxCreate_v2, cuCtxCreate, 3020, PLAIN, (CUcontext * context, unsigned flags, CUdevice device))                                    \
    M(cuCtxCreate_v3, cuCtxCreate, 11040, PLAIN, (CUcontext * context, void *affinity, int count, unsigned flags, CUdevice device))        \
    M(cuCtxCreate_v4, cuCtxCreate, 12050, PLAIN, (CUcontext * context, void *parameters, unsigned flags, CUdevice device))                 \
    M(cuCtxDestroy, cuCtxDestroy, 2000, PLAIN, (CUcontext context))                                                                        \
    M(cuCtxDestroy_v2, cuCtxDestroy, 4000, PLAIN, (CUcontext context))                                                                     \
    M(cuCtxPushCurrent, cuCtxPushCurrent, 2000, PLAIN, (CUcontext context))                                                                \
    M(cuCtxPushCurrent_v2, cuCtxPushCurrent, 4000, PLAIN, (CUcontext context))                                                             \
    M(cuCtxPopCurrent, cuCtxPopCurrent, 2000, PLAIN, (CUcontext * context))                                                                \
    M(cuCtxPopCurrent_v2, cuCtxPopCurrent, 4000, PLAIN, (CUcontext * context))                                                             \
    M(cuCtxSetCurrent, cuCtxSetCurrent, 4000, PLAIN, (CUcontext context))                                                                  \
    M(cuCtxGetCurrent, cuCtxGetCurrent, 4000, PLAIN, (CUcontext * context))                                                                \
    M(cuCtxGetDevice, cuCtxGetDevice, 2000, PLAIN, (CUdevice * device))                                                                    \
    M(cuCtxGetDevice_v2, cuCtxGetDevice, 13000, PLAIN, (CUdevice * device, CUcontext context))                                             \
    M(cuCtxGetFlags, cuCtxGetFlags, 7000, PLAIN, (unsigned *flags))                                                                        \
    M(cuCtxSetFlags, cuCtxSetFlags, 12010, PLAIN, (unsigned flags))                                                                        \
    M(cuCtxGetId, cuCtxGetId, 12000, PLAIN, (CUcontext context, unsigned long long *id))                                                   \
    M(cuCtxSynchronize, cuCtxSynchronize, 2000, PLAIN, (void))                                                                             \
    M(cuCtxSynchronize_v2, cuCtxSynchronize, 13000, PLAIN, (CUcontext context))                                                            \
    M(cuCtxSetLimit, cuCtxSetLimit, 3010, PLAIN, (int limit, size_t value))                                                                \
    M(cuCtxGetLimit, cuCtxGetLimit, 3010, PLAIN, (size_t *value, int limit))                                                               \
    M(cuCtxGetCacheConfig, cuCtxGetCacheConfig, 3020, PLAIN, (int *config))                                                                \
    M(cuCtxSetCacheConfig, cuCtxSetCacheConfig, 3020, PLAIN, (int config))                                                                 \
    M(cuCtxGetSharedMemConfig, cuCtxGetSharedMemConfig, 4020, PLAIN, (int *config))                                                        \
    M(cuCtxSetSharedMemConfig, cuCtxSetSharedMemConfig, 4020, PLAIN, (int config))                                                         \
    M(cuCtxGetApiVersion, cuCtxGetApiVersion, 3020, PLAIN, (CUcontext context, unsigned *version))                                         \
    M(cuCtxGetStreamPriorityRange, cuCtxGetStreamPriorityRange, 5050, PLAIN, (int *least, int *greatest))

#define SYMBOLS_MODULE(M)                                                                                                                  \
    M(cuModuleLoad, cuModuleLoad, 2000, PLAIN, (CUmodule * module, const char *path))                                                      \
    M(cuModuleLoadData, cuModuleLoadData, 2000, PLAIN, (CUmodule * module, const void *image))                                             \
    M(cuModuleLoadDataEx, cuModuleLoadDataEx, 2010, PLAIN, (CUmodule * module, const void *image, unsigned n, int *options, void **values)) \
    M(cuModuleLoadFatBinary, cuModuleLoadFatBinary, 2000, PLAIN, (CUmodule * module, const void *image))                                   \
    M(cuModuleUnload, cuModuleUnload, 2000, PLAIN, (CUmodule module))                                                                      \
    M(cuModuleGetLoadingMode, cuModuleGetLoadingMode, 11070, PLAIN, (int *mode))                                                           \
    M(cuModuleGetFunction, cuModuleGetFunction, 2000, PLAIN, (CUfunction * function, CUmodule module, const char *name))                   \
    M(cuModuleGetGlobal_v2, cuModuleGetGlobal, 3020, PLAIN, (CUdeviceptr * address, size_t *bytes, CUmodule module, const char *name))     \
    M(cuLibraryLoadData, cuLibraryLoadData, 12000, PLAIN,                                                                                  \
      (CUlibrary * library, const void *code, int *jit, void **jit_values, unsigned jit_count, int *options, void **values, unsigned count)) \
    M(cuLibraryLoadFromFile, cuLibraryLoadFromFile, 12000, PLAIN,                                                                          \
      (CUlibrary * library, const char *path, int *jit, void **jit_values, unsigned jit_count, int *options, void **values, unsigned count)) \
    M(cuLibraryUnload, cuLibraryUnload, 12000, PLAIN, (CUlibrary library))                                                                 \
    M(cuLibraryGetKernel, cuLibraryGetKernel, 12000, PLAIN, (CUkernel * kernel, CUlibrary library, const char *name))                      \
    M(cuLibraryGetModule, cuLibraryGetModule, 12000, PLAIN, (CUmodule * module, CUlibrary library))                                        \
    M(cuKernelGetFunction, cuKernelGetFunction, 12000, PLAIN, (CUfunction * function, CUkernel kernel))                                    \
    M(cuKernelGetLibrary, cuKernelGetLibrary, 12050, PLAIN, (CUlibrary * library, CUkernel kernel))                                        \
    M(cuKernelGetName, cuKernelGetName, 12030, PLAIN, (const char **name, CUkernel kernel))                                                \
    M(cuKernelGetAttribute, cuKernelGetAttribute, 12000, PLAIN, (int *value, int attribute, CUkernel kernel, CUdevice device))             \
    M(cuKernelSetAttribute, cuKernelSetAttribute, 12000, PLAIN, (int attribute, int value, CUkernel kernel, CUdevice device))              \
    M(cuKernelSetCacheConfig, cuKernelSetCacheConfig, 12000, PLAIN, (CUkernel kernel, int config, CUdevice device))                        \
    M(cuFuncGetAttribute, cuFuncGetAttribute, 2020, PLAIN, (int *value, int attribute, CUfunction function))                               \
    M(cuFuncSetAttribute, cuFuncSetAttribute, 9000, PLAIN, (CUfunction function, int attribute, int value))                                \
    M(cuFuncSetCacheConfig, cuFuncSetCacheConfig, 3000, PLAIN, (CUfunction function, int config))                                          \
    M(cuFuncGetModule, cuFuncGetModule, 11000, PLAIN, (CUmodule * module, CUfunction function))                                            \
    M(cuFuncGetName, cuFuncGetName, 12030, PLAIN, (const char **name, CUfunction function))                                                \
    M(cuFuncIsLoaded, cuFuncIsLoaded, 12040, PLAIN, (int *state, CUfunction function))                                                     \
    M(cuFuncLoad, cuFuncLoad, 12040, PLAIN, (CUfunction function))

#define SYMBOLS_MEMORY(M)                                                                                                                  \
    M(cuMemGetInfo_v2, cuMemGetInfo, 3020, PLAIN, (size_t *free_bytes, size_t *total_bytes))                                               \
    M(cuMemAlloc_v2, cuMemAlloc, 3020, PLAIN, (CUdeviceptr * address, size_t bytes))                                                       \
    M(cuMemAllocPitch_v2, cuMemAllocPitch, 3020, PLAIN, (CUdeviceptr * address, size_t *pitch, size_t width, size_t height, unsigned element)) \
    M(cuMemFree_v2, cuMemFree, 3020, PLAIN, (CUdeviceptr address))                                                                         \
    M(cuMemGetAddressRange_v2, cuMemGetAddressRange, 3020, PLAIN, (CUdeviceptr * base, size_t *bytes, CUdeviceptr address))                \
    M(cuMemAllocHost_v2, cuMemAllocHost, 3020, PLAIN, (void **pointer, size_t bytes))                                                      \
    M(cuMemHostAlloc, cuMemHostAlloc, 2020, PLAIN, (void **pointer, size_t bytes, unsigned flags))                                         \
    M(cuMemFreeHost, cuMemFreeHost, 2000, PLAIN, (void *pointer))                                                                          \
    M(cuMemHostRegister_v2, cuMemHostRegister, 6050, PLAIN, (void *pointer, size_t bytes, unsigned flags))                                 \
    M(cuMemHostUnregister, cuMemHostUnregister, 4000, PLAIN, (void *pointer))                                                              \
    M(cuMemHostGetDevicePointer_v2, cuMemHostGetDevicePointer, 3020, PLAIN, (CUdeviceptr * address, void *pointer, unsigned flags))        \
    M(cuMemHostGetFlags, cuMemHostGetFlags, 2030, PLAIN, (unsigned *flags, void *pointer))                                                 \
    M(cuPointerGetAttribute, cuPointerGetAttribute, 4000, PLAIN, (void *data, int attribute, CUdeviceptr address))                         \
    M(cuPointerGetAttributes, cuPointerGetAttributes, 7000, PLAIN, (unsigned n, int *attributes, void **data, CUdeviceptr address))        \
    M(cuPointerSetAttribute, cuPointerSetAttribute, 6000, PLAIN, (const void *value, int attribute, CUdeviceptr address))

#define SYMBOLS_POOL(M)                                                                                                                    \
    Z(M, cuMemAllocAsync, cuMemAllocAsync, 11020, 11020, (CUdeviceptr * address, size_t bytes, CUstream stream))                           \
    Z(M, cuMemAllocFromPoolAsync, cuMemAllocFromPoolAsync, 11020, 11020,                                                                   \
      (CUdeviceptr * address, size_t bytes, CUmemoryPool pool, CUstream stream))                                                           \
    Z(M, cuMemFreeAsync, cuMemFreeAsync, 11020, 11020, (CUdeviceptr address, CUstream stream))                                             \
    M(cuMemPoolCreate, cuMemPoolCreate, 11020, PLAIN, (CUmemoryPool * pool, const CUmemPoolProps *properties))                             \
    M(cuMemPoolDestroy, cuMemPoolDestroy, 11020, PLAIN, (CUmemoryPool pool))                                                               \
    M(cuMemPoolTrimTo, cuMemPoolTrimTo, 11020, PLAIN, (CUmemoryPool pool, size_t keep_bytes))                                              \
    M(cuMemPoolSetAttribute, cuMemPoolSetAttribute, 11020, PLAIN, (CUmemoryPool pool, int attribute, void *value))                         \
    M(cuMemPoolGetAttribute, cuMemPoolGetAttribute, 11020, PLAIN, (CUmemoryPool pool, int attribute, void *value))                         \
    M(cuDeviceGetDefaultMemPool, cuDeviceGetDefaultMemPool, 11020, PLAIN, (CUmemoryPool * pool, CUdevice device))                          \
    M(cuDeviceGetMemPool, cuDeviceGetMemPool, 11020, PLAIN, (CUmemoryPool * pool, CUdevice device))                                        \
    M(cuDeviceSetMemPool, cuDeviceSetMemPool, 11020, PLAIN, (CUdevice device, CUmemoryPool pool))                                          \
    M(cuMemPoolSetAccess, cuMemPoolSetAccess, 11020, PLAIN, (CUmemoryPool pool, const CUmemAccessDesc *descriptors, size_t n))             \
    M(cuMemPoolGetAccess, cuMemPoolGetAccess, 11020, PLAIN, (uint32_t *flags, CUmemoryPool pool, CUmemLocation *location))                 \
    M(cuMemPoolExportToShareableHandle, cuMemPoolExportToShareableHandle, 11020, PLAIN,                                                    \
      (void *shareable, CUmemoryPool pool, int type, unsigned long long flags))                                                            \
    M(cuMemPoolImportFromShareableHandle, cuMemPoolImportFromShareableHandle, 11020, PLAIN,                                                \
      (CUmemoryPool * pool, void *shareable, int type, unsigned long long flags))                                                          \
    M(cuMemPoolExportPointer, cuMemPoolExportPointer, 11020, PLAIN, (CUmemPoolPtrExportData * data, CUdeviceptr address))                  \
    M(cuMemPoolImportPointer, cuMemPoolImportPointer, 11020, PLAIN,                                                                        \
      (CUdeviceptr * address, CUmemoryPool pool, CUmemPoolPtrExportData *data))                                                            \
    M(cuMemGetDefaultMemPool, cuMemGetDefaultMemPool, 13000, PLAIN, (CUmemoryPool * pool, CUmemLocation *location, int type))              \
    M(cuMemGetMemPool, cuMemGetMemPool, 13000, PLAIN, (CUmemoryPool * pool, CUmemLocation *location, int type))                            \
    M(cuMemSetMemPool, cuMemSetMemPool, 13000, PLAIN, (CUmemLocation * location, int type, CUmemoryPool pool))

#define SYMBOLS_COPY(M)                                                                                                                    \
    D(M, cuMemcpy, cuMemcpy, 4000, (CUdeviceptr dst, CUdeviceptr src, size_t bytes))                                                       \
    D(M, cuMemcpyHtoD_v2, cuMemcpyHtoD, 3020, (CUdeviceptr dst, const void *src, size_t bytes))                                            \
    D(M, cuMemcpyDtoH_v2, cuMemcpyDtoH, 3020, (void *dst, CUdeviceptr src, size_t bytes))                                                  \
    D(M, cuMemcpyDtoD_v2, cuMemcpyDtoD, 3020, (CUdeviceptr dst, CUdeviceptr src, size_t bytes))                                            \
    D(M, cuMemcpyPeer, cuMemcpyPeer, 4000, (CUdeviceptr dst, CUcontext to, CUdeviceptr src, CUcontext from, size_t bytes))                 \
    D(M, cuMemcpy2D_v2, cuMemcpy2D, 3020, (const CUDA_MEMCPY2D *copy))                                                                     \
    D(M, cuMemcpy2DUnaligned_v2, cuMemcpy2DUnaligned, 3020, (const CUDA_MEMCPY2D *copy))                                                   \
    D(M, cuMemcpy3D_v2, cuMemcpy3D, 3020, (const CUDA_MEMCPY3D *copy))                                                                     \
    Z(M, cuMemcpyAsync, cuMemcpyAsync, 4000, 7000, (CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream))                      \
    Z(M, cuMemcpyHtoDAsync_v2, cuMemcpyHtoDAsync, 3020, 7000, (CUdeviceptr dst, const void *src, size_t bytes, CUstream stream))           \
    Z(M, cuMemcpyDtoHAsync_v2, cuMemcpyDtoHAsync, 3020, 7000, (void *dst, CUdeviceptr src, size_t bytes, CUstream stream))                 \
    Z(M, cuMemcpyDtoDAsync_v2, cuMemcpyDtoDAsync, 3020, 7000, (CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream))           \
    Z(M, cuMemcpyPeerAsync, cuMemcpyPeerAsync, 4000, 7000,                                                                                 \
      (CUdeviceptr dst, CUcontext to, CUdeviceptr src, CUcontext from, size_t bytes, CUstream stream))                                     \
    Z(M, cuMemcpy2DAsync_v2, cuMemcpy2DAsync, 3020, 7000, (const CUDA_MEMCPY2D *copy, CUstream stream))                                    \
    Z(M, cuMemcpy3DAsync_v2, cuMemcpy3DAsync, 3020, 7000, (const CUDA_MEMCPY3D *copy, CUstream stream))                                    \
    D(M, cuMemsetD8_v2, cuMemsetD8, 3020, (CUdeviceptr dst, unsigned char value, size_t n))                                                \
    D(M, cuMemsetD16_v2, cuMemsetD16, 3020, (CUdeviceptr dst, unsigned short value, size_t n))                                             \
    D(M, cuMemsetD32_v2, cuMemsetD32, 3020, (CUdeviceptr dst, unsigned value, size_t n))                                                   \
    D(M, cuMemsetD2D8_v2, cuMemsetD2D8, 3020, (CUdeviceptr dst, size_t pitch, unsigned char value, size_t width, size_t height))           \
    D(M, cuMemsetD2D16_v2, cuMemsetD2D16, 3020, (CUdeviceptr dst, size_t pitch, unsigned short value, size_t width, size_t height))        \
    D(M, cuMemsetD2D32_v2, cuMemsetD2D32, 3020, (CUdeviceptr dst, size_t pitch, unsigned value, size_t width, size_t height))              \
    Z(M, cuMemsetD8Async, cuMemsetD8Async, 3020, 7000, (CUdeviceptr dst, unsigned char value, size_t n, CUstream stream))                  \
    Z(M, cuMemsetD16Async, cuMemsetD16Async, 3020, 7000, (CUdeviceptr dst, unsigned short value, size_t n, CUstream stream))               \
    Z(M, cuMemsetD32Async, cuMemsetD32Async, 3020, 7000, (CUdeviceptr dst, unsigned value, size_t n, CUstream stream))                     \
    Z(M, cuMemsetD2D8Async, cuMemsetD2D8Async, 3020, 7000,                                                                                 \
      (CUdeviceptr dst, size_t pitch, unsigned char value, size_t width, size_t height, CUstream stream))                                  \
    Z(M, cuMemsetD2D16Async, cuMemsetD2D16Async, 3020, 7000,                                                                               \
      (CUdeviceptr dst, size_t pitch, unsigned short value, size_t width, size_t height, CUstream stream))                                 \
    Z(M, cuMemsetD2D32Async, cuMemsetD2D32Async, 3020, 7000,                                                                               \
      (CUdeviceptr dst, size_t pitch, unsigned value, size_t width, size_t height, CUstream stream))

#define SYMBOLS_STREAM(M)                                                                                                                  \
    M(cuStreamCreate, cuStreamCreate, 2000, PLAIN, (CUstream * stream, unsigned flags))                                                    \
    M(cuStreamCreateWithPriority, cuStreamCreateWithPriority, 5050, PLAIN, (CUstream * stream, unsigned flags, int priority))              \
    M(cuStreamDestroy, cuStreamDestroy, 2000, PLAIN, (CUstream stream))                                                                    \
    M(cuStreamDestroy_v2, cuStreamDestroy, 4000, PLAIN, (CUstream stream))                                                                 \
    Z(M, cuStreamGetPriority, cuStreamGetPriority, 5050, 7000, (CUstream stream, int *priority))                                           \
    Z(M, cuStreamGetFlags, cuStreamGetFlags, 5050, 7000, (CUstream stream, unsigned *flags))                                               \
    Z(M, cuStreamGetId, cuStreamGetId, 12000, 12000, (CUstream stream, unsigned long long *id))                                            \
    Z(M, cuStreamGetCtx, cuStreamGetCtx, 9020, 9020, (CUstream stream, CUcontext * context))                                               \
    Z(M, cuStreamGetCtx_v2, cuStreamGetCtx, 12050, 12050, (CUstream stream, CUcontext * context, CUgreenCtx * green))                           \
    Z(M, cuStreamGetDevice, cuStreamGetDevice, 12080, 12080, (CUstream stream, CUdevice * device))                                         \
    Z(M, cuStreamQuery, cuStreamQuery, 2000, 7000, (CUstream stream))                                                                      \
    Z(M, cuStreamSynchronize, cuStreamSynchronize, 2000, 7000, (CUstream stream))                                                          \
    Z(M, cuStreamWaitEvent, cuStreamWaitEvent, 3020, 7000, (CUstream stream, CUevent event, unsigned flags))                               \
    Z(M, cuStreamAddCallback, cuStreamAddCallback, 5000, 7000,                                                                             \
      (CUstream stream, CUstreamCallback function, void *data, unsigned flags))                                                            \
    Z(M, cuLaunchHostFunc, cuLaunchHostFunc, 10000, 10000, (CUstream stream, CUhostFn function, void *data))                               \
    Z(M, cuStreamWaitValue32_v2, cuStreamWaitValue32, 11070, 11070, (CUstream stream, CUdeviceptr address, uint32_t value, unsigned flags)) \
    Z(M, cuStreamWaitValue64_v2, cuStreamWaitValue64, 11070, 11070, (CUstream stream, CUdeviceptr address, uint64_t value, unsigned flags)) \
    Z(M, cuStreamWriteValue32_v2, cuStreamWriteValue32, 11070, 11070,                                                                      \
      (CUstream stream, CUdeviceptr address, uint32_t value, unsigned flags))                                                              \
    Z(M, cuStreamWriteValue64_v2, cuStreamWriteValue64, 11070, 11070,                                                                      \
      (CUstream stream, CUdeviceptr address, uint64_t value, unsigned flags))                                                              \
    Z(M, cuStreamBatchMemOp_v2, cuStreamBatchMemOp, 11070, 11070,                                                                          \
      (CUstream stream, unsigned count, CUstreamValue *values, unsigned flags))                                                            \
    M(cuEventCreate, cuEventCreate, 2000, PLAIN, (CUevent * event, unsigned flags))                                                        \
    M(cuEventDestroy, cuEventDestroy, 2000, PLAIN, (CUevent event))                                                                        \
    M(cuEventDestroy_v2, cuEventDestroy, 4000, PLAIN, (CUevent event))                                                                     \
    Z(M, cuEventRecord, cuEventRecord, 2000, 7000, (CUevent event, CUstream stream))                                                       \
    Z(M, cuEventRecordWithFlags, cuEventRecordWithFlags, 11010, 11010, (CUevent event, CUstream stream, unsigned flags))                   \
    M(cuEventQuery, cuEventQuery, 2000, PLAIN, (CUevent event))                                                                            \
    M(cuEventSynchronize, cuEventSynchronize, 2000, PLAIN, (CUevent event))                                                                \
    M(cuEventElapsedTime, cuEventElapsedTime, 2000, PLAIN, (float *milliseconds, CUevent start, CUevent end))                              \
    M(cuEventElapsedTime_v2, cuEventElapsedTime, 12080, PLAIN, (float *milliseconds, CUevent start, CUevent end))

#define LAUNCH_PARAMETERS                                                                                                                  \
    (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,         \
     unsigned shared_bytes, CUstream stream, void **parameters, void **extra)
#define COOPERATIVE_PARAMETERS                                                                                                             \
    (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,         \
     unsigned shared_bytes, CUstream stream, void **parameters)

#define SYMBOLS_LAUNCH(M)                                                                                                                  \
    Z(M, cuLaunchKernel, cuLaunchKernel, 4000, 7000, LAUNCH_PARAMETERS)                                                                    \
    Z(M, cuLaunchKernelEx, cuLaunchKernelEx, 11060, 11060,                                                                                 \
      (const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra))                                                \
    Z(M, cuLaunchCooperativeKernel, cuLaunchCooperativeKernel, 9000, 9000, COOPERATIVE_PARAMETERS)                                         \
    M(cuLaunchCooperativeKernelMultiDevice, cuLaunchCooperativeKernelMultiDevice, 9000, PLAIN,                                             \
      (CUDA_LAUNCH_PARAMS * parts, unsigned count, unsigned flags))                                                                        \
    M(cuFuncSetBlockShape, cuFuncSetBlockShape, 2000, PLAIN, (CUfunction function, int x, int y, int z))                                   \
    M(cuFuncSetSharedSize, cuFuncSetSharedSize, 2000, PLAIN, (CUfunction function, unsigned bytes))                                        \
    M(cuLaunch, cuLaunch, 2000, PLAIN, (CUfunction function))                                                                              \
    M(cuLaunchGrid, cuLaunchGrid, 2000, PLAIN, (CUfunction function, int width, int height))                                               \
    M(cuLaunchGridAsync, cuLaunchGridAsync, 2000, PLAIN, (CUfunction function, int width, int height, CUstream stream))                    \
    M(cuOccupancyMaxActiveBlocksPerMultiprocessor, cuOccupancyMaxActiveBlocksPerMultiprocessor, 6050, PLAIN,                               \
      (int *blocks, CUfunction function, int block_threads, size_t dynamic_bytes))                                                         \
    M(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, 7000, PLAIN,             \
      (int *blocks, CUfunction function, int block_threads, size_t dynamic_bytes, unsigned flags))                                         \
    M(cuOccupancyMaxPotentialBlockSize, cuOccupancyMaxPotentialBlockSize, 6050, PLAIN,                                                     \
      (int *grid, int *block, CUfunction function, size_t (*dynamic)(int), size_t dynamic_bytes, int limit))                               \
    M(cuOccupancyMaxPotentialBlockSizeWithFlags, cuOccupancyMaxPotentialBlockSizeWithFlags, 7000, PLAIN,                                   \
      (int *grid, int *block, CUfunction function, size_t (*dynamic)(int), size_t dynamic_bytes, int limit, unsigned flags))               \
    M(cuOccupancyAvailableDynamicSMemPerBlock, cuOccupancyAvailableDynamicSMemPerBlock, 10020, PLAIN,                                      \
      (size_t *bytes, CUfunction function, int blocks, int block_threads))

#define SYMBOLS_VIRTUAL(M)                                                                                                                 \
    M(cuMemGetAllocationGranularity, cuMemGetAllocationGranularity, 10020, PLAIN,                                                          \
      (size_t *bytes, const CUmemAllocationProp *properties, int option))                                                                  \
    M(cuMemCreate, cuMemCreate, 10020, PLAIN,                                                                                              \
      (CUmemGenericAllocationHandle * handle, size_t bytes, const CUmemAllocationProp *properties, unsigned long long flags))              \
    M(cuMemRelease, cuMemRelease, 10020, PLAIN, (CUmemGenericAllocationHandle handle))                                                     \
    M(cuMemGetAllocationPropertiesFromHandle, cuMemGetAllocationPropertiesFromHandle, 10020, PLAIN,                                        \
      (CUmemAllocationProp * properties, CUmemGenericAllocationHandle handle))                                                             \
    M(cuMemRetainAllocationHandle, cuMemRetainAllocationHandle, 11000, PLAIN, (CUmemGenericAllocationHandle * handle, void *address))      \
    M(cuMemAddressReserve, cuMemAddressReserve, 10020, PLAIN,                                                                              \
      (CUdeviceptr * address, size_t bytes, size_t alignment, CUdeviceptr hint, unsigned long long flags))                                 \
    M(cuMemAddressFree, cuMemAddressFree, 10020, PLAIN, (CUdeviceptr address, size_t bytes))                                               \
    M(cuMemMap, cuMemMap, 10020, PLAIN,                                                                                                    \
      (CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle, unsigned long long flags))                   \
    M(cuMemUnmap, cuMemUnmap, 10020, PLAIN, (CUdeviceptr address, size_t bytes))                                                           \
    M(cuMemSetAccess, cuMemSetAccess, 10020, PLAIN, (CUdeviceptr address, size_t bytes, const CUmemAccessDesc *descriptors, size_t n))     \
    M(cuMemGetAccess, cuMemGetAccess, 10020, PLAIN, (unsigned long long *flags, const CUmemLocation *location, CUdeviceptr address))       \
    M(cuMemExportToShareableHandle, cuMemExportToShareableHandle, 10020, PLAIN,                                                            \
      (void *shareable, CUmemGenericAllocationHandle handle, int type, unsigned long long flags))                                          \
    M(cuMemImportFromShareableHandle, cuMemImportFromShareableHandle, 10020, PLAIN,                                                        \
      (CUmemGenericAllocationHandle * handle, void *shareable, int type))

#define SYMBOLS_MANAGED(M)                                                                                                                 \
    M(cuMemAllocManaged, cuMemAllocManaged, 6000, PLAIN, (CUdeviceptr * address, size_t bytes, unsigned flags))                            \
    Z(M, cuMemPrefetchAsync, cuMemPrefetchAsync, 8000, 8000, (CUdeviceptr address, size_t bytes, CUdevice device, CUstream stream))        \
    Z(M, cuMemPrefetchAsync_v2, cuMemPrefetchAsync, 12020, 12020,                                                                          \
      (CUdeviceptr address, size_t bytes, CUmemLocation location, unsigned flags, CUstream stream))                                        \
    M(cuMemAdvise, cuMemAdvise, 8000, PLAIN, (CUdeviceptr address, size_t bytes, int advice, CUdevice device))                             \
    M(cuMemAdvise_v2, cuMemAdvise, 12020, PLAIN, (CUdeviceptr address, size_t bytes, int advice, CUmemLocation location))                  \
    M(cuMemRangeGetAttribute, cuMemRangeGetAttribute, 8000, PLAIN,                                                                         \
      (void *data, size_t size, int attribute, CUdeviceptr address, size_t bytes))                                                         \
    M(cuMemRangeGetAttributes, cuMemRangeGetAttributes, 8000, PLAIN,                                                                       \
      (void **data, size_t *sizes, int *attributes, size_t n, CUdeviceptr address, size_t bytes))                                          \
    Z(M, cuStreamAttachMemAsync, cuStreamAttachMemAsync, 6000, 7000, (CUstream stream, CUdeviceptr address, size_t bytes, unsigned flags))

#define SYMBOLS_ARRAY(M)                                                                                                                   \
    M(cuArrayCreate_v2, cuArrayCreate, 3020, PLAIN, (CUarray * array, const CUDA_ARRAY_DESCRIPTOR *descriptor))                            \
    M(cuArray3DCreate_v2, cuArray3DCreate, 3020, PLAIN, (CUarray * array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor))                      \
    M(cuArrayDestroy, cuArrayDestroy, 2000, PLAIN, (CUarray array))                                                                        \
    M(cuArrayGetDescriptor_v2, cuArrayGetDescriptor, 3020, PLAIN, (CUDA_ARRAY_DESCRIPTOR * descriptor, CUarray array))                     \
    M(cuArray3DGetDescriptor_v2, cuArray3DGetDescriptor, 3020, PLAIN, (CUDA_ARRAY3D_DESCRIPTOR * descriptor, CUarray array))               \
    M(cuArrayGetPlane, cuArrayGetPlane, 11020, PLAIN, (CUarray * plane, CUarray array, unsigned index))                                    \
    M(cuArrayGetMemoryRequirements, cuArrayGetMemoryRequirements, 11060, PLAIN,                                                            \
      (CUDA_ARRAY_MEMORY_REQUIREMENTS * out, CUarray array, CUdevice device))                                                              \
    M(cuMipmappedArrayCreate, cuMipmappedArrayCreate, 5000, PLAIN,                                                                         \
      (CUmipmappedArray * mipmap, const CUDA_ARRAY3D_DESCRIPTOR *descriptor, unsigned levels))                                             \
    M(cuMipmappedArrayDestroy, cuMipmappedArrayDestroy, 5000, PLAIN, (CUmipmappedArray mipmap))                                            \
    M(cuMipmappedArrayGetLevel, cuMipmappedArrayGetLevel, 5000, PLAIN, (CUarray * level, CUmipmappedArray mipmap, unsigned index))         \
    M(cuMipmappedArrayGetMemoryRequirements, cuMipmappedArrayGetMemoryRequirements, 11060, PLAIN,                                          \
      (CUDA_ARRAY_MEMORY_REQUIREMENTS * out, CUmipmappedArray mipmap, CUdevice device))                                                    \
    M(cuTexObjectCreate, cuTexObjectCreate, 5000, PLAIN,                                                                                   \
      (CUtexObject * object, const CUDA_RESOURCE_DESC *resource, const CUDA_TEXTURE_DESC *sampling, const CUDA_RESOURCE_VIEW_DESC *view))  \
    M(cuTexObjectDestroy, cuTexObjectDestroy, 5000, PLAIN, (CUtexObject object))                                                           \
    M(cuTexObjectGetResourceDesc, cuTexObjectGetResourceDesc, 5000, PLAIN, (CUDA_RESOURCE_DESC * resource, CUtexObject object))            \
    M(cuTexObjectGetTextureDesc, cuTexObjectGetTextureDesc, 5000, PLAIN, (CUDA_TEXTURE_DESC * sampling, CUtexObject object))               \
    M(cuTexObjectGetResourceViewDesc, cuTexObjectGetResourceViewDesc, 5000, PLAIN, (CUDA_RESOURCE_VIEW_DESC * view, CUtexObject object))   \
    M(cuSurfObjectCreate, cuSurfObjectCreate, 5000, PLAIN, (CUsurfObject * object, const CUDA_RESOURCE_DESC *resource))                    \
    M(cuSurfObjectDestroy, cuSurfObjectDestroy, 5000, PLAIN, (CUsurfObject object))                                                        \
    M(cuSurfObjectGetResourceDesc, cuSurfObjectGetResourceDesc, 5000, PLAIN, (CUDA_RESOURCE_DESC * resource, CUsurfObject object))         \
    D(M, cuMemcpyHtoA_v2, cuMemcpyHtoA, 3020, (CUarray dst, size_t offset, const void *src, size_t bytes))                                 \
    D(M, cuMemcpyAtoH_v2, cuMemcpyAtoH, 3020, (void *dst, CUarray src, size_t offset, size_t bytes))                                       \
    D(M, cuMemcpyDtoA_v2, cuMemcpyDtoA, 3020, (CUarray dst, size_t offset, CUdeviceptr src, size_t bytes))                                 \
    D(M, cuMemcpyAtoD_v2, cuMemcpyAtoD, 3020, (CUdeviceptr dst, CUarray src, size_t offset, size_t bytes))                                 \
    D(M, cuMemcpyAtoA_v2, cuMemcpyAtoA, 3020, (CUarray dst, size_t offset, CUarray src, size_t src_offset, size_t bytes))                  \
    Z(M, cuMemcpyHtoAAsync_v2, cuMemcpyHtoAAsync, 3020, 7000,                                                                              \
      (CUarray dst, size_t offset, const void *src, size_t bytes, CUstream stream))                                                        \
    Z(M, cuMemcpyAtoHAsync_v2, cuMemcpyAtoHAsync, 3020, 7000, (void *dst, CUarray src, size_t offset, size_t bytes, CUstream stream))

#define SYMBOLS_IMPORT(M)                                                                                                                  \
    M(cuIpcGetMemHandle, cuIpcGetMemHandle, 4010, PLAIN, (CUipcMemHandle * handle, CUdeviceptr address))                                   \
    M(cuIpcOpenMemHandle, cuIpcOpenMemHandle, 4010, PLAIN, (CUdeviceptr * address, CUipcMemHandle handle, unsigned flags))                 \
    M(cuIpcOpenMemHandle_v2, cuIpcOpenMemHandle, 11000, PLAIN, (CUdeviceptr * address, CUipcMemHandle handle, unsigned flags))             \
    M(cuIpcCloseMemHandle, cuIpcCloseMemHandle, 4010, PLAIN, (CUdeviceptr address))                                                        \
    M(cuImportExternalMemory, cuImportExternalMemory, 10000, PLAIN,                                                                        \
      (CUexternalMemory * external, const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *descriptor))                                                   \
    M(cuExternalMemoryGetMappedBuffer, cuExternalMemoryGetMappedBuffer, 10000, PLAIN,                                                      \
      (CUdeviceptr * address, CUexternalMemory external, const CUDA_EXTERNAL_MEMORY_BUFFER_DESC *buffer))                                  \
    M(cuExternalMemoryGetMappedMipmappedArray, cuExternalMemoryGetMappedMipmappedArray, 10000, PLAIN,                                      \
      (CUmipmappedArray * mipmap, CUexternalMemory external, const CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC *descriptor))                 \
    M(cuDestroyExternalMemory, cuDestroyExternalMemory, 10000, PLAIN, (CUexternalMemory external))

#define SYMBOLS_GREEN(M)                                                                                                                   \
    M(cuDeviceGetDevResource, cuDeviceGetDevResource, 12040, PLAIN, (CUdevice device, CUdevResource * resource, int type))                 \
    M(cuCtxGetDevResource, cuCtxGetDevResource, 12040, PLAIN, (CUcontext context, CUdevResource * resource, int type))                     \
    M(cuGreenCtxGetDevResource, cuGreenCtxGetDevResource, 12040, PLAIN, (CUgreenCtx green, CUdevResource * resource, int type))            \
    M(cuDevSmResourceSplitByCount, cuDevSmResourceSplitByCount, 12040, PLAIN,                                                              \
      (CUdevResource * groups, unsigned *count, const CUdevResource *input, CUdevResource *rest, unsigned flags, unsigned least_count))    \
    M(cuDevResourceGenerateDesc, cuDevResourceGenerateDesc, 12040, PLAIN,                                                                  \
      (CUdevResourceDesc * description, CUdevResource * resources, unsigned count))                                                        \
    M(cuGreenCtxCreate, cuGreenCtxCreate, 12040, PLAIN,                                                                                    \
      (CUgreenCtx * green, CUdevResourceDesc description, CUdevice device, unsigned flags))                                                \
    M(cuGreenCtxDestroy, cuGreenCtxDestroy, 12040, PLAIN, (CUgreenCtx green))                                                              \
    M(cuCtxFromGreenCtx, cuCtxFromGreenCtx, 12040, PLAIN, (CUcontext * context, CUgreenCtx green))                                         \
    M(cuGreenCtxGetId, cuGreenCtxGetId, 12090, PLAIN, (CUgreenCtx green, unsigned long long *id))                                          \
    M(cuGreenCtxStreamCreate, cuGreenCtxStreamCreate, 12050, PLAIN, (CUstream * stream, CUgreenCtx green, unsigned flags, int priority))   \
    M(cuStreamGetGreenCtx, cuStreamGetGreenCtx, 12040, PLAIN, (CUstream stream, CUgreenCtx * green))                                       \
    M(cuCtxRecordEvent, cuCtxRecordEvent, 12050, PLAIN, (CUcontext context, CUevent event))                                                \
    M(cuGreenCtxRecordEvent, cuGreenCtxRecordEvent, 12040, PLAIN, (CUgreenCtx green, CUevent event))

#define SYMBOLS_CHECKPOINT(M)                                                                                                              \
    M(cuCheckpointProcessLock, cuCheckpointProcessLock, 12080, PLAIN, (int pid, CUcheckpointLockArgs *arguments))                          \
    M(cuCheckpointProcessCheckpoint, cuCheckpointProcessCheckpoint, 12080, PLAIN, (int pid, CUcheckpointCheckpointArgs *arguments))        \
    M(cuCheckpointProcessRestore, cuCheckpointProcessRestore, 12080, PLAIN, (int pid, CUcheckpointRestoreArgs *arguments))                 \
    M(cuCheckpointProcessUnlock, cuCheckpointProcessUnlock, 12080, PLAIN, (int pid, CUcheckpointUnlockArgs *arguments))                    \
    M(cuCheckpointProcessGetState, cuCheckpointProcessGetState, 12080, PLAIN, (int pid, int *state))                                       \
    M(cuCheckpointProcessGetRestoreThreadId, cuCheckpointProcessGetRestoreThreadId, 12080, PLAIN, (int pid, int *thread))

#include "symbols_graph.h"

#define CUDA_SYMBOLS(M)                                                                                                                    \
    SYMBOLS_ENTRY(M)                                                                                                                       \
    SYMBOLS_DEVICE(M)                                                                                                                      \
    SYMBOLS_CONTEXT(M)                                                                                                                     \
    SYMBOLS_MODULE(M)                                                                                                                      \
    SYMBOLS_MEMORY(M)                                                                                                                      \
    SYMBOLS_POOL(M)                                                                                                                        \
    SYMBOLS_IMPORT(M)                                                                                                                      \
    SYMBOLS_ARRAY(M)                                                                                                                       \
    SYMBOLS_MANAGED(M)                                                                                                                     \
    SYMBOLS_VIRTUAL(M)                                                                                                                     \
    SYMBOLS_COPY(M)                                                                                                                        \
    SYMBOLS_GREEN(M)                                                                                                                       \
    SYMBOLS_GRAPH(M)                                                                                                                       \
    SYMBOLS_NODE(M)                                                                                                                        \
    SYMBOLS_EXEC(M)                                                                                                                        \
    SYMBOLS_CAPTURE(M)                                                                                                                     \
    SYMBOLS_STREAM(M)                                                                                                                      \
    SYMBOLS_LAUNCH(M)                                                                                                                      \
    SYMBOLS_CHECKPOINT(M)

#define SIM_PROTOTYPE(symbol, name, since, variant, parameters) __attribute__((visibility("default"))) CUresult symbol parameters;
CUDA_SYMBOLS(SIM_PROTOTYPE)

/* Another form of a call that means the same here. */
#define SIM_SAME(other, symbol) __typeof__(symbol) other __attribute__((alias(#symbol)))

#endif
