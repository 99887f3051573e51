/* SPDX-License-Identifier: Apache-2.0 */
#include "activity.h"

#include "library.h"

#include <pthread.h>

#define WINDOW_NS 100000000ULL

/* By slice device: where the window began, and what the last whole one came to. */
static struct {
    uint64_t since_ns, gpu_ns;
    uint64_t busy_ppm; /* of the device's time */
} windows[MICA_DEVICES_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t gpu_ns(const struct mica_device *device)
{
    return atomic_load_explicit(&device->usage->gpu_ns, memory_order_relaxed);
}

void activity_begin(const struct mica_slice *slice)
{
    uint64_t now_ns = mica_monotonic_ns();
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < slice->device_count; i++) {
        windows[i].since_ns = now_ns;
        windows[i].gpu_ns = gpu_ns(&slice->devices[i]);
        windows[i].busy_ppm = 0;
    }
    pthread_mutex_unlock(&lock);
}

unsigned int activity_percent(const struct mica_device *device, uint64_t share_ppm)
{
    size_t index = (size_t)(device - library_slice()->devices);
    uint64_t now_ns = mica_monotonic_ns();
    uint64_t gpu_now_ns = gpu_ns(device);
    pthread_mutex_lock(&lock);
    uint64_t passed_ns = now_ns - windows[index].since_ns;
    uint64_t used_ns = gpu_now_ns > windows[index].gpu_ns ? gpu_now_ns - windows[index].gpu_ns : 0; /* a correction may take time back */
    if (passed_ns >= WINDOW_NS) {
        windows[index].busy_ppm = (uint64_t)((unsigned __int128)used_ns * MICA_PPM / passed_ns);
        windows[index].since_ns = now_ns;
        windows[index].gpu_ns = gpu_now_ns;
    }
    uint64_t busy_ppm = windows[index].busy_ppm;
    pthread_mutex_unlock(&lock);
    uint64_t percent = share_ppm != 0 ? busy_ppm * 100 / share_ppm : 0;
    return percent < 100 ? (unsigned int)percent : 100;
}
