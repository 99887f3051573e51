"""A cloud's metadata service as it answers, as it should not, and as it does not."""

import json
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from metadata_server import Answer, accepting, serving

from mica.events import Site
from mica.site import SERVICES, MetadataError, ask_metadata


def document(**fields: Any) -> Answer:
    return 200, json.dumps(fields).encode(), {}


def aws(method: str, path: str, headers: Any) -> Answer:
    if (method, path) == ("PUT", "/latest/api/token") and headers["X-aws-ec2-metadata-token-ttl-seconds"]:
        return 200, b"secret==", {}
    if path == "/latest/dynamic/instance-identity/document" and headers["X-aws-ec2-metadata-token"] == "secret==":
        return document(instanceType="p5.48xlarge", region="us-east-1", availabilityZone="us-east-1a", accountId="1")
    return 401, b"", {}


def azure(method: str, path: str, headers: Any) -> Answer:
    if path == "/metadata/instance/compute?api-version=2021-02-01&format=json" and headers["Metadata"] == "true":
        return document(vmSize="Standard_ND96isr_H100_v5", location="eastus", zone="1", tags="")
    return 400, b"", {}


def gcp(method: str, path: str, headers: Any) -> Answer:
    values = {"machine-type": b"projects/12/machineTypes/a3-highgpu-8g", "zone": b"projects/12/zones/us-central1-a\n"}
    if headers["Metadata-Flavor"] == "Google" and path.startswith("/computeMetadata/v1/instance/"):
        return 200, values[path.rpartition("/")[2]], {"Metadata-Flavor": "Google"}
    return 403, b"", {}


def oci(method: str, path: str, headers: Any) -> Answer:
    if path == "/opc/v2/instance/" and headers["Authorization"] == "Bearer Oracle":
        return document(
            shape="BM.GPU.MI300X.8", region="iad", canonicalRegionName="us-ashburn-1", availabilityDomain="Uocm:US-ASHBURN-AD-1"
        )
    return 404, b"", {}


def alibaba(method: str, path: str, headers: Any) -> Answer:
    if (method, path) == ("PUT", "/latest/api/token") and headers["X-aliyun-ecs-metadata-token-ttl-seconds"]:
        return 200, b"AQAA\n", {}
    if path == "/latest/dynamic/instance-identity/document" and headers["X-aliyun-ecs-metadata-token"] == "AQAA":
        return document(**{"instance-type": "ecs.gn7e-c16g1.4xlarge", "region-id": "cn-beijing", "zone-id": "cn-beijing-i"})
    return 401, b"", {}


CLOUDS = {
    "aws": (aws, "p5.48xlarge", "us-east-1", "us-east-1a"),
    "azure": (azure, "Standard_ND96isr_H100_v5", "eastus", "eastus-1"),
    "gcp": (gcp, "a3-highgpu-8g", "us-central1", "us-central1-a"),
    "oci": (oci, "BM.GPU.MI300X.8", "us-ashburn-1", "Uocm:US-ASHBURN-AD-1"),
    "alibaba": (alibaba, "ecs.gn7e-c16g1.4xlarge", "cn-beijing", "cn-beijing-i"),
}


@pytest.mark.parametrize("cloud", SERVICES)
def test_each_cloud_is_asked_in_its_own_way(cloud: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its token or its header, and never through a proxy."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    service, type_, region, zone = CLOUDS[cloud]
    with serving(service) as (address, _):
        assert ask_metadata(cloud, address=address, limit_s=30) == Site(
            cloud=cloud, instance_type=type_, region=region, zone=zone, source="metadata"
        )


def test_each_cloud_is_asked_at_a_link_local_address() -> None:
    """An address, no name that somebody would have to resolve."""
    for (host, _), _ in SERVICES.values():
        assert host in ("169.254.169.254", "100.100.100.200")


BAD = {
    "no such page": ("azure", lambda *_: (404, b"", {}), "answers 404"),
    "a redirect, which is not followed": ("azure", lambda *_: (302, b"", {"Location": "http://example.com/"}), "answers 302"),
    "no JSON": ("azure", lambda *_: (200, b"<html>", {}), "JSON is malformed"),
    "bytes": ("azure", lambda *_: (200, b'{"vmSize": "\xff"}', {}), "/metadata/instance/compute"),
    "another shape": ("azure", lambda *_: document(vmSize=7), "Expected `str`, got `int`"),
    "nothing of use": ("azure", lambda *_: document(location="x"), "missing required field `vmSize`"),
    "an empty type": ("azure", lambda *_: document(vmSize=""), "instance_type: got ''"),
    "a type that is none": ("azure", lambda *_: document(vmSize="a\nb"), "instance_type: got 'a\\nb'"),
    "a zone that is none": ("azure", lambda *_: document(vmSize="a", location="x y", zone="1"), "region: got 'x y'"),
    "far too much": ("azure", lambda *_: (200, b" " * (300 << 10), {}), "answers more than 256 KiB"),
    "deep nesting": ("azure", lambda *_: (200, b"[" * 100_000, {}), "/metadata/instance/compute"),
    "a token that would be two headers": ("aws", lambda *_: (200, b"a\r\nHost: b", {}), "answers what is no token"),
    "an empty token": ("alibaba", lambda *_: (200, b"", {}), "answers what is no token"),
    "somebody else": ("gcp", lambda *_: (200, b"n1-standard-1", {}), "the answer is not Google's"),
}


@pytest.mark.parametrize("case", BAD)
def test_an_answer_that_makes_no_sense_is_one_clear_error(case: str) -> None:
    """In one line, whatever came."""
    cloud, service, told = BAD[case]
    with serving(service) as (address, _), pytest.raises(MetadataError) as refused:
        ask_metadata(cloud, address=address, limit_s=30)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def says_nothing(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


def drips(connection: socket.socket, over: threading.Event) -> None:
    """A header without end, a byte at a time: no single byte is ever late."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not over.wait(0.005):
        try:
            connection.sendall(b"x")
        except OSError:
            return


def drips_a_body(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not over.wait(0.005):
        try:
            connection.sendall(b" ")
        except OSError:
            return


@pytest.mark.parametrize("behave", [says_nothing, drips, drips_a_body])
def test_a_service_that_does_not_come_to_an_end_is_given_up(behave: Callable[..., None]) -> None:
    """The limit is for all of it: neither silence nor a trickle prolongs it, and no thread is left."""
    before = threading.active_count()
    with accepting(behave) as address:
        for cloud in ("azure", "aws"):
            with pytest.raises(MetadataError, match=r"^no answer within 0\.1 s$"):
                ask_metadata(cloud, address=address, limit_s=0.1)
    assert threading.active_count() == before


def test_the_limit_is_for_all_requests_together() -> None:
    """A token that comes at once leaves the rest of the time, and no more, for the question."""
    over = threading.Event()

    def service(method: str, path: str, headers: Any) -> Answer:
        if method == "GET":
            over.wait()
        return 200, b"token", {}

    with serving(service) as (address, asked):
        try:
            with pytest.raises(MetadataError, match=r"^no answer within 0\.2 s$"):
                ask_metadata("aws", address=address, limit_s=0.2)
        finally:
            over.set()
    assert [line.split()[0] for line in asked] in (["PUT", "GET"], ["PUT"])  # the latter on a machine that is very slow


def test_nobody_there_and_a_connection_that_breaks_are_errors() -> None:
    """At once, with the reason."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()
    with pytest.raises(MetadataError, match="refused"):
        ask_metadata("gcp", address=free, limit_s=30)
    with accepting(lambda connection, over: None) as address, pytest.raises(MetadataError):
        ask_metadata("gcp", address=address, limit_s=30)
