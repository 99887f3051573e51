/* SPDX-License-Identifier: Apache-2.0
 *
 * Region files: made whole or not at all, checked before they are mapped.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "region.h"

#define PATH_BYTES 4096

static uint64_t region_bytes(uint64_t kind)
{
    switch (kind) {
    case MICA_REGION_QUOTA:
        return sizeof(struct mica_quota_region);
    case MICA_REGION_USAGE:
        return sizeof(struct mica_usage_region);
    case MICA_REGION_TOKEN:
        return sizeof(struct mica_token_region);
    default:
        return 0;
    }
}

static int header_fill(struct mica_region_header *header, uint64_t kind, const char *device_id, const char *slice_id)
{
    char boot_id[37];
    int rc = mica_boot_id(boot_id);
    if (rc < 0)
        return rc;
    memset(header, 0, sizeof *header);
    header->magic = MICA_REGION_MAGIC;
    header->layout_version = MICA_LAYOUT_VERSION;
    header->kind = kind;
    header->size_bytes = region_bytes(kind);
    mica_id_pack(device_id, header->device_id);
    if (slice_id != NULL)
        mica_id_pack(slice_id, header->slice_id);
    memcpy(header->boot_id, boot_id, sizeof boot_id - 1);
    return 0;
}

/* Fill an unnamed or temporary file. Its pages are allocated here, so that no store through a mapping meets a full tmpfs. */
static int file_fill(int fd, const struct mica_region_header *header, unsigned mode)
{
    int error = posix_fallocate(fd, 0, (off_t)header->size_bytes);
    if (error != 0)
        return -error;
    ssize_t wrote = pwrite(fd, header, sizeof *header, 0);
    if (wrote != (ssize_t)sizeof *header)
        return wrote < 0 ? -errno : -EIO;
    return fchmod(fd, mode) < 0 ? -errno : 0;
}

/* An unnamed file: nothing is left behind when its writer is killed. */
static int create_unnamed(const char *directory, const char *path, const struct mica_region_header *header, unsigned mode)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int rc = file_fill(fd, header, mode);
    if (rc == 0) {
        char link_path[64];
        snprintf(link_path, sizeof link_path, "/proc/self/fd/%d", fd);
        rc = linkat(AT_FDCWD, link_path, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
    }
    close(fd);
    return rc;
}

/* The same on a file system without unnamed files. */
static int create_renamed(const char *path, const struct mica_region_header *header, unsigned mode)
{
    char temporary[PATH_BYTES];
    int length = snprintf(temporary, sizeof temporary, "%s.%ld.new", path, (long)getpid());
    if (length < 0 || (size_t)length >= sizeof temporary)
        return -ENAMETOOLONG;
    unlink(temporary); /* of a writer with our pid that was killed; nobody maps it, it never had its final name */
    int fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int rc = file_fill(fd, header, mode);
    if (rc == 0 && link(temporary, path) < 0)
        rc = -errno;
    unlink(temporary);
    close(fd);
    return rc;
}

int mica_region_create(const char *path, uint64_t kind, const char *device_id, const char *slice_id, unsigned mode)
{
    if (region_bytes(kind) == 0 || (kind == MICA_REGION_USAGE) != (slice_id != NULL))
        return -EINVAL;
    size_t id_max = MICA_ID_WORDS * sizeof(uint64_t);
    if (strlen(device_id) > id_max || (slice_id != NULL && strlen(slice_id) > id_max))
        return -EINVAL;
    struct mica_region_header header;
    int rc = header_fill(&header, kind, device_id, slice_id);
    if (rc < 0)
        return rc;

    char directory[PATH_BYTES];
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    if (length >= sizeof directory)
        return -ENAMETOOLONG;
    memcpy(directory, path, length);
    memcpy(directory + length, "", 1);
    rc = create_unnamed(length == 0 ? "." : directory, path, &header, mode);
    if (rc == -EOPNOTSUPP || rc == -EISDIR)
        rc = create_renamed(path, &header, mode);
    return rc;
}

int mica_region_check(const struct mica_region_header *header, uint64_t file_bytes, uint64_t kind, const char *boot_id)
{
    if (file_bytes < sizeof *header)
        return MICA_REGION_TRUNCATED;
    if (header->magic != MICA_REGION_MAGIC || header->layout_version == 0)
        return MICA_REGION_FOREIGN;
    if (header->layout_version < MICA_LAYOUT_VERSION)
        return MICA_REGION_PAST;
    if (header->layout_version > MICA_LAYOUT_VERSION)
        return MICA_REGION_FUTURE;
    if (header->kind != kind)
        return MICA_REGION_WRONG_KIND;
    if (header->size_bytes != region_bytes(kind))
        return MICA_REGION_FOREIGN;
    if (file_bytes < header->size_bytes)
        return MICA_REGION_TRUNCATED;
    if (boot_id != NULL && strncmp((const char *)header->boot_id, boot_id, sizeof header->boot_id) != 0)
        return MICA_REGION_OTHER_BOOT;
    return MICA_REGION_OK;
}

const char *mica_region_defect_text(int defect)
{
    switch (defect) {
    case MICA_REGION_OK:
        return "no defect";
    case MICA_REGION_TRUNCATED:
        return "the file is shorter than its region";
    case MICA_REGION_FOREIGN:
        return "not a region of mica, or a damaged one";
    case MICA_REGION_FUTURE:
        return "a layout newer than this build knows";
    case MICA_REGION_PAST:
        return "a layout older than this build knows: its slice was made by an older mica";
    case MICA_REGION_WRONG_KIND:
        return "a region of another kind";
    case MICA_REGION_OTHER_BOOT:
        return "left over from another boot";
    default:
        return "an unknown defect";
    }
}

/* Check an open file without mapping it. A defect, MICA_REGION_OK, or -errno. */
static int file_check(int fd, uint64_t kind, const char *boot_id)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return MICA_REGION_FOREIGN;
    struct mica_region_header header;
    ssize_t got = pread(fd, &header, sizeof header, 0);
    if (got < 0)
        return -errno;
    if (got < (ssize_t)sizeof header)
        return MICA_REGION_TRUNCATED;
    return mica_region_check(&header, (uint64_t)status.st_size, kind, boot_id);
}

int mica_region_map(const char *path, uint64_t kind, bool writable, void **region)
{
    char boot_id[37];
    int rc = mica_boot_id(boot_id);
    return rc < 0 ? rc : mica_region_map_of_boot(path, kind, writable, boot_id, region);
}

int mica_region_map_of_boot(const char *path, uint64_t kind, bool writable, const char *boot_id, void **region)
{
    if (region_bytes(kind) == 0)
        return -EINVAL;
    /* O_NONBLOCK: a FIFO in the file's place must not hold the caller up. */
    int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    int rc = file_check(fd, kind, boot_id);
    if (rc == MICA_REGION_OK) {
        /* Populated: the pages are few, all in memory, and soon used; each fault would cost as much as this call. */
        void *mapping = mmap(NULL, region_bytes(kind), PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED | MAP_POPULATE, fd, 0);
        if (mapping == MAP_FAILED)
            rc = -errno;
        else
            *region = mapping;
    }
    close(fd);
    return rc;
}

void mica_region_unmap(void *region, uint64_t kind)
{
    if (region != NULL)
        munmap(region, region_bytes(kind));
}
