/* SPDX-License-Identifier: Apache-2.0
 *
 * What the benches' programs have in common: a driver opened as any program opens it, kernels by name, and the word to begin.
 */
#ifndef MICA_BENCH_PROGRAM_H
#define MICA_BENCH_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench_driver {
    int (*init)(unsigned);
    int (*retain)(void **, int);
    int (*set_current)(void *);
    int (*load)(void **, const void *);
    int (*function)(void **, void *, const char *);
    int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
    int (*synchronize)(void);
    int (*event)(void **, unsigned);
    int (*record)(void *, void *);
    int (*wait)(void *);
    int (*allocate)(uint64_t *, size_t);
};

extern struct bench_driver driver;

/* End the program with one line on stderr unless it holds. */
void require(bool holds, const char *what);

/* CLOCK_MONOTONIC. */
uint64_t now_ns(void);
void sleep_until(uint64_t at_ns);

/* Open libcuda.so.1 and make the first device's primary context current. */
void open_driver(void);

/* The kernel of this name, from a module of its own. The simulated driver knows by the name how long it takes. */
void *load_kernel(const char *name);

/* Launch it once, on the default stream. */
void launch_kernel(void *kernel);

#endif
