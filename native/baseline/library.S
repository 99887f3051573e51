/* SPDX-License-Identifier: Apache-2.0
 *
 * A library to link against and never to run: it has the symbols of libc.def that belong to one library (LIBRARY_C, LIBRARY_DL or
 * LIBRARY_PTHREAD is defined), under their versions of glibc 2.17. What is a variable there is a variable here: the linker looks.
 */
    .macro symbol name, version
    .ifc \name, stderr
    .type mica_link_\name, %object
    .else
    .ifc \name, stdout
    .type mica_link_\name, %object
    .else
    .type mica_link_\name, %function
    .endif
    .endif
    .globl mica_link_\name
mica_link_\name:
    .quad 0
    .size mica_link_\name, 8
    .symver mica_link_\name, \name@@GLIBC_\version
    .endm

#if defined(LIBRARY_C)
#define IN_C(name, version) symbol name, version
#else
#define IN_C(name, version)
#endif
#if defined(LIBRARY_DL)
#define IN_DL(name, version) symbol name, version
#else
#define IN_DL(name, version)
#endif
#if defined(LIBRARY_PTHREAD)
#define IN_PTHREAD(name, version) symbol name, version
#else
#define IN_PTHREAD(name, version)
#endif

#if defined(__aarch64__)
#define F(library, name, version) IN_##library(name, 2.17)
#else
#define F(library, name, version) IN_##library(name, version)
#endif

    .data
#include "libc.def"
    .section .note.GNU-stack, "", %progbits
