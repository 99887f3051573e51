"""Where the node's regions lie. Invariant: ``mica up`` and the commands beside it look in the same place."""

import os
from pathlib import Path
from typing import Final

LONGEST: Final = 88
"""Characters of a runtime directory; with the socket's name it must fit a socket address (108)."""


def runtime_dir() -> Path:
    """MICA_RUNTIME_DIR, or the default: on a tmpfs where there is one."""
    given = os.environ.get("MICA_RUNTIME_DIR")
    return Path(given) if given else default_runtime_dir()


def default_runtime_dir() -> Path:
    """/run/mica for root, else below XDG_RUNTIME_DIR, else /dev/shm: the first that is on a tmpfs."""
    user = os.geteuid()
    candidates = [Path("/run/mica")] if user == 0 else []
    if user != 0 and os.environ.get("XDG_RUNTIME_DIR"):
        candidates.append(Path(os.environ["XDG_RUNTIME_DIR"]) / "mica")
    candidates.append(Path(f"/dev/shm/mica-{user}"))  # noqa: S108 - named for the user, and made 0755 by its first owner
    return next((path for path in candidates if filesystem_of(path) == "tmpfs"), candidates[0])


def filesystem_of(path: Path) -> str:
    """The kind of file system on which ``path`` is, or would be made."""
    where = os.path.realpath(path)
    best, kind = "", "unknown"
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:  # noqa: PTH123 - a kernel file
        for line in mounts:
            _, point, name, *_ = line.split(" ")
            point = point.replace("\\040", " ")
            inside = where == point or where.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, name
    return kind
