"""Turns reports, refusals and telemetry into judgements, and judgements into commands and events.

Invariant: the decision to act is in KV before anything is published, so that no replica and no restart acts on a report twice;
what is published carries message ids made from the report's sequence.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.bus import Bus, BusError, Change, Clock, Delivery, Entry, StaleRevisionError
from mica.events import (
    TERMINAL_PHASES,
    EventError,
    Guarding,
    GuardMode,
    GuardState,
    Phase,
    SliceRecord,
    SliceRefused,
    SliceSampled,
    SloReported,
    StepPhase,
    decode,
)
from mica.observability import Tracer
from mica.slo_guard import intake, steps
from mica.slo_guard.blaming import Case, Finding, find, has_witness
from mica.slo_guard.burning import tally
from mica.slo_guard.carrying import Carrier
from mica.slo_guard.deciding import Moment, act, cleared, refused, upkeep
from mica.slo_guard.desk import Desk
from mica.slo_guard.intake import Intake
from mica.slo_guard.judge import judge
from mica.slo_guard.ladder import Scene, standing_in, standing_of
from mica.slo_guard.sightings import Sightings
from mica.slo_guard.steps import NS_PER_S
from mica.slo_guard.weighing import Patience, Weighed, Window, weigh

RETRY_S: Final = 0.5
ATTEMPTS: Final = 5
RACES_MAX: Final = 6
COMMANDS: Final = frozenset({"slice.resize", "slice.control", "slice.move", "slice.evict"})

log = logging.getLogger(__name__)


class Guard:
    """One replica of the guard."""

    def __init__(self, bus: Bus, patience: Patience, clock: Clock, tracer: Tracer) -> None:
        self._bus = bus
        self._patience = patience
        self._clock = clock
        self._tracer = tracer
        self._desk = Desk(bus)
        self._carrier = Carrier(bus, self._desk, clock)
        self._intake = Intake(patience.stale_s)
        self._open: set[str] = set()
        self.sightings = Sightings()

    async def on_batch(self, deliveries: Sequence[Delivery]) -> None:
        """Handle messages, those of one slice in order and slices side by side. Settles every one of them."""
        by_subject: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in deliveries:
            by_subject[delivery.subject].append(delivery)
        await asyncio.gather(*(self._in_order(group) for group in by_subject.values()))

    def on_sampled(self, sample: SliceSampled) -> None:
        """Remember what a slice does."""
        self.sightings.see(sample, self._clock.unix_ns() / NS_PER_S)

    def on_states(self, changes: Iterable[Change[GuardState]]) -> None:
        """Learn of which slices something is in force, or a breach goes on."""
        for change in changes:
            self._watch(change.key.partition(".")[2], change.value)

    async def on_report(self, report: SloReported, sequence: int, traceparent: str = "") -> None:
        """Judge one window.

        Raises:
            BusError: its effect may not be durable; handle the same report again.
        """
        now = self._clock.unix_ns()
        if self._intake.refuse(report, now):
            return
        record = await self._desk.record(report.id)
        if record is None:
            self._intake.ignore(intake.UNKNOWN, report.id, report.source, now)
            return
        self._intake.knows(report.id)
        if record.phase is not Phase.PLACED or not record.placements:
            await self._upkeep(report.id)
            return
        window = _window(record, report, sequence, now)
        if window is None:
            return
        await self._on_window(record, replace(window, traceparent=traceparent))

    async def on_refused(self, fact: SliceRefused) -> None:
        """Go on to something else when it was the guard's own command that the planner refused.

        Raises:
            BusError: handle the same fact again.
        """
        if fact.command not in COMMANDS or not fact.id:
            return
        for victim in dict.fromkeys((fact.id, await self._desk.victim_of(fact.id))):
            entry = await self._desk.state(victim) if victim else None
            if entry is None:
                continue
            if any(step.phase is StepPhase.DECIDED and step.target == fact.id for step in entry.value.steps):
                raise BusError(f"guard.{victim}: the command is being published")
            after = refused(entry.value, fact.sequence, self._clock.unix_ns(), fact.message)
            if after is not None:
                step = next(s for s in after.steps if fact.sequence in (s.command_sequence, s.undo_sequence))
                await self._carrier.tell_refused(after, step)
                await self._desk.remember(entry, after)
                await self._carrier.let_go(entry.value, after)

    async def on_tick(self) -> None:
        """Look after what is in force and nobody reports of, finish what was interrupted, and tell what was turned away.

        Raises:
            BusError: the bus does not answer; the next tick goes on.
        """
        for slice_id in sorted(self._open):
            await self._upkeep(slice_id)
        for event in self._intake.tell(self._clock.unix_ns()):
            log.warning("%d reports were not looked at: %s (%s)", event.count, event.reason, event.example)
            await self._bus.publish(event)

    async def _in_order(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            try:
                await self._settle(delivery)
            except EventError as error:
                log.warning("message %d on %s is dropped: %s", delivery.sequence, delivery.subject, error)
                self._intake.ignore(intake.MALFORMED, "", str(error), self._clock.unix_ns())
                await delivery.terminate()
            except BusError as error:
                log.info("message %d on %s comes again: %s", delivery.sequence, delivery.subject, error)
                await delivery.retry(RETRY_S)
            except Exception:
                log.exception("message %d on %s, delivery %d", delivery.sequence, delivery.subject, delivery.deliveries)
                await (delivery.retry(RETRY_S) if delivery.deliveries < ATTEMPTS else delivery.terminate())

    async def _settle(self, delivery: Delivery) -> None:
        """Handle a message; when another replica was quicker with the same slice, decide anew on what it left."""
        for _ in range(RACES_MAX):
            try:
                return await self._on_delivery(delivery)
            except StaleRevisionError:
                continue
        raise BusError(f"{RACES_MAX} races were lost")

    async def _on_delivery(self, delivery: Delivery) -> None:
        event = decode(delivery.subject, delivery.data, delivery.content_type)
        if isinstance(event, SloReported):
            if not delivery.subject.endswith(f".{event.id}"):
                raise EventError("id", event.id, f"the id that ends the subject {delivery.subject}")
            await self.on_report(event, delivery.sequence, delivery.traceparent)
        elif isinstance(event, SliceRefused):
            await self.on_refused(event)
        await delivery.ack()

    async def _on_window(self, record: SliceRecord, window: Window) -> None:
        breach = window.breach
        self.sightings.hear(window.report, breach.ratio if breach is not None else window.tally.part, window.end / NS_PER_S)
        entry = await self._desk.state(record.id)
        known = entry.value if entry is not None else GuardState(id=record.id)
        if entry is not None and window.sequence == known.sequence:
            self._keep(await self._carrier.finish(entry))
        if window.sequence <= known.sequence:
            return
        weighed = weigh(self._patience, known, window)
        doubtful = weighed.state if weighed.doubts else None
        if doubtful is not None and has_witness(self._case(record, doubtful, window), self.sightings):
            weighed = weigh(self._patience, known, replace(window, witnessed=True))
        if weighed.state is None:
            return
        state = await self._consider(record, weighed, window)
        if state is None:
            return
        with self._tracer.span("guard", window.traceparent, slice=record.id):
            self._keep(await self._carrier.finish(await self._desk.remember(entry, state)))

    async def _consider(self, record: SliceRecord, weighed: Weighed, window: Window) -> GuardState | None:
        """What to do about a window; None where the guard is off and nothing of it is left."""
        state = weighed.state
        assert state is not None
        if weighed.fire is None:
            return state
        pool, policy = await self._desk.policy(record.placements[0].node, window.now)
        if policy.mode is GuardMode.OFF:
            return state if steps.holding(state) else None
        if not weighed.wants:
            return state
        return await self._act(record, state, _Ground(pool, policy, window))

    async def _act(self, record: SliceRecord, state: GuardState, ground: "_Ground") -> GuardState:
        """Decide on the next action; take the lease on its target and a part of the pool's budget first."""
        window, policy = ground.window, ground.policy
        terms = (policy, self._patience)
        scene = await self._scene(record, state, window)
        after = act(terms, state, scene, Moment(window=window))
        fresh = after.steps[-1] if after.steps and after.steps[-1].phase is StepPhase.DECIDED else None
        if fresh is None or fresh.id != f"{state.id}-{window.sequence}":
            return after
        if fresh.target != record.id and not await self._desk.lease(fresh.target, record.id, window.now):
            other = await self._desk.leased_to(fresh.target, record.id, window.now)
            scene = replace(scene, leased_to=other or "another slice")
            after = act(terms, state, scene, Moment(window=window))
            fresh = after.steps[-1]
        if fresh.phase is StepPhase.DECIDED and not await self._desk.spend(
            ground.pool, fresh.id, policy.fleet_actions_per_hour, window.now
        ):
            after = act(terms, state, scene, Moment(window=window, fleet_spent=True))
        return after

    async def _scene(self, record: SliceRecord, state: GuardState, window: Window) -> Scene:
        finding = self._finding(record, state, window)
        target = finding.target or (state.episode.blamed if state.episode is not None else "")
        other = await self._desk.neighbour(record, target) if target and target not in cleared(state) else None
        if finding.kind == "neighbour" and other is None:
            finding = Finding(kind="nobody", why=f"{finding.target} is gone", held_back=finding.held_back)
        suspect = standing_in(other) if other is not None and finding.kind != "own" else None
        leased_to = await self._desk.leased_to(target, record.id, window.now) if suspect is not None else ""
        return Scene(victim=standing_of(record), finding=finding, suspect=suspect, leased_to=leased_to)

    def _case(self, record: SliceRecord, state: GuardState, window: Window) -> Case:
        onset = state.run_since or state.last_action_at or window.end  # no run: what was done leaves no room
        return Case(
            victim=record.id,
            devices=tuple(placement.device_id for placement in record.placements),
            onset_s=onset / NS_PER_S,
            now_s=window.now / NS_PER_S,
            cleared=cleared(state),
        )

    def _finding(self, record: SliceRecord, state: GuardState, window: Window) -> Finding:
        """Who is to blame, by when the present run of bad windows began; else by when there were bad ones at all."""
        case = self._case(record, state, window)
        finding = find(case, self.sightings)
        if finding.kind != "nobody" or state.bad_since in (0, state.run_since):
            return finding
        return find(replace(case, onset_s=state.bad_since / NS_PER_S), self.sightings)

    async def _upkeep(self, slice_id: str) -> None:
        """What is due for a slice without a report of its own."""
        entry = await self._desk.state(slice_id)
        if entry is None:
            self._open.discard(slice_id)
            return
        record = await self._desk.record(slice_id)
        try:
            after = upkeep(entry.value, record, self._clock.unix_ns())
            if after != entry.value:
                entry = await self._desk.remember(entry, after)
            entry = await self._carrier.finish(entry)
            gone = record is None or record.phase in TERMINAL_PHASES
            if gone and not steps.holding(entry.value):
                await self._desk.forget(entry)
                self._open.discard(slice_id)
                return
            self._keep(entry)
        except StaleRevisionError:
            log.debug("guard.%s: another replica is at it", slice_id)

    def _keep(self, entry: Entry[GuardState]) -> None:
        self._watch(entry.value.id, entry.value)

    def _watch(self, slice_id: str, state: GuardState | None) -> None:
        episode = state.episode if state is not None else None
        if state is not None and (steps.holding(state) or steps.outbox(state) or (episode is not None and not episode.ended_at)):
            self._open.add(slice_id)
        else:
            self._open.discard(slice_id)


class _Ground(Struct, frozen=True):
    """A slice's pool, its policy, and the window that something is to be done about."""

    pool: str
    policy: Guarding
    window: Window


def _window(record: SliceRecord, report: SloReported, sequence: int, now: int) -> Window | None:
    """The report as it is judged; None where there is nothing to judge."""
    slo = record.request.slo
    if slo is None:
        return None
    breach = judge(slo, report)
    counts = tally(slo, report, breach)
    if counts is None:
        return None
    end = report.at if 0 < report.at <= now else now
    return Window(sequence=sequence, now=now, end=end, report=report, tally=counts, breach=breach)
