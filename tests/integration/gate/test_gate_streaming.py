"""Answers on their way: piece by piece, no longer than somebody wants them, and measured by when they came."""

import asyncio

from gate_house import house, token

MIB = 1 << 20


async def test_each_token_is_there_before_the_next_is_made() -> None:
    """The upstream makes a token only after the client has the one before, and a head before the first: nothing is buffered."""
    async with house() as here:
        client = await here.client()
        await client.ask()
        asked = await here.upstream.asked()
        await asked.begin()
        status, headers = await client.head()
        assert (status, headers["content-type"]) == ("200 OK", "text/event-stream")
        for number in range(50):
            await asked.chunk(token(f"t{number}"))
            assert await client.chunk() == token(f"t{number}").encode()
        await asked.chunk("")
        assert await client.chunk() == b""


async def test_a_stream_is_measured_as_it_comes() -> None:
    """TTFT is when the first token came, not the head or the role; TPOT is the time between; latency is all of it."""
    async with house() as here:
        client = await here.client()
        await client.ask()
        asked = await here.upstream.asked()
        await asked.begin()
        await client.head()
        for step_s, piece in (
            (1, 'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'),
            (2, token("a")),
            (3, token("b")),
            (5, token("c")),
        ):
            here.clock.advance(step_s)
            await asked.chunk(piece)
            await client.chunk()
        here.clock.advance(7)
        await asked.chunk("")
        await client.chunk()
        await here.until(lambda: here.gate.load.inflight == 0)
        report = here.gate.end_window()
        assert report is not None
        close = [(report.ttft_ms, 3000), (report.tpot_ms, 4000), (report.p50_ms, 18_000)]
        assert all(value is not None and abs(value - expected) < expected / 250 for value, expected in close)
        assert (report.requests, report.errors) == (1, 0)


async def test_a_slow_client_holds_the_upstream_up_and_not_its_measure() -> None:
    """A client that does not read makes the upstream wait, not the gate's memory grow; ten seconds of it are not the server's."""
    async with house() as here:
        client = await here.client()
        await client.ask()
        asked = await here.upstream.asked()
        await asked.begin()
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for _ in range(64):
                await asked.chunk(b"x" * MIB)
                sent += 1
            await asked.chunk("")

        flooding = asyncio.create_task(flood())
        await here.until(lambda: here.gate.held_up == 1)
        assert (await here.stats())["held_up_by_clients"] == 1
        here.clock.advance(10)
        assert sent < 64
        await client.head()
        got = 0
        while piece := await client.chunk():
            got += len(piece)
        await flooding
        assert got == 64 * MIB
        await here.until(lambda: here.gate.load.inflight == 0)
        report = here.gate.end_window()
        assert report is not None
        assert report.p99_ms == 0.0


async def test_a_slow_server_is_measured() -> None:
    """The control: the same ten seconds, when it is the server that is waited for, are its latency."""
    async with house() as here:
        client = await here.client()
        await client.ask()
        asked = await here.upstream.asked()
        here.clock.advance(10)
        await asked.answer()
        await client.answer()
        report = here.gate.end_window()
        assert report is not None
        assert report.p99_ms == 10_000.0


async def test_a_slow_upload_is_not_the_servers() -> None:
    """Time for which the client is waited for while it sends its request does not count, and the time after does."""
    async with house() as here:
        client = await here.client()
        await client.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n" + "x" * 100_000)
        asked = await here.upstream.asked()
        await asked.reader.readexactly(100_000)
        await here.until(lambda: here.gate.held_up == 1)
        here.clock.advance(60)
        await client.send("y" * 100_000)
        await asked.reader.readexactly(100_000)
        await here.until(lambda: here.gate.held_up == 0)
        asked.headers.clear()
        here.clock.advance(1)
        await asked.answer()
        await client.answer()
        report = here.gate.end_window()
        assert report is not None
        assert report.p99_ms == 1000.0


async def test_a_client_that_leaves_before_the_answer() -> None:
    """The upstream's connection is closed at once, so that it need not go on; it is no error, and the place is free."""
    async with house(concurrency=1) as here:
        client = await here.client()
        await client.ask()
        asked = await here.upstream.asked()
        await asked.body()
        client.leave()
        assert await asked.gone()
        await here.until(lambda: here.gate.load.inflight == 0)
        totals = here.gate.meter.totals
        assert (totals.abandoned, totals.errors, totals.requests) == (1, 0, 0)


async def test_a_client_that_leaves_in_the_middle() -> None:
    """A stream that nobody reads any more is closed upstream."""
    async with house() as here:
        client = await here.client()
        await client.ask()
        asked = await here.upstream.asked()
        await asked.body()
        await asked.begin()
        await asked.chunk(token("a"))
        await client.head()
        client.leave()
        assert await asked.gone()
        await here.until(lambda: here.gate.load.inflight == 0)
        assert (here.gate.meter.totals.abandoned, here.gate.meter.totals.errors) == (1, 0)


async def test_a_client_that_leaves_the_queue() -> None:
    """Who waited and left is never sent to the upstream, and the next in the queue goes in its place."""
    async with house(concurrency=1, queue=2, queue_timeout_s=0) as here:
        first, second, third = [await here.client() for _ in range(3)]
        await first.ask("/first")
        asked = await here.upstream.asked()
        for number, (client, path) in enumerate(((second, "/second"), (third, "/third")), start=1):
            await client.ask(path)
            await here.until(lambda waiting=number: here.gate.load.queued == waiting)  # type: ignore[misc]
        second.leave()
        await here.until(lambda: here.gate.load.queued == 1)
        await asked.answer()
        following = await here.upstream.asked()
        assert following.first == "POST /third HTTP/1.1"
        await following.answer()
        assert await third.answer() == ("200 OK", "fine")


async def test_a_long_body_is_passed_on_as_it_comes() -> None:
    """The upstream has the first piece of an upload before the client has sent the second; in chunks, and with a length."""
    async with house() as here:
        for head, pieces in (
            ("Transfer-Encoding: chunked\r\n", ("5\r\nhello\r\n", "5\r\nworld\r\n", "0\r\n\r\n")),
            ("Content-Length: 200000\r\n", ("x" * 100_000, "y" * 100_000)),
        ):
            client = await here.client()
            await client.send(f"POST /up HTTP/1.1\r\nHost: h\r\n{head}\r\n")
            seen = ""
            await client.send(pieces[0])
            asked = await here.upstream.asked()
            for piece in pieces[1:]:
                seen += (await asked.reader.read(65_536)).decode()
                await client.send(piece)
            while not seen.endswith(("0\r\n\r\n", "y" * 99_000)):
                seen += (await asked.reader.read(65_536)).decode()
            assert seen.count("hello") + seen.count("x" * 100_000) == 1
            asked.headers.clear()
            await asked.answer()
            assert await client.answer() == ("200 OK", "fine")
