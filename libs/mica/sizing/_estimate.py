"""How fast a model would be, where nobody has measured it: a roofline over a device's arithmetic and its memory.

Owns the estimates. Invariant: every time is inversely proportional to the share, so that a share is found by one division.
Source: Williams et al., 2009; for transformers Kaplan et al., 2020 (2 operations a parameter and token), and Pope et al., 2022.
Of transformers only: convolutional networks take 1.1 to 26 times as long as their operations would, and are not estimated
(docs/guides/sizing.md). No measurement of an LLM is at hand; an estimate says that it is one.
"""

from typing import Final

from msgspec import Struct

from mica.events import Dtype, Slo
from mica.sizing._memory import BITS, kv_bytes_per_sequence, weight_bytes
from mica.sizing._shapes import expert_parameters
from mica.sizing._speeds import Speed
from mica.sizing._workload import Workload

COMPUTE_PART: Final = 0.4
"""Of its peak arithmetic a device does so much of a model's; 0.4 to 0.6 is reported for large matrices."""
BANDWIDTH_PART: Final = 0.6
"""Of its peak memory bandwidth a device reaches so much while it generates; 0.6 to 0.8 is reported."""
WAITING: Final = 2.0
"""A request of a batch waits as long for the batch before it as it is computed (as in ParvaGPU, SC'24)."""


class Times(Struct, frozen=True):
    """On a whole device that nobody else uses. ``ttft_ms`` and ``tpot_ms`` are 0 of what does not generate."""

    ttft_ms: float
    tpot_ms: float
    p99_ms: float
    rate_hz: float

    def share(self, slo: Slo) -> float:
        """The part of the device at which the worst bound is just met; above 1 when the whole one is too slow."""
        parts = [
            each / bound
            for each, bound in ((self.ttft_ms, slo.ttft_ms), (self.tpot_ms, slo.tpot_ms), (self.p99_ms, slo.p99_ms))
            if bound is not None
        ]
        parts += [slo.rate_hz / self.rate_hz] if slo.rate_hz is not None else []
        return max(parts, default=0.0)


def times_of(work: Workload, speed: Speed, devices: int = 1) -> Times:
    """The estimate for ``devices`` together; what they tell each other is not counted."""
    flops = speed.flops * COMPUTE_PART * devices * (0.5 if work.dtype is Dtype.FP32 else 1.0)
    bytes_per_s = speed.bytes_per_s * speed.bandwidth_part * BANDWIDTH_PART * devices
    if not work.generates:
        seconds = max(
            _forward_flops(work, work.prompt_tokens) * work.sequences / flops, weight_bytes(work.shape, work.dtype) / bytes_per_s
        )
        return Times(0.0, 0.0, WAITING * seconds * 1e3, work.sequences / seconds)
    ttft = max(_forward_flops(work, work.prompt_tokens) / flops, weight_bytes(work.shape, work.dtype) / bytes_per_s)
    middle = min(work.context_tokens, work.prompt_tokens + work.output_tokens)
    read = _touched_bytes(work) + work.sequences * kv_bytes_per_sequence(work, middle)
    tpot = max(read / bytes_per_s, work.sequences * 2 * work.shape.active_parameters / flops)
    whole = work.sequences * ttft + work.output_tokens * tpot
    return Times(ttft * 1e3, tpot * 1e3, whole * 1e3, 1 / (ttft + work.output_tokens * tpot / work.sequences))


def _forward_flops(work: Workload, tokens: int) -> float:
    """Of one request: 2 for each parameter and token, and the attention of each token to the others, half of them when causal."""
    shape = work.shape
    attention = 4.0 * shape.layers * shape.heads * shape.head_dim * tokens * tokens
    matrices = shape.active_parameters if work.generates else max(1, shape.parameters - shape.embedding)
    return 2.0 * matrices * tokens + attention / (2 if work.generates else 1)


def _touched_bytes(work: Workload) -> float:
    """Of the weights, what one step of all sequences reads: of the experts as many as there can be different ones."""
    shape = work.shape
    used = min(shape.experts, work.sequences * shape.active)
    idle = shape.layers * (shape.experts - used) * expert_parameters(shape)
    return max(0.0, weight_bytes(shape, work.dtype) - idle * BITS[work.dtype] / 8)
