"""CSV files that others wrote. Invariant: what can not be read ends the benchmark with the file, what it has, what is allowed."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from mica.bench._errors import BenchError

Row = dict[str, str]


def rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """Each row, and where it stands. Raises BenchError: the file can not be read, or one of ``columns`` is missing."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise BenchError(f"{path}: got no column {missing[0]!r}, allowed: {', '.join(columns)}")
            for number, row in enumerate(reader, start=2):
                yield f"{path}:{number}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BenchError(f"{path}: got {error}, allowed: a CSV file that can be read") from error


def number(where: str, row: Row, column: str) -> float:
    """What a column says. Raises BenchError: it is no finite number from 0 on."""
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise BenchError(f"{where}: {column}: got {row[column]!r}, allowed: a finite number from 0 on")
    return value


def whole(where: str, row: Row, column: str, most: int) -> int:
    """The same of a whole number up to ``most``; one that is left empty is 0."""
    text = row.get(column) or "0"
    if not text.isdecimal() or int(text) > most:
        raise BenchError(f"{where}: {column}: got {text!r}, allowed: a whole number up to {most}")
    return int(text)
