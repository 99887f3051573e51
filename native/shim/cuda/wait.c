/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls that wait for the device. When a program waits, the driver lets go of what its pools keep beyond their threshold, and the charge follows.
 */
#include "graph_memory.h"
#include "pool.h"

#include "../core/below.h"

static CUresult waited(CUresult result)
{
    if (result == CUDA_SUCCESS && mica_attach_state() == MICA_INSIDE) {
        pools_settle();
        graph_memory_settle();
    }
    return result;
}

static bool is_closed(void)
{
    return door() == DOOR_CLOSED || mica_below_is_refused();
}

#define WAIT_HOOK(name, params, args)                                                        \
    EXPORT CUresult name params                                                              \
    {                                                                                        \
        return is_closed() ? CUDA_ERROR_NOT_PERMITTED : waited(below_##name args);           \
    }

WAIT_HOOK(cuCtxSynchronize, (void), ())
WAIT_HOOK(cuCtxSynchronize_v2, (CUcontext context), (context))
WAIT_HOOK(cuStreamSynchronize, (CUstream stream), (stream))
WAIT_HOOK(cuStreamSynchronize_ptsz, (CUstream stream), (stream))
WAIT_HOOK(cuEventSynchronize, (CUevent event), (event))
