/* SPDX-License-Identifier: Apache-2.0
 *
 * Preloaded, the shim is libcuda.so.1: it is what dlopen gives, it has every symbol, and what it passes through arrives unchanged.
 *
 * The program starts itself again with the shim preloaded and the fake driver below it.
 */
#define _GNU_SOURCE
#include "again.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int passed;
static int failed;

static void check(int holds, const char *what)
{
    *(holds ? &passed : &failed) += 1;
    if (!holds) {
        printf("FAILED: %s\n", what);
    }
}

static const char *const all_names[] = {
#define PASS(name) #name,
#include "../cuda/symbols.def"
#undef PASS
#include "../cuda/hooks.h"
#define X(type, name, ...) #name,
    CUDA_HOOKS(X)
#undef X
};

static int is_the_shims(const void *symbol)
{
    Dl_info info;
    return symbol != NULL && dladdr(symbol, &info) != 0 && strcmp(info.dli_fname, SHIM_PATH) == 0;
}

/* Also once the driver, which has the same name, is loaded below. */
static void test_ways_in(void)
{
    static const char *const names[] = {"libcuda.so.1", "libcuda.so"};
    for (size_t i = 0; i < 2; i++) {
        void *library = dlopen(names[i], RTLD_NOW);
        check(library != NULL && is_the_shims(dlsym(library, "cuInit")), "dlopen by name gives the preloaded shim");
        check(library != NULL && is_the_shims(dlsym(library, "cuCtxGetCurrent")), "and for what is passed through");
        check(library != NULL && dlopen(names[i], RTLD_NOW | RTLD_NOLOAD) == library, "and every time the same");
    }
    check(is_the_shims(dlsym(RTLD_DEFAULT, "cuInit")), "a program finds the shim's symbols without a library");
    check(is_the_shims(dlsym(RTLD_NEXT, "cuInit")), "and behind its own");
}

static void test_export_table(void *library)
{
    int (*get)(const void **, const void *) = NULL;
    const void *table = NULL;
    *(void **)&get = dlsym(library, "cuGetExportTable");
    check(get(&table, &passed) == 81 && table == &passed, "export tables are the driver's to answer");
}

static void test_symbols(void *library)
{
    int missing = 0;
    for (size_t i = 0; i < sizeof all_names / sizeof all_names[0]; i++) {
        missing += dlsym(library, all_names[i]) == NULL;
    }
    check(missing == 0 && sizeof all_names / sizeof all_names[0] > 700, "every symbol of the driver is exported");
}

static void test_arguments(void *library)
{
    int (*clamp)(void *, float, float) = NULL;
    int (*add_node)(uintptr_t, uintptr_t, uintptr_t, uintptr_t, size_t, uintptr_t, uintptr_t, uintptr_t) = NULL;
    *(void **)&clamp = dlsym(library, "cuTexRefSetMipmapLevelClamp");
    *(void **)&add_node = dlsym(library, "cuGraphAddNode_v2");
    for (int call = 0; call < 2; call++) { /* the first one resolves, the second one jumps */
        check(clamp(&failed, 1.5F, 2.5F) == 77, "floating-point arguments arrive");
        check(add_node(1, 2, 3, 4, 5, 6, 7, 8) == 79, "arguments in registers and on the stack arrive");
    }
}

static void test_missing(void *library)
{
    int (*absent)(void) = NULL;
    *(void **)&absent = dlsym(library, "cuProfilerStart");
    check(absent() == 500, "a symbol that the driver lacks answers CUDA_ERROR_NOT_FOUND");
    *(void **)&absent = dlsym(library, "cuMemFreeAsync_ptsz");
    check(absent() == 500, "a hook that the driver lacks answers CUDA_ERROR_NOT_FOUND");
}

static void test_inner_entry_point(void *library)
{
    int (*get)(const char *, void **, int, uint64_t, int *) = NULL;
    void *function = NULL;
    int status = -1;
    *(void **)&get = dlsym(library, "cuGetProcAddress_v2");
    check(get("cuMemAlloc", &function, 12000, 0, &status) == 0 && function == dlsym(library, "cuMemAlloc_v2"),
          "a driver's answer that is no exported function is mapped by name and version");
    check(get("cuMemAlloc", &function, 2000, 0, &status) == 0 && function == dlsym(library, "cuMemAlloc"), "an old version is given the old function");
    check(get("cuGraphInstantiate", &function, 11000, 0, &status) == 0 && function == dlsym(library, "cuGraphInstantiate_v2"),
          "a name that another function took over is the old one's before");
    check(get("cuGraphInstantiate", &function, 12000, 0, &status) == 0 && function == dlsym(library, "cuGraphInstantiateWithFlags"),
          "and the new one's from that version on");
    check(get("cuNothing", &function, 12000, 0, &status) == 0 && function == NULL && status == 1, "what the driver does not know stays unknown");
    check(get("", &function, 12000, 0, &status) == 0 && function == NULL, "the empty name is the driver's to answer");
}

int main(int count, char **arguments)
{
    (void)count;
    if (getenv("MICA_CUDA_DRIVER") == NULL) {
        unsetenv("MICA_SLICE");
        start_again(arguments, SHIM_PATH, FAKE_PATH);
        return 1;
    }
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library == NULL) {
        printf("FAILED: %s\n0 passed, 1 failed\n", dlerror());
        return 1;
    }
    test_ways_in();
    test_symbols(library);
    test_arguments(library);
    test_missing(library);
    test_inner_entry_point(library);
    test_export_table(library);
    test_ways_in();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
