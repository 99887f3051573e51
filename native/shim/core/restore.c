/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "restore.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Written by the enforcer (services/mica/enforcer/tenancy.py): JSON without spaces, with the object "env" of strings before the mounts. */
#define ATTACH_FILE "/run/mica/attach.json"
#define FILE_BYTES 16384
#define ENV_BEGIN "\"env\":{"

static bool damaged(const char *why)
{
    fprintf(stderr, "mica: %s: %s\n", ATTACH_FILE, why);
    return false;
}

/* A string of JSON at `*at`, which is moved behind it; its end is made the string's. NULL: none, or one with escapes, which nothing here needs. */
static char *take_string(char **at)
{
    char *text = *at + 1;
    size_t length = (*at)[0] == '"' ? strcspn(text, "\"\\") : 0;
    if ((*at)[0] != '"' || text[length] != '"') {
        return NULL;
    }
    text[length] = '\0';
    *at = text + length + 1;
    return text;
}

/* "NAME":"VALUE",...} */
static bool take_variables(char *at)
{
    for (;;) {
        char *name = take_string(&at);
        char *value = name != NULL && *at++ == ':' ? take_string(&at) : NULL;
        if (value == NULL) {
            return damaged("not an attach file, or a damaged one");
        }
        if (strcmp(name, "LD_PRELOAD") != 0) { /* too late for this process, and its children were not asked */
            setenv(name, value, 0);
        }
        if (*at == '}') {
            return true;
        }
        at += *at == ',';
    }
}

bool mica_environment_restore(void)
{
    char content[FILE_BYTES + 1];
    int fd = getenv("MICA_SLICE") == NULL ? open(ATTACH_FILE, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        return true;
    }
    ssize_t length = read(fd, content, FILE_BYTES);
    close(fd);
    if (length < 0) {
        return damaged(strerror(errno));
    }
    content[length] = '\0';
    char *variables = strstr(content, ENV_BEGIN);
    return variables != NULL ? take_variables(variables + strlen(ENV_BEGIN)) : damaged("not an attach file, or a damaged one");
}
