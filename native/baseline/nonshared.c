/* SPDX-License-Identifier: Apache-2.0
 *
 * What no C library of the baseline has under one name: linked into each shim, and hidden there.
 *
 * glibc had stat, fstat and pthread_atfork in a static part of itself until they moved into the shared one (2.33, 2.34); musl always had them in
 * the shared one. The headers of newer glibcs turn number parsing into functions of C23 (2.38); the older ones do for every text that mica reads.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HIDDEN __attribute__((visibility("hidden")))

/* The kernel's structure is the C library's: both have these offsets on the 64-bit machines that mica is built for. */
#if defined(__x86_64__)
_Static_assert(sizeof(struct stat) == 144 && offsetof(struct stat, st_mode) == 24 && offsetof(struct stat, st_size) == 48, "struct stat");
#elif defined(__aarch64__)
_Static_assert(sizeof(struct stat) == 128 && offsetof(struct stat, st_mode) == 16 && offsetof(struct stat, st_size) == 48, "struct stat");
#else
#error "compare struct stat with the kernel's before building for this machine"
#endif

HIDDEN int stat(const char *path, struct stat *status)
{
    return (int)syscall(SYS_newfstatat, AT_FDCWD, path, status, 0);
}

HIDDEN int fstat(int fd, struct stat *status)
{
    return (int)syscall(SYS_fstat, fd, status);
}

/* What gcc's atomics ask on aarch64. */
HIDDEN unsigned long __getauxval(unsigned long type)
{
    return getauxval(type);
}

typedef void (*at_fork)(void);

extern int glibc_register_atfork(at_fork before, at_fork in_parent, at_fork in_child, void *library) __asm__("__register_atfork") __attribute__((weak));
extern void *const dso_handle __asm__("__dso_handle") HIDDEN;

/* Ours is hidden, so that asking the loader for the name finds musl's. */
HIDDEN int pthread_atfork(at_fork before, at_fork in_parent, at_fork in_child)
{
    if (glibc_register_atfork != NULL) {
        return glibc_register_atfork(before, in_parent, in_child, (void *)(uintptr_t)&dso_handle);
    }
    int (*musl)(at_fork, at_fork, at_fork) = NULL;
    *(void **)&musl = dlsym(RTLD_DEFAULT, "pthread_atfork");
    return musl != NULL ? musl(before, in_parent, in_child) : ENOSYS;
}

extern int older_vsscanf(const char *text, const char *format, va_list into) __asm__("__isoc99_vsscanf");
extern long older_strtol(const char *text, char **end, int base) __asm__("strtol");
extern unsigned long older_strtoul(const char *text, char **end, int base) __asm__("strtoul");
extern long long older_strtoll(const char *text, char **end, int base) __asm__("strtoll");
extern unsigned long long older_strtoull(const char *text, char **end, int base) __asm__("strtoull");

HIDDEN int __isoc23_sscanf(const char *text, const char *format, ...)
{
    va_list into;
    va_start(into, format);
    int count = older_vsscanf(text, format, into);
    va_end(into);
    return count;
}

HIDDEN long __isoc23_strtol(const char *text, char **end, int base)
{
    return older_strtol(text, end, base);
}

HIDDEN unsigned long __isoc23_strtoul(const char *text, char **end, int base)
{
    return older_strtoul(text, end, base);
}

HIDDEN long long __isoc23_strtoll(const char *text, char **end, int base)
{
    return older_strtoll(text, end, base);
}

HIDDEN unsigned long long __isoc23_strtoull(const char *text, char **end, int base)
{
    return older_strtoull(text, end, base);
}
