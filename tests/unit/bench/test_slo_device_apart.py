"""On OpenCL one processor is the device of ``mica bench slo``, and everything else runs on the others."""

import os
import subprocess
import sys

import pytest

from mica.bench._slo_opencl import DEVICE_CPU, ONE_UNIT, device_apart

SAY = "import os; print(sorted(os.sched_getaffinity(0)), os.environ.get('POCL_MAX_PTHREAD_COUNT'))"


def told() -> str:
    """What a program that is started now is told of where it runs."""
    return subprocess.run([sys.executable, "-c", SAY], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(
    len(os.sched_getaffinity(0) - {DEVICE_CPU}) == 0 or DEVICE_CPU not in os.sched_getaffinity(0), reason="one processor"
)
def test_programs_run_beside_the_device_and_everything_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what an operator has set of it."""
    monkeypatch.setenv("POCL_MAX_PTHREAD_COUNT", "7")
    before, others = told(), sorted(os.sched_getaffinity(0) - {DEVICE_CPU})
    with device_apart() as apart:
        assert apart
        assert told() == f"{others} {ONE_UNIT['POCL_MAX_PTHREAD_COUNT']}"
    assert told() == before
    assert before.endswith(" 7")


def test_where_there_is_one_processor_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then both share it, and the report says so."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {DEVICE_CPU})
    environment = dict(os.environ)
    with device_apart() as apart:
        assert not apart
        assert dict(os.environ) == environment
