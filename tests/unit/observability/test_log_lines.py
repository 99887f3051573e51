"""The log is one line per record."""

import io
import logging
from collections.abc import Iterator

import pytest

from mica.observability import configure_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(level: str = "") -> io.StringIO:
    """The stream that a freshly configured log writes to."""
    stream = io.StringIO()
    configure_logging("planner", {"MICA_LOG": level} if level else {}, stream)
    return stream


def fail() -> None:
    """Raise what takes two lines to print."""
    raise ValueError("two\nlines")


def test_extra_fields() -> None:
    """A record shows its time, level, service and message, then what came with it."""
    stream = logged()
    logging.getLogger("x").info("slice %s placed", "s1", extra={"device": "GPU-1", "vram_bytes": 5})
    line = stream.getvalue()
    assert 'INFO mica-planner slice s1 placed device="GPU-1" vram_bytes=5\n' in line
    assert line[10] == "T"
    assert line[23] == "Z"


def test_newlines() -> None:
    """A tenant's newline cannot forge a second line."""
    stream = logged()
    logging.getLogger("x").warning("name %s", "a\nb\r2026 INFO forged", extra={"field": "c\nd"})
    assert stream.getvalue().count("\n") == 1


def test_exceptions() -> None:
    """An exception stays on its record's line, with what it was and where it came from."""
    stream = logged()
    try:
        fail()
    except ValueError:
        logging.getLogger("x").exception("place")
    assert stream.getvalue().count("\n") == 1
    assert "ValueError: two" in stream.getvalue()
    assert "test_log_lines.py:" in stream.getvalue()


def test_levels() -> None:
    """MICA_LOG names the lowest level that is shown; info by default."""
    stream = logged()
    logging.getLogger("x").debug("hidden")
    assert stream.getvalue() == ""
    stream = logged("DEBUG")
    logging.getLogger("x").debug("shown")
    assert "shown" in stream.getvalue()


def test_an_unknown_level() -> None:
    """A level that does not exist is named once, with the levels that do, and info is used."""
    stream = logged("loud")
    logging.getLogger("x").info("shown")
    first, second = stream.getvalue().splitlines()
    assert "MICA_LOG: got loud, allowed: debug, info, warning, error" in first
    assert "shown" in second
