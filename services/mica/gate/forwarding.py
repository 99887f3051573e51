"""The client side: one request to an upstream, and what went wrong.

Invariant: a request is sent twice only where nothing of it can have arrived (the upstream could not be reached), or where its
method is idempotent and it has no body that was read. Whoever gets a ``Reply`` closes it.
"""

import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from msgspec import Struct
from multidict import CIMultiDict
from yarl import URL

from mica.bus import Clock
from mica.gate.domain.answers import Answer
from mica.gate.domain.upstreams import Upstream, Upstreams
from mica.gate.plan import Plan
from mica.gate.uploads import Upload

KEEPALIVE_S: Final = 4.0
"""Less than the 5 s of uvicorn, which most model servers stand on: the upstream must not close what is being sent on."""
HEADER_BYTES: Final = 32_768
BAD_REQUEST, TOO_LARGE, BAD_GATEWAY, GATEWAY_TIMEOUT = 400, 413, 502, 504

log = logging.getLogger(__name__)


class Call(Struct, frozen=True):
    """A request for an upstream. ``target``: path and query, as the client wrote them."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    upload: Upload


class Reply(Struct, frozen=True):
    """An upstream's answer, of which the head is here."""

    response: aiohttp.ClientResponse
    upstream: Upstream

    def close(self) -> None:
        """Let go of it. An answer that was not read to its end is broken off, so that the upstream stops making it."""
        self.upstream.inflight -= 1
        self.response.close()


@asynccontextmanager
async def client_session(plan: Plan) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that adds nothing of its own to a request, and takes nothing from an answer."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=plan.connect_timeout_s, sock_read=plan.upstream_timeout_s)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        timeout=timeout,
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
    ) as session:
        yield session


class Forwarder:
    """Sends requests to whichever upstream is fit."""

    def __init__(self, session: aiohttp.ClientSession, upstreams: Upstreams, clock: Clock) -> None:
        self._session = session
        self._upstreams = upstreams
        self._clock = clock

    async def send(self, call: Call) -> Reply | Answer:
        """The upstream's answer, or what to tell the client instead."""
        tried: list[Upstream] = []
        failure = Answer(status=BAD_GATEWAY, code="no_upstream", message="there is no upstream")
        body = await call.upload.begin()
        while (upstream := self._upstreams.pick(self._clock.monotonic_ns(), tried)) is not None:
            tried.append(upstream)
            try:
                return await self._send(call, body, upstream)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                failure = _unreachable(upstream, error)
                if self._upstreams.unreachable(upstream, self._clock.monotonic_ns()):
                    log.warning("%s", failure.message)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                return _failure(call.upload, upstream, error)
        return failure

    async def _send(self, call: Call, body: Any, upstream: Upstream) -> Reply:
        url = URL(upstream.origin + call.target, encoded=True)
        upstream.inflight += 1
        try:
            response = await self._session.request(
                call.method, url, headers=CIMultiDict(call.headers), data=body, allow_redirects=False
            )
        except BaseException:
            upstream.inflight -= 1
            raise
        return Reply(response, upstream)


def origins(upstreams: Sequence[str]) -> list[str]:
    """Where requests go: what they ask for is written behind it."""
    return [text.rstrip("/") for text in upstreams]


def _unreachable(upstream: Upstream, error: Exception) -> Answer:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Answer(
            status=GATEWAY_TIMEOUT, code="upstream_unreachable", message=f"upstream {upstream.origin} does not take connections"
        )
    number = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(number) if number else str(error)
    return Answer(status=BAD_GATEWAY, code="upstream_unreachable", message=f"upstream {upstream.origin}: {reason}")


def _failure(upload: Upload, upstream: Upstream, error: Exception) -> Answer:
    if upload.excess:
        return too_large(upload)
    if upload.broken:
        return Answer(status=BAD_REQUEST, code="body_broken", message="the body of the request broke off, or is no body")
    if isinstance(error, TimeoutError):
        return Answer(
            status=GATEWAY_TIMEOUT, code="upstream_timeout", message=f"upstream {upstream.origin} did not answer in time"
        )
    reason = str(error) or type(error).__name__
    return Answer(status=BAD_GATEWAY, code="upstream_failed", message=f"upstream {upstream.origin}: {reason}"[:500])


def too_large(upload: Upload) -> Answer:
    """The body is longer than allowed."""
    return Answer(status=TOO_LARGE, code="body_too_large", message=f"the body is longer than {upload.limit_bytes} bytes")
