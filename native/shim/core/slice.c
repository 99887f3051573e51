/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "slice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define LISTING_BYTES 1024
#define USAGE_SUFFIX ".usage"
#define READ_ATTEMPTS 64
/* The enforcer beats its heart on the clock that the windows and the virtual time are in. A heartbeat from the future means that this
 * process reads another clock (a time namespace, a sandbox): it would misjudge every deadline. */
#define CLOCK_TOLERANCE_NS 2000000000ULL
/* Wall and monotonic time drift apart by at most 0.5 ms a second while wall time is slewed; heartbeats are a second apart. */
#define WALL_TOLERANCE_NS 2000000ULL

/* A path, set again for every file. A process's first use of a page, and of a part of the C library, costs as much as a few system calls, and
 * an attach has few: so there is one of these, no formatted printing but of faults, and nothing is cleared that was never written. */
struct path {
    char text[PATH_BYTES];
};

/* runtime dir / kind / name / file, cut if that is too long for any path. */
static void path_set(struct path *path, const char *kind, const char *name, const char *file)
{
    const char *const parts[] = {mica_runtime_dir(), kind, name, file};
    size_t length = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        size_t bytes = strlen(parts[i]);
        if (bytes > PATH_BYTES - 1 - length) {
            bytes = PATH_BYTES - 1 - length;
        }
        memcpy(path->text + length, parts[i], bytes);
        length += bytes;
    }
    path->text[length] = '\0';
}

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

/* The kernel shows a process whether its monotonic clock is shifted by a time namespace; the first of these shifts nothing. */
static bool clock_is_shifted(void)
{
    static const char first[] = "time:[4026531834]"; /* PROC_TIME_INIT_INO */
    char text[256];
    ssize_t length = readlink("/proc/self/ns/time", text, sizeof text);
    if (length == (ssize_t)sizeof first - 1 && memcmp(text, first, sizeof first - 1) == 0) {
        return false;
    }
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

/* Is this process on the enforcer's clock, in the enforcer's boot? Wall time tells, because it is the same for both. When it does not agree (it was
 * set since the last heartbeat, or no enforcer lives), the kernel is asked, which takes longer. */
static int check_clock(const struct mica_quota_region *quota, const char *path, struct mica_fault *fault)
{
    uint64_t heartbeat = atomic_load_explicit(&quota->header.heartbeat_ns, memory_order_relaxed);
    uint64_t ahead = atomic_load_explicit(&quota->header.wall_ahead_ns, memory_order_relaxed);
    uint64_t apart = mica_wall_ahead_ns() - ahead + WALL_TOLERANCE_NS;
    uint64_t now = mica_monotonic_ns();
    char boot_id[37];
    if (heartbeat > now + CLOCK_TOLERANCE_NS) {
        snprintf(fault->text, sizeof fault->text, "%.300s: clock disagrees with the enforcer's: heartbeat is %llu ms ahead of it", path,
                 (unsigned long long)((heartbeat - now) / 1000000));
        return -1;
    }
    if (ahead != 0 && apart <= 2 * WALL_TOLERANCE_NS) {
        return 0;
    }
    int result = mica_boot_id(boot_id);
    if (result < 0 || strncmp((const char *)quota->header.boot_id, boot_id, sizeof quota->header.boot_id) != 0) {
        return describe_region(fault, path, result < 0 ? result : MICA_REGION_OTHER_BOOT);
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

static int open_quota(struct mica_slice *slice, struct mica_device *device, struct path *at, struct mica_fault *fault)
{
    const char *path = at->text;
    void *region = NULL;
    path_set(at, "/devices/", device->id, "/quota");
    int result = mica_region_map_of_boot(path, MICA_REGION_QUOTA, false, NULL, &region);
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

/* This boot's id: the checked quota region has it. */
static const char *boot_of(const struct mica_device *device)
{
    return (const char *)device->quota->header.boot_id;
}

static int open_usage(struct mica_slice *slice, struct mica_device *device, bool writable, struct path *at, struct mica_fault *fault)
{
    char file[MICA_ID_TEXT + sizeof "/" USAGE_SUFFIX];
    const char *path = at->text;
    void *region = NULL;
    size_t id_bytes = strlen(device->id);
    file[0] = '/';
    memcpy(file + 1, device->id, id_bytes);
    memcpy(file + 1 + id_bytes, USAGE_SUFFIX, sizeof USAGE_SUFFIX);
    path_set(at, "/slices/", slice->id, file);
    int result = mica_region_map_of_boot(path, MICA_REGION_USAGE, writable, boot_of(device), &region);
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
static void open_token(struct mica_slice *slice, struct mica_device *device, struct path *at)
{
    const char *path = at->text;
    void *region = NULL;
    path_set(at, "/devices/", device->id, "/token");
    int result = mica_region_map_of_boot(path, MICA_REGION_TOKEN, true, boot_of(device), &region);
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

static int open_device(struct mica_slice *slice, const char *device_id, bool writable, struct path *at, struct mica_fault *fault)
{
    if (slice->device_count == MICA_DEVICES_MAX) {
        snprintf(fault->text, sizeof fault->text, "more than %d devices in one slice", MICA_DEVICES_MAX);
        return -1;
    }
    struct mica_device *device = &slice->devices[slice->device_count++];
    memset(device, 0, sizeof *device);
    memcpy(device->id, device_id, strlen(device_id));
    mica_id_pack(device->id, device->id_words);
    device->slot = MICA_PROCESSES_MAX;
    if (open_quota(slice, device, at, fault) != 0 || open_usage(slice, device, writable, at, fault) != 0) {
        return -1;
    }
    if (writable) {
        open_token(slice, device, at);
    }
    return 0;
}

/* An entry of a directory, as the kernel lists it. */
struct listed {
    uint64_t inode;
    int64_t offset;
    unsigned short bytes;
    unsigned char type;
    char name[];
};

/* If `name` is a usage file, open its device. */
static int open_named(struct mica_slice *slice, const char *name, bool writable, struct path *at, struct mica_fault *fault)
{
    char device_id[MICA_ID_TEXT];
    size_t suffix_bytes = sizeof USAGE_SUFFIX - 1;
    size_t name_bytes = strlen(name);
    if (name_bytes <= suffix_bytes || memcmp(name + name_bytes - suffix_bytes, USAGE_SUFFIX, suffix_bytes) != 0) {
        return 0;
    }
    size_t id_bytes = name_bytes - suffix_bytes;
    if (id_bytes >= sizeof device_id) {
        path_set(at, "/slices/", slice->id, "/");
        snprintf(fault->text, sizeof fault->text, "%.300s%.100s: a device id has at most 64 characters", at->text, name);
        return -1;
    }
    memcpy(device_id, name, id_bytes);
    device_id[id_bytes] = '\0';
    return open_device(slice, device_id, writable, at, fault);
}

/* The slice's directory holds one usage file per device, named after it: that is the list of its devices. */
static int open_devices(struct mica_slice *slice, bool writable, struct path *at, struct mica_fault *fault)
{
    _Alignas(struct listed) char listing[LISTING_BYTES];
    path_set(at, "/slices/", slice->id, "");
    int dir = open(at->text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return describe_region(fault, at->text, -errno);
    }
    int result = 0;
    long got = 0;
    while (result == 0 && (got = syscall(SYS_getdents64, dir, listing, sizeof listing)) > 0) {
        for (long i = 0; i < got && result == 0;) {
            const struct listed *entry = (const struct listed *)(const void *)(listing + i);
            result = open_named(slice, entry->name, writable, at, fault);
            i += entry->bytes;
        }
    }
    int error = errno;
    close(dir);
    path_set(at, "/slices/", slice->id, "");
    if (got < 0) {
        return describe_region(fault, at->text, -error);
    }
    if (result == 0 && slice->device_count == 0) {
        snprintf(fault->text, sizeof fault->text, "%.300s: no usage region of any device", at->text);
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
    struct path at;
    slice->device_count = 0;
    if (!is_slice_id(name)) {
        snprintf(fault->text, sizeof fault->text, "MICA_SLICE: \"%.64s\" is no slice id (1 to 64 of A-Z a-z 0-9 _ -)", name);
        return -1;
    }
    memcpy(slice->id, name, strlen(name) + 1);
    mica_id_pack(slice->id, slice->id_words);
    if (open_devices(slice, writable, &at, fault) != 0) {
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
    slice->device_count = 0;
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
