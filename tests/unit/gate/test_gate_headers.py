"""What passes through and what stays; and what the gate says itself."""

import msgspec

from mica.gate.domain.answers import Answer, body_of, headers_of
from mica.gate.domain.headers import asks_for_websocket, to_client, to_upstream

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def upstream(*headers: tuple[str, str]) -> list[tuple[str, str]]:
    """A client's headers as the upstream gets them."""
    return to_upstream(headers, peer="10.0.0.9", scheme="http", via="1.1 mica-gate-s1", traceparent=TRACE)


def test_end_to_end_headers_pass_as_they_are() -> None:
    """Names keep their case, values their spelling, repeated ones stay repeated and in order."""
    given = [("Authorization", "Bearer  x"), ("cookie", "a=1"), ("X-One", "1"), ("x-one", "2"), ("tracestate", "v=1")]
    assert upstream(*given)[: len(given)] == given


def test_one_connections_headers_stay_on_it() -> None:
    """Hop-by-hop headers, and whatever Connection names, go no further, in either direction."""
    given = [
        ("Connection", "close, X-Mine"),
        ("X-Mine", "1"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Trailer", "X-Sum"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("Proxy-Authorization", "secret"),
        ("Expect", "100-continue"),
    ]
    added = {"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Via", "traceparent"}
    assert {name for name, _ in upstream(*given)} == added
    assert list(to_client([*given[:7], ("Set-Cookie", "a"), ("Set-Cookie", "b")])) == [("Set-Cookie", "a"), ("Set-Cookie", "b")]


def test_who_asked_is_told() -> None:
    """The peer joins those that were forwarded before; host and scheme are those of the first proxy; the trace is continued."""
    told = dict(upstream(("Host", "api.example"), ("X-Forwarded-For", "1.2.3.4"), ("Via", "1.0 old"), ("traceparent", "x")))
    assert told["X-Forwarded-For"] == "1.2.3.4, 10.0.0.9"
    assert told["X-Forwarded-Host"] == "api.example"
    assert told["X-Forwarded-Proto"] == "http"
    assert told["Via"] == "1.0 old, 1.1 mica-gate-s1"
    assert told["traceparent"] == TRACE
    again = dict(upstream(("Host", "inner"), ("X-Forwarded-Host", "outer"), ("X-Forwarded-Proto", "https")))
    assert (again["X-Forwarded-Host"], again["X-Forwarded-Proto"]) == ("outer", "https")


def test_websockets_are_recognised() -> None:
    """An upgrade to WebSocket, in any case, and nothing else."""
    assert asks_for_websocket([("Upgrade", "WebSocket")])
    assert not asks_for_websocket([("Upgrade", "h2c"), ("Connection", "upgrade")])


def test_errors_have_the_form_of_the_path() -> None:
    """Below /v1/ an error is what OpenAI's clients read, elsewhere one line; both carry one message and when to come again."""
    said = Answer(status=429, code="rate_limit_exceeded", message="too many", retry_after_s=3)
    content_type, body = body_of(said, "/v1/chat/completions")
    assert content_type == "application/json"
    assert msgspec.json.decode(body) == {
        "error": {"message": "mica gate: too many", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
    }
    assert body_of(said, "/predict") == ("text/plain; charset=utf-8", b"mica gate: too many\n")
    assert headers_of(said)["Retry-After"] == "3"
    assert "Retry-After" not in headers_of(Answer(status=502, code="x", message="y"))
