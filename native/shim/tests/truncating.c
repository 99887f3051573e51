/* SPDX-License-Identifier: Apache-2.0
 *
 * Preloaded before the shim: whoever maps a file whose name ends in TRUNCATED_FILE has it truncated before it can look into it.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool is_file(int fd, char path[4096])
{
    char link[64];
    const char *end = getenv("TRUNCATED_FILE");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = end != NULL && fd >= 0 ? readlink(link, path, 4095) : -1;
    if (length < (ssize_t)strlen(end != NULL ? end : "")) {
        return false;
    }
    path[length] = '\0';
    return strcmp(path + length - strlen(end), end) == 0;
}

__attribute__((visibility("default"))) void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    char path[4096];
    void *mapping = (void *)syscall(SYS_mmap, address, bytes, protection, flags, fd, offset);
    if (mapping != MAP_FAILED && (flags & MAP_SHARED) != 0 && is_file(fd, path) && truncate(path, 0) != 0) {
        perror(path);
    }
    return mapping;
}
