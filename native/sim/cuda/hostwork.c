/* SPDX-License-Identifier: Apache-2.0
 *
 * What a stream asks of the host: functions to run, values in memory to write or to wait for.
 */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

static CUresult submit(CUstream stream, struct sim_work *work)
{
    CUstream at;
    SIM_ENTER();
    CUresult result = sim_stream_find(stream, &at);
    if (result == CUDA_SUCCESS)
        result = sim_work_check(at, work);
    if (result == CUDA_SUCCESS && work->kind == WORK_CALLBACK)
        work->callback.stream = at;
    if (result == CUDA_SUCCESS)
        result = sim_stream_submit(at, work);
    return sim_driver_leave(result);
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *data)
{
    struct sim_work work = {.kind = WORK_HOST};
    work.host.function = function;
    work.host.data = data;
    return submit(stream, &work);
}

CUresult cuLaunchHostFunc_ptsz(CUstream stream, CUhostFn function, void *data)
{
    return cuLaunchHostFunc(sim_per_thread(stream), function, data);
}

CUresult cuStreamAddCallback(CUstream stream, CUstreamCallback function, void *data, unsigned flags)
{
    struct sim_work work = {.kind = WORK_CALLBACK};
    work.callback.function = function;
    work.callback.data = data;
    return flags ? CUDA_ERROR_INVALID_VALUE : submit(stream, &work);
}

CUresult cuStreamAddCallback_ptsz(CUstream stream, CUstreamCallback function, void *data, unsigned flags)
{
    return cuStreamAddCallback(sim_per_thread(stream), function, data, flags);
}

/* --- Values in memory ---------------------------------------------------------------------------------------------------------- */

static bool is_valid(const CUstreamValue *value)
{
    switch (value->operation) {
    case CU_VALUE_WAIT_32:
    case CU_VALUE_WAIT_64:
        return (value->at.flags & ~3u & ~(1u << 30)) == 0;
    case CU_VALUE_WRITE_32:
    case CU_VALUE_WRITE_64:
        return value->at.flags <= 1;
    case CU_VALUE_FLUSH:
    case CU_VALUE_BARRIER:
        return true;
    default:
        return false;
    }
}

static bool is_reachable(const CUstreamValue *value)
{
    bool wide = value->operation == CU_VALUE_WAIT_64 || value->operation == CU_VALUE_WRITE_64;
    if (value->operation == CU_VALUE_FLUSH || value->operation == CU_VALUE_BARRIER)
        return true;
    if (value->at.address % (wide ? 8 : 4))
        return false;
    return sim_device_known(value->at.address) && sim_memory_at(value->at.address, wide ? 8 : 4);
}

CUresult sim_values_check(CUstreamValue *values, unsigned count)
{
    if (!count || count > 256 || !values)
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count; i++)
        if (!is_valid(&values[i]) || !is_reachable(&values[i]))
            return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

CUresult cuStreamBatchMemOp_v2(CUstream stream, unsigned count, CUstreamValue *values, unsigned flags)
{
    CUstream at;
    if (flags)
        return CUDA_ERROR_INVALID_VALUE;
    struct sim_work work = {.kind = WORK_VALUES};
    work.values.count = count;
    SIM_ENTER();
    CUresult result = sim_values_check(values, count);
    if (result == CUDA_SUCCESS)
        result = sim_stream_find(stream, &at);
    if (result == CUDA_SUCCESS && !(work.values.list = malloc(count * sizeof *values)))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    if (result == CUDA_SUCCESS) {
        memcpy(work.values.list, values, count * sizeof *values);
        result = sim_stream_submit(at, &work);
        if (result != CUDA_SUCCESS)
            free(work.values.list);
    }
    return sim_driver_leave(result);
}

CUresult cuStreamBatchMemOp_v2_ptsz(CUstream stream, unsigned count, CUstreamValue *values, unsigned flags)
{
    return cuStreamBatchMemOp_v2(sim_per_thread(stream), count, values, flags);
}

#define VALUE_CALL(call, type, kind)                                                                                                       \
    CUresult call(CUstream stream, CUdeviceptr address, type value, unsigned flags)                                                        \
    {                                                                                                                                      \
        CUstreamValue values = {.at = {.operation = kind, .address = address, .value = value, .flags = flags}};                            \
        return cuStreamBatchMemOp_v2(stream, 1, &values, 0);                                                                               \
    }                                                                                                                                      \
    CUresult call##_ptsz(CUstream stream, CUdeviceptr address, type value, unsigned flags)                                                 \
    {                                                                                                                                      \
        return call(sim_per_thread(stream), address, value, flags);                                                                        \
    }

VALUE_CALL(cuStreamWaitValue32_v2, uint32_t, CU_VALUE_WAIT_32)
VALUE_CALL(cuStreamWriteValue32_v2, uint32_t, CU_VALUE_WRITE_32)
VALUE_CALL(cuStreamWaitValue64_v2, uint64_t, CU_VALUE_WAIT_64)
VALUE_CALL(cuStreamWriteValue64_v2, uint64_t, CU_VALUE_WRITE_64)
