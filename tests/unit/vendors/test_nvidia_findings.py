"""What NVML says of a device's health becomes findings, without waiting for anything."""

import sys
import types
from typing import Any

import pynvml as real
import pytest
from fake_pynvml import FakeNvml, h100

from mica.events import Severity
from mica.vendors import VendorError
from mica.vendors.nvidia import NvidiaDriver
from mica.vendors.nvidia._xid import XIDS, judge_xid

WATCHED = {"nvmlDeviceGetSupportedEventTypes": real.nvmlEventTypeAll}


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """The faked library, with an H100 in it."""
    fake = FakeNvml(h100(**WATCHED))
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("MICA_SIM_DIR", raising=False)
    return fake


def xid(number: int) -> Any:
    """An event."""
    return types.SimpleNamespace(eventType=real.nvmlEventTypeXidCriticalError, eventData=number)


def seen(driver: NvidiaDriver) -> list[tuple[str, int, Severity]]:
    return [(each.kind, each.code, each.severity) for each in driver.findings("GPU-1")]


@pytest.mark.parametrize("number", [48, 64, 74, 79, 95, 119, 120])
def test_what_ruins_a_device_is_fatal(number: int) -> None:
    """It is of no use until it is reset or replaced."""
    assert judge_xid(number)[0] is Severity.FATAL


@pytest.mark.parametrize("number", [13, 31, 43, 45])
def test_what_a_program_did_wrong_is_not_the_devices_fault(number: int) -> None:
    """It is told, and nothing follows from it."""
    assert judge_xid(number)[0] is Severity.INFO


def test_the_rest_is_a_risk() -> None:
    """Errors that were contained, rows to be replaced, and numbers that nobody knows."""
    assert {judge_xid(number)[0] for number in (63, 94, 9999)} == {Severity.WARNING}
    assert all(message for _, message in XIDS.values())


def test_every_xid_is_told_once(nvml: FakeNvml) -> None:
    """Whatever it is of; what is fatal is for others to remember."""
    driver = NvidiaDriver()
    assert seen(driver) == []
    nvml.present[0]["events"].extend([xid(31), xid(119)])
    assert seen(driver) == [("xid", 31, Severity.INFO), ("xid", 119, Severity.FATAL)]
    assert seen(driver) == []


def test_one_look_takes_a_limited_number_of_events(nvml: FakeNvml) -> None:
    """A device that floods its event set keeps nobody; what is left comes with the next look."""
    driver = NvidiaDriver()
    driver.findings("GPU-1")
    nvml.present[0]["events"].extend(xid(13) for _ in range(100))
    assert [len(seen(driver)) for _ in range(3)] == [64, 36, 0]


def test_a_device_without_events_has_its_counters(nvml: FakeNvml) -> None:
    """Nothing is registered where NVML has no Xid events."""
    nvml.present = [h100(nvmlDeviceGetRemappedRows=(0, 1, 1, 0))]
    assert seen(NvidiaDriver()) == [("ecc", 0, Severity.WARNING)]
    assert "events" not in nvml.present[0]


@pytest.mark.parametrize(
    ("answers", "kind", "severity", "said"),
    [
        ({"nvmlDeviceGetRemappedRows": (0, 1, 1, 0)}, "ecc", Severity.WARNING, "wait for a reset to be replaced"),
        ({"nvmlDeviceGetRemappedRows": (0, 9, 1, 1)}, "ecc", Severity.FATAL, "can not be replaced"),
        ({"nvmlDeviceGetRetiredPagesPendingStatus": 1}, "ecc", Severity.WARNING, "wait for a reset to be retired"),
        ({"nvmlDeviceGetTotalEccErrors": 2}, "ecc", Severity.WARNING, "2 memory errors since the last reset"),
        (
            {"nvmlDeviceGetTemperature": 91, "nvmlDeviceGetTemperatureThreshold": 91},
            "thermal",
            Severity.FATAL,
            "at 91 C it shuts",
        ),
        ({"nvmlDeviceGetCurrentClocksEventReasons": 0x20}, "thermal", Severity.WARNING, "slowed down by its temperature, 41 C"),
        ({"nvmlDeviceGetCurrentClocksThrottleReasons": 0x40}, "thermal", Severity.WARNING, "slowed down by its temperature"),
        ({"nvmlDeviceGetCurrentClocksEventReasons": 0x80}, "fault", Severity.WARNING, "the power supply's brake"),
    ],
)
def test_what_is_wrong_now(nvml: FakeNvml, answers: dict[str, Any], kind: str, severity: Severity, said: str) -> None:
    """It lasts as long as NVML says it."""
    nvml.present = [h100(**WATCHED, **answers)]
    driver = NvidiaDriver()
    (finding,) = driver.findings("GPU-1")
    assert (finding.kind, finding.severity, finding.lasting) == (kind, severity, True)
    assert said in finding.message
    for name in answers:
        del nvml.present[0][name]
    assert driver.findings("GPU-1") == ()


def test_a_device_that_fell_off_the_bus(nvml: FakeNvml) -> None:
    """The Xids from before are told; after that it is an error in NVML's words, until the device is back."""
    driver = NvidiaDriver()
    driver.findings("GPU-1")
    nvml.present[0]["events"].append(xid(79))
    nvml.present[0]["nvmlDeviceGetTemperature"] = real.NVMLError(real.NVML_ERROR_GPU_IS_LOST)
    assert seen(driver) == [("xid", 79, Severity.FATAL)]
    with pytest.raises(VendorError, match="device GPU-1: GPU is lost"):
        driver.findings("GPU-1")
    nvml.present[0]["nvmlDeviceGetTemperature"] = 40
    assert driver.findings("GPU-1") == ()


def test_a_device_that_was_never_there(nvml: FakeNvml) -> None:
    """That is an error."""
    with pytest.raises(VendorError, match="device GPU-9: Not Found"):
        NvidiaDriver().findings("GPU-9")
