"""How a benchmark is carried out and told. Invariant: text and JSON say the same."""

from collections.abc import Callable
from typing import TypeVar

import click
import msgspec

from mica.bench import BenchError

R = TypeVar("R")


def carry_out(work: Callable[[], R]) -> R:
    """The outcome of ``work``; what a benchmark can't do is one line."""
    try:
        return work()
    except BenchError as error:
        raise click.ClickException(f"bench: {error}") from error


def print_report(report: msgspec.Struct, *, as_json: bool, title: str) -> None:
    """A report as JSON, or with one line for each figure."""
    plain = msgspec.to_builtins(report)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(plain), indent=2).decode())
        return
    click.echo(title)
    for name, value in _flatten(plain):
        click.echo(f"  {name:<34} {value}")


def _flatten(value: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name, item in value.items():
        rows += _flatten(item, f"{prefix}{name}.") if isinstance(item, dict) else [(prefix + name, item)]
    return rows
