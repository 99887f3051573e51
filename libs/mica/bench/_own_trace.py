"""Work and fleets as one writes them oneself: a CSV file of arrivals, and a mix of the ready-made nodes.

Owns both formats. Invariant: a column, a model or a node that nobody knows is told in one line, never passed over.

Arrivals: ``arrival_s``, ``duration_s`` (empty: until the end), ``devices`` (0: none) and ``share_milli`` (thousandths of each
device); and, where wanted, ``vram_mib`` (of each device), ``cpu_milli``, ``memory_mib`` (of the node) and ``models`` (joined by a
bar; empty: any). A mix: ``NAME=COUNT`` joined by commas, of ready-made nodes or paths of node files.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from mica.bench._csv_files import Row, number, rows, whole
from mica.bench._errors import BenchError
from mica.hardware import Catalogue, NodeFile, NodeFileError, find_node
from mica.packing import Node, PackingError, Shape
from mica.simulation import Fleet, Job

COLUMNS: Final = ("arrival_s", "duration_s", "devices", "share_milli")
MORE_COLUMNS: Final = ("vram_mib", "cpu_milli", "memory_mib", "models")
NODES_MAX: Final = 100_000
MIB: Final = 1 << 20


class Host(Struct, frozen=True, kw_only=True):
    """CPU (hardware threads) and host memory for each device of a node whose file does not say what it has."""

    cpus: int = 32
    memory_mib: int = 128 << 10


def read_work(path: Path, models: Sequence[str]) -> list[Job]:
    """The pieces of work of a CSV file, for a fleet of ``models``, in the order of arrival.

    Raises:
        BenchError: the file, a line or a column makes no sense, or a model is in no catalogue.
    """
    known = set(models) | set(Catalogue.load().models)
    numbers = {model: kind for kind, model in enumerate(models)}
    jobs = []
    for where, row in rows(path, COLUMNS):
        odd = [column for column in row if column not in COLUMNS + MORE_COLUMNS]
        if odd:
            got = f"column {odd[0]!r}" if odd[0] else "more cells than columns"
            raise BenchError(f"{where}: got {got}, allowed: {', '.join(COLUMNS + MORE_COLUMNS)}")
        jobs.append(_job(where, row, known, numbers))
    if not jobs:
        raise BenchError(f"{path}: got no piece of work, allowed: at least one")
    return sorted(jobs, key=lambda job: job.arrival_s)


def _job(where: str, row: Row, known: set[str], numbers: dict[str, int]) -> Job:
    devices = whole(where, row, "devices", 64)
    wanted = [model for model in (row.get("models") or "").split("|") if model]
    unknown = sorted(set(wanted) - known)
    if unknown:
        raise BenchError(f"{where}: models: got {unknown[0]!r}, allowed: {', '.join(sorted(known))}")
    share_milli = whole(where, row, "share_milli", 1000) if devices else 0
    if devices and not share_milli:
        raise BenchError(f"{where}: share_milli: got 0, allowed with devices: 1 to 1000")
    try:
        shape = Shape(
            cpu_milli=whole(where, row, "cpu_milli", 10**8),
            memory_mib=whole(where, row, "memory_mib", 10**8),
            devices=devices,
            vram_mib=whole(where, row, "vram_mib", (1 << 24) - 1) if devices else 0,
            share_ppm=1000 * share_milli,
            kinds=frozenset(numbers[model] for model in wanted if model in numbers) if devices and wanted else None,
        )
    except PackingError as error:
        raise BenchError(f"{where}: {error}") from error
    return Job(number(where, row, "arrival_s"), number(where, row, "duration_s") if row["duration_s"] else None, shape)


def read_mix(text: str, host: Host) -> tuple[Fleet, list[str]]:
    """The nodes of a mix, and the names of those whose files do not say all, so that ``host`` stands for it.

    Raises:
        BenchError: it is no mix, or a node is not known.
    """
    counted = [_counted(part) for part in text.split(",")]
    if sum(count for _, count in counted) > NODES_MAX:
        raise BenchError(f"nodes: got {sum(count for _, count in counted)}, allowed: at most {NODES_MAX}")
    try:
        files = [(name, NodeFile.load(find_node(Path(name))), count) for name, count in counted]
    except NodeFileError as error:
        raise BenchError(f"nodes: {error}") from error
    models = tuple(sorted({device.model.key for _, file, _ in files for device in file.devices()}))
    nodes = [node for _, file, count in files for node in (_node(file, models, host),) * count]
    return Fleet(tuple(nodes), models), sorted({name for name, file, _ in files if not (file.cpus and file.memory_gib)})


def _node(file: NodeFile, models: Sequence[str], host: Host) -> Node:
    devices = tuple((models.index(device.model.key), device.model.usable_bytes // MIB) for device in file.devices())
    cpus, memory_mib = file.cpus or host.cpus * len(devices), file.memory_gib << 10 or host.memory_mib * len(devices)
    return Node(1000 * cpus, memory_mib, devices)


def _counted(part: str) -> tuple[str, int]:
    name, _, count = part.strip().rpartition("=")
    if not name or not count.isdecimal() or not 0 < int(count) <= NODES_MAX:
        raise BenchError(f"nodes: got {part!r}, allowed: NAME=COUNT joined by commas, as in dgx-a100=10,mi300x-8=5")
    return name, int(count)
