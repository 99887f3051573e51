"""A house whose slices lie scattered, and a look at what repacking makes of it. Invariant: nothing depends on time."""

import asyncio
from typing import Any

from planner_house import GIB, House, ask, l4, quiet

from mica.events import (
    Automation,
    Inventory,
    Mode,
    ObservedState,
    Phase,
    PoolPolicy,
    PoolRepacked,
    ReleaseSlice,
    Repacking,
    RepackPool,
    RepackState,
    SliceRecord,
    StepState,
    Tier,
)

NAMES = "abcd"
ALL = tuple(Tier)


def row(node: str = "n1", devices: str = NAMES, pool: str = "default") -> Inventory:
    """A node of L4s, named by letters."""
    return Inventory(
        node=node, pool=pool, boot_id="b1", devices=tuple(l4(f"{node}-{name}", index) for index, name in enumerate(devices))
    )


def policy(mode: Automation = Automation.OFF, **more: Any) -> PoolPolicy:
    """Everything may move, at once."""
    return PoolPolicy(repacking=Repacking(**{"mode": mode, "tiers": ALL, "rest_s": 0.0, "min_gain": 0.0, **more}))


async def put(house: House, id_: str, device: str, gib: int = 4, *, used_gib: int = 0, **more: Any) -> None:
    """A slice on a device of node n1, while those before it are filled up."""
    fillers = [name for name in NAMES if name < device]
    for name in fillers:
        await house.send(ask(f"filler-{id_}-{name}", free_of(house, name), tenant="filler", mode=Mode.FCSP, share_ppm=1))
    await house.send(ask(id_, gib, **{"mode": Mode.FCSP, "share_ppm": 100_000, **more}))
    for name in fillers:
        await house.send(ReleaseSlice(id=f"filler-{id_}-{name}"))
    if used_gib:
        house.enforcers["n1"].used[f"n1-{device}", id_] = used_gib * GIB
        await house.settle()
    assert on(await record(house, id_)) == [f"n1-{device}"], (id_, device, (await record(house, id_)).placements)


def free_of(house: House, name: str) -> float:
    """GiB that are free on a device."""
    slices = house.enforcers["n1"].observed.devices.get(f"n1-{name}", {})
    return 22.5 - sum(each.vram_bytes for each in slices.values()) / GIB


async def record(house: House, id_: str) -> SliceRecord:
    entry = await house.bus.state.get(f"slice.{id_}", SliceRecord)
    assert entry is not None
    return entry.value


def on(placed: SliceRecord) -> list[str]:
    assert placed.phase is Phase.PLACED
    return [placement.device_id for placement in placed.placements]


async def plan(house: House, **more: Any) -> Any:
    """The answer to a ``slice.repack``: a plan, or a refusal."""
    sequence = await house.bus.publish(RepackPool(**{"pool": "default", "tiers": ALL, **more}))
    return await answer(house, sequence)


async def answer(house: House, sequence: int) -> Any:
    """The search works in a thread: it is waited for in real time, but nothing hangs on how long it takes."""
    async with asyncio.timeout(60):
        while True:
            await quiet(10)
            found = house.said(f"slice.repacked.{sequence}") + house.said(f"slice.refused.{sequence}")
            if found:
                return found[0]
            await asyncio.sleep(0.005)


async def state(house: House, pool: str = "default") -> RepackState:
    entry = await house.bus.state.get(f"repack.{pool}", RepackState)
    return entry.value if entry is not None else RepackState(pool=pool)


async def carry_out(house: House, seconds: int = 20, pool: str = "default") -> list[StepState]:
    """Let time pass until no step of a plan is open, or ``seconds`` are over; how its steps stand then."""
    for _ in range(seconds):
        await let_pass(house, 1)
        steps = (await state(house, pool)).steps
        if steps and all(each.state not in (StepState.WAITING, StepState.SENT) for each in steps):
            break
    return [each.state for each in (await state(house, pool)).steps]


async def let_pass(house: House, seconds: int) -> None:
    """Let time pass, second by second; programs that must end do, and a search that is under way is waited for."""
    for _ in range(seconds):
        await house.pass_time(1.0)
        await asyncio.sleep(0.005)
        for enforcer in house.enforcers.values():
            for device, id_ in list(enforcer.used):
                seen = enforcer.observed.devices.get(device, {}).get(id_)
                if seen is not None and seen.state is ObservedState.DRAINING:
                    del enforcer.used[device, id_]
        await house.settle(2)


def plans(house: House) -> list[PoolRepacked]:
    """Every plan that was told."""
    return house.said("slice.repacked.*")
