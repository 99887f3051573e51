/* SPDX-License-Identifier: Apache-2.0
 *
 * The least management library: one device, and the processes that a test says are on it.
 */
#include <string.h>

#define PUBLIC __attribute__((visibility("default")))
#define SUCCESS 0
#define INSUFFICIENT_SIZE 7
#define PROCESSES_MAX 8

struct process_info {
    unsigned pid;
    unsigned long long used_bytes;
    unsigned gpu_instance, compute_instance;
};

static struct process_info listed[PROCESSES_MAX];
static unsigned listed_count;

/* For tests: who is listed from now on. */
PUBLIC void fake_list(const struct process_info *processes, unsigned count)
{
    memcpy(listed, processes, count * sizeof *processes);
    listed_count = count;
}

PUBLIC int nvmlInit_v2(void)
{
    return SUCCESS;
}

PUBLIC int nvmlDeviceGetHandleByUUID(const char *uuid, void **device)
{
    (void)uuid;
    *device = listed;
    return SUCCESS;
}

PUBLIC int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, struct process_info *infos)
{
    (void)device;
    if (*count < listed_count) {
        *count = listed_count;
        return INSUFFICIENT_SIZE;
    }
    memcpy(infos, listed, listed_count * sizeof *listed);
    *count = listed_count;
    return SUCCESS;
}
