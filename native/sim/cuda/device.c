/* SPDX-License-Identifier: Apache-2.0
 *
 * Devices: what they are called and what they can do. Attributes are one table of numbers from the description.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "driver.h"

static CUresult find(CUdevice index, struct sim_visible **device)
{
    SIM_ENTER();
    *device = sim_visible_at(index);
    return sim_driver_leave(*device ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE);
}

#define FIND_DEVICE(out)                                                                                                                   \
    struct sim_visible *at;                                                                                                                \
    if (!(out))                                                                                                                            \
        return CUDA_ERROR_INVALID_VALUE;                                                                                                   \
    CUresult found = find(device, &at);                                                                                                    \
    if (found != CUDA_SUCCESS)                                                                                                             \
        return found;                                                                                                                      \
    const struct sim_description *description = sim_visible_description(at);                                                               \
    (void)description

CUresult cuDeviceGetCount(int *count)
{
    if (!count)
        return CUDA_ERROR_INVALID_VALUE;
    SIM_ENTER();
    *count = sim_visible_count();
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    if (!device)
        return CUDA_ERROR_INVALID_VALUE;
    SIM_ENTER();
    bool there = sim_visible_at(ordinal) != NULL;
    if (there)
        *device = ordinal;
    return sim_driver_leave(there ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE);
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device)
{
    FIND_DEVICE(name);
    if (length <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    snprintf(name, (size_t)length, "%s", at->name);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
    FIND_DEVICE(uuid);
    *uuid = at->uuid;
    return CUDA_SUCCESS;
}
SIM_SAME(cuDeviceGetUuid, cuDeviceGetUuid_v2);

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
    FIND_DEVICE(bytes);
    struct sim_state *state = sim_enter();
    *bytes = sim_vram_capacity(state, at->place);
    sim_leave(state);
    return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device)
{
    FIND_DEVICE(major && minor);
    *major = (int)description->capability_major;
    *minor = (int)description->capability_minor;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char *id, int length, CUdevice device)
{
    FIND_DEVICE(id);
    if (length < 13)
        return CUDA_ERROR_INVALID_VALUE;
    snprintf(id, (size_t)length, "%04X:%02X:%02X.0", description->pci_domain, description->pci_bus, description->pci_device);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetByPCIBusId(CUdevice *device, const char *id)
{
    unsigned domain = 0, bus = 0, slot = 0;
    if (!device || !id || (sscanf(id, "%x:%x:%x.", &domain, &bus, &slot) != 3 && (domain = 0, sscanf(id, "%x:%x.", &bus, &slot) != 2)))
        return CUDA_ERROR_INVALID_VALUE;
    SIM_ENTER();
    for (int i = 0; i < sim_visible_count(); i++) {
        const struct sim_description *description = sim_visible_description(sim_visible_at(i));
        if (description->pci_domain == domain && description->pci_bus == bus && description->pci_device == slot) {
            *device = i;
            return sim_driver_leave(CUDA_SUCCESS);
        }
    }
    return sim_driver_leave(CUDA_ERROR_INVALID_DEVICE);
}

CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer)
{
    FIND_DEVICE(can);
    SIM_ENTER();
    bool known = sim_visible_at(peer) != NULL;
    *can = 0; /* peer access is not modelled */
    return sim_driver_leave(known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE);
}

CUresult cuDeviceGetExecAffinitySupport(int *supported, int type, CUdevice device)
{
    FIND_DEVICE(supported);
    (void)type;
    *supported = 0;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetProperties(CUdevprop *properties, CUdevice device)
{
    FIND_DEVICE(properties);
    int block = (int)description->block_threads_max;
    *properties = (CUdevprop){block,      {1024, 1024, 64}, {2147483647, 65535, 65535}, 49152, 65536, (int)description->warp_threads,
                              2147483647, 65536,            (int)description->clock_khz, 512};
    return CUDA_SUCCESS;
}

/* --- Attributes ------------------------------------------------------------------------------------------------------------ */

struct facts {
    const struct sim_description *description;
    int multiprocessors;
};

/* Number of the attribute and its value. Attributes of CUDA 13.0 (1..147) that are not here are 0: not supported. */
#define ATTRIBUTES(A)                                                                                                                      \
    A(1, d->block_threads_max)                                                                                                             \
    A(2, 1024)                                                                                                                             \
    A(3, 1024)                                                                                                                             \
    A(4, 64)                                                                                                                               \
    A(5, 2147483647)                                                                                                                       \
    A(6, 65535)                                                                                                                            \
    A(7, 65535)                                                                                                                            \
    A(8, 49152)  /* shared memory per block */                                                                                             \
    A(9, 65536)  /* constant memory */                                                                                                     \
    A(10, d->warp_threads)                                                                                                                 \
    A(11, 2147483647)                                                                                                                      \
    A(12, 65536) /* registers per block */                                                                                                 \
    A(13, d->clock_khz)                                                                                                                    \
    A(14, 512)                                                                                                                             \
    A(15, 1)                                                                                                                               \
    A(16, facts->multiprocessors)                                                                                                          \
    A(19, 1)     /* host memory can be mapped */                                                                                           \
    A(21, 131072)                                                                                                                          \
    A(22, 131072)                                                                                                                          \
    A(23, 65536)                                                                                                                           \
    A(24, 16384)                                                                                                                           \
    A(25, 16384)                                                                                                                           \
    A(26, 16384)                                                                                                                           \
    A(30, 512)                                                                                                                             \
    A(31, 1)     /* concurrent kernels: may be asked for; the model runs them one after another */                                         \
    A(32, 1)     /* ECC */                                                                                                                 \
    A(33, d->pci_bus)                                                                                                                      \
    A(34, d->pci_device)                                                                                                                   \
    A(36, d->memory_clock_khz)                                                                                                             \
    A(37, d->memory_bus_bits)                                                                                                              \
    A(38, d->l2_bytes)                                                                                                                     \
    A(39, d->multiprocessor_threads_max)                                                                                                   \
    A(40, 3)     /* copy engines */                                                                                                        \
    A(41, 1)     /* unified addressing */                                                                                                  \
    A(50, d->pci_domain)                                                                                                                   \
    A(51, 32)                                                                                                                              \
    A(75, d->capability_major)                                                                                                             \
    A(76, d->capability_minor)                                                                                                             \
    A(78, 1)     /* stream priorities */                                                                                                   \
    A(79, 1)                                                                                                                               \
    A(80, 1)                                                                                                                               \
    A(81, d->multiprocessor_shared_bytes)                                                                                                  \
    A(82, d->multiprocessor_registers)                                                                                                     \
    A(83, 1)     /* managed memory */                                                                                                      \
    A(87, d->capability_major == 8 && d->capability_minor ? 64 : 2)                                                                        \
    A(89, 1)     /* the host may touch managed memory while kernels run */                                                                 \
    A(90, 1)     /* compute preemption */                                                                                                  \
    A(91, 1)                                                                                                                               \
    A(95, 1)     /* cooperative launch */                                                                                                  \
    A(97, d->block_shared_optin_bytes)                                                                                                     \
    A(99, 1)     /* host registration */                                                                                                   \
    A(102, 1)    /* virtual memory */                                                                                                      \
    A(103, 1)    /* POSIX file descriptors of it */                                                                                        \
    A(106, d->multiprocessor_blocks_max)                                                                                                   \
    A(111, d->capability_major >= 8 ? 1024 : 0)                                                                                            \
    A(115, 1)    /* memory pools */                                                                                                        \
    A(119, 1)    /* as POSIX file descriptors */                                                                                           \
    A(120, d->capability_major >= 9)                                                                                                       \
    A(131, d->numa_node)                                                                                                                   \
    A(134, d->numa_node)                                                                                                                   \
    A(139, d->pci_device_id)                                                                                                               \
    A(140, d->pci_subsystem_id)

static int attribute_of(const struct facts *facts, int attribute)
{
    const struct sim_description *d = facts->description;
    switch (attribute) {
#define ATTRIBUTE_CASE(number, value)                                                                                                      \
    case number:                                                                                                                           \
        return (int)(value);
        ATTRIBUTES(ATTRIBUTE_CASE)
    default:
        return 0;
    }
}

CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device)
{
    FIND_DEVICE(value);
    if (attribute < 1 || attribute > 147)
        return CUDA_ERROR_INVALID_VALUE;
    struct facts facts = {description, (int)sim_visible_multiprocessors(at)};
    *value = attribute_of(&facts, attribute);
    return CUDA_SUCCESS;
}
