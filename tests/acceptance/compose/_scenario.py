"""What happens in the stack, and what must hold: the checks of the container test."""

import asyncio
import json
import secrets
from typing import Any

from tests.acceptance.compose._bus import FINAL, Outsider, outsider
from tests.acceptance.compose._report import Report, say
from tests.acceptance.compose._shell import wait_for
from tests.acceptance.compose._stack import SERVICES, Stack
from tests.acceptance.compose._tenant import tenant

GIB = 1 << 30
NODE = "compose-node"
UID = 20_001
TENANT_BYTES = 1 * GIB


async def play(stack: Stack, report: Report) -> None:
    """One stack from its first request to its last release, with deaths in between."""
    async with outsider(stack.nats_url) as bus:
        await bus.follow()
        await bus.until("the node's inventory", lambda: bus.state(f"inventory.{NODE}"), 60)
        await requests_are_answered(stack, bus, report)
        await one_trace_crosses_services(stack, bus, report)
        await a_planner_dies(stack, bus, report)
        await tenants_run_and_the_enforcer_dies(stack, bus, report)
        await all_is_released(stack, bus, report)
    for service in SERVICES:
        restarts = stack.restarts(service)
        report.check(f"{service} never ended by itself", restarts == 0, restarts)


def request(ident: str, gib: int, **more: Any) -> dict[str, Any]:
    return {"tenant": "compose", "id": ident, "vram_bytes": gib * GIB, **more}


async def requests_are_answered(stack: Stack, bus: Outsider, report: Report) -> None:
    answer = json.loads(
        await asyncio.to_thread(stack.mica, "request", "--tenant", "compose", "--id", "by-cli", "--vram", "2GiB", "--json")
    )
    report.check("mica request is answered with slice.ready", answer.get("type") == "slice.ready", answer)
    await bus.command("slice.request", request("too-big", 4096))
    refusal = await bus.fact("too-big", *FINAL)
    report.check("more VRAM than any device has is rejected by name", refusal.body.get("field") == "vram_bytes", refusal.body)


async def one_trace_crosses_services(stack: Stack, bus: Outsider, report: Report) -> None:
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    await bus.command("slice.request", request("traced", 2), f"00-{trace_id}-{span_id}-01")
    ready = await bus.fact("traced", *FINAL)
    report.check("a raw slice.request is answered with slice.ready", ready.kind == "slice.ready", ready.body)
    report.check("slice.ready carries the request's trace", ready.traceparent[3:35] == trace_id, ready.traceparent)

    def spans() -> list[Any] | None:
        found = [span for span in stack.spans() if span["trace_id"] == trace_id]
        return found if {"mica-planner", "mica-enforcer"} <= {span["service"] for span in found} else None

    found = await asyncio.to_thread(wait_for, "spans of planner and enforcer in the request's trace", spans, 20)
    known = {span_id, *(span["span_id"] for span in found)}
    say("        " + " → ".join(f"{span['service']}:{span['name']}" for span in sorted(found, key=lambda span: span["start_ns"])))
    report.check("one trace joins planner and enforcer", True)
    strays = [span["name"] for span in found if span["parent_span_id"] not in known]
    report.check("every span of it hangs on the request's", not strays, strays)


async def a_planner_dies(stack: Stack, bus: Outsider, report: Report) -> None:
    await asyncio.to_thread(stack.kill, "planner")
    idents = [f"orphan-{number}" for number in range(4)]
    for ident in idents:
        await bus.command("slice.request", request(ident, 1))
    report.check("nobody answers while the planner is dead", not any(bus.of(ident, *FINAL) for ident in idents))
    await asyncio.to_thread(stack.start, "planner")
    for ident in idents:
        await bus.fact(ident, *FINAL, timeout_s=60)
    await bus.command("slice.request", request("after-planner", 1))
    await bus.fact("after-planner", *FINAL)
    answers = {ident: [fact.kind for fact in bus.of(ident, *FINAL)] for ident in idents}
    report.check("requests of that time are answered once each", set(map(tuple, answers.values())) == {("slice.ready",)}, answers)


async def tenants_run_and_the_enforcer_dies(stack: Stack, bus: Outsider, report: Report) -> None:
    await bus.command("slice.request", request("tenanted", 4, mode="fcsp", uid=UID))
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


async def the_enforcer_dies(stack: Stack, bus: Outsider, report: Report, running: Any) -> None:
    await asyncio.to_thread(stack.kill, "enforcer")
    await bus.command("slice.request", request("while-dead", 1))
    report.check("the tenant goes on while the enforcer is dead", await asyncio.to_thread(running.advances))
    await asyncio.to_thread(stack.start, "enforcer")
    answer = await bus.fact("while-dead", *FINAL, timeout_s=60)
    report.check("a request of that time becomes ready afterwards", answer.kind == "slice.ready", answer.body)
    report.check("the tenant goes on after the enforcer is back", await asyncio.to_thread(running.advances))
    await bus.until("the tenant's memory in observed again", lambda: holds(bus, "tenanted", TENANT_BYTES), 20)
    lost = bus.of("tenanted", "slice.lost", "slice.evicted", "slice.released")
    report.check("the slice lived through it, its memory accounted for", not lost, lost)


async def holds(bus: Outsider, ident: str, vram_bytes: int, *, at_most: bool = False) -> bool:
    """Whether the enforcer observes that the slice's processes hold at least (at most) this much."""
    observed = await bus.state(f"observed.{NODE}") or {}
    used = [slices[ident].get("vram_used_bytes", 0) for slices in observed.get("devices", {}).values() if ident in slices]
    return bool(used) and (sum(used) <= vram_bytes if at_most else sum(used) >= vram_bytes)


async def all_is_released(stack: Stack, bus: Outsider, report: Report) -> None:
    report.check("mica audit agrees before the release", " 0 disagreements" in await asyncio.to_thread(stack.audit), "")
    idents = sorted({fact.id for fact in bus.facts if fact.kind == "slice.ready"})
    for ident in idents:
        await bus.command("slice.release", {"id": ident})
    for ident in idents:
        await bus.fact(ident, "slice.released", timeout_s=30)
    report.check(f"all {len(idents)} slices are released", True)
    ledger = await bus.state(f"ledger.{NODE}")
    report.check("nothing is left in the ledger", not any(ledger["devices"].values()), ledger)
