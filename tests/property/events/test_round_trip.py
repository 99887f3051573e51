"""Whatever mica publishes, mica reads back."""

from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import inspect as shape

from mica.events import CHANNELS, MSGPACK, Command, EventError, Fact, content_type, decode, encode, subject_of


def strategy_of(kind: shape.Type) -> st.SearchStrategy[Any]:
    """A strategy for every value that msgspec accepts for a type."""
    match kind:
        case shape.Metadata():
            return strategy_of(kind.type)
        case shape.StrType():
            if kind.pattern:
                return st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z")
            return st.text(min_size=kind.min_length or 0, max_size=min(kind.max_length or 20, 20))
        case shape.BoolType():
            return st.booleans()
        case shape.IntType():
            return st.integers(kind.ge if kind.ge is not None else -(1 << 40), kind.le if kind.le is not None else 1 << 50)
        case shape.FloatType():
            low = kind.ge if kind.ge is not None else (1e-6 if kind.gt is not None else -1e9)
            return st.floats(low, kind.le or 1e9, allow_nan=False)
        case shape.EnumType():
            return st.sampled_from(list(kind.cls))
        case shape.NoneType():
            return st.none()
        case shape.UnionType():
            return st.one_of(*map(strategy_of, kind.types))
        case shape.VarTupleType():
            return st.lists(strategy_of(kind.item_type), max_size=2).map(tuple)
        case shape.DictType():
            return st.dictionaries(strategy_of(kind.key_type), strategy_of(kind.value_type), max_size=2)
        case shape.StructType():
            return st.builds(kind.cls, **{field.name: strategy_of(field.type) for field in kind.fields})
    raise AssertionError(f"no strategy for {kind}")


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.subject)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_an_event_survives_its_bytes(channel: Any, data: st.DataObject) -> None:
    """decode(encode(event)) == event on its own subject, and JSON bodies meet the published schema."""
    event: Command | Fact = data.draw(strategy_of(shape.type_info(channel.event)))
    body = encode(event)
    assert decode(subject_of(event), body, content_type(event)) == event
    if content_type(event) != MSGPACK:
        schema = msgspec.json.schema(channel.event)
        jsonschema.validate(msgspec.json.decode(body), schema)


@given(body=st.binary(max_size=200), subject=st.sampled_from([channel.subject for channel in CHANNELS]))
@example(body=b"\xd4\x00\x00", subject="slice.request")  # an extension
@example(body=b"\x81\x90\xc0", subject="slice.request")  # a map with a list for a key
@example(body=b"\x81\xa2id\xd4\x00\x00", subject="slice.request")  # an extension for a field
@example(body=b'{"": 1}', subject="slice.request")  # a field without a name
@settings(max_examples=300, deadline=None)
def test_foreign_bytes_are_an_event_or_an_event_error(body: bytes, subject: str) -> None:
    """No bytes raise anything but EventError."""
    for content in (None, MSGPACK):
        try:
            decode(f"{subject}.x", body, content)
        except EventError as error:
            assert error.field
