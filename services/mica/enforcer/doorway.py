"""The node's doorway: the runtime directory that one enforcer claims, and the socket at which processes report.

Invariant: at most one living enforcer holds a runtime directory, and no datagram can harm it.
"""

import asyncio
import fcntl
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mica.bus import ServiceError
from mica.region import ATTACH_BYTES, AttachError, AttachMessage, RuntimeDir, decode_attach

MESSAGES_PER_WAKE: Final = 256
_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""

log = logging.getLogger(__name__)


@contextmanager
def claimed(runtime: RuntimeDir) -> Iterator[None]:
    """Hold the runtime directory for as long as the block runs.

    Raises:
        ServiceError: it cannot be written, or another enforcer holds it.
    """
    root = runtime.root
    try:
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(root / "enforcer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServiceError(f"runtime directory {root}: {error.strerror}; it must be a directory to write in") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ServiceError(f"runtime directory {root}: another enforcer holds it; allowed is one per directory") from None
    if not _on_tmpfs(root):
        log.warning("runtime directory %s is not on a tmpfs: regions on a disk make launches wait for it", root)
    try:
        yield
    finally:
        os.close(fd)


def _on_tmpfs(path: Path) -> bool:
    """Whether the file system that holds ``path`` is a tmpfs, by the longest mount point above it."""
    best, kind = "", "tmpfs"
    target = f"{path.resolve()}/"
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, where, type_, *_ = line.split()
            if target.startswith(f"{where.rstrip('/')}/") and len(where) >= len(best):
                best, kind = where, type_
    return kind in ("tmpfs", "ramfs")


class AttachSocket:
    """The datagram socket at which attaching processes report."""

    def __init__(self, runtime: RuntimeDir, on_attach: Callable[[AttachMessage, int], None]) -> None:
        """Bind it. ``on_attach`` gets each sound message and the sender's pid in this namespace, 0 when it has none here.

        Raises:
            ServiceError: it cannot be bound.
        """
        self._path = runtime.attach_socket
        self._on_attach = on_attach
        self.dropped = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        try:
            self._path.parent.mkdir(mode=0o755, exist_ok=True)
            self._path.unlink(missing_ok=True)
            self._socket.bind(str(self._path))
            self._path.chmod(0o666)
        except OSError as error:
            self._socket.close()
            raise ServiceError(f"attach socket {self._path}: {error}") from None
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def close(self) -> None:
        """Stop listening; the file goes, so that a process sees at once that nobody listens."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _receive(self) -> None:
        for _ in range(MESSAGES_PER_WAKE):
            try:
                data, ancillary, _, _ = self._socket.recvmsg(ATTACH_BYTES + 1, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                return
            try:
                message = decode_attach(data)
            except AttachError as error:
                self.dropped += 1
                log.warning("dropped a datagram (%d so far): %s", self.dropped, error)
                continue
            self._on_attach(message, _sender(ancillary))


def _sender(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The pid in the credentials that the kernel put beside the message."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(data) >= _CREDENTIALS.size:
            return int(_CREDENTIALS.unpack_from(data)[0])
    return 0
