"""Health through NVML: events, thresholds, memory errors, devices that hang or are gone."""

import pytest
from sim_node import Client, ClientError, Node

SETUP = """
pynvml.nvmlInit()
l4, h100, p40 = (pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(3))

def watch(*devices):
    events = pynvml.nvmlEventSetCreate()
    for device in devices:
        pynvml.nvmlDeviceRegisterEvents(device, pynvml.nvmlDeviceGetSupportedEventTypes(device), events)
    return events

def heard(events):
    found = []
    while True:
        try:
            event = pynvml.nvmlEventSetWait_v2(events, 0)
        except pynvml.NVMLError_Timeout:
            return found
        found.append((pynvml.nvmlDeviceGetIndex(event.device), event.eventType, event.eventData))
"""


@pytest.fixture
def watcher(node: Node) -> Client:
    """A pynvml program that looks after the devices."""
    made = node.client()
    made.run(SETUP)
    return made


def test_an_event_set_hears_of_its_devices_alone(node: Node, watcher: Client) -> None:
    """Each event once, in order, from when the set was made; what others do is not in it, and nothing is waited for."""
    node.control("event 0 xid 13")
    watcher.run("a, b = watch(l4), watch(l4, h100)")
    assert watcher("heard(a)") == []
    node.control("event 0 xid 31")
    node.control("event 1 xid 79")
    node.control("event 1 ecc_uncorrected 0")
    assert watcher("(heard(a), heard(b), heard(a))") == [[[0, 8, 31]], [[0, 8, 31], [1, 8, 79], [1, 2, 0]], []]


def test_a_set_is_asked_for_what_there_is_and_freed_once(watcher: Client) -> None:
    """Unknown types, and sets that were freed, are refused."""
    watcher.run("a = watch(l4)")
    with pytest.raises(ClientError, match="NotSupported"):
        watcher("pynvml.nvmlDeviceRegisterEvents(l4, 1 << 40, a)")
    watcher.run("pynvml.nvmlEventSetFree(a)")
    with pytest.raises(ClientError, match="InvalidArgument"):
        watcher("pynvml.nvmlEventSetWait_v2(a, 0)")


def test_a_wait_ends_with_the_event(node: Node, watcher: Client) -> None:
    """A program that waits for longer than anybody would is woken by what happens meanwhile."""
    watcher.run("a = watch(l4)")
    watcher.send("pynvml.nvmlEventSetWait_v2(a, 3_600_000).eventData")
    node.control("event 0 xid 48")
    assert watcher.answer() == 48


def test_heat_slows_down(node: Node, watcher: Client) -> None:
    """Thresholds stand in order; past the one for slowing down the clocks' reasons say so."""
    threshold = "[pynvml.nvmlDeviceGetTemperatureThreshold(l4, k) for k in (3, 1, 0)]"
    operating, slowdown, shutdown = watcher(threshold)
    assert operating < slowdown < shutdown
    assert watcher("pynvml.nvmlDeviceGetCurrentClocksEventReasons(l4)") == 0
    node.control(f"set 0 temperature_c {slowdown}")
    assert watcher("pynvml.nvmlDeviceGetTemperature(l4, 0)") == slowdown
    assert watcher("pynvml.nvmlDeviceGetCurrentClocksEventReasons(l4)") == 0x60
    node.control("set 0 temperature_c 40")
    node.control("set 0 clock_reasons 128")
    assert watcher("pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(l4)") == 128


def test_memory_errors_last_until_a_reset(node: Node, watcher: Client) -> None:
    """Counts by kind, and rows that wait to be replaced; a reset ends both, but not a failure to replace. A P40 has no rows."""
    node.control("set 1 ecc_uncorrected 3")
    node.control("set 1 remap_pending 1")
    state = "([pynvml.nvmlDeviceGetTotalEccErrors(h100, k, 0) for k in (0, 1)], pynvml.nvmlDeviceGetRemappedRows(h100))"
    assert watcher(state) == [[0, 3], [0, 1, 1, 0]]
    node.control("set 1 remap_failed 1")
    node.control("reset 1")
    assert watcher(state) == [[0, 0], [0, 1, 0, 1]]
    with pytest.raises(ClientError, match="NotSupported"):
        watcher("pynvml.nvmlDeviceGetRemappedRows(p40)")


def test_a_lost_device_says_so_wherever_it_is_met(node: Node, watcher: Client) -> None:
    """By handle, by index and in its event set; the count and the other devices stay, and a reset brings it back."""
    watcher.run("a, b = watch(l4), watch(h100)")
    node.control("set 0 lost 1")
    calls = ("nvmlDeviceGetName(l4)", "nvmlDeviceGetHandleByIndex(0)", "nvmlEventSetWait_v2(a, 0)", "nvmlDeviceGetMemoryInfo(l4)")
    for call in calls:
        with pytest.raises(ClientError, match="GpuIsLost"):
            watcher(f"pynvml.{call}")
    assert watcher("pynvml.nvmlDeviceGetCount()") == 3
    assert watcher("heard(b)") == []
    assert watcher("pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(2))") == "Tesla P40"
    node.control("reset 0")
    assert watcher("pynvml.nvmlDeviceGetName(l4)") == "NVIDIA L4"


def test_a_device_that_hangs_holds_up_nobody_else(node: Node, watcher: Client) -> None:
    """While one thread waits for it, others are answered about other devices, and other programs as well."""
    node.control("set 0 hang_ms 3600000")
    watcher.run("import threading; t = threading.Thread(target=pynvml.nvmlDeviceGetName, args=(l4,), daemon=True); t.start()")
    assert watcher("pynvml.nvmlDeviceGetName(h100)") == "NVIDIA H100 80GB HBM3"
    assert watcher("pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(2))").startswith("GPU-")
    assert node.client()("(pynvml.nvmlInit(), pynvml.nvmlDeviceGetCount())")[1] == 3
    assert watcher("t.is_alive()")


def test_who_may_not_change_a_device_changes_nothing(node: Node, watcher: Client) -> None:
    """Without permission neither the mode nor instances are changed; reading goes on."""
    node.control("create 1 1g.10gb 0")
    node.control("set 1 no_permission 1")
    for call in ("nvmlDeviceSetMigMode(h100, 0)", "nvmlDeviceCreateGpuInstance(h100, 19)"):
        with pytest.raises(ClientError, match="NoPermission"):
            watcher(f"pynvml.{call}")
    with pytest.raises(ClientError, match="NoPermission"):
        watcher("pynvml.nvmlGpuInstanceDestroy(pynvml.nvmlDeviceGetGpuInstanceById(h100, 1))")
    assert [instance.profile for instance in node.books().devices[1].instances] == ["1g.10gb"]


def test_ampere_takes_a_reset(node: Node) -> None:
    """The mode is pending until the device is reset, which it can't be while a process is on it; a reboot does as well."""
    node.describe("name = 'simtest'\ndevice = [{ model = 'A30', count = 2 }]\n")
    admin = node.client()
    admin.run("pynvml.nvmlInit(); a, b = (pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(2))")
    assert admin("[pynvml.nvmlDeviceSetMigMode(d, 1) for d in (a, b)]") == [16, 16]
    assert admin("pynvml.nvmlDeviceGetMigMode(a)") == [0, 1]
    with pytest.raises(ClientError, match="NotSupported"):
        admin("pynvml.nvmlDeviceCreateGpuInstance(a, 14)")
    node.control("reset 0")
    assert admin("[pynvml.nvmlDeviceGetMigMode(d) for d in (a, b)]") == [[1, 1], [0, 1]]
    node.control("reboot")
    assert admin("pynvml.nvmlDeviceGetMigMode(b)") == [1, 1]
