"""Suspending a process from outside with the driver's checkpoint calls, made with NVIDIA's own bindings."""

import os
import signal
import time
from pathlib import Path

import pytest
from sim_node import Client, Node

MIB = 1 << 20

CONTROL = """
import ctypes
def args(milliseconds):
    made = driver.CUcheckpointLockArgs(); made.timeoutMs = milliseconds; return made
def lock(pid, milliseconds=2000): return code(driver.cuCheckpointProcessLock(pid, args(milliseconds)))
def checkpoint(pid): return code(driver.cuCheckpointProcessCheckpoint(pid, None))
def restore(pid): return code(driver.cuCheckpointProcessRestore(pid, None))
def unlock(pid): return code(driver.cuCheckpointProcessUnlock(pid, None))
def state(pid):
    found = driver.cuCheckpointProcessGetState(pid)
    return found[1].name[len('CU_PROCESS_STATE_'):] if not int(found[0]) else found[0].name
"""

PATTERN = """
import hashlib, random
def pattern(seed, size): return random.Random(seed).randbytes(size)
def put(size, seed):
    at = allocate(size); ok(driver.cuMemcpyHtoD(at, pattern(seed, size), size)); return at
def holds(at, size, seed): return read(at, size) == pattern(seed, size)
"""


@pytest.fixture
def control(node: Node) -> Client:
    """Someone else on the node, who has no context."""
    made = node.client()
    made.run(f"ok(driver.cuInit(0)); exec({CONTROL!r}, globals())")
    return made


@pytest.fixture
def tenant(client: Client) -> Client:
    """A client on the L4 that can write and recognise patterns."""
    client.run(f"exec({PATTERN!r}, globals())")
    return client


def suspend(control: Client, pid: int) -> None:
    """Lock and checkpoint."""
    assert (control(f"lock({pid})"), control(f"checkpoint({pid})")) == ("CUDA_SUCCESS", "CUDA_SUCCESS")


def resume(control: Client, pid: int) -> None:
    """Restore and unlock."""
    assert (control(f"restore({pid})"), control(f"unlock({pid})")) == ("CUDA_SUCCESS", "CUDA_SUCCESS")


def spent(node: Node) -> int:
    return node.books().devices[0].spent_bytes


def test_contents_survive_and_the_device_is_free_meanwhile(node: Node, tenant: Client, control: Client) -> None:
    """Every byte is there again at its address, and between the two the books and NVML show nothing of the process."""
    tenant.run("big, small, odd = put(5 * (1 << 20), 1), put(700, 2), put(70 << 20, 3)")
    before = spent(node)
    suspend(control, tenant.pid)
    assert (control(f"state({tenant.pid})"), spent(node)) == ("CHECKPOINTED", 0)
    process = node.books().process(tenant.pid)
    assert process is not None
    assert sum(account.away_bytes for account in process.accounts) == before
    control.run("pynvml.nvmlInit()")
    assert control("[p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByIndex(0))]") == []
    resume(control, tenant.pid)
    assert (control(f"state({tenant.pid})"), spent(node)) == ("RUNNING", before)
    assert tenant("holds(big, 5 << 20, 1) and holds(small, 700, 2) and holds(odd, 70 << 20, 3)")


def test_memory_of_every_private_kind_survives(node: Node, tenant: Client, control: Client) -> None:
    """Pools, arrays, mapped physical memory and a context's modules come back as they were."""
    tenant.run(
        "p = driver.CUmemAllocationProp(); p.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED\n"
        "p.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE\n"
        "a = driver.CUmemAccessDesc(); a.location = p.location\n"
        "a.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE\n"
        "h = ok(driver.cuMemCreate(6 << 20, p, 0)); at = int(ok(driver.cuMemAddressReserve(6 << 20, 0, 0, 0)))\n"
        "ok(driver.cuMemMap(at, 6 << 20, 0, h, 0)); ok(driver.cuMemSetAccess(at, 6 << 20, [a], 1))\n"
        "ok(driver.cuMemcpyHtoD(at + 12345, pattern(4, 3 << 20), 3 << 20))\n"
        "q = int(ok(driver.cuMemAllocAsync(9 << 20, 0))); ok(driver.cuMemcpyHtoD(q, pattern(5, 9 << 20), 9 << 20))\n"
        "k = kernel()"
    )
    before = spent(node)
    suspend(control, tenant.pid)
    assert spent(node) == 0
    resume(control, tenant.pid)
    assert spent(node) == before
    assert tenant("read(at + 12345, 3 << 20) == pattern(4, 3 << 20) and read(q, 9 << 20) == pattern(5, 9 << 20)")
    tenant.run("launch(k, 1); ok(driver.cuCtxSynchronize())")


def test_a_call_waits_until_the_process_is_unlocked(tenant: Client, control: Client) -> None:
    """A call made while locked, checkpointed or restored does not return, fail or act; after the unlock it does."""
    tenant.run("at = put(1 << 20, 1)")
    assert control(f"lock({tenant.pid})") == "CUDA_SUCCESS"
    tenant.send("holds(at, 1 << 20, 1) and allocate(4 << 20) > 0")
    assert control(f"checkpoint({tenant.pid})") == "CUDA_SUCCESS"
    assert control(f"restore({tenant.pid})") == "CUDA_SUCCESS"
    before = control(f"state({tenant.pid})")
    assert control(f"unlock({tenant.pid})") == "CUDA_SUCCESS"
    assert (before, tenant.answer()) == ("LOCKED", True)


def test_a_lock_lets_work_finish_and_gives_up_in_time(tenant: Client, control: Client) -> None:
    """Submitted work is over once the lock is had; work that takes longer than the timeout leaves the process running."""
    tenant.run("k = kernel('long_kernel'); short = kernel(); launch(short, 40)")
    assert control(f"lock({tenant.pid}, 5000)") == "CUDA_SUCCESS"
    assert control(f"unlock({tenant.pid})") == "CUDA_SUCCESS"
    tenant.run("ok(driver.cuCtxSynchronize()); launch(k, 1)")
    assert control(f"lock({tenant.pid}, 30)") == "CUDA_ERROR_NOT_READY"
    assert control(f"state({tenant.pid})") == "RUNNING"
    tenant.run("ok(driver.cuCtxSynchronize())")


def test_a_neighbour_has_the_room_and_a_restore_waits_for_it(node: Node, tenant: Client, control: Client) -> None:
    """What a suspended process gave up can be allocated; a restore without room is refused, whole, and works once there is."""
    tenant.run("at = put(8 << 20, 1)")
    before = spent(node)
    suspend(control, tenant.pid)
    other = node.client(CUDA_VISIBLE_DEVICES="0")
    other.run("start(); free = int(ok(driver.cuMemGetInfo())[0]); p = allocate(free)")
    full = spent(node)
    assert control(f"restore({tenant.pid})") == "CUDA_ERROR_OUT_OF_MEMORY"
    assert (control(f"state({tenant.pid})"), spent(node)) == ("CHECKPOINTED", full)
    other.kill()
    resume(control, tenant.pid)
    assert (spent(node), tenant("holds(at, 8 << 20, 1)")) == (before, True)


def test_wrong_steps_and_wrong_processes_are_told_so(tenant: Client, control: Client) -> None:
    """Each step works from its own state only; who is no CUDA process, or not there any more, is an invalid value."""
    pid = tenant.pid
    assert [control(f"{step}({pid})") for step in ("checkpoint", "restore", "unlock")] == ["CUDA_ERROR_ILLEGAL_STATE"] * 3
    assert control(f"lock({pid})") == "CUDA_SUCCESS"
    assert [control(f"{step}({pid})") for step in ("lock", "restore")] == ["CUDA_ERROR_ILLEGAL_STATE"] * 2
    assert control(f"unlock({pid})") == "CUDA_SUCCESS"
    for wrong in (0, -1, os.getpid(), 1):
        assert [control(f"{step}({wrong})") for step in ("lock", "checkpoint", "restore", "unlock", "state")] == [
            "CUDA_ERROR_INVALID_VALUE"
        ] * 5
    assert control(f"int(ok(driver.cuCheckpointProcessGetRestoreThreadId({pid})))") in {
        int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()
    }
    tenant.kill()
    assert (control(f"lock({pid})"), control(f"state({pid})")) == ("CUDA_ERROR_INVALID_VALUE",) * 2


def test_what_is_reserved_must_be_zero_and_another_device_is_refused(tenant: Client, control: Client) -> None:
    """A restore to the same device may say so; to another one it is refused and leaves the process as it was."""
    suspend(control, tenant.pid)
    control.run(
        "def to(a, b):\n"
        "    pair = driver.CUcheckpointGpuPair(); pair.oldUuid, pair.newUuid = (ok(driver.cuDeviceGetUuid(d)) for d in (a, b))\n"
        "    made = driver.CUcheckpointRestoreArgs(); made.gpuPairs = [pair]; made.gpuPairsCount = 1; return made"
    )
    assert control(f"code(driver.cuCheckpointProcessRestore({tenant.pid}, to(0, 1)))") == "CUDA_ERROR_NOT_SUPPORTED"
    assert control(f"code(driver.cuCheckpointProcessRestore({tenant.pid}, to(0, 0)))") == "CUDA_SUCCESS"
    control.run("raw = ctypes.CDLL('libcuda.so.1'); bad = (ctypes.c_uint64 * 8)(*[0] * 7, 1)")
    assert control(f"raw.cuCheckpointProcessUnlock({tenant.pid}, bad)") == 1
    assert control(f"unlock({tenant.pid})") == "CUDA_SUCCESS"


@pytest.mark.parametrize("held", ["ok(driver.cuMemAllocManaged(1 << 20, 1))", "ok(driver.cuIpcGetMemHandle(allocate(1 << 20)))"])
def test_memory_that_others_reach_is_the_end_of_the_process(node: Node, tenant: Client, control: Client, held: str) -> None:
    """Managed and exported memory cannot be taken: the process fails, answers every call so, and is charged until it is gone."""
    tenant.run(held)
    before = spent(node)
    assert control(f"lock({tenant.pid})") == "CUDA_SUCCESS"
    assert control(f"checkpoint({tenant.pid})") == "CUDA_ERROR_NOT_SUPPORTED"
    assert (control(f"state({tenant.pid})"), spent(node)) == ("FAILED", before)
    assert tenant("code(driver.cuCtxSynchronize())") == "CUDA_ERROR_UNKNOWN"
    tenant.kill()
    assert spent(node) == 0


@pytest.mark.parametrize("steps", [("lock",), ("lock", "checkpoint"), ("lock", "checkpoint", "restore")])
def test_a_process_killed_at_any_step_leaves_nothing(node: Node, tenant: Client, control: Client, steps: tuple[str, ...]) -> None:
    """Dead while locked, checkpointed or restored: its memory is free, and the books add up."""
    tenant.run("at = put(8 << 20, 1)")
    for step in steps:
        assert control(f"{step}({tenant.pid})") == "CUDA_SUCCESS"
    tenant.kill()
    assert (spent(node), control(f"state({tenant.pid})")) == (0, "CUDA_ERROR_INVALID_VALUE")


def test_who_asked_may_be_killed_and_another_goes_on(node: Node, tenant: Client, control: Client) -> None:
    """A checkpoint that was asked for is finished without its asker, and any other process can restore from there."""
    tenant.run("at = put(64 << 20, 1)")
    assert control(f"lock({tenant.pid})") == "CUDA_SUCCESS"
    control.send(f"checkpoint({tenant.pid})")
    deadline = time.monotonic() + 10
    while (process := node.books().process(tenant.pid)) is None or process.stage == 1:
        assert time.monotonic() < deadline
    control.kill()
    other = node.client()
    other.run(f"ok(driver.cuInit(0)); exec({CONTROL!r}, globals())")
    assert other(f"state({tenant.pid})") == "CHECKPOINTED"
    resume(other, tenant.pid)
    assert tenant("holds(at, 64 << 20, 1)")


def test_a_stopped_process_is_not_locked_for_ever(tenant: Client, control: Client) -> None:
    """A process that does not run does not answer: the lock gives up, is withdrawn, and the process runs on untouched."""
    tenant.run("at = put(1 << 20, 1)")
    os.kill(tenant.pid, signal.SIGSTOP)
    while " T " not in Path(f"/proc/{tenant.pid}/stat").read_text().rpartition(")")[2][:4]:
        time.sleep(0.001)
    try:
        assert control(f"lock({tenant.pid}, 50)") == "CUDA_ERROR_NOT_READY"
    finally:
        os.kill(tenant.pid, signal.SIGCONT)
    assert (control(f"state({tenant.pid})"), tenant("holds(at, 1 << 20, 1)")) == ("RUNNING", True)


def test_a_process_can_suspend_itself(tenant: Client) -> None:
    """The calls about oneself do not block on one's own lock."""
    tenant.run(f"exec({CONTROL!r}, globals()); import os; me = os.getpid(); at = put(3 << 20, 1)")
    assert tenant("[step(me) for step in (lock, checkpoint, restore, unlock)]") == ["CUDA_SUCCESS"] * 4
    assert tenant("holds(at, 3 << 20, 1)")


def test_a_restore_needs_an_initialised_driver(node: Node, tenant: Client) -> None:
    """Who never called cuInit can lock and checkpoint, but not restore: there is no persistence mode here."""
    plain = node.client()
    plain.run(f"exec({CONTROL!r}, globals())")
    suspend(plain, tenant.pid)
    assert plain(f"restore({tenant.pid})") == "CUDA_ERROR_NOT_INITIALIZED"
    plain.run("ok(driver.cuInit(0))")
    resume(plain, tenant.pid)
