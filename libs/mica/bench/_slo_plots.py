"""What ``mica bench slo`` draws: the course of the incident. Invariant: a plot shows figures of the report beside it."""

import math
from collections.abc import Sequence
from typing import Final

from mica.bench._slo_report import Device
from mica.plots import Line, Mark, Panel, Plot

TOGETHER_S: Final = 0.3


def timeline_plot(device: Device) -> Plot:
    """Latency, who had the device, and what the guard did, over time."""
    incident = device.incident
    marks = _together([(incident.began_s, "the flood begins"), *incident.marks])
    ends = [incident.seconds[0], incident.seconds[-1]]
    tokens = Panel(
        "From token to token, answers that ended in each half second",
        "p99, ms",
        [
            Line("server", incident.seconds, _seen(incident.tpot_ms)),
            Line("promised", ends, [incident.promised_ms] * 2, faint=True),
        ],
        (0, None),
        marks,
    )
    quiet = [Mark(mark.x, "") for mark in marks]
    latency = Panel("Whole requests", "p99, ms", [Line("server", incident.seconds, _seen(incident.latency_ms))], (0, None), quiet)
    shares = Panel(
        "Who had the device",
        "% of the time",
        [
            Line("server", incident.server_at_s, incident.server_pct),
            Line("flood", incident.server_at_s, incident.flood_pct),
        ],
        (0, None),
        quiet,
    )
    small, floor = incident.shares_pct
    title = f"A flood (floor {floor:g} %) beside a server whose slice of {small:g} % is too small"
    return Plot(title, "seconds since the first request", [tokens, latency, shares])


def _seen(latencies_ms: Sequence[float]) -> list[float]:
    """A gap where nothing ended."""
    return [each or math.nan for each in latencies_ms]


def _together(moments: list[tuple[float, str]]) -> list[Mark]:
    """A mark for what happened at about the same time."""
    found: list[Mark] = []
    for at_s, name in sorted(moments):
        if found and at_s - found[-1].x < TOGETHER_S:
            found[-1] = Mark(found[-1].x, f"{found[-1].name}, {name}")
        else:
            found.append(Mark(at_s, name))
    return found
