/* SPDX-License-Identifier: Apache-2.0 */
#include "platform.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 256
#define SIMULATED "mica simulated "

static struct _cl_platform_id all[SIM_PLATFORMS];
static cl_uint all_count;

static cl_bitfield type_named(const char *name)
{
    static const char *const names[] = {"cpu", "gpu", "accelerator", "custom"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) {
            return CL_DEVICE_TYPE_CPU << i;
        }
    }
    return 0;
}

static void begin_platform(const char *name)
{
    if (all_count < SIM_PLATFORMS) {
        struct _cl_platform_id *platform = &all[all_count++];
        platform->table = &sim_table;
        snprintf(platform->name, sizeof platform->name, SIMULATED "%.*s", SIM_TEXT - (int)sizeof SIMULATED, name);
    }
}

static void begin_device(struct _cl_platform_id *platform, const char *name)
{
    if (platform->count < SIM_DEVICES) {
        struct _cl_device_id *device = &platform->devices[platform->count++];
        device->table = &sim_table;
        device->platform = platform;
        device->type = type_named("gpu");
        snprintf(device->name, sizeof device->name, "%.*s", SIM_TEXT - 1, name);
    }
}

static void describe_device(struct _cl_device_id *device, const char *word, const char *value)
{
    if (strcmp(word, "type") == 0) {
        device->type = type_named(value);
    } else if (strcmp(word, "vendor_id") == 0) {
        device->vendor_id = (cl_uint)strtoul(value, NULL, 0);
    } else if (strcmp(word, "memory") == 0) {
        device->memory = strtoull(value, NULL, 0);
    } else if (strcmp(word, "units") == 0) {
        device->units = (cl_uint)strtoul(value, NULL, 0);
    } else if (strcmp(word, "uuid") == 0) {
        device->has_uuid = true;
        for (unsigned i = 0; i < CL_UUID_SIZE_KHR; i++) {
            sscanf(value + strnlen(value, (size_t)2 * i), "%2hhx", &device->uuid[i]);
        }
    } else if (strcmp(word, "pci") == 0) {
        device->has_pci = sscanf(value, "%x:%x:%x.%x", &device->pci[0], &device->pci[1], &device->pci[2], &device->pci[3]) == 4;
    }
}

static void describe(const char *word, const char *value)
{
    struct _cl_platform_id *platform = all_count > 0 ? &all[all_count - 1] : NULL;
    if (strcmp(word, "platform") == 0) {
        begin_platform(value);
    } else if (platform == NULL) {
        return;
    } else if (strcmp(word, "vendor") == 0) {
        snprintf(platform->vendor, sizeof platform->vendor, "%.*s", SIM_TEXT - 1, value);
    } else if (strcmp(word, "fail") == 0) {
        snprintf(platform->fails, sizeof platform->fails, "%.*s", SIM_TEXT - 1, value);
    } else if (strcmp(word, "device") == 0) {
        begin_device(platform, value);
    } else if (platform->count > 0) {
        describe_device(&platform->devices[platform->count - 1], word, value);
    }
}

cl_uint sim_platforms(struct _cl_platform_id **platforms)
{
    static bool is_read;
    const char *path = getenv("MICA_SIM_OPENCL");
    FILE *file = !is_read && path != NULL ? fopen(path, "re") : NULL;
    char line[LINE_BYTES];
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *value = strchr(line, ' ');
        if (value != NULL) {
            *value = '\0';
            describe(line, value + 1);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    is_read = true;
    *platforms = all;
    return all_count;
}
