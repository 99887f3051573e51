"""vNPUs of a chip: listed, made and destroyed through DCMI, or through npu-smi where this libdcmi lacks the call.

Invariant: what is listed is what exists, whoever made it.
"""

import ctypes
from contextlib import suppress
from typing import Final

from msgspec import Struct

from mica.vendors._port import VendorError
from mica.vendors.huawei import _smi
from mica.vendors.huawei._abi import AUTOMATIC, UNKNOWN_SHORT, Code, TotalResource, VdevCommand, VdevMade, VdevQuery, VdevRequest
from mica.vendors.huawei._library import Chip, Dcmi, DcmiError

_LACKING: Final = frozenset({Code.MISSING, Code.INVALID_PARAMETER})
"""No such call; or one of another signature: older ones of dcmi_create_vdevice took the number and the name themselves."""
USED: Final = 1
WHY: Final = {
    Code.NOT_SUPPORTED: "this chip has no vNPUs",
    Code.NOT_PERMITTED: "vNPUs are not for this user, or not from inside a container",
    Code.NOT_IN_CONTAINER: "vNPUs are not to be had from inside a container",
}
"""Why a chip can only be had whole, by what DCMI answers."""


class Vnpu(Struct, frozen=True):
    """One that exists. ``used``: a container has it."""

    number: int
    template: str
    used: bool


class Totals(Struct, frozen=True):
    """What DCMI says of a chip as a whole; 0: not known."""

    cpus: int
    jpegs: int
    vnpus: tuple[Vnpu, ...]


def wrong_mode(dcmi: Dcmi, chip: Chip) -> str:
    """Why vNPUs can not be made for containers here, by the modes of the server and of the card; empty: they can."""
    server, card = ctypes.c_int(), ctypes.c_ubyte()
    for name, arguments, mode, why in (
        ("dcmi_get_vdevice_mode", (), server, "vNPUs are for virtual machines here (npu-smi set -t vnpu-mode -d 0)"),
        (
            "dcmi_get_npu_work_mode",
            (chip.card,),
            card,
            "this card is in SMP mode; vNPUs take AMP mode (ipmcset -d npuworkmode -v 0)",
        ),
    ):
        with suppress(DcmiError):  # one that is not told is the usual one
            dcmi.call(name, *arguments, ctypes.byref(mode))
            if mode.value:
                return why
    return ""


def totals(dcmi: Dcmi, chip: Chip) -> Totals:
    """What the chip has, and its vNPUs. Raises VendorError."""
    try:
        total = dcmi.vdev(chip, VdevCommand.TOTAL, TotalResource())
    except DcmiError as error:
        if error.code not in _LACKING:
            raise
        return Totals(0, 0, tuple(Vnpu(*each) for each in _smi.vnpus(chip)))
    cpus = total.computing.device_aicpu
    found = tuple(_vnpu(dcmi, chip, number) for number in dcmi.numbers(chip, total))
    return Totals(0 if cpus == UNKNOWN_SHORT else cpus, max(0, int(total.media.jpegd)), found)


def listed(dcmi: Dcmi, chip: Chip) -> tuple[Vnpu, ...]:
    """The chip's vNPUs; none where they are not to be had. Raises VendorError."""
    try:
        return totals(dcmi, chip).vnpus
    except DcmiError as error:
        if error.code not in WHY:
            raise
        return ()


def create(dcmi: Dcmi, chip: Chip, template: str, number: int) -> None:
    """Make a vNPU under that number, or none.

    Raises:
        DcmiError: the chip refuses; its code says why.
        VendorError: npu-smi refuses, or the chip chose another number.
    """
    # The vGroup is left to the chip: newer drivers take no other, and which cores it has does not show in it.
    request, made = VdevRequest(number, AUTOMATIC, template.encode()), VdevMade()
    try:
        dcmi.call("dcmi_create_vdevice", chip.card, chip.device, ctypes.byref(request), ctypes.byref(made))
    except DcmiError as error:
        if error.code not in _LACKING:
            raise DcmiError(f"chip {chip.key}: make {template} as {number}", error.code) from None
        _smi.create(chip, template, number)
        return
    if made.vdev_id != number:
        destroy(dcmi, chip, made.vdev_id)
        raise VendorError(f"chip {chip.key}: asked for vNPU {number}, the chip made {made.vdev_id}")


def destroy(dcmi: Dcmi, chip: Chip, number: int) -> None:
    """Destroy a vNPU; one that does not exist is no error. Raises VendorError."""
    try:
        dcmi.call("dcmi_set_destroy_vdevice", chip.card, chip.device, ctypes.c_uint(number))
    except DcmiError as error:
        if error.code == Code.NO_SUCH_DEVICE:
            return
        if error.code != Code.MISSING:
            raise DcmiError(f"chip {chip.key}: destroy vNPU {number}", error.code) from None
        _smi.destroy(chip, number)


def _vnpu(dcmi: Dcmi, chip: Chip, number: int) -> Vnpu:
    query = dcmi.vdev(chip, VdevCommand.RESOURCE, VdevQuery(vdev_id=number))
    return Vnpu(number, query.name.decode(errors="replace"), query.is_container_used == USED)
