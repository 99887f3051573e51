/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies and fills: their contents are exact, and they take the time of their bytes on an engine of their direction: over
 * PCIe, or in the device's own memory. The bytes of an asynchronous one move when it is queued (behind what waits for the
 * host: when that is over), which no kernel can notice, because kernels compute nothing.
 */
#include <string.h>

#include "driver.h"

/* Where rows of a box of memory begin. */
struct rows {
    unsigned char *first;
    size_t pitch, slice; /* bytes from row to row, and from plane to plane */
};

static CUresult move(uint64_t dst, uint64_t src, size_t bytes, CUstream stream, bool wait)
{
    const CUDA_MEMCPY3D box = {.src_type = CU_MEMORYTYPE_UNIFIED, .src_device = src, .dst_type = CU_MEMORYTYPE_UNIFIED, .dst_device = dst,
                               .width = bytes, .height = 1, .depth = 1};
    return sim_copy_box(&box, stream, wait);
}

/* As move, but `device_address` must be device memory (or host memory that the driver knows). */
static CUresult checked_move(uint64_t dst, uint64_t src, size_t bytes, uint64_t device_address, CUstream stream, bool wait)
{
    SIM_ENTER();
    bool known = !bytes || sim_device_known(device_address);
    sim_driver_leave(CUDA_SUCCESS);
    return known ? move(dst, src, bytes, stream, wait) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t bytes)
{
    return move(dst, src, bytes, NULL, true);
}
SIM_SAME(cuMemcpy_ptds, cuMemcpy);

CUresult cuMemcpyHtoD_v2(CUdeviceptr dst, const void *src, size_t bytes)
{
    return checked_move(dst, (uintptr_t)src, bytes, dst, NULL, true);
}
SIM_SAME(cuMemcpyHtoD_v2_ptds, cuMemcpyHtoD_v2);

CUresult cuMemcpyDtoH_v2(void *dst, CUdeviceptr src, size_t bytes)
{
    return checked_move((uintptr_t)dst, src, bytes, src, NULL, true);
}
SIM_SAME(cuMemcpyDtoH_v2_ptds, cuMemcpyDtoH_v2);

CUresult cuMemcpyDtoD_v2(CUdeviceptr dst, CUdeviceptr src, size_t bytes)
{
    return checked_move(dst, src, bytes, dst, NULL, true);
}
SIM_SAME(cuMemcpyDtoD_v2_ptds, cuMemcpyDtoD_v2);

CUresult cuMemcpyPeer(CUdeviceptr dst, CUcontext to, CUdeviceptr src, CUcontext from, size_t bytes)
{
    (void)to;
    (void)from;
    return move(dst, src, bytes, NULL, true);
}
SIM_SAME(cuMemcpyPeer_ptds, cuMemcpyPeer);

#define ASYNC(call, parameters, names, expression)                                                                                         \
    CUresult call parameters                                                                                                               \
    {                                                                                                                                      \
        return expression;                                                                                                                 \
    }                                                                                                                                      \
    CUresult call##_ptsz parameters                                                                                                        \
    {                                                                                                                                      \
        stream = sim_per_thread(stream);                                                                                                   \
        return call names;                                                                                                                 \
    }

ASYNC(cuMemcpyAsync, (CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream), (dst, src, bytes, stream),
      move(dst, src, bytes, stream, false))
ASYNC(cuMemcpyHtoDAsync_v2, (CUdeviceptr dst, const void *src, size_t bytes, CUstream stream), (dst, src, bytes, stream),
      checked_move(dst, (uintptr_t)src, bytes, dst, stream, false))
ASYNC(cuMemcpyDtoHAsync_v2, (void *dst, CUdeviceptr src, size_t bytes, CUstream stream), (dst, src, bytes, stream),
      checked_move((uintptr_t)dst, src, bytes, src, stream, false))
ASYNC(cuMemcpyDtoDAsync_v2, (CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream), (dst, src, bytes, stream),
      checked_move(dst, src, bytes, dst, stream, false))
ASYNC(cuMemcpyPeerAsync, (CUdeviceptr dst, CUcontext to, CUdeviceptr src, CUcontext from, size_t bytes, CUstream stream),
      (dst, to, src, from, bytes, stream), ((void)to, (void)from, move(dst, src, bytes, stream, false)))

/* --- Boxes ---------------------------------------------------------------------------------------------------------------------- */

/* The rows of one side. Every byte from the first row's start to the last row's end must be one allocation's. */
static bool side(struct rows *rows, uint32_t type, const void *host, CUdeviceptr device, CUarray array, const size_t at[3],
                 const size_t size[3], size_t pitch, size_t height)
{
    size_t lines = height ? height : size[1], row = pitch ? pitch : size[0];
    if (type == CU_MEMORYTYPE_ARRAY)
        return sim_array_box(array, at, size, &rows->first, &rows->pitch, &rows->slice);
    if (row < size[0])
        return false;
    uint64_t base = type == CU_MEMORYTYPE_HOST ? (uintptr_t)host : device;
    uint64_t start = base + (at[2] * lines + at[1]) * row + at[0];
    size_t span = ((size[2] - 1) * lines + size[1] - 1) * row + size[0];
    rows->first = type == CU_MEMORYTYPE_HOST ? (unsigned char *)(uintptr_t)start : sim_memory_at(start, span);
    rows->pitch = row;
    rows->slice = row * lines;
    return rows->first != NULL;
}

static bool sides(const CUDA_MEMCPY3D *c, struct rows *from, struct rows *to)
{
    const size_t size[3] = {c->width, c->height, c->depth};
    const size_t from_at[3] = {c->src_x, c->src_y, c->src_z}, to_at[3] = {c->dst_x, c->dst_y, c->dst_z};
    return side(from, c->src_type, c->src_host, c->src_device, c->src_array, from_at, size, c->src_pitch, c->src_height) &&
           side(to, c->dst_type, c->dst_host, c->dst_device, c->dst_array, to_at, size, c->dst_pitch, c->dst_height);
}

static bool is_empty(const CUDA_MEMCPY3D *c)
{
    return !c->width || !c->height || !c->depth;
}

CUresult sim_copy_check(const CUDA_MEMCPY3D *c)
{
    struct rows from, to;
    return is_empty(c) || sides(c, &from, &to) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static bool on_device(uint32_t type, CUdeviceptr address)
{
    struct sim_facts facts;
    if (type != CU_MEMORYTYPE_UNIFIED && type != CU_MEMORYTYPE_DEVICE)
        return type == CU_MEMORYTYPE_ARRAY;
    return sim_facts_find(address, &facts) && (!facts.host || facts.managed);
}

/* The time of `bytes` in a lane, on that engine. Host memory to host memory is not the device's work. */
static CUresult order_bytes(CUstream stream, int lane, uint64_t bytes, const struct sim_position *after, struct sim_position *reached)
{
    const struct sim_description *description = sim_visible_description(sim_visible_at(stream->context->device));
    uint64_t rate = lane == SIM_LANE_ON_DEVICE ? description->memory_bytes_per_s : sim_node()->pcie_bytes_per_s;
    uint64_t cost_ns = lane < 0 || !rate ? 0 : (uint64_t)((unsigned __int128)bytes * 1000000000ULL / rate);
    if (cost_ns)
        return sim_order(stream->context, (unsigned)lane, cost_ns, 0, after, reached);
    sim_position_join(reached, after);
    return CUDA_SUCCESS;
}

CUresult sim_copy_start(CUstream stream, const CUDA_MEMCPY3D *c, const struct sim_position *after, struct sim_position *reached)
{
    struct rows from, to;
    if (is_empty(c)) {
        sim_position_join(reached, after);
        return CUDA_SUCCESS;
    }
    if (!sides(c, &from, &to))
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t z = 0; z < c->depth; z++)
        for (size_t y = 0; y < c->height; y++)
            memmove(to.first + z * to.slice + y * to.pitch, from.first + z * from.slice + y * from.pitch, c->width);
    bool source = on_device(c->src_type, c->src_device), target = on_device(c->dst_type, c->dst_device);
    int lane = source && target ? SIM_LANE_ON_DEVICE : source ? SIM_LANE_TO_HOST : target ? SIM_LANE_TO_DEVICE : -1;
    return order_bytes(stream, lane, (uint64_t)c->width * c->height * c->depth, after, reached);
}

/* Give the stream a copy or a fill. A synchronous call waits for the stream before, so that the bytes move in their turn, and
 * after. */
static CUresult run(const struct sim_work *work, CUstream stream, bool wait)
{
    CUstream at;
    SIM_ENTER();
    CUresult result = sim_stream_find(stream, &at);
    if (result == CUDA_SUCCESS && wait)
        result = sim_capture_permits_unsafe();
    if (result == CUDA_SUCCESS)
        result = sim_capture_permits(at, wait);
    if (result == CUDA_SUCCESS && !at->capture) /* a capture checks what it takes */
        result = sim_work_check(at, work);
    if (result == CUDA_SUCCESS && wait)
        sim_stream_finish(at);
    if (result == CUDA_SUCCESS)
        result = sim_stream_submit(at, work);
    if (result == CUDA_SUCCESS && wait)
        sim_stream_finish(at);
    return sim_driver_leave(result);
}

CUresult sim_copy_box(const CUDA_MEMCPY3D *copy, CUstream stream, bool wait)
{
    if (!copy)
        return CUDA_ERROR_INVALID_VALUE;
    struct sim_work work;
    work.kind = WORK_COPY;
    work.copy = *copy;
    return run(&work, stream, wait);
}

static CUresult copy_plane(const CUDA_MEMCPY2D *c, CUstream stream, bool wait)
{
    if (!c)
        return CUDA_ERROR_INVALID_VALUE;
    CUDA_MEMCPY3D box = {
        .src_x = c->src_x, .src_y = c->src_y, .src_type = c->src_type, .src_host = c->src_host, .src_device = c->src_device,
        .src_array = c->src_array, .dst_array = c->dst_array, .src_pitch = c->src_pitch, .dst_x = c->dst_x, .dst_y = c->dst_y, .dst_type = c->dst_type, .dst_host = c->dst_host,
        .dst_device = c->dst_device, .dst_pitch = c->dst_pitch, .width = c->width, .height = c->height, .depth = 1};
    return sim_copy_box(&box, stream, wait);
}

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *copy)
{
    return copy_plane(copy, NULL, true);
}
SIM_SAME(cuMemcpy2D_v2_ptds, cuMemcpy2D_v2);
SIM_SAME(cuMemcpy2DUnaligned_v2, cuMemcpy2D_v2);
SIM_SAME(cuMemcpy2DUnaligned_v2_ptds, cuMemcpy2D_v2);

CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D *copy)
{
    return sim_copy_box(copy, NULL, true);
}
SIM_SAME(cuMemcpy3D_v2_ptds, cuMemcpy3D_v2);

ASYNC(cuMemcpy2DAsync_v2, (const CUDA_MEMCPY2D *copy, CUstream stream), (copy, stream), copy_plane(copy, stream, false))
ASYNC(cuMemcpy3DAsync_v2, (const CUDA_MEMCPY3D *copy, CUstream stream), (copy, stream), sim_copy_box(copy, stream, false))

/* --- Fills ---------------------------------------------------------------------------------------------------------------------- */

static void fill_row(unsigned char *row, const struct sim_fill *fill)
{
    if (fill->element == 1) {
        memset(row, (int)(fill->value & 0xff), fill->width);
        return;
    }
    const uint16_t half = (uint16_t)fill->value;
    for (size_t i = 0; i < fill->width; i++)
        memcpy(row + i * fill->element, fill->element == 2 ? (const void *)&half : (const void *)&fill->value, fill->element);
}

static bool span_of(const struct sim_fill *fill, size_t *span)
{
    size_t row, before = 0;
    if (!fill->element || fill->dst % fill->element || __builtin_mul_overflow(fill->width, fill->element, &row) ||
        (fill->height > 1 && (fill->pitch < row || __builtin_mul_overflow(fill->height - 1, fill->pitch, &before))))
        return false;
    return !__builtin_add_overflow(before, row, span);
}

CUresult sim_fill_check(const struct sim_fill *fill)
{
    size_t span;
    if (!span_of(fill, &span))
        return CUDA_ERROR_INVALID_VALUE;
    if (!fill->width || !fill->height)
        return CUDA_SUCCESS;
    return sim_device_known(fill->dst) && sim_memory_at(fill->dst, span) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_fill_start(CUstream stream, const struct sim_fill *fill, const struct sim_position *after, struct sim_position *reached)
{
    size_t span;
    CUresult checked = sim_fill_check(fill);
    if (checked != CUDA_SUCCESS)
        return checked;
    unsigned char *at = span_of(fill, &span) && span ? sim_memory_at(fill->dst, span) : NULL;
    for (size_t y = 0; at && y < fill->height; y++)
        fill_row(at + y * fill->pitch, fill);
    return order_bytes(stream, SIM_LANE_ON_DEVICE, (uint64_t)fill->width * fill->element * fill->height, after, reached);
}

static CUresult run_fill(struct sim_fill fill, CUstream stream, bool wait)
{
    struct sim_work work;
    work.kind = WORK_FILL;
    work.fill = fill;
    return run(&work, stream, wait);
}

#define FILLS(bits, type)                                                                                                                  \
    CUresult cuMemsetD##bits##_v2(CUdeviceptr dst, type value, size_t n)                                                                   \
    {                                                                                                                                      \
        return run_fill((struct sim_fill){dst, 0, value, bits / 8, n, 1}, NULL, true);                                                         \
    }                                                                                                                                      \
    SIM_SAME(cuMemsetD##bits##_v2_ptds, cuMemsetD##bits##_v2);                                                                             \
    CUresult cuMemsetD2D##bits##_v2(CUdeviceptr dst, size_t pitch, type value, size_t width, size_t height)                                \
    {                                                                                                                                      \
        return run_fill((struct sim_fill){dst, pitch, value, bits / 8, width, height}, NULL, true);                                            \
    }                                                                                                                                      \
    SIM_SAME(cuMemsetD2D##bits##_v2_ptds, cuMemsetD2D##bits##_v2);                                                                         \
    ASYNC(cuMemsetD##bits##Async, (CUdeviceptr dst, type value, size_t n, CUstream stream), (dst, value, n, stream),                       \
          run_fill((struct sim_fill){dst, 0, value, bits / 8, n, 1}, stream, false))                                                           \
    ASYNC(cuMemsetD2D##bits##Async, (CUdeviceptr dst, size_t pitch, type value, size_t width, size_t height, CUstream stream),             \
          (dst, pitch, value, width, height, stream), run_fill((struct sim_fill){dst, pitch, value, bits / 8, width, height}, stream, false))

FILLS(8, unsigned char)
FILLS(16, unsigned short)
FILLS(32, unsigned)
