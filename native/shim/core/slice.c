/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "slice.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define USAGE_SUFFIX ".usage"
#define READ_ATTEMPTS 64
/* The enforcer beats its heart on the clock that the windows and the virtual time are in. A heartbeat from the future means that this
 * process reads another clock (a time namespace, a sandbox): it would misjudge every deadline. */
#define CLOCK_TOLERANCE_NS 2000000000ULL

const char *mica_slice_name(void)
{
    const char *name = getenv("MICA_SLICE");
    return name != NULL && name[0] != '\0' ? name : NULL;
}

const char *mica_runtime_dir(void)
{
    const char *dir = getenv("MICA_RUNTIME_DIR");
    return dir != NULL && dir[0] != '\0' ? dir : "/run/mica";
}

static int describe_region(struct mica_fault *fault, const char *path, int result)
{
    const char *what = result < 0 ? strerror(-result) : mica_region_defect_text(result);
    snprintf(fault->text, sizeof fault->text, "%.300s: %s", path, what);
    return -1;
}

/* Does the region belong to the device (and slice) that its path says? A file that was put in another's place does not. */
static bool header_names(const struct mica_region_header *header, const uint64_t *device_words, const uint64_t *slice_words)
{
    if (memcmp(header->device_id, device_words, sizeof header->device_id) != 0) {
        return false;
    }
    return slice_words == NULL || memcmp(header->slice_id, slice_words, sizeof header->slice_id) == 0;
}

/* The kernel shows a process whether its monotonic clock is shifted by a time namespace. */
static bool clock_is_shifted(void)
{
    char text[256];
    int fd = open("/proc/self/timens_offsets", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0) {
        return false;
    }
    text[got] = '\0';
    long long seconds = 0;
    long long nanoseconds = 0;
    if (sscanf(text, "monotonic %lld %lld", &seconds, &nanoseconds) != 2) {
        return false;
    }
    return seconds != 0 || nanoseconds != 0;
}

static int check_clock(const struct mica_quota_region *quota, const char *path, struct mica_fault *fault)
{
    uint64_t heartbeat = atomic_load_explicit(&quota->header.heartbeat_ns, memory_order_relaxed);
    uint64_t now = mica_monotonic_ns();
    if (heartbeat > now + CLOCK_TOLERANCE_NS) {
        snprintf(fault->text, sizeof fault->text, "%.300s: clock disagrees with the enforcer's: heartbeat is %llu ms ahead of it", path,
                 (unsigned long long)((heartbeat - now) / 1000000));
        return -1;
    }
    if (clock_is_shifted()) {
        snprintf(fault->text, sizeof fault->text, "%.300s: clock disagrees with the enforcer's: shifted by a time namespace", path);
        return -1;
    }
    return 0;
}

/* Find the slice's record. A writer that is in the way is over in microseconds, so try again a few times. */
static int find_record(struct mica_device *device, const uint64_t *slice_words)
{
    int index = -ENOENT;
    for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
        index = mica_quota_find(device->quota, slice_words, &device->limits);
        if (index >= 0) {
            atomic_store_explicit(&device->record, (unsigned)index, memory_order_relaxed);
            return 0;
        }
    }
    return index;
}

static int open_quota(struct mica_slice *slice, struct mica_device *device, struct mica_fault *fault)
{
    char path[PATH_BYTES];
    void *region = NULL;
    snprintf(path, sizeof path, "%.3900s/devices/%s/quota", mica_runtime_dir(), device->id);
    int result = mica_region_map(path, MICA_REGION_QUOTA, false, &region);
    if (result != MICA_REGION_OK) {
        return describe_region(fault, path, result);
    }
    device->quota = region;
    if (!header_names(&device->quota->header, device->id_words, NULL)) {
        return describe_region(fault, path, MICA_REGION_FOREIGN);
    }
    if (check_clock(device->quota, path, fault) != 0) {
        return -1;
    }
    if (find_record(device, slice->id_words) != 0) {
        snprintf(fault->text, sizeof fault->text, "%.300s: no live record of this slice", path);
        return -1;
    }
    return 0;
}

static int open_usage(struct mica_slice *slice, struct mica_device *device, bool writable, struct mica_fault *fault)
{
    char path[PATH_BYTES];
    void *region = NULL;
    snprintf(path, sizeof path, "%.3800s/slices/%s/%s" USAGE_SUFFIX, mica_runtime_dir(), slice->id, device->id);
    int result = mica_region_map(path, MICA_REGION_USAGE, writable, &region);
    if (result != MICA_REGION_OK) {
        return describe_region(fault, path, result);
    }
    device->usage = region;
    if (!header_names(&device->usage->header, device->id_words, slice->id_words)) {
        return describe_region(fault, path, MICA_REGION_FOREIGN);
    }
    return 0;
}

/* The device's token. A slice without one is still held to its share by its rate, so a missing token refuses nobody. */
static void open_token(struct mica_slice *slice, struct mica_device *device)
{
    char path[PATH_BYTES];
    void *region = NULL;
    snprintf(path, sizeof path, "%.3900s/devices/%s/token", mica_runtime_dir(), device->id);
    int result = mica_region_map(path, MICA_REGION_TOKEN, true, &region);
    device->token = result == MICA_REGION_OK ? region : NULL;
    if (device->token != NULL && !header_names(&device->token->header, device->id_words, NULL)) {
        mica_region_unmap(device->token, MICA_REGION_TOKEN);
        device->token = NULL;
        result = MICA_REGION_FOREIGN;
    }
    if (device->token == NULL && device->limits.quantum_ns != 0) {
        char line[MICA_FAULT_TEXT + 160];
        struct mica_fault fault;
        (void)describe_region(&fault, path, result);
        int length = snprintf(line, sizeof line, "mica: slice %.64s: no device token, held by its rate alone: %s\n", slice->id, fault.text);
        ssize_t written = write(STDERR_FILENO, line, (size_t)length);
        (void)written;
    }
}

static int open_device(struct mica_slice *slice, const char *device_id, bool writable, struct mica_fault *fault)
{
    if (slice->device_count == MICA_DEVICES_MAX) {
        snprintf(fault->text, sizeof fault->text, "more than %d devices in one slice", MICA_DEVICES_MAX);
        return -1;
    }
    struct mica_device *device = &slice->devices[slice->device_count++];
    snprintf(device->id, sizeof device->id, "%s", device_id);
    mica_id_pack(device->id, device->id_words);
    device->slot = MICA_PROCESSES_MAX;
    if (open_usage(slice, device, writable, fault) != 0) {
        return -1;
    }
    if (open_quota(slice, device, fault) != 0) {
        return -1;
    }
    if (writable) {
        open_token(slice, device);
    }
    return 0;
}

/* The slice's directory holds one usage file per device, named after it: that is the list of its devices. */
static int open_devices(struct mica_slice *slice, bool writable, struct mica_fault *fault)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%.3900s/slices/%s", mica_runtime_dir(), slice->id);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return describe_region(fault, path, -errno);
    }
    int result = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL && result == 0; entry = readdir(dir)) {
        size_t suffix_bytes = sizeof USAGE_SUFFIX - 1;
        size_t name_bytes = strlen(entry->d_name);
        if (name_bytes <= suffix_bytes || strcmp(entry->d_name + name_bytes - suffix_bytes, USAGE_SUFFIX) != 0) {
            continue;
        }
        size_t id_bytes = name_bytes - suffix_bytes;
        char device_id[MICA_ID_TEXT];
        if (id_bytes >= sizeof device_id) {
            snprintf(fault->text, sizeof fault->text, "%.300s/%.100s: a device id has at most 64 characters", path, entry->d_name);
            result = -1;
            break;
        }
        memcpy(device_id, entry->d_name, id_bytes);
        device_id[id_bytes] = '\0';
        result = open_device(slice, device_id, writable, fault);
    }
    closedir(dir);
    if (result == 0 && slice->device_count == 0) {
        snprintf(fault->text, sizeof fault->text, "%.300s: no usage region of any device", path);
        result = -1;
    }
    return result;
}

static bool is_slice_id(const char *text)
{
    size_t length = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
    return length > 0 && length < MICA_ID_TEXT && text[length] == '\0';
}

int mica_slice_open(const char *name, bool writable, struct mica_slice *slice, struct mica_fault *fault)
{
    memset(slice, 0, sizeof *slice);
    if (!is_slice_id(name)) {
        snprintf(fault->text, sizeof fault->text, "MICA_SLICE: \"%.64s\" is no slice id (1 to 64 of A-Z a-z 0-9 _ -)", name);
        return -1;
    }
    snprintf(slice->id, sizeof slice->id, "%s", name);
    mica_id_pack(slice->id, slice->id_words);
    if (open_devices(slice, writable, fault) != 0) {
        mica_slice_close(slice);
        return -1;
    }
    return 0;
}

void mica_slice_close(struct mica_slice *slice)
{
    for (unsigned i = 0; i < slice->device_count; i++) {
        struct mica_device *device = &slice->devices[i];
        if (device->quota != NULL) {
            mica_region_unmap((void *)(uintptr_t)device->quota, MICA_REGION_QUOTA);
        }
        if (device->usage != NULL) {
            mica_region_unmap(device->usage, MICA_REGION_USAGE);
        }
        if (device->token != NULL) {
            mica_region_unmap(device->token, MICA_REGION_TOKEN);
        }
    }
    memset(slice, 0, sizeof *slice);
}

struct mica_device *mica_slice_device(struct mica_slice *slice, const char *device_id)
{
    for (unsigned i = 0; i < slice->device_count; i++) {
        if (strcmp(slice->devices[i].id, device_id) == 0) {
            return &slice->devices[i];
        }
    }
    return NULL;
}
