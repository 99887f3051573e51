/* SPDX-License-Identifier: Apache-2.0 */
#include "capture.h"

/* A capture also ends with one of these. */
enum { CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901, CUDA_ERROR_STREAM_CAPTURE_UNJOINED = 904 };

_Atomic int capture_count;

bool capture_is_active(CUstream stream)
{
    int status = CU_STREAM_CAPTURE_STATUS_NONE;
    if (driver.cuStreamIsCapturing == NULL || driver.cuStreamIsCapturing(stream, &status) != CUDA_SUCCESS) {
        return true;
    }
    return status != CU_STREAM_CAPTURE_STATUS_NONE;
}

int capture_relax(void)
{
    int mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    if (driver.cuThreadExchangeStreamCaptureMode != NULL) {
        (void)driver.cuThreadExchangeStreamCaptureMode(&mode);
    }
    return mode;
}

void capture_restore(int mode)
{
    if (driver.cuThreadExchangeStreamCaptureMode != NULL) {
        (void)driver.cuThreadExchangeStreamCaptureMode(&mode);
    }
}

void capture_forget(void)
{
    atomic_store_explicit(&capture_count, 0, memory_order_relaxed);
}

/* Counted before the driver begins, so that no launch into the capture is taken for a real one. */
#define BEGIN_HOOK(name, params, args)                                                                  \
    EXPORT CUresult name params                                                                         \
    {                                                                                                   \
        if (!driver_load()) {                                                                           \
            return CUDA_ERROR_NO_DEVICE;                                                                \
        }                                                                                               \
        atomic_fetch_add_explicit(&capture_count, 1, memory_order_relaxed);                                  \
        CUresult result = below_##name args;                                                            \
        if (result != CUDA_SUCCESS) {                                                                   \
            atomic_fetch_sub_explicit(&capture_count, 1, memory_order_relaxed);                              \
        }                                                                                               \
        return result;                                                                                  \
    }

BEGIN_HOOK(cuStreamBeginCapture, (CUstream stream), (stream))
BEGIN_HOOK(cuStreamBeginCapture_ptsz, (CUstream stream), (stream))
BEGIN_HOOK(cuStreamBeginCapture_v2, (CUstream stream, int mode), (stream, mode))
BEGIN_HOOK(cuStreamBeginCapture_v2_ptsz, (CUstream stream, int mode), (stream, mode))
BEGIN_HOOK(cuStreamBeginCaptureToGraph, (CUstream stream, CUgraph graph, const void *nodes, const void *edges, size_t count, int mode),
           (stream, graph, nodes, edges, count, mode))
BEGIN_HOOK(cuStreamBeginCaptureToGraph_ptsz, (CUstream stream, CUgraph graph, const void *nodes, const void *edges, size_t count, int mode),
           (stream, graph, nodes, edges, count, mode))

static CUresult end(CUresult result)
{
    if (result == CUDA_SUCCESS || result == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED || result == CUDA_ERROR_STREAM_CAPTURE_UNJOINED) {
        int seen = atomic_load_explicit(&capture_count, memory_order_relaxed);
        while (seen > 0 && !atomic_compare_exchange_weak_explicit(&capture_count, &seen, seen - 1, memory_order_relaxed, memory_order_relaxed)) {
        }
    }
    return result;
}

EXPORT CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    return driver_load() ? end(below_cuStreamEndCapture(stream, graph)) : CUDA_ERROR_NO_DEVICE;
}

EXPORT CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph *graph)
{
    return driver_load() ? end(below_cuStreamEndCapture_ptsz(stream, graph)) : CUDA_ERROR_NO_DEVICE;
}
