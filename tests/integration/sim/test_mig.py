"""MIG: instances through NVML, and programs inside of them."""

import pytest
from sim_node import Client, ClientError, Node

from mica.hardware import Catalogue

MIB = 1 << 20
SETUP = """
import ctypes
pynvml.nvmlInit()
h100 = pynvml.nvmlDeviceGetHandleByIndex(1)

def create(profile_id, start, size):
    at = pynvml.c_nvmlGpuInstancePlacement_t(start, size)
    return pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(h100, profile_id, ctypes.byref(at))

def whole(instance):
    slices = {19: 0, 20: 0, 15: 0, 14: 1, 9: 2, 5: 3, 0: 4}[pynvml.nvmlGpuInstanceGetInfo(instance).profileId]
    return pynvml.nvmlGpuInstanceCreateComputeInstance(instance, slices)

def migs():
    found = []
    for i in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(h100)):
        try:
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(h100, i))
        except pynvml.NVMLError_NotFound:
            break
    return found

def uuids():
    return [pynvml.nvmlDeviceGetUUID(m) for m in migs()]
"""


@pytest.fixture
def admin(node: Node) -> Client:
    """A pynvml program that administers the H100."""
    made = node.client()
    made.run(SETUP)
    return made


def test_profiles_are_the_catalogues(admin: Client) -> None:
    """NVML lists every profile of the model with its id, size, memory, engines and possible starts."""
    for profile in Catalogue.load().model("H100-SXM-80GB").profiles:
        admin.run(f"i = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(h100, {profile.index})")
        fields = ("id", "sliceCount", "instanceCount", "multiprocessorCount", "memorySizeMB", "copyEngineCount", "decoderCount")
        seen = [admin(f"i.{field}") for field in fields]
        assert seen == [
            profile.profile_id,
            profile.compute_slices,
            profile.max_instances,
            profile.multiprocessors,
            profile.memory_bytes // MIB,
            profile.copy_engines,
            profile.decoders,
        ]
        admin.run("places = (pynvml.c_nvmlGpuInstancePlacement_t * 16)(); n = ctypes.c_uint(16)")
        admin.run("pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(h100, i.id, places, ctypes.byref(n))")
        assert admin("[(p.start, p.size) for p in places[:n.value]]") == [[start, profile.size] for start in profile.starts]


def test_slots_are_given_once(node: Node, admin: Client) -> None:
    """An instance over taken slots, at a start the profile lacks, or past a profile's maximum is refused; nothing changes."""
    admin.run("a = create(9, 0, 4)")
    for profile_id, start, size in ((14, 2, 2), (9, 0, 4), (5, 0, 4), (0, 0, 8), (19, 3, 1)):
        with pytest.raises(ClientError, match="InsufficientResources"):
            admin(f"create({profile_id}, {start}, {size})")
    with pytest.raises(ClientError, match="InvalidArgument"):
        admin("create(14, 3, 2)")
    admin.run("b = create(20, 4, 1)")
    with pytest.raises(ClientError, match="InsufficientResources"):
        admin("create(20, 5, 1)")
    assert [(i.profile, i.start) for i in node.books().devices[1].instances] == [("3g.40gb", 0), ("1g.10gb+me", 4)]


def test_compute_slices_end_before_slots(admin: Client) -> None:
    """4g and 3g fill a device; two of 3g strand one slice, so that a 1g no longer fits."""
    admin.run("a, b = create(5, 0, 4), create(9, 4, 4)")
    assert admin("pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(h100, 19)") == 0
    admin.run("pynvml.nvmlGpuInstanceDestroy(a); a = create(9, 0, 4)")
    assert admin("[pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(h100, i) for i in (19, 14, 9)]") == [0, 0, 0]


def test_capacity_counts_down(admin: Client) -> None:
    """Remaining capacity of every profile follows what is taken."""
    assert admin("pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(h100, 19)") == 7
    admin.run("made = [create(19, s, 1) for s in range(3)]")
    assert admin("[pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(h100, i) for i in (19, 14, 9, 5, 0)]") == [4, 1, 1, 0, 0]


def test_a_program_inside_an_instance_sees_only_that(node: Node, admin: Client) -> None:
    """With a MIG UUID visible the instance is device 0: its memory, its multiprocessors, its end."""
    admin.run("g = create(14, 2, 2); c = whole(g)")
    uuid = admin("uuids()")[0]
    inside = node.client(CUDA_VISIBLE_DEVICES=uuid)
    inside("start()")
    profile = Catalogue.load().model("H100-SXM-80GB").profile("2g.20gb")
    assert inside("ok(driver.cuDeviceGetCount())") == 1
    assert inside("ok(driver.cuMemGetInfo())") == [profile.memory_bytes] * 2
    assert inside("ok(driver.cuDeviceGetAttribute(driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0))") == 32
    assert inside("ok(driver.cuDeviceGetUuid(0)).bytes.hex()") == uuid.removeprefix("MIG-").replace("-", "")
    inside.run(f"p = allocate({profile.memory_bytes})")
    assert inside("code(driver.cuMemAlloc(1))") == "CUDA_ERROR_OUT_OF_MEMORY"
    assert admin("pynvml.nvmlDeviceGetMemoryInfo(migs()[0]).used") == profile.memory_bytes
    assert node.books().accounts(uuid)[0].requested_bytes == profile.memory_bytes


def test_instances_do_not_wait_for_each_other(node: Node, admin: Client) -> None:
    """Minutes of work in one instance do not delay a kernel in the other."""
    admin.run("made = [create(9, s, 4) for s in (0, 4)]; [whole(g) for g in made]")
    busy, quick = (node.client(CUDA_VISIBLE_DEVICES=uuid) for uuid in admin("uuids()"))
    busy("start()")
    quick("start()")
    busy.run("f = kernel('long_kernel'); [launch(f, 1) for _ in range(500)]")
    quick.run("launch(kernel(), 1); ok(driver.cuCtxSynchronize())")
    instances = node.books().devices[1].instances
    assert instances[1].compute[0].busy_ns == 101_000


def test_what_is_in_use_stays(node: Node, admin: Client) -> None:
    """An instance goes only after its compute instances, these only after their processes; the mode only when idle."""
    admin.run("g = create(19, 0, 1); c = whole(g)")
    inside = node.client(CUDA_VISIBLE_DEVICES=admin("uuids()")[0])
    inside("start()")
    with pytest.raises(ClientError, match="InUse"):
        admin("pynvml.nvmlComputeInstanceDestroy(c)")
    with pytest.raises(ClientError, match="InUse"):
        admin("pynvml.nvmlGpuInstanceDestroy(g)")
    with pytest.raises(ClientError, match="InUse"):
        admin("pynvml.nvmlDeviceSetMigMode(h100, 0)")
    admin.run("running = pynvml.nvmlDeviceGetComputeRunningProcesses(migs()[0])")
    listed = admin("[(p.pid, p.gpuInstanceId, p.computeInstanceId) for p in running]")
    assert listed == [[inside.pid, 1, 0]]
    inside.kill()
    admin.run("pynvml.nvmlComputeInstanceDestroy(c); pynvml.nvmlGpuInstanceDestroy(g); pynvml.nvmlDeviceSetMigMode(h100, 0)")
    assert admin("pynvml.nvmlDeviceGetMigMode(h100)") == [0, 0]


def test_instances_outlive_their_maker_but_not_a_reboot(node: Node, admin: Client) -> None:
    """They are found, with the same UUID, by the next program, and are gone after a reboot."""
    admin.run("c = whole(create(19, 3, 1))")
    uuid = admin("uuids()")[0]
    admin.kill()
    heir = node.client()
    heir.run(SETUP)
    assert heir("uuids()") == [uuid]
    assert heir(f"pynvml.nvmlDeviceGetGpuInstanceId(pynvml.nvmlDeviceGetHandleByUUID('{uuid}'))") == 1
    node.reboot()
    after = node.client()
    after.run(SETUP)
    assert after("uuids()") == []


def test_a_device_without_mig_says_so(admin: Client) -> None:
    """An L4 has no MIG mode and no instances."""
    admin.run("l4 = pynvml.nvmlDeviceGetHandleByIndex(0)")
    for call in ("nvmlDeviceGetMigMode(l4)", "nvmlDeviceSetMigMode(l4, 1)", "nvmlDeviceGetGpuInstanceProfileInfo(l4, 0)"):
        with pytest.raises(ClientError, match="NotSupported"):
            admin(f"pynvml.{call}")
