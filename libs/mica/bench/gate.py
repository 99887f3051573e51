"""``mica bench gate``: what a gate adds to a request and to each token of a stream, and how many requests a second it passes.

Three ways to one upstream that costs next to nothing, in turn and in one run: straight to it; through a hop that only copies
bytes, which is the least that a proxy in another process can cost here; and through the gate, with all its guardrails on.
Invariant: all three are measured by the same clients.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final

import uvloop
from msgspec import Struct

from mica.bench._errors import BenchError
from mica.bench._gate_clients import Streamed, in_turn, per_second, streams
from mica.bench._machine import Machine, Percentiles, describe_machine, percentiles

TARGET_MS: Final = 1.0
ROUNDS: Final = 4
GUARDRAILS: Final = ("--rate", "1000000/s", "--concurrency", "1024", "--queue", "1024")


class Plan(Struct, frozen=True, kw_only=True):
    """``requests`` by each way; ``streams`` at once of ``tokens`` tokens with ``gap_ms`` between; ``connections`` under load."""

    requests: int = 3000
    streams: int = 4
    tokens: int = 100
    gap_ms: float = 5.0
    connections: int = 16
    seconds: float = 3.0


class Added(Struct, frozen=True, kw_only=True):
    """Percentiles by each way in milliseconds, and what the hop and the gate add to those of the direct one."""

    direct: Percentiles
    hop: Percentiles
    gate: Percentiles
    hop_adds: Percentiles
    gate_adds: Percentiles


class Report(Struct, frozen=True, kw_only=True):
    """What came out. Times are in ms.

    ``request``: from the first byte sent to the last received. ``token``: from written by the upstream to read by the client.
    ``gap_error``: by how much the time between two tokens differs where they are read from where they are written.
    ``read_together_percent``: tokens that came in one piece with the one before; buffering would show there.
    """

    request: Added
    token: Added
    gap_error: Added
    read_together_percent: dict[str, float]
    requests_per_s: dict[str, float]
    tokens: int
    gap_ms: float
    target_added_p50_ms: float
    kept: bool
    machine: Machine


def run(plan: Plan) -> Report:
    """Carry the benchmark out.

    Raises:
        BenchError: a side could not be started, or an answer did not come.
    """
    with ExitStack() as stack:
        ports = stack.enter_context(_sides())
        try:
            request = in_turn(ports, plan.requests)
            streamed = uvloop.run(_streamed(plan, ports))
            rates = uvloop.run(_rates(plan, ports))
        except (OSError, AssertionError) as error:
            raise BenchError(f"an answer did not come: {error}") from error
    added = _added(request)
    token = _added({name: each.delays_ms for name, each in streamed.items()})
    total = plan.streams * plan.tokens * ROUNDS
    return Report(
        request=added,
        token=token,
        gap_error=_added({name: each.gap_errors_ms for name, each in streamed.items()}),
        read_together_percent={name: round(100 * each.together / total, 2) for name, each in streamed.items()},
        requests_per_s=rates,
        tokens=total,
        gap_ms=plan.gap_ms,
        target_added_p50_ms=TARGET_MS,
        kept=max(added.gate_adds.p50, token.gate_adds.p50) <= TARGET_MS,
        machine=describe_machine(),
    )


async def _streamed(plan: Plan, ports: Mapping[str, int]) -> dict[str, Streamed]:
    found = {name: Streamed([], []) for name in ports}
    path = f"/stream/{plan.tokens}/{round(plan.gap_ms * 1000)}"
    for _ in range(ROUNDS):
        for name, port in ports.items():
            await streams(port, path, plan.streams, found[name])
    return found


async def _rates(plan: Plan, ports: Mapping[str, int]) -> dict[str, float]:
    return {name: round(await per_second(port, plan.connections, plan.seconds)) for name, port in ports.items()}


def _added(times: Mapping[str, list[float]]) -> Added:
    found = {name: percentiles(values) for name, values in times.items()}
    direct, hop, gate = (found[name] for name in ("direct", "hop", "gate"))
    return Added(direct=direct, hop=hop, gate=gate, hop_adds=_difference(hop, direct), gate_adds=_difference(gate, direct))


def _difference(more: Percentiles, less: Percentiles) -> Percentiles:
    return Percentiles(p50=round(more.p50 - less.p50, 3), p99=round(more.p99 - less.p99, 3))


@contextmanager
def _sides() -> Iterator[dict[str, int]]:
    """The upstream, and the two ways to it beside the direct one: the port of each way."""
    sides = [sys.executable, "-m", "mica.bench._gate_sides"]
    with _started([*sides, "upstream"], "listening ") as upstream, _started([*sides, "hop", str(upstream)], "listening ") as hop:
        gate = [sys.executable, "-m", "mica.cli", "gate", "bench", "--no-bus", "--listen", "127.0.0.1:0", *GUARDRAILS]
        with _started([*gate, "--upstream", f"http://127.0.0.1:{upstream}"], "at http://127.0.0.1:") as port:
            yield {"direct": upstream, "hop": hop, "gate": port}


@contextmanager
def _started(command: list[str], before_port: str) -> Iterator[int]:
    """A process that tells its port in its first line, behind ``before_port``. Raises BenchError."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            port = line.partition(before_port)[2].split(",")[0].strip()
            if not port.isdecimal():
                raise BenchError(f"{' '.join(command[2:5])} did not start: {line.strip() or 'it said nothing'}")
            yield int(port)
        finally:
            process.terminate()
