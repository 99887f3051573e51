"""Maps a request to its way through the gate: guardrails, upstream, relay, and what is counted of it.

Invariant: each request is counted once and gives its ticket back once, however it ends; nothing here waits for the bus.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from msgspec.structs import replace

from mica.bus import Clock
from mica.events import Fact, SloReported, SloTripped
from mica.gate.domain.answers import Answer
from mica.gate.domain.breaker import Outcome
from mica.gate.domain.guardrails import Guardrails, Limits, Refusal, Ticket
from mica.gate.domain.headers import asks_for_websocket, to_upstream
from mica.gate.domain.measuring import SOURCE, Load, Measured, Meter, is_overdue
from mica.gate.domain.stopwatch import Stopwatch
from mica.gate.forwarding import Call, Forwarder, too_large
from mica.gate.plan import Plan, limits_of
from mica.gate.relaying import End, Relay, answer
from mica.gate.uploads import Upload
from mica.observability import Tracer

RATE: Final = 429
FAILING: Final = 500
DECLINING: Final = 400
NS_PER_S: Final = 1_000_000_000

log = logging.getLogger(__name__)


class Gate:
    """One gate before one slice. ``tell`` takes events, and never waits."""

    def __init__(self, plan: Plan, clock: Clock, tracer: Tracer, tell: Callable[[Fact], None]) -> None:
        self.plan = plan
        self.guardrails = Guardrails(limits_of(plan, None))
        self.meter = Meter(plan.slice, clock.monotonic_ns())
        self.clock = clock
        self._tracer = tracer
        self._tell = tell
        self._via = f"1.1 mica-gate-{plan.slice}"
        self._relays: dict[Relay, asyncio.Task[Any] | None] = {}

    @property
    def load(self) -> Load:
        """What waits and what is being answered."""
        return Load(queued=self.guardrails.places.waiting, inflight=self.guardrails.places.inflight)

    @property
    def held_up(self) -> int:
        """How many requests wait for their clients."""
        return sum(relay.watch.paused for relay in self._relays)

    async def on_request(self, request: web.BaseRequest, target: str, forwarder: Forwarder) -> web.StreamResponse:
        """Answer one request for ``target``, a path and query."""
        path = target.partition("?")[0]
        unfit = self._unfit(request)
        if unfit is not None:
            self.meter.refused(unfit.code, crowded=False)
            return answer(unfit, path)
        watch = Stopwatch(self.clock.monotonic_ns())
        ticket = await self._admitted(watch)
        self._note_changes()
        if isinstance(ticket, Refusal):
            self.meter.refused(ticket.code, crowded=ticket.status != RATE)
            return answer(_said(ticket), path)
        relay = Relay(request, path, watch, self.clock)
        self._relays[relay] = asyncio.current_task()
        outcome = Outcome.UNKNOWN
        try:
            response, outcome = await self._answered(request, target, relay, forwarder)
        except (asyncio.CancelledError, ConnectionError):
            self.meter.abandoned(relay.measured)
            raise
        except Exception:
            self.meter.failed()
            log.exception("a request for %s", path[:80])
            raise
        finally:
            del self._relays[relay]
            self.guardrails.leave(ticket, outcome, self.clock.monotonic_ns())
            self._note_changes()
        return response

    def change(self, limits: Limits) -> None:
        """Other guardrails from now on."""
        self.guardrails.change(limits, self.clock.monotonic_ns())
        self._note_changes()

    def end_window(self) -> SloReported | None:
        """What this window was like; None if there is nothing to tell. Clients that were waited for too long are let go of."""
        now_ns = self.clock.monotonic_ns()
        self._let_go(now_ns)
        self.guardrails.breaker.tick(now_ns, queue_empty=not self.guardrails.places.waiting)
        self._note_changes()
        return self.meter.report((now_ns, self.clock.unix_ns()), replace(self.load, overdue=self._overdue()))

    def _overdue(self) -> int:
        """How many that are being answered are late already."""
        slo = self.meter.slo
        return sum(is_overdue(slo, relay.measured) for relay in self._relays) if slo is not None else 0

    def _let_go(self, now_ns: int) -> None:
        """Who neither sends its request nor takes its answer must not keep a place for ever."""
        for relay, task in self._relays.items():
            if task is not None and relay.watch.paused_for_ns(now_ns) > self.plan.client_timeout_s * NS_PER_S:
                task.cancel()

    def _unfit(self, request: web.BaseRequest) -> Answer | None:
        """Why the gate can't pass a request on."""
        if asks_for_websocket(request.headers.items()):
            return Answer(
                status=501, code="no_websocket", message="WebSocket is not passed on; allowed: HTTP, server-sent events among it"
            )
        if request.method == "CONNECT":
            return Answer(status=405, code="no_tunnel", message="got CONNECT, allowed: requests for the upstream")
        if self._via in request.headers.get("Via", ""):
            return Answer(
                status=508, code="loop", message="the request has come through this gate before: an upstream leads back to it"
            )
        expected = request.headers.get("Expect", "")
        if expected and expected.lower() != "100-continue":
            return Answer(status=417, code="expectation", message=f"Expect: got {expected[:80]}, allowed: 100-continue")
        upload = Upload(request, Stopwatch(0), self.clock, self.plan.body_max_bytes)
        return too_large(upload) if upload.too_long else None

    async def _admitted(self, watch: Stopwatch) -> Ticket | Refusal:
        """A ticket that may pass."""
        turn = asyncio.Event()
        ticket = self.guardrails.arrive(self.clock.monotonic_ns(), turn.set)
        if isinstance(ticket, Refusal) or not ticket.waiting:
            return ticket
        try:
            await self._until(turn)
        except asyncio.CancelledError:
            now_ns = self.clock.monotonic_ns()
            self.meter.abandoned(Measured(latency_ns=watch.elapsed_ns(now_ns)))
            self.guardrails.leave(ticket, Outcome.UNKNOWN, now_ns)
            raise
        return self.guardrails.expire(ticket, self.clock.monotonic_ns()) or ticket

    async def _until(self, turn: asyncio.Event) -> None:
        """Wait for one's turn, but no longer than the queue allows."""
        limit_ns = self.guardrails.limits.queue_timeout_ns
        if not limit_ns:
            await turn.wait()
            return
        waits = {asyncio.ensure_future(turn.wait()), asyncio.ensure_future(self.clock.sleep(limit_ns / NS_PER_S))}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _answered(
        self, request: web.BaseRequest, target: str, relay: Relay, forwarder: Forwarder
    ) -> tuple[web.StreamResponse, Outcome]:
        """The answer, counted, and what it says about the upstream."""
        with self._tracer.span("gate", request.headers.get("traceparent", ""), slice=self.plan.slice) as span:
            headers = to_upstream(
                request.headers.items(),
                peer=request.remote or "",
                scheme=request.scheme,
                via=self._via,
                traceparent=span.traceparent,
            )
            upload = Upload(request, relay.watch, self.clock, self.plan.body_max_bytes)
            reply = await forwarder.send(Call(request.method, target, headers, upload))
            if isinstance(reply, Answer):
                span.set_attribute("failure", reply.code)
                return answer(reply, relay.path), self._failed(reply)
            try:
                response = await relay.run(reply.response)
            finally:
                reply.close()
            span.set_attribute("status", response.status)
            return response, self._counted(response.status, relay)

    def _failed(self, said: Answer) -> Outcome:
        if said.status < FAILING:
            self.meter.declined()
            return Outcome.UNKNOWN
        self.meter.failed()
        return Outcome.FAILED

    def _counted(self, status: int, relay: Relay) -> Outcome:
        if relay.end is End.UNWANTED:
            self.meter.abandoned(relay.measured)
            return Outcome.UNKNOWN
        if relay.end is End.BROKEN or status >= FAILING:
            self.meter.failed()
            return Outcome.FAILED
        if status >= DECLINING:
            self.meter.declined()
        else:
            self.meter.answered(relay.measured)
        return Outcome.ANSWERED

    def _note_changes(self) -> None:
        """Tell of what the breaker has changed."""
        changes, self.guardrails.breaker.changes = self.guardrails.breaker.changes, []
        for change in changes:
            log.warning("slice %s: the circuit breaker is %s: %s", self.plan.slice, change.state, change.sign.value)
            self._tell(
                SloTripped(
                    at=self.clock.unix_ns(),
                    id=self.plan.slice,
                    state=change.state,
                    reason=change.sign.value,
                    window_s=self.plan.breaker_window_s,
                    requests=change.answered + change.failed,
                    errors=change.failed,
                    crowded=change.crowded,
                    queued=self.load.queued,
                    inflight=self.load.inflight,
                    source=SOURCE,
                )
            )


def _said(refusal: Refusal) -> Answer:
    return Answer(status=refusal.status, code=refusal.code, message=refusal.message, retry_after_s=refusal.retry_after_s)
