"""A vendor's library as a test wants it."""

from mica.events import Device
from mica.vendors import DeviceReading, VendorError


class FakeDriver:
    """Lists what it is given; devices named in ``failing`` do not answer, and nothing does while ``error`` is set."""

    def __init__(self, *devices: Device, name: str = "nvidia") -> None:
        self.name = name
        self.listed = list(devices)
        self.failing: set[str] = set()
        self.error = ""
        self.closed = 0

    def devices(self) -> tuple[Device, ...]:
        if self.error:
            raise VendorError(self.error)
        return tuple(self.listed)

    def sample(self, device_id: str) -> DeviceReading:
        if device_id in self.failing:
            raise VendorError(f"device {device_id}: GPU is lost")
        return DeviceReading(vram_used_bytes=0, vram_total_bytes=24 << 30)

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        return []

    def close(self) -> None:
        self.closed += 1
