"""``mica topology``: what is near what on a node. Invariant: it only reads; with ``--file`` it needs no bus."""

from itertools import combinations
from pathlib import Path
from typing import Any

import click

from mica.cli import _documents as documents
from mica.cli._errors import CliError
from mica.cli._session import connected, json_option, run, server_option
from mica.cli._table import show_json
from mica.events import Inventory
from mica.topology import Topology, TopologyError, draw_svg, draw_text, from_inventory, path, read_file

PATH = click.Path(path_type=Path)


@click.command()
@server_option
@json_option
@click.option("--node", metavar="NODE", help="Only this node [all].")
@click.option("--file", "source", type=PATH, help="NCCL's or hwloc's XML, a node file (.toml), or /sys; instead of the bus.")
@click.option("--svg", type=PATH, help="Draw one node into this file.")
def topology(server: str | None, *, as_json: bool, node: str | None, source: Path | None, svg: Path | None) -> None:
    """Draw what is near what: NUMA nodes, PCIe, devices, links."""
    if source is not None and node is not None:
        raise CliError(f"--node {node} with --file {source}; allowed: one of them")
    try:
        found = [read_file(source)] if source is not None else [from_inventory(each) for each in run(_inventories(server, node))]
    except TopologyError as error:
        raise CliError(str(error)) from None
    if svg is not None:
        _write(found, svg)
    if as_json:
        show_json([as_json_value(each) for each in found])
    elif svg is None:
        click.echo("\n\n".join(draw_text(each) for each in found) or "no nodes")


async def _inventories(server: str | None, node: str | None) -> list[Inventory]:
    async with connected(server) as bus:
        found = await documents.inventories(bus)
    if node is None:
        return found
    chosen = [each for each in found if each.node == node]
    if not chosen:
        raise CliError(f"no node {node!r}; there are: {', '.join(each.node for each in found) or 'none'}")
    return chosen


def _write(found: list[Topology], svg: Path) -> None:
    if len(found) != 1:
        raise CliError(f"--svg draws one node, and there are {len(found)}; name it with --node")
    try:
        svg.write_text(draw_svg(found[0]), encoding="utf-8")
    except OSError as error:
        raise CliError(f"{svg}: {error.strerror}") from None


def as_json_value(found: Topology) -> dict[str, Any]:
    """A topology with the path between every two devices."""
    ways = [(a, b, path(found, a.id, b.id)) for a, b in combinations(found.devices, 2)]
    return {
        "node": found.node,
        "source": found.source,
        "numa_nodes": found.numa_nodes,
        "parts": found.parts,
        "links": found.links,
        "paths": [{"a": a.id, "b": b.id, "path": way.label, "bytes_per_s": way.bytes_per_s} for a, b, way in ways],
        "notes": found.notes,
    }
