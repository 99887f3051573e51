/* SPDX-License-Identifier: Apache-2.0
 *
 * What people and faults do to a simulated node, as text: the stand-ins for vendors' tools, tests and `mica sim` say it. One
 * table has every verb. DEVICE is an index or a UUID.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

#define WORDS_MAX 5

struct request {
    struct sim_state *state;
    int device; /* named by the first word, or -1 */
    char *words[WORDS_MAX];
    char *answer;
    size_t size;
};

static int say(struct request *request, int result, const char *text)
{
    snprintf(request->answer, request->size, "%s", text);
    return result;
}

static int find_profile(const struct request *request, const char *name)
{
    const struct sim_description *description = &request->state->node.devices[request->device];
    for (unsigned p = 0; p < description->profile_count; p++)
        if (!strcmp(description->profiles[p].name, name))
            return (int)p;
    return -1;
}

static int find_instance(const struct request *request, unsigned start)
{
    for (int i = 0; i < SIM_INSTANCES_MAX; i++) {
        const struct sim_gpu_instance *instance = &request->state->devices[request->device].instances[i];
        if (instance->live && instance->start == start)
            return i;
    }
    return -1;
}

/* What was made: `ID START UUID`; `made` < 0: why not. */
static int say_made(struct request *request, int made)
{
    if (made < 0)
        return say(request, made, strerror(-made));
    const struct sim_gpu_instance *instance = &request->state->devices[request->device].instances[made];
    snprintf(request->answer, request->size, "%u %u %s", instance->id, instance->start, instance->compute[0].uuid);
    return 0;
}

/* create DEVICE PROFILE [START [ID]], START -1 for anywhere: answers `ID START UUID`. */
static int do_create(struct request *request)
{
    int profile = find_profile(request, request->words[1]);
    if (profile < 0)
        return say(request, -EINVAL, "no such profile");
    if (request->state->node.devices[request->device].profiles[profile].layout[0])
        return say(request, -EINVAL, "of a layout: lay the device out");
    int start = request->words[2] ? atoi(request->words[2]) : -1;
    if (!request->words[3])
        return say_made(request, sim_partition_create(request->state, request->device, (unsigned)profile, start));
    return say_made(request, sim_partition_create_as(request->state, request->device, (unsigned)profile, start, (unsigned)atoi(request->words[3])));
}

/* hold DEVICE PROFILE: as create, anywhere, and as long as the calling process lives. */
static int do_hold(struct request *request)
{
    int profile = find_profile(request, request->words[1]);
    if (profile < 0 || request->state->node.devices[request->device].profiles[profile].layout[0])
        return say(request, -EINVAL, "no such profile");
    if (sim_process_self() < 0)
        return say(request, -EUSERS, "too many processes");
    return say_made(request, sim_hold(request->state, request->device, (unsigned)profile));
}

/* destroy DEVICE START */
static int do_destroy(struct request *request)
{
    int instance = find_instance(request, (unsigned)atoi(request->words[1]));
    if (instance < 0)
        return say(request, -ENOENT, "no partition starts there");
    if (request->state->devices[request->device].layout)
        return say(request, -EINVAL, "of a layout: lay the device out");
    int result = sim_partition_destroy(request->state, request->device, (unsigned)instance);
    return say(request, result, result ? strerror(-result) : "");
}

/* layout DEVICE LAYOUT; `-` for whole */
static int do_layout(struct request *request)
{
    int result = sim_layout_set(request->state, request->device, strcmp(request->words[1], "-") ? request->words[1] : "");
    return say(request, result, result ? strerror(-result) : "");
}

/* mode DEVICE 0|1: MIG mode */
static int do_mode(struct request *request)
{
    int result = sim_mig_enable(request->state, request->device, atoi(request->words[1]));
    return say(request, result, result ? strerror(-result) : "");
}

/* reset DEVICE */
static int do_reset(struct request *request)
{
    int result = sim_device_reset(request->state, request->device);
    return say(request, result, result ? strerror(-result) : "");
}

/* reboot */
static int do_reboot(struct request *request)
{
    int result = sim_node_reboot(request->state);
    return say(request, result, result ? "a process is on a device" : "");
}

/* event DEVICE KIND CODE */
static int do_event(struct request *request)
{
    sim_finding_post(request->state, request->device, request->words[1], (unsigned)strtoul(request->words[2], NULL, 0));
    return 0;
}

/* set DEVICE KEY VALUE: a field of struct sim_health */
static int do_set(struct request *request)
{
    struct sim_health *health = &request->state->devices[request->device].health;
    uint64_t value = strtoull(request->words[2], NULL, 0);
    const struct {
        const char *key;
        uint32_t *small;
        uint64_t *large;
    } keys[] = {
        {"lost", &health->lost, NULL},
        {"hang_ms", &health->hang_ms, NULL},
        {"temperature_c", &health->temperature_c, NULL},
        {"refusals", &health->refusals, NULL},
        {"no_permission", &health->no_permission, NULL},
        {"remap_pending", &health->remap_pending, NULL},
        {"remap_failed", &health->remap_failed, NULL},
        {"clock_reasons", &health->clock_reasons, NULL},
        {"ecc_corrected", NULL, &health->ecc_corrected},
        {"ecc_uncorrected", NULL, &health->ecc_uncorrected},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(keys[i].key, request->words[1])) {
            if (keys[i].small)
                *keys[i].small = (uint32_t)value;
            else
                *keys[i].large = value;
            return 0;
        }
    return say(request, -EINVAL, "no such key");
}

static const struct {
    const char *verb;
    int words; /* it needs, the device included */
    bool device;
    int (*run)(struct request *);
} verbs[] = {
    {"create", 2, true, do_create}, {"destroy", 2, true, do_destroy}, {"layout", 2, true, do_layout}, {"mode", 2, true, do_mode},
    {"reset", 1, true, do_reset},   {"reboot", 0, false, do_reboot},  {"event", 3, true, do_event},   {"set", 3, true, do_set},
    {"hold", 2, true, do_hold},
};

static int find_device(const struct sim_state *state, const char *word)
{
    char *end;
    unsigned long index = strtoul(word, &end, 10);
    if (*word && !*end)
        return index < state->node.device_count ? (int)index : -1;
    for (int d = 0; d < (int)state->node.device_count; d++)
        if (!strcmp(state->node.devices[d].uuid, word))
            return d;
    return -1;
}

static int run_verb(struct request *request, const char *verb, int words)
{
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verbs[i].verb, verb))
            continue;
        if (words < verbs[i].words)
            return say(request, -EINVAL, "too few words");
        if (verbs[i].device && (request->device = find_device(request->state, request->words[0])) < 0)
            return say(request, -ENODEV, "no such device");
        return verbs[i].run(request);
    }
    return say(request, -EINVAL, "no such verb");
}

/* `occupy UUID BYTES` (occupy.c) takes the lock itself and comes before the table. */
int mica_sim_control(const char *command, char *answer, size_t n)
{
    char text[256], *rest = text;
    struct request request = {.device = -1, .answer = answer, .size = n};
    if (!n || strlen(command) >= sizeof text)
        return -EINVAL;
    answer[0] = 0;
    int result = sim_engine_open();
    if (result)
        return say(&request, result, "no simulated node");
    strcpy(text, command);
    char *verb = strtok_r(rest, " ", &rest);
    int words = 0;
    for (char *word; words < WORDS_MAX && (word = strtok_r(rest, " ", &rest));)
        request.words[words++] = word;
    if (!verb)
        return say(&request, -EINVAL, "no verb");
    if (!strcmp(verb, "occupy")) {
        result = words == 2 ? sim_occupy(request.words[0], strtoull(request.words[1], NULL, 0)) : -EINVAL;
        return say(&request, result, result < 0 ? strerror(-result) : "");
    }
    if (!strcmp(verb, "hold") && sim_process_self() < 0)
        sim_process_register((struct sim_client){0}); /* takes the lock itself */
    request.state = sim_enter();
    result = run_verb(&request, verb, words);
    sim_leave(request.state);
    return result;
}
