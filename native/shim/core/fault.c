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

/* No printf: a signal handler says something, too. */
static size_t append(char *line, size_t length, const char *text)
{
    size_t bytes = strlen(text);
    if (bytes > LINE_BYTES - 1 - length) {
        bytes = LINE_BYTES - 1 - length;
    }
    memcpy(line + length, text, bytes);
    return length + bytes;
}

void mica_fault_say(const char *slice_name, const char *what, const char *why)
{
    const char *const parts[] = {"mica: slice ", slice_name, ": ", what, ": ", why};
    char line[LINE_BYTES];
    size_t length = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        length = append(line, length, parts[i]);
    }
    line[length++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, length);
    (void)written;
}
