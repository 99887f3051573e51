"""``slice.explain``: what would become of a request, and why. Invariant: nothing is written but the answer."""

from msgspec.structs import replace

from mica.events import Decision, ExplainSlice, SliceExplained
from mica.planner.deciding import decided, sized
from mica.planner.desk import Call, Desk
from mica.planner.domain import records
from mica.planner.domain.explaining import explain
from mica.planner.domain.misfits import Refusal
from mica.planner.domain.placing import Placed, Unplaced
from mica.planner.preemptions import Preemptions


class Explanations:
    """Answers dry runs, on what the server has now."""

    def __init__(self, desk: Desk, preemptions: Preemptions) -> None:
        self._desk = desk
        self._preemptions = preemptions

    async def on_explain(self, call: Call) -> SliceExplained:
        """The answer; a request that is malformed inside is refused before it comes here."""
        assert isinstance(call.command, ExplainSlice)
        desk, request = self._desk, call.command.request
        await desk.load_tenant(request.tenant)
        await desk.load_partner(request)
        await desk.freshen(request.tenant)
        record = records.blank(request.id or f"seq-{call.sequence}", request, call.sequence, desk.now_ns())
        size = sized(desk, request)
        if isinstance(size, Refusal):
            return self._answer(call, "rejected", Unplaced(size, Decision(summary=size.message), possible=False))
        ask = self._preemptions.ask(record)
        assert ask is not None
        outcome = decided(desk, ask)
        found, left_out = explain(desk.fleet, ask, outcome)
        if isinstance(outcome, Placed) or not (outcome.possible and request.queue_s > 0):
            named = "placed" if isinstance(outcome, Placed) else "rejected"
            return replace(self._answer(call, named, outcome), candidates=found, left_out=left_out)
        clearance = await self._preemptions.choose(record, ask)
        victims = tuple(each.id for each in clearance.victims) if clearance is not None else ()
        answer = self._answer(call, "queued", outcome)
        said = answer.summary + (f"; would evict {', '.join(victims)}" if victims else "")
        return replace(answer, summary=said, candidates=found, left_out=left_out, would_evict=victims)

    def _answer(self, call: Call, named: str, outcome: Placed | Unplaced) -> SliceExplained:
        assert isinstance(call.command, ExplainSlice)
        answer = SliceExplained(
            at=self._desk.now_ns(), sequence=call.sequence, tenant=call.command.request.tenant, outcome=named,
            summary=outcome.decision.summary, decision=replace(outcome.decision, rejected=()),
        )  # fmt: skip
        if isinstance(outcome, Placed):
            return answer
        refusal = outcome.refusal
        return replace(answer, field=refusal.field, given=refusal.given, allowed=refusal.allowed)
