/* SPDX-License-Identifier: Apache-2.0
 *
 * What a C test needs: checks, a sentence for each test, and the closing line. A failed check prints and goes on.
 */
#ifndef MICA_TESTS_CHECK_H
#define MICA_TESTS_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned check_failures, check_tests_passed, check_tests_failed;

#define CHECK(condition)                                                                                                                   \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            printf("# %s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                                                             \
            check_failures++;                                                                                                              \
        }                                                                                                                                  \
    } while (0)

#define CHECK_EQUAL(observed, expected)                                                                                                    \
    do {                                                                                                                                   \
        long long check_observed = (long long)(observed), check_expected = (long long)(expected);                                          \
        if (check_observed != check_expected) {                                                                                            \
            printf("# %s:%d: %s is %lld, expected %lld\n", __FILE__, __LINE__, #observed, check_observed, check_expected);                 \
            check_failures++;                                                                                                              \
        }                                                                                                                                  \
    } while (0)

/* Run one test; `sentence` says what must hold. */
static inline void check_run(void (*test)(void), const char *sentence)
{
    unsigned before = check_failures;
    test();
    bool passed = check_failures == before;
    *(passed ? &check_tests_passed : &check_tests_failed) += 1;
    printf("%s %u - %s\n", passed ? "ok" : "not ok", check_tests_passed + check_tests_failed, sentence);
    fflush(stdout);
}

static inline int check_finish(void)
{
    printf("%u passed, %u failed\n", check_tests_passed, check_tests_failed);
    return check_tests_failed == 0 ? 0 : 1;
}

/* --- A directory of the test's own, removed with the files named in it ----------------------------------------------- */

static char check_directory[64];

static inline const char *check_path(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    if (check_directory[0] == '\0') {
        snprintf(check_directory, sizeof check_directory, "/tmp/mica-test-XXXXXX");
        if (mkdtemp(check_directory) == NULL) {
            perror("mkdtemp");
            exit(2);
        }
    }
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", check_directory, name);
    return path;
}

static inline void check_remove(const char *const *names)
{
    for (; *names != NULL; names++)
        unlink(check_path(*names));
    if (rmdir(check_directory) < 0)
        perror(check_directory);
}

/* The same numbers in every run: xorshift64*. */
static inline uint64_t check_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dULL;
}

#endif
