"""The enforcer as a process: real regions, the simulated driver, a real server."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from enforcer_site import LIMIT_S, NODE, Site

from mica.bus import BusError
from mica.events import Departure, LedgerEntry, Mode, ObservedState, Partition, SliceReady, Tier
from mica.region import QuotaRegion, SliceState, read_usage

GIB = 1 << 30

HOLD = """
import sys
from pathlib import Path
from mica.region import TenantRegion
region = TenantRegion(Path(sys.argv[1]))
assert region.reserve(int(sys.argv[2]), 1 << 40)
print("holding", flush=True)
sys.stdin.read()
"""

ALLOCATE = """
import ctypes
import sys
driver, context, total, pointer = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_uint64()
assert driver.cuInit(0) == 0
assert driver.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0
assert driver.cuDeviceTotalMem_v2(ctypes.byref(total), 0) == 0
assert driver.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(1 << 30)) == 0
print(total.value, flush=True)
sys.stdin.read()
"""


def software(id_: str = "s1", generation: int = 1, **fields: object) -> LedgerEntry:
    """An fcsp slice of 4 GiB."""
    base: dict[str, object] = {"tenant": "acme", "tier": Tier.GUARANTEED, "mode": Mode.FCSP, "vram_bytes": 4 * GIB}
    return LedgerEntry(id=id_, generation=generation, share_ppm=300_000, **(base | fields))


def hardware(id_: str = "h1", start: int = 0) -> LedgerEntry:
    """A 1g slice of the H100."""
    partition = Partition(profile="1g.10gb", profile_id=19, start=start, size=1)
    return software(id_, mode=Mode.HARDWARE, partition=partition, vram_bytes=9 * GIB)


def hold(site: Site, slice_id: str, vram_bytes: int) -> subprocess.Popen[str]:
    """A process that holds memory of a slice, as a shim would count it, and told nobody."""
    path = site.runtime.usage_path(slice_id, site.devices[0])
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(vram_bytes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process


async def end(process: subprocess.Popen[str]) -> None:
    """Collect a process that was killed."""
    await asyncio.to_thread(process.wait, LIMIT_S)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


async def test_a_slice_goes_from_the_ledger_to_its_record_and_back(site: Site) -> None:
    """Ready is said over a live record; released over a free one, with nothing left in the runtime directory."""
    await site.start()
    await site.ledger({site.devices[0]: [software()]})
    ready = await site.until_said("ready", "s1")
    assert isinstance(ready, SliceReady)
    assert ready.placements[0].model == "NVIDIA L4"
    with QuotaRegion(site.runtime.quota_path(site.devices[0])) as quota:
        index = quota.find("s1")
        assert index is not None
        limits = quota.read(index)
        assert limits is not None
        assert (limits.vram_limit_bytes, limits.share_ppm, limits.state) == (4 * GIB, 300_000, SliceState.LIVE)
        assert quota.heartbeat_ns > 0
        usage = site.runtime.usage_path("s1", site.devices[0])
        assert usage.stat().st_mode & 0o777 == 0o600
        await site.ledger({}, {"s1": Departure(tenant="acme", generation=2)})
        await site.until_said("released", "s1")
        assert quota.find("s1") is None
    assert not usage.parent.exists()
    observed = await site.until_observed(lambda seen: seen.generation == 2)
    assert observed.devices == {}


async def test_a_partition_is_made_and_destroyed_in_the_driver(site: Site) -> None:
    """An unmodified client inside sees the MIG device, and its release gives the slots back."""
    await site.start()
    await site.ledger({site.devices[1]: [hardware(start=2)]})
    ready = await site.until_said("ready", "h1")
    assert isinstance(ready, SliceReady)
    partition = ready.placements[0].partition
    assert partition is not None
    assert partition.uuid.startswith("MIG-")
    script = (
        "import os, pynvml; pynvml.nvmlInit(); h = pynvml.nvmlDeviceGetHandleByUUID(os.environ['CUDA_VISIBLE_DEVICES']);"
        "print(bool(pynvml.nvmlDeviceIsMigDeviceHandle(h)))"
    )
    client = site.tenant("h1", script)
    out, _ = await asyncio.to_thread(client.communicate)
    assert out == "True\n"
    await site.ledger({}, {"h1": Departure(tenant="acme", generation=2)})
    await site.until_said("released", "h1")
    await site.ledger({site.devices[1]: [hardware("h2", start=2)]})
    await site.until_said("ready", "h2")


async def test_a_partition_that_does_not_fit_fails_its_slice(site: Site) -> None:
    """The library's refusal comes back in observed, and the service goes on."""
    await site.start()
    wrong = software("h1", mode=Mode.HARDWARE, partition=Partition(profile="3g.40gb", profile_id=9, start=1, size=4))
    await site.ledger({site.devices[1]: [wrong], site.devices[0]: [software()]})
    await site.until_said("ready", "s1")
    observed = await site.until_observed(lambda seen: "h1" in seen.devices.get(site.devices[1], {}))
    failed = observed.devices[site.devices[1]]["h1"]
    assert failed.state is ObservedState.FAILED
    assert "3g.40gb at slot 1" in failed.message


async def test_a_killed_enforcer_leaves_tenants_running_and_its_heir_adopts_them(site: Site) -> None:
    """The record and the usage region are the very same; what died meanwhile gives its memory back; nothing is said twice."""
    await site.start()
    await site.ledger({site.devices[0]: [software()], site.devices[1]: [hardware()]})
    await site.until_said("ready", "s1")
    await site.until_said("ready", "h1")
    staying, leaving = hold(site, "s1", GIB), hold(site, "s1", 2 * GIB)
    usage = site.runtime.usage_path("s1", site.devices[0])
    inode = usage.stat().st_ino
    site.kill()
    leaving.kill()
    await end(leaving)
    assert read_usage(usage).vram_bytes == 3 * GIB
    await site.start()
    assert read_usage(usage).vram_bytes == GIB
    assert usage.stat().st_ino == inode
    staying.kill()
    await end(staying)
    async with asyncio.timeout(LIMIT_S):
        while read_usage(usage).processes:
            await asyncio.sleep(0.01)
    assert len(await site.said("ready")) == 2
    assert len(await site.said("attached", "s1")) >= 1


async def test_a_release_ends_the_processes_that_stay(site: Site) -> None:
    """After its grace the process is made to go, and only then is the slice released."""
    await site.start()
    await site.ledger({site.devices[0]: [software()]})
    await site.until_said("ready", "s1")
    process = hold(site, "s1", GIB)
    await site.ledger({}, {"s1": Departure(tenant="acme", generation=2, grace_s=0)})
    await site.until_said("released", "s1")
    assert process.poll() is not None
    await end(process)


async def test_a_shim_reports_at_the_door(site: Site) -> None:
    """A client with the shim is announced with its pid, sees its slice's memory, and gives its slot back when it is killed."""
    await site.start()
    await site.ledger({site.devices[0]: [software()]})
    await site.until_said("ready", "s1")
    client = site.tenant("s1", ALLOCATE)
    assert client.stdout is not None
    line = await asyncio.to_thread(client.stdout.readline)
    assert int(line) == 4 * GIB
    attached = await site.until_said("attached", "s1")
    assert attached.pid == client.pid  # type: ignore[attr-defined]
    client.kill()
    await end(client)
    usage = site.runtime.usage_path("s1", site.devices[0])
    async with asyncio.timeout(LIMIT_S):
        while read_usage(usage).processes:
            await asyncio.sleep(0.01)


async def test_a_server_that_crashes_is_waited_for(site: Site, nats_server: Any) -> None:
    """Slices stay as they are while it is away, and the ledger is followed when it is back."""
    await site.start()
    await site.ledger({site.devices[0]: [software()]})
    await site.until_said("ready", "s1")
    nats_server.kill()
    with QuotaRegion(site.runtime.quota_path(site.devices[0])) as quota:
        before = quota.heartbeat_ns
        async with asyncio.timeout(LIMIT_S):
            while quota.heartbeat_ns == before:
                await asyncio.sleep(0.01)
        assert quota.find("s1") is not None
    nats_server.start()
    async with asyncio.timeout(LIMIT_S):
        while True:
            with suppress(BusError):
                await site.ledger({site.devices[0]: [software(), software("s2")]})
                break
    await site.until_said("ready", "s2")
    assert len(await site.said("ready", "s1")) == 1


async def test_foreign_datagrams_harm_nobody(site: Site) -> None:
    """Noise at the door is dropped and the service goes on."""
    await site.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as noise:
        for data in (b"", b"x", os.urandom(160), bytes(4096)):
            noise.sendto(data, str(site.runtime.attach_socket))
    await site.ledger({site.devices[0]: [software()]})
    await site.until_said("ready", "s1")


async def test_a_second_enforcer_on_the_same_directory_says_so_and_goes(site: Site) -> None:
    """One line, a status, and the first one undisturbed."""
    await site.start()
    second = await asyncio.to_thread(
        subprocess.run, site.command(), env=site.environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert second.returncode == 1
    assert (
        second.stderr
        == f"mica-enforcer: runtime directory {site.runtime.root}: another enforcer holds it; allowed is one per directory\n"
    )
    assert site.stop() == 0


@pytest.mark.parametrize("place", ["/proc/mica", "file/run"])
async def test_a_runtime_directory_that_cannot_be_written_is_one_line(site: Site, place: str) -> None:
    """What cannot be used is named, with the reason."""
    (site.root / "file").write_text("")
    path = Path(place) if place.startswith("/") else site.root / place
    environment = site.environment | {"MICA_RUNTIME_DIR": str(path)}
    failed = await asyncio.to_thread(
        subprocess.run, site.command(), env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"mica-enforcer: runtime directory {path}: ")
    assert failed.stderr.count("\n") == 1


async def test_attach_files_name_only_what_exists(site: Site) -> None:
    """A container engine can mount every source, and the quota region read-only."""
    await site.start()
    await site.ledger({site.devices[0]: [software()]})
    await site.until_said("ready", "s1")
    document = json.loads(site.runtime.attach_path("s1").read_text())
    assert document["node"] == NODE
    assert all(Path(mount["source"]).exists() for mount in document["mounts"])
    read_only = {mount["source"]: mount["read_only"] for mount in document["mounts"]}
    assert read_only[str(site.runtime.quota_path(site.devices[0]))] is True
    assert read_only[str(site.runtime.slice_dir("s1"))] is False
    assert read_only[str(site.runtime.attach_socket.parent)] is True
