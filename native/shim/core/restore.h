/* SPDX-License-Identifier: Apache-2.0
 *
 * The environment of a slice, for processes that were started without it. Shells of an SSH server, and children that are given an environment of their
 * own, have lost MICA_SLICE and all that goes with it. In a container the slice's attach file is mounted at one place, and has it.
 */
#ifndef MICA_SHIM_RESTORE_H
#define MICA_SHIM_RESTORE_H

#include <stdbool.h>

/* Before main, in a process that MICA_SLICE says nothing to: set what the attach file says and the environment does not. False: there is an attach file and it
 * cannot be understood, which has been told; the process is in a slice that is not known. */
bool mica_environment_restore(void);

#endif
