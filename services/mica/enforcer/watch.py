"""The watch for processes that use a device around the slices: what ``intruders`` decides, done.

Owns the suspicion. Invariant: a signal goes through a descriptor, and only after the vendor has said again, with the descriptor
open, that this process is on the device: so it never reaches a process that came by the pid later.
"""

import asyncio
import logging
import signal
from collections.abc import Iterable, Mapping
from typing import Final

from mica.enforcer.attachments import Attachments
from mica.enforcer.intruders import Action, Member, Sighting, Stranger, Suspicion, Verdict, exceeds, judge
from mica.enforcer.voice import Voice
from mica.enforcer.world import World
from mica.events import IntruderAction

_SIGNAL: Final = {Action.TERMINATED: signal.SIGTERM, Action.KILLED: signal.SIGKILL}

log = logging.getLogger(__name__)


class Watch:
    """One node's watch."""

    def __init__(self, world: World, voice: Voice, attachments: Attachments) -> None:
        self._world = world
        self._voice = voice
        self._attachments = attachments
        self._suspicion: Suspicion = {}

    async def look(self, devices: Iterable[str], rule: IntruderAction) -> bool:
        """Ask the vendors who is on the devices, and do what the rule says; whether there is something to tell."""
        before = self._attachments.members()
        occupants = await asyncio.to_thread(self._occupants, sorted(devices))
        members = _at_most(before, self._attachments.members())
        self._suspicion, verdicts = judge(self._suspicion, self._sightings(occupants, members), rule)
        for verdict in verdicts:
            action = await self._carry_out(verdict)
            stranger, sighting = verdict.stranger, verdict.sighting
            log.warning(
                "process %d holds %d bytes of device %s, of which its slice (%s) knows %d: %s",
                stranger.pid, sighting.vram_bytes, stranger.device_id, sighting.slice_id or "none",
                sighting.charged_bytes, action.name.lower(),
            )  # fmt: skip
            self._voice.intruder(stranger, sighting, action.name.lower())
        return bool(verdicts)

    def _occupants(self, devices: list[str]) -> dict[str, Mapping[int, int]]:
        return {device_id: self._world.occupants.on(device_id) for device_id in devices}

    def _sightings(
        self, occupants: Mapping[str, Mapping[int, int]], members: Mapping[tuple[str, int], Member]
    ) -> dict[Stranger, Sighting]:
        """Everybody who holds what he should not."""
        slice_of = {pid: member.slice_id for (_, pid), member in members.items()}
        found = {}
        for device_id, holders in occupants.items():
            for pid, vram_bytes in holders.items():
                sighting = self._sight(pid, vram_bytes, members.get((device_id, pid)), slice_of)
                identity = self._world.processes.identify(pid) if sighting is not None else None
                if sighting is not None and identity is not None and not identity.of_node:
                    found[Stranger(device_id, pid, identity.started)] = sighting
        return found

    def _sight(self, pid: int, vram_bytes: int, member: Member | None, slice_of: Mapping[int, str]) -> Sighting | None:
        if member is not None:
            if not exceeds(vram_bytes, member.charged_bytes):
                return None
            return Sighting(vram_bytes=vram_bytes, charged_bytes=member.charged_bytes, slice_id=member.slice_id)
        if pid in slice_of:
            return Sighting(vram_bytes=vram_bytes, slice_id=slice_of[pid])
        identity = self._world.processes.identify(pid)
        ancestors = identity.ancestors if identity is not None else ()
        family = next((slice_of[each] for each in ancestors if each in slice_of), "")
        return Sighting(vram_bytes=vram_bytes, slice_id=family, mortal=True)

    async def _carry_out(self, verdict: Verdict) -> Action:
        """Do it; what was really done."""
        number = _SIGNAL.get(verdict.action)
        if number is None:
            return verdict.action
        stranger = verdict.stranger
        process = self._world.processes.open_pid(stranger.pid)
        if process is None:
            return Action.REPORTED
        try:
            holders = await asyncio.to_thread(self._world.occupants.on, stranger.device_id)
            identity = self._world.processes.identify(stranger.pid)
            same = identity is not None and identity.started == stranger.started and not identity.of_node
            if stranger.pid not in holders or not same or stranger.pid in self._attachments.pids():
                return Action.REPORTED
            return verdict.action if process.signal(number) else Action.REPORTED
        finally:
            process.close()


def _at_most(before: Mapping[tuple[str, int], Member], after: Mapping[tuple[str, int], Member]) -> dict[tuple[str, int], Member]:
    """The larger of two readings of each charge: what was freed between them is nobody's lie."""
    return {
        key: member if key not in before or before[key].charged_bytes <= member.charged_bytes else before[key]
        for key, member in {**before, **after}.items()
    }
