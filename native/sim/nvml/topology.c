/* SPDX-License-Identifier: Apache-2.0
 *
 * How devices reach each other, through NVML: the node's links, its PCIe switches and NUMA nodes.
 *
 * Invariant: a device's NVLinks are numbered in the order of the node's links; those into the switches come last, and are
 * the same ones whichever device behind the switches is meant.
 */
#include <stdio.h>
#include <string.h>

#include "nvml.h"

#define NVLINKS_MAX 36u
#define CPUS_PER_NUMA_NODE 16u /* a node file says nothing about processors */

enum { REMOTE_GPU = 0, REMOTE_SWITCH = 2, REMOTE_UNKNOWN = 0xff };
enum { P2P_OK = 0, P2P_CHIPSET = 1, P2P_GPU = 2, P2P_NOT_SUPPORTED = 5 };
enum { P2P_READ = 0, P2P_WRITE = 1, P2P_NVLINK = 2, P2P_ATOMICS = 3, P2P_PCI = 4, P2P_INDICES = 5 };
enum { LEVEL_SINGLE = 10, LEVEL_NODE = 40, LEVEL_SYSTEM = 50 };

struct remote {
    unsigned type;
    int peer; /* -1: none */
};

static struct remote remote_of(int device, unsigned number)
{
    const struct sim_node *node = sim_node();
    unsigned direct = 0, switched = 0;
    for (unsigned i = 0; i < node->link_count; i++) {
        const struct sim_link *link = &node->links[i];
        if ((int)link->a != device && (int)link->b != device)
            continue;
        if (!strcmp(link->kind, "nvswitch"))
            switched = link->lanes > switched ? link->lanes : switched;
        if (strcmp(link->kind, "nvlink"))
            continue;
        direct += link->lanes;
        if (number < direct)
            return (struct remote){REMOTE_GPU, (int)((int)link->a == device ? link->b : link->a)};
    }
    return (struct remote){number < direct + switched ? REMOTE_SWITCH : REMOTE_UNKNOWN, -1};
}

static bool linked(int a, int b)
{
    const struct sim_node *node = sim_node();
    for (unsigned i = 0; i < node->link_count; i++)
        if (((int)node->links[i].a == a && (int)node->links[i].b == b) || ((int)node->links[i].a == b && (int)node->links[i].b == a))
            return true;
    return false;
}

/* Of a link that the device has, wired or not. */
static nvmlReturn_t check_link(const struct nvml_view *view, unsigned number, struct remote *remote)
{
    *remote = remote_of(view->index, number);
    if (number >= NVLINKS_MAX)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!view->description->nvlinks && remote_of(view->index, 0).type == REMOTE_UNKNOWN)
        return NVML_ERROR_NOT_SUPPORTED;
    return number < view->description->nvlinks || remote->type != REMOTE_UNKNOWN ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

#define LINK_GETTER(call, value)                                                                                                           \
    NVML_API call(nvmlDevice_t device, unsigned number, unsigned *out);                                                                    \
    NVML_API call(nvmlDevice_t device, unsigned number, unsigned *out)                                                                     \
    {                                                                                                                                      \
        struct remote remote;                                                                                                              \
        ENTER(device, KIND(DEVICE), out);                                                                                                  \
        nvmlReturn_t result = check_link(&view, number, &remote);                                                                          \
        if (result == NVML_SUCCESS)                                                                                                        \
            *out = (value);                                                                                                                \
        LEAVE(result);                                                                                                                     \
    }

/* NVML_NVLINK_VERSION_*, by compute capability. */
static unsigned version(const struct sim_description *description)
{
    unsigned capability = description->capability_major * 10 + description->capability_minor;
    return capability >= 100 ? 7 : capability >= 90 ? 6 : capability > 80 ? 5 : capability == 80 ? 4 : capability >= 70 ? 2 : 1;
}

LINK_GETTER(nvmlDeviceGetNvLinkState, remote.type != REMOTE_UNKNOWN)
LINK_GETTER(nvmlDeviceGetNvLinkVersion, version(view.description))
LINK_GETTER(nvmlDeviceGetNvLinkRemoteDeviceType, remote.type)

NVML_API nvmlDeviceGetNvLinkCapability(nvmlDevice_t device, unsigned number, unsigned capability, unsigned *has);
NVML_API nvmlDeviceGetNvLinkCapability(nvmlDevice_t device, unsigned number, unsigned capability, unsigned *has)
{
    struct remote remote;
    ENTER(device, KIND(DEVICE), has && capability <= 5);
    nvmlReturn_t result = check_link(&view, number, &remote);
    if (result == NVML_SUCCESS)
        *has = capability == 0 || capability == 2 || capability == 5; /* peers, their atomics, valid */
    LEAVE(result);
}

/* Switches have addresses of their own, behind all devices; a device's links are spread over them. */
static void put_switch(const struct nvml_view *view, unsigned number, nvmlPciInfo_t *pci)
{
    unsigned switches = view->description->capability_major < 9 ? 6 : 4, bus = 0xc0 + number % switches;
    *pci = (nvmlPciInfo_t){"", 0, bus, 0, switches == 6 ? 0x1af110deu : 0x22a310deu, 0, ""};
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", bus);
}

static void put_device(const struct sim_description *peer, nvmlPciInfo_t *pci)
{
    *pci = (nvmlPciInfo_t){"", peer->pci_domain, peer->pci_bus, peer->pci_device, peer->pci_device_id, peer->pci_subsystem_id, ""};
    snprintf(pci->bus_id, sizeof pci->bus_id, "%08X:%02X:%02X.0", peer->pci_domain, peer->pci_bus, peer->pci_device);
}

NVML_API nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned number, nvmlPciInfo_t *pci);
NVML_API nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned number, nvmlPciInfo_t *pci)
{
    struct remote remote;
    ENTER(device, KIND(DEVICE), pci);
    nvmlReturn_t result = check_link(&view, number, &remote);
    if (result == NVML_SUCCESS && remote.type == REMOTE_UNKNOWN)
        result = NVML_ERROR_NOT_SUPPORTED;
    if (result == NVML_SUCCESS && remote.type == REMOTE_SWITCH)
        put_switch(&view, number, pci);
    else if (result == NVML_SUCCESS)
        put_device(&view.state->node.devices[remote.peer], pci);
    LEAVE(result);
}

/* --- PCIe and NUMA ------------------------------------------------------------------------------------------------------------ */

/* NVML_TOPOLOGY_*. */
static unsigned level(int a, int b)
{
    const struct sim_description *first = &sim_node()->devices[a], *second = &sim_node()->devices[b];
    if (first->numa_node != second->numa_node)
        return LEVEL_SYSTEM;
    return first->pci_switch && first->pci_switch == second->pci_switch ? LEVEL_SINGLE : LEVEL_NODE;
}

/* Which device the handle means, checked as the first one is. */
static nvmlReturn_t other_device(nvmlDevice_t device, int *index)
{
    ENTER(device, KIND(DEVICE), true);
    *index = view.index;
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t first, nvmlDevice_t second, unsigned *ancestor);
NVML_API nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t first, nvmlDevice_t second, unsigned *ancestor)
{
    int other;
    nvmlReturn_t result = other_device(second, &other);
    if (result != NVML_SUCCESS)
        return result;
    ENTER(first, KIND(DEVICE), ancestor);
    *ancestor = view.index == other ? 0 : level(view.index, other);
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device, unsigned wanted, unsigned *count, nvmlDevice_t *devices);
NVML_API nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device, unsigned wanted, unsigned *count, nvmlDevice_t *devices)
{
    ENTER(device, KIND(DEVICE), count);
    unsigned found = 0;
    for (int d = 0; d < (int)view.state->node.nvidia_count; d++) {
        if (d == view.index || level(view.index, d) != wanted)
            continue;
        if (devices && found < *count)
            devices[found] = nvml_device_handle(d);
        found++;
    }
    *count = found;
    LEAVE(NVML_SUCCESS);
}

static unsigned p2p(const struct nvml_view *view, int other, unsigned index)
{
    if (view->device->mig_enabled || view->state->devices[other].mig_enabled)
        return P2P_GPU;
    if (index == P2P_NVLINK || index == P2P_ATOMICS)
        return linked(view->index, other) ? P2P_OK : P2P_NOT_SUPPORTED;
    bool near = level(view->index, other) == LEVEL_SINGLE;
    return near || (index != P2P_PCI && linked(view->index, other)) ? P2P_OK : P2P_CHIPSET;
}

NVML_API nvmlDeviceGetP2PStatus(nvmlDevice_t first, nvmlDevice_t second, unsigned index, unsigned *status);
NVML_API nvmlDeviceGetP2PStatus(nvmlDevice_t first, nvmlDevice_t second, unsigned index, unsigned *status)
{
    int other;
    nvmlReturn_t result = other_device(second, &other);
    if (result != NVML_SUCCESS)
        return result;
    ENTER(first, KIND(DEVICE), status && index < P2P_INDICES);
    if (view.index == other)
        LEAVE(NVML_ERROR_INVALID_ARGUMENT);
    *status = p2p(&view, other, index);
    LEAVE(NVML_SUCCESS);
}

/* The processors next to the device: as many to each NUMA node, in its order. */
NVML_API nvmlDeviceGetCpuAffinityWithinScope(nvmlDevice_t device, unsigned words, unsigned long *set, unsigned scope);
NVML_API nvmlDeviceGetCpuAffinityWithinScope(nvmlDevice_t device, unsigned words, unsigned long *set, unsigned scope)
{
    ENTER(device, ANY_DEVICE, set && words && scope <= 1);
    unsigned bits = 8 * sizeof *set, first = view.description->numa_node * CPUS_PER_NUMA_NODE;
    memset(set, 0, words * sizeof *set);
    for (unsigned cpu = first; cpu < first + CPUS_PER_NUMA_NODE && cpu / bits < words; cpu++)
        set[cpu / bits] |= 1ul << cpu % bits;
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned words, unsigned long *set);
NVML_API nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned words, unsigned long *set)
{
    return nvmlDeviceGetCpuAffinityWithinScope(device, words, set, 0);
}

/* NVML_DEVICE_ARCH_*: Kepler is 2, Turing 6, Ada 8, Blackwell 10. */
static unsigned architecture_of(const struct sim_description *description)
{
    static const unsigned char by_major[] = {0, 0, 0, 2, 0, 3, 4, 5, 7, 9};
    unsigned major = description->capability_major, minor = description->capability_minor;
    if (major >= sizeof by_major)
        return 10;
    return by_major[major] + ((major == 7 && minor == 5) || (major == 8 && minor == 9));
}

NVML_API nvmlDeviceGetArchitecture(nvmlDevice_t device, unsigned *architecture);
NVML_API nvmlDeviceGetArchitecture(nvmlDevice_t device, unsigned *architecture)
{
    ENTER(device, ANY_DEVICE, architecture);
    *architecture = architecture_of(view.description);
    LEAVE(NVML_SUCCESS);
}
