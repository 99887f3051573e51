/* SPDX-License-Identifier: Apache-2.0
 *
 * The quota region as a shim reads it: whatever its bytes, it is refused as a whole, or every record is read or found to be busy, and what a record says
 * can be reckoned with.
 */
#define _GNU_SOURCE
#include "damaged.h"

static void reckon(struct mica_usage_region *usage, const struct mica_slice_limits *limits)
{
    uint64_t now_ns = 1000000000000ULL;
    (void)mica_window_wait(limits, limits->burst_ns, now_ns);
    (void)mica_rate_admit(usage, limits, 1000000, now_ns);
    (void)mica_rate_wait(usage, limits, now_ns);
    mica_rate_charge(usage, limits, 1000000);
    mica_rate_correct(usage, limits, 1000000, 2000000);
    uint64_t tag_ns = mica_order_enter(usage, NULL, limits, now_ns);
    mica_order_charge(usage, NULL, limits, tag_ns, 1000000, now_ns);
}

#ifdef BROKEN_TRUSTS_LENGTH /* a reader that maps what it expects to be there */
static int map(const char *path, void **region)
{
    int fd = open(path, O_RDONLY);
    *region = mmap(NULL, sizeof(struct mica_quota_region), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    return MICA_REGION_OK;
}
#else
static int map(const char *path, void **region)
{
    return mica_region_map(path, MICA_REGION_QUOTA, false, region);
}
#endif

int LLVMFuzzerTestOneInput(const unsigned char *input, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *input, size_t size)
{
    static struct damaged damaged;
    static struct mica_usage_region usage;
    const unsigned char *rest;
    void *region = NULL;
    uint64_t slice_id[MICA_ID_WORDS];
    (void)damaged_patch(&damaged, MICA_REGION_QUOTA, input, size, &rest);
    if (map(damaged.path, &region) != MICA_REGION_OK) {
        return 0;
    }
    for (unsigned i = 0; i < MICA_SLICES_MAX; i++) {
        struct mica_slice_limits limits;
        if (mica_quota_read(region, i, &limits) == 0) {
            reckon(&usage, &limits);
        }
    }
    struct mica_slice_limits found;
    mica_id_pack(FUZZ_SLICE, slice_id);
    (void)mica_quota_find(region, slice_id, &found);
    mica_region_unmap(region, MICA_REGION_QUOTA);
    return 0;
}
