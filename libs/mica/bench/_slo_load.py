"""The requests of ``mica bench slo``: from the Azure LLM inference trace, or a Poisson stream of a built-in mix.

Owns what a request costs. Invariant: pure but for reading the file; the same arguments always give the same requests.
"""

import csv
import random
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

from msgspec import Struct

from mica.bench._errors import BenchError

SHARES_PPM: Final = (990_000, 10_000)
"""Of the server and the flood: a scavenger, with a floor that it has whatever the server wants."""
NS_PER_S: Final = 1_000_000_000
PROMPT_TOKENS_PER_KERNEL: Final = 512
COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
MIX: Final = ((6, 256, 12), (3, 1500, 25), (1, 6000, 120))
"""Weight, mean prompt and mean answer (tokens): completions, chat, and a few long ones."""
SEED: Final = 7


class Request(Struct, frozen=True):
    """One request: when it arrives after the beginning (ns), the kernels of its prompt, and the tokens of its answer."""

    at_ns: int
    prefills: int
    tokens: int


class Load(Struct, frozen=True, kw_only=True):
    """A stream of requests and where it is from."""

    source: str
    requests: tuple[Request, ...]
    seconds: float

    @property
    def rate_hz(self) -> float:
        """Requests a second, over the whole."""
        return len(self.requests) / self.seconds

    def text(self) -> str:
        """As the inference server reads it."""
        return "".join(f"{each.at_ns} {each.prefills} {each.tokens}\n" for each in self.requests)


def poisson(rate_hz: float, seconds: float, seed: int = SEED) -> Load:
    """Arrivals at random moments, of a built-in mix."""
    chance = random.Random(seed)  # noqa: S311 - arrivals, not secrets
    weights = [weight for weight, _, _ in MIX]
    found = []
    at_s = chance.expovariate(rate_hz)
    while at_s < seconds:
        _, prompt, answer = chance.choices(MIX, weights)[0]
        tokens = 1 + int(chance.expovariate(1 / answer))
        found.append(Request(int(at_s * NS_PER_S), kernels_of(chance.expovariate(1 / prompt)), tokens))
        at_s += chance.expovariate(rate_hz)
    return Load(source=f"Poisson, seed {seed}", requests=tuple(found), seconds=seconds)


def from_trace(path: Path, rate_hz: float, seconds: float, skip: int = 0) -> Load:
    """The trace's requests from the ``skip``-th on, its gaps shortened or lengthened evenly so that the mean rate is as asked.

    Raises:
        BenchError: the file is no such trace, or has too few requests.
    """
    count = max(2, round(rate_hz * seconds))
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))[skip : skip + count]
        moments = [datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp() for row in rows]
        costs = [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BenchError(f"{path}: no trace with the columns {', '.join(COLUMNS)}: {error}") from None
    if len(rows) < count:
        raise BenchError(f"{path}: {len(rows)} requests from number {skip} on, {count} are needed")
    return Load(
        source=f"{path.name}, requests {skip} to {skip + count - 1}", requests=scaled(moments, costs, seconds), seconds=seconds
    )


def scaled(moments: Sequence[float], costs: Sequence[tuple[int, int]], seconds: float) -> tuple[Request, ...]:
    """The requests over so many seconds, all gaps in the same proportion."""
    first, span = moments[0], moments[-1] - moments[0]
    if span <= 0 or any(later < sooner for sooner, later in pairwise(moments)):
        raise BenchError("the trace's moments do not grow")
    return tuple(
        Request(int((moment - first) / span * seconds * NS_PER_S), kernels_of(prompt), max(1, answer))
        for moment, (prompt, answer) in zip(moments, costs, strict=True)
    )


def kernels_of(prompt_tokens: float) -> int:
    """The kernels of a prompt's prefill."""
    return max(1, round(prompt_tokens / PROMPT_TOKENS_PER_KERNEL))
