/* SPDX-License-Identifier: Apache-2.0
 *
 * What all these are is said in ../README.md. The few types of the CUDA driver's interface that the enforced calls use, declared by hand: no CUDA
 * toolkit is needed to build. Handles are opaque pointers; structs have the public layout up to the last member that the shim reads.
 */
#ifndef MICA_SHIM_CUDA_TYPES_H
#define MICA_SHIM_CUDA_TYPES_H

#include <stddef.h>
#include <stdint.h>

typedef int CUresult;
enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NO_DEVICE = 100,
    CUDA_ERROR_NOT_FOUND = 500,
    CUDA_ERROR_NOT_READY = 600,
    CUDA_ERROR_NOT_PERMITTED = 800
};

typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef unsigned int CUdeviceptr_v1; /* of the 32-bit entry points before CUDA 3.2 */
typedef struct CUctx_st *CUcontext;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUarray_st *CUarray;
typedef struct CUmipmappedArray_st *CUmipmappedArray;
typedef struct CUmemPool_st *CUmemoryPool;
typedef struct CUmod_st *CUmodule;
typedef struct CUlib_st *CUlibrary;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphNode_st *CUgraphNode;
typedef struct CUlib_st *CUlibrary;
typedef struct CUkern_st *CUkernel;
typedef struct CUmod_st *CUmodule;
typedef struct CUgraphExec_st *CUgraphExec;
typedef struct CUgreenCtx_st *CUgreenCtx;
typedef struct CUdevResourceDesc_st *CUdevResourceDesc;
typedef unsigned long long CUmemGenericAllocationHandle;

typedef struct {
    unsigned char bytes[16];
} CUuuid;

/* Stream handles with a meaning of their own. */
#define CU_STREAM_LEGACY ((CUstream)0x1)
#define CU_STREAM_PER_THREAD ((CUstream)0x2)

enum { CU_STREAM_CAPTURE_STATUS_NONE = 0 };
enum { CU_EVENT_DISABLE_TIMING = 2 };
enum { CU_STREAM_CAPTURE_MODE_RELAXED = 2 };
enum {
    CU_MEM_LOCATION_TYPE_INVALID = 0,
    CU_MEM_LOCATION_TYPE_DEVICE = 1,
    CU_MEM_LOCATION_TYPE_HOST = 2,
    CU_MEM_LOCATION_TYPE_HOST_NUMA = 3,
    CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT = 4
};
enum { CU_LIMIT_PRINTF_FIFO_SIZE = 1, CU_LIMIT_MALLOC_HEAP_SIZE = 2 };
enum { CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT = 5, CU_MEMPOOL_ATTR_USED_MEM_CURRENT = 7 };
enum { CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM = 2 };

typedef struct {
    unsigned int gridDimX, gridDimY, gridDimZ;
    unsigned int blockDimX, blockDimY, blockDimZ;
    unsigned int sharedMemBytes;
    CUstream hStream;
    void *attrs;
    unsigned int numAttrs;
} CUlaunchConfig;

typedef struct {
    CUfunction function;
    unsigned int gridDimX, gridDimY, gridDimZ;
    unsigned int blockDimX, blockDimY, blockDimZ;
    unsigned int sharedMemBytes;
    CUstream hStream;
    void **kernelParams;
} CUDA_LAUNCH_PARAMS;

/* A set of multiprocessors, or of what else a device can be split into. The shim hands it from one call to the next. */
enum { CU_DEV_RESOURCE_TYPE_SM = 1 };
enum { CU_GREEN_CTX_DEFAULT_STREAM = 1 };
typedef struct {
    int type;
    unsigned char internal[92];
    union {
        unsigned int smCount;
        unsigned char external[48];
    } of;
} CUdevResource;

typedef struct {
    int type;
    int id;
} CUmemLocation;

typedef struct {
    int type; /* of the allocation: pinned */
    int requestedHandleTypes;
    CUmemLocation location;
} CUmemAllocationProp; /* the rest is not read */

typedef struct {
    int allocType;
    int handleTypes;
    CUmemLocation location;
} CUmemPoolProps; /* the rest is not read */

typedef struct {
    size_t Width, Height;
    int Format;
    unsigned int NumChannels;
} CUDA_ARRAY_DESCRIPTOR;

typedef struct {
    unsigned int Width, Height;
    int Format;
    unsigned int NumChannels;
} CUDA_ARRAY_DESCRIPTOR_v1;

typedef struct {
    size_t Width, Height, Depth;
    int Format;
    unsigned int NumChannels;
    unsigned int Flags;
} CUDA_ARRAY3D_DESCRIPTOR;

typedef struct {
    unsigned int Width, Height, Depth;
    int Format;
    unsigned int NumChannels;
    unsigned int Flags;
} CUDA_ARRAY3D_DESCRIPTOR_v1;

/* What a copy is of and where to: the shim reads its extent only. */
#define COPY_2D(name, word, pointer)                                        \
    typedef struct {                                                        \
        word srcXInBytes, srcY;                                             \
        int srcMemoryType;                                                  \
        const void *srcHost;                                                \
        pointer srcDevice;                                                  \
        CUarray srcArray;                                                   \
        word srcPitch;                                                      \
        word dstXInBytes, dstY;                                             \
        int dstMemoryType;                                                  \
        void *dstHost;                                                      \
        pointer dstDevice;                                                  \
        CUarray dstArray;                                                   \
        word dstPitch;                                                      \
        word WidthInBytes, Height;                                          \
    } name;
COPY_2D(CUDA_MEMCPY2D, size_t, CUdeviceptr)
COPY_2D(CUDA_MEMCPY2D_v1, unsigned int, CUdeviceptr_v1)

/* A copy between devices has the context of each side where this has srcOther and dstOther. */
#define COPY_3D(name, word, pointer)                                        \
    typedef struct {                                                        \
        word srcXInBytes, srcY, srcZ, srcLOD;                               \
        int srcMemoryType;                                                  \
        const void *srcHost;                                                \
        pointer srcDevice;                                                  \
        CUarray srcArray;                                                   \
        void *srcOther;                                                     \
        word srcPitch, srcHeight;                                           \
        word dstXInBytes, dstY, dstZ, dstLOD;                               \
        int dstMemoryType;                                                  \
        void *dstHost;                                                      \
        pointer dstDevice;                                                  \
        CUarray dstArray;                                                   \
        void *dstOther;                                                     \
        word dstPitch, dstHeight;                                           \
        word WidthInBytes, Height, Depth;                                   \
    } name;
COPY_3D(CUDA_MEMCPY3D, size_t, CUdeviceptr)
COPY_3D(CUDA_MEMCPY3D_v1, unsigned int, CUdeviceptr_v1)

typedef struct {
    uint64_t src[5], dst[5]; /* operands */
    struct {
        size_t width, height, depth;
    } extent;
    int srcAccessOrder;
    unsigned int flags;
} CUDA_MEMCPY3D_BATCH_OP;

/* The first form of it ends before `kern`. */
typedef struct {
    CUfunction func;
    unsigned int gridDimX, gridDimY, gridDimZ;
    unsigned int blockDimX, blockDimY, blockDimZ;
    unsigned int sharedMemBytes;
    void **kernelParams;
    void **extra;
    CUkernel kern;
    CUcontext ctx;
} CUDA_KERNEL_NODE_PARAMS;

typedef struct {
    int type;
    int reserved[3];
    union {
        CUDA_KERNEL_NODE_PARAMS kernel;
        struct {
            uint64_t handle;
            int kind;
            unsigned int size;
            CUgraph *graphs;
            CUcontext ctx;
        } conditional;
        long long room[30];
    } of;
} CUgraphNodeParams;

enum { CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT = 2 };
enum { CU_GRAPH_NODE_TYPE_GRAPH = 4, CU_GRAPH_NODE_TYPE_MEM_ALLOC = 10 };
typedef struct {
    unsigned char poolProps[88];
    const void *accessDescs;
    size_t accessDescCount;
    size_t bytesize;
    CUdeviceptr dptr;
} CUDA_MEM_ALLOC_NODE_PARAMS;

#endif
