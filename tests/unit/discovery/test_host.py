"""What a node has of its own for slices."""

import os
from pathlib import Path

import pytest

from mica.discovery.host import Host, HostError, own_host, parse_reserve
from mica.discovery.inventory import Identity, Survey, take_stock
from mica.hardware import NodeFile, ready_made_nodes, write_node_desc

MEMINFO = "MemTotal:       16384 kB\nMemFree:         1024 kB\n"


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text(MEMINFO)
    return path


def test_a_machine_tells_all_of_its_processors_and_memory(meminfo: Path) -> None:
    """Those that discovery itself may not use, too; what can not be read is not known."""
    whole = Host(cpu_milli=1000 * (os.cpu_count() or 0), memory_bytes=16 << 20)
    assert own_host(None, {}, meminfo) == whole
    assert own_host(None, {}, meminfo / "absent").memory_bytes == 0


def test_what_is_kept_for_the_system_is_not_told(meminfo: Path) -> None:
    """In part or in both; and of what is not known nothing is taken."""
    assert own_host(None, {"MICA_HOST_RESERVE": "memory=6MiB"}, meminfo).memory_bytes == 10 << 20
    assert own_host(None, {"MICA_HOST_RESERVE": "memory=6MiB"}, meminfo / "absent").memory_bytes == 0
    assert parse_reserve("cpu=1.5, memory=16GiB") == Host(cpu_milli=1_500, memory_bytes=16 << 30)


@pytest.mark.parametrize(
    ("reserve", "message"),
    [
        ("cpu=many", "MICA_HOST_RESERVE: got 'cpu=many', allowed: cpu=NUMBER, memory=NUMBERGiB or both"),
        ("memory=16", "got 'memory=16'"),
        ("memory=16MiB", "memory: got 16777216, allowed: less than the node has, 16777216"),
    ],
)
def test_a_reserve_that_can_not_be_is_refused(meminfo: Path, reserve: str, message: str) -> None:
    """With what was given; one that leaves nothing would otherwise read as no limit."""
    with pytest.raises(HostError, match=message):
        own_host(None, {"MICA_HOST_RESERVE": reserve}, meminfo)


def test_a_simulated_node_has_what_its_file_says_and_nothing_of_this_machine(tmp_path: Path) -> None:
    """A DGX A100 its 256 threads and 2 TiB, a node without such words nothing, a node that replaces another its own."""
    for name, expected in (("dgx-a100", Host(cpu_milli=256_000, memory_bytes=2 << 40)), ("demo", Host())):
        write_node_desc(NodeFile.load(ready_made_nodes()[name]), tmp_path)
        assert own_host(tmp_path, {}) == expected


def test_the_inventory_has_it() -> None:
    """As it was surveyed."""
    survey = Survey(host=Host(cpu_milli=4_000, memory_bytes=1 << 30))
    stock = take_stock(Identity(node="n1", pool="default", boot_id="b1"), None, survey)
    assert (stock.cpu_milli, stock.host_memory_bytes) == (4_000, 1 << 30)
