"""Which headers go through. Invariant: what concerns one connection stays on it, all else passes as it is and in its order.

Source: RFC 9110, section 7.6; RFC 9112 for the length of a body, which each side of the gate frames anew.
"""

from collections.abc import Iterable, Iterator
from typing import Final

Pairs = Iterable[tuple[str, str]]

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_TO_UPSTREAM: Final = HOP_BY_HOP | {
    "host",
    "expect",
    "traceparent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
}
_FIRST_ONLY: Final = ("x-forwarded-host", "x-forwarded-proto")


def to_upstream(headers: Pairs, *, peer: str, scheme: str, via: str, traceparent: str) -> list[tuple[str, str]]:
    """A client's headers as the upstream gets them: with who asked whom, how, by way of whom, and the trace."""
    headers = list(headers)
    dropped = _NOT_TO_UPSTREAM | _named_by_connection(headers)
    passed = [(name, value) for name, value in headers if name.lower() not in dropped]
    told = {name: value for name, value in _joined(headers) if name in _NOT_TO_UPSTREAM}
    forwarded_for = f"{told['x-forwarded-for']}, {peer}" if told.get("x-forwarded-for") else peer
    passed.append(("X-Forwarded-For", forwarded_for))
    passed.append(("X-Forwarded-Host", told.get("x-forwarded-host") or told.get("host", "")))
    passed.append(("X-Forwarded-Proto", told.get("x-forwarded-proto") or scheme))
    passed.append(("Via", f"{told['via']}, {via}" if told.get("via") else via))
    passed.append(("traceparent", traceparent))
    return passed


def to_client(headers: Pairs) -> Iterator[tuple[str, str]]:
    """An upstream's headers as the client gets them."""
    headers = list(headers)
    dropped = HOP_BY_HOP | _named_by_connection(headers)
    return ((name, value) for name, value in headers if name.lower() not in dropped)


def _named_by_connection(headers: Pairs) -> set[str]:
    """What a ``Connection`` header says belongs to this connection only."""
    return {token.strip().lower() for name, value in headers if name.lower() == "connection" for token in value.split(",")}


def _joined(headers: Pairs) -> Iterator[tuple[str, str]]:
    """By name in lower case, the values of repeated headers in one; of those that only the first proxy tells, the first."""
    joined: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        if key not in joined:
            joined[key] = value
        elif key not in _FIRST_ONLY:
            joined[key] = f"{joined[key]}, {value}"
    yield from joined.items()


def asks_for_websocket(headers: Pairs) -> bool:
    """Whether the client wants to change to WebSocket."""
    return any(name.lower() == "upgrade" and "websocket" in value.lower() for name, value in headers)
