"""Policies as text and as JSON. Invariant: both say the same."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mica.bus import Version
from mica.cli._policies import NOT_SET, Held
from mica.cli._quantities import show_bytes
from mica.cli.commands.listing import age
from mica.events import EventError
from mica.policy import Difference, Policy, differences, fields_of

AS_GIVEN: Final = "as given"


def change_row(held: Held, numbers: tuple[int, int], before: Policy | None, after: Policy | None) -> dict[str, Any]:
    """Two states of a key and what they differ in; a number of 0 is no version."""
    return {
        "key": held.key,
        "before": {"version": numbers[0], "set": before is not None},
        "after": {"version": numbers[1], "set": after is not None},
        "differences": differences(before, after),
    }


def change_lines(row: dict[str, Any]) -> list[str]:
    """``pool.a: version 17 -> version 21``, then a line for each field."""
    sides = []
    for side in (row["before"], row["after"]):
        number = side["version"]
        unset = f"{NOT_SET} (version {number})" if number else NOT_SET
        sides.append((f"version {number}" if number else AS_GIVEN) if side["set"] else unset)
    lines = [f"  {difference_line(each)}" for each in row["differences"]]
    return [f"{row['key']}: {sides[0]} -> {sides[1]}", *(lines or ["  no field differs"])]


def difference_line(difference: Difference) -> str:
    """``quota.slices: 8 -> -``."""
    field = difference.field
    return f"{field}: {show_value(field, difference.before)} -> {show_value(field, difference.after)}"


def show_value(field: str, value: Any) -> str:
    """A field's value; ``-`` where nothing is said."""
    if value is None:
        return "-"
    if value == []:
        return "all"
    if isinstance(value, list):
        return ",".join(str(each) for each in value) if not isinstance(value[0], dict) else f"{len(value)}, see --json"
    if isinstance(value, bool):
        return str(value).lower()
    return show_bytes(value) if field.endswith("_bytes") else str(value)


def version_row(held: Held, version: Version) -> dict[str, Any]:
    """One version with its document; ``error`` says why there is none."""
    try:
        policy, error = held.value(version), ""
    except EventError as failure:
        policy, error = None, str(failure)
    return {
        "key": held.key,
        "version": version.revision,
        "at": version.at,
        "by": version.note.author,
        "message": version.note.message,
        "set": version.data is not None,
        "policy": policy,
        "error": error,
    }


def history_rows(held: Held) -> list[dict[str, Any]]:
    """Every version, oldest first, with what it changed."""
    rows: list[dict[str, Any]] = []
    before: Policy | None = None
    for index, version in enumerate(held.versions):
        row = version_row(held, version)
        row["differences"] = [] if row["error"] else differences(before, row["policy"])
        row["change"] = _change(row, first=index == 0)
        if not row["error"]:
            before = row["policy"]
        rows.append(row)
    return rows


def _change(row: dict[str, Any], *, first: bool) -> str:
    if row["error"]:
        return f"can not be read: {row['error']}"
    if not row["set"]:
        return "unset"
    said = "; ".join(difference_line(each) for each in row["differences"])
    return said or ("set to the defaults" if first else "no field differs")


def history_lines(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The cells of ``mica policy history``."""
    return [
        (str(row["version"]), age(row["at"]), row["by"] or "-", row["message"] or "-", row["change"])
        for row in rows
    ]  # fmt: skip


def policy_lines(policy: Policy) -> list[tuple[str, ...]]:
    """Every field with its value, and whether that is the default."""
    usual = fields_of(type(policy)())
    return [
        (field, show_value(field, value), "default" if value == usual.get(field) else "")
        for field, value in fields_of(policy).items()
    ]


def compact(policy: Policy | None) -> str:
    """The fields that are not at their default, in one line of JSON."""
    return msgspec.json.encode(policy).decode() if policy is not None else NOT_SET
