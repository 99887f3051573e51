"""The replay on fleets of one and two devices, where everything can be worked out by hand."""

import pytest

from mica.packing import Node, Shape
from mica.simulation import Fleet, Job, Measure, Policy, Scene, SimulationError, Watch, figure, placer, replayed, simulate

GIB = 1024
WHOLE = Shape(1000, GIB, 1, 1000, 1_000_000)
HALF = Shape(1000, GIB, 1, 500, 500_000)
ONE = Fleet((Node(8000, 16 * GIB, ((0, 1000),)),), ("T4",))
EVERY = list(Policy)


def run(jobs, watch, *, fleet=ONE, policy=Policy.BEST_FIT, wait=False):
    """The outcome, and the board as it is left."""
    actor = placer(policy, fleet, [job.shape for job in jobs], 1)
    measure = Measure(actor.board, {WHOLE: 0.5, HALF: 0.5})
    return simulate(jobs, actor, measure, watch, wait=wait), actor.board


@pytest.mark.parametrize("policy", EVERY)
def test_whoever_leaves_makes_room_for_whom_comes_in_the_same_moment(policy):
    """The second piece finds the device free at 10 s; between 5 s and 10 s it would not have."""
    back_to_back = [Job(0, 10, WHOLE), Job(10, 10, WHOLE)]
    outcome, _ = run(back_to_back, Watch(0, 20, 5), policy=policy)
    assert [sample.allocated for sample in outcome.samples] == [100, 100, 100, 100, 0]
    overlapping, _ = run([Job(0, 10, WHOLE), Job(9, 10, WHOLE)], Watch(0, 20, 5), policy=policy)
    assert overlapping.waited_s == {0: 0}


@pytest.mark.parametrize("policy", EVERY)
def test_what_fits_nowhere_is_gone_or_waits_until_it_fits(policy):
    """Without waiting the second piece is refused; with it, it begins 6 s late and runs as long as it does."""
    jobs = [Job(0, 10, WHOLE), Job(4, 10, WHOLE)]
    gone, _ = run(jobs, Watch(0, 25, 26), policy=policy)
    assert gone.waited_s == {0: 0}
    assert [sample.allocated for sample in gone.samples[10:]] == [0] * 16
    late, board = run(jobs, Watch(0, 25, 26), policy=policy, wait=True)
    assert late.waited_s == {0: 0, 1: 6}
    assert [sample.allocated for sample in late.samples] == [100] * 20 + [0] * 6
    assert board.share_ppm.tolist() == [1_000_000]


def test_who_came_first_goes_first_and_the_small_pass_the_large_that_do_not_fit():
    """Of two whole pieces that wait the older is next; a half that fits beside the first half does not wait for them."""
    jobs = [Job(0, 10, HALF), Job(1, 10, WHOLE), Job(2, 10, WHOLE), Job(3, 5, HALF)]
    outcome, _ = run(jobs, Watch(0, 40, 41), wait=True)
    assert outcome.waited_s == {0: 0, 3: 0, 1: 9, 2: 18}


def test_what_never_ends_stays_and_what_is_asked_for_is_told_beside_it():
    """Without a duration a piece is there at the end; ``wanted`` counts what was refused, too, as long as it would have run."""
    outcome, _ = run([Job(0, None, WHOLE), Job(5, 2, WHOLE)], Watch(0, 9, 10))
    assert [sample.allocated for sample in outcome.samples] == [100] * 10
    assert [sample.wanted for sample in outcome.samples] == [100] * 5 + [200] * 2 + [100] * 3


def test_the_figures_of_a_replay_worked_out_by_hand():
    """Of 3 pieces one is refused: a third of the demand, and 4 of 18 device-seconds; half of the time the device is full."""
    jobs = [Job(0, 10, WHOLE), Job(6, 4, WHOLE), Job(16, 4, WHOLE)]
    watch = Watch(0, 19.999, 2000)
    outcome, _ = run(jobs, watch)
    found = figure(jobs, outcome)
    assert found.refused == found.refused_pieces == pytest.approx(33.333)
    assert found.lost == pytest.approx(100 * 4 / 18, abs=0.01)
    assert (found.allocated.mean, found.allocated.p5, found.allocated.p95) == (pytest.approx(70, abs=0.1), 0, 100)
    assert found.wanted == pytest.approx(90, abs=0.1)
    assert found.waited == 0


def test_fragmented_is_what_usual_work_can_not_use_and_stranded_what_none_can():
    """Half a device is free: of use to the halves, not to the whole. Without CPU it is of use to nobody."""
    outcome, board = run([Job(0, None, HALF)], Watch(0, 1, 2))
    assert (outcome.samples[-1].fragmentation, outcome.samples[-1].stranded) == (25, 0)
    board.cpu_milli[0] = 0
    assert Measure(board, {WHOLE: 0.5, HALF: 0.5}).unusable_milli(board) == (500, 500)


def test_a_mix_of_work_without_devices_can_use_none():
    """As FGD counts it: such work makes all that is free of no use, and strands it."""
    outcome, board = run([Job(0, None, HALF)], Watch(0, 1, 2))
    assert Measure(board, {Shape(1, 1): 1.0}).unusable_milli(board) == (500, 500)
    assert outcome.samples


def test_a_mica_that_waited_is_not_learned_twice():
    """What waits asks again at each departure; the mix that is learned counts it once."""
    actor = placer(Policy.MICA, ONE, [], 1)
    assert actor.arrive(0, WHOLE, 0)
    assert not actor.arrive(1, WHOLE, 1)
    assert not actor.again(1, WHOLE, 2)
    actor.depart(0, 3)
    assert actor.again(1, WHOLE, 3)
    assert actor.board.share_ppm.tolist() == [0]
    assert actor._moving.foresighted.learner.arrivals == 2
    assert list(actor._moving.mover.residents) == [1]


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        ({"jobs": []}, "work: got none, allowed: at least one piece"),
        ({"jobs": [Job(1, 1, WHOLE)] * 3}, "got all arrivals of the time looked at in one moment (1 s)"),
        ({"warm_up": 1.0}, "warm-up: got 1, allowed: a part of the arrivals from 0 to below 1"),
        ({"part": 0.0}, "part of the fleet: got 0, allowed: more than 0, at most 1"),
        ({"part": 0.001}, "without any device, allowed: at least one"),
        ({"load": 0.0}, "load: got 0 devices in use, allowed: more than 0"),
        ({"load": 1e9}, "times what the work takes"),
        ({"jobs": [Job(2, 1, WHOLE), Job(1, 1, WHOLE)], "warm_up": 0.0}, "got an arrival before the one before it"),
    ],
)
def test_a_scene_that_makes_no_sense_is_one_line(scene, message):
    """What was given, and what is allowed."""
    given = {"fleet": ONE, "jobs": [Job(0, 1, WHOLE), Job(1, 1, WHOLE)], "warm_up": 0.0} | scene
    with pytest.raises(SimulationError) as refused:
        replayed(Scene(**given), Policy.FGD, 1)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_fleet_without_devices_is_none():
    """However many nodes there are."""
    with pytest.raises(SimulationError, match="got 2 nodes without any device, allowed: at least one device"):
        Fleet((Node(1, 1), Node(1, 1)), ())
