/* SPDX-License-Identifier: Apache-2.0
 *
 * How processors reach each other and the host: NUMA nodes, xGMI links, hives.
 */
#include <string.h>

#include "amdsmi.h"

#define WEIGHT_XGMI 15
#define WEIGHT_PCIE 40
#define XGMI_LANES 16
#define BITS 8

AMDSMI_API amdsmi_topo_get_numa_node_number(void *handle, uint32_t *node)
{
    ENTER(handle, node);
    *node = view.description->numa_node;
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

AMDSMI_API amdsmi_get_gpu_topo_numa_affinity(void *handle, int32_t *node)
{
    ENTER(handle, node);
    *node = (int32_t)view.description->numa_node;
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

static const struct sim_link *link_between(const struct sim_node *node, int a, int b)
{
    for (unsigned i = 0; i < node->link_count; i++) {
        const struct sim_link *link = &node->links[i];
        if (!strcmp(link->kind, "xgmi") && (((int)link->a == a && (int)link->b == b) || ((int)link->a == b && (int)link->b == a)))
            return link;
    }
    return NULL;
}

struct route {
    uint64_t hops, weight, min_mb_per_s, max_mb_per_s;
    uint32_t type;
};

static uint32_t find_route(void *from, void *to, struct route *route)
{
    int a = smi_device_of(from), b = smi_device_of(to);
    if (a < 0 || b < 0 || from == to)
        return AMDSMI_STATUS_INVAL;
    if (sim_device_reach(a) || (a != b && sim_device_reach(b)))
        return AMDSMI_STATUS_IO;
    const struct sim_link *link = link_between(sim_node(), a, b);
    *route = (struct route){2, WEIGHT_PCIE, 0, 0, AMDSMI_LINK_TYPE_PCIE};
    if (link)
        *route = (struct route){1, WEIGHT_XGMI, link->bytes_per_s / link->lanes / 1000000, link->bytes_per_s / 1000000, AMDSMI_LINK_TYPE_XGMI};
    else if (a == b)
        *route = (struct route){1, WEIGHT_XGMI, 0, 0, AMDSMI_LINK_TYPE_XGMI};
    return AMDSMI_STATUS_SUCCESS;
}

AMDSMI_API amdsmi_topo_get_link_type(void *from, void *to, uint64_t *hops, uint32_t *type)
{
    struct route route;
    uint32_t status = hops && type ? find_route(from, to, &route) : AMDSMI_STATUS_INVAL;
    if (status == AMDSMI_STATUS_SUCCESS) {
        *hops = route.hops;
        *type = route.type;
    }
    return status;
}

AMDSMI_API amdsmi_topo_get_link_weight(void *from, void *to, uint64_t *weight)
{
    struct route route;
    uint32_t status = weight ? find_route(from, to, &route) : AMDSMI_STATUS_INVAL;
    if (status == AMDSMI_STATUS_SUCCESS)
        *weight = route.weight;
    return status;
}

AMDSMI_API amdsmi_get_minmax_bandwidth_between_processors(void *from, void *to, uint64_t *min_mb_per_s, uint64_t *max_mb_per_s)
{
    struct route route;
    uint32_t status = min_mb_per_s && max_mb_per_s ? find_route(from, to, &route) : AMDSMI_STATUS_INVAL;
    if (status == AMDSMI_STATUS_SUCCESS && route.type != AMDSMI_LINK_TYPE_XGMI)
        return AMDSMI_STATUS_NOT_SUPPORTED;
    if (status == AMDSMI_STATUS_SUCCESS) {
        *min_mb_per_s = route.min_mb_per_s;
        *max_mb_per_s = route.max_mb_per_s;
    }
    return status;
}

AMDSMI_API amdsmi_is_P2P_accessible(void *from, void *to, bool *accessible)
{
    struct route route;
    uint32_t status = accessible ? find_route(from, to, &route) : AMDSMI_STATUS_INVAL;
    if (status == AMDSMI_STATUS_SUCCESS)
        *accessible = true;
    return status;
}

AMDSMI_API amdsmi_topo_get_p2p_status(void *from, void *to, uint32_t *type, struct amdsmi_p2p_capability_t *capability)
{
    struct route route;
    uint32_t status = type && capability ? find_route(from, to, &route) : AMDSMI_STATUS_INVAL;
    if (status == AMDSMI_STATUS_SUCCESS) {
        uint8_t coherent = route.type == AMDSMI_LINK_TYPE_XGMI;
        *type = route.type;
        *capability = (struct amdsmi_p2p_capability_t){coherent, coherent, coherent, 1, 1};
    }
    return status;
}

AMDSMI_API amdsmi_get_xgmi_info(void *handle, struct amdsmi_xgmi_info_t *info)
{
    ENTER(handle, info);
    memset(info, 0, sizeof *info);
    info->xgmi_hive_id = smi_hive(view.description);
    info->xgmi_lanes = info->xgmi_hive_id ? XGMI_LANES : 0;
    info->xgmi_node_id = info->xgmi_hive_id ? (uint64_t)view.index : 0;
    info->index = (uint32_t)view.index;
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

AMDSMI_API amdsmi_get_link_metrics(void *handle, struct amdsmi_link_metrics_t *metrics)
{
    ENTER(handle, metrics);
    memset(metrics, 0, sizeof *metrics);
    for (int other = 0; other < (int)view.state->node.device_count; other++) {
        const struct sim_link *link = link_between(&view.state->node, view.index, other);
        if (!link || metrics->num_links == sizeof metrics->links / sizeof *metrics->links)
            continue;
        struct _links *entry = &metrics->links[metrics->num_links++];
        uint64_t gbit_per_s = link->bytes_per_s * BITS / 1000000000;
        entry->bdf = smi_bdf(&view.state->node.devices[other], 0);
        entry->bit_rate = (uint32_t)(gbit_per_s / link->lanes / XGMI_LANES);
        entry->max_bandwidth = (uint32_t)gbit_per_s;
        entry->link_type = AMDSMI_LINK_TYPE_XGMI;
    }
    LEAVE(AMDSMI_STATUS_SUCCESS);
}
