/* SPDX-License-Identifier: Apache-2.0
 *
 * The real library below a shim: found once, opened by absolute path, and asked for every symbol that is only passed through.
 *
 * The shim has the real library's SONAME, so a name without a path would find the shim itself. Whatever is found is compared with the shim by
 * device and inode, and skipped if it is the same file.
 */
#ifndef MICA_SHIM_BELOW_H
#define MICA_SHIM_BELOW_H

#include <stdbool.h>
#include <stddef.h>

/* What a vendor's shim says of the library below it. */
struct mica_below {
    const char *soname;          /* "libcuda.so.1" */
    const char *variable;        /* environment variable with its absolute path */
    const char *const *names;    /* of the symbols passed through, in the order of their stubs */
    size_t count;
    const bool *denied;          /* which of them are refused where `denies` says so; NULL: none */
    bool (*denies)(void);
    int (*missing)(void);        /* answers a call of a symbol that the library does not have */
    int (*absent)(void);         /* answers every call when there is no library */
    int (*refused)(void);        /* answers every call once the slice's processes are to stop */
};

/* Defined by each shim. */
extern const struct mica_below mica_below;

/* Open the library if it is not open yet. NULL: there is none; said so on stderr, once. */
void *mica_below_open(void);

/* The library's own symbol, or NULL. */
void *mica_below_symbol(const char *name);

/* From now on every passed-through call is refused. */
void mica_below_refuse(void);
bool mica_below_is_refused(void);

#endif
