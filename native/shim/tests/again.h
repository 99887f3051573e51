/* SPDX-License-Identifier: Apache-2.0
 *
 * A test program starts itself again, with the shim preloaded and the fake driver below it.
 *
 * MICA_LOADER, where it is set, is a loader or an emulator with its options, under which the program runs: it is put in front again. MICA_RUNTIMES
 * is what must be loaded before the shim: a sanitizer's runtime. An emulator's own libraries are the machine's, so it takes the variable as -E.
 * The library path is for musl, which finds a library by its file's name only.
 */
#ifndef MICA_SHIM_TESTS_AGAIN_H
#define MICA_SHIM_TESTS_AGAIN_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AGAIN_WORDS 16

/* Returns only when it fails. */
static inline void start_again(char **arguments, const char *shim, const char *fake)
{
    static char option[] = "-E";
    static char loader[1024];
    static char preload[4096];
    static char directory[1024];
    char *words[AGAIN_WORDS + 3];
    size_t count = 0;
    const char *runtimes = getenv("MICA_RUNTIMES");
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s %s", runtimes != NULL ? runtimes : "", shim);
    snprintf(loader, sizeof loader, "%s", getenv("MICA_LOADER") != NULL ? getenv("MICA_LOADER") : "");
    snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(shim, '/') - shim), shim);
    for (char *word = strtok(loader, " "); word != NULL && count < AGAIN_WORDS - 2; word = strtok(NULL, " ")) {
        words[count++] = word;
    }
    setenv("MICA_CUDA_DRIVER", fake, 1);
    setenv("LD_LIBRARY_PATH", directory, 1);
    if (count > 0 && strstr(words[0], "qemu") != NULL) {
        words[count++] = option;
        words[count++] = preload;
    } else {
        setenv("LD_PRELOAD", preload + strlen("LD_PRELOAD="), 1);
    }
    words[count] = arguments[0];
    words[count + 1] = NULL;
    execvp(words[0], words);
    perror(words[0]);
}

#endif
