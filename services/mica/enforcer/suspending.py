"""Takes all processes of a slice off their devices, or brings them back: all of them or none.

Runs in a thread, for as long as the driver takes. Invariants: whoever calls again after a crash goes on from where the driver
says that each process is; what does not work is undone, so that the slice runs, or stands still, as a whole.
"""

import logging
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from mica.vendors import Checkpointer, NoSuchProcessError, ProcessStage, VendorError

log = logging.getLogger(__name__)


class Outcome(Struct, frozen=True):
    """What became of it: ``refusal`` says why nothing did, and ``broken`` names processes that are beyond help by now.

    ``took_ns``: how long its two parts took, locking and taking away, or bringing back and unlocking.
    """

    refusal: str = ""
    took_ns: tuple[int, int] = (0, 0)
    away_bytes: int = 0
    broken: frozenset[int] = frozenset()


def suspend(driver: Checkpointer, charged: Mapping[int, int], lock_s: float, monotonic_ns: Callable[[], int]) -> Outcome:
    """Take the processes away; ``charged`` is by pid the device memory that each has, in bytes.

    Locks them all before the first is taken away: what one waits for may be another's work.
    """
    began_ns = monotonic_ns()
    until_ns = began_ns + int(lock_s * 1e9)
    try:
        stages = _stages(driver, charged)
        strangers = [pid for pid, held in charged.items() if held and pid not in stages]
        if strangers:
            return Outcome(f"process {strangers[0]} holds {charged[strangers[0]]} bytes, but the driver does not know it")
        for pid, stage in stages.items():
            if stage is ProcessStage.RUNNING:
                _alive(driver, driver.lock, ProcessStage.LOCKED, pid, max(1, (until_ns - monotonic_ns()) // 1_000_000))
        locked_ns = monotonic_ns()
        for pid, stage in stages.items():
            if stage in (ProcessStage.RUNNING, ProcessStage.LOCKED):
                _alive(driver, driver.take_away, ProcessStage.AWAY, pid)
    except VendorError as error:
        undone = resume(driver, charged, monotonic_ns)
        return Outcome(f"{error}{f'; then {undone.refusal}' if undone.refusal else ''}", broken=undone.broken)
    broken = _broken(stages)
    if broken:
        undone = resume(driver, charged, monotonic_ns)
        return Outcome(_broken_text(broken), broken=broken | undone.broken)
    took_ns = (locked_ns - began_ns, monotonic_ns() - locked_ns)
    return Outcome(away_bytes=sum(charged[pid] for pid in stages), took_ns=took_ns)


def resume(driver: Checkpointer, pids: Iterable[int], monotonic_ns: Callable[[], int]) -> Outcome:
    """Bring the processes back and let them go on; where one does not fit, those that did go away again."""
    began_ns, back = monotonic_ns(), list[int]()
    try:
        stages = _stages(driver, pids)
        for pid, stage in stages.items():
            if stage is ProcessStage.AWAY and _alive(driver, driver.bring_back, ProcessStage.LOCKED, pid):
                back.append(pid)
    except VendorError as error:
        for pid in back:
            try:
                _alive(driver, driver.take_away, ProcessStage.AWAY, pid)
            except VendorError as again:
                log.warning("process %d stays on its device, locked: %s", pid, again)
        return Outcome(str(error))
    back_ns = monotonic_ns()
    try:
        for pid, stage in stages.items():
            if stage in (ProcessStage.AWAY, ProcessStage.LOCKED):
                _alive(driver, driver.unlock, ProcessStage.RUNNING, pid)
    except VendorError as error:
        return Outcome(str(error))
    return Outcome(broken=_broken(stages), took_ns=(back_ns - began_ns, monotonic_ns() - back_ns))


def _stages(driver: Checkpointer, pids: Iterable[int]) -> dict[int, ProcessStage]:
    """Of those that the driver knows."""
    found: dict[int, ProcessStage] = {}
    for pid in pids:
        try:
            found[pid] = driver.stage(pid)
        except NoSuchProcessError:
            continue
    return found


def _alive(driver: Checkpointer, step: Callable[..., None], wanted: ProcessStage, pid: int, *more: int) -> bool:
    """Take the step, unless its process has ended: then there is nothing to take it for.

    Whoever asked for it before may have been killed while the driver was at it: then it is done, and not possible once more.
    """
    try:
        step(pid, *more)
    except NoSuchProcessError:
        return False
    except VendorError:
        if _stages(driver, (pid,)).get(pid) is not wanted:
            raise
    return True


def _broken(stages: Mapping[int, ProcessStage]) -> frozenset[int]:
    return frozenset(pid for pid, stage in stages.items() if stage is ProcessStage.BROKEN)


def _broken_text(pids: Iterable[int]) -> str:
    return f"the driver gave up on {', '.join(f'process {pid}' for pid in sorted(pids))}"
