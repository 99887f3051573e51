/* SPDX-License-Identifier: Apache-2.0
 *
 * The CUDA driver's binary interface, as far as the simulated driver answers it: declared by hand, no toolkit needed.
 */
#ifndef MICA_SIM_CUDA_ABI_H
#define MICA_SIM_CUDA_ABI_H

#include <stddef.h>
#include <stdint.h>

/* Name and number of every result; texts are made from the names. */
#define CUDA_RESULTS(X)                                                                                                                    \
    X(SUCCESS, 0, "no error")                                                                                                              \
    X(ERROR_INVALID_VALUE, 1, "invalid argument")                                                                                          \
    X(ERROR_OUT_OF_MEMORY, 2, "out of memory")                                                                                             \
    X(ERROR_NOT_INITIALIZED, 3, "initialization error")                                                                                    \
    X(ERROR_DEINITIALIZED, 4, "driver shutting down")                                                                                      \
    X(ERROR_PROFILER_DISABLED, 5, "profiler disabled")                                                                                     \
    X(ERROR_DEVICE_UNAVAILABLE, 46, "device busy or unavailable")                                                                          \
    X(ERROR_NO_DEVICE, 100, "no CUDA-capable device is detected")                                                                          \
    X(ERROR_INVALID_DEVICE, 101, "invalid device ordinal")                                                                                 \
    X(ERROR_INVALID_IMAGE, 200, "device kernel image is invalid")                                                                          \
    X(ERROR_INVALID_CONTEXT, 201, "invalid device context")                                                                                \
    X(ERROR_NO_BINARY_FOR_GPU, 209, "no kernel image is available for execution on the device")                                            \
    X(ERROR_MAP_FAILED, 205, "mapping of buffer object failed")                                                                             \
    X(ERROR_ALREADY_MAPPED, 208, "resource already mapped")                                                                                \
    X(ERROR_NOT_MAPPED, 211, "resource not mapped")                                                                                        \
    X(ERROR_UNSUPPORTED_LIMIT, 215, "limit is not supported on this architecture")                                                         \
    X(ERROR_PEER_ACCESS_UNSUPPORTED, 217, "peer access is not supported between these two devices")                                        \
    X(ERROR_INVALID_PTX, 218, "a PTX JIT compilation failed")                                                                              \
    X(ERROR_JIT_COMPILER_NOT_FOUND, 221, "PTX JIT compiler library not found")                                                             \
    X(ERROR_FILE_NOT_FOUND, 301, "file not found")                                                                                         \
    X(ERROR_OPERATING_SYSTEM, 304, "OS call failed or operation not supported on this OS")                                                 \
    X(ERROR_INVALID_HANDLE, 400, "invalid resource handle")                                                                                \
    X(ERROR_ILLEGAL_STATE, 401, "the operation cannot be performed in the present state")                                                  \
    X(ERROR_NOT_FOUND, 500, "named symbol not found")                                                                                      \
    X(ERROR_NOT_READY, 600, "device not ready")                                                                                            \
    X(ERROR_ILLEGAL_ADDRESS, 700, "an illegal memory access was encountered")                                                              \
    X(ERROR_LAUNCH_OUT_OF_RESOURCES, 701, "too many resources requested for launch")                                                       \
    X(ERROR_LAUNCH_TIMEOUT, 702, "the launch timed out and was terminated")                                                                \
    X(ERROR_PEER_ACCESS_ALREADY_ENABLED, 704, "peer access is already enabled")                                                            \
    X(ERROR_PEER_ACCESS_NOT_ENABLED, 705, "peer access has not been enabled")                                                              \
    X(ERROR_PRIMARY_CONTEXT_ACTIVE, 708, "cannot set while device is active in this process")                                              \
    X(ERROR_CONTEXT_IS_DESTROYED, 709, "context is destroyed")                                                                             \
    X(ERROR_HOST_MEMORY_ALREADY_REGISTERED, 712, "part or all of the requested memory range is already mapped")                            \
    X(ERROR_HOST_MEMORY_NOT_REGISTERED, 713, "pointer does not correspond to a registered memory region")                                  \
    X(ERROR_LAUNCH_FAILED, 719, "unspecified launch failure")                                                                              \
    X(ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, 720, "too many blocks in cooperative launch")                                                    \
    X(ERROR_NOT_PERMITTED, 800, "operation not permitted")                                                                                 \
    X(ERROR_NOT_SUPPORTED, 801, "operation not supported")                                                                                 \
    X(ERROR_SYSTEM_NOT_READY, 802, "system not yet initialized")                                                                           \
    X(ERROR_STREAM_CAPTURE_UNSUPPORTED, 900, "operation not permitted when stream is capturing")                                           \
    X(ERROR_STREAM_CAPTURE_INVALIDATED, 901, "operation failed due to a previous error during capture")                                    \
    X(ERROR_STREAM_CAPTURE_MERGE, 902, "operation would result in a merge of separate capture sequences")                                  \
    X(ERROR_STREAM_CAPTURE_UNMATCHED, 903, "capture was not ended in the same stream as it began")                                         \
    X(ERROR_STREAM_CAPTURE_UNJOINED, 904, "capturing stream has unjoined work")                                                            \
    X(ERROR_STREAM_CAPTURE_ISOLATION, 905, "dependency created on uncaptured work in another stream")                                      \
    X(ERROR_STREAM_CAPTURE_IMPLICIT, 906, "operation would make the legacy stream depend on a capturing blocking stream")                  \
    X(ERROR_CAPTURED_EVENT, 907, "operation not permitted on an event last recorded in a capturing stream")                                \
    X(ERROR_STREAM_CAPTURE_WRONG_THREAD, 908, "attempt to terminate a thread-local capture sequence from another thread")                  \
    X(ERROR_TIMEOUT, 909, "wait operation timed out")                                                                                      \
    X(ERROR_GRAPH_EXEC_UPDATE_FAILURE, 910, "the graph update was not performed because it included changes which violated constraints")   \
    X(ERROR_INVALID_RESOURCE_TYPE, 914, "invalid resource type")                                                                           \
    X(ERROR_INVALID_RESOURCE_CONFIGURATION, 915, "invalid resource configuration")                                                         \
    X(ERROR_UNKNOWN, 999, "unknown error")

#define CUDA_RESULT_VALUE(name, number, text) CUDA_##name = number,
typedef enum { CUDA_RESULTS(CUDA_RESULT_VALUE) } CUresult;

typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct sim_context *CUcontext;
typedef struct sim_stream *CUstream;
typedef struct sim_event *CUevent;
typedef struct sim_module *CUmodule;
typedef struct sim_module *CUlibrary;
typedef struct sim_function *CUfunction;
typedef struct sim_function *CUkernel;
typedef struct sim_pool *CUmemoryPool;
typedef struct sim_array *CUarray;
typedef struct sim_mipmap *CUmipmappedArray;
typedef uint64_t CUtexObject;
typedef uint64_t CUsurfObject;
typedef void (*CUhostFn)(void *);
typedef void (*CUstreamCallback)(CUstream stream, CUresult status, void *data);

typedef struct {
    unsigned char bytes[16];
} CUuuid;

/* What cuCheckpointProcess* take. All that is reserved must be zero. */
typedef struct {
    unsigned timeout_ms; /* 0: none */
    unsigned reserved0;
    uint64_t reserved[7];
} CUcheckpointLockArgs;

typedef struct {
    uint64_t reserved[8]; /* the first one: storage of the caller's own, since 13.3 */
} CUcheckpointCheckpointArgs;

typedef struct {
    CUuuid before, now;
} CUcheckpointGpuPair;

typedef struct {
    const CUcheckpointGpuPair *pairs;
    unsigned pair_count;
    unsigned reserved0;
    uint64_t reserved[6];
} CUcheckpointRestoreArgs;

typedef struct {
    uint64_t reserved[8];
} CUcheckpointUnlockArgs;

#define CU_STREAM_LEGACY ((CUstream)(uintptr_t)1)
#define CU_STREAM_PER_THREAD ((CUstream)(uintptr_t)2)
#define CU_STREAM_NON_BLOCKING 1u
#define CU_EVENT_DISABLE_TIMING 2u
#define CU_EVENT_INTERPROCESS 4u
#define CU_MEMHOSTALLOC_ALL 7u

enum { CU_MEMORYTYPE_HOST = 1, CU_MEMORYTYPE_DEVICE = 2, CU_MEMORYTYPE_ARRAY = 3, CU_MEMORYTYPE_UNIFIED = 4 };
enum { CU_MEM_LOCATION_TYPE_INVALID = 0, CU_MEM_LOCATION_TYPE_DEVICE = 1, CU_MEM_LOCATION_TYPE_HOST = 2, CU_MEM_LOCATION_TYPE_LAST = 4 };
enum { CU_MEM_ALLOCATION_TYPE_PINNED = 1 };
enum { CU_MEM_HANDLE_TYPE_NONE = 0, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR = 1, CU_MEM_HANDLE_TYPES = 15 };
enum { CU_MEM_ACCESS_NONE = 0, CU_MEM_ACCESS_READ = 1, CU_MEM_ACCESS_READWRITE = 3 };
enum { CU_MEM_ATTACH_GLOBAL = 1, CU_MEM_ATTACH_HOST = 2, CU_MEM_ATTACH_SINGLE = 4 };
enum { CU_DEVICE_CPU = -1, CU_DEVICE_INVALID = -2 };
enum { CU_GET_PROC_ADDRESS_SUCCESS = 0, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND = 1, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT = 2 };
enum { CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM = 2 };

/* Start of CUlaunchConfig; a launch's attributes do not change what is modelled, except for COOPERATIVE. */
typedef struct {
    unsigned grid_x, grid_y, grid_z;
    unsigned block_x, block_y, block_z;
    unsigned shared_bytes;
    CUstream stream;
    void *attributes;
    unsigned attribute_count;
} CUlaunchConfig;

/* CUDA_LAUNCH_PARAMS: one device's part of a launch on several. */
typedef struct {
    CUfunction function;
    unsigned grid_x, grid_y, grid_z;
    unsigned block_x, block_y, block_z;
    unsigned shared_bytes;
    CUstream stream;
    void **parameters;
} CUDA_LAUNCH_PARAMS;

typedef struct {
    uint32_t id;
    uint32_t pad;
    union {
        int32_t cooperative;
        unsigned char bytes[64];
    } value;
} CUlaunchAttribute;
enum { CU_LAUNCH_ATTRIBUTE_COOPERATIVE = 2 };

typedef struct {
    size_t src_x, src_y;
    uint32_t src_type;
    const void *src_host;
    CUdeviceptr src_device;
    void *src_array;
    size_t src_pitch;
    size_t dst_x, dst_y;
    uint32_t dst_type;
    void *dst_host;
    CUdeviceptr dst_device;
    void *dst_array;
    size_t dst_pitch;
    size_t width, height;
} CUDA_MEMCPY2D;

typedef struct {
    size_t src_x, src_y, src_z, src_lod;
    uint32_t src_type;
    const void *src_host;
    CUdeviceptr src_device;
    void *src_array;
    void *reserved0;
    size_t src_pitch, src_height;
    size_t dst_x, dst_y, dst_z, dst_lod;
    uint32_t dst_type;
    void *dst_host;
    CUdeviceptr dst_device;
    void *dst_array;
    void *reserved1;
    size_t dst_pitch, dst_height;
    size_t width, height, depth;
} CUDA_MEMCPY3D;

/* CUstreamBatchMemOpParams. */
typedef union {
    uint32_t operation;
    struct {
        uint32_t operation;
        CUdeviceptr address;
        uint64_t value; /* the low word for a 32-bit operation */
        uint32_t flags;
        CUdeviceptr alias;
    } at;
    uint64_t pad[6];
} CUstreamValue;
enum { CU_VALUE_WAIT_32 = 1, CU_VALUE_WRITE_32 = 2, CU_VALUE_WAIT_64 = 4, CU_VALUE_WRITE_64 = 5, CU_VALUE_BARRIER = 6, CU_VALUE_FLUSH = 3 };

typedef struct {
    uint32_t type;
    int32_t id;
} CUmemLocation;

typedef struct {
    size_t width, height;
    uint32_t format;
    unsigned channels;
} CUDA_ARRAY_DESCRIPTOR;

typedef struct {
    size_t width, height, depth;
    uint32_t format;
    unsigned channels, flags;
} CUDA_ARRAY3D_DESCRIPTOR;

enum {
    CUDA_ARRAY3D_LAYERED = 1, CUDA_ARRAY3D_SURFACE_LDST = 2, CUDA_ARRAY3D_CUBEMAP = 4, CUDA_ARRAY3D_TEXTURE_GATHER = 8,
    CUDA_ARRAY3D_DEPTH_TEXTURE = 0x10, CUDA_ARRAY3D_COLOR_ATTACHMENT = 0x20, CUDA_ARRAY3D_SPARSE = 0x40,
    CUDA_ARRAY3D_DEFERRED_MAPPING = 0x80, CUDA_ARRAY3D_ALL = 0x1ff
};

typedef struct {
    unsigned char bytes[64];
} CUipcMemHandle;

typedef struct {
    unsigned char bytes[64];
} CUmemPoolPtrExportData;

typedef struct sim_external *CUexternalMemory;

typedef struct {
    uint32_t type;
    union {
        int fd;
        void *pointers[2];
    } handle;
    unsigned long long size;
    unsigned flags, reserved[16];
} CUDA_EXTERNAL_MEMORY_HANDLE_DESC;

typedef struct {
    unsigned long long offset, size;
    unsigned flags, reserved[16];
} CUDA_EXTERNAL_MEMORY_BUFFER_DESC;

typedef struct {
    unsigned long long offset;
    CUDA_ARRAY3D_DESCRIPTOR array;
    unsigned levels, reserved[16];
} CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC;

typedef struct {
    size_t size, alignment;
    unsigned reserved[4];
} CUDA_ARRAY_MEMORY_REQUIREMENTS;

enum { CU_RESOURCE_ARRAY = 0, CU_RESOURCE_MIPMAPPED_ARRAY = 1, CU_RESOURCE_LINEAR = 2, CU_RESOURCE_PITCH2D = 3 };

typedef struct {
    uint32_t type;
    union {
        CUarray array;
        CUmipmappedArray mipmap;
        struct {
            CUdeviceptr address;
            uint32_t format;
            unsigned channels;
            size_t bytes;
        } linear;
        struct {
            CUdeviceptr address;
            uint32_t format;
            unsigned channels;
            size_t width, height, pitch;
        } pitch;
        int reserved[32];
    } of;
    unsigned flags;
} CUDA_RESOURCE_DESC;

typedef struct {
    uint32_t address_mode[3], filter_mode;
    unsigned flags, anisotropy;
    uint32_t mipmap_filter;
    float mipmap_bias, mipmap_min, mipmap_max, border[4];
    int reserved[12];
} CUDA_TEXTURE_DESC;

typedef struct {
    uint32_t format;
    size_t width, height, depth;
    unsigned first_level, last_level, first_layer, last_layer, reserved[16];
} CUDA_RESOURCE_VIEW_DESC;

_Static_assert(sizeof(CUDA_ARRAY3D_DESCRIPTOR) == 40 && sizeof(CUDA_RESOURCE_DESC) == 144 && sizeof(CUDA_TEXTURE_DESC) == 104 &&
                   sizeof(CUDA_RESOURCE_VIEW_DESC) == 112,
               "as the driver lays them out");

typedef uint64_t CUmemGenericAllocationHandle;

typedef struct {
    uint32_t type;
    uint32_t handle_types;
    CUmemLocation location;
    void *security_attributes;
    unsigned char compression, rdma;
    unsigned short usage;
    unsigned char reserved[4];
} CUmemAllocationProp;

typedef struct {
    CUmemLocation location;
    uint32_t flags;
} CUmemAccessDesc;

typedef struct {
    uint32_t allocation_type;
    uint32_t handle_types;
    CUmemLocation location;
    void *security_attributes;
    size_t max_bytes;
    unsigned short usage;
    unsigned char reserved[54];
} CUmemPoolProps;

/* --- Parts of a device --------------------------------------------------------------------------------------------------- */

typedef struct sim_green *CUgreenCtx;
typedef struct sim_resource_set *CUdevResourceDesc;
enum { CU_DEV_RESOURCE_SM = 1, CU_DEV_RESOURCE_LAST = 10000 };
enum { CU_GREEN_CTX_DEFAULT_STREAM = 1 };

/* CUdevResource; the driver's own bytes say which multiprocessors of which device it names. */
typedef struct {
    int type;
    uint32_t magic, device, first;
    unsigned char own[80];
    unsigned count, least, step; /* multiprocessors; of the smallest part, and from size to size */
    unsigned char more[28];
    void *next;
} CUdevResource;
_Static_assert(sizeof(CUdevResource) == 144 && offsetof(CUdevResource, count) == 96, "as the driver lays it out");

/* --- Graphs -------------------------------------------------------------------------------------------------------------- */

typedef struct sim_graph *CUgraph;
typedef struct sim_graph_node *CUgraphNode;
typedef struct sim_graph_exec *CUgraphExec;
typedef struct sim_user_object *CUuserObject;
enum { CU_USER_OBJECT_NO_DESTRUCTOR_SYNC = 1, CU_GRAPH_USER_OBJECT_MOVE = 1 };

/* The first form ends before `kernel`. */
typedef struct {
    CUfunction function;
    unsigned grid[3], block[3], shared_bytes;
    void **parameters, **extra;
    CUkernel kernel;
    CUcontext context;
} CUDA_KERNEL_NODE_PARAMS;

typedef struct {
    CUdeviceptr dst;
    size_t pitch;
    unsigned value, element;
    size_t width, height;
} CUDA_MEMSET_NODE_PARAMS;

typedef struct {
    CUhostFn function;
    void *data;
} CUDA_HOST_NODE_PARAMS;

typedef struct {
    CUcontext context;
    unsigned count;
    CUstreamValue *list;
    unsigned flags;
} CUDA_BATCH_MEM_OP_NODE_PARAMS;

typedef struct {
    CUmemPoolProps pool;
    const CUmemAccessDesc *access;
    size_t access_count, bytes;
    CUdeviceptr address; /* out */
} CUDA_MEM_ALLOC_NODE_PARAMS;

typedef struct {
    unsigned char from_port, to_port, type, reserved[5];
} CUgraphEdgeData;

typedef struct {
    int type, reserved[3];
    union {
        CUDA_KERNEL_NODE_PARAMS kernel;
        struct {
            int flags, reserved;
            CUcontext context;
            CUDA_MEMCPY3D box;
        } copy;
        CUDA_MEMSET_NODE_PARAMS fill;
        CUDA_HOST_NODE_PARAMS host;
        CUgraph child;
        CUevent event;
        CUDA_MEM_ALLOC_NODE_PARAMS alloc;
        CUdeviceptr free;
        CUDA_BATCH_MEM_OP_NODE_PARAMS values;
        unsigned char room[232];
    } of;
    long long more;
} CUgraphNodeParams;

typedef struct {
    uint64_t flags;
    CUstream upload;
    CUgraphNode error_node;
    int result;
} CUDA_GRAPH_INSTANTIATE_PARAMS;

typedef struct {
    int result;
    CUgraphNode node, from;
} CUgraphExecUpdateResultInfo;

_Static_assert(sizeof(CUDA_MEM_ALLOC_NODE_PARAMS) == 120 && sizeof(CUgraphNodeParams) == 256 && sizeof(CUDA_GRAPH_INSTANTIATE_PARAMS) == 32,
               "as the driver lays them out");

enum { CU_GRAPH_INSTANTIATE_AUTO_FREE = 1, CU_GRAPH_INSTANTIATE_UPLOAD = 2, CU_GRAPH_INSTANTIATE_DEVICE_LAUNCH = 4, CU_GRAPH_INSTANTIATE_ALL = 15 };
enum { CU_GRAPH_EXEC_UPDATE_SUCCESS, CU_GRAPH_EXEC_UPDATE_ERROR, CU_GRAPH_EXEC_UPDATE_TOPOLOGY, CU_GRAPH_EXEC_UPDATE_TYPE, CU_GRAPH_EXEC_UPDATE_NOT_SUPPORTED = 6 };
enum { CU_STREAM_CAPTURE_NONE, CU_STREAM_CAPTURE_ACTIVE, CU_STREAM_CAPTURE_INVALIDATED };
enum { CU_STREAM_CAPTURE_GLOBAL, CU_STREAM_CAPTURE_THREAD_LOCAL, CU_STREAM_CAPTURE_RELAXED };

typedef struct {
    int threads_per_block, block_dim[3], grid_dim[3];
    int shared_per_block, constant_bytes, warp, pitch_max, registers_per_block, clock_khz, texture_align;
} CUdevprop;

#endif
