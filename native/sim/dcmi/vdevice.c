/* SPDX-License-Identifier: Apache-2.0
 *
 * vNPUs: made by the name of a template, under a number of the caller's or the first one that is free.
 *
 * The chip decides by itself which cores it gives. Here the number decides where it can, so that numbers and slots agree for
 * whoever numbers vNPUs by where they start, as mica does.
 */
#include <errno.h>
#include <string.h>

#include "dcmi.h"

#define MINE (-1)

bool npu_template(const struct sim_profile *profile)
{
    return !profile->layout[0];
}

static int result_of(int engine)
{
    switch (engine) {
    case -EBUSY:
    case -ENOSPC:
    case -EEXIST:
        return DCMI_OCCUPIED; /* what real drivers say for want of cores is not documented */
    case -EXDEV:
        return DCMI_INCONSISTENT;
    case -ENOTSUP:
        return DCMI_NOT_SUPPORTED;
    case -EINVAL:
        return DCMI_INVALID_PARAMETER;
    default:
        return engine < 0 ? DCMI_INNER_ERROR : DCMI_OK;
    }
}

static unsigned number_of(const struct npu_view *view, int instance)
{
    return sim_vnpu_number(view->state, view->index, view->device->instances[instance].id);
}

static int find_vdevice(const struct npu_view *view, unsigned number)
{
    for (int i = 0; i < SIM_INSTANCES_MAX; i++)
        if (view->device->instances[i].live && number_of(view, i) == number)
            return i;
    return -1;
}

static int find_template(const struct npu_view *view, const char name[32])
{
    for (unsigned p = 0; p < view->description->profile_count; p++)
        if (npu_template(&view->description->profiles[p]) && !strncmp(view->description->profiles[p].name, name, 32))
            return (int)p;
    return -1;
}

/* The slot that the number stands for, if such a partition can start there. */
static int start_of(const struct npu_view *view, unsigned profile, unsigned id)
{
    const struct sim_profile *at = &view->description->profiles[profile];
    for (unsigned i = 0; i < at->start_count; i++)
        if (at->starts[i] == id - 1 && sim_mig_fits(view->state, view->index, profile, id - 1))
            return (int)(id - 1);
    return MINE;
}

static unsigned first_free(const struct npu_view *view)
{
    unsigned id = 1;
    while (find_vdevice(view, sim_vnpu_number(view->state, view->index, id)) >= 0)
        id++;
    return id;
}

/* For containers, as every simulated server; 1: for virtual machines. */
DCMI_API dcmi_get_vdevice_mode(int *mode);
DCMI_API dcmi_get_vdevice_mode(int *mode)
{
    if (!mode)
        return DCMI_INVALID_PARAMETER;
    *mode = 0;
    return npu_ready() ? DCMI_OK : DCMI_NOT_READY;
}

DCMI_API dcmi_create_vdevice(int card, int device, struct dcmi_create_vdev_res_stru *vdev, struct dcmi_create_vdev_out *out);
DCMI_API dcmi_create_vdevice(int card, int device, struct dcmi_create_vdev_res_stru *vdev, struct dcmi_create_vdev_out *out)
{
    ENTER(card, device, vdev && out);
    unsigned first = sim_vnpu_number(view.state, view.index, 1);
    unsigned id = vdev->vdev_id == DCMI_AUTOMATIC ? first_free(&view) : vdev->vdev_id - first + 1;
    int profile = find_template(&view, vdev->template_name);
    if (profile < 0 || id < 1 || id > SIM_VNPU_STRIDE || (vdev->vfg_id != DCMI_AUTOMATIC && vdev->vfg_id > 3))
        LEAVE(DCMI_INVALID_PARAMETER);
    sim_process_sweep(view.state);
    int made = sim_partition_create_as(view.state, view.index, (unsigned)profile, start_of(&view, (unsigned)profile, id), id);
    if (made >= 0)
        *out = (struct dcmi_create_vdev_out){.vdev_id = number_of(&view, made), .vfg_id = vdev->vfg_id};
    LEAVE(result_of(made));
}

DCMI_API dcmi_set_destroy_vdevice(int card, int device, unsigned number);
DCMI_API dcmi_set_destroy_vdevice(int card, int device, unsigned number)
{
    ENTER(card, device, true);
    int instance = find_vdevice(&view, number);
    if (instance < 0)
        LEAVE(DCMI_NO_SUCH_DEVICE);
    LEAVE(result_of(sim_partition_destroy(view.state, view.index, (unsigned)instance)));
}

/* --- What there is, is taken and is free ---------------------------------------------------------------------------------------- */

static void unknown(struct dcmi_base_resource *base, struct dcmi_media_resource *media)
{
    *base = (struct dcmi_base_resource){.vfg_id = DCMI_AUTOMATIC};
    *media = (struct dcmi_media_resource){.jpegd = -1, .jpege = -1, .vpc = -1, .vdec = -1, .pngd = -1, .venc = -1};
}

static struct dcmi_computing_resource computing(unsigned cores, unsigned cpus, uint64_t bytes)
{
    return (struct dcmi_computing_resource){.aic = (float)cores,
                                            .aiv = (float)cores,
                                            .memory_size = bytes / MIB,
                                            .device_aicpu = (unsigned short)cpus};
}

static const struct sim_profile *profile_of(const struct npu_view *view, int instance)
{
    return &view->description->profiles[view->device->instances[instance].profile];
}

/* A split chip has one AI CPU more: its data CPU joins them. */
static unsigned cpus_of(const struct npu_view *view)
{
    unsigned all = view->description->auxiliary;
    return !all ? DCMI_UNKNOWN_SHORT : sim_partitioned(view->state, view->index) ? all : all - 1;
}

static void put_total(const struct npu_view *view, struct dcmi_soc_total_resource *total)
{
    *total = (struct dcmi_soc_total_resource){0};
    unknown(&total->base, &total->media);
    total->computing = computing(view->description->multiprocessors, cpus_of(view), view->description->vram_bytes);
    for (unsigned p = 0; p < view->description->profile_count; p++)
        if (view->description->profiles[p].jpegs && total->media.jpegd < (float)view->description->profiles[p].jpegs)
            total->media.jpegd = (float)view->description->profiles[p].jpegs;
    for (unsigned id = 1; id <= SIM_VNPU_STRIDE; id++) {
        unsigned number = sim_vnpu_number(view->state, view->index, id);
        if (find_vdevice(view, number) >= 0)
            total->vdev_id[total->vdev_num++] = number;
    }
}

static void put_free(const struct npu_view *view, struct dcmi_soc_free_resource *left)
{
    struct dcmi_soc_total_resource total;
    put_total(view, &total);
    *left = (struct dcmi_soc_free_resource){.base = total.base, .computing = total.computing, .media = total.media};
    for (int i = 0; i < SIM_INSTANCES_MAX; i++) {
        if (!view->device->instances[i].live)
            continue;
        const struct sim_profile *profile = profile_of(view, i);
        left->computing.aic -= (float)profile->compute_slices;
        left->computing.aiv -= (float)profile->compute_slices;
        left->computing.memory_size -= profile->memory_bytes / MIB;
        if (left->computing.device_aicpu != DCMI_UNKNOWN_SHORT)
            left->computing.device_aicpu = (unsigned short)(left->computing.device_aicpu - profile->auxiliary);
        if (left->media.jpegd >= 0)
            left->media.jpegd -= (float)profile->jpegs;
    }
}

static int put_vdevice(struct npu_view *view, struct dcmi_vdev_query_stru *query)
{
    int instance = find_vdevice(view, query->vdev_id);
    if (instance < 0)
        return DCMI_NO_SUCH_DEVICE;
    sim_process_sweep(view->state);
    const struct sim_profile *profile = profile_of(view, instance);
    struct dcmi_vdev_query_info *info = &query->query_info;
    *info = (struct dcmi_vdev_query_info){.vfid = view->device->instances[instance].id, .vfg_id = DCMI_AUTOMATIC};
    strncpy(info->name, profile->name, sizeof info->name - 1);
    info->is_container_used = sim_mig_in_use(view->state, view->index, instance, -1);
    info->container_id = info->is_container_used ? 0xffffffffffffULL : 0;
    unknown(&info->base, &info->media);
    info->computing = computing(profile->compute_slices, view->description->auxiliary ? profile->auxiliary : DCMI_UNKNOWN_SHORT, profile->memory_bytes);
    struct sim_timeline *timeline = &view->device->instances[instance].compute[0].timeline;
    sim_timeline_advance(view->state, timeline, sim_now_ns());
    info->computing.vdev_memory_total = profile->memory_bytes / 1024;
    info->computing.vdev_memory_free = (profile->memory_bytes - view->device->instances[instance].spent_bytes) / 1024;
    return DCMI_OK;
}

DCMI_API dcmi_get_device_info(int card, int device, int main_command, unsigned command, void *buffer, unsigned *size);
DCMI_API dcmi_get_device_info(int card, int device, int main_command, unsigned command, void *buffer, unsigned *size)
{
    ENTER(card, device, buffer && size);
    if (main_command != DCMI_MAIN_VDEV || !view.description->profile_count)
        LEAVE(DCMI_NOT_SUPPORTED);
    switch (command) {
    case DCMI_VDEV_TOTAL:
        if (*size < sizeof(struct dcmi_soc_total_resource))
            LEAVE(DCMI_INVALID_PARAMETER);
        put_total(&view, buffer);
        LEAVE(DCMI_OK);
    case DCMI_VDEV_FREE:
        if (*size < sizeof(struct dcmi_soc_free_resource))
            LEAVE(DCMI_INVALID_PARAMETER);
        put_free(&view, buffer);
        LEAVE(DCMI_OK);
    case DCMI_VDEV_RESOURCE:
    case DCMI_VDEV_ACTIVITY:
        LEAVE(*size < sizeof(struct dcmi_vdev_query_stru) ? DCMI_INVALID_PARAMETER : put_vdevice(&view, buffer));
    default:
        LEAVE(DCMI_NOT_SUPPORTED);
    }
}
