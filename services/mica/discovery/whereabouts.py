"""What this node is, and when that is asked.

Invariant: a cloud's metadata service is asked only where the firmware names a cloud that has one and nobody has said otherwise,
and never again in a boot once it has answered.
"""

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.bus import Bus, BusError
from mica.discovery.inventory import Identity
from mica.events import Inventory, Site
from mica.site import FIRMWARE_DIR, SERVICES, MetadataError, SiteError, ask_metadata, parse_site, read_firmware, recognise

METADATA: Final = "MICA_METADATA"
SITE: Final = "MICA_SITE"
ASKED: Final = "dmi+metadata"
ASK_AGAIN_SURVEYS: Final = 30
"""A service that did not answer is asked again after that many surveys."""

log = logging.getLogger(__name__)


class Sources(Struct, frozen=True, kw_only=True):
    """Where it may be learnt. ``words`` is what an operator says; ``address`` where to ask instead of the cloud's own."""

    words: Site | None = None
    metadata: bool = True
    simulated: bool = False
    firmware_dir: Path = FIRMWARE_DIR
    address: tuple[str, int] | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, *, simulated: bool) -> "Sources":
        """Read MICA_SITE and MICA_METADATA. A simulated node is not this machine: only an operator can say what it is.

        Raises:
            SiteError: one of them says something else than it can.
        """
        words, metadata = environment.get(SITE), environment.get(METADATA) or "on"
        if metadata not in ("on", "off"):
            raise SiteError(f"{METADATA}: got {metadata[:80]!r}, allowed: on, off")
        return cls(words=parse_site(words) if words else None, metadata=metadata == "on", simulated=simulated)


class Locator:
    """Answers with what is known, and asks when it may."""

    def __init__(self, bus: Bus, identity: Identity, sources: Sources) -> None:
        self._bus = bus
        self._identity = identity
        self._sources = sources
        self._site: Site | None = None
        self._settled = False
        self._left = 0
        self._complaint = ""

    async def site(self) -> Site:
        """What this node is, as far as it is known now."""
        self._left -= 1
        if self._site is None or (not self._settled and self._left <= 0):
            known = await self._known()
            self._site = await asyncio.to_thread(self._locate, known)
            self._left = ASK_AGAIN_SURVEYS
        return self._site

    async def _known(self) -> Site:
        """What was written earlier in this boot."""
        try:
            entry = await self._bus.state.get(f"inventory.{self._identity.node}", Inventory)
        except BusError:
            return Site()
        return entry.value.site if entry is not None and entry.value.boot_id == self._identity.boot_id else Site()

    def _locate(self, known: Site) -> Site:
        sources = self._sources
        self._settled = True
        if sources.simulated:
            return sources.words or Site()
        found = recognise(read_firmware(sources.firmware_dir))
        if sources.words is not None:
            return over(found, sources.words)
        if not sources.metadata or found.cloud not in SERVICES:
            return found
        if known.cloud == found.cloud and known.source == ASKED:
            return known
        try:
            told = ask_metadata(found.cloud, address=sources.address)
        except MetadataError as error:
            self._settled = False
            self._complain(f"metadata service of {found.cloud}: {error}; described by its firmware alone")
            return found
        return replace(told, product=found.product, source=ASKED)

    def _complain(self, complaint: str) -> None:
        """Once per cause."""
        if complaint != self._complaint:
            log.warning("%s", complaint)
        self._complaint = complaint


def over(found: Site, words: Site) -> Site:
    """An operator's words, and what the firmware says where there are none; nothing of another cloud's."""
    base = found if words.cloud in ("", found.cloud) else Site(product=found.product)
    given = {name: getattr(words, name) for name in Site.__struct_fields__}
    return replace(base, **{name: value for name, value in given.items() if value})
