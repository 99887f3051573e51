"""The fewest devices for services with promises: against brute force, and against a checker that knows only the rules."""

import math
from itertools import combinations_with_replacement, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mica.hardware import Catalogue
from mica.slo_packing import Deployment, Point, Service, SloPackingError, Unservable, layouts_of, pack, violations

A100 = Catalogue.load().model("A100-SXM-80GB")
A30 = Catalogue.load().model("A30")
A100_PLACES = {1: ((0, 1, 2, 3, 4, 5, 6), 1), 2: ((0, 2, 4), 2), 3: ((0, 4), 4), 4: ((0,), 4), 7: ((0,), 8)}
"""NVIDIA's MIG user guide: by compute slices, where an instance may start and how many memory slots it takes."""


def point(size: int, rate_hz: float, latency_ms: float = 10.0, *, batch: int = 1, processes: int = 1) -> Point:
    return Point(size=size, batch=batch, processes=processes, rate_hz=rate_hz, latency_ms=latency_ms)


def service(name: str, rate_hz: float, *points: Point, slo_ms: float = 100.0) -> Service:
    return Service(name=name, rate_hz=rate_hz, slo_ms=slo_ms, points=points)


def broken(deployment: Deployment, services: list[Service]) -> list[str]:
    """The rules, said once more from the paper and NVIDIA's guide, without anything of the library's."""
    wrong = []
    for device in deployment.devices:
        slots = []
        for each in device:
            starts, length = A100_PLACES[each.point.size]
            wrong += [f"start {each.start}"] if each.start not in starts else []
            slots += range(each.start, each.start + length)
        wrong += ["slots"] if len(set(slots)) < len(slots) else []
        wrong += ["compute"] if sum(each.point.size for each in device) > 7 else []
    for each in services:
        mine = [i.point for device in deployment.devices for i in device if i.service == each.name]
        wrong += ["rate"] if sum(p.rate_hz for p in mine) < each.rate_hz else []
        wrong += ["latency"] if any(not p.latency_ms < 0.9 * each.slo_ms / 2 for p in mine) else []
        wrong += ["processes"] if any(p.processes > 5 for p in mine) else []
        wrong += ["unmeasured"] if any(p not in each.points for p in mine) else []
    return wrong


def fewest(services: list[Service], model) -> int:
    """By trying everything: devices one by one more, each set of layouts, each way to give its room to the services."""
    quick = {
        each.name: {
            size: max((p.rate_hz for p in each.points if p.size == size and p.latency_ms < 0.45 * each.slo_ms), default=0.0)
            for size in {p.size for p in each.points}
        }
        for each in services
    }
    shapes = [[slot.size for slot in layout] for layout in layouts_of(model)]
    for count in range(1, 5):
        for chosen in combinations_with_replacement(shapes, count):
            room = [size for shape in chosen for size in shape]
            if serves({size: room.count(size) for size in set(room)}, services, quick):
                return count
    raise AssertionError("too large for this oracle")


def serves(room: dict[int, int], services: list[Service], quick: dict[str, dict[int, float]]) -> bool:
    if not services:
        return True
    first, rates = services[0], quick[services[0].name]
    sizes = [size for size in room if rates.get(size, 0) > 0]
    for counts in product(*(range(room[size] + 1) for size in sizes)):
        if sum(rates[size] * n for size, n in zip(sizes, counts, strict=True)) >= first.rate_hz:
            left = room | {size: room[size] - n for size, n in zip(sizes, counts, strict=True)}
            if serves(left, services[1:], quick):
                return True
    return False


def test_the_layouts_of_an_a100_are_those_of_nvidias_guide():
    """Twelve layouts that take nothing more, up to where the instances stand."""
    sizes = {tuple(sorted(slot.size for slot in layout)) for layout in layouts_of(A100)}
    assert sizes == {
        (7,), (3, 4), (3, 3), (1, 2, 4), (1, 1, 1, 4), (2, 2, 3), (1, 1, 2, 3), (1, 1, 1, 1, 3), (1, 2, 2, 2),
        (1, 1, 1, 2, 2), (1, 1, 1, 1, 1, 2), (1,) * 7,
    }  # fmt: skip


def test_a_mixed_layout_saves_a_device():
    """What takes three slices and what takes four share a device, though either could have seven."""
    services = [service("a", 30, point(3, 30), point(7, 60)), service("b", 40, point(4, 40), point(7, 60))]
    answer = pack(services, A100)
    assert isinstance(answer, Deployment)
    assert len(answer.devices) == 1
    assert answer.proven
    assert broken(answer, services) == []


def test_a_slow_point_is_not_taken_however_much_it_serves():
    """At 45 ms of an SLO of 100 ms there is no time left to wait for the batch."""
    services = [service("a", 50, point(1, 50, 45.0, batch=32), point(1, 10, 44.9))]
    answer = pack(services, A100)
    assert isinstance(answer, Deployment)
    assert {each.point.batch for device in answer.devices for each in device} == {1}
    assert len(answer.devices[0]) == 5


def test_six_processes_are_too_many():
    """Only points with at most five processes count."""
    answer = pack([service("a", 50, point(7, 50, processes=6))], A100)
    assert isinstance(answer, Unservable)


def test_a_promise_that_no_partition_keeps_is_named():
    """The answer says whose SLO, what it was and what would do."""
    answer = pack([service("a", 1, point(1, 1, 10.0)), service("b", 1, point(1, 1, 90.0))], A100)
    assert answer == Unservable("b", "slo_ms", "100", "more than 200 ms")


def test_no_services_need_no_device():
    """Nothing to serve is served by nothing."""
    assert pack([], A100) == Deployment((), 0)


def test_two_services_of_one_name_are_refused():
    """Whose instance it is would not be known."""
    with pytest.raises(SloPackingError, match="two of one name"):
        pack([service("a", 1, point(1, 1)), service("a", 2, point(1, 1))], A100)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_numbers_that_are_none_are_refused(value):
    """A rate, a latency or an SLO is finite and above 0."""
    for make in (
        lambda: point(1, value),
        lambda: point(1, 1, value),
        lambda: service("a", value),
        lambda: service("a", 1, slo_ms=value),
    ):
        with pytest.raises(SloPackingError, match="allowed: a finite number above 0"):
            make()


def test_a_device_without_partitions_made_one_by_one_is_refused():
    """A T4 has none; an MI300X is laid out as a whole."""
    for name in ("T4", "MI300X"):
        with pytest.raises(SloPackingError, match="partitions"):
            pack([service("a", 1, point(1, 1))], Catalogue.load().model(name))


RATES = st.dictionaries(st.sampled_from([1, 2, 3, 4, 7]), st.integers(1, 40), min_size=1)
SOME_SERVICES = st.lists(st.tuples(st.integers(1, 60), RATES, st.sampled_from([50, 100])), min_size=1, max_size=3)


def built(drawn) -> list[Service]:
    """Services of which a device can hold several; those with the tight SLO can not use the smallest size."""
    services = []
    for number, (rate, by_size, slo_ms) in enumerate(drawn):
        least = min(by_size) if len(by_size) > 1 else 0
        points = [point(size, hz, 30.0 if size == least else 10.0) for size, hz in by_size.items()]
        services.append(service(f"s{number}", min(rate, 2 * max(by_size.values())), *points, slo_ms=slo_ms))
    return services


@settings(max_examples=60, deadline=None)
@given(SOME_SERVICES)
def test_no_fewer_devices_would_do_and_every_promise_is_kept(drawn):
    """The count is that of brute force, the bound is the count, and the rules of the paper and of MIG hold."""
    services = built(drawn)
    answer = pack(services, A100)
    assert isinstance(answer, Deployment)
    assert broken(answer, services) == []
    assert answer.proven
    if len(answer.devices) <= 3:
        assert len(answer.devices) == fewest(services, A100)


@settings(max_examples=40, deadline=None)
@given(SOME_SERVICES, st.sampled_from(["rate", "latency", "move", "processes", "point"]))
def test_both_checkers_see_a_broken_deployment(drawn, harm):
    """The control: what is spoilt on purpose is caught by the tests' checker and by the bench's."""
    services = built(drawn)
    answer = pack(services, A100)
    assert isinstance(answer, Deployment)
    device, first = answer.devices[0], answer.devices[0][0]
    spoilt = {
        "rate": (),
        "latency": (replace(first, point=replace(first.point, latency_ms=60.0)), *device[1:]),
        "move": (replace(first, start=5 if first.point.size > 1 else 7), *device[1:]),
        "processes": (replace(first, point=replace(first.point, processes=6)), *device[1:]),
        "point": (replace(first, point=replace(first.point, rate_hz=first.point.rate_hz * 9)), *device[1:]),
    }[harm]
    changed = Deployment((spoilt, *answer.devices[1:]), answer.bound)
    if harm == "rate":
        short = first.service
        kept = tuple(tuple(i for i in each if i.service != short) for each in answer.devices)
        changed = Deployment(kept, answer.bound)
    assert violations(answer.devices, services, A100) == []
    assert violations(changed.devices, services, A100)
    assert broken(changed, services)


def test_a_device_of_another_geometry_is_packed_too():
    """An A30 has four slots; brute force agrees there."""
    services = [service("a", 7, point(1, 3), point(2, 7)), service("b", 9, point(1, 3), point(4, 12))]
    answer = pack(services, A30)
    assert isinstance(answer, Deployment)
    assert len(answer.devices) == fewest(services, A30)
    assert violations(answer.devices, services, A30) == []
