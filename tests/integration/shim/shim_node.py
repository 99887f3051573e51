"""A simulated node, regions as an enforcer would make them, and tenants' programs under the shim."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from slice_regions import SliceRegions

from mica.native import LIB_DIR, shims

GIB = 1 << 30
MIB = 1 << 20
UUIDS = [f"GPU-6d696361-0000-4000-8000-00000000000{i}" for i in (1, 2, 3)]
CLIENT = Path(__file__).with_name("shim_client.py")
PEER_CLIENT = Path(__file__).with_name("peer_client.py")
DEVICE = """device
vendor nvidia
name NVIDIA L4
uuid {uuid}
serial {index}
pci_bus {index}
pci_device_id 0x27b810de
vram_bytes 25769803776
reserve_bytes 536870912
bar1_bytes 34359738368
memory_bytes_per_s 300000000000
multiprocessors 58
capability_major 8
capability_minor 9
warp_threads 32
block_threads_max 1024
multiprocessor_threads_max 1536
multiprocessor_blocks_max 24
multiprocessor_registers 65536
multiprocessor_shared_bytes 102400
block_shared_optin_bytes 101376
clock_khz 2040000
memory_clock_khz 6251000
memory_bus_bits 192
l2_bytes 50331648
power_limit_mw 72000
"""
NODE = """node shimtest
driver_version 580.65.06
cuda_version 13000
launch_ns 2000
block_ns 20000
timeslice_ns 2000000
context_bytes {context_bytes}
kernel spin* 500000
"""

READ_BOOKS = """
import ctypes, sys
text = ctypes.create_string_buffer(1 << 22)
length = ctypes.CDLL(sys.argv[1]).mica_sim_books(text, len(text))
assert 0 < length < len(text), length
print(text.value.decode())
"""


class Tenant:
    """One running program of a tenant, asked one call at a time."""

    def __init__(self, environment: dict[str, str], client: Path = CLIENT, before: Callable[[], None] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(client)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=before,  # noqa: PLW1509 - a test starts its programs from one thread
        )

    def send(self, *call: Any) -> None:
        """Start a call without waiting for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Wait for the answer of the oldest call that has none yet."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the program died: {self.process.wait()}, {self.process.stderr.read() if self.process.stderr else ''}"
        return json.loads(line)

    def __call__(self, *call: Any) -> Any:
        self.send(*call)
        return self.answer()

    def started(self) -> "Tenant":
        """Initialise the driver and make a context and a kernel."""
        assert self("init") == [0]
        assert self("primary") == [0]
        assert self("kernel") == [0]
        return self

    def close(self) -> str:
        """End the program normally; what it wrote on stderr."""
        _, errors = self.process.communicate(timeout=30)
        return errors


class Node(SliceRegions):
    """A simulated node with three devices, and the regions of its slices: 1 GiB on the first, and all of its compute."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        super().__init__(root / "run", stack, UUIDS[0], {"vram_limit_bytes": GIB})
        self.sim_dir = root / "sim"
        self.sim_dir.mkdir()
        devices = "".join(DEVICE.format(uuid=uuid, index=index + 1) for index, uuid in enumerate(UUIDS))
        self.devices = devices
        self.describe()
        self.tenants: list[Tenant] = []

    def describe(self, context_bytes: int = 0, **costs: int) -> None:
        """Write the node's description, before any program is started: what a process's first context takes, and other costs."""
        more = "".join(f"{name} {value}\n" for name, value in costs.items())
        (self.sim_dir / "node.desc").write_text(NODE.format(context_bytes=context_bytes) + more + self.devices)

    def environment(self, slice_id: str | None, shim: bool = True) -> dict[str, str]:
        """What `mica run` gives a program."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("MICA_", "CUDA_", "LD_"))}
        plain |= {"MICA_SIM_DIR": str(self.sim_dir), "LD_LIBRARY_PATH": str(LIB_DIR / "sim")}
        if shim:
            plain |= {
                "LD_PRELOAD": ":".join(map(str, shims())),
                "MICA_CUDA_DRIVER": f"{LIB_DIR}/sim/libcuda.so.1",
                "MICA_NVML_DRIVER": f"{LIB_DIR}/sim/libnvidia-ml.so.1",
            }
        if slice_id is not None:
            plain |= {"MICA_SLICE": slice_id, "MICA_RUNTIME_DIR": str(self.runtime.root)}
        return plain

    def start(
        self, slice_id: str | None, client: Path = CLIENT, before: Callable[[], None] | None = None, **environment: str
    ) -> Tenant:
        """Start a program inside the slice (None: in no slice, with the shim preloaded all the same); first it runs `before`."""
        tenant = Tenant(self.environment(slice_id) | environment, client, before)
        self.tenants.append(tenant)
        return tenant

    def books(self) -> dict[str, Any]:
        """The simulated driver's own books."""
        command = [sys.executable, "-c", READ_BOOKS, str(LIB_DIR / "sim" / "libmica-sim-books.so")]
        done = subprocess.run(command, env=self.environment(None, shim=False), capture_output=True, text=True, check=True)
        books: dict[str, Any] = json.loads(done.stdout)
        return books

    def process(self, tenant: Tenant) -> dict[str, Any]:
        """The driver's books on one program."""
        return next(p for p in self.books()["processes"] if p["live"] and p["own_pid"] == tenant.process.pid)

    def account(self, tenant: Tenant) -> dict[str, Any]:
        """The driver's books on one program and its first device."""
        account: dict[str, Any] = self.process(tenant)["accounts"][0]
        return account
