"""Whatever comes and goes on a device that can be divided, no program is in another slice's part."""

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mica.enforcer.placing import NO_PART, Part
from mica.enforcer.policy import Rules
from mica.enforcer.spatial import parts
from mica.events import PPM, Device, LedgerEntry, Mode, Runtime, SpatialChoice, Tier, Vendor
from mica.region import Spatial

NAMES = st.sampled_from("abcdef")


def device(units: int) -> Device:
    """A processor of so many units."""
    known: dict[str, Any] = {"multiprocessors": units, "subdevices_max": units, "subdevices_whole": True}
    return Device(id="d", index=0, vendor=Vendor.CPU, model="P", vram_bytes=1, **known)


def entry(id_: str, share_ppm: int, **fields: Any) -> LedgerEntry:
    """A guaranteed slice of OpenCL's."""
    known = {"tier": Tier.GUARANTEED, "mode": Mode.FCSP, "runtime": Runtime.OPENCL, "tenant": id_, "vram_bytes": 1}
    return LedgerEntry(id=id_, generation=1, share_ppm=share_ppm, **(known | fields))


@given(st.data(), st.integers(2, 200))
def test_parts_never_overlap_and_are_never_smaller_than_the_share(data: st.DataObject, units: int) -> None:
    """Whatever the shares are, and whatever was in force before; and all have one, or none has."""
    shares = data.draw(
        st.dictionaries(NAMES, st.one_of(st.integers(1, units).map(lambda n: n * PPM // units), st.integers(1, PPM)))
    )
    earlier = data.draw(st.dictionaries(NAMES, st.integers(1, units).map(lambda n: n * PPM // units)))
    entries, before = ({id_: entry(id_, share) for id_, share in each.items()} for each in (shares, earlier))
    rules = Rules(spatial=data.draw(st.sampled_from([SpatialChoice.AUTO, SpatialChoice.SUBDEVICE])))
    held = parts(device(units), rules, before, {})
    found = parts(device(units), rules, entries, held)
    edges = sorted((part.offset_ppm, part.offset_ppm + part.ppm) for part in found.values())
    assert all(one[1] <= other[0] for one, other in pairwise(edges))
    assert all(shares[id_] <= part.ppm + 1 and part.offset_ppm + part.ppm <= PPM for id_, part in found.items())
    assert len(found) in {0, len(shares)}


class Apart(RuleBasedStateMachine):
    """Slices come, go and change their size; programs start, see what their slice has then, and keep that until they end."""

    @initialize(units=st.integers(2, 8))
    def begin(self, units: int) -> None:
        self.device = device(units)
        self.entries: dict[str, LedgerEntry] = {}
        self.held: dict[str, Part] = {}
        self.programs: list[tuple[str, Part]] = []

    def settle(self) -> None:
        running = {id_ for id_, _ in self.programs}
        known = {id_: part for id_, part in self.held.items() if id_ in self.entries or id_ in running}
        before, found = self.held, parts(self.device, Rules(), self.entries, known, running)
        self.held = {id_: part for id_, part in known.items() if id_ not in self.entries}
        self.held |= {id_: found.get(id_, NO_PART) for id_ in self.entries}
        if found:
            assert all(self.held[id_] == before[id_] for id_ in running)

    @rule(id_=NAMES, count=st.integers(1, 4), odd=st.booleans())
    def ask(self, id_: str, count: int, *, odd: bool) -> None:
        others = sum(entry.share_ppm for other, entry in self.entries.items() if other != id_)
        share = count * PPM // self.device.multiprocessors - (5 if odd else 0)
        if others + share <= PPM and (id_ in self.entries or id_ not in self.held):
            self.entries[id_] = entry(id_, share)
            self.settle()

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        del self.entries[data.draw(st.sampled_from(sorted(self.entries)))]
        self.settle()

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def start_program(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(sorted(self.entries)))
        self.programs.append((id_, self.held[id_]))
        self.settle()

    @precondition(lambda self: self.programs)
    @rule(data=st.data())
    def end_program(self, data: st.DataObject) -> None:
        self.programs.pop(data.draw(st.integers(0, len(self.programs) - 1)))
        self.settle()

    @invariant()
    def no_program_without_turns_is_on_another_slices_units(self) -> None:
        if not any(self.held.get(id_, NO_PART).kind is Spatial.SUBDEVICE for id_ in self.entries):
            return
        for id_, part in self.programs:
            assert part != NO_PART
            for other, its in self.held.items():
                if other != id_:
                    assert part.offset_ppm + part.ppm <= its.offset_ppm or its.offset_ppm + its.ppm <= part.offset_ppm


TestApart = Apart.TestCase
