"""What a service process is told through its environment."""

from pathlib import Path

import pytest

from mica.bus import Settings, SettingsError


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    """Without any variable: the local server, the default pool, the standard runtime directory."""
    settings = Settings.from_environment({"MICA_NODE": "n1"})
    assert settings == Settings(nats_url="nats://127.0.0.1:4222", node="n1", pool="default", runtime_dir=Path("/run/mica"))


@pytest.mark.parametrize("variable", ["MICA_NODE", "MICA_POOL"])
def test_a_name_that_no_event_could_carry_is_refused_at_start(variable: str) -> None:
    """A node or pool with dots or spaces would end in subjects that nobody can follow."""
    with pytest.raises(SettingsError, match=f"{variable}: got rack.7, allowed"):
        Settings.from_environment({"MICA_NODE": "n1", variable: "rack.7"})


def test_a_host_name_with_dots_still_gives_a_node_name() -> None:
    """The default node name is the host's, in the alphabet of ids."""
    assert Settings.from_environment({}).node
