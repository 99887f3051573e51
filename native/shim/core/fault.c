/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES (MICA_FAULT_TEXT + 160)

enum mica_fault_policy mica_fault_policy(struct mica_fault *fault)
{
    const char *text = getenv("MICA_ON_FAULT");
    if (text == NULL || text[0] == '\0' || strcmp(text, "refuse") == 0) {
        return MICA_FAULT_REFUSE;
    }
    if (strcmp(text, "pass") == 0) {
        return MICA_FAULT_PASS;
    }
    snprintf(fault->text, sizeof fault->text, "MICA_ON_FAULT: \"%.64s\" is neither refuse nor pass", text);
    return MICA_FAULT_UNCLEAR;
}

/* No printf: a signal handler says something, too. What the environment says may contain line feeds; what is said is one line all the same. */
static size_t append(char *line, size_t length, const char *text, size_t bytes_max)
{
    size_t bytes = strnlen(text, bytes_max);
    if (bytes > LINE_BYTES - 1 - length) {
        bytes = LINE_BYTES - 1 - length;
    }
    for (size_t i = 0; i < bytes; i++) {
        line[length + i] = text[i];
        if ((unsigned char)text[i] < ' ') {
            line[length + i] = '?';
        }
    }
    return length + bytes;
}

void mica_fault_say(const char *slice_name, const char *what, const char *why)
{
    const char *const parts[] = {"mica: slice ", slice_name, ": ", what, ": ", why};
    char line[LINE_BYTES];
    size_t length = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        length = append(line, length, parts[i], parts[i] == slice_name ? MICA_ID_TEXT - 1 : LINE_BYTES);
    }
    line[length++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, length);
    (void)written;
}
