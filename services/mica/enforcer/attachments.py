"""The processes inside the node's slices.

Owns one descriptor per process slot that is held, and one per process of a hardware partition. Invariant: a slot is
reclaimed once, and only when its owner is really gone.
"""

from collections.abc import Callable, Container, Iterable, Iterator

from mica.enforcer.intruders import Member
from mica.enforcer.places import Holder, Place, Reading
from mica.enforcer.ports import Process, Processes, Regions

NO_SLOT = -1
"""Stands in a holder for a process in hardware mode; its owner is the host's pid."""


class Attachments:
    """Who is attached where."""

    def __init__(self, processes: Processes, regions: Regions, on_exit: Callable[[Place, int], None]) -> None:
        """``on_exit`` is called with the place and the host's pid after a process is gone and its slot is free."""
        self._processes = processes
        self._regions = regions
        self._on_exit = on_exit
        self._watched: dict[Place, dict[Holder, Process]] = {}

    def attach(self, place: Place, holder: Holder, hint: int) -> Process | None:
        """Watch the process that says it took a slot; None when it is watched already or gone."""
        if holder in self._watched.get(place, {}):
            return None
        process = self._processes.open_owner(place, holder.owner, hint)
        if process is not None:
            self._watch(place, holder, process)
        return process

    def admit(self, place: Place, pid: int) -> Process | None:
        """Watch a process in a hardware partition; None when it is watched already or gone."""
        holder = Holder(NO_SLOT, pid)
        if holder in self._watched.get(place, {}):
            return None
        process = self._processes.open_pid(pid)
        if process is not None:
            self._watch(place, holder, process)
        return process

    def sweep(self, place: Place, reading: Reading) -> list[tuple[Holder, Process]]:
        """Find the owners of slots that nobody told about: watch those that live, reclaim from those that are gone.

        Returns:
            The processes that are watched from now on.
        """
        adopted = []
        watched = self._watched.get(place, {})
        for holder in reading.holders:
            if holder in watched:
                continue
            process = self.attach(place, holder, 0)
            if process is not None:
                adopted.append((holder, process))
            else:
                self._regions.reclaim(place, holder.slot, holder.owner)
        return adopted

    def signal(self, place: Place, number: int) -> bool:
        """Send a signal to every process of a place; whether there was any."""
        processes = list(self._watched.get(place, {}).values())
        for process in processes:
            process.signal(number)
        return bool(processes)

    def signal_one(self, place: Place, holder: Holder, number: int) -> bool:
        """Send a signal to one process of a place; False when it is gone."""
        process = self._watched.get(place, {}).get(holder)
        return process is not None and process.signal(number)

    def holders(self, place: Place) -> tuple[Holder, ...]:
        """The slots whose processes are watched."""
        return tuple(self._watched.get(place, ()))

    def pid_of(self, place: Place, holder: Holder) -> int:
        """The host's pid of a watched process."""
        return self._watched[place][holder].pid

    def signal_pids(self, places: Iterable[Place], pids: Container[int], number: int) -> None:
        """Send a signal to those processes of the places."""
        for place in places:
            for process in list(self._watched.get(place, {}).values()):
                if process.pid in pids:
                    process.signal(number)

    def charged(self, place: Place) -> dict[int, int]:
        """By host's pid, the device memory that each process of the place has charged, in bytes."""
        charges = self._regions.charges(place)
        found: dict[int, int] = {}
        for holder, process in self._watched.get(place, {}).items():
            found[process.pid] = found.get(process.pid, 0) + charges.get(holder, 0)
        return found

    def places(self) -> Iterator[Place]:
        """The places with processes."""
        yield from self._watched

    def pids(self) -> frozenset[int]:
        """The host's pids of all processes inside slices."""
        return frozenset(process.pid for processes in self._watched.values() for process in processes.values())

    def members(self) -> dict[tuple[str, int], Member]:
        """By device and host's pid, the slice of each process and what it has charged there: nothing in a partition."""
        found: dict[tuple[str, int], Member] = {}
        for place, processes in self._watched.items():
            charges = self._regions.charges(place)
            for holder, process in processes.items():
                key = (place.device_id, process.pid)
                before = found[key].charged_bytes if key in found else 0
                found[key] = Member(place.slice_id, before + charges.get(holder, 0))
        return found

    def guests(self, place: Place) -> frozenset[int]:
        """The host's pids of the processes in a hardware partition."""
        return frozenset(process.pid for holder, process in self._watched.get(place, {}).items() if holder.slot == NO_SLOT)

    def close(self) -> None:
        """Let go of every process; nothing is reclaimed."""
        for processes in self._watched.values():
            for process in processes.values():
                process.close()
        self._watched.clear()

    def _watch(self, place: Place, holder: Holder, process: Process) -> None:
        self._watched.setdefault(place, {})[holder] = process
        process.on_exit(lambda: self._gone(place, holder))

    def _gone(self, place: Place, holder: Holder) -> None:
        processes = self._watched[place]
        process = processes.pop(holder)
        if not processes:
            del self._watched[place]
        if holder.slot != NO_SLOT:
            self._regions.reclaim(place, holder.slot, holder.owner)
        process.close()
        self._on_exit(place, process.pid)
