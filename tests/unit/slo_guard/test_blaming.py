"""Who is blamed, on what evidence, and who is not."""

import math

import pytest

from mica.events import SliceSampled, SloReported
from mica.slo_guard.blaming import Case, Finding, find, has_witness, spearman
from mica.slo_guard.sightings import KEPT, Sightings

GPU = "GPU-1"
ONSET_S = 1060.0
START_S = 1000.0


class Device:
    """Slices with rates over time, sampled each second on a node whose clock is off by a minute."""

    def __init__(self) -> None:
        self.seen = Sightings()
        self.counters: dict[str, dict[str, float]] = {}

    def second(self, at_s: float, **slices: tuple[float, float, float, float]) -> None:
        """One second: of each slice its part of the device, bytes copied, launches, and part of the time held back."""
        for id_, (gpu, copied, launches, held) in slices.items():
            counter = self.counters.setdefault(id_, dict.fromkeys(("gpu_ns", "copied_bytes", "launches", "throttled_ns"), 0.0))
            counter["gpu_ns"] += gpu * 1e9
            counter["copied_bytes"] += copied
            counter["launches"] += launches
            counter["throttled_ns"] += held * 1e9
            sample = SliceSampled(
                at=int((at_s + 60) * 1e9), id=id_, tenant="t", node="n1", device_id=GPU, vram_used_bytes=0, vram_peak_bytes=0,
                vram_limit_bytes=1, share_ppm=300_000, **{name: int(value) for name, value in counter.items()},
            )  # fmt: skip
            self.seen.see(sample, at_s)

    def report(self, at_s: float, requests: int, badness: float) -> None:
        """One window of the victim's."""
        self.seen.hear(SloReported(at=1, id="chat", requests=requests), badness, at_s)

    def witnesses(self) -> bool:
        """Whether a neighbour stepped up with it."""
        return has_witness(Case(victim="chat", devices=(GPU,), onset_s=ONSET_S, now_s=ONSET_S + 1), self.seen)

    def blame(self, now_s: float = ONSET_S + 3, **changes: object) -> Finding:
        """Who it is."""
        case = Case(victim="chat", devices=(GPU,), onset_s=ONSET_S, now_s=now_s, **changes)  # type: ignore[arg-type]
        return find(case, self.seen)


def usual(device: Device, **more: tuple[float, float, float, float]) -> None:
    """A minute of peace."""
    for second in range(int(ONSET_S - START_S) + 1):
        device.second(START_S + second, chat=(0.2, 0, 20, 0.0), batch=(0.1, 1e6, 10, 0), quiet=(0.05, 0, 5, 0), **more)
        device.report(START_S + second, 20, 0.5)


def after(device: Device, seconds: int = 3, requests: int = 20, **slices: tuple[float, float, float, float]) -> None:
    """The breach."""
    here = {"chat": (0.2, 0.0, 20.0, 0.8), "batch": (0.1, 1e6, 10.0, 0.0), "quiet": (0.05, 0.0, 5.0, 0.0), **slices}
    for second in range(1, seconds + 1):
        device.second(ONSET_S + second, **here)
        device.report(ONSET_S + second, requests, 3.0)


@pytest.mark.parametrize(
    ("batch", "cause", "figure"),
    [
        ((0.7, 1e6, 10, 0), "gpu", "gpu_pct_now"),
        ((0.12, 8e9, 10, 0), "copies", "copied_mib_per_s_now"),
        ((0.12, 1e6, 9000, 0), "launches", "launches_hz_now"),
    ],
)
def test_the_neighbour_that_rose_is_named(batch: tuple[float, float, float, float], cause: str, figure: str) -> None:
    """By what it does more of, with the figures from before and now; its innocent neighbour is not."""
    device = Device()
    usual(device)
    after(device, batch=batch)
    finding = device.blame()
    assert (finding.kind, finding.target, finding.cause) == ("neighbour", "batch", cause)
    assert finding.evidence[figure] > 2 * finding.evidence[figure.replace("_now", "_before")]
    assert -1 <= finding.evidence["lead_s"] <= 2
    assert "batch went from" in finding.why


def test_nobody_is_blamed_where_nobody_changed() -> None:
    """A slice that is slow for reasons of its own has no neighbour to blame."""
    device = Device()
    usual(device)
    after(device)
    assert (device.blame().kind, device.blame().target) == ("nobody", "")


def test_its_own_demand_is_its_own_fault() -> None:
    """When it is asked for twice as much, and nobody else does more, it is that."""
    device = Device()
    usual(device)
    after(device, requests=45, chat=(0.4, 0, 45, 0.9))
    finding = device.blame()
    assert finding.kind == "own"
    assert finding.evidence == {"requests_before_hz": 20.0, "requests_now_hz": 45.0}


def test_a_few_requests_more_are_chance() -> None:
    """Of six in a second where four are usual nobody has to be the reason; of seventy in twelve seconds it is their number."""
    for seconds, kind in ((1, "nobody"), (12, "own")):
        device = Device()
        for second in range(61):
            device.second(START_S + second, chat=(0.2, 0, 20, 0.0))
            device.report(START_S + second, 4, 0.5)
        for second in range(1, seconds + 1):
            device.second(ONSET_S + second, chat=(0.3, 0, 30, 0.8))
            device.report(ONSET_S + second, 6, 3.0)
        assert device.blame().kind == kind


def test_who_took_much_more_as_it_began_is_a_witness() -> None:
    """A fifth of the device, and more than the slice itself took."""
    for batch, chat, witnessed in ((0.5, 0.2, True), (0.25, 0.2, False), (0.5, 0.7, False), (0.1, 0.2, False)):
        device = Device()
        usual(device)
        after(device, seconds=1, batch=(batch, 1e6, 10, 0), chat=(chat, 0, 20, 0.8))
        assert device.witnesses() is witnessed


def test_of_both_the_larger_rise_counts() -> None:
    """More demand and a flood beside it: the flood is named when it is the larger, and not when it is the lesser."""
    for batch, kind in ((0.7, "neighbour"), (0.16, "own")):
        device = Device()
        usual(device)
        after(device, requests=45, chat=(0.45, 0, 45, 0.9), batch=(batch, 1e6, 10, 0))
        assert device.blame().kind == kind


def test_a_neighbour_that_comes_late_is_not_the_reason() -> None:
    """It rose four seconds after the breach began."""
    device = Device()
    usual(device)
    after(device, seconds=4)
    for second in range(5, 8):
        device.second(ONSET_S + second, chat=(0.2, 0, 20, 0.8), batch=(0.7, 1e6, 10, 0), quiet=(0.05, 0, 5, 0))
    assert device.blame(ONSET_S + 7).kind == "nobody"


def test_a_neighbour_that_has_always_been_loud_is_not_the_reason() -> None:
    """What it did all the time without harm is no rise."""
    device = Device()
    for second in range(61):
        device.second(START_S + second, chat=(0.2, 0, 20, 0), batch=(0.6, 0, 10, 0))
        device.report(START_S + second, 20, 0.5)
    for second in range(1, 4):
        device.second(ONSET_S + second, chat=(0.2, 0, 20, 0.5), batch=(0.6, 0, 10, 0))
    assert device.blame().kind == "nobody"


def test_a_newcomer_is_compared_with_nothing() -> None:
    """A slice that was not there before is blamed for all that it does."""
    device = Device()
    usual(device)
    for second in range(4):
        device.second(ONSET_S + second, chat=(0.2, 0, 20, 0.8), newcomer=(0.6, 0, 10, 0))
    assert device.blame().target == "newcomer"


def test_a_neighbour_whose_bursts_go_with_the_bad_windows_is_named() -> None:
    """It has done so before, so it is no rise; but the bad windows are when it is busy."""
    device = Device()
    for second in range(61):
        busy = second % 10 in (0, 1)
        device.second(START_S + second, chat=(0.2, 0, 20, 0.1), batch=(0.7 if busy else 0.1, 0, 10, 0))
        device.report(START_S + second, 20, 3.0 if busy else 0.5)
    for second in range(1, 3):
        device.second(ONSET_S + second, chat=(0.2, 0, 20, 0.5), batch=(0.7, 0, 10, 0))
        device.report(ONSET_S + second, 20, 3.0)
    finding = device.blame(ONSET_S + 2)
    assert (finding.kind, finding.target) == ("neighbour", "batch")
    assert finding.evidence["correlation"] > 0.7
    assert finding.evidence["gpu_pct_in_bad_windows"] > finding.evidence["gpu_pct_in_good_windows"] + 40


def test_without_a_past_whoever_is_above_its_share_is_named() -> None:
    """A guard that starts in the middle of a flood sees the share that is exceeded, while the slice is held back."""
    device = Device()
    for second in range(4):
        device.second(ONSET_S + second, chat=(0.2, 0, 20, 0.8), batch=(0.6, 0, 10, 0))
    finding = device.blame()
    assert (finding.target, finding.evidence["share_pct"]) == ("batch", 30.0)
    alone = Device()
    for second in range(4):
        alone.second(ONSET_S + second, chat=(0.2, 0, 20, 0.0), batch=(0.6, 0, 10, 0))
    assert alone.blame().kind == "nobody"


def test_samples_of_the_time_since_are_waited_for() -> None:
    """Right after it began nothing is said yet; some seconds later what there is has to do."""
    device = Device()
    usual(device)
    assert device.blame(ONSET_S + 0.5).kind == "early"
    assert device.blame(ONSET_S + 4).kind == "nobody"


def test_who_was_cleared_is_not_blamed_again() -> None:
    """A neighbour that was paused in vain is left out, and the next one is found."""
    device = Device()
    usual(device)
    after(device, batch=(0.6, 1e6, 10, 0), quiet=(0.3, 0, 5, 0))
    assert device.blame().target == "batch"
    assert device.blame(cleared=frozenset({"batch"})).target == "quiet"


def test_memory_is_bounded_and_counters_may_start_over() -> None:
    """So many rates are kept; a counter that went back gives none; who is not seen any more is forgotten."""
    device = Device()
    for second in range(2 * KEPT):
        device.second(START_S + second, chat=(0.2, 0, 20, 0))
    assert len(device.seen.rates(GPU, "chat")) == KEPT
    device.counters.clear()
    device.second(START_S + 2 * KEPT, chat=(0.2, 0, 20, 0))
    assert len(device.seen.rates(GPU, "chat")) == KEPT
    for second in range(5000):
        device.second(START_S + 2000 + second, other=(0.2, 0, 20, 0))
    assert device.seen.on(GPU) == ("other",)


def test_rank_correlation() -> None:
    """1 for what rises together, -1 for the opposite, none where one side stands still or there is too little."""
    assert spearman([(float(i), math.exp(i)) for i in range(12)]) == pytest.approx(1.0)
    assert spearman([(float(i), -float(i)) for i in range(12)]) == pytest.approx(-1.0)
    assert spearman([(float(i), 1.0) for i in range(12)]) is None
    assert spearman([(1.0, 1.0)]) is None
