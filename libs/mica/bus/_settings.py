"""What a service process is told through its environment. Invariant: these variables are all there is to configure."""

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from mica.events import ID_PATTERN

DEFAULT_URL = "nats://127.0.0.1:4222"
DEFAULT_RUNTIME_DIR = Path("/run/mica")


class SettingsError(Exception):
    """The environment says something that no service can work with."""


class Settings(Struct, frozen=True, kw_only=True):
    """Where the bus is, which node this is, and where its regions live."""

    nats_url: str = DEFAULT_URL
    node: str
    pool: str = "default"
    runtime_dir: Path = DEFAULT_RUNTIME_DIR
    sim_dir: Path | None = None
    otlp_endpoint: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read MICA_NATS_URL, MICA_NODE, MICA_POOL, MICA_RUNTIME_DIR, MICA_SIM_DIR and OTEL_EXPORTER_OTLP_ENDPOINT.

        Raises:
            SettingsError: the node or the pool has a name that no event could carry.
        """
        sim_dir = environment.get("MICA_SIM_DIR")
        return cls(
            nats_url=environment.get("MICA_NATS_URL") or DEFAULT_URL,
            node=_named("MICA_NODE", environment.get("MICA_NODE") or _host_name()),
            pool=_named("MICA_POOL", environment.get("MICA_POOL") or "default"),
            runtime_dir=Path(environment.get("MICA_RUNTIME_DIR") or DEFAULT_RUNTIME_DIR),
            sim_dir=Path(sim_dir) if sim_dir else None,
            otlp_endpoint=environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
        )


def _named(variable: str, value: str) -> str:
    if not re.fullmatch(ID_PATTERN, value):
        raise SettingsError(f"{variable}: got {value[:80]}, allowed: 1 to 64 of A-Z a-z 0-9 _ -")
    return value


def _host_name() -> str:
    """The host's name in the alphabet of ids."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in socket.gethostname())[:64] or "node"
