"""A vendor's library as a test wants it."""

from mica.events import Device
from mica.vendors import DeviceReading, VendorDriver, VendorError


class FakeDriver(VendorDriver):
    """Lists what it is given; devices named in ``failing`` do not answer, and nothing does while ``error`` is set."""

    def __init__(self, *devices: Device, name: str = "nvidia") -> None:
        self.name = name
        self.listed = list(devices)
        self.failing: set[str] = set()
        self.error = ""
        self.closed = 0

    def keys(self) -> tuple[str, ...]:
        if self.error:
            raise VendorError(self.error)
        return tuple(device.id for device in self.listed)

    def describe(self, key: str) -> Device:
        return next(device for device in self.listed if device.id == key)

    def sample(self, device_id: str) -> DeviceReading:
        if device_id in self.failing:
            raise VendorError(f"device {device_id}: GPU is lost")
        return DeviceReading(vram_used_bytes=0, vram_total_bytes=24 << 30)

    def compute_processes(self, device_id: str) -> list[tuple[int, int]]:
        return []

    def close(self) -> None:
        self.closed += 1
