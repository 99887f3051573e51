"""What goes wrong upstream, and what the guardrails turn away: the client hears one clear thing, and it is counted once."""

import asyncio
from contextlib import suppress

import msgspec
import pytest
from gate_house import Client, House, house, token

from mica.events import BreakerState, Slo, SloTripped
from mica.gate.__main__ import run
from mica.gate.plan import plan_of
from mica.observability import PassingTracer

NOBODY = "http://127.0.0.1:1"


def error_of(body: str) -> dict[str, str]:
    """The error in an answer of OpenAI's form."""
    error: dict[str, str] = msgspec.json.decode(body)["error"]
    return error


@pytest.mark.parametrize("head", ["Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Content-Length: 100\r\n\r\nhello"])
async def test_an_upstream_that_dies_in_the_middle(head: str) -> None:
    """What it sent arrives, the answer's end does not, and the client's connection ends: nobody takes it for a whole one."""
    async with house() as here:
        client = await here.client()
        await client.ask()
        asked = await here.upstream.asked()
        await asked.body()
        await asked.send(f"HTTP/1.1 200 OK\r\n{head}")
        assert (await client.head())[0] == "200 OK"
        assert b"hello" in await client.reader.readuntil(b"hello")
        asked.close()
        assert (await client.reader.read()).strip() == b""
        await here.until(lambda: here.gate.load.inflight == 0)
        assert (here.gate.meter.totals.errors, here.gate.meter.totals.requests) == (1, 0)


async def test_an_upstream_that_does_not_answer_is_told_before_it_does() -> None:
    """A request that has taken longer than was promised is overdue, in each window until it ends; then it is late, once."""
    async with house() as here:
        here.gate.meter.slo = Slo(p99_ms=100)
        client = await here.client()
        await client.ask()
        asked = await here.upstream.asked()
        await asked.body()
        reports = [here.gate.end_window()]
        here.clock.advance(0.2)
        reports += [here.gate.end_window() for _ in range(2)]
        assert [(each.requests, each.inflight, each.overdue) for each in reports if each] == [(0, 1, 0), (0, 1, 1), (0, 1, 1)]
        await asked.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await here.until(lambda: here.gate.load.inflight == 0)
        last = here.gate.end_window()
        assert last is not None
        assert (last.requests, last.late, last.overdue) == (1, 1, 0)


async def test_to_http_1_0_a_broken_answer_is_a_reset() -> None:
    """An old client, to which the connection's end is the answer's, gets a reset instead of an end."""
    async with house() as here:
        client = await here.client()
        await client.send("GET / HTTP/1.0\r\n\r\n")
        asked = await here.upstream.asked()
        await asked.begin(headers="")
        await asked.chunk("hello")
        _, headers = await client.head()
        assert "transfer-encoding" not in headers
        await client.reader.readuntil(b"hello")
        asked.close()
        with pytest.raises(ConnectionResetError):
            await client.reader.read()


async def test_an_upstream_that_is_not_there() -> None:
    """502 in OpenAI's form below /v1/, in one line elsewhere; counted as errors."""
    async with house(instead=(NOBODY,)) as here:
        client = await here.client()
        await client.ask()
        status, body = await client.answer()
        assert status == "502 Bad Gateway"
        assert error_of(body) == {
            "message": f"mica gate: upstream {NOBODY}: Connection refused",
            "type": "server_error",
            "param": None,
            "code": "upstream_unreachable",
        }
        await client.ask("/predict")
        assert await client.answer() == (status, f"mica gate: upstream {NOBODY}: Connection refused\n")
        assert here.gate.meter.totals.errors == 2


async def test_another_upstream_takes_over() -> None:
    """A request that could not reach one upstream, a POST with its body as well, is answered by the next: no error."""
    async with house(before=(NOBODY,)) as here:
        for body in ("{}", "x" * 200_000):
            client = await here.client()
            await client.ask(body=body)
            asked = await here.upstream.asked()
            assert (await asked.body()).decode() == body
            await asked.answer()
            assert await client.answer() == ("200 OK", "fine")
        assert here.gate.meter.totals.errors == 0


async def test_a_silent_upstream() -> None:
    """504 when nothing comes for as long as an upstream may be silent; the upstream is let go of."""
    async with house(upstream_timeout_s=0.05) as here:
        client = await here.client()
        await client.ask()
        asked = await here.upstream.asked()
        status, body = await client.answer()
        assert (status, error_of(body)["code"]) == ("504 Gateway Timeout", "upstream_timeout")
        await asked.body()
        assert await asked.gone()
        assert here.gate.meter.totals.errors == 1


async def test_what_the_upstream_says_passes() -> None:
    """A 500 is passed on and is an error; a 404 is passed on and is none."""
    async with house() as here:
        client = await here.client()
        for status in ("500 Internal Server Error", "404 Not Found"):
            await client.ask()
            await (await here.upstream.asked()).answer(status, "words")
            assert await client.answer() == (status, "words")
        totals = here.gate.meter.totals
        assert (totals.errors, totals.declined, totals.requests) == (1, 1, 0)


async def test_garbage_from_upstream() -> None:
    """An answer that is no HTTP is 502."""
    async with house() as here:
        client = await here.client()
        await client.ask()
        asked = await here.upstream.asked()
        await asked.send("what is this?\r\n\r\n")
        status, body = await client.answer()
        assert (status, error_of(body)["code"]) == ("502 Bad Gateway", "upstream_failed")


async def test_a_connection_is_used_again() -> None:
    """Requests one after the other go over one connection, and a connection that was closed while idle over a new one."""
    async with house() as here:
        client = await here.client()
        for _ in range(3):
            await client.ask()
            asked = await here.upstream.asked()
            assert asked.connection == 1
            await asked.answer()
            await client.answer()
        asked.close()
        while asked.reader.exception() is None and not asked.reader.at_eof():
            await asyncio.sleep(0.001)
        await client.ask()
        asked = await here.upstream.asked()
        await asked.answer()
        assert await client.answer() == ("200 OK", "fine")


async def lost(here: House, client: Client, method: str, body: str) -> str:
    """Ask on a connection that was used before and is lost without an answer; the answer's status."""
    await client.ask()
    asked = await here.upstream.asked()
    await asked.answer()
    await client.answer()
    await client.ask(method=method, body=body)
    asked = await here.upstream.asked()
    await asked.reader.readexactly(len(body))
    asked.close()
    if method == "GET":
        await (await here.upstream.asked()).answer()
    return (await client.answer())[0]


async def test_a_request_whose_connection_is_lost() -> None:
    """A GET is sent again on a new connection; a POST, and a PUT whose body is gone, are not: 502, and one connection each."""
    for method, body, status, connections in (
        ("GET", "", "200 OK", 2),
        ("POST", "{}", "502 Bad Gateway", 1),
        ("PUT", "x" * 200_000, "502 Bad Gateway", 1),
    ):
        async with house() as here:
            assert await lost(here, await here.client(), method, body) == status
            assert here.upstream.requests.empty()
            assert here.upstream.connections == connections


async def test_too_many_requests() -> None:
    """Beyond the rate it is 429 with Retry-After, and the upstream hears nothing; a second later one passes."""
    async with house(rate_hz=1.0, burst=1) as here:
        client = await here.client()
        await client.ask()
        await (await here.upstream.asked()).answer()
        await client.answer()
        await client.ask()
        status, headers = await client.head()
        assert (status, headers["retry-after"], headers["x-mica-refused"]) == (
            "429 Too Many Requests",
            "1",
            "rate_limit_exceeded",
        )
        body = (await client.reader.readexactly(int(headers["content-length"]))).decode()
        assert error_of(body)["type"] == "rate_limit_error"
        here.clock.advance(1)
        await client.ask()
        await (await here.upstream.asked()).answer()
        assert await client.answer() == ("200 OK", "fine")
        assert here.gate.meter.totals.refused == {"rate_limit_exceeded": 1}


async def test_places_and_a_queue() -> None:
    """One is answered, one waits, the third is told at once that there is no room; the second goes when the first has ended."""
    async with house(concurrency=1, queue=1) as here:
        first, second, third = [await here.client() for _ in range(3)]
        await first.ask()
        asked = await here.upstream.asked()
        await second.ask()
        await here.until(lambda: here.gate.load.queued == 1)
        await third.ask()
        status, body = await third.answer()
        assert (status, error_of(body)["code"]) == ("503 Service Unavailable", "queue_full")
        await asked.answer()
        await (await here.upstream.asked()).answer()
        assert [await first.answer(), await second.answer()] == [("200 OK", "fine")] * 2


async def test_waiting_has_an_end() -> None:
    """Who waits longer than the queue allows is told so, and what it waited for counts as a refusal."""
    async with house(concurrency=1, queue=1, queue_timeout_s=2.0) as here:
        first, second = [await here.client() for _ in range(2)]
        await first.ask()
        asked = await here.upstream.asked()
        await second.ask()
        await here.until(lambda: bool(here.clock._sleepers))
        here.clock.advance(2)
        status, body = await second.answer()
        assert (status, error_of(body)["code"]) == ("503 Service Unavailable", "queue_timeout")
        await asked.answer()
        await first.answer()
        report = here.gate.end_window()
        assert report is not None
        assert (report.refused, report.requests, report.queued) == (1, 1, 0)
        assert report.rate_hz is not None


async def test_the_breaker_spares_the_upstream() -> None:
    """After enough failures requests are refused without asking; after its rest a trial closes it: each change is an event."""
    async with house(breaker_least=3, breaker_trials=1) as here:
        client = await here.client()
        for _ in range(3):
            await client.ask()
            await (await here.upstream.asked()).answer("500 Internal Server Error")
            await client.answer()
        await client.ask()
        status, body = await client.answer()
        assert (status, error_of(body)["code"]) == ("503 Service Unavailable", "breaker_open")
        assert here.upstream.requests.empty()
        here.clock.advance(5)
        await client.ask()
        await (await here.upstream.asked()).answer()
        assert await client.answer() == ("200 OK", "fine")
        told = [(event.state, event.errors, event.requests) for event in here.told if isinstance(event, SloTripped)]
        assert told == [(BreakerState.OPEN, 3, 3), (BreakerState.HALF_OPEN, 3, 3), (BreakerState.CLOSED, 0, 1)]


async def test_bodies_that_are_too_long() -> None:
    """One that says so is refused before anything is sent; one that does not is broken off upstream; both are 413."""
    async with house(body_max_bytes=1000) as here:
        client = await here.client()
        await client.ask(body="x" * 1001)
        status, body = await client.answer()
        assert status.startswith("413")
        assert error_of(body)["message"] == "mica gate: the body is longer than 1000 bytes"
        assert here.upstream.connections == 0
        client = await here.client()
        await client.send("POST /v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + "x" * 1000 + "\r\n")
        asked = await here.upstream.asked()
        await client.send("1\r\nx\r\n0\r\n\r\n")
        assert (await client.answer())[0].startswith("413")
        with suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
            assert len(await asked.body()) <= 1000
        assert here.gate.meter.totals.errors == 0


@pytest.mark.parametrize("more", ["nonsense\r\n\r\n", ""])
async def test_a_body_that_never_ends(more: str) -> None:
    """A client that stands still in the middle of its request, or sends what is no body, is let go of after a minute: its place
    is free, and no upstream is blamed."""
    async with house(concurrency=1) as here:
        client = await here.client()
        await client.send("POST /v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        asked = await here.upstream.asked()
        await client.send(more)
        await here.until(lambda: here.gate.held_up == 1)
        here.clock.advance(60)
        here.gate.end_window()
        assert here.gate.load.inflight == 1
        here.clock.advance(1)
        here.gate.end_window()
        assert await client.reader.read() == b""
        with suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
            await asked.body()
        await here.until(lambda: here.gate.load.inflight == 0)
        assert (here.gate.meter.totals.errors, here.gate.meter.totals.abandoned) == (0, 1)


async def test_what_a_gate_does_not_do() -> None:
    """WebSocket, tunnels, unknown expectations and its own requests coming back are refused, each in one clear answer."""
    async with house() as here:
        for ask, status in (
            ("GET /v1/x HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "501"),
            ("CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", "405"),
            ("POST /v1/x HTTP/1.1\r\nHost: h\r\nExpect: wonders\r\nContent-Length: 0\r\n\r\n", "417"),
            ("GET /v1/x HTTP/1.1\r\nHost: h\r\nVia: 1.1 a, 1.1 mica-gate-s1\r\n\r\n", "508"),
            ("GET / HTTP/1.1\r\nno header\r\n\r\n", "400"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
        ):
            client = await here.client()
            await client.send(ask)
            assert (await client.head())[0].startswith(status), ask
        assert here.upstream.connections == 0


async def test_a_stop_lets_what_is_under_way_end() -> None:
    """After the signal nobody new gets in, and a stream goes on to its end; then the gate is gone."""
    async with house() as here:
        stop = asyncio.Event()
        plan = plan_of({"slice": "s2", "upstreams": [here.upstream.url], "listen": "127.0.0.1:0", "bus": False, "grace_s": 30.0})
        addresses: asyncio.Queue[str] = asyncio.Queue()
        running = asyncio.create_task(run(plan, stop, PassingTracer(), on_ready=addresses.put_nowait))
        here.address = await addresses.get()
        client = await here.client()
        await client.ask()
        asked = await here.upstream.asked()
        await asked.begin()
        await client.head()
        stop.set()
        while True:
            try:
                late = await here.client()
                late.leave()
                await asyncio.sleep(0.001)
            except ConnectionError:
                break
        await asked.chunk(token("last"))
        await asked.chunk("")
        assert await client.chunk() == token("last").encode()
        assert await client.chunk() == b""
        await running
