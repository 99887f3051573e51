"""What stands in the way of a request, for people. Invariant: no number is told but those of the refusal."""

import re
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from mica.cli._quantities import QuantityError, parse_bytes, show_bytes, show_cpus, show_share

MIB: Final = 1 << 20
_AMOUNT: Final = re.compile(r"(?<=at most )\d+|(?<= of )\d+$|^\d+$")
_MOST: Final = re.compile(r"at most (?P<most>\d+)(?P<now> now)?")
_PPM: Final = re.compile(r"\b(\d+) ppm\b")


def _bytes_option(count: int) -> str:
    """As it is shown where that is exact, else in whole MiB, rounded down, so that it passes."""
    shown = show_bytes(count)
    try:
        exact = parse_bytes(shown) == count
    except QuantityError:  # what is shown is rounded to a part of a byte
        exact = False
    return shown if exact else f"{count // MIB}MiB" if count >= MIB else str(count)


def _share_option(share_ppm: int) -> str:
    return f"{share_ppm}ppm" if share_ppm % 100 else show_share(share_ppm)


class Field(Struct, frozen=True):
    """A field of a request that is an amount: what it is, its option, and amounts as people read and type them."""

    what: str
    option: str
    where: str
    show: Callable[[int], str] = str
    typed: Callable[[int], str] = str


FIELDS: Final = {
    "vram_bytes": Field("device memory", "--vram", "device", show_bytes, _bytes_option),
    "share_ppm": Field("compute", "--share", "device", show_share, _share_option),
    "cpu_milli": Field("processors", "--cpu", "node", show_cpus, show_cpus),
    "host_memory_bytes": Field("memory of the node", "--host-memory", "node", show_bytes, _bytes_option),
    "devices": Field("devices of one make on one node", "--devices", "node"),
    "nodes": Field("nodes", "--nodes", "fleet"),
}


class Refusal(Struct, frozen=True):
    """A part of a request that can not be met, as in ``slice.rejected``."""

    field: str
    given: str
    allowed: str

    @property
    def is_now(self) -> bool:
        """Whether more would fit if others left."""
        return self.allowed.endswith(" now")

    def text(self) -> str:
        """``device memory: 200GiB asked, no device has more than 22.17GiB``."""
        about, most = FIELDS.get(self.field), _MOST.fullmatch(self.allowed)
        if about is None or _MOST.match(self.allowed) is None:
            return f"{self.field}: got {self.given}, allowed: {self.allowed}"
        given = _AMOUNT.sub(lambda each: about.show(int(each[0])), self.given)
        if most is None or about.where == "fleet":
            allowed = _AMOUNT.sub(lambda each: about.show(int(each[0])), self.allowed)
            return f"{about.what}: {given} asked, {allowed}"
        amount = int(most["most"])
        if self.is_now:
            return f"{about.what}: {given} asked, " + (
                f"at most {about.show(amount)} is free now on a {about.where} that is large enough"
                if amount
                else f"none is free now on a {about.where} that is large enough"
            )
        return f"{about.what}: {given} asked, no {about.where} has more than {about.show(amount)}"

    def would_pass(self, queue_s: float) -> list[str]:
        """What to ask for instead, where that is known."""
        about, most = FIELDS.get(self.field), _MOST.match(self.allowed)
        said = []
        if about is not None and most is not None and int(most["most"]):
            when = (
                "" if self.is_now or "left" in self.allowed else ", on a device that is empty" if about.where == "device" else ""
            )
            said.append(f"{about.option} {about.typed(int(most['most']))} or less{when}")
        if self.is_now and not queue_s:
            said.append("the same with --queue 10m, once others have left")
        return said


def readable(text: str) -> str:
    """The planner's words, with shares in percent."""
    return _PPM.sub(lambda each: show_share(int(each[1])), text)
