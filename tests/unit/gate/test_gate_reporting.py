"""What is told of a gate, on a bus that does what it likes."""

import asyncio

from mica.bus import Bus, BusUnavailableError, ManualClock, MemoryBus
from mica.events import SloReported
from mica.gate.reporting import KEPT, Reporter

FAILURES = (BusUnavailableError("no server"), RuntimeError("a bug of a library"), OSError("no descriptors left"))


def report(number: int) -> SloReported:
    """A report that can be told from others."""
    return SloReported(at=number, id="s1", requests=number)


async def idle(_: Bus) -> None:
    """Listen to nothing."""
    await asyncio.Event().wait()


async def test_whatever_is_wrong_with_the_bus_the_reporter_goes_on() -> None:
    """After errors of any kind it connects anew, and tells what it kept meanwhile."""
    clock, bus, failures = ManualClock(), MemoryBus(), list(FAILURES)
    reporter = Reporter(clock)

    async def connect() -> Bus:
        if failures:
            raise failures.pop(0)
        return bus

    serving = asyncio.create_task(reporter.serve(connect, idle))
    reporter.tell(report(1))
    while not reporter.told:
        clock.advance(1)
        await asyncio.sleep(0)
    reporter.leave()
    serving.cancel()
    await asyncio.wait({serving})
    assert [heard.event for heard in await bus.history("SLO")] == [report(1)]
    assert not reporter.connected


async def test_a_listener_that_fails_is_begun_anew() -> None:
    """A watch that ends with an error takes nothing else down: it listens again, on a new connection."""
    clock, connections = ManualClock(), 0
    reporter = Reporter(clock)

    async def connect() -> Bus:
        nonlocal connections
        connections += 1
        return MemoryBus()

    async def listen(_: Bus) -> None:
        raise BusUnavailableError("the watch is gone")

    serving = asyncio.create_task(reporter.serve(connect, listen))
    while connections < 3:
        clock.advance(1)
        await asyncio.sleep(0)
    reporter.leave()
    serving.cancel()
    await asyncio.wait({serving})


async def test_what_is_kept_is_bounded() -> None:
    """The newest are kept and the oldest dropped and counted; what the bus refuses is counted, too."""
    reporter, bus = Reporter(ManualClock()), MemoryBus()
    for number in range(KEPT + 10):
        reporter.tell(report(number))
    bus.fail_next("slo.report.s1", "before")
    await reporter.flush(bus)
    told = [heard.event for heard in await bus.history("SLO")]
    assert told == [report(number) for number in range(11, KEPT + 10)]
    assert (reporter.told, reporter.dropped) == (KEPT - 1, 11)
