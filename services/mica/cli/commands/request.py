"""``mica request``: ask for a slice. Invariant: exit status 0 means that the slice is live."""

import sys
import time
from typing import Any, Final

import click
import msgspec

from mica.bus import Bus
from mica.cli._answers import ask
from mica.cli._decision import show_decision, show_placements
from mica.cli._errors import CliError
from mica.cli._limits import limit_options, take_limits
from mica.cli._quantities import BYTES, CPUS, SECONDS, SHARE
from mica.cli._session import F, connected, json_option, run, server_option
from mica.cli._table import show_json
from mica.events import (
    EventError,
    Profile,
    RequestSlice,
    SliceFailed,
    SliceReady,
    SliceRecord,
    SliceRejected,
    Slo,
    decode,
)

SUBJECT: Final = "slice.request"
WAIT_S: Final = 30.0
SLO_FIELDS: Final = tuple(Slo.__struct_fields__)


REQUEST_OPTIONS: Final = (
    click.option("--tenant", help="Who asks."),
    click.option("--id", "id", help="Name of the slice; without one it is called seq-<n>."),
    click.option("--name", help="Free text."),
    click.option("--vram", "vram_bytes", type=BYTES, help="Device memory: 24GiB, 24G or bytes."),
    click.option("--share", "share_ppm", type=SHARE, help="Compute: 70%, 0.7 or 700000ppm."),
    click.option("--devices", type=int, help="Gang of so many devices, each with the full size."),
    click.option("--nodes", type=int, help="Over so many nodes, the same number of devices on each [1]."),
    click.option("--near", metavar="SLICE", help="As near to that slice as can be: on its device, else linked to it."),
    click.option("--near-within", help="device or node: no further from it than that."),
    click.option("--apart", metavar="GROUP", help="On another device than the tenant's other slices of that group."),
    click.option("--apart-within", help="device or node: of what the group has at most one slice [device]."),
    click.option("--apart-strict/--apart-preferred", default=None, help="Whether it must be apart, or had better be [must]."),
    click.option(
        "--cpu",
        "cpu_milli",
        type=CPUS,
        help="Processors of its node for each member: 4, 0.5 or 500m. Enforced by run --image.",
    ),
    click.option(
        "--host-memory",
        "host_memory_bytes",
        type=BYTES,
        help="Memory of its node for each member: 32GiB. Enforced by run --image.",
    ),
    click.option("--tier", help="guaranteed, burst or spot."),
    click.option("--mode", help="hardware, fcsp or timeslice; the planner chooses when left out."),
    click.option("--pool", help="Only nodes of this pool."),
    click.option("--vendor", help="Only devices of this vendor."),
    click.option("--device-model", "models", multiple=True, metavar="MODEL", help="Only devices of this model; may be repeated."),
    click.option("--runtime", help="cuda, opencl, hip, level_zero, cann or qaic [the native one of the device's maker]."),
    click.option("--priority", type=int, help="0 to 100, higher first."),
    click.option("--queue", "queue_s", type=SECONDS, help="Wait so long for capacity: 30s, 2m."),
    click.option("--uid", type=int, help="The user who may attach."),
    limit_options,
    click.option("--profile", metavar="JSON|@FILE", help="What the workload is, as in proto/events."),
    click.option("--slo", multiple=True, metavar="BOUND=NUMBER", help="A promise: p99_ms=20, ttft_ms, tpot_ms or rate_hz."),
    click.option("--file", "-f", "source", type=click.File("rb"), help="The whole request as JSON; - reads stdin."),
)


def request_options(command: F) -> F:
    """Everything that a request can say."""
    for option in reversed(REQUEST_OPTIONS):
        command = option(command)
    return command


@click.command()
@request_options
@click.option("--timeout", type=SECONDS, help="Give up waiting for the answer after this [30s, and the time in the queue].")
@server_option
@json_option
def request(source: Any, server: str | None, *, timeout: float | None, as_json: bool, **fields: Any) -> int:
    """Ask for a slice, wait, and show the answer: where it is and why, or what stands in the way.

    The same as `nats pub slice.request '{"tenant": "a", "vram_bytes": 8589934592}'`.
    """
    wanted = wanted_request(source, fields)
    wait_s = timeout if timeout is not None else WAIT_S + wanted.queue_s
    return run(_request(wanted, wait_s, server, as_json=as_json))


def wanted_request(source: Any, fields: dict[str, Any]) -> RequestSlice:
    """The request in the file, or the one that the options describe.

    Raises:
        CliError: naming the field, what was given and what is allowed.
    """
    return read_request(source.read()) if source is not None else build_request(fields)


def read_request(body: bytes) -> RequestSlice:
    """The request in a JSON body.

    Raises:
        CliError: naming the field, what was given and what is allowed.
    """
    try:
        wanted = decode(SUBJECT, body)
    except EventError as error:
        raise CliError(f"request: {error}") from None
    assert isinstance(wanted, RequestSlice)
    return wanted


def build_request(fields: dict[str, Any]) -> RequestSlice:
    """The request that the options describe.

    Raises:
        CliError: as for ``read_request``.
    """
    limits = take_limits(fields)
    given = {name: value for name, value in fields.items() if value not in (None, ()) and name not in ("profile", "slo")}
    if limits:
        given["limits"] = limits
    if fields.get("profile"):
        given["profile"] = _read_profile(fields["profile"])
    if fields.get("slo"):
        given["slo"] = read_slo(fields["slo"])
    return read_request(msgspec.json.encode(given))


def _read_profile(text: str) -> Any:
    try:
        if text.startswith("@"):
            with open(text[1:], "rb") as file:  # noqa: PTH123 - a name as the user typed it
                return msgspec.json.decode(file.read())
        return msgspec.json.decode(text)
    except (OSError, msgspec.DecodeError) as error:
        raise CliError(f"profile: got {text[:80]}, allowed: JSON with {', '.join(Profile.__struct_fields__)} ({error})") from None


def read_slo(bounds: tuple[str, ...]) -> dict[str, float]:
    """The bounds of ``--slo p99_ms=20 --slo rate_hz=50``."""
    allowed = "one of " + ", ".join(f"{name}=NUMBER" for name in SLO_FIELDS)
    slo: dict[str, float] = {}
    for bound in bounds:
        name, _, number = bound.partition("=")
        try:
            slo[name] = float(number)
        except ValueError:
            raise CliError(f"slo: got {bound!r}, allowed: {allowed}") from None
        if name not in SLO_FIELDS:
            raise CliError(f"slo: got {bound!r}, allowed: {allowed}")
    return slo


async def _request(wanted: RequestSlice, wait_s: float, server: str | None, *, as_json: bool) -> int:
    async with connected(server) as bus:
        started = time.monotonic()
        sequence, answer = await ask(bus, wanted, wait_s, _say)
        took_ms = (time.monotonic() - started) * 1e3
        slice_id = wanted.id or f"seq-{sequence}"
        if answer is None:
            raise CliError(f"slice {slice_id}: no answer in {wait_s:g} s; `mica show {slice_id}` tells how far it got")
        record = await _record(bus, answer.id)
    if as_json:
        show_json(_as_json(answer, record, sequence, took_ms))
    else:
        _show(answer, record, took_ms)
    return 0 if isinstance(answer, SliceReady) else 1


async def _record(bus: Bus, slice_id: str) -> SliceRecord | None:
    entry = await bus.state.get(f"slice.{slice_id}", SliceRecord)
    return entry.value if entry else None


def _say(line: str) -> None:
    if sys.stderr.isatty():
        click.echo(line, err=True)


def _as_json(
    answer: SliceReady | SliceRejected | SliceFailed, record: SliceRecord | None, sequence: int, took_ms: float
) -> dict[str, Any]:
    decision = record.decision if record else None
    return {
        "answer": type(answer).__struct_config__.tag,
        **msgspec.to_builtins(answer),
        "decision": msgspec.to_builtins(decision),
        "sequence": sequence,
        "took_ms": round(took_ms, 3),
    }


def _show(answer: SliceReady | SliceRejected | SliceFailed, record: SliceRecord | None, took_ms: float) -> None:
    decision = record.decision if record else None
    if isinstance(answer, SliceReady):
        click.echo(f"slice {answer.id} is ready ({took_ms:.1f} ms)")
        show_placements(answer.placements)
        show_decision(decision)
    elif isinstance(answer, SliceRejected):
        click.echo(f"slice {answer.id} is rejected: {answer.message}")
        click.echo(f"  field    {answer.field}\n  given    {answer.given}\n  allowed  {answer.allowed}")
        show_decision(answer.decision or decision)
    else:
        click.echo(f"slice {answer.id} failed: {answer.message}")
        show_decision(decision)
