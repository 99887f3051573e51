"""A site as an integer programme: which slices go to which devices, so that what the devices are worth less the moves is most.

Owns the model. Invariant: it leaves out only what makes plans fewer (the order of moves, gaps between windows, groups of
devices), so that its bound holds for every plan of moves; whether its answer can be carried out is for ``repacking`` to try.

Unknowns are where each slice goes (its slots, too, in hardware), in which mode a device is, whether it is empty, and the largest
slice that it could still take.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mica.events import Mode, Partition, PartitionProfile
from mica.planner.domain.claims import DeviceClaims
from mica.planner.domain.packing import PPM
from mica.planner.domain.partitions import Geometry, needs, occupied
from mica.planner.domain.programmes import Programme, Row, total
from mica.planner.domain.repack_sites import Candidate, Site
from mica.planner.domain.repack_values import usable_bytes, value

LIMIT_S: Final = 4.0


class Spot(Struct, frozen=True):
    """A slice on a device in one way. ``row`` plus ``constant`` is 1 where it is there: a column, or one less all the others."""

    slice_id: str
    mode: Mode
    vram_bytes: int
    share_ppm: int
    row: Row
    constant: float = 0.0
    partition: Partition | None = None


class Assignment(Struct, frozen=True):
    """Moves in no order, and the most that any that was not cut off can gain."""

    moves: frozenset[Candidate]
    bound: float


class Model:
    """One site's programme. ``among``: only these moves, where somebody else has chosen them."""

    def __init__(self, site: Site, among: Collection[Candidate] | None = None, limit_s: float = LIMIT_S) -> None:
        self._site = site
        self._programme = Programme(limit_s)
        self._bare = site.bare()
        self._moves: dict[Candidate, int] = {}
        self._spots: dict[str, list[Spot]] = {device_id: [] for device_id in site.devices}
        self._constant = -sum(value(site.claims(device_id)) for device_id in site.devices)
        for slice_id in sorted(site.movables):
            self._add_slice(slice_id, among)
        self._budget = self._programme.at_most(0, dict.fromkeys(self._moves.values(), 1.0))
        for device_id in site.devices:
            _DeviceModel(self._programme, self._bare.claims(device_id), self._spots[device_id]).add()
            if not self._spots[device_id]:
                self._constant += value(self._bare.claims(device_id))
        self._keep_apart()
        self._begin_somewhere()

    @property
    def candidates(self) -> Collection[Candidate]:
        """Every move that is not ruled out from the start."""
        return self._moves.keys()

    @property
    def seconds(self) -> float:
        """What the solver has taken so far."""
        return self._programme.seconds

    def best(self, moves_max: int) -> Assignment | None:
        """The best assignment that was not cut off, or None where there is none, or none was found in time."""
        self._programme.change_limit(self._budget, moves_max)
        answer = self._programme.solve()
        moves = frozenset(each for each, column in self._moves.items() if column in answer.ones)
        return Assignment(moves, self._constant - answer.bound) if answer.found else None

    def cut(self, moves: Collection[Candidate]) -> None:
        """Never give this very assignment again."""
        row = {column: 1.0 if each in moves else -1.0 for each, column in self._moves.items()}
        self._programme.at_most(len(moves) - 1, row)

    def cut_stuck(self, moves: Collection[Candidate]) -> None:
        """Never give these moves, which can't all be made, together again, unless another slice leaves where one of them goes."""
        slices, targets = {each.slice_id for each in moves}, {each.device_id for each in moves}
        row = {self._moves[each]: 1.0 for each in moves}
        for each, column in self._moves.items():
            if each.slice_id not in slices and self._site.movables[each.slice_id].placement.device_id in targets:
                row[column] = -1.0
        self._programme.at_most(len(moves) - 1, row)

    def _add_slice(self, slice_id: str, among: Collection[Candidate] | None) -> None:
        movable, columns = self._site.movables[slice_id], []
        here = movable.placement
        for device_id in self._site.devices:
            to_device = Candidate(slice_id, device_id)
            if device_id == here.device_id or (among is not None and to_device not in among):
                continue
            for candidate, partition in self._ways(to_device) if self._bare.where(to_device) is not None else ():
                column = self._moves[candidate] = self._programme.column(movable.cost)
                columns.append(column)
                spot = Spot(slice_id, here.mode, here.vram_bytes, here.share_ppm, {column: 1.0}, partition=partition)
                self._spots[device_id].append(spot)
        if columns:
            self._programme.at_most(1, dict.fromkeys(columns, 1.0))
        stays = dict.fromkeys(columns, -1.0)
        spot = Spot(slice_id, here.mode, here.vram_bytes, here.share_ppm, stays, 1.0, here.partition)
        self._spots[here.device_id].append(spot)

    def _ways(self, to_device: Candidate) -> Iterator[tuple[Candidate, Partition | None]]:
        """In how many ways it can be there: one, or one for each slot at which its profile can be beside what does not move."""
        now = self._site.movables[to_device.slice_id].placement.partition
        claims = self._bare.claims(to_device.device_id)
        if now is None or claims.device is None:
            yield to_device, None
            return
        geometry = claims.geometry(claims.device)
        keys, mask = occupied(partition for claim in claims.claims.values() for partition in claim.partitions)
        profile = geometry.by_id.get(now.profile_id)
        for start in geometry.starts(keys, mask, profile) if profile is not None else ():
            yield replace(to_device, start=start), replace(now, start=start, uuid="")

    def _begin_somewhere(self) -> None:
        """Some move has to be the first, and so must be possible on the node as it is."""
        first = self._programme.column(whole=False)
        now = {each: self._site.where(each) is not None for each in self._moves}
        self._programme.at_most(0, {first: 1.0} | {column: -1.0 for each, column in self._moves.items() if now[each]})
        for each, column in self._moves.items():
            if not now[each]:
                self._programme.at_most(0, {column: 1.0, first: -1.0})

    def _keep_apart(self) -> None:
        """No slice goes to where another of its group is, or goes."""
        records = {id_: movable.record for id_, movable in self._site.movables.items()}
        for candidate, column in self._moves.items():
            request = records[candidate.slice_id].request
            for spot in self._spots[candidate.device_id] if request.apart is not None else ():
                other = records[spot.slice_id].request
                if spot.slice_id != candidate.slice_id and (other.tenant, other.apart) == (request.tenant, request.apart):
                    row = total([({column: 1.0}, 1.0), (spot.row, 1.0)])
                    self._programme.at_most(1 - spot.constant, row)


class _DeviceModel:
    """The rows of one device: what fits on it, whether it is empty, and its largest slice left."""

    def __init__(self, programme: Programme, fixed: DeviceClaims, spots: list[Spot]) -> None:
        self._programme = programme
        self._fixed = fixed
        self._spots = spots
        self._modes: dict[Mode, int] = {}
        self._empty: int | None = None

    def add(self) -> None:
        """All of them; a device on which nothing can change has none."""
        device = self._fixed.device
        if not self._spots or device is None:
            return
        programme, mode = self._programme, self._fixed.mode("")
        modes = {spot.mode for spot in self._spots}
        if mode is None:
            self._empty = programme.column(-1.0, whole=False)
            self._modes = {each: programme.column() for each in sorted(modes)}
            programme.at_most(1, dict.fromkeys([self._empty, *self._modes.values()], 1.0))
            for spot in self._spots:
                programme.at_most(-spot.constant, total([(spot.row, 1.0), ({self._modes[spot.mode]: 1.0}, -1.0)]))
        room = programme.column(-1.0, whole=False)
        if (modes | ({mode} if mode is not None else set())) - {Mode.HARDWARE}:
            self._add_sums(room)
        if Mode.HARDWARE in modes or mode is Mode.HARDWARE:
            _SlotModel(programme, self._fixed, [spot for spot in self._spots if spot.mode is Mode.HARDWARE]).add(
                {room: 1.0} | {column: -1.0 for each, column in self._modes.items() if each is not Mode.HARDWARE}
                | ({self._empty: -1.0} if self._empty is not None else {})
            )  # fmt: skip

    def _add_sums(self, room: int) -> None:
        """Memory and compute, in parts of the device; what is left of the scarcer is its room."""
        usable = max(1, usable_bytes(self._fixed))
        spots = [spot for spot in self._spots if spot.mode is not Mode.HARDWARE]
        for fixed, sizes in (
            (self._fixed.vram_bytes / usable, [spot.vram_bytes / usable for spot in spots]),
            (self._fixed.share_ppm / PPM, [spot.share_ppm / PPM for spot in spots]),
        ):
            stays = sum(spot.constant * size for spot, size in zip(spots, sizes, strict=True))
            row = total([({room: 1.0}, 1.0), *((spot.row, size) for spot, size in zip(spots, sizes, strict=True))])
            self._programme.at_most(1 - fixed - stays, row)


class _SlotModel:
    """The slots of a device, with one more instance that could still be made: the largest is its room."""

    def __init__(self, programme: Programme, fixed: DeviceClaims, spots: list[Spot]) -> None:
        self._programme = programme
        device = fixed.device
        assert device is not None
        self._geometry: Geometry = fixed.geometry(device)
        taken = [partition for claim in fixed.claims.values() for partition in claim.partitions]
        self._uses = [(spot.row, spot.constant, spot.partition) for spot in spots if spot.partition is not None]
        self._uses += [
            ({}, 1.0, Partition(profile="", profile_id=id_, start=start, size=size)) for id_, start, size in occupied(taken)[0]
        ]

    def add(self, room: Row) -> None:
        """``room`` is what its room is, less what makes slots of no matter."""
        programme, by_id = self._programme, self._geometry.by_id
        largest = max((each.vram_bytes for each in self._geometry.profiles), default=1)
        row = dict(room)
        for profile in self._geometry.profiles:
            for start in profile.starts if "+" not in profile.name else ():
                column = programme.column()
                row[column] = -profile.vram_bytes / largest
                made = Partition(profile=profile.name, profile_id=profile.profile_id, start=start, size=profile.size)
                self._uses.append(({column: 1.0}, 0.0, made))
        programme.at_most(0, row)
        programme.at_most(1, {column: 1.0 for column in row if column not in room})
        for slot in range(max((each.start + each.size for _, _, each in self._uses), default=0)):
            self._limit(1, ((use, 1.0) for use in self._uses if use[2].start <= slot < use[2].start + use[2].size))
        known = [(use, by_id[use[2].profile_id]) for use in self._uses if use[2].profile_id in by_id]
        plain = [(use, profile) for use, profile in known if not profile.layout]
        if self._geometry.compute_slices:
            self._limit(self._geometry.compute_slices, ((use, profile.compute_slices) for use, profile in plain))
        for name, budget in self._geometry.budgets.items():
            self._limit(budget, ((use, needs(profile).get(name, 0)) for use, profile in plain))
        for profile in self._geometry.profiles:
            self._limit(profile.max_instances, ((use, 1.0) for use, each in known if each is profile))
        self._one_layout(known)

    def _one_layout(self, known: "list[tuple[_Use, PartitionProfile]]") -> None:
        layouts = {profile.layout for _, profile in known}
        if len(layouts) < 2:
            return
        columns = {layout: self._programme.column() for layout in sorted(layouts)}
        self._programme.at_most(1, dict.fromkeys(columns.values(), 1.0))
        for use, profile in known:
            self._limit(0, [(use, 1.0), (({columns[profile.layout]: 1.0}, 0.0, use[2]), -1.0)])

    def _limit(self, limit: float, uses: "Iterable[tuple[_Use, float]]") -> None:
        """No more than ``limit`` of something, of which every use takes so much."""
        uses = [(use, weight) for use, weight in uses if weight]
        row = total((use[0], weight) for use, weight in uses)
        if row:
            self._programme.at_most(limit - sum(use[1] * weight for use, weight in uses), row)


_Use = tuple[Row, float, Partition]
"""When an instance is there (row and constant, as in ``Spot``), and where."""
