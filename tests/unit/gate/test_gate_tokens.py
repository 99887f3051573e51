"""What is read of an answer: its first and last token, and how many there were."""

import pytest

from mica.gate.domain.tokens import EVENT_MAX, EventStream, FirstByte, Tokens, Unmeasured, timing_of, weigh

EVENTS = {
    "a chat's first event, with a role only": ('{"choices":[{"delta":{"role":"assistant"}}]}', (False, 0)),
    "an empty content": ('{"choices":[{"delta":{"content":""}}]}', (False, 0)),
    "a token of a chat": ('{"choices":[{"index":0,"delta":{"content":"Hi"}}]}', (True, 0)),
    "a token of thinking": ('{"choices":[{"delta":{"reasoning_content":"Hm"}}]}', (True, 0)),
    "a part of a tool call": ('{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}', (True, 0)),
    "a token of a completion": ('{"choices":[{"text":"Hi"}]}', (True, 0)),
    "usage at the end of a chat": ('{"choices":[],"usage":{"completion_tokens":7,"prompt_tokens":3}}', (False, 7)),
    "usage beside each token": ('{"choices":[{"delta":{"content":"x"}}],"usage":{"completion_tokens":4}}', (True, 4)),
    "a delta of a response": ('{"type":"response.output_text.delta","delta":"Hi"}', (True, 0)),
    "the begin of a response": ('{"type":"response.created","response":{"usage":null}}', (False, 0)),
    "the end of a response": ('{"type":"response.completed","response":{"usage":{"output_tokens":9}}}', (False, 9)),
    "a delta of a message": ('{"type":"content_block_delta","delta":{"text":"Hi"}}', (True, 0)),
    "the end of a stream": ("[DONE]", (False, 0)),
    "text that is no JSON": ("tick", (True, 0)),
    "JSON of another form": ('{"temperature": 21}', (True, 0)),
    "JSON that is no object": ("[1, 2]", (True, 0)),
    "what is nested too deep": ("[" * 10_000, (True, 0)),
    "wrong types where tokens would be": ('{"choices": 3}', (True, 0)),
}


@pytest.mark.parametrize(("data", "expected"), EVENTS.values(), ids=EVENTS)
def test_events_are_weighed(data: str, expected: tuple[bool, int]) -> None:
    """Each form of event is a part of the answer or not, and tells how many tokens there were or not."""
    assert weigh(data.encode()) == expected


def stream(*pieces: tuple[str, int]) -> Tokens | None:
    """What is told of pieces and when they came."""
    events = EventStream()
    for piece, at_ns in pieces:
        events.on_bytes(piece.encode(), at_ns)
    return events.tokens()


def test_tokens_are_timed_by_the_events_that_hold_them() -> None:
    """A role and usage begin and end nothing; time for a token is what lies between the first and the last, for each but one."""
    tokens = stream(
        ('data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n', 10),
        ('data: {"choices":[{"delta":{"content":"a"}}]}\n\n', 20),
        ('data: {"choices":[{"delta":{"content":"b"}}]}\n\n', 30),
        ('data: {"choices":[{"delta":{"content":"c"}}]}\n\n', 60),
        ('data: {"choices":[],"usage":{"completion_tokens":5}}\n\ndata: [DONE]\n\n', 99),
    )
    assert tokens == Tokens(20, 60, 5)
    assert tokens.tpot_ns == 10


def test_one_token_has_no_time_between() -> None:
    """An answer of one token has a first token and no time for each further one."""
    tokens = stream(("data: x\n\n", 5))
    assert tokens is not None
    assert (tokens.first_ns, tokens.tpot_ns) == (5, None)


def test_an_event_counts_when_its_end_has_come() -> None:
    """Half an event is no token, comments and other fields are none, and several data lines are one event."""
    assert stream((": ping\n\nevent: x\nid: 3\n\ndata: half", 1)) is None
    assert stream(("data: one\ndata: two\n", 1), ("\n", 2)) == Tokens(2, 2, 1)


def test_an_endless_event_is_given_up() -> None:
    """An event beyond a mebibyte is not kept, nor what follows; what was read before stays."""
    events = EventStream()
    events.on_bytes(b"data: a\n\n", 1)
    for _ in range(3):
        events.on_bytes(b"x" * (EVENT_MAX // 2), 2)
    assert events._line == b""
    events.on_bytes(b"\n\ndata: b\n\n", 3)
    assert events.tokens() == Tokens(1, 1, 1)


def test_how_an_answer_is_measured_follows_from_its_head() -> None:
    """Events are read where they are plain; a whole JSON answer of a model tells no first token; all else has a first byte."""
    assert isinstance(timing_of("/v1/chat/completions", "text/event-stream; charset=utf-8", ""), EventStream)
    assert isinstance(timing_of("/v1/chat/completions", "text/event-stream", "gzip"), FirstByte)
    assert isinstance(timing_of("/v1/chat/completions", "application/json", "gzip"), Unmeasured)
    assert isinstance(timing_of("/v1/embeddings", "application/json", ""), FirstByte)
    assert isinstance(timing_of("/", "text/html", ""), FirstByte)
