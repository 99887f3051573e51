/* SPDX-License-Identifier: Apache-2.0
 *
 * The library as a whole: initialisation, versions, and which chips there are.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "dcmi.h"

static atomic_bool initialised;

bool npu_ready(void)
{
    return initialised;
}

int npu_index(int card)
{
    for (int d = 0, seen = 0; d < (int)sim_node()->device_count; d++)
        if (!strcmp(sim_node()->devices[d].vendor, "huawei") && seen++ == card)
            return d;
    return -1;
}

int npu_cards(void)
{
    int count = 0;
    while (npu_index(count) >= 0)
        count++;
    return count;
}

int npu_leave(struct npu_view *view, int result)
{
    sim_leave(view->state);
    return result;
}

int npu_enter(int card, int device, struct npu_view *view)
{
    if (!npu_ready())
        return DCMI_NOT_READY;
    int index = card < 0 ? -1 : npu_index(card);
    if (index < 0)
        return DCMI_INVALID_DEVICE;
    if (device)
        return DCMI_NO_SUCH_DEVICE;
    if (sim_device_reach(index))
        return DCMI_NOT_READY;
    *view = (struct npu_view){.state = sim_enter(), .index = index, .card = card};
    view->description = &view->state->node.devices[index];
    view->device = &view->state->devices[index];
    return DCMI_OK;
}

DCMI_API dcmi_init(void);
DCMI_API dcmi_init(void)
{
    if (sim_engine_open() || !npu_cards())
        return DCMI_NO_SUCH_DEVICE;
    initialised = true;
    return DCMI_OK;
}

static int text(char *out, unsigned length, const char *value)
{
    if (!out || length <= strlen(value))
        return DCMI_INVALID_PARAMETER;
    strcpy(out, value);
    return DCMI_OK;
}

DCMI_API dcmi_get_dcmi_version(char *version, unsigned length);
DCMI_API dcmi_get_dcmi_version(char *version, unsigned length)
{
    return text(version, length, "25.2.0");
}

DCMI_API dcmi_get_driver_version(char *version, unsigned length);
DCMI_API dcmi_get_driver_version(char *version, unsigned length)
{
    return npu_ready() ? text(version, length, sim_node()->driver_version) : DCMI_NOT_READY;
}

DCMI_API dcmi_get_card_list(int *count, int *list, int length);
DCMI_API dcmi_get_card_list(int *count, int *list, int length)
{
    if (!count || !list || length < 0)
        return DCMI_INVALID_PARAMETER;
    if (!npu_ready())
        return DCMI_NOT_READY;
    *count = npu_cards();
    for (int card = 0; card < *count && card < length; card++)
        list[card] = card;
    return *count > length ? DCMI_INVALID_PARAMETER : DCMI_OK;
}

DCMI_API dcmi_get_card_num_list(int *count, int *list, int length);
DCMI_API dcmi_get_card_num_list(int *count, int *list, int length)
{
    return dcmi_get_card_list(count, list, length);
}

static int known(int card)
{
    if (!npu_ready())
        return DCMI_NOT_READY;
    return card >= 0 && npu_index(card) >= 0 ? DCMI_OK : DCMI_INVALID_DEVICE;
}

DCMI_API dcmi_get_device_num_in_card(int card, int *count);
DCMI_API dcmi_get_device_num_in_card(int card, int *count)
{
    int result = count ? known(card) : DCMI_INVALID_PARAMETER;
    if (!result)
        *count = 1;
    return result;
}

DCMI_API dcmi_get_device_id_in_card(int card, int *device_max, int *mcu, int *cpu);
DCMI_API dcmi_get_device_id_in_card(int card, int *device_max, int *mcu, int *cpu)
{
    int result = device_max && mcu && cpu ? known(card) : DCMI_INVALID_PARAMETER;
    if (!result)
        *device_max = 1, *mcu = *cpu = -1;
    return result;
}

DCMI_API dcmi_get_device_type(int card, int device, int *type);
DCMI_API dcmi_get_device_type(int card, int device, int *type)
{
    int result = type ? known(card) : DCMI_INVALID_PARAMETER;
    if (!result)
        *type = DCMI_UNIT_NPU;
    return result ? result : device ? DCMI_NO_SUCH_DEVICE : DCMI_OK;
}

DCMI_API dcmi_get_device_logic_id(int *logic, int card, int device);
DCMI_API dcmi_get_device_logic_id(int *logic, int card, int device)
{
    int result = logic ? known(card) : DCMI_INVALID_PARAMETER;
    if (!result)
        *logic = card;
    return result ? result : device ? DCMI_NO_SUCH_DEVICE : DCMI_OK;
}

DCMI_API dcmi_get_device_phyid_from_logicid(unsigned logic, unsigned *physical);
DCMI_API dcmi_get_device_phyid_from_logicid(unsigned logic, unsigned *physical)
{
    int result = physical ? known((int)logic) : DCMI_INVALID_PARAMETER;
    if (!result)
        *physical = logic;
    return result;
}

DCMI_API dcmi_get_device_logicid_from_phyid(unsigned physical, unsigned *logic);
DCMI_API dcmi_get_device_logicid_from_phyid(unsigned physical, unsigned *logic)
{
    return dcmi_get_device_phyid_from_logicid(physical, logic);
}

DCMI_API dcmi_get_card_id_device_id_from_logicid(int *card, int *device, unsigned logic);
DCMI_API dcmi_get_card_id_device_id_from_logicid(int *card, int *device, unsigned logic)
{
    int result = card && device ? known((int)logic) : DCMI_INVALID_PARAMETER;
    if (!result)
        *card = (int)logic, *device = 0;
    return result;
}

static bool linked(unsigned a, unsigned b)
{
    for (unsigned i = 0; i < sim_node()->link_count; i++) {
        const struct sim_link *link = &sim_node()->links[i];
        if (!strcmp(link->kind, "hccs") && ((link->a == a && link->b == b) || (link->a == b && link->b == a)))
            return true;
    }
    return false;
}

/* A direct link of the node's description comes before what the PCIe tree says. */
DCMI_API dcmi_get_topo_info_by_device_id(int card_a, int device_a, int card_b, int device_b, int *type);
DCMI_API dcmi_get_topo_info_by_device_id(int card_a, int device_a, int card_b, int device_b, int *type)
{
    int result = !type || device_a || device_b ? DCMI_INVALID_PARAMETER : known(card_a) ? known(card_a) : known(card_b);
    if (result)
        return result;
    unsigned a = (unsigned)npu_index(card_a), b = (unsigned)npu_index(card_b);
    const struct sim_description *one = &sim_node()->devices[a], *other = &sim_node()->devices[b];
    if (a == b)
        *type = DCMI_TOPO_SELF;
    else if (linked(a, b))
        *type = DCMI_TOPO_HCCS;
    else if (one->numa_node != other->numa_node)
        *type = DCMI_TOPO_SYS;
    else
        *type = one->pci_switch && one->pci_switch == other->pci_switch ? DCMI_TOPO_PIX : DCMI_TOPO_PHB;
    return DCMI_OK;
}

/* The simulated host has 64 processors for each NUMA node. */
DCMI_API dcmi_get_affinity_cpu_info_by_device_id(int card, int device, char *list, int *length);
DCMI_API dcmi_get_affinity_cpu_info_by_device_id(int card, int device, char *list, int *length)
{
    int result = !list || !length || device ? DCMI_INVALID_PARAMETER : known(card);
    if (result)
        return result;
    unsigned first = 64 * sim_node()->devices[npu_index(card)].numa_node;
    *length = sprintf(list, "%u-%u", first, first + 63);
    return DCMI_OK;
}
