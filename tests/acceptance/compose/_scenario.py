"""What happens in the stack, and what must hold: the checks of the container test."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.acceptance.compose._bus import FINAL, Outsider, outsider
from tests.acceptance.compose._launched import containers_are_launched
from tests.acceptance.compose._report import Report, say
from tests.acceptance.compose._shell import wait_for
from tests.acceptance.compose._stack import SERVICES, Stack
from tests.acceptance.compose._tenant import Tenant, tenant
from tests.acceptance.compose.otlp_receiver import Span

GIB = 1 << 30
NODE = "compose-node"
UID = 20_001
TENANT_BYTES = 1 * GIB
BURST = 6  # requests that come while a service is dead
REQUEST_PERIOD_S = 0.02  # between the requests amid which it is killed


async def play(stack: Stack, report: Report) -> None:
    """One stack from its first request to its last release, with deaths in between."""
    async with outsider(stack.nats_url) as bus:
        await bus.follow()
        await bus.until("the node's inventory", lambda: bus.state(f"inventory.{NODE}"), 60)
        await requests_are_answered(stack, bus, report)
        await one_trace_crosses_services(stack, bus, report)
        await a_partition_holds_a_tenant(stack, bus, report)
        async with killed(stack, bus, report, "planner"):
            pass
        await tenants_run_and_the_enforcer_dies(stack, bus, report)
        await containers_are_launched(stack, bus, report)
        await all_is_released(stack, bus, report)
    for service in SERVICES:
        restarts = stack.restarts(service)
        report.check(f"{service} never ended by itself", restarts == 0, restarts)


def request(ident: str, vram_bytes: int = GIB // 8, **more: Any) -> dict[str, Any]:
    return {"tenant": "compose", "id": ident, "vram_bytes": vram_bytes, **more}


async def requests_are_answered(stack: Stack, bus: Outsider, report: Report) -> None:
    answer = json.loads(
        await asyncio.to_thread(stack.mica, "request", "--tenant", "compose", "--id", "by-cli", "--vram", "2GiB", "--json")
    )
    report.check("mica request is answered with slice.ready", answer.get("type") == "slice.ready", answer)
    await bus.command("slice.request", request("too-big", 4096 * GIB))
    refusal = await bus.fact("too-big", *FINAL)
    report.check("more VRAM than any device has is rejected by name", refusal.body.get("field") == "vram_bytes", refusal.body)


async def one_trace_crosses_services(stack: Stack, bus: Outsider, report: Report) -> None:
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    await bus.command("slice.request", request("traced", 2 * GIB), f"00-{trace_id}-{span_id}-01")
    ready = await bus.fact("traced", *FINAL)
    report.check("a raw slice.request is answered with slice.ready", ready.kind == "slice.ready", ready.body)
    report.check("slice.ready carries the request's trace", ready.traceparent[3:35] == trace_id, ready.traceparent)

    def spans() -> list[Span] | None:
        found = [span for span in stack.spans() if span["trace_id"] == trace_id]
        return found if {"mica-planner", "mica-enforcer"} <= {span["service"] for span in found} else None

    found = await asyncio.to_thread(wait_for, "spans of planner and enforcer in the request's trace", spans, 20)
    say("        slice.request → " + " → ".join(named(span) for span in sorted(found, key=lambda span: span["start_ns"])))
    strays = [named(span) for span in found if not ancestors(span, found) or ancestors(span, found)[-1] != span_id]
    report.check("every span of the trace descends from the request's", not strays, strays)
    ready_spans = [span for span in found if span["name"] == "enforcer.ready"]
    report.check("the span of slice.ready is a child of the planner's", is_child_of_planner(ready_spans, found), found)


def named(span: Span) -> str:
    return f"{span['service']}:{span['name']}"


def ancestors(span: Span, spans: list[Span]) -> list[str]:
    """The ids above a span, nearest first, as far as they are known; the last one is of a span that is not in `spans`."""
    parents = {other["span_id"]: other["parent_span_id"] for other in spans}
    above = [span["parent_span_id"]]
    while above[-1] in parents and len(above) <= len(spans):
        above.append(parents[above[-1]])
    return above


def is_child_of_planner(ready: list[Span], spans: list[Span]) -> bool:
    """Whether each of the enforcer's spans of slice.ready stands right under one of the planner's."""
    planned = {span["span_id"] for span in spans if span["service"] == "mica-planner"}
    return bool(ready) and all(span["parent_span_id"] in planned for span in ready)


@asynccontextmanager
async def killed(stack: Stack, bus: Outsider, report: Report, service: str) -> AsyncIterator[None]:
    """SIGKILL it amid a stream of requests, publish more, start it again after the block: each is answered."""
    container = await asyncio.to_thread(stack.container, service)
    under_way: list[str] = []
    kill = asyncio.create_task(asyncio.to_thread(stack.kill, container))
    while not kill.done():
        under_way.append(f"{service}-under-way-{len(under_way)}")
        await bus.command("slice.request", request(under_way[-1]))
        await asyncio.sleep(REQUEST_PERIOD_S)
    await kill
    before = len(answered(bus, under_way))
    while_dead = [f"{service}-dead-{number}" for number in range(BURST)]
    for ident in while_dead:
        await bus.command("slice.request", request(ident))
    report.check(f"{service} is dead", not await asyncio.to_thread(stack.runs, container))
    report.check(f"without {service} no slice.ready comes", not answered(bus, while_dead), answered(bus, while_dead))
    yield
    await asyncio.to_thread(stack.start, container)
    for ident in under_way + while_dead:
        await bus.fact(ident, *FINAL, timeout_s=60)
    kinds = {fact.kind for ident in under_way + while_dead for fact in bus.of(ident, *FINAL)}
    say(f"        {before} of {len(under_way)} requests were answered before {service} died, {BURST} came while it was dead")
    report.check(f"with {service} back, each of them is ready", kinds == {"slice.ready"}, kinds)


def answered(bus: Outsider, idents: list[str]) -> list[str]:
    return [ident for ident in idents if bus.of(ident, *FINAL)]


async def tenants_run_and_the_enforcer_dies(stack: Stack, bus: Outsider, report: Report) -> None:
    await bus.command("slice.request", request("tenanted", 4 * GIB, mode="fcsp", uid=UID))
    ready = await bus.fact("tenanted", *FINAL)
    report.check("a slice for a container is ready", ready.kind == "slice.ready", ready.body)
    with tenant(stack, "tenanted", UID, str(TENANT_BYTES)) as first:
        sees = await asyncio.to_thread(first.said, "total_bytes")
        report.check("the tenant sees one device", sees["devices"] == 1, sees)
        report.check("the tenant sees exactly its own VRAM", sees["total_bytes"] == 4 * GIB, sees)
        report.check("beyond the quota is CUDA_ERROR_OUT_OF_MEMORY", sees["beyond_the_quota"] == "CUDA_ERROR_OUT_OF_MEMORY", sees)
        report.check(
            "the quota region can't be opened for writing",
            set(sees["quota_writes"]) <= {"EROFS", "EACCES"} and sees["quota_writes"],
            sees,
        )
        report.check("no other slice's usage is in its sight", sees["usage_files"] == 1, sees)
        taken = await asyncio.to_thread(first.said, "allocation")
        report.check("it gets what is its own", taken["allocation"] == "CUDA_SUCCESS", taken)
        await bus.until("the tenant's memory in observed", lambda: holds(bus, "tenanted", TENANT_BYTES), 20)
        await the_enforcer_dies(stack, bus, report, first)
        await asyncio.to_thread(first.kill)
        await bus.until("the SIGKILLed tenant's memory to come back", lambda: holds(bus, "tenanted", 0, at_most=True), 20)
        report.check("a SIGKILLed tenant's memory comes back", True)
    with tenant(stack, "tenanted", UID, "all") as second:
        taken = await asyncio.to_thread(second.said, "allocation")
        report.check(
            "the next process can take all of it",
            taken["allocation"] == "CUDA_SUCCESS" and taken["allocated_bytes"] >= 3 * GIB,
            taken,
        )


async def the_enforcer_dies(stack: Stack, bus: Outsider, report: Report, running: Tenant) -> None:
    async with killed(stack, bus, report, "enforcer"):
        report.check("the tenant goes on while the enforcer is dead", await asyncio.to_thread(running.advances))
    report.check("the tenant goes on after the enforcer is back", await asyncio.to_thread(running.advances))
    await bus.until("the tenant's memory in observed again", lambda: holds(bus, "tenanted", TENANT_BYTES), 20)
    lost = bus.of("tenanted", "slice.lost", "slice.evicted", "slice.released")
    report.check("the slice lived through it, its memory accounted for", not lost, lost)


async def a_partition_holds_a_tenant(stack: Stack, bus: Outsider, report: Report) -> None:
    """Hardware mode, without a shim: the process is known by the driver's own list, across pid namespaces."""
    await bus.command("slice.request", request("partitioned", 8 * GIB, mode="hardware", uid=UID))
    ready = await bus.fact("partitioned", *FINAL)
    report.check("a hardware slice is ready", ready.kind == "slice.ready", ready.body)
    granted = ready.body["placements"][0]["vram_bytes"]
    with tenant(stack, "partitioned", UID, str(TENANT_BYTES)) as inside:
        sees = await asyncio.to_thread(inside.said, "total_bytes")
        report.check(
            "its container sees its partition alone", (sees["devices"], sees["total_bytes"]) == (1, granted), (sees, granted)
        )
        taken = await asyncio.to_thread(inside.said, "allocation")
        report.check("and takes memory of it", taken["allocation"] == "CUDA_SUCCESS", taken)
        await bus.command("slice.release", {"id": "partitioned"})
        await asyncio.to_thread(inside.kill)
        await bus.fact("partitioned", "slice.released", timeout_s=30)
        report.check("it is released once its SIGKILLed process is gone", True)


async def holds(bus: Outsider, ident: str, vram_bytes: int, *, at_most: bool = False) -> bool:
    """Whether the enforcer observes that the slice's processes hold at least (at most) this much."""
    observed = await bus.state(f"observed.{NODE}") or {}
    used = [slices[ident].get("vram_used_bytes", 0) for slices in observed.get("devices", {}).values() if ident in slices]
    return bool(used) and (sum(used) <= vram_bytes if at_most else sum(used) >= vram_bytes)


async def all_is_released(stack: Stack, bus: Outsider, report: Report) -> None:
    closing = (await asyncio.to_thread(stack.audit)).splitlines()[-1:]
    say(f"        {' '.join(closing)}")
    report.check("mica audit agrees before the release", closing and closing[0].endswith(" 0 disagreements"), closing)
    idents = sorted({fact.id for fact in bus.facts if fact.kind == "slice.ready" and not bus.of(fact.id, "slice.released")})
    for ident in idents:
        await bus.command("slice.release", {"id": ident})
    for ident in idents:
        await bus.fact(ident, "slice.released", timeout_s=30)
    report.check(f"all {len(idents)} slices are released", True)
    answers = {ident: [fact.kind for fact in bus.of(ident, *FINAL)] for ident in {fact.id for fact in bus.facts}}
    wrong = {ident: kinds for ident, kinds in answers.items() if len(kinds) != 1}
    report.check(f"each of {len(answers)} requests was answered exactly once", not wrong, wrong)
    await bus.until("an empty ledger", lambda: is_empty(bus), 20)
    closing = (await asyncio.to_thread(stack.audit)).splitlines()[-1:]
    report.check("mica audit agrees after the release", closing and closing[0].endswith(" 0 disagreements"), closing)


async def is_empty(bus: Outsider) -> bool:
    """Whether neither a slice nor a departure is left in the ledger."""
    ledger = await bus.state(f"ledger.{NODE}") or {}
    return not any(ledger.get("devices", {}).values()) and not ledger.get("departures")
