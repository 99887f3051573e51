/* SPDX-License-Identifier: Apache-2.0
 *
 * MPS, from a client's side: whether there is a daemon for this process, and what its environment limits it to.
 *
 * A process finds the daemon that the node file says is there, unless CUDA_MPS_PIPE_DIRECTORY names a directory: then there
 * is one exactly if that directory exists.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "driver.h"

static bool has_daemon(void)
{
    const char *directory = getenv("CUDA_MPS_PIPE_DIRECTORY");
    struct stat found;
    if (!directory || !*directory)
        return sim_node()->mps;
    return !stat(directory, &found) && S_ISDIR(found.st_mode);
}

struct sim_client sim_client_find(void)
{
    struct sim_client client = {.mps = has_daemon()};
    const char *percent = getenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE");
    double value = client.mps && percent ? strtod(percent, NULL) : 0;
    if (value > 0 && value < 100)
        client.threads_percent = value < 1 ? 1 : (uint32_t)value;
    return client;
}

/* Rounded up to whole pairs of multiprocessors. */
unsigned sim_client_multiprocessors(const struct sim_client *client, unsigned all)
{
    if (!client->mps || !client->threads_percent)
        return all;
    unsigned part = ((all * client->threads_percent + 99) / 100 + 1) / 2 * 2;
    return part < all ? part : all;
}

static uint64_t bytes_of(const char *text)
{
    char *end;
    uint64_t bytes = strtoull(text, &end, 10);
    switch (toupper((unsigned char)*end)) {
    case 'G':
        return bytes << 30;
    case 'M':
        return bytes << 20;
    case 'K':
        return bytes << 10;
    default:
        return bytes;
    }
}

/* CUDA_MPS_PINNED_DEVICE_MEM_LIMIT: `0=1G,GPU-…=512M`, by the client's own ordinals or by uuid. */
uint64_t sim_client_limit_bytes(const struct sim_client *client, int device, const CUuuid *uuid)
{
    const char *limits = client->mps ? getenv("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT") : NULL;
    char list[1024], name[SIM_UUID_MAX] = "GPU-";
    uint64_t limit_bytes = 0;
    snprintf(list, sizeof list, "%s", limits ? limits : "");
    for (int i = 0; i < 16; i++)
        snprintf(name + strlen(name), sizeof name - strlen(name), "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid->bytes[i]);
    for (char *rest = list, *token; (token = strtok_r(rest, ",", &rest));) {
        char *value = strchr(token, '='), *end;
        if (!value)
            continue;
        *value++ = 0;
        bool ours = strtol(token, &end, 10) == device && end != token && !*end;
        if (ours || !strcmp(token, name))
            limit_bytes = bytes_of(value);
    }
    return limit_bytes;
}
