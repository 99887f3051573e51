"""Where a slice is, as the node's runtime directory shows it. Invariant: it only reads, and the bus is not asked.

What ``attach.json`` names is where the slice's next process starts; its records in the quota regions say whether one gets in.
"""

from pathlib import Path
from typing import Final

from mica.cli._errors import CliError
from mica.cli.launch.attach import Attach, attach_path, device_ids, read_attach
from mica.cli.launch.deciding import Seen, Sight

OPEN_CONTROLS: Final = frozenset({"run", "throttle", "pause"})
"""Under these control words a process may attach (native/shim/core/attach.c)."""


class RuntimeSight:
    """Looks at one slice in the runtime directory."""

    def __init__(self, root: Path, slice_id: str) -> None:
        """Raises CliError: no slice can have that id."""
        self._root = root
        self._slice_id = slice_id
        self._path = attach_path(root, slice_id)
        self._read: tuple[tuple[int, int], Attach] | None = None

    def attach(self) -> Attach:
        """What a process needs to start now.

        Raises:
            CliError: the slice is not here.
        """
        return read_attach(self._root, self._slice_id)

    def look(self) -> Sight:
        """Where the slice is now."""
        try:
            file = self._path.stat()
        except OSError:
            return Sight(Seen.ABSENT, why=f"no {self._path}")
        version = (file.st_ino, file.st_mtime_ns)
        if self._read is None or self._read[0] != version:
            try:
                self._read = version, self.attach()
            except CliError as error:
                return Sight(Seen.SHUT, why=error.message)
        return self._records(self._read[1])

    def _records(self, attach: Attach) -> Sight:
        sights = [self._record(device_id, attach) for device_id in device_ids(self._root, attach)]
        worst = [sight for seen in (Seen.LEAVING, Seen.SHUT) for sight in sights if sight.seen is seen]
        return worst[0] if worst else Sight(Seen.OPEN, attach.place)

    def _record(self, device_id: str, attach: Attach) -> Sight:
        from mica.region import QuotaRegion, RegionError, RuntimeDir, SliceState

        try:
            with QuotaRegion(RuntimeDir(self._root).quota_path(device_id)) as region:
                index = region.find(self._slice_id)
                limits = region.read(index) if index is not None else None
        except RegionError as error:
            return Sight(Seen.SHUT, why=str(error))
        if limits is None or limits.state is SliceState.DRAINING:
            return Sight(Seen.LEAVING, attach.place, f"it leaves device {device_id}")
        if limits.state is not SliceState.LIVE or limits.control not in OPEN_CONTROLS:
            return Sight(Seen.SHUT, attach.place, f"its control word is {limits.control}")
        return Sight(Seen.OPEN, attach.place)

    def node(self) -> str:
        """The node's name, as far as the slice's file told it."""
        return self._read[1].node if self._read is not None else ""


def usage_owner(root: Path, attach: Attach) -> int | None:
    """The user to whom the slice's usage regions belong: only its processes get in. None in hardware mode.

    Raises:
        CliError: a region is not there.
    """
    from mica.region import RuntimeDir

    owners = set()
    if attach.mode != "hardware":
        for device_id in device_ids(root, attach):
            path = RuntimeDir(root).usage_path(attach.id, device_id)
            try:
                owners.add(path.stat().st_uid)
            except OSError as error:
                raise CliError(f"slice {attach.id}: its usage region {path}: {error.strerror}") from None
    return next(iter(owners), None)
