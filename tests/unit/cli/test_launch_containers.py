"""``mica run --image``: a slice as a container, on an engine in memory."""

import io
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from mica.cli._errors import CliError
from mica.cli.commands.run import run
from mica.cli.launch.attach import Attach, Mount, read_attach
from mica.cli.launch.containers import Container, Order, launcher_lives, launcher_word
from mica.cli.launch.describing import LAUNCHER_LABEL, SLICE_LABEL, Request, check_loader, describe, variables, volume
from mica.cli.launch.engine import EngineAwayError, EngineFacts, FakeEngine, Image
from mica.cli.launch.options import ContainerOptions
from mica.cli.launch.programs import Entrance
from mica.region import RuntimeDir, create_usage

IMAGE = Image(id="img", architecture="amd64", env={"PATH": "/opt/bin:/bin", "LD_LIBRARY_PATH": "/opt/lib"})
FACTS = EngineFacts(architecture="amd64", cpus=8)
SHIM_ENV = {"LD_PRELOAD": "/m/shim.so:/m/nvml.so", "MICA_SLICE": "s1", "CUDA_VISIBLE_DEVICES": "none"}
ATTACH = Attach(
    "s1",
    "fcsp",
    SHIM_ENV,
    mounts=(Mount("/r/devices/GPU-1/quota", "/r/devices/GPU-1/quota"), Mount("/r/slices/s1", "", read_only=False)),
    device_nodes=("/dev/nvidia0",),
    cdi=("nvidia.com/gpu=GPU-1",),
    cpus="0-3",
    node="n1",
    devices=("GPU-1",),
    cpu_milli=1500,
    host_memory_bytes=1 << 30,
)  # fmt: skip


def wanted(**options: object) -> Request:
    """A container of user 1000's slice."""
    given = ContainerOptions(**{"image": "img"} | options)
    return Request(options=given, command=("serve",), caller={"TOKEN": "t"}, launcher="me", owner=1000, group=100)


def test_what_the_slice_says_becomes_the_container() -> None:
    """Mounts with their rights, devices, limits of the node's own, labels, and the slice's user."""
    spec = describe(ATTACH, IMAGE, FACTS, wanted())
    assert [(bind.source, bind.target, bind.read_only) for bind in spec.binds] == [
        ("/r/devices/GPU-1/quota", "/r/devices/GPU-1/quota", True),
        ("/r/slices/s1", "/r/slices/s1", False),
    ]
    assert (spec.nano_cpus, spec.memory_bytes, spec.user) == (1_500_000_000, 1 << 30, "1000:100")
    assert (spec.devices, spec.cdi, spec.cpuset) == (("/dev/nvidia0",), (), "")
    assert dict(spec.labels) == {SLICE_LABEL: "s1", "mica.node": "n1", LAUNCHER_LABEL: "me"}
    assert (spec.image, spec.command) == ("img", ("serve",))


def test_the_images_own_paths_stay_behind_the_shims() -> None:
    """LD_LIBRARY_PATH and LD_PRELOAD add up, PATH is the image's; a variable of the slice can't be replaced."""
    options = {"env": ("LD_PRELOAD=/mine.so", "MICA_SLICE=other", "TOKEN", "UNSET", "EMPTY=")}
    assert describe(ATTACH, IMAGE, FACTS, wanted(**options)).env == {
        "PATH": "/opt/bin:/bin",
        "LD_LIBRARY_PATH": "/m:/opt/lib",
        "LD_PRELOAD": "/m/shim.so:/m/nvml.so /mine.so",
        "MICA_SLICE": "s1",
        "CUDA_VISIBLE_DEVICES": "none",
        "TOKEN": "t",
        "EMPTY": "",
    }


def test_an_engine_that_takes_cdi_names_gets_them_instead_of_nodes() -> None:
    """They bring the driver's files along."""
    spec = describe(ATTACH, IMAGE, replace(FACTS, cdi=True), wanted())
    assert (spec.devices, spec.cdi) == ((), ("nvidia.com/gpu=GPU-1",))


def test_no_limit_is_set_that_nobody_asked_for() -> None:
    """0 is no limit, for the engine as for the request."""
    spec = describe(replace(ATTACH, cpu_milli=0, host_memory_bytes=0), IMAGE, FACTS, wanted())
    assert (spec.nano_cpus, spec.memory_bytes) == (0, 0)


@pytest.mark.parametrize(
    ("attach", "facts", "options", "message"),
    [
        (ATTACH, FACTS, {"user": "0"}, "--user 0, allowed: 1000"),
        (ATTACH, FACTS, {"user": "app"}, "--user app, allowed: 1000"),
        (ATTACH, FACTS, {"user": "10001:1000"}, "--user 10001:1000, allowed: 1000"),
        (ATTACH, replace(FACTS, architecture="arm64"), {}, "it is for amd64, allowed on this node: arm64"),
        (ATTACH, replace(FACTS, rootless=True), {}, "it is rootless"),
        (ATTACH, FACTS, {"env": ("=x",)}, "--env =x, allowed: NAME=VALUE"),
        (ATTACH, FACTS, {"ports": ("80",)}, "--publish 80, allowed: PORT:PORT"),
        (ATTACH, FACTS, {"volumes": ("/etc",)}, "--volume /etc, allowed: SOURCE:TARGET"),
        (ATTACH, FACTS, {"volumes": ("/no/such:/data",)}, "/no/such is not here"),
    ],
)
def test_what_does_not_go_with_the_slice_is_one_clear_error(
    attach: Attach, facts: EngineFacts, options: dict[str, object], message: str
) -> None:
    """What, what was found, and what is allowed."""
    with pytest.raises(CliError, match=message):
        describe(attach, IMAGE, facts, wanted(**options))


def test_the_slices_user_may_name_a_group() -> None:
    """In hardware mode, without a region, anybody may be named."""
    assert describe(ATTACH, IMAGE, FACTS, wanted(user="1000:44")).user == "1000:44"
    hardware = replace(ATTACH, mode="hardware")
    assert describe(hardware, IMAGE, FACTS, replace(wanted(user="app"), owner=None)).user == "app"
    assert describe(hardware, IMAGE, FACTS, replace(wanted(), owner=None)).user == ""


def test_processors_near_the_devices_are_those_that_the_engine_has() -> None:
    """As the kernel lists them; none of them is one clear error."""
    assert describe(ATTACH, IMAGE, FACTS, replace(wanted(), bind_cpus=True)).cpuset == "0-3"
    with pytest.raises(CliError, match="--bind-cpus to 64-95, allowed by the engine: 0-7"):
        describe(replace(ATTACH, cpus="64-95"), IMAGE, FACTS, replace(wanted(), bind_cpus=True))


@pytest.mark.parametrize(
    ("loaders", "message"),
    [
        ({"/lib64/ld-linux-x86-64.so.2": "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"}, None),
        ({"/lib64/ld-linux-x86-64.so.2": "/lib64/ld-2.17.so"}, None),
        ({"/lib/ld-musl-x86_64.so.1": "/lib/ld-musl-x86_64.so.1"}, None),
        ({"/lib64/ld-linux-x86-64.so.2": "/lib64/ld-2.12.so"}, r"glibc 2\.12 .*allowed: 2\.17 or newer"),
        ({}, "static programs load no shim"),
    ],
)
def test_an_image_that_can_not_load_the_shim_is_refused(loaders: dict[str, str], message: str | None) -> None:
    """Else its programs would see no device, or not start at all."""
    if message is None:
        check_loader(IMAGE, loaders.get)
    else:
        with pytest.raises(CliError, match=message):
            check_loader(IMAGE, loaders.get)


def test_volumes_are_full_paths_or_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path from here, as a shell would take it; a name is the engine's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert volume("./data:/data:ro") == f"{tmp_path}/data:/data:ro"
    assert volume("models:/models") == "models:/models"
    assert variables(("A=1=2",), {}) == {"A": "1=2"}


class Node:
    """A slice on disk whose shim and regions are there, and containers in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.engine = root, FakeEngine(IMAGE)
        self.shim = root / "shim.so"
        self.shim.touch()
        self.runtime = RuntimeDir(root)
        self.place("GPU-1")

    def place(self, device: str) -> None:
        """The slice is on that device now."""
        self.runtime.ensure_device(device)
        self.runtime.quota_path(device).touch()
        self.runtime.ensure_slice("s1")
        if not self.runtime.usage_path("s1", device).exists():
            create_usage(str(self.runtime.usage_path("s1", device)), device, "s1", os.getuid())
        mounts = [{"source": str(self.runtime.quota_path(device)), "target": "", "read_only": True}]
        env = {"LD_PRELOAD": str(self.shim)}
        document = {"id": "s1", "node": "n", "mode": "fcsp", "devices": [device], "env": env, "mounts": mounts}
        self.runtime.attach_path("s1").write_text(json.dumps(document))

    def container(self, **options: object) -> Container:
        """One that is not started yet."""
        given = ContainerOptions(**{"image": "img"} | options)
        order = Order(slice_id="s1", options=given, command=(), entrance=Entrance(root=self.root))
        self.said = io.BytesIO()
        return Container(self.engine, order, (self.said, io.BytesIO()))

    def attach(self) -> Attach:
        """What the slice says now."""
        return read_attach(self.root, "s1")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def status_of(container: Container) -> int:
    """Its status, once its thread has heard of the end."""
    for thread in container._threads:
        thread.join(10)
    status = container.ended()
    assert status is not None
    return status


def test_each_life_is_a_new_container_under_the_same_name(node: Node) -> None:
    """With the regions of where the slice is then; the one before is gone."""
    container = node.container(name="chat")
    container.start(node.attach())
    assert container.ended() is None
    node.engine.end("c0", 143)
    assert status_of(container) == 143
    node.place("GPU-2")
    container.start(node.attach())
    assert (node.engine.removed, list(node.engine.containers)) == (["c0"], ["c1"])
    assert [Path(bind.source).parent.name for bind in node.engine.containers["c1"].binds] == ["GPU-2"]
    assert node.engine.containers["c1"].name == "chat"
    container.close()
    assert node.engine.containers == {}


@pytest.mark.parametrize(("remove", "left"), [(True, []), (False, ["c0"])])
def test_what_has_ended_stays_unless_it_is_to_be_removed(node: Node, remove: bool, left: list[str]) -> None:
    """As for docker run; what it said has arrived before its status."""
    container = node.container(remove=remove)
    container.start(node.attach())
    node.engine.end("c0", 7)
    assert (status_of(container), node.said.getvalue()) == (7, b"img says\n")
    container.close()
    assert list(node.engine.containers) == left


def test_it_is_asked_as_its_image_wants_and_then_killed(node: Node) -> None:
    """Signals of the user go through as numbers."""
    node.engine.images["img"] = replace(IMAGE, stop_signal="SIGQUIT")
    container = node.container()
    container.start(node.attach())
    container.forward(10)
    container.stop()
    container.kill()
    assert node.engine.sent == [("c0", "10"), ("c0", "SIGQUIT"), ("c0", "SIGKILL")]
    assert status_of(container) == 137


def test_nothing_is_left_of_a_container_that_could_not_start(node: Node) -> None:
    """Neither where its image has no loader, nor where the engine goes away."""
    node.engine.loaders = {}
    with pytest.raises(CliError, match="no loader"):
        node.container().start(node.attach())
    assert node.engine.containers == {}
    node.engine.away = True
    with pytest.raises(EngineAwayError):
        node.container().start(node.attach())


@pytest.mark.parametrize("gone", ["shim", "quota"])
def test_a_path_that_is_missing_is_one_clear_error(node: Node, gone: str) -> None:
    """An engine would make an empty directory of it."""
    attach = node.attach()
    (node.shim if gone == "shim" else node.runtime.quota_path("GPU-1")).unlink()
    with pytest.raises(CliError, match="not here"):
        node.container().start(attach)


def test_what_a_killed_launcher_has_left_is_removed(node: Node) -> None:
    """And only that: not a living launcher's container, a detached one, or one of another pid namespace."""
    mine = node.container()
    mine.start(node.attach())
    spec = node.engine.containers["c0"]
    dead = launcher_word(os.getpid()).rpartition(" ")[0] + " 1"
    for word in (dead, "", f"pid:[1] {os.getpid()} 1"):
        node.engine.create(replace(spec, labels=dict(spec.labels) | {LAUNCHER_LABEL: word}))
    node.engine.create(replace(spec, labels={SLICE_LABEL: "other", LAUNCHER_LABEL: dead}))
    another = node.container()
    another.start(node.attach())
    assert node.engine.removed == ["c1"]
    mine.close()
    another.close()


def test_a_launcher_is_known_by_when_it_began() -> None:
    """A pid alone may be somebody else's by now."""
    word = launcher_word(os.getpid())
    assert launcher_lives(word)
    assert not launcher_lives(word.rpartition(" ")[0] + " 1")
    assert launcher_lives(f"pid:[1] {os.getpid()} 1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "x", "s1", "--", "true"], "--name without --image"),
        (["--restarts-max", "1", "s1", "--", "true"], "--restarts-max, and nobody stays"),
        (["-d", "--stop-timeout", "1s", "--image", "img", "s1"], "--stop-timeout, and nobody stays"),
        (["-d", "--restart", "always", "--image", "img", "s1"], "--detach with --restart"),
        (["--restart", "always", "s1"], "no program is named"),
        (["--restart", "never", "s1", "--", "true"], "never"),
    ],
)
def test_options_that_do_not_go_together_are_one_clear_error(arguments: list[str], message: str, tmp_path: Path) -> None:
    """Nothing is started."""
    result = CliRunner().invoke(run, ["--runtime-dir", str(tmp_path), *arguments])
    assert result.exit_code != 0
    assert message in result.output
