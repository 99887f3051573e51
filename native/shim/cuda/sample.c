/* SPDX-License-Identifier: Apache-2.0 */
#include "sample.h"

#include "../core/cost.h"

#define QUANTUM_NS 2000000ULL
#define POLL_NS 50000ULL

static _Atomic bool is_capture_used;

/* --- Stream capture ------------------------------------------------------------------------------------------------ */

bool capture_is_used(void)
{
    return atomic_load_explicit(&is_capture_used, memory_order_relaxed);
}

bool capture_is_active(CUstream stream)
{
    int status = CU_STREAM_CAPTURE_STATUS_NONE;
    if (driver.cuStreamIsCapturing == NULL || driver.cuStreamIsCapturing(stream, &status) != CUDA_SUCCESS) {
        return true; /* the legacy stream cannot be asked while another stream captures: treat it alike, touch nothing */
    }
    return status != CU_STREAM_CAPTURE_STATUS_NONE;
}

/* While a stream captures, the driver forbids asking for events unless this thread says that it knows what it does. */
static int relax_capture(void)
{
    int mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    if (capture_is_used() && driver.cuThreadExchangeStreamCaptureMode != NULL) {
        (void)driver.cuThreadExchangeStreamCaptureMode(&mode);
    }
    return mode;
}

static void restore_capture(int mode)
{
    if (capture_is_used() && driver.cuThreadExchangeStreamCaptureMode != NULL) {
        (void)driver.cuThreadExchangeStreamCaptureMode(&mode);
    }
}

#define CAPTURE_HOOK(name, params, args)                                                                \
    EXPORT CUresult name params                                                                         \
    {                                                                                                   \
        if (!driver_load()) {                                                                           \
            return CUDA_ERROR_NO_DEVICE;                                                                \
        }                                                                                               \
        atomic_store_explicit(&is_capture_used, true, memory_order_relaxed);                            \
        return below_##name args;                                                                       \
    }

CAPTURE_HOOK(cuStreamBeginCapture, (CUstream stream), (stream))
CAPTURE_HOOK(cuStreamBeginCapture_ptsz, (CUstream stream), (stream))
CAPTURE_HOOK(cuStreamBeginCapture_v2, (CUstream stream, int mode), (stream, mode))
CAPTURE_HOOK(cuStreamBeginCapture_v2_ptsz, (CUstream stream, int mode), (stream, mode))
CAPTURE_HOOK(cuStreamBeginCaptureToGraph, (CUstream stream, CUgraph graph, const void *nodes, const void *edges, size_t count, int mode),
             (stream, graph, nodes, edges, count, mode))
CAPTURE_HOOK(cuStreamBeginCaptureToGraph_ptsz, (CUstream stream, CUgraph graph, const void *nodes, const void *edges, size_t count, int mode),
             (stream, graph, nodes, edges, count, mode))

/* --- The pool ------------------------------------------------------------------------------------------------------- */

static bool can_sample(void)
{
    return driver.cuEventCreate != NULL && driver.cuEventRecord != NULL && driver.cuEventQuery != NULL && driver.cuEventElapsedTime != NULL;
}

void sample_pool_open(struct context *context)
{
    if (context->device == NULL || !can_sample()) {
        return;
    }
    int mode = relax_capture();
    for (unsigned i = 0; i < SAMPLES_MAX; i++) {
        struct sample *sample = &context->samples[i];
        if (driver.cuEventCreate(&sample->start, 0) == CUDA_SUCCESS && driver.cuEventCreate(&sample->end, 0) == CUDA_SUCCESS) {
            atomic_store_explicit(&sample->state, SAMPLE_FREE, memory_order_release);
        }
    }
    restore_capture(mode);
}

void sample_pool_forget(struct context *context)
{
    for (unsigned i = 0; i < SAMPLES_MAX; i++) {
        struct sample *sample = &context->samples[i];
        if (atomic_exchange(&sample->state, SAMPLE_NONE) == SAMPLE_PENDING) {
            mica_cost_unclaim(sample->cost);
        }
    }
    atomic_store(&context->pending, 0);
    atomic_store(&context->next_sample_ns, 0);
}

static bool move(struct sample *sample, int from, int to)
{
    /* Acquire and release: what the last owner of the sample wrote is seen by the next. */
    return atomic_compare_exchange_strong_explicit(&sample->state, &from, to, memory_order_acq_rel, memory_order_relaxed);
}

static struct sample *take_free(struct context *context)
{
    for (unsigned i = 0; i < SAMPLES_MAX; i++) {
        struct sample *sample = &context->samples[i];
        if (atomic_load_explicit(&sample->state, memory_order_relaxed) == SAMPLE_FREE && move(sample, SAMPLE_FREE, SAMPLE_OPEN)) {
            return sample;
        }
    }
    return NULL;
}

static void abandon(struct sample *sample)
{
    mica_cost_unclaim(sample->cost);
    move(sample, SAMPLE_OPEN, SAMPLE_FREE);
}

/* --- One sample ----------------------------------------------------------------------------------------------------- */

struct sample *sample_begin(struct context *context, struct mica_cost *cost, CUstream stream, uint64_t now_ns)
{
    bool is_due = now_ns >= atomic_load_explicit(&context->next_sample_ns, memory_order_relaxed);
    bool is_new = mica_cost_claim(cost);
    if (!is_due && !is_new) {
        return NULL;
    }
    struct sample *sample = take_free(context);
    if (sample == NULL) {
        if (is_new) {
            mica_cost_unclaim(cost);
        }
        return NULL;
    }
    atomic_store_explicit(&context->next_sample_ns, now_ns + QUANTUM_NS, memory_order_relaxed);
    mica_device_touch(context->device, now_ns);
    sample->cost = cost;
    if (driver.cuEventRecord(sample->start, stream) != CUDA_SUCCESS) {
        abandon(sample);
        return NULL;
    }
    return sample;
}

void sample_end(struct context *context, struct sample *sample, CUstream stream, CUresult result)
{
    if (result != CUDA_SUCCESS || driver.cuEventRecord(sample->end, stream) != CUDA_SUCCESS) {
        abandon(sample);
        return;
    }
    if (move(sample, SAMPLE_OPEN, SAMPLE_PENDING)) {
        atomic_fetch_add_explicit(&context->pending, 1, memory_order_relaxed);
    }
}

static void settle(struct context *context, struct sample *sample)
{
    float milliseconds = 0;
    if (driver.cuEventElapsedTime(&milliseconds, sample->start, sample->end) != CUDA_SUCCESS || !(milliseconds >= 0)) {
        mica_cost_unclaim(sample->cost);
        return;
    }
    struct mica_settlement settlement = mica_cost_measured(sample->cost, (uint64_t)((double)milliseconds * 1e6));
    mica_launch_correct(context->device, settlement.charged_ns, settlement.actual_ns);
}

static void poll_one(struct context *context, struct sample *sample)
{
    if (atomic_load_explicit(&sample->state, memory_order_relaxed) != SAMPLE_PENDING || !move(sample, SAMPLE_PENDING, SAMPLE_POLLED)) {
        return;
    }
    CUresult result = driver.cuEventQuery(sample->end);
    if (result == CUDA_ERROR_NOT_READY) {
        move(sample, SAMPLE_POLLED, SAMPLE_PENDING);
        return;
    }
    if (result == CUDA_SUCCESS) {
        settle(context, sample);
    } else {
        mica_cost_unclaim(sample->cost);
    }
    atomic_fetch_sub_explicit(&context->pending, 1, memory_order_relaxed);
    move(sample, SAMPLE_POLLED, SAMPLE_FREE);
}

void sample_poll(struct context *context, uint64_t now_ns)
{
    if (atomic_load_explicit(&context->pending, memory_order_relaxed) == 0 ||
        now_ns < atomic_load_explicit(&context->next_poll_ns, memory_order_relaxed)) {
        return;
    }
    atomic_store_explicit(&context->next_poll_ns, now_ns + POLL_NS, memory_order_relaxed);
    int mode = relax_capture();
    for (unsigned i = 0; i < SAMPLES_MAX; i++) {
        poll_one(context, &context->samples[i]);
    }
    restore_capture(mode);
}
