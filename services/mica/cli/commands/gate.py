"""``mica gate``: a streaming reverse proxy before a slice. Invariant: whatever is given here, the service checks itself."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import click

from mica.cli._quantities import BYTES, REQUESTS, SECONDS, SHARE

F = TypeVar("F", bound=Callable[..., Any])


def _option(flag: str, *names: str, **given: Any) -> Callable[[F], F]:
    """An option that is an environment variable, too: ``--queue-timeout`` is MICA_GATE_QUEUE_TIMEOUT."""
    variable = flag.partition("/")[0].removeprefix("--").replace("-", "_").upper()
    return click.option(flag, *names, envvar=f"MICA_GATE_{variable}", **given)


@click.command(context_settings={"show_default": True})
@click.argument("slice_id", metavar="SLICE", envvar="MICA_GATE_SLICE")
@_option(
    "--upstream", "upstreams", multiple=True, required=True, metavar="URL", help="Where the workload listens; repeat it for more."
)
@_option("--listen", default="127.0.0.1:9000", metavar="HOST:PORT", help="Where clients connect; port 0: any free one.")
@_option("--rate", "rate_hz", type=REQUESTS, default="none", help="Requests that may come, such as 50/s or 30/m.")
@_option(
    "--burst", type=click.IntRange(1, 1_000_000), help="How many at once  [default: what comes in a second]", show_default=False
)
@_option("--concurrency", type=click.IntRange(1, 1_000_000), help="How many are answered at a time.", show_default=False)
@_option("--queue", type=click.IntRange(0, 1_000_000), default=0, help="How many more wait for a place.")
@_option("--queue-timeout", "queue_timeout_s", type=SECONDS, default="2s", help="How long each waits; 0: as long as its client.")
@_option("--breaker/--no-breaker", default=True, help="A circuit breaker.")
@_option("--breaker-errors", "breaker_share_ppm", type=SHARE, default="50%", help="It opens when so many fail, or find no place,")
@_option("--breaker-least", type=click.IntRange(1), default=20, help="of at least so many")
@_option("--breaker-window", "breaker_window_s", type=SECONDS, default="10s", help="in this time.")
@_option("--breaker-cooldown", "breaker_cooldown_s", type=SECONDS, default="5s", help="So long it stays open after failures.")
@_option("--breaker-trials", type=click.IntRange(1), default=3, help="So many must be answered for it to close.")
@_option("--window", "window_s", type=SECONDS, default="1s", help="Length of a report's window.")
@_option("--connect-timeout", "connect_timeout_s", type=SECONDS, default="2s", help="For connecting to an upstream.")
@_option("--upstream-timeout", "upstream_timeout_s", type=SECONDS, default="10m", help="How long an upstream may be silent.")
@_option("--client-timeout", "client_timeout_s", type=SECONDS, default="1m", help="How long a client may stand still.")
@_option("--max-body", "body_max_bytes", type=BYTES, help="The longest request body  [default: any]", show_default=False)
@_option("--grace", "grace_s", type=SECONDS, default="10s", help="For what is under way when the gate is stopped.")
@_option("--bus/--no-bus", default=True, help="Publish slo.report, and follow the slice's SLO and policy.")
@click.option("--server", metavar="URL", help="NATS server [MICA_NATS_URL, nats://127.0.0.1:4222].", show_default=False)
def gate(slice_id: str, server: str | None, **given: Any) -> None:
    """Pass requests on to the workload of SLICE, measure them, publish slo.report, and hold the guardrails.

    Every option is also an environment variable, such as MICA_GATE_RATE. The policy gate.SLICE stands above both.
    """
    from mica.bus import Settings

    plan = {name: value for name, value in given.items() if value is not None}
    url = server or Settings.from_environment().nats_url
    import_module("mica.gate.__main__").main(plan | {"slice": slice_id, "nats_url": url})
