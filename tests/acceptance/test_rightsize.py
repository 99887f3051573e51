"""Right-sizing in a running system: a program's own use, as telemetry reads it, makes its slice smaller while it runs."""

from acceptance_stack import GIB, Stack, wait_for


def test_an_idle_slice_shrinks_to_what_its_program_uses(stack: Stack) -> None:
    """The program goes on in the smaller slice, and can't have more than that."""
    stack.request("wide", "8GiB", "--mode", "fcsp", "--tier", "burst", "--share", "40%")
    client = stack.client("wide")
    assert client.ask("allocate", GIB)["result"] == "CUDA_SUCCESS"

    def judged() -> bool:
        (advice,) = stack.json("rightsize", "wide", "--window", "10s")["advices"]
        return bool(advice["action"] == "shrink" and advice["used_bytes"] >= GIB)

    wait_for(judged, 60)
    assert "would have" in stack.mica("rightsize").lower()
    assert stack.json("rightsize", "wide", "--window", "10s", "--apply")["applied"] == ["wide"]

    def shrunk() -> bool:
        (placement,) = stack.json("show", "wide")["placements"]
        return bool(placement["vram_bytes"] < 2 * GIB and placement["share_ppm"] <= 20_000)

    wait_for(shrunk)
    assert client.ask("allocate", 2 * GIB)["result"] == "CUDA_ERROR_OUT_OF_MEMORY"
    stack.audit_recovered()
