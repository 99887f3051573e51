"""``mica policy`` as a process, against a real server."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from mica.bus import JetStreamBus
from mica.events import POLICY_VERSIONS, PoolPolicy, Severity
from mica.policy import newest


@pytest.fixture
def mica(nats_server: Any) -> Any:
    """Run ``mica policy``."""

    def run(*arguments: str, status: int = 0) -> str:
        command = [sys.executable, "-m", "mica.cli", "policy", *arguments]
        environment = {**os.environ, "MICA_NATS_URL": nats_server.url, "MICA_AUTHOR": "zoë@desk"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
        assert done.returncode == status, done.stderr
        return done.stderr if status else done.stdout

    return run


async def test_a_policys_life_on_a_server(nats_server: Any, mica: Any) -> None:
    """Set, compared, spoilt by a stranger, rolled back and unset; what is in force is what a service reads."""
    bus = await JetStreamBus.connect(nats_server.url, wait_s=10)
    first = json.loads(mica("set", "pool.a", "drain_at=warning", "-m", "größer", "--json"))["after"]["version"]
    await bus.publish_raw("$KV.policy.pool.a", b"drain_at: never")
    in_force = await newest(bus.policy, "pool.a", PoolPolicy)
    assert in_force is not None
    assert (in_force.value, in_force.revision) == (PoolPolicy(drain_at=Severity.WARNING), first)
    assert f"version {first} stays in force" in mica("ls")
    mica("rollback", "pool.a")
    mica("unset", "pool.a", "--if-version", str(json.loads(mica("get", "pool.a", "--json"))["version"]))
    rows = json.loads(mica("history", "pool.a", "--json"))
    assert [(row["by"], row["message"], row["set"], bool(row["error"])) for row in rows] == [
        ("zoë@desk", "größer", True, False),
        ("", "", True, True),
        ("zoë@desk", f"rollback to version {first}", True, False),
        ("zoë@desk", "", False, False),
    ]
    assert await bus.policy.get("pool.a", PoolPolicy) is None
    await bus.close()


async def test_the_oldest_versions_go_and_rollback_says_which_are_kept(nats_server: Any, mica: Any) -> None:
    """As many as the bucket keeps, and no more."""
    bus = await JetStreamBus.connect(nats_server.url, wait_s=10)
    revisions = [await bus.policy.put("pool.a", PoolPolicy(mps_across_tenants=n % 2 == 0)) for n in range(POLICY_VERSIONS + 1)]
    await bus.close()
    assert f"no version {revisions[0]}; kept: {revisions[1]}, " in mica("rollback", "pool.a", "--to", str(revisions[0]), status=1)
    assert f"version {revisions[-1]} -> version {revisions[-1] + 1}" in mica("rollback", "pool.a", "--to", str(revisions[1]))
