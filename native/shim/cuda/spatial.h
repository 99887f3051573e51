/* SPDX-License-Identifier: Apache-2.0
 *
 * The slice's own part of the device, where the driver has a mechanism for one: an MPS client's thread percentage, or a green context.
 *
 * The enforcer chooses the mechanism by what the device offers (spatial_kind, spatial_ppm and spatial_offset_ppm of the record); the shim puts the process
 * into it. What the mechanism can't give is left to the rate, and said once on stderr.
 */
#ifndef MICA_SHIM_CUDA_SPATIAL_H
#define MICA_SHIM_CUDA_SPATIAL_H

#include "context.h"

/* Before the driver is initialised: an MPS client's percentage is read then, and only then. */
void spatial_prepare(void);

/* The tenant has retained the primary context of `ordinal`. Where the slice has a part of that device by a green context, `*context` becomes the
 * primary context with the green context's resources. */
void spatial_enter(CUdevice ordinal, CUcontext *context);
/* The tenant has released it once. At the last time the green context goes, which holds the primary context too. */
void spatial_leave(CUdevice ordinal);
/* The tenant is about to reset the primary context, whoever has retained it. */
void spatial_drop(CUdevice ordinal);

/* In a forked child: none of the parent's contexts exist. */
void spatial_forget(void);

#endif
