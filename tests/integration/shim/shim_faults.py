"""What can be wrong with a slice's regions when a program starts: each fault with how it is made, and what is said of it."""

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from shim_node import UUIDS, Node, Tenant

from mica.region import SLOTS_MAX, Owner

NOT_PERMITTED = 800
USAGE_SLOTS = 512
SLOT_BYTES = 128


@dataclass(frozen=True)
class Fault:
    """What was broken: what the line says of it, and what else the program's environment has."""

    text: str
    environment: dict[str, str] = field(default_factory=dict)


def without_override() -> None:
    """Make even root keep to a file's mode: drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH before the program starts."""
    library = ctypes.CDLL(None)
    for capability in (1, 2):
        library.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; others than root lack them anyway


def quota(node: Node) -> Path:
    return node.runtime.quota_path(UUIDS[0])


def usage(node: Node) -> Path:
    return node.runtime.usage_path("a", UUIDS[0])


def missing(path: Path) -> Fault:
    path.unlink()
    return Fault(f"{path}: No such file or directory")


def no_usage(node: Node) -> Fault:
    usage(node).unlink()
    return Fault(f"{node.runtime.root}/slices/a: no usage region of any device")


def no_directory(node: Node) -> Fault:
    elsewhere = {"MICA_RUNTIME_DIR": "/nonexistent/mica"}
    return Fault("/nonexistent/mica/slices/a: No such file or directory", elsewhere)


def spoilt(path: Path, change: Callable[[bytearray], None], text: str) -> Fault:
    """The region in a new file: live files are never truncated, and the test keeps its own mapping of the old one."""
    content = bytearray(path.read_bytes())
    change(content)
    path.unlink()
    path.write_bytes(content)
    return Fault(f"{path}: {text}")


def cut(content: bytearray) -> None:
    del content[100:]


def halve(content: bytearray) -> None:
    del content[len(content) // 2 :]


def make_foreign(content: bytearray) -> None:
    content[0:8] = b"\x7fELF\0\0\0\0"


def set_version(version: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        content[8:16] = version.to_bytes(8, "little")

    return change


def another_boot(content: bytearray) -> None:
    content[160:161] = b"x"


SHORT = "the file is shorter than its region"
SPOILT: dict[str, tuple[Callable[[bytearray], None], str]] = {
    "empty": (bytearray.clear, SHORT),
    "cut in its header": (cut, SHORT),
    "cut behind its header": (halve, SHORT),
    "foreign": (make_foreign, "not a region of mica, or a damaged one"),
    "of the future": (set_version(99), "a layout newer than this build knows"),
    "of the past": (set_version(1), "a layout older than this build knows: its slice was made by an older mica"),
    "of another boot": (another_boot, "left over from another boot"),
}


def another_slices(node: Node) -> Fault:
    node.place("b")
    usage(node).unlink()
    usage(node).symlink_to(node.runtime.usage_path("b", UUIDS[0]))
    return Fault(f"{usage(node)}: not a region of mica, or a damaged one")


def without_record(node: Node) -> Fault:
    node.clear("a")
    return Fault(f"{quota(node)}: no live record of this slice")


def full(node: Node) -> Fault:
    with usage(node).open("r+b") as file:
        for slot in range(SLOTS_MAX):
            file.seek(USAGE_SLOTS + SLOT_BYTES * slot)
            word = int.from_bytes(file.read(8), "little")
            if not word >> 56:
                file.seek(USAGE_SLOTS + SLOT_BYTES * slot)
                file.write(Owner(4_000_000 + slot, 1).word.to_bytes(8, "little"))
    return Fault(f"device {UUIDS[0]}: all {SLOTS_MAX} process slots are taken")


def forbidden(path: Path) -> Fault:
    path.chmod(0)
    return Fault(f"{path}: Permission denied")


def pipe(path: Path) -> Fault:
    """Opening it must not wait for a writer."""
    path.unlink()
    os.mkfifo(path)
    return Fault(f"{path}: not a region of mica, or a damaged one")


Break = Callable[[Node], Fault]
AT_START: dict[str, Break] = {
    "no runtime directory": no_directory,
    "no quota region": lambda node: missing(quota(node)),
    "no usage region": no_usage,
    "another slice's usage region": another_slices,
    "no record": without_record,
    "a full process table": full,
    "a quota region that may not be read": lambda node: forbidden(quota(node)),
    "a usage region that may not be written": lambda node: forbidden(usage(node)),
    "a pipe in place of the quota region": lambda node: pipe(quota(node)),
}
AT_START |= {
    f"a {kind} region that is {how}": lambda node, of=of, change=change, text=text: spoilt(of(node), change, text)
    for kind, of in (("quota", quota), ("usage", usage))
    for how, (change, text) in SPOILT.items()
    if (kind, how) != ("quota", "of another boot")  # that is told from a clock that was set: test_shim_attach.py
}


def one_line(tenant: Tenant) -> str:
    """What a program that ends normally has on stderr."""
    (line,) = tenant.close().splitlines()
    assert tenant.process.returncode == 0
    return line
