"""HiGHS as mica uses it. Invariant: one thread, one seed, no gap: equal programmes give equal answers unless time runs out."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from highspy import Highs


def solver(limit_s: float) -> "Highs":
    """An empty programme that may take ``limit_s`` seconds. HiGHS is loaded by the first call."""
    from mica.slo_packing.quiet import QuietHighs

    highs = QuietHighs()
    highs.setOptionValue("threads", 1)
    highs.setOptionValue("random_seed", 0)
    highs.setOptionValue("time_limit", limit_s)
    highs.setOptionValue("mip_rel_gap", 0.0)
    return highs
