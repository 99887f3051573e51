/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "program.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct bench_driver driver;

void require(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "tenant: %s\n", what);
        exit(1);
    }
}

uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

void sleep_until(uint64_t at_ns)
{
    struct timespec time = {.tv_sec = (time_t)(at_ns / 1000000000), .tv_nsec = (long)(at_ns % 1000000000)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static void symbol(void *library, const char *name, void *pointer)
{
    void *found = dlsym(library, name);
    require(found != NULL, name);
    memcpy(pointer, &found, sizeof found);
}

void open_driver(void)
{
    void *context;
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    require(library != NULL, "libcuda.so.1 can not be opened");
    symbol(library, "cuInit", &driver.init);
    symbol(library, "cuDevicePrimaryCtxRetain", &driver.retain);
    symbol(library, "cuCtxSetCurrent", &driver.set_current);
    symbol(library, "cuModuleLoadData", &driver.load);
    symbol(library, "cuModuleGetFunction", &driver.function);
    symbol(library, "cuLaunchKernel", &driver.launch);
    symbol(library, "cuCtxSynchronize", &driver.synchronize);
    symbol(library, "cuEventCreate", &driver.event);
    symbol(library, "cuEventRecord", &driver.record);
    symbol(library, "cuEventSynchronize", &driver.wait);
    symbol(library, "cuMemAlloc_v2", &driver.allocate);
    require(driver.init(0) == 0 && driver.retain(&context, 0) == 0 && driver.set_current(context) == 0, "the driver does not start");
}

void *load_kernel(const char *name)
{
    char code[256];
    void *module;
    void *kernel = NULL;
    snprintf(code, sizeof code, ".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry %s() { ret; }\n", name);
    require(driver.load(&module, code) == 0 && driver.function(&kernel, module, name) == 0, name);
    return kernel;
}

void launch_kernel(void *kernel)
{
    require(driver.launch(kernel, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL) == 0, "a launch failed");
}
