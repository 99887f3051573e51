"""xGMI: how the devices reach each other without the host. Invariant: a pair of devices comes up once, in order of index."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final

from mica.events import Link, LinkKind
from mica.vendors.amd._library import Session, Socket, optional

LANES_MAX: Final = 64
MB: Final = 1_000_000


def read_links(session: Session, sockets: Sequence[Socket]) -> tuple[Link, ...]:
    """Ask amdsmi about every two devices. Raises AmdSmiException."""
    smi = session.smi
    ids = {socket.name: session.ids.get(socket.name) or session.identify(socket) for socket in sockets}
    found = []
    for a, b in combinations([socket for socket in sockets if ids[socket.name]], 2):
        route = optional(smi, "amdsmi_topo_get_link_type", a.handles[0], b.handles[0]) or {}
        if route.get("type") == smi.AmdSmiLinkType.AMDSMI_LINK_TYPE_XGMI and route.get("hops", 1) == 1:
            lanes, bytes_per_s = _bandwidth(smi, a.handles[0], b.handles[0])
            found.append(
                Link(a=ids[a.name], b=ids[b.name], kind=LinkKind.XGMI, lanes=lanes, bytes_per_s=bytes_per_s),
            )
    return tuple(found)


def _bandwidth(smi: Any, a: Any, b: Any) -> tuple[int, int]:
    """How many links there are, and what they carry in all: the least is one link's, in MB/s; 0 where amdsmi does not say."""
    said = optional(smi, "amdsmi_get_minmax_bandwidth_between_processors", a, b) or {}
    least, most = said.get("min_bandwidth") or 0, said.get("max_bandwidth") or 0
    lanes = round(most / least) if least else 1
    return (lanes if 1 <= lanes <= LANES_MAX else 1), most * MB
