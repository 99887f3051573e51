"""Why something does not fit, as data. Invariant: an answer names the field, what was given and what would have passed."""

from msgspec import Struct

from mica.events import Mode, Placement


class Refusal(Struct, frozen=True):
    """A command that can not be met: ``field`` held ``given`` where ``allowed`` would have passed.

    ``offer``: where it could be met instead.
    """

    field: str
    given: str
    allowed: str
    offer: tuple[Placement, ...] = ()

    @property
    def message(self) -> str:
        """The one line for people."""
        return f"{self.field}: got {self.given}, allowed: {self.allowed}"


class Misfit(Struct, frozen=True):
    """Why one device can not hold one member of a slice.

    ``now`` is the most of ``field`` that fits now, ``ever`` the most that would fit on the empty device. Both are -1 when the
    field is no amount.
    """

    field: str
    reason: str
    now: int = -1
    ever: int = -1
    possible: bool = False
    mode: Mode | None = None


def size_text(vram_bytes: int) -> str:
    """Bytes as people read them, exact when they are whole MiB."""
    if vram_bytes >= 1 << 30:
        return f"{vram_bytes / (1 << 30):.4g} GiB"
    return f"{vram_bytes / (1 << 20):.4g} MiB"
