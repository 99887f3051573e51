"""The host's firewall and forwarding switch, kept: dockerd changes both and takes nothing back.

Invariant: what was there before is written down before anything changes, so that also the run after one that was killed
can put it back (within one boot: a reboot has done so already).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from tests.acceptance.compose._shell import run

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TABLES = ("filter", "nat")


class Before(msgspec.Struct, frozen=True):
    """What the host had; `rules` is what iptables-save printed."""

    boot_id: str
    forwarding: str
    rules: str


@contextmanager
def host_network_kept(note: Path) -> Iterator[None]:
    """Put the host's network rules back afterwards; `note` is the file that remembers them meanwhile."""
    put_back(note)
    before = Before(BOOT_ID.read_text(), FORWARDING.read_text(), run(["iptables-save"]))
    note.write_bytes(msgspec.json.encode(before))
    try:
        yield
    finally:
        put_back(note)


def put_back(note: Path) -> None:
    """Do what the note says, if there is one of this boot, and tear it up."""
    if not note.exists():
        return
    before = msgspec.json.decode(note.read_bytes(), type=Before)
    if before.boot_id == BOOT_ID.read_text():
        FORWARDING.write_text(before.forwarding)
        for table in TABLES:
            if f"*{table}" not in before.rules.splitlines():
                empty(table)
        run(["iptables-restore"], stdin=before.rules)
    note.unlink()


def empty(table: str) -> None:
    """Empty a table that came with dockerd: restoring the rules of before would leave it as it is."""
    run(["iptables", "--table", table, "--flush"])
    run(["iptables", "--table", table, "--delete-chain"])
    if table == "filter":
        run(["iptables", "--policy", "FORWARD", "ACCEPT"])
