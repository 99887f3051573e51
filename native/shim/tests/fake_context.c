/* SPDX-License-Identifier: Apache-2.0
 *
 * The fake driver's contexts and modules: making one is the moment at which a test lets the machine change.
 */
#include <stddef.h>

#define PUBLIC __attribute__((visibility("default")))
#define SUCCESS 0

static char a_context;
static char a_module;
static void (*before_next)(void);

/* For tests: what happens while the next context or module is made. */
PUBLIC void fake_before_next(void (*then)(void))
{
    before_next = then;
}

static void happen(void)
{
    void (*then)(void) = before_next;
    before_next = NULL;
    if (then != NULL) {
        then();
    }
}

PUBLIC int cuCtxCreate_v2(void **context, unsigned flags, int device)
{
    (void)flags, (void)device;
    happen();
    *context = &a_context;
    return SUCCESS;
}

/* There is one context, so that it is current whatever was pushed. */
PUBLIC int cuCtxPushCurrent_v2(void *context)
{
    (void)context;
    return SUCCESS;
}

PUBLIC int cuCtxPopCurrent_v2(void **context)
{
    *context = &a_context;
    return SUCCESS;
}

PUBLIC int cuModuleLoadData(void **module, const void *image)
{
    (void)image;
    happen();
    *module = &a_module;
    return SUCCESS;
}

PUBLIC int cuModuleUnload(void *module)
{
    (void)module;
    return SUCCESS;
}
