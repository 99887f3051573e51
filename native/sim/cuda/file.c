/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory file of this process: contents of device memory that can be mapped at several addresses and by others.
 *
 * Stretches are never given out twice; a stretch that is given back loses its pages. A descriptor handed to another process
 * carries in its file position which shared memory it stands for.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver.h"

#define TICKET (1LL << 61)
#define TICKET_ID_BITS 48

static int file = -1;
static uint64_t file_bytes;

bool sim_file_take(size_t bytes, struct sim_stretch *stretch)
{
    if (file < 0 && (file = memfd_create("mica-sim-device-memory", MFD_CLOEXEC)) < 0)
        return false;
    if (ftruncate(file, (off_t)(file_bytes + bytes)))
        return false;
    *stretch = (struct sim_stretch){file, file_bytes, bytes};
    file_bytes += bytes;
    return true;
}

void sim_file_give(const struct sim_stretch *stretch)
{
    fallocate(stretch->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)stretch->offset, (off_t)stretch->bytes);
}

uint64_t sim_file_inode(int fd)
{
    struct stat stat_of;
    return fstat(fd, &stat_of) ? 0 : (uint64_t)stat_of.st_ino;
}

/* Opened anew, so that its position is its own. */
static int open_again(const char *process, int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/fd/%d", process, fd);
    return open(path, O_RDWR | O_CLOEXEC);
}

int sim_file_ticket(int of, int slot, uint64_t id)
{
    int fd = open_again("self", of);
    if (fd >= 0 && lseek(fd, TICKET | (off_t)slot << TICKET_ID_BITS | (off_t)id, SEEK_SET) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

bool sim_file_read_ticket(int fd, int *slot, uint64_t *id)
{
    off_t position = lseek(fd, 0, SEEK_CUR);
    if (position < TICKET)
        return false;
    *slot = (int)((position & ~TICKET) >> TICKET_ID_BITS);
    *id = (uint64_t)position & ((1ULL << TICKET_ID_BITS) - 1);
    return true;
}

int sim_file_of(int pid, int fd, uint64_t inode)
{
    char process[16];
    snprintf(process, sizeof process, "%d", pid);
    int other = open_again(process, fd);
    if (other >= 0 && sim_file_inode(other) == inode)
        return other;
    if (other >= 0)
        close(other);
    return -1;
}
