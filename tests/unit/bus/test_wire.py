"""What is cut out of the bytes of a connection: messages for listeners; everything else goes on untouched."""

import random

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from mica.bus._wire import Wire


def labelled(subject: str, head: bytes, data: bytes = b"") -> bytes:
    """A message with headers for listener 7, as the server writes it."""
    return b"HMSG %s 7 %d %d\r\n%s%s\r\n" % (subject.encode(), len(head), len(head) + len(data), head, data)


INFO = b'INFO {"server_id":"n"}\r\n'
MINE = b"MSG mine.a 7 5\r\nhello\r\n"
ASKED = b"MSG mine.b 7 reply.1 2\r\nyo\r\n"
LABELLED = labelled("mine.c", b"NATS/1.0\r\nNats-Msg-Id: x-1\r\nA:b: c\r\n\r\n", b"hi")
STATUS = labelled("mine.d", b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Stream: 9\r\n\r\n")
OTHERS = b"MSG theirs 8 12\r\nMSG a 7 1\r\nx\r\n"
PING = b"PING\r\n"


class Heard:
    """A wire with one listener, number 7."""

    def __init__(self) -> None:
        self.messages: list[Msg] = []
        self.wire = Wire(Client())
        self.wire.listen(7, self.messages.append)

    def read(self, *chunks: bytes) -> bytes:
        """Read these one after the other, as they come from a socket; what was passed on."""
        passed, begun = b"", b""
        for chunk in chunks:
            others, begun = self.wire.take(begun + chunk)
            passed += others
        assert begun == b""
        return passed


@pytest.fixture
def heard() -> Heard:
    """A wire with one listener."""
    return Heard()


def test_a_message_reaches_its_listener_with_all_it_carries(heard: Heard) -> None:
    """Subject, reply, headers and data are what the server sent; nothing of it goes on."""
    assert heard.read(MINE + ASKED + LABELLED) == b""
    assert [(m.subject, m.reply, m.headers, m.data) for m in heard.messages] == [
        ("mine.a", "", None, b"hello"),
        ("mine.b", "reply.1", None, b"yo"),
        ("mine.c", "", {"Nats-Msg-Id": "x-1", "A": "b: c"}, b"hi"),
    ]


def test_a_status_is_a_header(heard: Heard) -> None:
    """A heartbeat has no data, its status, and the headers that follow."""
    heard.read(STATUS)
    [message] = heard.messages
    assert message.data == b""
    assert message.headers is not None
    assert (message.headers["Status"], message.headers["Nats-Last-Stream"]) == ("100", "9")


def test_everything_else_goes_on_untouched(heard: Heard) -> None:
    """Control lines and messages of others are passed on in order, even when their data looks like a message of ours."""
    assert heard.read(INFO + OTHERS + MINE + PING) == INFO + OTHERS + PING
    assert [m.subject for m in heard.messages] == ["mine.a"]


@pytest.mark.parametrize("seed", range(20))
def test_nothing_depends_on_how_the_bytes_are_cut(heard: Heard, seed: int) -> None:
    """However a stream falls into pieces, the same messages are heard in the same order, and the same bytes go on."""
    rng = random.Random(seed)
    parts = [rng.choice((INFO, MINE, ASKED, LABELLED, STATUS, OTHERS, PING)) for _ in range(50)]
    stream = b"".join(parts)
    cuts = sorted(rng.sample(range(1, len(stream)), 60))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert heard.read(*chunks) == b"".join(part for part in parts if part in (INFO, OTHERS, PING))
    subjects = {MINE: "mine.a", ASKED: "mine.b", LABELLED: "mine.c", STATUS: "mine.d"}
    assert [m.subject for m in heard.messages] == [subjects[part] for part in parts if part in subjects]


def test_a_subscription_that_ended_is_left_to_the_client(heard: Heard) -> None:
    """What still comes of it goes on; nats-py drops what belongs to nobody."""
    heard.wire.forget(7)
    assert heard.read(MINE) == MINE
    assert heard.messages == []
