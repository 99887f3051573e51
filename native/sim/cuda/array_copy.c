/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies between one-dimensional arrays and linear memory: boxes of one row.
 */
#include "driver.h"

/* A row's end: an array at an offset in bytes, device memory, or host memory. */
struct end {
    uint32_t type;
    CUarray array;
    size_t offset;
    uint64_t address;
};

static struct end in_array(CUarray array, size_t offset)
{
    return (struct end){CU_MEMORYTYPE_ARRAY, array, offset, 0};
}

static struct end on_device(CUdeviceptr address)
{
    return (struct end){CU_MEMORYTYPE_DEVICE, NULL, 0, address};
}

static struct end on_host(const void *pointer)
{
    return (struct end){CU_MEMORYTYPE_HOST, NULL, 0, (uintptr_t)pointer};
}

static CUresult copy_row(struct end to, struct end from, size_t bytes, CUstream stream, bool wait)
{
    const CUDA_MEMCPY3D box = {.src_x = from.offset, .src_type = from.type, .src_host = (const void *)(uintptr_t)from.address,
                               .src_device = from.address, .src_array = from.array, .dst_x = to.offset, .dst_type = to.type,
                               .dst_host = (void *)(uintptr_t)to.address, .dst_device = to.address, .dst_array = to.array,
                               .width = bytes, .height = 1, .depth = 1};
    return sim_copy_box(&box, stream, wait);
}

#define ROW_COPY(call, parameters, to, from)                                                                                               \
    CUresult call parameters                                                                                                               \
    {                                                                                                                                      \
        return copy_row(to, from, bytes, NULL, true);                                                                                      \
    }                                                                                                                                      \
    SIM_SAME(call##_ptds, call);

#define ROW_COPY_ASYNC(call, parameters, to, from)                                                                                         \
    CUresult call parameters                                                                                                               \
    {                                                                                                                                      \
        return copy_row(to, from, bytes, stream, false);                                                                                   \
    }                                                                                                                                      \
    CUresult call##_ptsz parameters                                                                                                        \
    {                                                                                                                                      \
        return copy_row(to, from, bytes, sim_per_thread(stream), false);                                                                   \
    }

ROW_COPY(cuMemcpyHtoA_v2, (CUarray dst, size_t offset, const void *src, size_t bytes), in_array(dst, offset), on_host(src))
ROW_COPY(cuMemcpyAtoH_v2, (void *dst, CUarray src, size_t offset, size_t bytes), on_host(dst), in_array(src, offset))
ROW_COPY(cuMemcpyDtoA_v2, (CUarray dst, size_t offset, CUdeviceptr src, size_t bytes), in_array(dst, offset), on_device(src))
ROW_COPY(cuMemcpyAtoD_v2, (CUdeviceptr dst, CUarray src, size_t offset, size_t bytes), on_device(dst), in_array(src, offset))
ROW_COPY(cuMemcpyAtoA_v2, (CUarray dst, size_t offset, CUarray src, size_t src_offset, size_t bytes), in_array(dst, offset),
         in_array(src, src_offset))
ROW_COPY_ASYNC(cuMemcpyHtoAAsync_v2, (CUarray dst, size_t offset, const void *src, size_t bytes, CUstream stream), in_array(dst, offset),
               on_host(src))
ROW_COPY_ASYNC(cuMemcpyAtoHAsync_v2, (void *dst, CUarray src, size_t offset, size_t bytes, CUstream stream), on_host(dst),
               in_array(src, offset))
