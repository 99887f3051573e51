"""What stands in a slice's record."""

import pytest
from enforcer_house import GIB, S1, House, entry, hardware

from mica.enforcer.limits import BURST_NS, QUANTUM_NS, limits_of
from mica.events import Mode, Tier, Window, WorkLimits


async def test_every_limit_of_the_ledger_reaches_the_record(house: House) -> None:
    """Pinned memory, launches a second and in flight, copies, burst, priority."""
    own = WorkLimits(pinned_bytes=GIB, launch_rate_hz=500, inflight_max=8, copy_bytes_per_s=3 * GIB, burst_ns=20_000_000)
    await house.start()
    await house.ledger(entry(limits=own, priority=70))
    record = house.regions.records[S1]
    assert (record.pinned_limit_bytes, record.launch_rate_hz, record.inflight_max) == (GIB, 500, 8)
    assert (record.copy_bytes_per_s, record.burst_ns, record.priority) == (3 * GIB, 20_000_000, 70)


def test_what_nobody_said_is_no_limit_and_the_nodes_own_burst() -> None:
    """0 in the record is no limit; of the burst there is always one."""
    record = limits_of("s1", entry())
    assert (record.pinned_limit_bytes, record.launch_rate_hz, record.inflight_max, record.copy_bytes_per_s) == (0, 0, 0, 0)
    assert record.burst_ns == limits_of("s1", entry(limits=WorkLimits(burst_ns=0))).burst_ns == BURST_NS


def test_only_a_slice_that_shares_its_device_by_time_has_turns() -> None:
    """In a window, too, it is by the device's clock that its last work is known to end there; hardware keeps it apart."""
    window = Window(offset_ns=0, length_ns=1, period_ns=2)
    assert limits_of("s1", entry()).quantum_ns == QUANTUM_NS
    assert limits_of("s1", entry(mode=Mode.TIMESLICE, window=window)).quantum_ns == QUANTUM_NS
    assert limits_of("h1", hardware()).quantum_ns == 0


@pytest.mark.parametrize(
    ("tier", "given_ppm", "expected_ppm"),
    [
        (Tier.GUARANTEED, None, 300_000),
        (Tier.SPOT, None, 300_000),
        (Tier.BURST, None, 1_000_000),
        (Tier.GUARANTEED, 800_000, 800_000),
        (Tier.SPOT, 1_000_000, 1_000_000),
        (Tier.BURST, 600_000, 600_000),
        (Tier.BURST, 200_000, 300_000),
        (Tier.SPOT, 0, 300_000),
    ],
)
def test_what_a_slice_may_use_while_others_are_idle(tier: Tier, given_ppm: int | None, expected_ppm: int) -> None:
    """A burst slice all of the device, unless it was given less; another what it was given. Nobody less than his share."""
    wanted = entry("s1", tier=tier, share_ppm=300_000, limits=WorkLimits(ceiling_ppm=given_ppm))
    assert limits_of("s1", wanted).ceiling_ppm == expected_ppm
