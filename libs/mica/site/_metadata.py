"""Asks a cloud's own metadata service what this instance is: plain HTTP to a link-local address.

Invariant: all of it together ends within the limit, whatever the service does; no proxy, no redirect, no name to be resolved.
"""

import http.client
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from mica.events import Site

LIMIT_S: Final = 1.0
LARGEST: Final = 256 << 10
"""Bytes of an answer: an instance's description may hold what its owner gave it to start with."""
LINK_LOCAL: Final = ("169.254.169.254", 80)
SOURCE: Final = "metadata"
WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
TOKEN: Final = re.compile(r"[\x21-\x7e]{1,4096}")
LIFETIME: Final = "60"
"""Seconds that a token is good for."""

T = TypeVar("T")


class MetadataError(Exception):
    """The service did not answer in time, or not as it should."""


class _Service:
    """One conversation, with one deadline for all of its requests."""

    def __init__(self, address: tuple[str, int], limit_s: float) -> None:
        self._host, self._port = address
        self._limit_s = limit_s
        self._deadline_s = time.monotonic() + limit_s

    def get(self, path: str, headers: Mapping[str, str], *, method: str = "GET") -> tuple[bytes, Mapping[str, str]]:
        """The body and the headers of a 200. Raises MetadataError."""
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise self._late()
        connection = http.client.HTTPConnection(self._host, self._port, timeout=left_s)
        cut = threading.Event()
        cutter: threading.Timer | None = None
        try:
            connection.connect()
            cutter = threading.Timer(max(0.0, self._deadline_s - time.monotonic()), _cut, (connection.sock, cut))
            cutter.daemon = True
            cutter.start()
            connection.request(method, path, headers=dict(headers))
            with connection.getresponse() as response:
                body = response.read(LARGEST + 1)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if cut.is_set() or isinstance(error, TimeoutError):
                raise self._late() from None
            raise MetadataError(f"{path}: {str(error) or type(error).__name__}") from None
        finally:
            if cutter is not None:
                cutter.cancel()
                cutter.join()
            connection.close()
        if cut.is_set():
            raise self._late()
        if response.status != http.client.OK:
            raise MetadataError(f"{path}: answers {response.status}")
        if len(body) > LARGEST:
            raise MetadataError(f"{path}: answers more than {LARGEST >> 10} KiB")
        return body, dict(response.headers)

    def document(self, path: str, headers: Mapping[str, str], kind: type[T]) -> T:
        """A JSON answer. Raises MetadataError."""
        body, _ = self.get(path, headers)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MetadataError(f"{path}: {error}") from None

    def token(self, path: str, lifetime: str) -> str:
        """A token for the requests that follow. Raises MetadataError."""
        body, _ = self.get(path, {lifetime: LIFETIME}, method="PUT")
        token = body.decode("ascii", errors="replace").strip()
        if not TOKEN.fullmatch(token):
            raise MetadataError(f"{path}: answers what is no token")
        return token

    def _late(self) -> MetadataError:
        return MetadataError(f"no answer within {self._limit_s:g} s")


def _cut(sock: socket.socket, cut: threading.Event) -> None:
    """The time is up: whoever waits for a byte sees the end of the stream. A timeout on the socket is for one byte alone."""
    cut.set()
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


class _Aws(Struct, rename="camel"):
    instance_type: str
    region: str = ""
    availability_zone: str = ""


def _aws(service: _Service) -> Site:
    token = service.token("/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds")
    found = service.document("/latest/dynamic/instance-identity/document", {"X-aws-ec2-metadata-token": token}, _Aws)
    return Site(instance_type=found.instance_type, region=found.region, zone=found.availability_zone)


class _Azure(Struct, rename="camel"):
    vm_size: str
    location: str = ""
    zone: str = ""


def _azure(service: _Service) -> Site:
    path = "/metadata/instance/compute?api-version=2021-02-01&format=json"
    found = service.document(path, {"Metadata": "true"}, _Azure)
    zone = f"{found.location}-{found.zone}" if found.zone else ""
    return Site(instance_type=found.vm_size, region=found.location, zone=zone)


def _gcp(service: _Service) -> Site:
    """Two short texts such as ``projects/1/zones/us-central1-a``; the whole document may be long."""
    found = []
    for name in ("machine-type", "zone"):
        body, headers = service.get(f"/computeMetadata/v1/instance/{name}", {"Metadata-Flavor": "Google"})
        if headers.get("Metadata-Flavor") != "Google":
            raise MetadataError(f"instance/{name}: the answer is not Google's")
        found.append(body.decode("ascii", errors="replace").strip().rpartition("/")[2])
    machine, zone = found
    return Site(instance_type=machine, region=zone.rpartition("-")[0], zone=zone)


class _Oci(Struct, rename="camel"):
    shape: str
    region: str = ""
    canonical_region_name: str = ""
    availability_domain: str = ""


def _oci(service: _Service) -> Site:
    found = service.document("/opc/v2/instance/", {"Authorization": "Bearer Oracle"}, _Oci)
    region = found.canonical_region_name or found.region
    return Site(instance_type=found.shape, region=region, zone=found.availability_domain)


class _Alibaba(Struct, rename="kebab"):
    instance_type: str
    region_id: str = ""
    zone_id: str = ""


def _alibaba(service: _Service) -> Site:
    token = service.token("/latest/api/token", "X-aliyun-ecs-metadata-token-ttl-seconds")
    found = service.document("/latest/dynamic/instance-identity/document", {"X-aliyun-ecs-metadata-token": token}, _Alibaba)
    return Site(instance_type=found.instance_type, region=found.region_id, zone=found.zone_id)


SERVICES: Final[Mapping[str, tuple[tuple[str, int], Callable[[_Service], Site]]]] = {
    "aws": (LINK_LOCAL, _aws),
    "azure": (LINK_LOCAL, _azure),
    "gcp": (LINK_LOCAL, _gcp),
    "oci": (LINK_LOCAL, _oci),
    "alibaba": (("100.100.100.200", 80), _alibaba),
}
"""By cloud: where its service answers, and how it is asked."""


def ask_metadata(cloud: str, *, address: tuple[str, int] | None = None, limit_s: float = LIMIT_S) -> Site:
    """Type, region and zone, as the service of ``cloud`` tells them; blocks for ``limit_s`` at most.

    Args:
        cloud: one of ``SERVICES``.
        address: where to ask instead of the cloud's own address.

    Raises:
        MetadataError: no answer, or one that makes no sense.
    """
    usual, ask = SERVICES[cloud]
    found = ask(_Service(address or usual, limit_s))
    for name in ("instance_type", "region", "zone"):
        value = getattr(found, name)
        if not WORD.fullmatch(value) and (value or name == "instance_type"):
            raise MetadataError(f"{name}: got {_shown(value)}, allowed: 1 to 128 of A-Z a-z 0-9 . _ : -")
    return msgspec.structs.replace(found, cloud=cloud, source=SOURCE)


def _shown(value: Any) -> str:
    return repr(value if len(value) <= 40 else value[:40] + "…")
