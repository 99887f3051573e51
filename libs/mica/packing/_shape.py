"""What is to be put somewhere. Invariant: equal shapes are alike in every respect that a choice rests on."""

from msgspec import Struct

from mica.packing._errors import PackingError


class Shape(Struct, frozen=True):
    """A piece of work: something of each of ``devices`` devices of one node (0: of none), and of the node's own CPU and memory.

    ``vram_mib`` and ``share_ppm`` are of each device; ``kinds``, numbers of device kinds, are where it may go, anywhere when
    it is None. ``by_kind``: where it needs another amount on every kind, that amount (MiB, ppm) by the kind's number, None
    where it may not go; ``vram_mib`` and ``share_ppm`` are then what it needs on an ordinary one.
    """

    cpu_milli: int
    memory_mib: int
    devices: int = 0
    vram_mib: int = 0
    share_ppm: int = 0
    kinds: frozenset[int] | None = None
    by_kind: tuple[tuple[int, int] | None, ...] = ()

    def __post_init__(self) -> None:
        """Raise PackingError for what is below nothing, or asks for devices and nothing of them."""
        for name in ("cpu_milli", "memory_mib", "devices", "vram_mib", "share_ppm"):
            if getattr(self, name) < 0:
                raise PackingError(f"a shape's {name}: got {getattr(self, name)}, allowed: 0 or more")
        if self.devices and not (self.vram_mib or self.share_ppm):
            raise PackingError(f"a shape of {self.devices} devices: got vram_mib 0 and share_ppm 0, allowed: more than 0 of one")

    def allows(self, kind: int) -> bool:
        """Whether it may be on devices of that kind."""
        return self.needs(kind) is not None

    def needs(self, kind: int) -> tuple[int, int] | None:
        """What it needs (MiB, ppm) of each device of that kind, or None: it may not be there."""
        if self.by_kind:
            return self.by_kind[kind] if kind < len(self.by_kind) else None
        return (self.vram_mib, self.share_ppm) if self.kinds is None or kind in self.kinds else None

    @property
    def milli(self) -> int:
        """Compute of each device, in thousandths of one."""
        return self.share_ppm // 1000

    @property
    def demand_milli(self) -> int:
        """Compute of all its devices together, in thousandths of one."""
        return self.milli * self.devices
