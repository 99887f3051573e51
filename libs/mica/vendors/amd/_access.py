"""How a process reaches a device or a partition. Pure but for what amdsmi says.

ROCr takes UUIDs or indices in ROCR_VISIBLE_DEVICES, and HIP and OpenCL stand on it; HIP_VISIBLE_DEVICES would count anew what is
left, so it stays unset. A UUID holds however others are laid out, and in containers, where indices count what is mounted. A
process needs /dev/kfd and the render node of what it is given, no other. Source: ROCm's "GPU isolation techniques".
"""

from collections.abc import Sequence
from typing import Any, Final

from mica.vendors._port import Access, VendorError
from mica.vendors.amd._library import Socket, optional
from mica.vendors.amd._modes import is_telling

VARIABLE: Final = "ROCR_VISIBLE_DEVICES"
KFD: Final = "/dev/kfd"
RENDER_MAX: Final = 1 << 20


def read_access(smi: Any, handle: Any, handles: Sequence[Any], cdi: str) -> Access:
    """Of one of a device's ``handles``. ``cdi``: what AMD's container toolkit calls it. Raises VendorError."""
    said = [optional(smi, "amdsmi_get_gpu_enumeration_info", each) or {} for each in handles]
    mine = optional(smi, "amdsmi_get_gpu_enumeration_info", handle) or {}
    uuid, number, render = str(mine.get("hip_uuid", "")), mine.get("hip_id"), mine.get("drm_render")
    word = uuid if uuid and is_telling(str(each.get("hip_uuid", "")) for each in said) else ""
    if not word and not isinstance(number, int):
        raise VendorError("amdsmi says neither a UUID nor an index of it")
    has_node = isinstance(render, int) and 0 < render < RENDER_MAX
    return Access(
        visible={VARIABLE: word or str(number)}, devices=(KFD, f"/dev/dri/renderD{render}") if has_node else (), cdi=cdi
    )


def toolkit_name(sockets: Sequence[Socket], name: str) -> str:
    """What AMD's container toolkit calls a whole device: they are numbered by PCI address."""
    return f"amd.com/gpu={sorted(socket.name for socket in sockets).index(name)}"
