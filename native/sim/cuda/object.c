/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of handles. Invariant: it is never given back to the heap, only to objects of the same kind; a stale handle
 * therefore always points at a mark that can be read.
 */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

struct spare {
    uint32_t mark; /* 0: not an object now */
    uint32_t kind;
    size_t size;
    struct spare *next;
};

static struct spare *spares;

void *sim_object_new(uint32_t mark, size_t size)
{
    for (struct spare **at = &spares; *at; at = &(*at)->next)
        if ((*at)->kind == mark) {
            struct spare *object = *at;
            *at = object->next;
            memset(object, 0, size);
            object->mark = mark;
            return object;
        }
    struct spare *object = calloc(1, size > sizeof *object ? size : sizeof *object);
    if (object)
        object->mark = mark;
    return object;
}

void sim_object_free(void *pointer)
{
    struct spare *object = pointer;
    object->kind = object->mark;
    object->mark = 0;
    object->next = spares;
    spares = object;
}

bool sim_marked(const void *object, uint32_t mark)
{
    uint32_t found = 0;
    if ((uintptr_t)object < 4096 || (uintptr_t)object % _Alignof(uint64_t))
        return false;
    memcpy(&found, object, sizeof found);
    return found == mark;
}
