"""Accounting over any history of work, restarts and new regions."""

from hypothesis import given
from hypothesis import strategies as st

from mica.events import UsageLedger, decode_document, encode_document
from mica.telemetry.accounting import PARALLEL_MAX, Book, Moment, Reading

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
UPTIME = 86_400 * SECOND

SAMPLE = st.tuples(st.just("work"), st.integers(0, 3 * SECOND), st.integers(0, 1 << 36), st.integers(1, 30 * SECOND))
EVENT = st.one_of(SAMPLE, st.just(("flush",)), st.just(("crash",)))


class Machine:
    """A region that counts, and telemetry that samples, stores and crashes."""

    def __init__(self) -> None:
        self.elapsed = 0
        self.counter = 0
        self.true_gpu_ns = 0
        self.book = Book("n1")
        self.stored = encode_document(UsageLedger(node="n1"))

    def moment(self) -> Moment:
        return Moment(unix_ns=START + self.elapsed, uptime_ns=UPTIME + self.elapsed)

    def work(self, gpu_ns: int, vram_bytes: int, step_ns: int) -> None:
        self.elapsed += step_ns
        self.counter += gpu_ns
        self.true_gpu_ns += gpu_ns
        self.sample(vram_bytes)

    def sample(self, vram_bytes: int = 0) -> None:
        self.book.charge("s1", "acme", {"GPU-1": Reading(gpu_ns=self.counter, vram_bytes=vram_bytes)}, self.moment())

    def flush(self) -> None:
        self.stored = encode_document(self.book.ledger({"s1"}))

    def crash(self) -> None:
        self.book = Book("n1")
        self.book.restore(decode_document(self.stored, UsageLedger))

    def summed(self) -> tuple[int, float]:
        usage = self.book.ledger({"s1"}).slices.get("s1")
        return (usage.gpu_ns, usage.vram_byte_s) if usage else (0, 0.0)


@given(st.lists(EVENT, max_size=40))
def test_crashes_neither_lose_nor_double(events: list[tuple[object, ...]]) -> None:
    """However often telemetry crashes, and however little of its work it had stored, the sum is the region's own counter."""
    machine = Machine()
    for name, *arguments in events:
        getattr(machine, str(name))(*arguments)
    machine.sample()
    assert machine.summed()[0] == machine.true_gpu_ns


@given(st.lists(EVENT, max_size=40))
def test_what_is_stored_never_shrinks(events: list[tuple[object, ...]]) -> None:
    """Whoever reads the stored ledger twice never sees less the second time."""
    machine = Machine()
    seen = (0, 0.0)
    for name, *arguments in events:
        getattr(machine, str(name))(*arguments)
        usage = decode_document(machine.stored, UsageLedger).slices.get("s1")
        now = (usage.gpu_ns, usage.vram_byte_s) if usage else (0, 0.0)
        assert now[0] >= seen[0]
        assert now[1] >= seen[1]
        seen = now


@given(st.lists(st.tuples(st.integers(0, 2 * SECOND), st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_new_regions_never_double(history: list[tuple[int, bool, bool]]) -> None:
    """When regions are made anew at any time, the sum is at most what was used, and exact when each was sampled to its end."""
    machine = Machine()
    hidden = False
    for gpu_ns, renewed, sampled in history:
        machine.elapsed += 2 * SECOND
        if renewed:
            machine.counter = 0
        machine.counter += gpu_ns
        machine.true_gpu_ns += gpu_ns
        if sampled:
            machine.sample()
        hidden |= renewed or not sampled
    assert machine.summed()[0] <= machine.true_gpu_ns
    if not hidden:
        assert machine.summed()[0] == machine.true_gpu_ns


@given(st.lists(st.integers(0, (1 << 63) - 1), min_size=1, max_size=30))
def test_any_counter_is_bounded(counters: list[int]) -> None:
    """Whatever a tenant writes into its region, the sum only grows and stays within what the machine's uptime allows."""
    machine = Machine()
    before = 0
    for value in counters:
        machine.elapsed += SECOND
        machine.counter = value
        machine.sample()
        assert before <= machine.summed()[0] <= PARALLEL_MAX * (UPTIME + machine.elapsed)
        before = machine.summed()[0]


@given(st.lists(st.tuples(st.integers(0, 1 << 36), st.integers(1, 10 * SECOND)), min_size=2, max_size=20), st.data())
def test_memory_is_the_same_with_and_without_crashes(levels: list[tuple[int, int]], data: st.DataObject) -> None:
    """A crash right after storing changes nothing in the byte-seconds."""
    steady, crashing = Machine(), Machine()
    for level, step_ns in levels:
        for machine in (steady, crashing):
            machine.work(0, level, step_ns)
        if data.draw(st.booleans()):
            crashing.flush()
            crashing.crash()
    assert crashing.summed() == steady.summed()
