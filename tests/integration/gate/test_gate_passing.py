"""What passes through a gate passes untouched: bytes, encodings, headers, paths, lengths."""

import gzip

from gate_house import Client, House, body_of, house

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_path_is_passed_as_it_was_written() -> None:
    """Nothing is decoded, joined, or put in order; an absolute target loses its host only; an upstream's own path comes first."""
    async with house() as here:
        client = await here.client()
        for written, passed in (
            ("/a%2Fb/%7Ec?q=%20+x&q=", "/a%2Fb/%7Ec?q=%20+x&q="),
            ("//double//slash/", "//double//slash/"),
            ("/dots/../and/./dots", "/dots/../and/./dots"),
            ("http://elsewhere.example/path?x", "/path?x"),
            ("/mica", "/mica"),
        ):
            await client.ask(written, method="GET", body="")
            asked = await here.upstream.asked()
            assert asked.first == f"GET {passed} HTTP/1.1"
            await asked.answer()
            await client.answer()
    async with house() as here, house(instead=(f"{here.upstream.url}/base/",)) as there:
        client = await there.client()
        await client.ask("/v1/models?x", method="GET", body="")
        asked = await here.upstream.asked()
        assert asked.first == "GET /base/v1/models?x HTTP/1.1"
        await asked.answer()
        await client.answer()


async def test_headers_say_who_asked() -> None:
    """The upstream hears whom the client spoke to, from where, and in which trace; nothing of the connection between."""
    async with house() as here:
        client = await here.client()
        await client.ask(
            headers=f"Authorization: Bearer k\r\ntraceparent: {TRACE}\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n"
        )
        asked = await here.upstream.asked()
        seen = dict(asked.headers)
        await asked.answer()
        await client.answer()
        assert seen["host"] == here.upstream.url.removeprefix("http://")
        assert (seen["authorization"], seen["x-forwarded-for"], seen["x-forwarded-host"]) == (
            "Bearer k",
            "127.0.0.1",
            "api.example",
        )
        assert (seen["via"], seen["traceparent"]) == ("1.1 mica-gate-s1", TRACE)
        assert not {"x-hop", "user-agent", "accept", "accept-encoding", "content-type"} & set(seen)
        await client.ask()
        asked = await here.upstream.asked()
        assert len(asked.headers["traceparent"]) == len(TRACE)
        await asked.answer()
        await client.answer()


async def test_an_answers_headers_pass() -> None:
    """Repeated headers stay repeated, connection headers stay behind, and the upstream's server and date are its own."""
    async with house() as here:
        client = await here.client()
        await client.ask()
        asked = await here.upstream.asked()
        told = "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        told += "Server: vllm\r\nDate: then\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\n"
        await asked.answer(headers=told)
        _, headers = await client.head()
        await body_of(client.reader, headers)
        assert (headers["set-cookie"], headers["server"], headers["date"]) == ("a=1|b=2", "vllm", "then")
        assert "keep-alive" not in headers


async def test_encodings_pass() -> None:
    """A compressed body is neither unpacked nor packed anew, on the way there or back, in one piece or in chunks."""
    packed = gzip.compress(b"hello " * 1000)
    async with house() as here:
        client = await here.client()
        await client.send(
            b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(packed), packed)
        )
        asked = await here.upstream.asked()
        assert asked.headers["content-encoding"] == "gzip"
        assert await asked.body() == packed
        await asked.begin(headers="Content-Encoding: gzip\r\nContent-Type: text/event-stream\r\n")
        for piece in (packed[:10], packed[10:], b""):
            await asked.chunk(piece)
        _, headers = await client.head()
        assert headers["content-encoding"] == "gzip"
        assert await body_of(client.reader, headers) == packed


async def test_answers_without_a_body() -> None:
    """HEAD keeps the length that GET would have; 204 and 304 have none; the connection goes on after each."""
    async with house() as here:
        client = await here.client()
        await client.ask(method="HEAD", body="")
        asked = await here.upstream.asked()
        await asked.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
        asked.done.set()
        status, headers = await client.head()
        assert (status, headers["content-length"]) == ("200 OK", "1234")
        for told in ("204 No Content", '304 Not Modified\r\nETag: "x"'):
            await client.ask(method="GET", body="")
            asked = await here.upstream.asked()
            await asked.send(f"HTTP/1.1 {told}\r\n\r\n")
            asked.done.set()
            status, headers = await client.head()
            assert status == told.partition("\r\n")[0]
            assert "transfer-encoding" not in headers
        await client.ask()
        await (await here.upstream.asked()).answer(body="")
        assert await client.answer() == ("200 OK", "")


async def test_redirects_pass() -> None:
    """The gate follows nothing itself."""
    async with house() as here:
        client = await here.client()
        await client.ask()
        await (await here.upstream.asked()).answer("307 Temporary Redirect", headers="Location: http://127.0.0.1:1/x\r\n")
        status, headers = await client.head()
        assert (status, headers["location"]) == ("307 Temporary Redirect", "http://127.0.0.1:1/x")


async def continued(here: House, client: Client) -> str:
    """Ask for leave to send a body; the first line that comes back."""
    await client.send("POST /v1/x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    return (await client.reader.readline()).decode().strip()


async def test_a_body_is_asked_for_when_it_may_come() -> None:
    """Who expects 100-continue gets it once there is a place, and a refusal before it has sent its body."""
    async with house(rate_hz=1.0, burst=1) as here:
        client = await here.client()
        assert await continued(here, client) == "HTTP/1.1 100 Continue"
        await client.reader.readline()
        await client.send("{}")
        asked = await here.upstream.asked()
        assert "expect" not in asked.headers
        assert await asked.body() == b"{}"
        await asked.answer()
        assert await client.answer() == ("200 OK", "fine")
        assert await continued(here, client) == "HTTP/1.1 429 Too Many Requests"


async def test_options_and_odd_methods_pass() -> None:
    """OPTIONS (of all), PATCH and DELETE with a body are for the upstream to answer."""
    async with house() as here:
        client = await here.client()
        for method, path in (("OPTIONS", "/v1/x"), ("PATCH", "/v1/x"), ("DELETE", "/v1/x")):
            await client.ask(path, method=method, body="{}")
            asked = await here.upstream.asked()
            assert asked.first == f"{method} {path} HTTP/1.1"
            assert await asked.body() == b"{}"
            await asked.answer()
            assert await client.answer() == ("200 OK", "fine")


async def test_large_headers_pass() -> None:
    """A token of twenty kilobytes is no reason to refuse, in either direction."""
    async with house() as here:
        client = await here.client()
        await client.ask(headers=f"Authorization: {'k' * 20_000}\r\n")
        asked = await here.upstream.asked()
        assert len(asked.headers["authorization"]) == 20_000
        await asked.answer(headers=f"X-Big: {'b' * 20_000}\r\n")
        _, headers = await client.head()
        assert len(headers["x-big"]) == 20_000


async def test_the_gate_answers_for_itself() -> None:
    """Health and statistics have a prefix of their own, which reaches no upstream; what else stands there is 404."""
    async with house(concurrency=7) as here:
        client = await here.client()
        await client.ask("/mica/healthz", method="GET", body="")
        assert await client.answer() == ("200 OK", '{"slice":"s1","breaker":"closed","bus":false}\n')
        stats = await here.stats()
        assert (stats["limits"]["concurrency"], stats["totals"]["requests"], stats["slo"]) == (7, 0, None)
        for path, method, status in (("/mica/else", "GET", "404"), ("/mica/stats", "POST", "405")):
            await client.ask(path, method=method, body="")
            assert (await client.answer())[0].startswith(status)
        assert here.upstream.connections == 0
