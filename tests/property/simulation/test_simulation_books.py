"""Whatever comes and goes: nothing is oversold, nothing stays behind, and the measures agree with the kernel's."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica.packing import Mix, Node, Packer, Rule, Settings, Shape, typical
from mica.simulation import Fleet, Job, Measure, Policy, Watch, offered, overlaid, placer, simulate, thinned

VRAM_MIB = 1000
nodes = st.builds(
    Node,
    st.sampled_from([4000, 8000]),
    st.sampled_from([500, 1000]),
    st.lists(st.tuples(st.integers(0, 1), st.just(VRAM_MIB)), max_size=3).map(tuple),
)
fleets = (
    st.lists(nodes, min_size=1, max_size=4)
    .filter(lambda found: any(node.devices for node in found))
    .map(lambda found: Fleet(tuple(found), ("T4", "L4")))
)
shapes = st.builds(
    lambda cpu, memory, devices, milli, kinds: Shape(
        cpu, memory, devices, milli if devices else 0, 1000 * milli if devices else 0, kinds if devices else None
    ),
    st.sampled_from([500, 3000]),
    st.sampled_from([10, 400]),
    st.integers(0, 2),
    st.sampled_from([190, 500, 810, 1000]),
    st.sampled_from([None, frozenset({0})]),
)
works = st.lists(
    st.builds(Job, st.integers(0, 50).map(float), st.one_of(st.none(), st.integers(0, 30).map(float)), shapes),
    min_size=2,
    max_size=40,
).map(lambda jobs: sorted(jobs, key=lambda job: job.arrival_s))


class _Checked:
    """A placer whose board is looked at after each step."""

    def __init__(self, actor, *, forgetful=False):
        self._actor, self.board, self._forgetful = actor, actor.board, forgetful

    def _look(self, done):
        board = self.board
        assert min(board.cpu_milli.min(), board.memory_mib.min()) >= 0
        assert board.devices == 0 or min(board.share_ppm.min(), board.vram_mib.min()) >= 0
        return done

    def arrive(self, key, shape, now_s):
        return self._look(self._actor.arrive(key, shape, now_s))

    def again(self, key, shape, now_s):
        return self._look(self._actor.again(key, shape, now_s))

    def depart(self, key, now_s):
        if not self._forgetful:
            self._actor.depart(key, now_s)
        self._look(True)


def _left(fleet, jobs, policy, *, wait, forgetful=False):
    """What stands when everything that ends has ended, in ppm of devices, and who was placed and stays."""
    actor = _Checked(placer(policy, fleet, [job.shape for job in jobs], 7), forgetful=forgetful)
    measure = Measure(actor.board, typical(Counter(job.shape for job in jobs)))
    outcome = simulate(jobs, actor, measure, Watch(0.0, 1e6, 3), wait=wait)
    stays = sum(jobs[key].shape.demand_milli for key in outcome.waited_s if jobs[key].duration_s is None)
    taken = actor.board.devices * 1_000_000 - int(actor.board.share_ppm.sum())
    return taken, 1000 * stays, outcome


@settings(deadline=None, max_examples=60)
@given(fleets, works, st.sampled_from(Policy), st.booleans())
def test_only_who_was_placed_and_stays_is_on_the_board(fleet, jobs, policy, wait):
    """At no moment is anything oversold; afterwards the board holds those without an end, and nobody else."""
    taken, stays, outcome = _left(fleet, jobs, policy, wait=wait)
    assert taken == stays
    assert all(0 <= sample.stranded <= sample.fragmentation + 1e-3 for sample in outcome.samples)
    assert all(sample.fragmentation <= 100 - sample.allocated + 1e-3 for sample in outcome.samples)
    assert wait or set(outcome.waited_s.values()) <= {0.0}


def test_control_a_placer_that_forgets_departures_is_caught():
    """It leaves behind what has ended."""
    fleet = Fleet((Node(8000, 1000, ((0, VRAM_MIB),)),), ("T4",))
    jobs = [Job(0.0, 1.0, Shape(1, 1, 1, 500, 500_000)), Job(5.0, 1.0, Shape(1, 1, 1, 500, 500_000))]
    taken, stays, _ = _left(fleet, jobs, Policy.BEST_FIT, wait=False, forgetful=True)
    assert taken > stays == 0


@settings(deadline=None, max_examples=60)
@given(fleets, works, st.integers(0, 20))
def test_fragmentation_is_the_kernels(fleet, jobs, some):
    """The sum over nodes of FGD's F, which the kernel has as the negative of V under the rule FGD, with host memory."""
    seen = typical(Counter(job.shape for job in jobs))
    actor = placer(Policy.FGD, fleet, [job.shape for job in jobs], 3)
    for key, job in enumerate(jobs[:some]):
        actor.arrive(key, job.shape, job.arrival_s)
    unusable_milli, _ = Measure(actor.board, seen).unusable_milli(actor.board)
    kernel = Packer(actor.board, Mix(seen, actor.board.kinds), Settings(rule=Rule.FGD))
    assert unusable_milli == pytest.approx(-sum(kernel.value(node) for node in range(actor.board.nodes)), abs=2.0)


@settings(deadline=None, max_examples=100)
@given(works, st.floats(0.1, 30), st.integers(0, 3))
def test_a_load_is_reached_exactly_and_at_all_times(jobs, times, seed):
    """Copies of a ring: what would be in use is what was asked for, but for one piece; equal seeds give equal work."""
    jobs = [*jobs, Job(60.0, 5.0, Shape(1, 1, 1, 500, 500_000)), Job(100.0, 5.0, Shape(1, 1))]
    start_s = jobs[0].arrival_s
    one_milli = sum(
        job.shape.demand_milli * min(100.0 - job.arrival_s if job.duration_s is None else job.duration_s, 100.0 - start_s)
        for job in jobs
    ) / (100.0 - start_s)
    found = overlaid(jobs, times * one_milli, seed)
    assert found == overlaid(jobs, times * one_milli, seed)
    assert found == sorted(found, key=lambda job: job.arrival_s)
    largest = max(job.shape.demand_milli for job in jobs)
    assert times * one_milli - largest - 1e-6 <= offered(found, Watch(0.0, 100.0 - start_s)) <= times * one_milli + 1e-6


@settings(deadline=None, max_examples=100)
@given(st.lists(nodes, min_size=1, max_size=60), st.floats(0.05, 1), st.integers(0, 5))
def test_a_part_of_a_fleet_has_as_many_of_each_kind_of_node(found, part, seed):
    """To within two nodes, as whole nodes allow; the whole fleet is the fleet."""
    fleet = Fleet((*found, *([Node(1, 1, ((0, VRAM_MIB),))] * 40)), ("T4", "L4"))
    assert Counter(thinned(fleet, 1.0, seed).nodes) == Counter(fleet.nodes)
    kept = Counter(thinned(fleet, part, seed).nodes)
    for node, count in Counter(fleet.nodes).items():
        assert abs(kept[node] - part * count) < 2
    assert np.isclose(sum(kept.values()), part * len(fleet.nodes), atol=1.0)
