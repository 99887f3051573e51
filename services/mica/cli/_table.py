"""Listings as text that pipes and pastes well. Invariant: a cell is never cut."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, two spaces apart."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def show_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Print a table, or ``empty`` when it has no row."""
    click.echo(table(head, rows) if rows else empty)


def show_json(value: Any) -> None:
    """Print events, documents and what is made of them as one JSON text, two spaces deep."""
    click.echo(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))
