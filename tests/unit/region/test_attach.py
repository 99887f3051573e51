"""The attach datagram, the runtime directory, and the paths of native libraries."""

import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from mica import native
from mica.region import (
    ATTACH_BYTES,
    AttachError,
    AttachMessage,
    LimitsError,
    Owner,
    RuntimeDir,
    create_usage,
    decode_attach,
    encode_attach,
)
from mica.region._abi import ffi, lib

MESSAGE = AttachMessage("slice-1", "MIG-0a1b/c".replace("/", "-"), Owner(42, 777).word, 5)


@pytest.mark.parametrize("slot", [0, 63, None])
def test_message_survives_the_wire(slot: int | None) -> None:
    """What is encoded is decoded equal, a process without a slot included."""
    message = AttachMessage(MESSAGE.slice_id, MESSAGE.device_id, MESSAGE.owner, slot)
    decoded = decode_attach(encode_attach(message))
    assert decoded == message
    assert (decoded.pid, decoded.start_ticks) == (42, 777)


@pytest.mark.parametrize(
    ("offset", "data", "said"),
    [
        (0, b"\x01", "magic"),
        (8, struct.pack("<Q", 5), "layout 5, allowed is 4"),
        (24, struct.pack("<Q", 65), "slot 65, allowed are 0 to 64"),
        (32, b"../../etc", "slice id"),
        (32, b"\0" * 64, "slice id ''"),
        (32, b"a\0b", "slice id"),
        (32, b"\xff\xfe", "slice id"),
        (96, b"../x\0\0\0\0", "device id"),
        (96, b".", "device id"),
    ],
)
def test_foreign_messages_are_refused(offset: int, data: bytes, said: str) -> None:
    """A datagram with any part that is not allowed is refused with that part's name."""
    good = encode_attach(MESSAGE)
    with pytest.raises(AttachError, match=said):
        decode_attach(good[:offset] + data + good[offset + len(data) :])


@pytest.mark.parametrize("data", [b"", b"x", bytes(ATTACH_BYTES - 1), bytes(ATTACH_BYTES + 1), bytes(ATTACH_BYTES)])
def test_noise_is_refused(data: bytes) -> None:
    """Datagrams of another size, and zeros, are no messages."""
    with pytest.raises(AttachError):
        decode_attach(data)


def test_message_that_cannot_be_sent_is_refused() -> None:
    """A slot or an id that the other side would refuse is not encoded."""
    for slot in (-1, 64):
        with pytest.raises(LimitsError, match="allowed are 0 to 63"):
            encode_attach(AttachMessage("s", "GPU-1", 1, slot))
    with pytest.raises(LimitsError):
        encode_attach(AttachMessage("a/b", "GPU-1", 1, 0))


def test_c_sends_what_python_decodes(tmp_path: Path) -> None:
    """The datagram that a shim sends arrives with its credentials and decodes to what it meant."""
    path = tmp_path / "attach.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(os.fspath(path))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        stored = ffi.new("struct mica_attach_message *")
        lib.mica_attach_fill(stored, MESSAGE.owner, 5, b"slice-1", MESSAGE.device_id.encode())
        assert lib.mica_attach_send(bytes(path), stored) == 0
        data, control, _, _ = server.recvmsg(ATTACH_BYTES + 1, socket.CMSG_SPACE(12))
    assert decode_attach(data) == MESSAGE
    assert struct.unpack("3i", control[0][2]) == (os.getpid(), os.getuid(), os.getgid())


def test_runtime_dir_is_the_layout_of_the_node(tmp_path: Path) -> None:
    """Paths are where shims look for them, and what exists is listed."""
    runtime = RuntimeDir(tmp_path)
    assert runtime.attach_socket == tmp_path / "attach/socket"
    assert runtime.quota_path("GPU-1") == tmp_path / "devices/GPU-1/quota"
    assert runtime.token_path("GPU-1") == tmp_path / "devices/GPU-1/token"
    assert runtime.attach_path("s") == tmp_path / "slices/s/attach.json"
    assert (runtime.devices(), runtime.slices(), list(runtime.usages())) == ([], [], [])
    for slice_id in ("b", "a"):
        runtime.ensure_slice(slice_id)
        runtime.ensure_slice(slice_id)
        create_usage(runtime.usage_path(slice_id, "GPU-1"), "GPU-1", slice_id, os.getuid())
    (runtime.ensure_device("GPU-1") / "quota").touch()
    assert runtime.devices() == ["GPU-1"]
    assert runtime.slices() == ["a", "b"]
    assert [(slice_id, device) for slice_id, device, _ in runtime.usages()] == [("a", "GPU-1"), ("b", "GPU-1")]
    assert all(path == runtime.usage_path(slice_id, device) for slice_id, device, path in runtime.usages())


@pytest.mark.parametrize("bad", ["..", ".", "", "a/b", "/etc", "a\0", "a\n", "ü", "x" * 65])
def test_no_path_leaves_the_runtime_dir(tmp_path: Path, bad: str) -> None:
    """An id that is no id never becomes a path."""
    runtime = RuntimeDir(tmp_path)
    for path_of in (runtime.slice_dir, runtime.attach_path, runtime.device_dir, runtime.quota_path, runtime.token_path):
        with pytest.raises(LimitsError, match="allowed are 1 to 64"):
            path_of(bad)
    with pytest.raises(LimitsError):
        runtime.usage_path("s", bad)


def test_the_libraries_can_be_moved_to_where_containers_find_them(tmp_path: Path) -> None:
    """MICA_LIB_DIR says where all of them are; empty, it says nothing."""
    for lib_dir, expected in ((str(tmp_path), tmp_path), ("", native.LIB_DIR)):
        told = subprocess.run(
            [sys.executable, "-c", "import mica.native as native; print(native.LIB_DIR)"],
            env=os.environ | {"MICA_LIB_DIR": lib_dir},
            capture_output=True,
            text=True,
            check=True,
        )
        assert Path(told.stdout.strip()) == expected


def test_missing_native_library_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A library that was not built is an error that names `make native`; one that was built is a path."""
    monkeypatch.setattr(native, "LIB_DIR", tmp_path)
    for path_of in (native.shim_cuda, native.shim_nvml, native.sim_dir, native.sim_cuda, native.sim_nvml):
        with pytest.raises(native.NativeBuildError, match="run `make native`"):
            path_of()
    built = tmp_path / "sim" / "libcuda.so.1"
    built.parent.mkdir()
    built.touch()
    assert native.sim_dir() == built.parent
