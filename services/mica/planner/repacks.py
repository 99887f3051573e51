"""Repacking: plans of moves, told when asked for or by policy, and carried out move by move.

Invariants: what is to be done stands in ``repack.<pool>`` before anything is done, by compare-and-set, so that one replica at a
time goes on with a pool, and whoever goes on after a crash sends the same command under the same message id. Every move is an
ordinary ``slice.move``; the next is sent only when the one before is in force and nothing is left where it was.
"""

import logging
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from mica.bus import Change, Entry, StaleRevisionError
from mica.events import (
    SLICES,
    Automation,
    Fact,
    MoveSlice,
    Phase,
    PlannedMove,
    PoolRepacked,
    Repacking,
    RepackPool,
    RepackState,
    SliceRecord,
    SliceRefused,
    StepState,
)
from mica.planner.deciding import pins_of
from mica.planner.desk import ATTEMPTS, Call, ContendedError, Desk
from mica.planner.domain import repack_steps as steps
from mica.planner.domain.answers import refused
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.repack_sites import Candidate
from mica.planner.repack_plans import Planned, Plans, Wanted
from mica.planner.waiting import Waiting

LOOK_NS: Final = 60_000_000_000
"""A pool is looked at by policy at most so often."""
PATIENCE_NS: Final = 90_000_000_000
"""A move that is not in force so long after its programs must have ended has failed; shorter than the stream remembers ids."""
REASON: Final = "repacking"

log = logging.getLogger(__name__)


class Repacks:
    """Looks after the pools' plans."""

    def __init__(self, desk: Desk, plans: Plans) -> None:
        self._desk = desk
        self._plans = plans
        self._states: dict[str, Entry[RepackState]] = {}
        self._advised: dict[str, tuple[PlannedMove, ...]] = {}

    def take(self, change: Change[RepackState]) -> None:
        """A pool's plan has changed, here or elsewhere."""
        pool = change.key.removeprefix("repack.")
        if change.value is None:
            self._states.pop(pool, None)
        elif pool not in self._states or self._states[pool].revision < change.revision:
            self._states[pool] = Entry(change.key, change.value, change.revision)

    async def on_repack(self, call: Call) -> Fact | None:
        """Tell the plan that a command asks for, and have it carried out if it says so."""
        assert isinstance(call.command, RepackPool)
        command, desk = call.command, self._desk
        policy = pins_of(desk, "").pool(command.pool).repacking
        wanted, about = Wanted.by_command(command, policy), str(call.sequence)
        refusal = self._refusal(command, wanted, policy)
        if refusal is not None:
            return refused(call.sequence, call.delivery.subject, "", refusal, desk.now_ns())
        for _ in range(ATTEMPTS):
            entry = await self._read(command.pool)
            if command.apply and entry is not None and entry.value.about == about:
                return self._again(entry.value)
            if command.apply and entry is not None and steps.is_open(entry.value):
                busy = Refusal("pool", command.pool, f"a pool without a plan under way; plan {entry.value.about} is")
                return refused(call.sequence, call.delivery.subject, "", busy, desk.now_ns())
            await desk.ledgers.catch_up()
            planned = await self._plans.make(wanted, entry.value if entry is not None else None)
            if not command.apply or not planned.plan.moves:
                return self._fact(about, command.pool, planned, "planned" if planned.plan.moves else "nothing")
            with suppress(StaleRevisionError):
                await self._begin(entry, command.pool, about, planned)
                return self._fact(about, command.pool, planned, "applied")
        raise ContendedError(call.id)

    def _refusal(self, command: RepackPool, wanted: Wanted, policy: Repacking) -> Refusal | None:
        pools = self._desk.fleet.pools()
        if command.pool not in pools:
            return Refusal("pool", command.pool, f"a pool with a node ({', '.join(pools) or 'there is none'})")
        if not command.apply:
            return None
        beyond = ", ".join(sorted(wanted.tiers - set(policy.tiers)))
        if beyond:
            return Refusal("tiers", beyond, f"what policy pool.{command.pool} lets move: {', '.join(policy.tiers) or 'nothing'}")
        if wanted.restarts and not policy.restarts:
            return Refusal("restarts", "true", f"false, as policy pool.{command.pool} has it")
        return None

    async def review(self) -> None:
        """Go on with every plan that is under way, and make those that policies want."""
        pools = self._desk.fleet.pools()
        for pool in sorted({*pools, *self._states}):
            entry = self._states.get(pool)
            with suppress(StaleRevisionError):
                if entry is not None and steps.is_open(entry.value):
                    await self._step(entry)
                elif pool in pools:
                    await self._look(pool, entry)

    async def _look(self, pool: str, entry: Entry[RepackState] | None) -> None:
        """Whoever notes first that the pool is looked at does it."""
        policy, now = pins_of(self._desk, "").pool(pool).repacking, self._desk.now_ns()
        state = entry.value if entry is not None else RepackState(pool=pool)
        moves_max = policy.moves_per_hour - steps.sent_lately(state, now)
        if policy.mode is Automation.OFF or moves_max <= 0 or now - state.advised_at < LOOK_NS:
            return
        entry = await self._write(entry, replace(state, advised_at=now))
        planned = await self._plans.make(Wanted.by_policy(pool, policy, moves_max), entry.value)
        if not planned.plan.moves:
            return
        if policy.mode is Automation.AUTO:
            await self._begin(entry, pool, f"auto-{entry.revision}", planned)
        elif self._advised.get(pool) == planned.plan.moves:
            return
        self._advised[pool] = planned.plan.moves
        await self._desk.say(self._fact(pool, pool, planned, "applied" if policy.mode is Automation.AUTO else "planned"))

    async def _begin(self, entry: Entry[RepackState] | None, pool: str, about: str, planned: Planned) -> None:
        state = entry.value if entry is not None else RepackState(pool=pool)
        log.info("pool %s: plan %s of %d moves is carried out", pool, about, len(planned.plan.moves))
        await self._write(entry, steps.begun(state, about, planned.plan.moves))

    async def _step(self, entry: Entry[RepackState]) -> None:
        """Look at the step that is due: send it, or see what became of it."""
        index = steps.current(entry.value)
        if index is None:
            return
        step = entry.value.steps[index]
        found = await self._desk.records.read(step.move.id)
        record = found.value if found is not None else None
        if step.state is StepState.WAITING:
            await self._send(entry, index, record)
            return
        outcome, message = await self._outcome(entry.value, index, record)
        if outcome is not StepState.SENT:
            log.info("slice %s: its move is %s%s", step.move.id, outcome, f": {message}" if message else "")
            await self._write(entry, steps.ended(entry.value, index, outcome, message, self._desk.now_ns()))

    async def _send(self, entry: Entry[RepackState], index: int, record: SliceRecord | None) -> None:
        """Note that it is sent, then send it; a move that no longer is what was planned is skipped."""
        state, now = entry.value, self._desk.now_ns()
        why = await self._no_longer(state, index, record)
        if why or record is None:
            await self._write(entry, steps.ended(state, index, StepState.SKIPPED, why, now))
            return
        entry = await self._write(entry, steps.sent(state, index, record.generation, now))
        await self._publish(entry.value, index)

    async def _no_longer(self, state: RepackState, index: int, record: SliceRecord | None) -> str:
        """Why the move is not to be made now; empty where it still is what was planned."""
        move = state.steps[index].move
        if record is None or record.phase is not Phase.PLACED:
            return "the slice is gone"
        here = [(each.node, each.device_id, each.vram_bytes) for each in record.placements]
        if here != [(move.node, move.device_id, move.vram_bytes)]:
            return "the slice has changed since"
        policy = pins_of(self._desk, "").pool(state.pool).repacking
        stopped = state.about.startswith("auto-") and policy.mode is not Automation.AUTO
        if stopped or move.tier not in policy.tiers or (move.restarts and not policy.restarts):
            return f"policy pool.{state.pool} no longer wants it"
        await self._desk.ledgers.catch_up()
        wanted = Wanted(pool=state.pool, moves_max=1, tiers=frozenset({move.tier}), restarts=move.restarts, min_gain=0.0)
        site = await self._plans.site(move.node, wanted)
        candidate = Candidate(move.id, move.to_device_id, -1 if move.start is None else move.start)
        if move.id not in site.movables:
            return "the slice may not be moved now"
        return "" if site.after(candidate) is not None else f"it no longer fits on {move.to_device_id}"

    async def _publish(self, state: RepackState, index: int) -> int:
        """Send the step's command; a repetition is dropped by the stream, and has the first one's sequence."""
        step = state.steps[index]
        move = step.move
        grace_s = move.grace_s if move.restarts else None
        command = MoveSlice(id=move.id, device_id=move.to_device_id, start=move.start, grace_s=grace_s, reason=REASON)
        return await self._desk.bus.publish(command, message_id=f"repack-{state.pool}-{state.about}-{index}-{step.generation}")

    async def _outcome(self, state: RepackState, index: int, record: SliceRecord | None) -> tuple[StepState, str]:
        """What became of a step that was sent: still sent, done or failed, and why."""
        step = state.steps[index]
        move, node = step.move, self._desk.fleet.node(step.move.node)
        late = self._desk.now_ns() - step.at > PATIENCE_NS + int(move.grace_s * 1e9)
        if record is None or record.phase is not Phase.PLACED:
            return StepState.FAILED, "the slice is gone"
        if record.generation == step.generation:
            sequence = await self._publish(state, index) if not late else 0
            heard = await self._desk.bus.history(SLICES.name, [f"slice.refused.{sequence}"]) if sequence else []
            refusals = [each.event for each in heard if isinstance(each.event, SliceRefused)]
            if refusals:
                return StepState.FAILED, refusals[0].message
            return (StepState.FAILED, "the command was not carried out in time") if late else (StepState.SENT, "")
        if [each.device_id for each in record.placements] != [move.to_device_id]:
            return StepState.FAILED, "the slice was changed by somebody else"
        left = any(move.id in slices for slices in node.ledger.held.values())
        if node.is_live(move.id, record.generation) and not left:
            return StepState.DONE, ""
        return (StepState.FAILED, "it is not in force in time") if late else (StepState.SENT, "")

    async def _read(self, pool: str) -> Entry[RepackState] | None:
        entry = await self._desk.bus.state.get(f"repack.{pool}", RepackState)
        if entry is not None:
            self._states[pool] = entry
        return entry

    async def _write(self, entry: Entry[RepackState] | None, state: RepackState) -> Entry[RepackState]:
        """Raises StaleRevisionError: another replica goes on with the pool."""
        key, bucket = f"repack.{state.pool}", self._desk.bus.state
        revision = await (bucket.create(key, state) if entry is None else bucket.update(key, state, entry.revision))
        written = self._states[state.pool] = Entry(key, state, revision)
        return written

    def _fact(self, about: str, pool: str, planned: Planned, outcome: str) -> PoolRepacked:
        plan = planned.plan
        return PoolRepacked(
            at=self._desk.now_ns(), about=about, pool=pool, outcome=outcome, summary=summary_of(planned), moves=plan.moves,
            before=plan.before, after=plan.after, bound=plan.bound, proven=plan.proven, held_back=dict(planned.held_back),
        )  # fmt: skip

    def _again(self, state: RepackState) -> PoolRepacked:
        """The answer to a command that is delivered again, while or after its plan is carried out."""
        moves = tuple(step.move for step in state.steps)
        told = f"{len(moves)} moves are being carried out"
        return PoolRepacked(
            at=self._desk.now_ns(), about=state.about, pool=state.pool, outcome="applied", summary=told, moves=moves
        )


def summary_of(planned: Planned) -> str:
    """The plan in one line."""
    plan, held_back = planned.plan, planned.held_back
    before, after = plan.before, plan.after
    stay = sum(held_back.values())
    rest = f"; {stay} slices may not move" if stay else ""
    if not plan.moves:
        best = (
            "none can gain anything"
            if plan.bound <= 0
            else f"none was found that is worth it, and none gains over {plan.bound:.2f}"
        )
        return f"no move is worth it: {best} ({before.free_devices} of {before.devices} devices are free){rest}"
    sure = "no plan is better" if plan.proven else f"no plan gains more than {plan.bound:.2f}"
    freed = after.free_devices - before.free_devices
    return (
        f"{len(plan.moves)} moves free {freed} of {before.devices} devices ({before.free_devices} are free now); fragmentation "
        f"{before.fragmentation:.0%} to {after.fragmentation:.0%}; {plan.net:.2f} devices gained after costs, {sure}{rest}"
    )


def repacks_of(desk: Desk, waiting: Waiting) -> Repacks:
    """Repacking for one replica."""
    return Repacks(desk, Plans(desk, waiting))
