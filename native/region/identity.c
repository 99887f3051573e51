/* SPDX-License-Identifier: Apache-2.0
 *
 * Who and when: ids as words, the kernel's boot id, the clock, and the owner word of this process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "region.h"

#define BOOT_ID_LENGTH 36
#define STAT_START_FIELD 22 /* of /proc/<pid>/stat, counted from 1; the name in field 2 may contain anything */

/* Read up to `size` - 1 bytes of a small file and terminate them. Returns the length, or -errno. */
static ssize_t text_read(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t length = 0;
    while (length < size - 1) {
        ssize_t got = read(fd, out + length, size - 1 - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int error = errno;
            close(fd);
            return -error;
        }
        if (got == 0)
            break;
        length += (size_t)got;
        if (out[length - 1] == '\n')
            break; /* these files are one line: no need to be told that it was the last */
    }
    close(fd);
    out[length] = '\0';
    return (ssize_t)length;
}

/* The kernel's boot id as words, once it was read: it can't change under a living process. */
static _Atomic uint64_t boot_words[5];
static _Atomic int boot_known;

int mica_boot_id(char out[37])
{
    uint64_t words[5] = {0};
    /* Acquire: pairs with the release below; who sees the flag sees the words. Two first readers store the same. */
    if (!atomic_load_explicit(&boot_known, memory_order_acquire)) {
        char text[64];
        ssize_t length = text_read("/proc/sys/kernel/random/boot_id", text, sizeof text);
        if (length < 0)
            return (int)length;
        if (length < BOOT_ID_LENGTH)
            return -EIO;
        memcpy(words, text, BOOT_ID_LENGTH);
        for (unsigned i = 0; i < 5; i++)
            atomic_store_explicit(&boot_words[i], words[i], memory_order_relaxed);
        atomic_store_explicit(&boot_known, 1, memory_order_release);
    }
    for (unsigned i = 0; i < 5; i++)
        words[i] = atomic_load_explicit(&boot_words[i], memory_order_relaxed);
    memcpy(out, words, BOOT_ID_LENGTH);
    out[BOOT_ID_LENGTH] = '\0';
    return 0;
}

uint64_t mica_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

uint64_t mica_wall_ahead_ns(void)
{
    struct timespec wall;
    uint64_t before = mica_monotonic_ns();
    clock_gettime(CLOCK_REALTIME, &wall);
    return (uint64_t)wall.tv_sec * 1000000000ULL + (uint64_t)wall.tv_nsec - before;
}

void mica_id_pack(const char *text, uint64_t words[MICA_ID_WORDS])
{
    size_t size = MICA_ID_WORDS * sizeof words[0];
    memset(words, 0, size);
    memcpy(words, text, strnlen(text, size));
}

void mica_id_unpack(const uint64_t words[MICA_ID_WORDS], char text[65])
{
    size_t size = MICA_ID_WORDS * sizeof words[0];
    memcpy(text, words, size);
    text[size] = '\0';
}

/* Start time of this process in clock ticks since boot, or 0 when /proc does not say. */
static uint64_t start_ticks_self(void)
{
    char text[1024];
    if (text_read("/proc/self/stat", text, sizeof text) <= 0)
        return 0;
    char *at = strrchr(text, ')'); /* the name ends at the last parenthesis, whatever it contains */
    for (int field = 2; at != NULL && field < STAT_START_FIELD; field++)
        at = strchr(at + 1, ' ');
    return at == NULL ? 0 : strtoull(at + 1, NULL, 10);
}

uint64_t mica_owner_self(void)
{
    uint64_t start = start_ticks_self() & ((1ULL << MICA_OWNER_START_BITS) - 1);
    uint64_t pid = (uint64_t)getpid() & ((1ULL << MICA_OWNER_PID_BITS) - 1);
    return MICA_OWNER_HELD | start << MICA_OWNER_PID_BITS | pid;
}
