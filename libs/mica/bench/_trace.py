"""Traces of a GPU-sharing cluster, as Alibaba's are published: nodes, and the pods that came.

Owns the reading of the files. Invariant: a line that makes no sense ends the benchmark with its file, its number and what is
allowed. Nodes: ``openb_node_list_*.csv`` with ``cpu_milli``, ``memory_mib``, ``gpu`` (how many) and ``model``. Pods:
``openb_pod_list_NAME.csv`` with ``cpu_milli``, ``memory_mib``, ``num_gpu``, ``gpu_milli`` (thousandths of each GPU) and
``gpu_spec`` (models joined by a bar, any when it is empty). Over time they have ``creation_time``, ``scheduled_time`` and
``deletion_time``, too, in seconds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from mica.bench._csv_files import number, rows, whole
from mica.bench._errors import BenchError
from mica.packing import Node, PackingError, Shape
from mica.simulation import Fleet, Job

PODS: Final = "openb_pod_list_"
NODE_COLUMNS: Final = ("cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS: Final = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
TIME_COLUMNS: Final = ("creation_time", "scheduled_time", "deletion_time")
WHOLE_MILLI: Final = 1000
"""The memory of a traced GPU is not known: it is counted in thousandths, too."""


class Trace(Struct, frozen=True):
    """One workload: the nodes, how many kinds of GPU there are, and the pods by name."""

    nodes: tuple[Node, ...]
    kinds: int
    pods: tuple[Shape, ...]

    @property
    def capacity_milli(self) -> int:
        """All GPUs, in thousandths of one."""
        return WHOLE_MILLI * sum(len(node.devices) for node in self.nodes)


def workloads(folder: Path) -> list[str]:
    """The names of the workloads in a folder, sorted. Raises BenchError: there is none."""
    names = sorted(path.stem.removeprefix(PODS) for path in folder.glob(f"{PODS}*.csv"))
    if not names:
        raise BenchError(f"{folder}: got no {PODS}NAME.csv, allowed: a folder with at least one, and a node list")
    return names


def read_trace(folder: Path, workload: str) -> Trace:
    """The nodes of a folder, and the pods of one of its workloads. Raises BenchError: a file or a line makes no sense."""
    fleet = read_fleet(folder)
    lines = sorted(rows(_pods(folder, workload), POD_COLUMNS), key=lambda each: each[1]["name"])
    pods = tuple(_pod(where, row, _numbers(fleet.models)) for where, row in lines)
    if not any(pod.devices for pod in pods):
        raise BenchError(f"{folder / PODS}{workload}.csv: got no pod that asks for a GPU, allowed: at least one")
    return Trace(fleet.nodes, len(fleet.models), pods)


def read_fleet(folder: Path) -> Fleet:
    """The nodes of a folder. Raises BenchError, as above."""
    found = sorted(folder.glob("openb_node_list_*.csv"))
    if len(found) != 1:
        raise BenchError(f"{folder}: got {len(found)} files openb_node_list_*.csv, allowed: one")
    listed = list(rows(found[0], NODE_COLUMNS))
    models = tuple(sorted({row["model"] for _, row in listed}))
    nodes = tuple(_node(where, row, _numbers(models)) for where, row in listed)
    if not any(node.devices for node in nodes):
        raise BenchError(f"{found[0]}: got no GPU at all, allowed: at least one")
    return Fleet(nodes, models)


def read_jobs(folder: Path, workload: str, models: Sequence[str]) -> list[Job]:
    """The pods with their own times, in the order of arrival, for a fleet of these models. Raises BenchError, as above.

    A pod comes when it was created, and runs from when it was scheduled (one that never was: created) until it was deleted;
    whoever was deleted last, in the second in which the trace ends, stays.
    """
    path = _pods(folder, workload)
    jobs = [
        (row["name"], *_times_s(where, row), _pod(where, row, _numbers(models)))
        for where, row in rows(path, POD_COLUMNS + TIME_COLUMNS)
    ]
    if not any(shape.devices for *_, shape in jobs):
        raise BenchError(f"{path}: got no pod that asks for a GPU, allowed: at least one")
    last_s = max(end_s for _, _, _, end_s, _ in jobs)
    jobs.sort(key=lambda each: (each[1], each[0]))
    return [Job(arrival_s, None if end_s == last_s else end_s - begin_s, shape) for _, arrival_s, begin_s, end_s, shape in jobs]


def has_times(folder: Path, workload: str) -> bool:
    """Whether the pods of a workload come and go. Raises BenchError: its file can not be read."""
    try:
        next(rows(_pods(folder, workload), TIME_COLUMNS), None)
    except BenchError:
        return False
    return True


def _pods(folder: Path, workload: str) -> Path:
    return folder / f"{PODS}{workload}.csv"


def _numbers(models: Sequence[str]) -> dict[str, int]:
    return {model: kind for kind, model in enumerate(models)}


def _times_s(where: str, row: dict[str, str]) -> tuple[float, float, float]:
    """Created, running from, deleted."""
    arrival_s, end_s = number(where, row, "creation_time"), number(where, row, "deletion_time")
    begin_s = number(where, row, "scheduled_time") if row["scheduled_time"] else arrival_s
    if not arrival_s <= begin_s <= end_s:
        raise BenchError(
            f"{where}: deletion_time: got {end_s:g} after {arrival_s:g} and {begin_s:g}, allowed: no earlier than those"
        )
    return arrival_s, begin_s, end_s


def _node(where: str, row: dict[str, str], models: dict[str, int]) -> Node:
    devices = ((models[row["model"]], WHOLE_MILLI),) * whole(where, row, "gpu", 64)
    return Node(whole(where, row, "cpu_milli", 10**8), whole(where, row, "memory_mib", 10**8), devices)


def _pod(where: str, row: dict[str, str], models: dict[str, int]) -> Shape:
    devices = whole(where, row, "num_gpu", 64)
    milli = min(whole(where, row, "gpu_milli", 10**6), WHOLE_MILLI) if devices else 0
    spec = [model for model in (row.get("gpu_spec") or "").split("|") if model]
    kinds = frozenset(models[model] for model in spec if model in models) if devices and spec else None
    try:
        return Shape(
            whole(where, row, "cpu_milli", 10**8), whole(where, row, "memory_mib", 10**8), devices, milli, milli * 1000, kinds
        )
    except PackingError as error:
        raise BenchError(f"{where}: {error}") from error
