"""``mica policy`` on a bus in memory."""

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mica.bus import MemoryBus
from mica.cli.__main__ import main
from mica.cli.commands import policy
from mica.events import Inventory, PoolPolicy

KEY = "pool.production"
Mica = Callable[..., str]


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> MemoryBus:
    """The bus to which the command line connects."""
    bus = MemoryBus()

    @asynccontextmanager
    async def connected(server: str | None) -> AsyncIterator[MemoryBus]:
        yield bus

    monkeypatch.setattr(policy, "connected", connected)
    monkeypatch.setenv("MICA_AUTHOR", "ann@desk")
    return bus


@pytest.fixture
def mica(bus: MemoryBus, capsys: pytest.CaptureFixture[str]) -> Mica:
    """Run ``mica policy``; what it prints, or its one line on stderr where it is to fail."""

    def run(*arguments: str, status: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["policy", *arguments])
        out, err = capsys.readouterr()
        assert (ended.value.code, err.count("\n") if status else 1) == (status, 1), err
        return err if status else out

    return run


def test_setting_prints_the_version_and_what_changed(mica: Mica) -> None:
    """Fields change in what is in force, JSON is the whole policy, and the same again is no new version."""
    assert mica("set", KEY, "modes=hardware,fcsp", "intruders=terminate").splitlines() == [
        f"{KEY}: not set -> version 1",
        "  modes: all -> hardware,fcsp",
        "  intruders: report -> terminate",
    ]
    assert mica("set", KEY, '{"modes": ["hardware"]}', "spatial=none").splitlines() == [
        f"{KEY}: version 1 -> version 2",
        "  modes: hardware,fcsp -> hardware",
        "  intruders: terminate -> report",
        "  spatial: auto -> none",
    ]
    assert mica("set", KEY, "spatial=none") == f"{KEY}: unchanged, version 2\n"
    assert mica("set", KEY, "modes=").splitlines()[1:] == ["  modes: hardware -> all"]


def test_sizes_and_fields_inside_are_set_as_they_are_typed(mica: Mica) -> None:
    """``64GiB``, a path, and a default again."""
    mica("set", "tenant.acme", "quota.vram_bytes=64GiB", "quota.slices=8", "commands_per_s=50")
    mica("set", "tenant.acme", "quota.slices=")
    assert json.loads(mica("get", "tenant.acme", "--json"))["policy"] == {
        "quota": {"vram_bytes": 64 << 30},
        "commands_per_s": 50,
    }


REFUSED = {
    "a typo": (["intruder=report"], "intruder: got report, allowed: one of modes, intruders"),
    "a member": (["drain_at=bad"], "drain_at: got bad, allowed: one of info, warning, fatal"),
    "a body": (['{"mode": "fcsp"}'], "mode: got fcsp, allowed: one of modes"),
    "a body that is mended": (['{"mode": "fcsp"}', "mode="], "mode: got fcsp, allowed: one of modes"),
    "a word": (["terminate"], "got 'terminate', allowed: JSON in braces, - or FIELD=VALUE"),
    "nothing": ([], "nothing to set"),
    "two bodies": (["{}", "--file", "/nowhere"], "more than one policy"),
    "a file": (["--file", "/nowhere"], "file: got /nowhere, allowed: a file that can be read"),
    "a path through a value": (["intruders=report", "intruders.now=1"], "intruders: got report, allowed: an object"),
    "a long message": (["spatial=mps", "-m", "x" * 300], "message: got 300 characters, allowed: at most 256"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_policy_may_say_is_never_written(case: str, bus: MemoryBus, capsys: Any) -> None:
    """One line names the field, what was given and what is allowed."""
    arguments, expected = REFUSED[case]
    with pytest.raises(SystemExit) as ended:
        policy_main(KEY, *arguments)
    assert ended.value.code in (1, 2)
    line = capsys.readouterr().err
    assert expected in line
    assert line.count("\n") == 1
    assert asyncio.run(bus.policy.versions(">")) == []


def policy_main(*arguments: str) -> None:
    main(["policy", "set", *arguments])


def test_a_key_of_no_policy_is_refused(mica: Mica) -> None:
    """By every command alike."""
    for command in ("get", "history", "diff", "unset", "rollback"):
        assert "key: got pols.a, allowed: pool.NAME, node.NAME, tenant.NAME" in mica(command, "pols.a", status=1)


def test_a_policy_that_is_not_set_has_nothing_to_show(mica: Mica) -> None:
    """Each command says so in its way."""
    assert mica("ls") == "no policies\n"
    assert mica("get", KEY, status=1) == f"mica: policy {KEY}: not set\n"
    assert mica("unset", KEY, status=1) == f"mica: policy {KEY}: not set\n"
    assert mica("history", KEY) == f"policy {KEY}: never set\n"
    assert mica("diff", KEY, status=1) == f"mica: policy {KEY}: never set\n"
    assert "no earlier version" in mica("rollback", KEY, status=1)


def test_a_history_says_who_changed_what_and_why(mica: Mica) -> None:
    """Every version, the unset one too, with its message."""
    mica("set", KEY, "intruders=terminate", "-m", "after  the\nincident")
    mica("unset", KEY)
    rows = json.loads(mica("history", KEY, "--json"))
    assert [(row["version"], row["by"], row["message"], row["change"]) for row in rows] == [
        (1, "ann@desk", "after the incident", "intruders: report -> terminate"),
        (2, "ann@desk", "", "unset"),
    ]
    assert rows[0]["policy"] == {"intruders": "terminate"}
    assert [line.split()[0] for line in mica("history", KEY).splitlines()] == ["VERSION", "1", "2"]


def test_any_two_versions_can_be_compared(mica: Mica) -> None:
    """The latest two, one and what is in force, or two that are named."""
    for spatial in ("mps", "green", "none"):
        mica("set", KEY, f"spatial={spatial}")
    assert mica("diff", KEY).splitlines() == [f"{KEY}: version 2 -> version 3", "  spatial: green -> none"]
    assert mica("diff", KEY, "1").splitlines() == [f"{KEY}: version 1 -> version 3", "  spatial: mps -> none"]
    assert mica("diff", KEY, "2", "1").splitlines() == [f"{KEY}: version 2 -> version 1", "  spatial: green -> mps"]
    assert mica("diff", KEY, "3", "3").splitlines()[1:] == ["  no field differs"]
    assert "no version 7; kept: 1, 2, 3" in mica("diff", KEY, "7", status=1)


async def test_a_file_is_compared_with_what_is_in_force_and_nothing_is_written(
    mica: Mica, bus: MemoryBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file or from stdin; a file that could not be set is refused as setting it would be."""
    await bus.policy.put(KEY, PoolPolicy(mps_across_tenants=True))
    (tmp_path / "new.json").write_text('{"drain_at": "warning"}')
    expected = [f"{KEY}: version 1 -> as given", "  mps_across_tenants: true -> false", "  drain_at: fatal -> warning"]
    assert await in_thread(mica, "diff", KEY, "--file", str(tmp_path / "new.json")) == "\n".join(expected) + "\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"drain": 1}')))
    assert "drain: got 1, allowed: one of" in await in_thread(mica, "diff", KEY, "--file", "-", status=1)
    assert len(await bus.policy.versions(KEY)) == 1


async def in_thread(mica: Mica, *arguments: str, status: int = 0) -> str:
    """Run the command where no event loop is running."""
    return await asyncio.to_thread(lambda: mica(*arguments, status=status))


def test_a_rollback_writes_what_was_as_a_new_version(mica: Mica) -> None:
    """The last that says something else, so that two in a row lead back; or the one that is named; unset, if that is what was."""
    mica("set", KEY, "spatial=mps")
    mica("unset", KEY)
    mica("set", KEY, "spatial=green")
    assert mica("rollback", KEY).splitlines()[0] == f"{KEY}: version 3 -> not set (version 4)"
    assert mica("rollback", KEY).splitlines() == [f"{KEY}: not set -> version 5", "  spatial: auto -> green"]
    assert mica("rollback", KEY, "--to", "1").splitlines() == [f"{KEY}: version 5 -> version 6", "  spatial: green -> mps"]
    assert json.loads(mica("get", KEY, "--json"))["message"] == "rollback to version 1"
    assert "no version 9; kept: 1, 2, 3, 4, 5, 6" in mica("rollback", KEY, "--to", "9", status=1)


async def test_a_spoilt_policy_is_shown_and_rolled_back(mica: Mica, bus: MemoryBus) -> None:
    """``ls`` and ``get`` say what is wrong and what is in force; a rollback writes that again."""
    await bus.policy.put(KEY, PoolPolicy(mps_across_tenants=True))
    await bus.publish_raw(f"$KV.policy.{KEY}", b'{"spatial": "all"}')
    listed = await in_thread(mica, "ls")
    assert "version 2 can not be read (spatial: got all, allowed: one of" in listed
    assert "version 1 stays in force" in listed
    assert json.loads(await in_thread(mica, "get", KEY, "--json"))["version"] == 1
    assert "spatial: got all" in await in_thread(mica, "get", KEY, "--version", "2", status=1)
    await in_thread(mica, "rollback", KEY)
    entry = await bus.policy.get(KEY, PoolPolicy)
    assert entry is not None
    assert entry.value == PoolPolicy(mps_across_tenants=True)


async def test_of_two_operators_at_once_the_second_is_told(mica: Mica, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the other came while the command ran, or since the version that it was told to expect."""
    await bus.policy.put(KEY, PoolPolicy())
    versions = bus.policy.versions

    async def overtaken(pattern: str) -> Any:
        found = await versions(pattern)
        if len(found) == 1:
            await bus.policy.put(KEY, PoolPolicy(mps_across_tenants=True))
        return found

    monkeypatch.setattr(bus.policy, "versions", overtaken)
    assert "version 2 came in between, nothing is written" in await in_thread(mica, "set", KEY, "spatial=mps", status=1)
    assert "the latest version is 2, expected 1" in await in_thread(
        mica, "set", KEY, "spatial=mps", "--if-version", "1", status=1
    )
    assert len(await versions(KEY)) == 2
    await in_thread(mica, "set", KEY, "spatial=mps", "--if-version", "2")
    assert "the latest version is 0, expected 4" in await in_thread(
        mica, "set", "pool.b", "spatial=mps", "--if-version", "4", status=1
    )
    assert (await bus.policy.get(KEY, PoolPolicy)).value.mps_across_tenants  # type: ignore[union-attr]


async def test_a_pool_that_nobody_is_in_is_told(bus: MemoryBus, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy is written, and a line says that the name may be a typo."""
    await bus.state.put("inventory.n1", Inventory(node="n1", pool="production", boot_id="b", devices=()))
    for name, told in (("production", ""), ("prodution", "no pool prodution yet; there is production")):
        with pytest.raises(SystemExit) as ended:
            await asyncio.to_thread(policy_main, f"pool.{name}", "spatial=mps")
        assert ended.value.code == 0
        assert told in (err := capsys.readouterr().err)
        assert bool(told) == bool(err)
