/* SPDX-License-Identifier: Apache-2.0
 *
 * The launches of CUDA 1 to 3, which the driver still has: a function's block and shared memory are set before, apart from the launch. Their parameters
 * (cuParamSet*) are refused; a kernel here reads none.
 */
#include "driver.h"

CUresult cuFuncSetBlockShape(CUfunction function, int x, int y, int z)
{
    SIM_ENTER();
    if (!sim_marked(function, MARK_FUNCTION))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    if (x <= 0 || y <= 0 || z <= 0)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    function->block[0] = (unsigned)x;
    function->block[1] = (unsigned)y;
    function->block[2] = (unsigned)z;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuFuncSetSharedSize(CUfunction function, unsigned bytes)
{
    SIM_ENTER();
    if (!sim_marked(function, MARK_FUNCTION))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    function->shared_bytes = bytes;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuLaunchGridAsync(CUfunction function, int width, int height, CUstream stream)
{
    unsigned block[3] = {0}, shared_bytes = 0;
    if (width <= 0 || height <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    SIM_ENTER();
    bool known = sim_marked(function, MARK_FUNCTION);
    for (int i = 0; known && i < 3; i++)
        block[i] = function->block[i];
    if (known)
        shared_bytes = function->shared_bytes;
    sim_driver_leave(CUDA_SUCCESS);
    return cuLaunchKernel(function, (unsigned)width, (unsigned)height, 1, block[0], block[1], block[2], shared_bytes, stream, NULL, NULL);
}

CUresult cuLaunchGrid(CUfunction function, int width, int height)
{
    return cuLaunchGridAsync(function, width, height, NULL);
}

CUresult cuLaunch(CUfunction function)
{
    return cuLaunchGridAsync(function, 1, 1, NULL);
}
