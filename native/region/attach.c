/* SPDX-License-Identifier: Apache-2.0
 *
 * Attaching: one datagram that tells the enforcer which process took which slot. The kernel vouches for the sender.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "region.h"

void mica_attach_fill(struct mica_attach_message *message, uint64_t owner, uint64_t slot, const char *slice_id, const char *device_id)
{
    message->magic = MICA_REGION_MAGIC;
    message->layout_version = MICA_LAYOUT_VERSION;
    message->owner = owner;
    message->slot = slot;
    mica_id_pack(slice_id, message->slice_id);
    mica_id_pack(device_id, message->device_id);
}

int mica_attach_send(const char *socket_path, const struct mica_attach_message *message)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(socket_path);
    if (length >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, socket_path, length + 1);

    struct mica_attach_message copy = *message;
    struct iovec part = {.iov_base = &copy, .iov_len = sizeof copy};
    union {
        struct cmsghdr alignment;
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control = {.bytes = {0}};
    struct msghdr envelope = {
        .msg_name = &address,
        .msg_namelen = sizeof address,
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    struct cmsghdr *credentials = CMSG_FIRSTHDR(&envelope);
    credentials->cmsg_level = SOL_SOCKET;
    credentials->cmsg_type = SCM_CREDENTIALS;
    credentials->cmsg_len = CMSG_LEN(sizeof(struct ucred));
    struct ucred self = {.pid = getpid(), .uid = getuid(), .gid = getgid()};
    memcpy(CMSG_DATA(credentials), &self, sizeof self);

    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    ssize_t sent = sendmsg(fd, &envelope, MSG_DONTWAIT | MSG_NOSIGNAL);
    int rc = sent == (ssize_t)sizeof copy ? 0 : sent < 0 ? -errno : -EMSGSIZE;
    close(fd);
    return rc;
}
