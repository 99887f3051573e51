"""What a program weighs within its slice."""

import pytest
from shim_node import Node
from slice_regions import monotonic_ns


@pytest.mark.parametrize(("weight", "expected"), [("300", 300), ("1", 1), ("10000", 10_000), ("", 100)])
def test_a_program_weighs_what_its_environment_says(node: Node, weight: str, expected: int) -> None:
    """100 where it says nothing; its children as much as it does."""
    node.place("a")
    tenant = node.start("a", MICA_WEIGHT=weight).started()
    tenant("fork")
    assert [process.weight for process in node.usage("a").processes] == [expected, expected]
    assert tenant("reap") == 0
    assert tenant.close() == ""


@pytest.mark.parametrize("weight", ["0", "10001", "-5", "heavy", "1.5", "9" * 100])
def test_a_weight_that_is_none_is_one_line_and_the_usual_one(node: Node, weight: str) -> None:
    """What was given and what is allowed; the program runs."""
    node.place("a")
    tenant = node.start("a", MICA_WEIGHT=weight).started()
    assert [process.weight for process in node.usage("a").processes] == [100]
    errors = tenant.close()
    assert errors.count("\n") == 1
    assert f"MICA_WEIGHT is {weight[:40]}, allowed are 1 to 10000" in errors


def test_a_programs_deadline_is_when_its_launch_should_be_done(node: Node) -> None:
    """So long after it was asked for; 0 where it says nothing."""
    node.place("a", quantum_ns=2_000_000)
    hurried, calm = (node.start("a", MICA_DEADLINE_MS=text).started() for text in ("25", ""))
    before_ns = monotonic_ns()
    for tenant in (hurried, calm):
        assert tenant("launch") == [0]
    deadlines = {process.pid: process.deadline_ns for process in node.usage("a").processes}
    assert before_ns + 25_000_000 <= deadlines[hurried.process.pid] <= monotonic_ns() + 25_000_000
    assert deadlines[calm.process.pid] == 0


@pytest.mark.parametrize("deadline", ["0", "60001", "soon"])
def test_a_deadline_that_is_none_is_one_line_and_no_deadline(node: Node, deadline: str) -> None:
    """What was given and what is allowed; the program runs."""
    node.place("a")
    tenant = node.start("a", MICA_DEADLINE_MS=deadline).started()
    assert tenant("launch") == [0]
    assert [process.deadline_ns for process in node.usage("a").processes] == [0]
    errors = tenant.close()
    assert errors.count("\n") == 1
    assert f"MICA_DEADLINE_MS is {deadline}, allowed are 1 to 60000; this process has no deadlines" in errors
