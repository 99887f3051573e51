"""``mica explain``: what it says of a decision, word for word."""

from typing import Any

import pytest
from msgspec.structs import replace

from mica.cli._asked import asked_text, only_text, size_text
from mica.cli._dry_run import explained
from mica.cli._explaining import Account, refused, told
from mica.cli._refusals import Refusal
from mica.cli._terms import TERMS, legend, meanings
from mica.events import (
    Alternative,
    Candidate,
    Decision,
    Mode,
    Partition,
    Phase,
    Placement,
    Profile,
    Reach,
    RequestSlice,
    SliceExplained,
    SlicePlaced,
    SliceQueued,
    SliceReady,
    SliceRecord,
    SliceRejected,
    Slo,
    Vendor,
    WaitsFor,
)

GIB, SECOND = 1 << 30, 1_000_000_000
NOON = 1_800_000_000 * SECOND
"""2027-01-15 08:00:00 UTC."""
L4 = Placement(
    node="n1", device_id="GPU-1-2", model="L4", vendor=Vendor.NVIDIA, mode=Mode.FCSP, vram_bytes=8 * GIB, share_ppm=300_000
)
ASKED = RequestSlice(tenant="alice", id="chat", vram_bytes=8 * GIB, share_ppm=300_000)
DECISION = Decision(
    summary="fcsp on L4 of node n1: a shim enforces it; 8 GiB and 300000 ppm granted, where the rest stays most useful to others",
    stronger="not partitioned (no MIG on this model)",
    terms={"useless_milli": 12.4, "left": 1.3391},
    rejected=(
        Alternative(
            node="n1", device_id="GPU-3-4", mode=Mode.FCSP, terms={"useless_milli": 132.0, "left": 1.1},
            reason="fits, but leaves 0.120 of a device more that is of no use to the requests to come",
        ),
        Alternative(node="n2", device_id="GPU-5-6", reason="no enforcer holds the node's lease"),
    ),
)  # fmt: skip


def record(phase: Phase, **given: Any) -> SliceRecord:
    """A record of ``chat``."""
    fields = {"request": ASKED, "generation": 1, "sequence": 7, "request_sequence": 7, "updated_at": NOON, **given}
    return SliceRecord(id="chat", phase=phase, **fields)


def account(phase: Phase, *facts: Any, state: str = "", **given: Any) -> Account:
    """All that is known of it, five seconds later."""
    models = {"GPU-3-4": "L4", "GPU-5-6": "H100"}
    return Account(record=record(phase, **given), state=state or str(phase), facts=facts, models=models, now_ns=NOON + 5 * SECOND)


def test_a_slice_is_told_from_what_was_asked_to_what_else_there_was() -> None:
    """What, when, where, why in that mode, why there with every term, and the others with theirs."""
    facts = (
        SliceReady(at=NOON + SECOND, id="chat", placements=(L4,)),
        SlicePlaced(at=NOON, id="chat", placements=(L4,), decision=DECISION),
    )
    assert told(account(Phase.PLACED, *facts, state="ready", placements=(L4,), decision=DECISION)) == [
        "slice chat of tenant alice is ready",
        "",
        "asked      8GiB of device memory and 30% of the compute, on one device; guaranteed",
        "size       as asked",
        "decided    2027-01-15 08:00:00 UTC, 5s ago",
        "happened   placed 08:00:00, ready 08:00:01",
        "where      n1/GPU-1-2 (L4): fcsp, 8GiB, 30%",
        "",
        "Why in fcsp",
        (
            "  a shim holds it to its memory and its share, and the device runs slices side by side; "
            "no stronger mode was to be had on any device"
        ),
        "  on this device not, because: not partitioned (no MIG on this model)",
        "",
        "Why there",
        "  8 GiB and 30% granted, where the rest stays most useful to others",
        "  useless  +0.012  of a device more would be of no use to the requests to come; below 0, so much less",
        "  left      1.339  of the device stays free: memory and compute added up, 2 is all of it",
        "",
        "Looked at and not taken",
        "  DEVICE         MODE  USELESS  LEFT  WHY NOT",
        "  n1/GPU-3 L4    fcsp  +0.132   1.1   fits, but leaves 0.120 of a device more that is of no use to the requests to come",
        "  n2/GPU-5 H100  -                    no enforcer holds the node's lease",
    ]


def test_a_waiting_request_is_told_what_it_waits_for_and_who_has_to_leave() -> None:
    """Its place in the queue, since when and until when, what is short, the victims, and the place that is kept."""
    waiting = account(
        Phase.QUEUED, SliceQueued(at=NOON - 60 * SECOND, id="chat", until=NOON, decision=DECISION),
        request=replace(ASKED, queue_s=300.0), until=NOON + 240 * SECOND, nominated=(L4,),
        field="vram_bytes", given=str(8 * GIB), allowed=f"at most {4 * GIB} now", decision=Decision(summary="short"),
        waits_for=WaitsFor(position=1, length=3, victims=("a", "b")),
    )  # fmt: skip
    assert told(waiting) == [
        "request chat of tenant alice waits, 1 of 3 in the queue",
        "",
        "asked      8GiB of device memory and 30% of the compute, on one device; guaranteed; waits up to 5m",
        "size       as asked",
        "since      2027-01-15 07:59:00 UTC, 1m ago",
        "until      2027-01-15 08:04:00 UTC, in 3m; then it is rejected",
        "waits for  device memory: 8GiB asked, at most 4GiB is free now on a device that is large enough",
        "evicts     a, b, to make room for it",
        "kept       n1/GPU-1-2 (L4): nothing else is placed there meanwhile",
    ]


def test_a_rejected_request_is_told_what_would_have_passed_and_what_came_nearest() -> None:
    """In the words of its options."""
    nearest = (
        Alternative(node="n1", device_id="GPU-3-4", mode=Mode.FCSP, reason="asked 300000 ppm of compute, 100000 ppm free"),
    )
    no = account(
        Phase.REJECTED, field="share_ppm", given="300000", allowed="at most 100000 now",
        decision=Decision(summary="share_ppm: …", rejected=nearest),
    )  # fmt: skip
    assert told(no) == [
        "request chat of tenant alice was rejected",
        "",
        "asked      8GiB of device memory and 30% of the compute, on one device; guaranteed",
        "size       as asked",
        "decided    2027-01-15 08:00:00 UTC, 5s ago",
        "because    compute: 30% asked, at most 10% is free now on a device that is large enough",
        "would pass --share 10% or less",
        "or         the same with --queue 10m, once others have left",
        "",
        "Looked at, the nearest first",
        "  DEVICE       MODE  WHY NOT",
        "  n1/GPU-3 L4  fcsp  asked 30% of compute, 10% free",
    ]


@pytest.mark.parametrize(
    ("phase", "line"),
    [
        (Phase.FAILED, "slice chat of tenant alice failed: no device could be made to hold it: no memory"),
        (Phase.EVICTED, "slice chat of tenant alice was evicted: no memory"),
        (Phase.LOST, "slice chat of tenant alice was lost: no memory"),
        (Phase.RELEASED, "slice chat of tenant alice was given back: no memory"),
    ],
)
def test_the_end_of_a_slice_is_told_first(phase: Phase, line: str) -> None:
    """How it ended and what was said of it; why it had been where it was follows."""
    lines = told(account(phase, placements=(L4,), decision=DECISION, message="no memory"))
    assert lines[0] == line
    assert "Why there" in lines


def test_a_slice_that_was_moved_says_that_the_reasons_are_the_old_ones() -> None:
    """The decision in the record is that of its placing."""
    placed = SlicePlaced(at=NOON, id="chat", placements=(L4,), decision=DECISION)
    there = told(account(Phase.PLACED, placed, placements=(L4,), decision=DECISION))
    moved = told(account(Phase.PLACED, placed, placements=(replace(L4, device_id="GPU-3-4"),), decision=DECISION))
    assert not any("moved" in line for line in there)
    assert any("it was moved or resized since it was placed" in line for line in moved)


def test_a_request_without_a_record_is_told_from_its_fact() -> None:
    """It was malformed, or came under another's id."""
    fact = SliceRejected(at=NOON, id="seq-3", tenant="bob", field="tenant", given="a b", allowed="a name", message="")
    assert refused(fact, NOON) == [
        "request seq-3 of tenant bob was rejected, before any device was looked at",
        "",
        "decided    2027-01-15 08:00:00 UTC, 0s ago",
        "because    tenant: got a b, allowed: a name",
    ]


def test_everything_that_is_asked_of_the_place_is_told() -> None:
    """Gangs, promises, the node's own, pins, nearness; what was left alone is not."""
    wanted = RequestSlice(
        tenant="t", share_ppm=500_000, devices=4, nodes=2, cpu_milli=1500, host_memory_bytes=GIB, slo=Slo(p99_ms=20), priority=60,
        mode=Mode.FCSP, pool="p", vendor=Vendor.AMD, models=("MI300X", "MI250"),
        near="llm", near_within=Reach.NODE, apart="g", apart_strict=False,
    )  # fmt: skip
    assert asked_text(wanted) == (
        "what its profile needs and 50% of the compute, on each of 4 devices of 2 nodes; 1.5 processors and 1GiB of memory of "
        "its node for each; a promise of p99 20 ms, with 10 % headroom; guaranteed; priority 60"
    )
    assert only_text(wanted) == (
        "in fcsp, in pool p, on devices of amd, on a MI300X or MI250, on the node of slice llm, "
        "on another device than the rest of group g, if there is room"
    )
    assert only_text(ASKED) == ""
    assert asked_text(RequestSlice(tenant="t", profile=Profile(name="chat"))).startswith("what chat needs, on one device")


def test_what_the_size_rests_on_is_told() -> None:
    """What the decision says of it, else what was left open."""
    assert size_text(ASKED, "8B parameters in fp16") == "8B parameters in fp16"
    assert size_text(ASKED, "") == "as asked"
    assert size_text(replace(ASKED, share_ppm=None), "").startswith("memory as asked; compute was left open")
    assert size_text(replace(ASKED, vram_bytes=None), "") == "by its profile"


@pytest.mark.parametrize(
    ("refusal", "text", "passing"),
    [
        (
            Refusal("vram_bytes", str(200 * GIB), f"at most {81152 << 20}"),
            "device memory: 200GiB asked, no device has more than 79.25GiB",
            ["--vram 79.25GiB or less, on a device that is empty"],
        ),
        (
            Refusal("vram_bytes", str(8 * GIB), f"at most {GIB} left of tenant-7 of {4 * GIB}"),
            "device memory: 8GiB asked, at most 1GiB left of tenant-7 of 4GiB",
            ["--vram 1GiB or less"],
        ),
        (
            Refusal("vram_bytes", "8", "at most 0 now"),
            "device memory: 8 asked, none is free now on a device that is large enough",
            ["the same with --queue 10m, once others have left"],
        ),
        (
            Refusal("nodes", "4", "at most 1 nodes with 8 devices alike in all"),
            "nodes: 4 asked, at most 1 nodes with 8 devices alike in all",
            ["--nodes 1 or less"],
        ),
        (Refusal("vram_bytes", "nothing", "a number of bytes"), "vram_bytes: got nothing, allowed: a number of bytes", []),
        (
            Refusal("share_ppm", "the same part as of the memory", "at most 1000 now"),
            "compute: the same part as of the memory asked, at most 0.1% is free now on a device that is large enough",
            ["--share 0.1% or less", "the same with --queue 10m, once others have left"],
        ),
        (Refusal("pool", "x", "one of a, b"), "pool: got x, allowed: one of a, b", []),
    ],
)
def test_a_refusal_is_told_in_units_and_in_options(refusal: Refusal, text: str, passing: list[str]) -> None:
    """Amounts as people read them, and what to type instead where that is known."""
    assert refusal.text() == text
    assert refusal.would_pass(0) == passing
    assert not any("--queue" in each for each in refusal.would_pass(60))


def test_a_size_that_is_shown_rounded_to_a_part_of_a_byte_can_still_be_typed() -> None:
    """22.38 GiB are no whole bytes: what to type is told in MiB."""
    size = 22_917 * (1 << 20) + 3
    assert Refusal("vram_bytes", "9", f"at most {size}").would_pass(0) == ["--vram 22917MiB or less, on a device that is empty"]


def test_a_size_to_type_is_never_more_than_what_would_pass() -> None:
    """What does not come out even is rounded down."""
    [said] = Refusal("vram_bytes", "9", f"at most {79 * GIB + (5 << 20) + 1}").would_pass(0)
    assert said.startswith("--vram 80901MiB or less")


def test_every_term_has_a_name_a_value_and_a_meaning() -> None:
    """In the order in which they count, aligned; the legend of a table names only what is in it."""
    assert [line.split()[0] for line in meanings({term.name: 1.0 for term in TERMS})] == [
        "price", "kept", "beside", "useless", "unused", "futures", "left",
    ]  # fmt: skip
    assert [line.split()[1] for line in meanings({"kept": 1.0, "useless_milli": -0.2, "unused": 0.245, "price": 1.25})] == [
        "1.25", "yes", "0", "24.5%",
    ]  # fmt: skip
    assert [line.split(":")[0] for line in legend(["left", "unused"])] == ["UNUSED", "LEFT"]


def test_a_dry_run_is_told_like_a_decision_with_every_device_after_it() -> None:
    """The taken one has a star, those that fit their rank; a column that the choice has not explained is explained."""
    held = Partition(profile="1g.20gb", profile_id=1, start=0, size=2)
    h100 = Candidate(
        node="n1", device_id="GPU-1-2", model="H100", vendor=Vendor.NVIDIA, mode=Mode.HARDWARE, fits=True, chosen=True, rank=1,
        vram_bytes=19 * GIB, share_ppm=197_000, partition=held, terms={"unused": 0.121, "futures": 6.0}, reason="taken",
        switches=True,
    )  # fmt: skip
    l4 = Candidate(
        node="n1", device_id="GPU-3-4", model="L4", vendor=Vendor.NVIDIA, mode=Mode.FCSP, fits=True, rank=2, vram_bytes=8 * GIB,
        share_ppm=300_000, terms={"left": 0.5}, reason="fits, but only in fcsp, which is weaker than hardware",
    )  # fmt: skip
    decision = Decision(summary="hardware on H100: …; 19 GiB granted, tightest fit", terms={"unused": 0.121, "futures": 6.0})
    answer = SliceExplained(
        at=NOON, sequence=1, tenant="alice", outcome="placed", summary=decision.summary, decision=decision, candidates=(h100, l4),
        left_out=3,
    )  # fmt: skip
    assert explained(answer, ASKED) == [
        "a dry run, nothing was changed: the request would be placed",
        "",
        "asked      8GiB of device memory and 30% of the compute, on one device; guaranteed",
        "size       as asked",
        "where      n1/GPU-1 H100: hardware, 19GiB, 19.7%, 1g.20gb at 0",
        "",
        "Why in hardware",
        "  a partition of the device holds it, the strongest mode there is: of the free ones the smallest that does",
        "",
        "Why there",
        "  19 GiB granted, tightest fit",
        "  unused   12.1%  of the device's memory is in the partition and was not asked for",
        "  futures      6  ways to make one more partition are left; a fuller device is taken before an empty one",
        "",
        "Every device, the best first",
        "     DEVICE         MODE      GIVES                       UNUSED  FUTURES  LEFT  VERDICT",
        "  *  n1/GPU-1 H100  hardware  19GiB, 19.7%, 1g.20gb at 0  12.1%   6              taken; the device is switched for it",
        (
            "  2  n1/GPU-3 L4    fcsp      8GiB, 30%                                    0.5   "
            "fits, but only in fcsp, which is weaker than hardware"
        ),
        "  and 3 more, which fit less well, or not at all, or were not looked at one by one",
        "",
        "  LEFT: of the device stays free: memory and compute added up, 2 is all of it",
    ]


def test_a_dry_run_that_would_wait_says_whom_it_would_evict() -> None:
    """And one that is refused what would pass."""
    short = SliceExplained(
        at=NOON, sequence=1, tenant="alice", outcome="queued", summary="", field="vram_bytes", given=str(8 * GIB),
        allowed=f"at most {GIB} now", would_evict=("s1",),
    )  # fmt: skip
    assert explained(short, ASKED)[3:] == [
        "waits for  device memory: 8GiB asked, at most 1GiB is free now on a device that is large enough",
        "evicts     s1, to make room for it",
    ]
    assert explained(replace(short, outcome="rejected", would_evict=()), ASKED)[3:] == [
        "because    device memory: 8GiB asked, at most 1GiB is free now on a device that is large enough",
        "would pass --vram 1GiB or less",
        "or         the same with --queue 10m, once others have left",
    ]
