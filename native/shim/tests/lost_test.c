/* SPDX-License-Identifier: Apache-2.0
 *
 * A region that is truncated between its check and its first use: the process that attaches is told, and not ended. The program starts itself again for each
 * case, preloaded with what truncates and with the shim, over the fake driver.
 */
#define _GNU_SOURCE
#include "in_slice.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "../cuda/types.h"

static const struct scene {
    const char *sentence;
    const char *file;
    const char *kind;
    const char *policy;
    CUresult answer;
} scenes[] = {
    {"a usage region that is truncated while a process attaches refuses it", ".usage", "usage", "refuse", CUDA_ERROR_NOT_PERMITTED},
    {"or lets it pass, if that is the policy", ".usage", "usage", "pass", CUDA_SUCCESS},
    {"and so does a quota region", "/quota", "quota", "refuse", CUDA_ERROR_NOT_PERMITTED},
    {"by either policy", "/quota", "quota", "pass", CUDA_SUCCESS},
};
#define SCENES (sizeof scenes / sizeof scenes[0])

static int inside(void)
{
    CUresult (*initialise)(unsigned) = NULL;
    CUresult (*allocate)(CUdeviceptr *, size_t) = NULL;
    CUdeviceptr address = 0;
    const struct scene *scene = &scenes[atoi(getenv("LOST_SCENE"))];
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library == NULL) {
        return 1;
    }
    *(void **)&initialise = dlsym(library, "cuInit");
    *(void **)&allocate = dlsym(library, "cuMemAlloc_v2");
    return initialise(0) != scene->answer || allocate(&address, 1) != scene->answer;
}

/* One line on what the program wrote, which says what was lost. */
static bool is_told(const char *path, const struct scene *scene)
{
    char text[1024];
    char wanted[256];
    int fd = open(path, O_RDONLY);
    ssize_t length = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    close(fd);
    if (length <= 0) {
        return false;
    }
    text[length] = '\0';
    snprintf(wanted, sizeof wanted, "mica: slice " BENCH_SLICE ": %s: its %s region was truncated under it: device: " BENCH_DEVICE "\n",
             strcmp(scene->policy, "pass") == 0 ? "not enforced any more" : "refused from now on", scene->kind);
    bool is_right = strcmp(text, wanted) == 0;
    if (!is_right) {
        printf("# told: %s", text);
    }
    return is_right;
}

/* True: the program of the scene ended normally, with the answers that it should have, and told. Regions are made anew each time. */
static bool play(char **arguments, size_t index)
{
    const struct scene *scene = &scenes[index];
    int status = 1;
    char number[8];
    char runtimes[1024];
    char told[256];
    strcpy(bench_dir, "/dev/shm/mica-shim-XXXXXX");
    if (bench_slice_make(1ULL << 30) != 0) {
        return false;
    }
    snprintf(told, sizeof told, "%s", bench_path("/told"));
    fflush(stdout);
    if (fork() == 0) {
        snprintf(number, sizeof number, "%zu", index);
        snprintf(runtimes, sizeof runtimes, "%s %s", getenv("MICA_RUNTIMES") != NULL ? getenv("MICA_RUNTIMES") : "", TRUNCATING_PATH);
        setenv("LOST_SCENE", number, 1);
        setenv("MICA_RUNTIMES", runtimes, 1);
        setenv("TRUNCATED_FILE", scene->file, 1);
        setenv("MICA_ON_FAULT", scene->policy, 1);
        bench_slice_enter();
        dup2(open(told, O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
        start_again(arguments, SHIM_PATH, FAKE_PATH);
        _exit(1);
    }
    wait(&status);
    bool is_right = status == 0 && is_told(told, scene);
    return bench_slice_remove() == 0 && is_right;
}

int main(int count, char **arguments)
{
    unsigned failed = 0;
    (void)count;
    if (getenv("MICA_SLICE") != NULL) {
        return inside();
    }
    for (size_t i = 0; i < SCENES; i++) {
        bool is_right = play(arguments, i);
        failed += !is_right;
        printf("%s %zu - %s\n", is_right ? "ok" : "not ok", i + 1, scenes[i].sentence);
    }
    printf("%zu passed, %u failed\n", SCENES - failed, failed);
    return failed != 0;
}
