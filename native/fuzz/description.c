/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated node's description: whatever its text, it is read, or refused with one line that says where.
 */
#include "../sim/engine/engine.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *input, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *input, size_t size)
{
    static struct sim_node node;
    char problem[256] = "";
    char *text = malloc(size + 1);
    memcpy(text, input, size);
    text[size] = 0;
#ifdef BROKEN_COPIES_A_LINE /* into room for what lines usually are */
    char line[64];
    if (strcpy(line, text)[0] == '#') {
        text[0] = '#';
    }
#endif
    if (sim_description_parse(text, &node, problem, sizeof problem) != 0 && problem[0] == 0) {
        abort(); /* refused without a word */
    }
    free(text);
    return 0;
}
