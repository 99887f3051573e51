"""What can be done, for whom, in which order, and why not."""

import pytest
from msgspec.structs import replace

from mica.events import PPM, AskedLimits, Control, Guarding, Mode, Setting, Tier, WorkLimits
from mica.slo_guard.blaming import Finding
from mica.slo_guard.ladder import Plan, Scene, Standing, choose

POLICY = Guarding()
VICTIM = Standing(id="chat", tier=Tier.GUARANTEED, mode=Mode.FCSP, share_ppm=400_000)
BURST = Standing(id="batch", tier=Tier.BURST, mode=Mode.FCSP, share_ppm=300_000)
SPOT = replace(BURST, tier=Tier.SPOT)
BLAMED = Finding(kind="neighbour", target="batch", cause="gpu", evidence={"gpu_pct_now": 61.0}, held_back=0.8)
NOBODY = Finding(kind="nobody", why="")


def climb(scene: Scene, policy: Guarding = POLICY) -> list[tuple[str, str]]:
    """Every rung that exists, in its order, as if each were in vain."""
    order: list[tuple[str, str]] = []
    while isinstance(plan := choose(policy, scene, set(order)), Plan):
        order.append((plan.rung.value, plan.target))
    return order


def test_a_burst_neighbour_is_held_to_its_share_first() -> None:
    """Then the slice itself gets more; a burst slice is neither paused nor moved nor evicted unless the policy says so."""
    scene = Scene(victim=VICTIM, finding=BLAMED, suspect=BURST)
    assert climb(scene) == [("throttle", "batch"), ("ceiling", "chat"), ("resize", "chat")]
    allowed = Guarding(pause=(Tier.BURST,), move=(Tier.BURST,), evict=(Tier.BURST,))
    assert climb(scene, allowed) == [
        ("throttle", "batch"), ("pause", "batch"), ("ceiling", "chat"), ("resize", "chat"), ("move", "batch"), ("evict", "batch"),
    ]  # fmt: skip


def test_a_spot_neighbour_is_squeezed_paused_moved_and_evicted() -> None:
    """It has no more than its share already, so it is not throttled."""
    scene = Scene(victim=VICTIM, finding=BLAMED, suspect=SPOT)
    assert climb(scene) == [
        ("squeeze", "batch"), ("pause", "batch"), ("ceiling", "chat"), ("resize", "chat"), ("move", "batch"), ("evict", "batch"),
    ]  # fmt: skip


def test_a_guaranteed_neighbour_keeps_what_it_was_promised() -> None:
    """Only a ceiling above its share is taken from it; never a pause, whatever its part in it."""
    guaranteed = replace(BURST, tier=Tier.GUARANTEED)
    assert climb(Scene(victim=VICTIM, finding=BLAMED, suspect=guaranteed)) == [("ceiling", "chat"), ("resize", "chat")]
    raised = replace(guaranteed, limits=WorkLimits(ceiling_ppm=PPM))
    assert climb(Scene(victim=VICTIM, finding=BLAMED, suspect=raised))[0] == ("throttle", "batch")


def test_with_nobody_to_blame_only_the_slice_itself_is_dealt_with() -> None:
    """Its own ceiling and share, and a move where its tier allows that."""
    assert climb(Scene(victim=VICTIM, finding=NOBODY)) == [("ceiling", "chat"), ("resize", "chat")]
    spot = replace(VICTIM, tier=Tier.SPOT)
    assert climb(Scene(victim=spot, finding=NOBODY))[-1] == ("move", "chat")


@pytest.mark.parametrize("policy", [POLICY, Guarding(move=(Tier.GUARANTEED,))])
def test_hardware_says_what_it_can_not_do(policy: Guarding) -> None:
    """Neither a throttle nor a ceiling nor a resize; a move where the policy allows it."""
    hardware = replace(VICTIM, mode=Mode.HARDWARE)
    scene = Scene(victim=hardware, finding=BLAMED, suspect=replace(SPOT, mode=Mode.HARDWARE))
    why = choose(policy, scene, {("move", "batch"), ("evict", "batch"), ("move", "chat")})
    assert isinstance(why, str)
    assert "shares no compute and has neither a ceiling nor a rate" in why
    assert "a hardware partition has the share it was made with, and no ceiling" in why
    assert (("move", "chat") in climb(scene, policy)) == (Tier.GUARANTEED in policy.move)


def test_a_time_slice_has_no_ceiling_and_no_throttle() -> None:
    """Its windows say when it runs; a spot one is still squeezed and paused."""
    victim, spot = replace(VICTIM, mode=Mode.TIMESLICE), replace(SPOT, mode=Mode.TIMESLICE)
    rungs = [rung for rung, _ in climb(Scene(victim=victim, finding=BLAMED, suspect=spot))]
    assert rungs == ["squeeze", "pause", "resize", "move", "evict"]


def test_what_is_squeezed_is_what_disturbs() -> None:
    """Half of its copies, of its launches, or of its share; and what was there before is remembered."""
    copies = replace(BLAMED, cause="copies", evidence={"copied_mib_per_s_now": 4096.0})
    launches = replace(BLAMED, cause="launches", evidence={"launches_hz_now": 9000.0})
    for finding, to, was in (
        (BLAMED, Setting(share_ppm=150_000), Setting(share_ppm=300_000)),
        (copies, Setting(limits=AskedLimits(copy_bytes_per_s=2 << 30)), Setting(limits=AskedLimits(copy_bytes_per_s=0))),
        (launches, Setting(limits=AskedLimits(launch_rate_hz=4500)), Setting(limits=AskedLimits(launch_rate_hz=0))),
    ):
        plan = choose(POLICY, Scene(victim=VICTIM, finding=finding, suspect=SPOT), set())
        assert isinstance(plan, Plan)
        assert (plan.rung.value, plan.to, plan.was) == ("squeeze", to, was)


@pytest.mark.parametrize(("share_ppm", "expected"), [(200_000, 250_000), (900_000, 1_000_000), (3, 4), (1, 2)])
def test_a_resize_asks_for_a_quarter_more(share_ppm: int, expected: int) -> None:
    """Rounded up, and never more than the device."""
    plan = choose(POLICY, Scene(victim=replace(VICTIM, share_ppm=share_ppm), finding=NOBODY), {("ceiling", "chat")})
    assert isinstance(plan, Plan)
    assert (plan.to.share_ppm, plan.was.share_ppm) == (expected, share_ppm)


@pytest.mark.parametrize(
    ("victim", "reason"),
    [
        (replace(VICTIM, share_ppm=PPM), "whole device"),
        (replace(VICTIM, control=Control.PAUSE), "control pause"),
        (replace(VICTIM, members=2, tier=Tier.SPOT), "gang"),
    ],
)
def test_why_not(victim: Standing, reason: str) -> None:
    """What stands in the way is said."""
    why = choose(POLICY, Scene(victim=victim, finding=NOBODY), {("ceiling", "chat"), ("resize", "chat")})
    assert isinstance(why, str)
    assert reason in why


def test_what_does_not_hold_it_back_is_not_raised() -> None:
    """A slice whose own limits never made it wait gains nothing from higher ones."""
    why = choose(POLICY, Scene(victim=VICTIM, finding=replace(NOBODY, held_back=0.01)), set())
    assert isinstance(why, str)
    assert "its own limits hold it back 1 % of the time only" in why


def test_two_victims_do_not_fight_over_a_neighbour() -> None:
    """While something is done to it for another slice, this one goes on to what it can do itself."""
    scene = Scene(victim=VICTIM, finding=BLAMED, suspect=SPOT, leased_to="other")
    assert climb(scene) == [("ceiling", "chat"), ("resize", "chat")]
    assert "already dealt with for other" in str(choose(POLICY, scene, {("ceiling", "chat"), ("resize", "chat")}))


def test_a_policy_takes_rungs_away() -> None:
    """None left for a tier: said so."""
    policy = Guarding(ceiling=(), resize=(Tier.BURST,), throttle=())
    why = choose(policy, Scene(victim=VICTIM, finding=BLAMED, suspect=BURST), set())
    assert isinstance(why, str)
    assert why.count("by the pool's policy") >= 4
