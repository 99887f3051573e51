"""Whatever a program does with memory of all kinds, its slice is charged exactly what it holds."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from shim_node import MIB, Node

LIMIT = 128 * MIB
PINNED_LIMIT = 16 * MIB
SIZES = st.one_of(st.integers(1, 4 * MIB), st.sampled_from([512, 2 * MIB, 2 * MIB + 1, 64 * MIB, LIMIT, LIMIT + 1]))
FREES = {"alloc": "free", "managed": "free", "pitch": "free", "array": "free_array", "create": "release", "host": "free_host"}


class AnyKindOfMemory(RuleBasedStateMachine):
    """One program, which allocates and frees at will, and a model of what it holds: name -> (kind, bytes)."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.node = Node(Path(self.stack.enter_context(TemporaryDirectory())), self.stack)
        self.node.place("a", vram_limit_bytes=LIMIT, pinned_limit_bytes=PINNED_LIMIT)
        self.tenant = self.node.start("a").started()
        self.tenant("default_pool", "default")
        self.tenant("pool", "own")
        self.live: dict[str, tuple[str, int]] = {}
        self.pooled: list[str] = []
        self.mapped: dict[str, int] = {}
        self.count = 0

    def teardown(self) -> None:
        for name in list(self.mapped):
            self.unmap(name)
        for name in list(self.live):
            self.free_one(name)
        for name in self.pooled:
            assert self.tenant("free_async", name) == [0]
        self.pooled = []
        for pool in ("default", "own"):
            assert self.tenant("keep", pool, 0) == [0]
        assert self.tenant("sync") == [0]
        assert (self.vram(), self.pinned()) == (0, 0)
        self.tenant.process.kill()
        self.tenant.process.communicate()
        self.stack.close()

    def vram(self) -> int:
        return self.node.usage("a").vram_bytes

    def pinned(self) -> int:
        return self.node.usage("a").processes[0].pinned_bytes

    def held(self) -> int:
        reserved: int = sum(self.tenant("reserved", pool)[1] for pool in ("default", "own"))
        return reserved + sum(size for kind, size in self.live.values() if kind != "host") + sum(self.mapped.values())

    def name(self) -> str:
        self.count += 1
        return f"p{self.count}"

    def take(self, kind: str, size: int, *arguments: int) -> None:
        """Allocate; refused exactly when it does not fit what is left, be it by what the driver keeps unused."""
        name = self.name()
        (result,) = self.tenant(kind, name, *arguments)
        if result == 0:
            self.live[name] = (kind, size)
        elif kind == "host":
            assert (result, self.pinned() + size > PINNED_LIMIT) == (2, True)
        else:
            assert (result, self.held() + size > LIMIT) == (2, True)

    @rule(kind=st.sampled_from(["alloc", "managed", "host"]), size=SIZES)
    def allocate(self, kind: str, size: int) -> None:
        self.take(kind, size, size)

    @rule(width=st.integers(1, 10_000), height=st.integers(1, 1000))
    def pitched(self, width: int, height: int) -> None:
        self.take("pitch", (width + 511) // 512 * 512 * height, width, height)

    @rule(width=st.integers(1, 4096), height=st.integers(1, 300))
    def array(self, width: int, height: int) -> None:
        self.take("array", width * height * 16, width, height)

    @rule(granules=st.integers(1, 8))
    def create(self, granules: int) -> None:
        self.take("create", 2 * granules * MIB, 2 * granules * MIB)

    @precondition(lambda self: any(kind == "create" for kind, _ in self.live.values()))
    @rule(data=st.data())
    def map_and_let_go(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from([name for name, (kind, _) in self.live.items() if kind == "create"]))
        _, size = self.live.pop(handle)
        name = self.name()
        assert self.tenant("map", name, handle, size) == self.tenant("release", handle) == [0]
        self.mapped[name] = size

    @precondition(lambda self: self.mapped)
    @rule(data=st.data())
    def unmap_one(self, data: st.DataObject) -> None:
        self.unmap(data.draw(st.sampled_from(list(self.mapped))))

    def unmap(self, name: str) -> None:
        assert self.tenant("unmap", name, self.mapped.pop(name)) == [0]

    @rule(pool=st.sampled_from(["default", "own"]), size=SIZES)
    def allocate_from(self, pool: str, size: int) -> None:
        name = self.name()
        (result,) = self.tenant("alloc_from", name, size, pool)
        if result == 0:
            self.pooled.append(name)
        else:
            assert (result, self.held() + (size + 4 * MIB - 1) // (2 * MIB) * 2 * MIB > LIMIT) == (2, True)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        self.free_one(data.draw(st.sampled_from(list(self.live))))

    def free_one(self, name: str) -> None:
        kind, _ = self.live.pop(name)
        assert self.tenant(FREES[kind], name) == [0]
        assert self.tenant(FREES[kind], name) != [0]

    @precondition(lambda self: self.pooled)
    @rule(data=st.data(), call=st.sampled_from(["free", "free_async"]))
    def free_pooled(self, data: st.DataObject, call: str) -> None:
        name = data.draw(st.sampled_from(self.pooled))
        self.pooled.remove(name)
        assert self.tenant(call, name) == [0]

    @rule(pool=st.sampled_from(["default", "own"]), threshold=st.sampled_from([0, 8 * MIB, 1 << 40]))
    def keep(self, pool: str, threshold: int) -> None:
        assert self.tenant("keep", pool, threshold) == [0]

    @rule(pool=st.sampled_from(["default", "own"]), size=st.sampled_from([0, 4 * MIB]))
    def trim(self, pool: str, size: int) -> None:
        assert self.tenant("trim", pool, size) == [0]

    @invariant()
    def charged_is_held(self) -> None:
        """After a wait the charge is the model's, to the byte, and never over the limit."""
        assert self.tenant("sync") == [0]
        assert self.vram() == self.held() <= LIMIT
        assert self.pinned() == sum(size for kind, size in self.live.values() if kind == "host") <= PINNED_LIMIT


TestAnyKindOfMemory = AnyKindOfMemory.TestCase
TestAnyKindOfMemory.settings = settings(
    max_examples=12, stateful_step_count=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
