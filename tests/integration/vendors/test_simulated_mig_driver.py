"""The NVIDIA adapter over the simulated NVML: the life of instances, faults, and what the catalogue's cards and nodes are."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import pytest
from msgspec import convert

from mica.events import Device, Link, LinkKind, Partition, Vendor
from mica.hardware import Catalogue, NodeFile, write_node_desc
from mica.native import LIB_DIR
from mica.vendors import Finding

pytestmark = pytest.mark.skipif(not (LIB_DIR / "sim" / "libnvidia-ml.so.1").exists(), reason="run `make native` first")

NODE = """
name = "mig"
device = [{ model = "H100-SXM-80GB", count = 2 }, { model = "A100-SXM-80GB" }, { model = "RTX-PRO-6000", mig = true }]
"""
MODELS = [model for model in Catalogue.load().models.values() if model.vendor is Vendor.NVIDIA]
THREE_G = "Partition(profile='3g.40gb', profile_id=9, start=4, size=4)"


class DriverError(Exception):
    """What the driver raised; ``pids``: of a device in use."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.pids = answer.get("pids")
        super().__init__(answer["error"])


class Client:
    """A process with the driver."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("nvidia_client.py")],
            env=os.environ | {"MICA_SIM_DIR": str(directory)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()

    def __call__(self, code: str, kind: Any = Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise DriverError(answer)
        return convert(answer["value"], kind)

    def devices(self) -> tuple[Device, ...]:
        """What the driver lists."""
        found: tuple[Device, ...] = self("driver.devices()", tuple[Device, ...])
        return found

    def living(self, index: int) -> tuple[Partition, ...] | None:
        """What lives on that device; None when it is not partitioned."""
        living = self("driver.living()", dict[str, tuple[Partition, ...]])
        return living.get(self(f"ids[{index}]"))


Start = Callable[[], Client]


@pytest.fixture
def node_of(tmp_path: Path) -> Iterator[Callable[[str], Start]]:
    """Make a node; what comes back starts clients on it."""
    with ExitStack() as stack:

        def make(text: str) -> Start:
            write_node_desc(NodeFile.parse(text.encode()), tmp_path / "sim")
            return lambda: stack.enter_context(Client(tmp_path / "sim"))

        yield make


def test_what_the_devices_offer(node_of: Callable[[str], Start]) -> None:
    """Profiles also while MIG mode is off; whether it can be switched, and why not; what instances share."""
    h100, _, a100, pro = node_of(NODE)().devices()
    assert (h100.partitioned, h100.switchable, h100.hardware_refusal) == (False, True, "")
    assert h100.profiles == Catalogue.load().model("H100-SXM-80GB").partition_profiles()
    assert (a100.partitioned, a100.switchable, bool(a100.profiles)) == (False, False, True)
    assert a100.hardware_refusal == "MIG mode is off, and switching it on this device takes a reset: nvidia-smi --gpu-reset"
    assert (pro.partitioned, pro.switchable) == (True, True)
    assert pro.budgets == {"media_engines": 4, "media_extensions": 1}
    needs = {profile.name: profile.needs for profile in pro.profiles}
    assert needs["1g.24gb+me.all"] == {"media_engines": 4, "media_extensions": 1}
    assert needs["2g.48gb-me"] == {}


def test_an_idle_device_is_switched_for_its_first_instance_and_made_whole_after_the_last(node_of: Callable[[str], Start]) -> None:
    """Instances are made where they are asked for, once; those that people make are seen; afterwards all is as before."""
    client = node_of(NODE)()
    before = client.devices()
    made = client(f"driver.create(ids[0], {THREE_G})", Partition)
    assert (made.start, made.uuid[:4]) == (4, "MIG-")
    assert client(f"driver.create(ids[0], {THREE_G})", Partition) == made
    assert client.devices()[0].partitioned
    assert client.living(0) == (made,)
    by_hand = client("control('create 0 1g.10gb+me 2')").split()[2]
    assert {(each.profile, each.start, each.uuid) for each in client.living(0) or ()} == {
        ("3g.40gb", 4, made.uuid),
        ("1g.10gb+me", 2, by_hand),
    }
    assert client("driver.access(ids[0], next(iter(driver.living()[ids[0]]))).devices") == []
    client(f"driver.destroy(ids[0], {THREE_G})")
    client(f"driver.destroy(ids[0], {THREE_G})")
    client("driver.make_whole(ids[0])")
    assert client.living(0) is None
    assert client.devices() == before


def test_nobody_is_thrown_out(node_of: Callable[[str], Start]) -> None:
    """Neither a whole device nor an instance is changed while a process is there; the error says whose."""
    start = node_of(NODE)
    client, guest, other = start(), start(), start()
    made = client(f"driver.create(ids[0], {THREE_G})", Partition)
    guest(f"control('occupy {made.uuid} 1048576')")
    other("control('occupy ' + ids[1] + ' 1048576')")
    for call in (f"destroy(ids[0], {THREE_G})", "make_whole(ids[0])"):
        with pytest.raises(DriverError, match="PartitionInUseError") as caught:
            client(f"driver.{call}")
        assert caught.value.pids == [guest.pid]
    with pytest.raises(DriverError, match="switch MIG mode on: in use by 1 processes") as caught:
        client(f"driver.create(ids[1], {THREE_G})")
    assert caught.value.pids == [other.pid]
    assert client.living(0) == (made,)
    assert not client.devices()[1].partitioned


def test_a_refused_instance_leaves_nothing(node_of: Callable[[str], Start]) -> None:
    """Not even MIG mode stays switched; slots that are taken are refused as well, and what needs a reset is not touched."""
    client = node_of(NODE)()
    client("control('set 0 refusals 1')")
    with pytest.raises(DriverError, match=r"make 3g\.40gb at slot 4: Unknown Error"):
        client(f"driver.create(ids[0], {THREE_G})")
    assert client.living(0) is None
    client(f"driver.create(ids[0], {THREE_G})")
    with pytest.raises(DriverError, match="Insufficient Resources"):
        client("driver.create(ids[0], Partition(profile='1g.10gb', profile_id=19, start=5, size=1))")
    with pytest.raises(DriverError, match="this takes a reset"):
        client(f"driver.create(ids[2], {THREE_G})")


def test_media_engines_end(node_of: Callable[[str], Start]) -> None:
    """An instance that takes them all goes with those that have none, and with no others."""
    client = node_of(NODE)()
    make = "driver.create(ids[3], Partition(profile='{0}', profile_id={1}, start={2}, size=3))"
    client(make.format("1g.24gb+me.all", 65, 0))
    with pytest.raises(DriverError, match="Insufficient Resources"):
        client(make.format("1g.24gb", 14, 3))
    client(make.format("1g.24gb-me", 67, 3))
    assert [(each.profile, each.start) for each in client.living(3) or ()] == [("1g.24gb-me", 3), ("1g.24gb+me.all", 0)]


def test_without_permission(node_of: Callable[[str], Start]) -> None:
    """NVML says so when it is asked; from then on the device says it, too."""
    client = node_of(NODE)()
    client("control('set 0 no_permission 1')")
    assert client.devices()[0].switchable
    with pytest.raises(DriverError, match="no privilege"):
        client(f"driver.create(ids[0], {THREE_G})")
    assert [each.switchable for each in client.devices()[:2]] == [False, True]


def test_a_reboot(node_of: Callable[[str], Start]) -> None:
    """It takes all instances, and MIG mode stays; an A100's comes with it. Made again, an instance has another UUID."""
    client = node_of(NODE)()
    made = client(f"driver.create(ids[0], {THREE_G})", Partition)
    client("control('mode 2 1')")
    assert "waits for a reset" in client.devices()[2].hardware_refusal
    client("control('reboot')")
    assert client.living(0) == client.living(2) == ()
    assert client(f"driver.create(ids[0], {THREE_G})", Partition).uuid not in ("", made.uuid)


def test_a_device_that_is_gone(node_of: Callable[[str], Start]) -> None:
    """It is an error and missing from the list, its instances are what they were, and the others go on."""
    client = node_of(NODE)()
    made = client(f"driver.create(ids[0], {THREE_G})", Partition)
    client("[driver.living(), control('set 0 lost 1')]")
    assert client.living(0) == (made,)
    assert [device.index for device in client.devices()] == [1, 2, 3]
    with pytest.raises(DriverError, match="GPU is lost"):
        client("driver.findings(ids[0])")
    assert client("driver.findings(ids[1])") == []
    client(f"driver.create(ids[1], {THREE_G})")
    client("driver.make_whole(ids[1])")


def test_a_device_that_hangs(node_of: Callable[[str], Start]) -> None:
    """Threads that look after the other devices are answered while one waits for it."""
    client = node_of(NODE)()
    client("[names.update(pool=ThreadPoolExecutor(8)), control('set 0 hang_ms 3600000')]")
    client("names.update(stuck=[pool.submit(driver.describe, '0'), pool.submit(driver.findings, ids[0])])")
    others = "[[f.result() for f in [pool.submit(call, ids[i]) for i in (1, 2, 3)]] for call in (driver.sample, driver.findings)]"
    samples, findings = client(others)
    assert [sample["vram_used_bytes"] for sample in samples] == [0, 0, 0]
    assert findings == [[], [], []]
    assert client("[driver.describe(key).index for key in '123']") == [1, 2, 3]
    assert client("[each.done() for each in stuck]") == [False, False]


def test_findings_go_to_their_device(node_of: Callable[[str], Start]) -> None:
    """Xids, heat and memory errors, each of the device that has them."""
    client = node_of(NODE)()
    assert client("[driver.findings(each) for each in ids]") == [[]] * 4
    for command in ("event 0 xid 31", "event 1 xid 119", "set 2 temperature_c 91", "set 3 remap_failed 1"):
        client(f"control('{command}')")
    found = [client(f"driver.findings(ids[{index}])", tuple[Finding, ...]) for index in range(4)]
    assert [[(each.kind, each.code, str(each.severity)) for each in device] for device in found] == [
        [("xid", 31, "info")],
        [("xid", 119, "fatal")],
        [("thermal", 0, "warning")],
        [("ecc", 0, "fatal")],
    ]
    assert client("[len(driver.findings(each)) for each in ids]") == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("name", "pairs", "lanes", "gb_per_s"),
    [("dgx-h100", 28, 18, 450), ("dgx-a100", 28, 12, 300), ("gb200-4", 6, 18, 900), ("legacy", 0, 0, 0)],
)
def test_the_machines_that_come_with_mica(
    node_of: Callable[[str], Start], name: str, pairs: int, lanes: int, gb_per_s: int
) -> None:
    """Their links and NUMA nodes are read as their files say."""
    text = (files("mica.hardware") / "nodes" / f"{name}.toml").read_text()
    client = node_of(text)()
    links = client("driver.links()", tuple[Link, ...])
    assert len(links) == pairs
    assert {(link.kind, link.lanes, link.bytes_per_s) for link in links} <= {(LinkKind.NVSWITCH, lanes, gb_per_s * 10**9)}
    described = NodeFile.parse(text.encode()).devices()
    found = client.devices()
    assert [(each.model, each.numa_node) for each in found] == [(each.model.name, each.numa) for each in described]
    assert name != "legacy" or not any(each.profiles or each.green_contexts for each in found)


@pytest.mark.parametrize("first", range(0, len(MODELS), 16))
def test_every_card_is_read_as_the_catalogue_has_it(node_of: Callable[[str], Start], first: int) -> None:
    """With MIG mode on and off: NVML and the catalogue agree, so that there is nothing to warn of."""
    some = MODELS[first : first + 16]
    client = node_of("name = 'cards'\n" + "".join(f"[[device]]\nmodel = '{model.key}'\n" for model in some))()
    for device, model in zip(client.devices(), some, strict=True):
        assert (device.model, device.vram_bytes, device.multiprocessors) == (model.name, model.vram_bytes, model.multiprocessors)
        assert (device.profiles, device.budgets) == (model.partition_profiles(), model.budgets)
        assert device.warnings == ()
        assert device.switchable is (model.mig and (model.capability or (0, 0)) >= (9, 0))
    client("[control(f'{verb} {i} 1') for i, d in enumerate(driver.devices()) if d.profiles for verb in ('mode', 'reset')]")
    for device, model in zip(client.devices(), some, strict=True):
        assert (device.partitioned, device.warnings) == (model.mig, ())
        assert {each.name: each for each in device.profiles} == {each.name: each for each in model.partition_profiles()}
