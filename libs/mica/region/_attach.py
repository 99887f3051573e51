"""The datagram by which a process tells the enforcer that it has taken a slot.

Invariant: a decoded message holds only ids that are safe in a path; it is foreign input until the sender's credentials agree.
"""

from msgspec import Struct

from mica.region._binding import ffi, lib, unpack_id
from mica.region._errors import AttachError, LimitsError
from mica.region._names import check_device_id, check_slice_id
from mica.region._owner import Owner

ATTACH_BYTES = ffi.sizeof("struct mica_attach_message")


class AttachMessage(Struct, frozen=True):
    """Who attached. ``slot`` is None for a process in hardware mode, which has no slot."""

    slice_id: str
    device_id: str
    owner: int
    slot: int | None

    @property
    def pid(self) -> int:
        """The pid in the process's own namespace."""
        return Owner.of_word(self.owner).pid

    @property
    def start_ticks(self) -> int:
        """The process's start in clock ticks since boot, modulo 2^34."""
        return Owner.of_word(self.owner).start_ticks


def encode_attach(message: AttachMessage) -> bytes:
    """Return the datagram for ``message``.

    Raises:
        LimitsError: an id is not allowed, or there is no such slot.
    """
    if message.slot is not None and not 0 <= message.slot < lib.MICA_PROCESSES_MAX:
        raise LimitsError(f"attach: slot {message.slot}, allowed are 0 to {lib.MICA_PROCESSES_MAX - 1}, or None")
    slot = lib.MICA_PROCESSES_MAX if message.slot is None else message.slot
    out = ffi.new("struct mica_attach_message *")
    slice_id, device_id = check_slice_id(message.slice_id), check_device_id(message.device_id)
    lib.mica_attach_fill(out, message.owner, slot, slice_id.encode(), device_id.encode())
    return bytes(ffi.buffer(out, ATTACH_BYTES))


def decode_attach(data: bytes) -> AttachMessage:
    """Return what a datagram says.

    Raises:
        AttachError: it is no attach message of a layout that this build knows.
    """
    if len(data) != ATTACH_BYTES:
        raise AttachError(f"attach message: {len(data)} bytes, allowed are {ATTACH_BYTES}")
    stored = ffi.new("struct mica_attach_message *")
    ffi.memmove(stored, data, ATTACH_BYTES)
    if stored.magic != lib.MICA_REGION_MAGIC:
        raise AttachError(f"attach message: magic {stored.magic:#x}, allowed is {lib.MICA_REGION_MAGIC:#x}")
    if stored.layout_version != lib.MICA_LAYOUT_VERSION:
        raise AttachError(f"attach message: layout {stored.layout_version}, allowed is {lib.MICA_LAYOUT_VERSION}")
    if stored.slot > lib.MICA_PROCESSES_MAX:
        raise AttachError(f"attach message: slot {stored.slot}, allowed are 0 to {lib.MICA_PROCESSES_MAX}")
    try:
        slice_id, device_id = check_slice_id(unpack_id(stored.slice_id)), check_device_id(unpack_id(stored.device_id))
    except LimitsError as error:
        raise AttachError(f"attach message: {error}") from None
    slot = None if stored.slot == lib.MICA_PROCESSES_MAX else int(stored.slot)
    return AttachMessage(slice_id, device_id, int(stored.owner), slot)
