"""The device memory of a model: weights, KV cache, activations, and what the runtime keeps for itself.

Owns the formulas. Invariant: each term is an upper estimate of what its inputs describe, and the sum is never below the weights.
"""

import math
from typing import Final

from msgspec import Struct

from mica.events import Dtype
from mica.sizing._answers import gib
from mica.sizing._shapes import Shape
from mica.sizing._workload import Workload

MIB: Final = 1 << 20
BITS: Final = {Dtype.FP32: 32.0, Dtype.FP16: 16.0, Dtype.BF16: 16.0, Dtype.FP8: 8.0, Dtype.INT8: 8.0, Dtype.INT4: 4.15625}
"""Of one weight, with its part of the scales: int4 has 16 bits of scale and 4 of zero point for a group of 128 (AWQ, Lin et al.,
2024). Error: within 0.3 % of the sizes that AWQ and FP8 repositories list (docs/guides/sizing.md)."""
KV_BITS: Final = BITS | {Dtype.INT4: 4.5}
BLOCK_TOKENS: Final = 16
"""A sequence's KV cache is kept in whole blocks (PagedAttention, Kwon et al., 2023)."""
STEP_TOKENS: Final = 2048
"""Tokens that a server computes in one step at most, prompts in pieces of it (vLLM's and Sarathi-Serve's chunked prefill)."""
RUNTIME_BYTES: Final = 768 * MIB
"""Of one process: driver context, kernels, library workspaces, captured graphs. An assumption; 300 to 600 MiB are usual for the
context of CUDA 11 and 12 with cuBLAS and cuDNN loaded, graphs come on top."""
SPARE: Final = 0.05
"""For fragmentation in the framework's allocator; an assumption."""


class Memory(Struct, frozen=True):
    """Bytes on each of the devices that hold the model together."""

    weights: int
    kv_cache: int
    activations: int
    runtime: int

    @property
    def total(self) -> int:
        """With what is spare, in whole MiB."""
        return math.ceil((self.weights + self.kv_cache + self.activations + self.runtime) * (1 + SPARE) / MIB) * MIB

    @property
    def text(self) -> str:
        """The terms for people."""
        kv = f" + KV cache {gib(self.kv_cache)}" if self.kv_cache else ""
        rest = f"activations {gib(self.activations)} + runtime {gib(self.runtime)} + {SPARE:.0%}"
        return f"{gib(self.total)}: weights {gib(self.weights)}{kv} + {rest}"


def memory_of(work: Workload, devices: int = 1) -> Memory:
    """What each of ``devices`` holds, over which the layers' matrices are split (tensor parallel; Shoeybi et al., 2019)."""
    shape = work.shape
    kv_split = min(devices, shape.kv_heads or 1)
    kv = math.ceil(work.sequences * kv_bytes_per_sequence(work, work.context_tokens) / kv_split) if work.generates else 0
    return Memory(math.ceil(weight_bytes(shape, work.dtype) / devices), kv, activation_bytes(work), RUNTIME_BYTES)


def weight_bytes(shape: Shape, dtype: Dtype) -> int:
    """Embeddings stay in 16 bits when the rest is quantised."""
    outside = min(shape.embedding, shape.parameters) if BITS[dtype] < BITS[Dtype.FP16] else 0
    return math.ceil((outside * BITS[Dtype.FP16] + (shape.parameters - outside) * BITS[dtype]) / 8)


def kv_bytes_per_token(shape: Shape, dtype: Dtype) -> float:
    """A key and a value for each layer and key head. Source: Ainslie et al., 2023 (GQA). Exact where all layers attend to all."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * KV_BITS[dtype] / 8


def kv_bytes_per_sequence(work: Workload, tokens: int) -> float:
    """In whole blocks."""
    return math.ceil(tokens / BLOCK_TOKENS) * BLOCK_TOKENS * kv_bytes_per_token(work.shape, work.kv_dtype)


def activation_bytes(work: Workload) -> int:
    """What one layer keeps while it is computed, and the logits in 32 bits, twice.

    A fused attention (Dao et al., 2022) never writes its scores down. A convolutional network keeps two neighbouring feature
    maps. An upper estimate for inference: gradients are none.
    """
    shape, element = work.shape, 4 if work.dtype is Dtype.FP32 else 2
    if not shape.layers:
        return work.sequences * max(shape.activations, 1) * element
    tokens = min(STEP_TOKENS, work.sequences * work.prompt_tokens) if work.generates else work.sequences * work.prompt_tokens
    tokens = max(tokens, work.sequences if work.generates else 1)
    width = (
        2 * shape.hidden + shape.head_dim * (shape.heads + 2 * shape.kv_heads) + (2 if shape.gated else 1) * shape.intermediate
    )
    logits = 2 * 4 * work.sequences * shape.vocabulary if work.generates else 0
    return tokens * width * element * shape.active + logits
