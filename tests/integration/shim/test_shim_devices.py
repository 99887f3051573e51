"""Several devices in one process: which there are, in which order, and that each has its own limit and its own books."""

import pytest
from shim_node import DEVICE, MIB, PEER_CLIENT, Node, Tenant

from mica.enforcer.tenancy import NO_DEVICE

OUT_OF_MEMORY = 2
NO_SUCH_DEVICE = 100
FIRST, SECOND, THIRD = UUIDS = [f"GPU-{part}{'0' * 6}-0000-4000-8000-000000000000" for part in ("a1", "b2", "b3")]
"""The beginning of the first is its own, that of the others is shared."""

LIMITS = {FIRST: 10 * MIB, SECOND: 20 * MIB, THIRD: 40 * MIB}


@pytest.fixture(autouse=True)
def _slice(node: Node) -> None:
    node.devices = "".join(DEVICE.format(uuid=uuid, index=index + 1) for index, uuid in enumerate(UUIDS))
    node.describe()
    for uuid, limit in LIMITS.items():
        node.place("a", uuid, vram_limit_bytes=limit)


def held(node: Node) -> list[int]:
    """What the slice holds on each device, in MiB."""
    return [node.usage("a", uuid).vram_bytes // MIB for uuid in UUIDS]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("GPU-a", [FIRST]),
        ("GPU-b3,GPU-a1", [THIRD, FIRST]),
        ("2,GPU-b2,0", [THIRD, SECOND, FIRST]),
        (f"{SECOND},0", [SECOND, FIRST]),
        ("GPU-a,GPU-b,1", [FIRST]),
        ("1,3,0", [SECOND]),
        ("GPU-b3,GPU-c,0", [THIRD]),
        ("2,nonsense,0", [THIRD]),
        ("1,,0", [SECOND]),
        (None, UUIDS),
    ],
)
def test_each_entry_of_a_list_has_the_limit_of_its_device(node: Node, visible: str | None, expected: list[str]) -> None:
    """Numbers, UUIDs and their beginnings, mixed, up to the first entry that means nothing or more than one device."""
    tenant = node.start("a", client=PEER_CLIENT, **({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}))
    assert tenant("init") == [0]
    assert [tenant("device_uuid", ordinal) for ordinal in range(tenant("device_count")[1])] == expected
    for ordinal, uuid in enumerate(expected):
        limit = LIMITS[uuid]
        assert tenant("total", ordinal) == [0, limit]
        assert tenant("primary", ordinal) == [0]
        assert tenant("info") == [0, limit, limit]
        assert tenant("alloc", "p", limit + 1) == [OUT_OF_MEMORY]
        assert tenant("alloc", "p", limit) == [0]
    assert held(node) == [LIMITS[uuid] // MIB if uuid in expected else 0 for uuid in UUIDS]


@pytest.mark.parametrize("visible", ["", "-1,0", "3,0", "GPU-b,0", "GPU-c,0", "nonsense,0"])
@pytest.mark.parametrize("preload", [True, False])
def test_a_list_that_begins_with_nothing_leaves_no_device(node: Node, visible: str, preload: bool) -> None:
    """With the shim as without it."""
    tenant = node.start("a", CUDA_VISIBLE_DEVICES=visible, **({} if preload else {"LD_PRELOAD": ""}))
    assert tenant("init") == [NO_SUCH_DEVICE]


def test_the_slices_list_keeps_its_order(node: Node) -> None:
    """Where the environment names the slice's devices, they are numbered as it names them."""
    visible = f"{THIRD},{FIRST}"
    tenant = node.start("a", client=PEER_CLIENT, CUDA_VISIBLE_DEVICES=NO_DEVICE, MICA_VISIBLE_DEVICES=visible)
    assert tenant("init") == [0]
    assert tenant("device_count") == [0, 2]
    for ordinal, uuid in enumerate((THIRD, FIRST)):
        assert tenant("device_uuid", ordinal) == uuid
        assert tenant("total", ordinal) == [0, LIMITS[uuid]]


def test_programs_that_number_the_devices_differently_share_their_books(node: Node) -> None:
    """What one program takes on its device 0 is missing to another of the slice on the same device, its device 1."""
    first = node.start("a", CUDA_VISIBLE_DEVICES="1,2")
    second = node.start("a", CUDA_VISIBLE_DEVICES="2,1")
    for tenant in (first, second):
        assert tenant("init") == [0]
    assert first("primary", 0) == first("alloc", "p", 15 * MIB) == [0]
    assert second("primary", 1) == [0]
    assert second("info") == [0, 5 * MIB, 20 * MIB]
    assert second("alloc", "p", 6 * MIB) == [OUT_OF_MEMORY]
    assert second("primary", 0) == [0]
    assert second("info") == [0, 40 * MIB, 40 * MIB]
    assert held(node) == [0, 15, 0]


@pytest.fixture
def tenant(node: Node) -> Tenant:
    """A program whose current context is the first device's, and that has one on each."""
    made = node.start("a")
    assert made("init") == [0]
    for ordinal in (0, 1, 2, 0):
        assert made("primary", ordinal) == [0]
    return made


def test_memory_that_names_its_device_is_charged_there(node: Node, tenant: Tenant) -> None:
    """Physical memory and pools are of the device they name, not of the current one."""
    assert tenant("create", "h", 16 * MIB, 1) == [0]
    assert held(node) == [0, 16, 0]
    assert tenant("create", "h0", 16 * MIB, 0) == [OUT_OF_MEMORY]
    assert tenant("create", "h1", 16 * MIB, 1) == [OUT_OF_MEMORY]
    assert tenant("pool", "pool", 2) == [0]
    assert tenant("alloc_from", "p", 32 * MIB, "pool") == [0]
    assert held(node) == [0, 16, 32]
    assert tenant("alloc_from", "q", 32 * MIB, "pool") == [OUT_OF_MEMORY]
    assert tenant("info") == [0, 10 * MIB, 10 * MIB]
    assert tenant("release", "h") == tenant("free_async", "p") == tenant("sync") == tenant("trim", "pool", 0) == [0]
    assert held(node) == [0, 0, 0]


def test_a_reset_ends_the_memory_of_one_device(node: Node, tenant: Tenant) -> None:
    """What went with a device's primary context is given back there, and what is on the others stays."""
    for ordinal, name, size in ((0, "p", 8), (1, "q", 16), (2, "r", 32)):
        assert tenant("primary", ordinal) == tenant("alloc", name, size * MIB) == [0]
    assert held(node) == [8, 16, 32]
    assert tenant("reset", 1) == [0]
    assert held(node) == [8, 0, 32]
    assert tenant("free", "p") == [0]
    assert held(node) == [0, 0, 32]


@pytest.mark.parametrize("current", [None, 0, 1])
@pytest.mark.parametrize("seen", [True, False])
def test_work_in_a_stream_is_the_streams_devices(node: Node, current: int | None, seen: bool) -> None:
    """What is allocated and launched in a stream counts on the stream's device, whichever context is current, if any."""
    tenant = node.start("a", client=PEER_CLIENT)
    assert tenant("init") == [0]
    if seen:
        assert tenant("primary", 1) == tenant("alloc", "early", MIB) == tenant("free", "early") == [0]
    assert tenant("stream_on", 1) == [0]
    if current is not None:
        assert tenant("primary", current) == [0]
    assert tenant("alloc_in_stream", "p", 16 * MIB) == [0]
    assert tenant("alloc_in_stream", "q", 16 * MIB) == [OUT_OF_MEMORY]
    assert held(node) == [0, 16, 0]
    assert tenant("launch_as", "stream", 3) == [0]
    assert [node.usage("a", uuid).launches for uuid in UUIDS] == [0, 3, 0]
    assert tenant("free_in_stream", "p") == [0]


@pytest.mark.parametrize("current", [None, 0, 1])
def test_a_launch_in_a_stream_is_in_flight_on_the_streams_device(node: Node, current: int | None) -> None:
    """It is followed to its end there, whichever context is current, if any."""
    node.describe(launch_ns=2_000_000_000)
    node.change("a", UUIDS[1], generation=2, burst_ns=10**12, inflight_max=8)
    tenant = node.start("a", client=PEER_CLIENT)
    assert tenant("init") == tenant("stream_on", 1) == [0]
    if current is not None:
        assert tenant("primary", current) == [0]
    assert tenant("launch_as", "stream") == [0]
    assert [process.inflight for process in node.usage("a", UUIDS[1]).processes] == [1]


def test_launches_count_on_their_own_device(node: Node, tenant: Tenant) -> None:
    """A kernel counts where its context is, by our books and by the driver's."""
    for ordinal, count in ((0, 1), (1, 2), (2, 3)):
        assert tenant("primary", ordinal) == tenant("kernel") == tenant("launch", count) == tenant("sync") == [0]
    assert [node.usage("a", uuid).launches for uuid in UUIDS] == [1, 2, 3]
    assert [account["kernel_ns"] for account in node.process(tenant)["accounts"]] == [502_000, 2 * 502_000, 3 * 502_000]
