/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of /sys that says which virtual functions there are: $MICA_SIM_DIR/sys, in the kernel's layout.
 *
 * Invariant: after a refresh it is what the engine is. It is written under the engine's lock, so that no two processes write it at
 * once. Nothing reads what is written there: virtual functions are made by the vendor's tool.
 */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sysman.h"

#define RENDER_FIRST 128 /* /dev/dri/renderD128 */
#define FUNCTIONS_MAX SIM_INSTANCES_MAX

static char known[SIM_DEVICES_MAX][sizeof((struct sim_profile *)0)->layout + 1]; /* what was written last; empty: nothing */

__attribute__((format(printf, 2, 3))) static void path_of(char path[512], const char *format, ...)
{
    char rest[320];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(rest, sizeof rest, format, arguments);
    va_end(arguments);
    snprintf(path, 512, "%.160s/sys/%s", getenv("MICA_SIM_DIR"), rest);
}

static void make_directories(char *path)
{
    for (char *at = path + 1; (at = strchr(at, '/')); at++) {
        *at = 0;
        mkdir(path, 0755);
        *at = '/';
    }
    mkdir(path, 0755);
}

static void write_word(const char *directory, const char *name, const char *word)
{
    char path[600], draft[600]; /* a reader must never find it empty */
    snprintf(path, sizeof path, "%s/%s", directory, name);
    snprintf(draft, sizeof draft, "%s/.%s", directory, name);
    FILE *file = fopen(draft, "we");
    if (!file)
        return;
    fprintf(file, "%s\n", word);
    if (fclose(file) || rename(draft, path))
        unlink(draft);
}

static void bdf_of(const struct sim_description *description, unsigned function, char out[24])
{
    zes_pci_address_t at = zes_address(description, function);
    snprintf(out, 24, "%04x:%02x:%02x.%x", at.domain & 0xffff, at.bus & 0xff, at.device & 0xff, at.function & 0xf);
}

/* The render nodes of a device's functions lie side by side. */
static void write_function(const struct sim_description *description, unsigned device, unsigned function)
{
    char path[512], bdf[24], word[24];
    bdf_of(description, function, bdf);
    path_of(path, "bus/pci/devices/%s/drm/renderD%u", bdf, RENDER_FIRST + device * (FUNCTIONS_MAX + 1) + function);
    make_directories(path);
    path_of(path, "bus/pci/devices/%s", bdf);
    write_word(path, "vendor", "0x8086");
    snprintf(word, sizeof word, "0x%04x", description->pci_device_id >> 16);
    write_word(path, "device", word);
    snprintf(word, sizeof word, "%u", description->numa_node);
    write_word(path, "numa_node", word);
}

static void write_link(const struct sim_description *description, unsigned function)
{
    char path[512], target[32], bdf[24], physical[24];
    bdf_of(description, function, bdf);
    bdf_of(description, 0, physical);
    path_of(path, "bus/pci/devices/%s/virtfn%u", physical, function - 1);
    snprintf(target, sizeof target, "../%s", bdf);
    if (symlink(target, path) && errno != EEXIST)
        return;
    path_of(path, "bus/pci/devices/%s/physfn", bdf);
    snprintf(target, sizeof target, "../%s", physical);
    if (symlink(target, path))
        return;
}

static void remove_function(const struct sim_description *description, unsigned device, unsigned function)
{
    static const char *const files[] = {"vendor", "device", "numa_node", "physfn"};
    char path[512], bdf[24], physical[24];
    bdf_of(description, function, bdf);
    bdf_of(description, 0, physical);
    path_of(path, "bus/pci/devices/%s/virtfn%u", physical, function - 1);
    unlink(path);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        path_of(path, "bus/pci/devices/%s/%s", bdf, files[i]);
        unlink(path);
    }
    path_of(path, "bus/pci/devices/%s/drm/renderD%u", bdf, RENDER_FIRST + device * (FUNCTIONS_MAX + 1) + function);
    rmdir(path);
    path_of(path, "bus/pci/devices/%s/drm", bdf);
    rmdir(path);
    path_of(path, "bus/pci/devices/%s", bdf);
    rmdir(path);
}

static unsigned functions_most(const struct sim_description *description)
{
    unsigned most = 0;
    for (unsigned p = 0; p < description->profile_count; p++)
        if (!strncmp(description->profiles[p].layout, "vf", 2) && description->profiles[p].max_instances > most)
            most = description->profiles[p].max_instances;
    return most;
}

static void write_device(const struct sim_state *state, unsigned device)
{
    const struct sim_description *description = &state->node.devices[device];
    unsigned functions = zes_functions(state, (int)device), most = functions_most(description);
    char path[512], bdf[24], word[16];
    write_function(description, device, 0);
    for (unsigned f = functions + 1; f <= most; f++)
        remove_function(description, device, f);
    for (unsigned f = 1; f <= functions; f++) {
        write_function(description, device, f);
        write_link(description, f);
    }
    if (!most)
        return;
    bdf_of(description, 0, bdf);
    path_of(path, "bus/pci/devices/%s", bdf);
    snprintf(word, sizeof word, "%u", most);
    write_word(path, "sriov_totalvfs", word);
    snprintf(word, sizeof word, "%u", functions);
    write_word(path, "sriov_numvfs", word);
    write_word(path, "sriov_drivers_autoprobe", "1");
}

void zes_sysfs_refresh(void)
{
    char path[512];
    if (!getenv("MICA_SIM_DIR"))
        return;
    struct sim_state *state = sim_enter();
    for (unsigned d = 0; d < state->node.device_count; d++) {
        char now[sizeof known[0]];
        snprintf(now, sizeof now, "=%s", sim_layout_of(state, (int)d));
        if (strcmp(state->node.devices[d].vendor, "intel") || !strcmp(now, known[d]))
            continue;
        path_of(path, "class/iommu/dmar0");
        make_directories(path);
        write_device(state, d);
        strcpy(known[d], now);
    }
    sim_leave(state);
}
