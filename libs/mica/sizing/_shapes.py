"""What a model is made of: from the table of well-known ones, or from a profile's own numbers.

Invariant: a shape's ``parameters`` is never 0. Everything that is not in the profile or the table is said.
"""

import re
from functools import cache
from importlib.resources import files
from threading import Lock
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mica.events import Profile, WorkloadKind
from mica.sizing._answers import Unsizable

ASPECT: Final = 128
"""Hidden width by layers, of a model of which only the parameters are known; 93 to 128 in Llama and Mistral."""
DEFAULT_HEAD_DIM: Final = 128
_ENDINGS: Final = re.compile(r"(-(instruct|chat|hf|it|base|awq|gptq|fp8|int4|int8|v0\.\d|4k|8k|128k))+$")
_READING: Final = Lock()


class Shape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model's dimensions, as in ``models.toml``; ``layers`` is 0 of what is no transformer."""

    parameters: int
    layers: int = 0
    hidden: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    intermediate: int = 0
    vocabulary: int = 0
    positions: int = 0
    experts: int = 1
    active: int = 1
    gated: bool = True
    tied: bool = False
    tokens: int = 0
    flops: float = 0.0
    activations: int = 0

    @property
    def embedding(self) -> int:
        """Parameters of the input and the output layer, which quantisation leaves as they are."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + self.positions * self.hidden

    @property
    def active_parameters(self) -> int:
        """Parameters that one token meets: without the embedding, which is looked up, and the experts that it does not use."""
        idle = self.layers * (self.experts - self.active) * expert_parameters(self)
        looked_up = self.vocabulary * self.hidden if not self.tied else 0
        return max(1, self.parameters - idle - looked_up)


Known = dict[WorkloadKind, dict[str, Shape]]


def known_models() -> Known:
    """The shipped table, read once, whichever thread asks first."""
    with _READING:
        return _read()


@cache
def _read() -> Known:
    return msgspec.toml.decode(files("mica.sizing").joinpath("models.toml").read_bytes(), type=Known)


def plain_name(model: str) -> str:
    """A model's name without its publisher, case and variant: ``meta-llama/Meta-Llama-3.1-8B-Instruct`` is ``llama-3.1-8b``."""
    name = model.strip().lower().rpartition("/")[2].removeprefix("meta-")
    return name if any(name in shapes for shapes in known_models().values()) else _ENDINGS.sub("", name)


def expert_parameters(shape: Shape) -> int:
    """Of one feed-forward block of one layer."""
    return (3 if shape.gated else 2) * shape.hidden * shape.intermediate


def count_parameters(shape: Shape) -> int:
    """Parameters of a transformer by its dimensions.

    Attention has four matrices (Vaswani et al., 2017; with grouped keys and values, Ainslie et al., 2023), a feed-forward block
    two or three (Shazeer, 2020). Biases are counted only where ``gated`` is false, as in BERT and GPT-2. Error: within
    0.7 % of every transformer in the table, within 0.01 % of those with gates (docs/guides/sizing.md).
    """
    attention = shape.hidden * shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads)
    router = shape.hidden * shape.experts if shape.experts > 1 else 0
    biases = 0 if shape.gated else 5 * shape.hidden + shape.intermediate
    norms = (2 if shape.gated else 4) * shape.hidden
    layer = attention + shape.experts * expert_parameters(shape) + router + biases + norms
    return shape.embedding + shape.layers * layer + shape.hidden


def shape_of(profile: Profile) -> tuple[WorkloadKind, Shape, tuple[str, ...]] | Unsizable | None:
    """What the profile's model is and is made of, with what was assumed; None where the profile says nothing of it.

    The profile's own numbers go before the table's.
    """
    name = plain_name(profile.model) if profile.model else ""
    kind, shape = next(((k, shapes[name]) for k, shapes in known_models().items() if name in shapes), (None, None))
    own = {each: value for each in _OWN if (value := getattr(profile, each)) is not None}
    if shape is None and not own:
        return None
    kind = profile.kind or kind or (WorkloadKind.LLM if own.keys() - {"parameters"} else None)
    if kind is None or kind is WorkloadKind.OTHER:
        allowed = ", ".join(each for each in WorkloadKind if each is not WorkloadKind.OTHER)
        return Unsizable("profile.kind", str(kind or "nothing"), f"one of {allowed}, to size a model by its parameters")
    if shape is not None:
        changed = replace(shape, **own)
        if own and "parameters" not in own:
            changed = replace(changed, parameters=count_parameters(changed))
        return kind, changed, (f"shape of {name}" + (f" with its own {', '.join(own)}" if own else ""),)
    return _own_shape(kind, own)


_OWN: Final = ("parameters", "layers", "hidden", "heads", "kv_heads", "head_dim", "vocabulary")


def _own_shape(kind: WorkloadKind, own: dict[str, int]) -> tuple[WorkloadKind, Shape, tuple[str, ...]] | Unsizable:
    said = []
    if "parameters" not in own:
        missing = [name for name in ("layers", "hidden", "heads") if name not in own]
        if missing:
            return Unsizable(
                f"profile.{missing[0]}", "nothing", "a number, where neither profile.parameters nor a known model is given"
            )
    parameters = own.get("parameters", 0)
    hidden = own.get("hidden") or max(64, round((parameters * ASPECT / 12) ** (1 / 3) / 64) * 64)
    layers = own.get("layers") or max(
        1, round(parameters / (12 * hidden * hidden)) if "hidden" in own else round(hidden / ASPECT)
    )
    head_dim = own.get("head_dim") or (max(1, hidden // own["heads"]) if "heads" in own else min(hidden, DEFAULT_HEAD_DIM))
    heads = own.get("heads") or max(1, hidden // head_dim)
    kv_heads = own.get("kv_heads") or heads
    if "layers" not in own or "hidden" not in own:
        said.append(f"{layers} layers of width {hidden} assumed from {parameters} parameters")
    if "kv_heads" not in own:
        said.append(f"as many key heads as heads ({kv_heads}) assumed, the most there can be")
    if kind in (WorkloadKind.LLM, WorkloadKind.GUARDRAIL) and "vocabulary" not in own:
        said.append("vocabulary of 128256 assumed")
    shape = Shape(
        parameters=parameters or 1, layers=layers, hidden=hidden, heads=heads, kv_heads=kv_heads, head_dim=head_dim,
        intermediate=4 * hidden, vocabulary=own.get("vocabulary", 128_256), gated=False,
    )  # fmt: skip
    if not parameters:
        shape = replace(shape, parameters=count_parameters(shape))
        said.append(f"feed-forward width of {4 * hidden} and an output layer of its own assumed: {shape.parameters} parameters")
    return kind, shape, tuple(said)
