/* SPDX-License-Identifier: Apache-2.0
 *
 * node.desc: lines of `key value`, `#` comments. `device` and `profile` open a section to which the keys below belong.
 * One table of fields per section says what is known; anything else is an error that names its line.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

enum field_kind { FIELD_TEXT, FIELD_U32, FIELD_U64 };

struct field {
    const char *key;
    enum field_kind kind;
    size_t offset;
    size_t size;
};

#define FIELD(struct_name, kind, name) {#name, kind, offsetof(struct struct_name, name), sizeof(((struct struct_name *)0)->name)}
#define NODE_TEXT(name) FIELD(sim_node, FIELD_TEXT, name)
#define NODE_U64(name) FIELD(sim_node, FIELD_U64, name)
#define DEVICE_U32(name) FIELD(sim_description, FIELD_U32, name)
#define DEVICE_U64(name) FIELD(sim_description, FIELD_U64, name)
#define PROFILE_U32(name) FIELD(sim_profile, FIELD_U32, name)

static const struct field node_fields[] = {
    NODE_TEXT(driver_version), FIELD(sim_node, FIELD_U32, cuda_version),
    NODE_U64(launch_ns),       NODE_U64(block_ns),
    NODE_U64(timeslice_ns),    NODE_U64(context_bytes),
    NODE_U64(module_bytes),
    NODE_U64(pcie_bytes_per_s), NODE_U64(seed),
    FIELD(sim_node, FIELD_U32, mps),
};

static const struct field device_fields[] = {
    FIELD(sim_description, FIELD_TEXT, name),
    FIELD(sim_description, FIELD_TEXT, uuid),
    FIELD(sim_description, FIELD_TEXT, serial),
    FIELD(sim_description, FIELD_TEXT, vendor),
    FIELD(sim_description, FIELD_TEXT, key),
    FIELD(sim_description, FIELD_TEXT, group),
    FIELD(sim_description, FIELD_TEXT, layout),
    DEVICE_U32(pci_domain),
    DEVICE_U32(pci_bus),
    DEVICE_U32(pci_device),
    DEVICE_U32(pci_device_id),
    DEVICE_U32(pci_subsystem_id),
    DEVICE_U64(vram_bytes),
    DEVICE_U64(reserve_bytes),
    DEVICE_U64(bar1_bytes),
    DEVICE_U64(memory_bytes_per_s),
    DEVICE_U32(multiprocessors),
    DEVICE_U32(capability_major),
    DEVICE_U32(capability_minor),
    DEVICE_U32(warp_threads),
    DEVICE_U32(block_threads_max),
    DEVICE_U32(multiprocessor_threads_max),
    DEVICE_U32(multiprocessor_blocks_max),
    DEVICE_U32(multiprocessor_registers),
    DEVICE_U32(multiprocessor_shared_bytes),
    DEVICE_U32(block_shared_optin_bytes),
    DEVICE_U32(clock_khz),
    DEVICE_U32(memory_clock_khz),
    DEVICE_U32(memory_bus_bits),
    DEVICE_U32(l2_bytes),
    DEVICE_U32(power_limit_mw),
    DEVICE_U32(nvlinks),
    DEVICE_U32(numa_node),
    DEVICE_U32(mig_capable),
    DEVICE_U32(mig_at_start),
    DEVICE_U32(mig_reset),
    DEVICE_U32(carvable),
    DEVICE_U32(pci_switch),
    DEVICE_U32(auxiliary),
    DEVICE_U32(memory_slots),
    DEVICE_U32(compute_slices),
};

static const struct field profile_fields[] = {
    PROFILE_U32(index),        PROFILE_U32(id),
    PROFILE_U32(size),         PROFILE_U32(compute_slices),
    PROFILE_U32(multiprocessors), PROFILE_U32(max_instances),
    PROFILE_U32(copy_engines), PROFILE_U32(decoders),
    PROFILE_U32(encoders),     PROFILE_U32(jpegs),
    PROFILE_U32(ofas),         PROFILE_U32(media_extensions),
    PROFILE_U32(auxiliary),    FIELD(sim_profile, FIELD_TEXT, layout),
    FIELD(sim_profile, FIELD_TEXT, shared),
    FIELD(sim_profile, FIELD_U64, memory_bytes),
};

static const struct field rule_fields[] = {
    FIELD(sim_kernel_rule, FIELD_U64, fixed_ns),
    FIELD(sim_kernel_rule, FIELD_U64, grid_ns),
    FIELD(sim_kernel_rule, FIELD_U32, noise_ppm),
};

struct reader {
    struct sim_node *node;
    struct sim_description *device;
    struct sim_profile *profile;
    const char *why; /* set where a line is refused */
};

static bool store(void *base, const struct field *field, const char *value, const char **why)
{
    char *at = (char *)base + field->offset;
    if (field->kind == FIELD_TEXT) {
        if (strlen(value) >= field->size) {
            *why = "the text is too long";
            return false;
        }
        strcpy(at, value);
        return true;
    }
    char *end;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 0);
    if (errno || end == value || *end || value[0] == '-' || (field->kind == FIELD_U32 && number > UINT32_MAX)) {
        *why = "not a number in range";
        return false;
    }
    if (field->kind == FIELD_U32)
        *(uint32_t *)(void *)at = (uint32_t)number;
    else
        *(uint64_t *)(void *)at = number;
    return true;
}

static bool assign(struct reader *reader, const char *key, const char *value, const struct field *fields, size_t count, void *base)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(fields[i].key, key))
            return store(base, &fields[i], value, &reader->why);
    reader->why = "unknown key in this section";
    return false;
}

static bool read_starts(struct reader *reader, char *value)
{
    char *rest = value;
    for (char *word; (word = strtok_r(rest, " ", &rest));) {
        if (reader->profile->start_count == SIM_STARTS_MAX) {
            reader->why = "too many starts";
            return false;
        }
        reader->profile->starts[reader->profile->start_count++] = (uint32_t)strtoul(word, NULL, 10);
    }
    return true;
}

/* `kernel GLOB BLOCK_NS`, and then any of the other fields with its value. */
static bool read_rule(struct reader *reader, char *value)
{
    static const struct field block = FIELD(sim_kernel_rule, FIELD_U64, block_ns);
    struct sim_node *node = reader->node;
    char *rest = value, *glob = strtok_r(rest, " ", &rest), *block_ns = strtok_r(rest, " ", &rest);
    reader->why = "wanted: kernel GLOB BLOCK_NS [KEY VALUE]..., at most 64 of them";
    if (!block_ns || node->rule_count == SIM_RULES_MAX || strlen(glob) >= sizeof node->rules[0].glob)
        return false;
    struct sim_kernel_rule *rule = &node->rules[node->rule_count];
    strcpy(rule->glob, glob);
    if (!store(rule, &block, block_ns, &reader->why))
        return false;
    for (char *key; (key = strtok_r(rest, " ", &rest));) {
        char *number = strtok_r(rest, " ", &rest);
        if (!number || !assign(reader, key, number, rule_fields, sizeof rule_fields / sizeof *rule_fields, rule))
            return false;
    }
    if (rule->noise_ppm > 1000000) {
        reader->why = "noise_ppm is at most 1000000";
        return false;
    }
    node->rule_count++;
    return true;
}

/* `link A B KIND LANES BYTES_PER_S` */
static bool read_link(struct reader *reader, const char *value)
{
    struct sim_node *node = reader->node;
    unsigned long long bytes_per_s;
    reader->why = "wanted: link A B KIND LANES BYTES_PER_S, at most 256 of them";
    if (node->link_count == SIM_LINKS_MAX)
        return false;
    struct sim_link *link = &node->links[node->link_count];
    if (sscanf(value, "%u %u %15s %u %llu", &link->a, &link->b, link->kind, &link->lanes, &bytes_per_s) != 5)
        return false;
    link->bytes_per_s = bytes_per_s;
    node->link_count++;
    return true;
}

static bool open_device(struct reader *reader)
{
    if (reader->node->device_count == SIM_DEVICES_MAX) {
        reader->why = "more than 16 devices";
        return false;
    }
    reader->device = &reader->node->devices[reader->node->device_count++];
    reader->profile = NULL;
    return true;
}

static bool open_profile(struct reader *reader, const char *name)
{
    const struct field field = {"name", FIELD_TEXT, offsetof(struct sim_profile, name), sizeof reader->profile->name};
    if (!reader->device || reader->device->profile_count == SIM_PROFILES_MAX) {
        reader->why = "a profile outside of a device, or more than 24 of them";
        return false;
    }
    reader->profile = &reader->device->profiles[reader->device->profile_count++];
    return store(reader->profile, &field, name, &reader->why);
}

static bool read_line(struct reader *reader, const char *key, char *value)
{
    if (!strcmp(key, "device"))
        return open_device(reader);
    if (!strcmp(key, "profile"))
        return open_profile(reader, value);
    if (reader->profile)
        return strcmp(key, "starts") ? assign(reader, key, value, profile_fields, sizeof profile_fields / sizeof *profile_fields, reader->profile)
                                     : read_starts(reader, value);
    if (reader->device)
        return assign(reader, key, value, device_fields, sizeof device_fields / sizeof *device_fields, reader->device);
    if (!strcmp(key, "link"))
        return read_link(reader, value);
    if (!strcmp(key, "kernel"))
        return read_rule(reader, value);
    if (!strcmp(key, "node")) {
        const struct field field = {"node", FIELD_TEXT, offsetof(struct sim_node, name), sizeof reader->node->name};
        return store(reader->node, &field, value, &reader->why);
    }
    return assign(reader, key, value, node_fields, sizeof node_fields / sizeof *node_fields, reader->node);
}

static const char *whole(struct sim_node *node)
{
    if (!node->device_count)
        return "no device";
    if (!node->cuda_version || !node->driver_version[0])
        return "cuda_version or driver_version missing";
    for (unsigned i = 0; i < node->device_count; i++) {
        const struct sim_description *device = &node->devices[i];
        if (!device->uuid[0] || !device->name[0] || !device->multiprocessors || !device->warp_threads || !device->block_threads_max ||
            !device->multiprocessor_threads_max || !device->multiprocessor_blocks_max || device->reserve_bytes >= device->vram_bytes)
            return "a device lacks its name, uuid, VRAM, multiprocessors or thread limits";
        for (unsigned p = 0; p < device->profile_count; p++)
            if (!device->profiles[p].size || !device->profiles[p].start_count || !device->profiles[p].compute_slices)
                return "a profile lacks size, starts or compute_slices";
        if (!strcmp(device->vendor, "nvidia") && i != node->nvidia_count)
            return "NVIDIA's devices come first";
        node->nvidia_count += !strcmp(device->vendor, "nvidia");
    }
    for (unsigned i = 0; i < node->link_count; i++)
        if (node->links[i].a >= node->device_count || node->links[i].b >= node->device_count)
            return "a link to a device that is not there";
    return NULL;
}

int sim_description_parse(char *text, struct sim_node *node, char *problem, size_t problem_size)
{
    struct reader reader = {.node = node};
    memset(node, 0, sizeof *node);
    unsigned number = 0;
    for (char *line = text; line; number++) {
        char *next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        line += strspn(line, " \t");
        if (*line && *line != '#') {
            char *value = line + strcspn(line, " \t");
            if (*value)
                *value++ = 0;
            value += strspn(value, " \t");
            if (!read_line(&reader, line, value)) {
                snprintf(problem, problem_size, "line %u, `%s %s`: %s", number + 1, line, value, reader.why);
                return -EINVAL;
            }
        }
        line = next;
    }
    const char *lack = whole(node);
    if (lack) {
        snprintf(problem, problem_size, "%s", lack);
        return -EINVAL;
    }
    return 0;
}
