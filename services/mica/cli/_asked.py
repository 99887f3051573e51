"""What a request asked for, for people. Invariant: whatever it says of its place is told; a field that is left alone is not."""

from mica.cli._decision import limit_texts
from mica.cli._quantities import show_bytes, show_cpus, show_seconds, show_share
from mica.events import Profile, Reach, RequestSlice, Runtime
from mica.sizing import promise_text


def asked_text(request: RequestSlice) -> str:
    """``20GiB of device memory and 70% of the compute, on each of 2 devices of one node; guaranteed``."""
    memory = f"{show_bytes(request.vram_bytes)} of device memory" if request.vram_bytes else _needs(request.profile)
    compute = f" and {show_share(request.share_ppm)} of the compute" if request.share_ppm else ""
    where = "one device" if request.devices == 1 else f"each of {request.devices} devices {_nodes(request.nodes)}"
    return "; ".join([f"{memory}{compute}, on {where}", *_more(request)])


def _needs(profile: Profile | None) -> str:
    called = (profile.name or profile.model) if profile is not None else None
    return f"what {called} needs" if called else "what its profile needs"


def _nodes(nodes: int) -> str:
    return "of one node" if nodes == 1 else f"of {nodes} nodes"


def _more(request: RequestSlice) -> list[str]:
    host = [f"{show_cpus(request.cpu_milli)} processors"] if request.cpu_milli else []
    host += [f"{show_bytes(request.host_memory_bytes)} of memory"] if request.host_memory_bytes else []
    limits = [text for name, text in limit_texts(request.limits).items() if getattr(request.limits, name)]
    parts = [
        f"{' and '.join(host)} of its node{' for each' if request.devices > 1 else ''}" if host else "",
        f"a promise of {promise_text(request.slo)}" if request.slo is not None else "",
        f"at most {', '.join(limits)}" if limits else "",
        str(request.tier),
        f"priority {request.priority}" if request.priority != 50 else "",
        f"waits up to {show_seconds(request.queue_s)}" if request.queue_s else "",
    ]
    return [each for each in parts if each]


def only_text(request: RequestSlice) -> str:
    """Where and how alone it may be; empty where everything would do."""
    parts = [
        f"in {request.mode}" if request.mode is not None else "",
        f"in pool {request.pool}" if request.pool is not None else "",
        f"on devices of {request.vendor}" if request.vendor is not None else "",
        f"on a {' or '.join(request.models)}" if request.models else "",
        f"for {request.runtime}" if request.runtime is not Runtime.NATIVE else "",
        _near_text(request),
        _apart_text(request),
    ]
    return ", ".join(each for each in parts if each)


def _near_text(request: RequestSlice) -> str:
    if request.near is None:
        return ""
    if request.near_within is None:
        return f"as near to slice {request.near} as can be"
    return f"on the {request.near_within} of slice {request.near}"


def _apart_text(request: RequestSlice) -> str:
    if request.apart is None:
        return ""
    other = "device" if request.apart_within is Reach.DEVICE else "node"
    return f"on another {other} than the rest of group {request.apart}" + ("" if request.apart_strict else ", if there is room")


def size_text(request: RequestSlice, told: str) -> str:
    """What the size rests on. ``told``: what the decision says of it."""
    if told:
        return told
    if request.vram_bytes is None:
        return "by its profile"
    if request.share_ppm is None:
        return "memory as asked; compute was left open, so it is the same part of the device's as of its memory"
    return "as asked"
