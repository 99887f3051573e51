"""What slices have used is summed up once, and never shrinks."""

import pytest

from mica.events import Usage, UsageLedger
from mica.telemetry.accounting import CEILING_NS, GONE_KEPT, PARALLEL_MAX, Book, Moment, Reading, charge

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def moment(after_s: float) -> Moment:
    """So long after the machine had been up for an hour."""
    return Moment(unix_ns=START + int(after_s * SECOND), uptime_ns=3600 * SECOND + int(after_s * SECOND))


def one(gpu_ns: int, vram_bytes: int = 0, device: str = "GPU-1") -> dict[str, Reading]:
    """A reading of one device."""
    return {device: Reading(gpu_ns=gpu_ns, vram_bytes=vram_bytes)}


def test_first_sight() -> None:
    """What a slice had used before telemetry saw it is its own; memory is charged from now on."""
    usage = charge(Usage(tenant="acme"), one(5 * SECOND, 100), moment(0))
    assert (usage.gpu_ns, usage.vram_byte_s, usage.since) == (5 * SECOND, 0.0, START)


def test_progress() -> None:
    """Counters add their growth, memory its level times the time."""
    usage = charge(Usage(tenant="acme"), one(SECOND, 100), moment(0))
    usage = charge(usage, one(3 * SECOND, 100), moment(2))
    assert (usage.gpu_ns, usage.vram_byte_s, usage.last_seen) == (3 * SECOND, 200.0, START + 2 * SECOND)


def test_a_region_that_started_over() -> None:
    """A counter that fell belongs to a new region: it adds all it shows, and no memory for the time in between."""
    usage = charge(Usage(tenant="acme"), one(3 * SECOND, 100), moment(0))
    usage = charge(usage, one(SECOND, 100), moment(10))
    assert (usage.gpu_ns, usage.vram_byte_s) == (4 * SECOND, 0.0)


def test_a_gang() -> None:
    """A slice on two devices is charged for both; one that cannot be read now is caught up with later."""
    usage = charge(Usage(tenant="acme"), one(SECOND) | one(SECOND, device="GPU-2"), moment(0))
    usage = charge(usage, one(2 * SECOND), moment(1))
    usage = charge(usage, one(2 * SECOND) | one(4 * SECOND, device="GPU-2"), moment(2))
    assert usage.gpu_ns == 6 * SECOND


def test_a_clock_set_back() -> None:
    """Wall time that goes backwards takes nothing back."""
    usage = charge(Usage(tenant="acme"), one(SECOND, 100), moment(0))
    usage = charge(usage, one(2 * SECOND, 100), moment(5))
    after = charge(usage, one(3 * SECOND, 100), moment(-1000))
    assert (after.gpu_ns, after.vram_byte_s, after.last_seen) == (3 * SECOND, usage.vram_byte_s, usage.last_seen)


def test_a_lying_counter() -> None:
    """A tenant that writes nonsense into its region is charged no more than its processes could have used."""
    usage = charge(Usage(tenant="acme"), one(SECOND), moment(0))
    usage = charge(usage, one(CEILING_NS), moment(1))
    assert usage.gpu_ns == PARALLEL_MAX * 3601 * SECOND
    for turn in range(5):
        usage = charge(usage, one(turn % 2 * CEILING_NS), moment(2 + turn))
    assert usage.gpu_ns <= PARALLEL_MAX * 3606 * SECOND


def test_restoring() -> None:
    """A restart goes on from the stored ledger, without counting anything twice."""
    book = Book("n1")
    book.charge("s1", "acme", one(SECOND, 100), moment(0))
    stored = book.ledger({"s1"})
    restarted = Book("n1")
    restarted.restore(stored)
    assert not restarted.dirty
    restarted.charge("s1", "acme", one(3 * SECOND, 100), moment(4))
    usage = restarted.ledger({"s1"}).slices["s1"]
    assert (usage.gpu_ns, usage.vram_byte_s) == (3 * SECOND, 400.0)


def test_restoring_an_older_ledger() -> None:
    """A ledger that is behind the book takes nothing from it."""
    book = Book("n1")
    book.charge("s1", "acme", one(3 * SECOND), moment(0))
    book.restore(UsageLedger(node="n1", slices={"s1": Usage(tenant="acme", gpu_ns=SECOND), "s0": Usage(tenant="b")}))
    ledger = book.ledger({"s1"})
    assert ledger.slices["s1"].gpu_ns == 3 * SECOND
    assert "s0" in ledger.slices


def test_bounded() -> None:
    """Of the slices that are gone the newest thousand stay, and every living one does."""
    book = Book("n1")
    book.charge("old-and-living", "acme", one(1), moment(0))
    for index in range(GONE_KEPT + 5):
        book.charge(f"s{index}", "acme", one(1), moment(1 + index))
    ledger = book.ledger({"old-and-living"})
    assert len(ledger.slices) == GONE_KEPT + 1
    assert "old-and-living" in ledger.slices
    assert "s4" not in ledger.slices
    assert "s5" in ledger.slices


@pytest.mark.parametrize("level", [0, 1 << 50])
def test_extremes(level: int) -> None:
    """A slice that holds nothing costs nothing; one that holds a petabyte for a year is still a finite number."""
    usage = charge(Usage(tenant="acme"), one(0, level), moment(0))
    usage = charge(usage, one(0, level), moment(365 * 86_400))
    assert usage.vram_byte_s == level * 365 * 86_400.0
