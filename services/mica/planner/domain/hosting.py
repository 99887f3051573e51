"""Whether a node has enough of its own processors and memory, beside its devices.

Invariant: what a node does not tell (0) limits nothing; a slice's own claims never stand in its way.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from mica.events import LedgerEntry, RequestSlice
from mica.planner.domain.asks import Ask
from mica.planner.domain.fleet import NodeState
from mica.planner.domain.host_claims import wants_host
from mica.planner.domain.misfits import Misfit, Refusal, size_text
from mica.planner.domain.packing import Fit

HOST_FIELDS = ("cpu_milli", "host_memory_bytes")


class _Short(Struct, frozen=True):
    """Of ``field`` a node has ``free`` of ``whole`` beside everybody else, and ``asked`` is more."""

    field: str
    asked: int
    free: int
    whole: int

    def text(self, amount: int) -> str:
        return cpu_text(amount) if self.field == "cpu_milli" else memory_text(amount)


def hosted(node: NodeState, ask: Ask, result: Fit | Misfit) -> Fit | Misfit:
    """What becomes of ``result`` on a device where the node itself is short of what all members there take of it."""
    lack = lacking(node, ask) if wants_host(ask.request) else None
    if lack is None or (isinstance(result, Misfit) and (lack.possible or not result.possible)):
        return result
    return lack


def lacking(node: NodeState, ask: Ask) -> Misfit | None:
    """What the node is short of, first what it could never have. ``now`` and ``ever`` are for each member."""
    here, request = ask.members // ask.nodes, ask.request
    short = list(_short(node, ask.id, here * request.cpu_milli, here * request.host_memory_bytes))
    if not short:
        return None
    worst = max(short, key=lambda each: each.asked > each.whole)
    reason = f"asked {worst.text(worst.asked)} on the node, {worst.text(worst.free)} free, of {worst.text(worst.whole)}"
    return Misfit(worst.field, reason, worst.free // here, worst.whole // here, possible=worst.asked <= worst.whole)


def overdrawn(node: NodeState, slice_id: str, before: Iterable[LedgerEntry], after: Iterable[LedgerEntry]) -> Refusal | None:
    """What the node has too little of for ``after`` to stand; what is no more than ``before`` always may."""
    was, now = _sums(before), _sums(after)
    wanted = (new if new > old else 0 for new, old in zip(now, was, strict=True))
    short = next(_short(node, slice_id, *wanted), None)
    return Refusal(short.field, str(short.asked), f"at most {short.free} now on node {node.name}") if short is not None else None


def host_words(request: RequestSlice) -> str:
    """What each member takes of its node, for people; empty for nothing."""
    cpu_milli, memory_bytes = request.cpu_milli, request.host_memory_bytes
    words = [*([cpu_text(cpu_milli)] if cpu_milli else []), *([memory_text(memory_bytes)] if memory_bytes else [])]
    return f"{' and '.join(words)} of the node{' for each member' if request.devices > 1 else ''}" if words else ""


def cpu_text(cpu_milli: int) -> str:
    """Processors as people count them."""
    return f"{cpu_milli / 1000:g} CPUs"


def memory_text(memory_bytes: int) -> str:
    """A size of the node's own memory."""
    return f"{size_text(memory_bytes)} of host memory"


def _short(node: NodeState, slice_id: str, cpu_milli: int, memory_bytes: int) -> Iterator[_Short]:
    """Everything that is asked of the node and not free."""
    inventory = node.inventory
    if inventory is None:
        return
    asked = (cpu_milli, memory_bytes)
    free = (node.free_cpu_milli(slice_id), node.free_host_memory(slice_id))
    whole = (inventory.cpu_milli, inventory.host_memory_bytes)
    for field, wanted, left, all_ in zip(HOST_FIELDS, asked, free, whole, strict=True):
        if wanted and left is not None and wanted > left:
            yield _Short(field, wanted, max(0, left), all_)


def _sums(entries: Iterable[LedgerEntry]) -> tuple[int, int]:
    all_ = list(entries)
    return sum(each.cpu_milli for each in all_), sum(each.host_memory_bytes for each in all_)
