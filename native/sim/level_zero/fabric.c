/* SPDX-License-Identifier: Apache-2.0
 *
 * Xe Link ports, one for each lane of the node's links, and events.
 *
 * A link's ports are dealt out to the tiles of both ends in turn. A device's ports have its index, plus one, as fabric id.
 */
#include <stdio.h>
#include <string.h>

#include "sysman.h"

#define PORT_LANES 4 /* of a Xe Link port */

struct port {
    const struct sim_link *link;
    unsigned device, peer;        /* engine indices */
    unsigned number, peer_number; /* among the ports of each */
};

static unsigned ports_before(const struct sim_node *node, unsigned device, unsigned link)
{
    unsigned count = 0;
    for (unsigned i = 0; i < link; i++)
        count += node->links[i].a == device || node->links[i].b == device ? node->links[i].lanes : 0;
    return count;
}

static bool find_port(const struct zes_view *view, struct port *port)
{
    const struct sim_node *node = &view->state->node;
    unsigned device = view->handle.device, number = view->handle.part;
    for (unsigned i = 0; i < node->link_count; i++) {
        const struct sim_link *link = &node->links[i];
        unsigned first = ports_before(node, device, i);
        if ((link->a != device && link->b != device) || number < first || number >= first + link->lanes)
            continue;
        unsigned peer = link->a == device ? link->b : link->a;
        *port = (struct port){link, device, peer, number, ports_before(node, peer, i) + number - first};
        return true;
    }
    return false;
}

static zes_fabric_port_id_t port_id(const struct zes_view *view, unsigned device, unsigned number)
{
    unsigned tiles = zes_tiles(&view->state->node.devices[device]);
    return (zes_fabric_port_id_t){device + 1, number % tiles, (uint8_t)(number / tiles + 1)};
}

static zes_fabric_port_speed_t port_speed(const struct port *port)
{
    return (zes_fabric_port_speed_t){(int64_t)(port->link->bytes_per_s / port->link->lanes * 8 / PORT_LANES), PORT_LANES};
}

ZES_API zesDeviceEnumFabricPorts(zes_handle_t device, uint32_t *count, zes_handle_t *ports);
ZES_API zesDeviceEnumFabricPorts(zes_handle_t device, uint32_t *count, zes_handle_t *ports)
{
    ENTER(device, ZES_DEVICE, count);
    unsigned there = view.instance ? 0 : ports_before(&view.state->node, view.handle.device, view.state->node.link_count);
    LEAVE(zes_list(device, ZES_PORT, there, count, ports));
}

ZES_API zesFabricPortGetProperties(zes_handle_t handle, zes_fabric_port_properties_t *out);
ZES_API zesFabricPortGetProperties(zes_handle_t handle, zes_fabric_port_properties_t *out)
{
    struct port port;
    ENTER(handle, ZES_PORT, out);
    if (!find_port(&view, &port))
        LEAVE(ZE_RESULT_ERROR_INVALID_ARGUMENT);
    snprintf(out->model, sizeof out->model, "XeLink");
    out->portId = port_id(&view, port.device, port.number);
    out->onSubdevice = view.tiles > 1;
    out->subdeviceId = out->portId.attachId;
    out->maxRxSpeed = out->maxTxSpeed = port_speed(&port);
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesFabricPortGetState(zes_handle_t handle, zes_fabric_port_state_t *out);
ZES_API zesFabricPortGetState(zes_handle_t handle, zes_fabric_port_state_t *out)
{
    struct port port;
    ENTER(handle, ZES_PORT, out);
    if (!find_port(&view, &port))
        LEAVE(ZE_RESULT_ERROR_INVALID_ARGUMENT);
    out->status = 1;
    out->qualityIssues = out->failureReasons = 0;
    out->remotePortId = port_id(&view, port.peer, port.peer_number);
    out->rxSpeed = out->txSpeed = port_speed(&port);
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesFabricPortGetThroughput(zes_handle_t handle, zes_fabric_port_throughput_t *out);
ZES_API zesFabricPortGetThroughput(zes_handle_t handle, zes_fabric_port_throughput_t *out)
{
    ENTER(handle, ZES_PORT, out);
    *out = (zes_fabric_port_throughput_t){.timestamp = zes_now_us()};
    LEAVE(ZE_RESULT_SUCCESS);
}

/* --- Events -------------------------------------------------------------------------------------------------------------------- */

static uint32_t wanted[SIM_DEVICES_MAX];
static uint64_t heard[SIM_DEVICES_MAX]; /* the number of the last finding that was looked at */

static uint32_t flag_of(const char *kind)
{
    static const struct {
        const char *kind;
        uint32_t flag;
    } flags[] = {
        {"bus", ZES_EVENT_TYPE_FLAG_DEVICE_DETACH},
        {"thermal", ZES_EVENT_TYPE_FLAG_TEMP_CRITICAL},
        {"ecc", ZES_EVENT_TYPE_FLAG_RAS_UNCORRECTABLE_ERRORS},
        {"fault", ZES_EVENT_TYPE_FLAG_DEVICE_RESET_REQUIRED},
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (!strcmp(flags[i].kind, kind))
            return flags[i].flag;
    return 0;
}

/* Events that come later are told; those of before are not. */
ZES_API zesDeviceEventRegister(zes_handle_t device, uint32_t events);
ZES_API zesDeviceEventRegister(zes_handle_t device, uint32_t events)
{
    ENTER(device, ZES_DEVICE, true);
    if (!wanted[view.handle.device])
        heard[view.handle.device] = view.state->finding_count;
    wanted[view.handle.device] = events;
    LEAVE(ZE_RESULT_SUCCESS);
}

static uint32_t hear(zes_handle_t device)
{
    struct zes_view view;
    struct sim_finding finding;
    uint32_t events = 0;
    if (zes_enter_quietly(device, ZES_DEVICE, &view) != ZE_RESULT_SUCCESS)
        return 0;
    for (uint64_t *last = &heard[view.handle.device]; sim_finding_next(view.state, *last, &finding); *last = finding.number)
        if (finding.device == view.handle.device)
            events |= flag_of(finding.kind) & wanted[view.handle.device];
    zes_leave(&view, ZE_RESULT_SUCCESS);
    return events;
}

/* Never waits, whatever `timeout` says: nobody here asks it to. */
ZES_API zesDriverEventListen(zes_handle_t driver, uint32_t timeout, uint32_t count, zes_handle_t *devices, uint32_t *with, uint32_t *events);
ZES_API zesDriverEventListen(zes_handle_t driver, uint32_t timeout, uint32_t count, zes_handle_t *devices, uint32_t *with, uint32_t *events)
{
    (void)driver;
    (void)timeout;
    if (!devices || !with || !events)
        return ZE_RESULT_ERROR_INVALID_NULL_POINTER;
    *with = 0;
    for (uint32_t i = 0; i < count; i++) {
        events[i] = hear(devices[i]);
        *with += events[i] != 0;
    }
    return ZE_RESULT_SUCCESS;
}
