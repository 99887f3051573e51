"""What ``mica bench slo`` draws: the course of the incident. Invariant: a plot shows figures of the report beside it."""

from mica.bench._slo_report import Device
from mica.plots import Line, Mark, Panel, Plot


def timeline_plot(device: Device) -> Plot:
    """Latency, who had the device, and what the guard did, over time."""
    incident = device.incident
    marks = [Mark(incident.began_s, "the flood begins"), *(Mark(at_s, name) for at_s, name in incident.marks)]
    ends = [incident.seconds[0], incident.seconds[-1]]
    tokens = Panel(
        "From token to token, answers that ended in each half second",
        "p99, ms",
        [
            Line("server", incident.seconds, incident.tpot_ms),
            Line("promised", ends, [incident.promised_ms] * 2, faint=True),
        ],
        (0, None),
        marks,
    )
    quiet = [Mark(mark.x, "") for mark in marks]
    latency = Panel("Whole requests", "p99, ms", [Line("server", incident.seconds, incident.latency_ms)], (0, None), quiet)
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
    title = f"A flood beside a server whose slice of {small:g} % is too small (floor of the flood {floor:g} %): {device.device}"
    return Plot(title, "seconds since the first request", [tokens, latency, shares])
