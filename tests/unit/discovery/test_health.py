"""A device's health follows from what is wrong with it, and from what has happened to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mica.discovery.health import CALM_SURVEYS, Circumstances, Failure
from mica.discovery.inventory import Identity, Survey, take_stock
from mica.discovery.news import Told, hearsay, news, told_of
from mica.events import Device, Health, Inventory, Severity, Vendor
from mica.vendors import Finding

IDENTITY = Identity(node="n1", pool="default", boot_id="boot-1")
GPU = Device(id="g", index=0, vendor=Vendor.NVIDIA, model="L4", vram_bytes=24 << 30)


def finding(kind: str, severity: Severity, *, code: int = 0, lasting: bool = False) -> Finding:
    """Of the one device."""
    return Finding(device_id="g", kind=kind, severity=severity, message=f"{kind} {code}", code=code, lasting=lasting)


XID = finding("xid", Severity.FATAL, code=79)
HOT = finding("thermal", Severity.WARNING, lasting=True)


def after(*findings: Finding, known: Inventory | None = None, failure: Failure | None = None, **now: object) -> Inventory:
    """The inventory after a survey with those findings."""
    survey = Survey(devices=(GPU,), failures={"g": failure} if failure else {}, findings=findings)
    return take_stock(IDENTITY, known, survey, Circumstances(**now))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "health", "message"),
    [
        (finding("ecc", Severity.FATAL, code=2, lasting=True), Health.FAILED, "ecc 2"),
        (XID, Health.FAILED, "xid 79"),
        (HOT, Health.DEGRADED, "thermal 0"),
        (finding("fault", Severity.INFO, lasting=True), Health.HEALTHY, ""),
        (finding("xid", Severity.WARNING, code=63), Health.HEALTHY, ""),
        (finding("xid", Severity.INFO, code=13), Health.HEALTHY, ""),
    ],
)
def test_what_a_finding_does_to_the_health(found: Finding, health: Health, message: str) -> None:
    """Fatal: failed. A warning that lasts: degraded. All else leaves it as it is."""
    (device,) = after(found).devices
    assert (device.health, device.message) == (health, message)


def test_the_worst_decides_and_is_what_is_said() -> None:
    """All troubles are listed, the worst first; the message is of the worst alone."""
    (device,) = after(HOT, XID).devices
    assert device.health is Health.FAILED
    assert device.message == "xid 79"
    assert [trouble.kind for trouble in device.troubles] == ["xid", "thermal"]


def test_a_fatal_event_stays_until_the_next_boot() -> None:
    """The library says it once; it is in the document, and so outlives discovery itself."""
    known = after(XID, at=5)
    for at in range(6, 12):
        known = after(known=known, at=at)
    assert known.devices[0].health is Health.FAILED
    assert known.devices[0].troubles[0].at == 5
    rebooted = take_stock(replace(IDENTITY, boot_id="boot-2"), known, Survey(devices=(GPU,)))
    assert rebooted.devices[0].health is Health.HEALTHY


def test_a_reset_ends_what_has_happened_before_it() -> None:
    """In the order in which the library tells it; what lasts is not over by a reset, but when it is no longer said."""
    reset = finding("reset", Severity.INFO)
    known = after(XID)
    assert after(reset, known=known).devices[0].health is Health.HEALTHY
    assert after(XID, reset).devices[0].health is Health.HEALTHY
    assert after(reset, XID).devices[0].health is Health.FAILED
    lasting = finding("ecc", Severity.FATAL, lasting=True)
    assert after(reset, lasting, known=known).devices[0].message == "ecc 0"


def test_an_operator_clears_what_has_happened_so_far() -> None:
    """What happens after that is news; what lasts can't be cleared."""
    known = after(XID, at=5)
    assert after(known=known, at=6, cleared={"g": 4}).devices[0].health is Health.FAILED
    assert after(known=known, at=6, cleared={"g": 5}).devices[0].health is Health.HEALTHY
    assert after(XID, known=known, at=6, cleared={"g": 5}).devices[0].health is Health.FAILED
    assert after(HOT, at=5, cleared={"g": 5}).devices[0].health is Health.DEGRADED


def test_a_warning_that_wavers_is_one_change() -> None:
    """It is over only after it was not said for a while; once more in between, and the count begins anew."""
    known = after(HOT)
    for unsaid in (1, 2):
        known = after(known=known, unsaid={("g", "thermal", 0): unsaid})
        assert known.devices[0].health is Health.DEGRADED
    assert after(known=known, unsaid={("g", "thermal", 0): CALM_SURVEYS}).devices[0].health is Health.HEALTHY


def test_a_device_that_does_not_answer_keeps_its_troubles() -> None:
    """Nobody has asked after them; when it answers again, what has happened to it still has."""
    known = after(XID, HOT, finding("ecc", Severity.FATAL, lasting=True), at=5)
    silent = after(known=known, failure=Failure("no answer within 2 s", "silent"), at=6)
    assert {trouble.kind for trouble in silent.devices[0].troubles} == {"xid", "thermal", "ecc", "silent"}
    again = after(known=silent, at=7)
    assert {trouble.kind for trouble in again.devices[0].troubles} == {"xid", "thermal"}


def test_a_failure_dates_from_when_it_was_first_seen() -> None:
    """However often it is seen, the document stays the same."""
    lost = Failure("device g: GPU is lost")
    known = after(failure=lost, at=5)
    assert after(failure=lost, known=known, at=9) == known


FINDINGS = st.builds(
    finding,
    st.sampled_from(["xid", "thermal", "reset"]),
    st.sampled_from(list(Severity)),
    code=st.integers(0, 1),
    lasting=st.booleans(),
)
SURVEYS = st.lists(st.tuples(st.lists(FINDINGS, max_size=3), st.booleans()), max_size=8)


@given(SURVEYS)
def test_every_change_of_health_is_told_and_nothing_twice(history: list[tuple[list[Finding], bool]]) -> None:
    """Whatever happens: who follows the events knows the health, and a survey that changes nothing says nothing."""
    known, told, heard = None, Told(Health.HEALTHY), Health.HEALTHY
    for at, (findings, failing) in enumerate(history):
        known = after(*findings, known=known, failure=Failure("lost") if failing else None, at=at)
        (device,) = known.devices
        events = news("n1", device, told, at)
        heard = events[-1].health if events else heard
        assert heard is device.health
        told = told_of(device)
        assert news("n1", device, told, at) == []


def test_what_leaves_the_health_as_it_is_is_told_all_the_same() -> None:
    """With its severity, kind and code; what is fatal is told as a trouble instead, and of a stranger nothing is said."""
    odd = finding("xid", Severity.INFO, code=13)
    events = hearsay(after(XID), [odd, XID, replace(odd, device_id="stranger")], at=7)
    (event,) = events.values()
    assert (event.kind, event.code, event.severity, event.health) == ("xid", 13, Severity.INFO, Health.FAILED)
