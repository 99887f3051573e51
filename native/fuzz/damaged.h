/* SPDX-License-Identifier: Apache-2.0
 *
 * A region file with words that somebody else has written: a whole one, patched as the fuzzer says, and perhaps cut short.
 *
 * Input: a byte of flags, a byte of length, then patches of ten bytes: which word, and its value. Half of the patches go to the first words, where what
 * everything else hangs on lies.
 */
#ifndef MICA_FUZZ_DAMAGED_H
#define MICA_FUZZ_DAMAGED_H

#include "../region/region.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FUZZ_DEVICE "GPU-00000000-0000-0000-0000-000000000001"
#define FUZZ_SLICE "fuzz"
#define FIRST_WORDS 64
#define IS_SHORT 1

struct damaged {
    char path[64];
    int fd;
    size_t bytes;
    unsigned char *whole; /* as it was made */
};

/* Make the region once. */
static inline void damaged_make(struct damaged *damaged, uint64_t kind)
{
    struct stat status;
    snprintf(damaged->path, sizeof damaged->path, "/dev/shm/mica-fuzz-%d", (int)getpid());
    unlink(damaged->path);
    if (mica_region_create(damaged->path, kind, FUZZ_DEVICE, kind == MICA_REGION_USAGE ? FUZZ_SLICE : NULL, 0600) != 0) {
        abort();
    }
    damaged->fd = open(damaged->path, O_RDWR | O_CLOEXEC);
    fstat(damaged->fd, &status);
    damaged->bytes = (size_t)status.st_size;
    damaged->whole = malloc(damaged->bytes);
    if (pread(damaged->fd, damaged->whole, damaged->bytes, 0) != (ssize_t)damaged->bytes) {
        abort();
    }
    unlink(damaged->path); /* found again by its descriptor, so that nothing is left behind */
    snprintf(damaged->path, sizeof damaged->path, "/proc/self/fd/%d", damaged->fd);
}

/* The region of `kind` as the input says; returns how much of the input is left for what is done with it, at `*rest`. */
static inline size_t damaged_patch(struct damaged *damaged, uint64_t kind, const unsigned char *input, size_t size, const unsigned char **rest)
{
    if (damaged->whole == NULL) {
        damaged_make(damaged, kind);
    }
    size_t words = damaged->bytes / sizeof(uint64_t);
    if (ftruncate(damaged->fd, (off_t)damaged->bytes) != 0 || pwrite(damaged->fd, damaged->whole, damaged->bytes, 0) != (ssize_t)damaged->bytes) {
        abort();
    }
    *rest = input + size;
    if (size < 2) {
        return 0;
    }
    size_t at = 2;
    for (unsigned left = input[0] >> 4; left > 0 && at + 10 <= size; left--, at += 10) {
        size_t word = (size_t)input[at] | (size_t)input[at + 1] << 8;
        word = word & 1 ? (word >> 1) % FIRST_WORDS : (word >> 1) % words;
        if (pwrite(damaged->fd, input + at + 2, sizeof(uint64_t), (off_t)(word * sizeof(uint64_t))) != sizeof(uint64_t)) {
            abort();
        }
    }
    if (input[0] & IS_SHORT && ftruncate(damaged->fd, (off_t)(damaged->bytes * input[1] / 256)) != 0) {
        abort();
    }
    *rest = input + at;
    return size - at;
}

#endif
