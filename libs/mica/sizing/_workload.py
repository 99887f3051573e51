"""A profile's model with everything that a size needs to be known about it.

Invariant: what the profile left open has a value here, and ``said`` names each of them.
"""

from typing import Final

from msgspec import Struct

from mica.events import Dtype, Profile, WorkloadKind
from mica.sizing._answers import Unsizable
from mica.sizing._shapes import Shape, shape_of

CONTEXT_TOKENS: Final = 4096
ENCODED_TOKENS: Final = 512
GUARDED_TOKENS: Final = 16
"""What a guardrail model answers with: a verdict and its category."""
GENERATES: Final = frozenset({WorkloadKind.LLM, WorkloadKind.GUARDRAIL})


class Workload(Struct, frozen=True, kw_only=True):
    """What is computed. ``sequences`` are in hand at once: of a model that generates each with a KV cache of its own."""

    kind: WorkloadKind
    shape: Shape
    dtype: Dtype
    kv_dtype: Dtype
    context_tokens: int
    prompt_tokens: int
    output_tokens: int
    sequences: int
    said: tuple[str, ...]

    @property
    def generates(self) -> bool:
        """Whether it answers token by token, from a KV cache."""
        return self.kind in GENERATES


def workload_of(profile: Profile) -> Workload | Unsizable | None:
    """What the profile says its model computes; None where it says nothing of the model."""
    found = shape_of(profile)
    if found is None or isinstance(found, Unsizable):
        return found
    kind, shape, said = found
    notes = list(said)
    dtype = profile.dtype or Dtype.BF16
    if profile.dtype is None:
        notes.append("weights in bf16 assumed")
    generates = kind in GENERATES
    context = _context(profile, kind, shape, notes)
    prompt, output = _tokens(profile, kind, context, notes)
    if prompt + output > context and generates:
        return Unsizable("profile.context_tokens", str(context), f"at least prompt and output together, {prompt + output}")
    sequences = profile.concurrency * (1 if generates else profile.batch or 1)
    notes.append(f"{sequences} {'sequence' if generates else 'request'}{'s' if sequences > 1 else ''} at once")
    kv_dtype = profile.kv_dtype or (dtype if dtype in (Dtype.FP32, Dtype.FP16) else Dtype.BF16)
    if generates and profile.kv_dtype is None:
        notes.append(f"KV cache in {kv_dtype}")
    return Workload(
        kind=kind, shape=shape, dtype=dtype, kv_dtype=kv_dtype, context_tokens=context, prompt_tokens=prompt,
        output_tokens=output, sequences=sequences, said=tuple(notes),
    )  # fmt: skip


def _context(profile: Profile, kind: WorkloadKind, shape: Shape, notes: list[str]) -> int:
    """Tokens of the longest sequence."""
    if profile.context_tokens is not None:
        return profile.context_tokens
    if shape.tokens or not shape.layers:
        return shape.tokens or 1
    given = (profile.prompt_tokens or 0) + (profile.output_tokens or 0)
    assumed = max(given, CONTEXT_TOKENS if kind in GENERATES else min(ENCODED_TOKENS, shape.positions or ENCODED_TOKENS))
    notes.append(f"context of {assumed} tokens assumed")
    return assumed


def _tokens(profile: Profile, kind: WorkloadKind, context: int, notes: list[str]) -> tuple[int, int]:
    """Prompt and output of one request."""
    if kind not in GENERATES:
        return profile.prompt_tokens or context, 0
    output, prompt = profile.output_tokens, profile.prompt_tokens
    if output is None:
        output = GUARDED_TOKENS if kind is WorkloadKind.GUARDRAIL else max(1, (context - prompt if prompt else context // 4))
        output = max(1, min(output, context - (prompt or 1)))
        notes.append(f"{output} tokens of output assumed")
    if prompt is None:
        prompt = max(1, context - output)
        notes.append(f"prompt of {prompt} tokens assumed")
    return prompt, output
