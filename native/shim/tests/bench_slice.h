/* SPDX-License-Identifier: Apache-2.0
 *
 * A slice on the fake driver's device, for a test program that then starts itself again inside it.
 */
#ifndef MICA_SHIM_TESTS_BENCH_SLICE_H
#define MICA_SHIM_TESTS_BENCH_SLICE_H

#include "../../region/region.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define BENCH_DEVICE "GPU-00000000-0000-0000-0000-000000000001"
#define BENCH_SLICE "bench"

static char bench_dir[] = "/dev/shm/mica-shim-XXXXXX";

static inline const char *bench_path(const char *below)
{
    static char path[256];
    const char *dir = getenv("MICA_RUNTIME_DIR");
    snprintf(path, sizeof path, "%s%s", dir != NULL ? dir : bench_dir, below);
    return path;
}

static inline const char *bench_usage_path(void)
{
    return bench_path("/slices/" BENCH_SLICE "/" BENCH_DEVICE ".usage");
}

/* The slice's record: all of the compute, with a burst that never ends. */
static inline struct mica_slice_limits bench_slice_limits(uint64_t vram_limit_bytes)
{
    struct mica_slice_limits limits = {.state = MICA_SLICE_LIVE,
                                       .generation = 1,
                                       .vram_limit_bytes = vram_limit_bytes,
                                       .share_ppm = MICA_PPM,
                                       .ceiling_ppm = MICA_PPM,
                                       .burst_ns = 1ULL << 50};
    mica_id_pack(BENCH_SLICE, limits.slice_id);
    return limits;
}

static inline void bench_slice_put(const struct mica_slice_limits *limits)
{
    void *quota = NULL;
    if (mica_region_map(bench_path("/devices/" BENCH_DEVICE "/quota"), MICA_REGION_QUOTA, true, &quota) == MICA_REGION_OK) {
        mica_quota_heartbeat(quota, mica_monotonic_ns());
        mica_quota_write(quota, 0, limits);
        mica_region_unmap(quota, MICA_REGION_QUOTA);
    }
}

static inline void bench_slice_write_limits(uint64_t vram_limit_bytes, uint64_t pinned_limit_bytes, uint64_t control)
{
    struct mica_slice_limits limits = bench_slice_limits(vram_limit_bytes);
    limits.pinned_limit_bytes = pinned_limit_bytes;
    limits.control = control;
    bench_slice_put(&limits);
}

static inline void bench_slice_write(uint64_t vram_limit_bytes, uint64_t control)
{
    bench_slice_write_limits(vram_limit_bytes, 0, control);
}

static inline int bench_slice_make(uint64_t vram_limit_bytes)
{
    static const char *const dirs[] = {"/devices", "/devices/" BENCH_DEVICE, "/slices", "/slices/" BENCH_SLICE};
    if (mkdtemp(bench_dir) == NULL) {
        return -1;
    }
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        mkdir(bench_path(dirs[i]), 0755);
    }
    mica_region_create(bench_usage_path(), MICA_REGION_USAGE, BENCH_DEVICE, BENCH_SLICE, 0600);
    mica_region_create(bench_path("/devices/" BENCH_DEVICE "/quota"), MICA_REGION_QUOTA, BENCH_DEVICE, NULL, 0644);
    bench_slice_write(vram_limit_bytes, MICA_CONTROL_RUN);
    return 0;
}

/* For programs started from now on. */
static inline void bench_slice_enter(void)
{
    setenv("MICA_RUNTIME_DIR", bench_dir, 1);
    setenv("MICA_SLICE", BENCH_SLICE, 1);
}

static inline int bench_slice_remove(void)
{
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", bench_dir);
    return system(command) != 0;
}

#endif
