"""Where a slice is and why, for people. Invariant: every rejected alternative that the planner names is shown."""

from collections.abc import Sequence

import click

from mica.cli._quantities import show_bytes, show_cpus, show_share
from mica.events import Decision, Placement, WorkLimits


def show_placements(placements: Sequence[Placement], indent: str = "  ") -> None:
    """One line per device."""
    for placement in placements:
        click.echo(indent + describe(placement))


def describe(placement: Placement) -> str:
    """``demo/GPU-… (L4): fcsp, 8GiB, 70%``, with the partition, the window and the limits where there are some."""
    parts = [str(placement.mode), show_bytes(placement.vram_bytes), show_share(placement.share_ppm)]
    if placement.partition:
        parts.append(f"{placement.partition.profile} at {placement.partition.start}")
    if placement.window:
        window = placement.window
        parts.append(f"{window.length_ns / 1e6:g} ms of every {window.period_ns / 1e6:g} ms")
    parts += [text for name, text in limit_texts(placement.limits).items() if getattr(placement.limits, name)]
    parts += [f"{show_cpus(placement.cpu_milli)} CPUs"] if placement.cpu_milli else []
    parts += [f"{show_bytes(placement.host_memory_bytes)} of host memory"] if placement.host_memory_bytes else []
    return f"{placement.node}/{placement.device_id} ({placement.model}): {', '.join(parts)}"


def limit_texts(limits: WorkLimits) -> dict[str, str]:
    """By field, each limit as people read it."""
    return {
        "pinned_bytes": f"{show_bytes(limits.pinned_bytes or 0)} pinned",
        "launch_rate_hz": f"{limits.launch_rate_hz} launches/s",
        "inflight_max": f"{limits.inflight_max} in flight",
        "copy_bytes_per_s": f"copies {show_bytes(limits.copy_bytes_per_s or 0)}/s",
        "burst_ns": f"burst {(limits.burst_ns or 0) / 1e6:g} ms",
        "ceiling_ppm": f"up to {show_share(limits.ceiling_ppm or 0)} while others are idle",
    }


def show_decision(decision: Decision | None, indent: str = "  ") -> None:
    """The reason, and what else was looked at."""
    if decision is None:
        return
    click.echo(f"{indent}why: {decision.summary}")
    for other in decision.rejected:
        mode = f" as {other.mode}" if other.mode else ""
        click.echo(f"{indent}not {other.node}/{other.device_id}{mode}: {other.reason}")
