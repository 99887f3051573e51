"""The HTTP server: listens, and answers what is asked of the gate itself below ``/mica/``.

Invariant: an answer whose client is gone is not made any more.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from aiohttp import web

from mica.bus import ServiceError
from mica.gate.domain.answers import Answer
from mica.gate.domain.upstreams import Upstreams
from mica.gate.forwarding import HEADER_BYTES, Forwarder, client_session, origins
from mica.gate.handlers import Gate
from mica.gate.plan import Plan
from mica.gate.relaying import SERVER, answer
from mica.gate.reporting import Reporter

OWN: Final = "/mica/"
IDLE_S: Final = 75.0
LINGER_S: Final = 2.0

# aiohttp tells of every malformed request with a traceback; what goes wrong in the gate, its handlers tell themselves.
_silent = logging.getLogger("mica.gate.http")
_silent.setLevel(logging.CRITICAL)


class Site:
    """What listens."""

    def __init__(self, gate: Gate, reporter: Reporter, upstreams: Upstreams, forwarder: Forwarder) -> None:
        self._gate = gate
        self._reporter = reporter
        self._upstreams = upstreams
        self._forwarder = forwarder

    async def on_request(self, request: web.BaseRequest) -> web.StreamResponse:
        """Any request."""
        target = target_of(request)
        if target.startswith(OWN):
            return self._own(request, target.partition("?")[0].removeprefix(OWN))
        return await self._gate.on_request(request, target, self._forwarder)

    def _own(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        pages = {"healthz": self.health, "stats": self.stats}
        if name not in pages:
            said = Answer(status=404, code="not_found", message=f"got {OWN}{name[:80]}, allowed: {OWN}healthz, {OWN}stats")
            return answer(said, OWN)
        if request.method not in ("GET", "HEAD"):
            said = Answer(status=405, code="method", message=f"got {request.method[:20]}, allowed: GET, HEAD")
            return answer(said, OWN)
        body = msgspec.json.encode(pages[name]()) + b"\n"
        return web.Response(
            body=body, headers={"Content-Type": "application/json", "Server": SERVER, "Cache-Control": "no-store"}
        )

    def health(self) -> dict[str, Any]:
        """That the gate serves, and what it lets through."""
        return {"slice": self._gate.plan.slice, "breaker": self._gate.guardrails.breaker.state, "bus": self._reporter.connected}

    def stats(self) -> dict[str, Any]:
        """Counts since the start, percentiles of the last minute, and how things stand now."""
        gate, reporter = self._gate, self._reporter
        return self.health() | {
            "queued": gate.load.queued,
            "inflight": gate.load.inflight,
            "held_up_by_clients": gate.held_up,
            "totals": gate.meter.totals,
            "recent": gate.meter.recent(),
            "limits": gate.guardrails.limits,
            "slo": gate.meter.slo,
            "reports": {"told": reporter.told, "dropped": reporter.dropped},
            "upstreams": [{"origin": each.origin, "inflight": each.inflight} for each in self._upstreams.all],
        }


def target_of(request: web.BaseRequest) -> str:
    """Path and query as the client wrote them; of an absolute target (RFC 9112, 3.2.2) what stands behind the host."""
    target = request.raw_path
    if target.startswith("/"):
        return target
    _, separator, rest = target.partition("://")
    return f"/{rest.partition('/')[2]}" if separator else "/"


@asynccontextmanager
async def serving(plan: Plan, gate: Gate, reporter: Reporter, upstreams: Upstreams) -> AsyncIterator[str]:
    """Listen; what is under way when the block ends has ``grace_s`` to end. Yields the address.

    Raises:
        ServiceError: the address can't be listened at.
    """
    host, port = plan.address
    async with client_session(plan) as session:
        site = Site(gate, reporter, upstreams, Forwarder(session, upstreams, gate.clock))
        server = web.Server(
            site.on_request,
            handler_cancellation=True,
            access_log=None,
            logger=_silent,
            auto_decompress=False,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
        )
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=plan.grace_s)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port, backlog=1024).start()
            except OSError as error:
                raise ServiceError(f"--listen {plan.listen}: {error.strerror or error}") from None
            bound = runner.addresses[0]
            yield f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"
        finally:
            await runner.cleanup()


def upstreams_of(plan: Plan) -> Upstreams:
    """The upstreams of a plan."""
    return Upstreams(origins(plan.upstreams))
